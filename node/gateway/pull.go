package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// maxBatch bounds how many messages one answer brings.
const maxBatch = 1000

// source is a socket that messages are taken from.
type source interface {
	Recv(context.Context) (*socket.Message, error)
}

// over is a context that has ended: Recv with it returns what is there and waits for nothing.
var over = func() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	return ctx
}()

func (g *Gateway) servePull(c *call) *Problem {
	name, p := c.name(wire.Pull)
	if p != nil {
		return p
	}
	batch := wantsJSON(c.r)
	most, p := c.number("max", 1, 1, maxBatch)
	if p != nil {
		return p
	}
	if most > 1 && !batch {
		return invalid("max=%d: more than one message comes as JSON; send Accept: application/json", most)
	}
	wait, p := c.duration("wait", c.cfg.Limits.Wait/2, 0, c.cfg.Limits.Wait)
	if p != nil {
		return p
	}
	lease, p := c.duration("lease", c.cfg.Lease, time.Second, c.cfg.Limits.MaxLease)
	if p != nil {
		return p
	}
	room, err := g.pullFrom(name)
	if err != nil {
		return problemOf(err)
	}
	defer room.exit()
	ls, p := g.collect(c.r.Context(), c, room, int(most), wait, lease)
	if p != nil {
		return p
	}
	g.patience(c.w)
	if err := g.hand(c, room, ls, batch); err != nil {
		g.giveBackAll(ls, g.leases.clientGone)
	}
	return nil
}

// wantsJSON reports whether the client asks for JSON by name.
func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

// collect takes up to most messages and leases them. It waits for the first one only. None is no error, unless the
// gateway leaves.
func (g *Gateway) collect(ctx context.Context, c *call, room *room, most int, wait, lease time.Duration) (ls []*lease, p *Problem) {
	ctx, stop := g.until(ctx, wait)
	defer stop()
	room.wait()
	defer room.busy()
	for size := int64(0); len(ls) < most && size < c.cfg.Limits.Body; {
		patient := ctx
		if len(ls) > 0 {
			patient = over
		}
		if !g.leases.reserve(c.cfg.Limits.Leases) {
			if len(ls) == 0 {
				return nil, busy("leases", "too many messages are in the hands of clients", "", "ack what was taken, or raise the gateway's limit of leases")
			}
			break
		}
		m, err := room.sock.(source).Recv(patient)
		if err != nil {
			g.leases.unreserve()
			if errors.Is(err, errLeaving) || len(ls) == 0 && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				return ls, problemIfNone(ls, err)
			}
			break
		}
		ls = append(ls, g.leases.grant(room, m, lease, nil))
		size += int64(len(m.Body))
	}
	if c.r.Context().Err() != nil {
		g.giveBackAll(ls, g.leases.release)
		ls = nil
	}
	return ls, nil
}

func problemIfNone(ls []*lease, err error) *Problem {
	if len(ls) > 0 {
		return nil
	}
	return problemOf(err)
}

// giveBackAll gives back, in that way, what is still leased of ls.
func (g *Gateway) giveBackAll(ls []*lease, give func(*lease)) {
	for _, l := range ls {
		if g.leases.take(l.id, l.room.place) == l {
			give(l)
		}
	}
}

// hand answers a poll.
func (g *Gateway) hand(c *call, room *room, ls []*lease, batch bool) error {
	h := c.w.Header()
	if batch {
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		out := struct {
			Messages []delivery `json:"messages"`
			Gaps     []gapEvent `json:"gaps,omitempty"`
		}{Messages: []delivery{}, Gaps: gapsOf(room)}
		for _, l := range ls {
			out.Messages = append(out.Messages, deliveryOf(l.m, l.id))
		}
		return errors.Join(json.NewEncoder(c.w).Encode(out), http.NewResponseController(c.w).Flush())
	}
	if len(ls) == 0 {
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	l := ls[0]
	putMessage(h, l.m)
	h.Set(headerLease, l.id)
	h.Set(headerAck, "/v1/pull/"+pathOf(room.place.name)+"/"+l.id+"/ack")
	if _, err := c.w.Write(l.m.Body); err != nil {
		return err
	}
	return http.NewResponseController(c.w).Flush()
}

// acked is the answer to an ack.
type acked struct {
	Acked int      `json:"acked"`
	Final bool     `json:"final"`          // false: not known yet; it may be delivered again if this machine dies now
	Gone  []string `json:"gone,omitempty"` // leases that are not there any more: those messages go elsewhere
}

// serveAck answers for pull and sub.
func (g *Gateway) serveAck(kind wire.Kind) func(*call) *Problem {
	return func(c *call) *Problem {
		l := g.leases.take(c.r.PathValue("lease"), place{kind: kind, name: c.r.PathValue("name")})
		if l == nil {
			return gone()
		}
		final, err := g.leases.ack(c.r.Context(), l)
		if err != nil {
			return problemOf(err)
		}
		g.answerAck(c, acked{Acked: 1, Final: final})
		return nil
	}
}

func (g *Gateway) answerAck(c *call, a acked) {
	g.patience(c.w)
	if !a.Final {
		c.w.Header().Set("Content-Type", "application/json")
		c.w.WriteHeader(http.StatusAccepted)
	}
	answerJSON(c.w, a)
}

// serveAckAll acks several leases of a queue.
func (g *Gateway) serveAckAll(c *call) *Problem {
	body, free, p := g.body(c)
	defer free()
	if p != nil {
		return p
	}
	var want struct {
		Leases []string `json:"leases"`
	}
	if err := json.Unmarshal(body, &want); err != nil || len(want.Leases) > maxBatch {
		return invalid(`send {"leases": ["...", ...]} with at most %d leases`, maxBatch)
	}
	a := acked{Final: true}
	at := place{kind: wire.Pull, name: c.r.PathValue("name")}
	var waits []func() bool
	for _, id := range want.Leases {
		l := g.leases.take(id, at)
		if l == nil {
			a.Gone = append(a.Gone, id)
			continue
		}
		wait, err := g.leases.begin(l)
		if err != nil {
			return problemOf(err)
		}
		a.Acked++
		waits = append(waits, func() bool { return wait(c.r.Context()) })
	}
	for _, wait := range waits {
		a.Final = wait() && a.Final
	}
	g.answerAck(c, a)
	return nil
}

// maxReason bounds why a message was not handled.
const maxReason = 512

func (g *Gateway) serveNack(kind wire.Kind) func(*call) *Problem {
	return func(c *call) *Problem {
		delay, p := c.duration("delay", 0, 0, 24*time.Hour)
		if p != nil {
			return p
		}
		body, free, p := g.body(c)
		defer free()
		if p != nil {
			return p
		}
		l := g.leases.take(c.r.PathValue("lease"), place{kind: kind, name: c.r.PathValue("name")})
		if l == nil {
			return gone()
		}
		g.leases.giveBack(l, reasonOf(string(body)), delay)
		g.patience(c.w)
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

// reasonOf is why a client gives a message back.
func reasonOf(text string) error {
	if text == "" {
		text = "the client gave it back"
	}
	return errors.New(strings.ToValidUTF8(text[:min(len(text), maxReason)], "?"))
}

func (g *Gateway) serveExtend(kind wire.Kind) func(*call) *Problem {
	return func(c *call) *Problem {
		d, p := c.duration("lease", c.cfg.Lease, time.Second, c.cfg.Limits.MaxLease)
		if p != nil {
			return p
		}
		if !g.leases.extend(c.r.PathValue("lease"), place{kind: kind, name: c.r.PathValue("name")}, d) {
			return gone()
		}
		c.w.Header().Set("Peermesh-Lease-Ms", strconv.FormatInt(d.Milliseconds(), 10))
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
}
