package gateway

import (
	"context"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"
)

// sent is the answer to a push or publish.
type sent struct {
	Stream    string `json:"stream"`
	Seq       uint64 `json:"seq,omitempty"`
	Level     string `json:"level"` // durable: it is on disk
	Duplicate bool   `json:"duplicate,omitempty"`
	Fate      string `json:"fate,omitempty"` // with wait: done, dead, expired, dropped, or pending
	Cause     string `json:"cause,omitempty"`
}

// The levels at which the gateway's sockets send: a node's default.
const (
	levelDurable = "durable"
	levelMemory  = "memory"
)

func (g *Gateway) level() string {
	if g.node.Spool() != nil {
		return levelDurable
	}
	return levelMemory
}

func (g *Gateway) servePush(c *call) *Problem {
	name, p := c.name(wire.Push)
	if p != nil {
		return p
	}
	wait, p := c.duration("wait", 0, 0, c.cfg.Limits.Wait)
	if p != nil {
		return p
	}
	body, free, p := g.body(c)
	defer free()
	if p != nil {
		return p
	}
	m, p := messageOf(c.r.Header, body)
	if p != nil {
		return p
	}
	key, p := keyOf(c)
	if p != nil {
		return p
	}
	room, push, err := g.pushTo(name)
	if err != nil {
		return problemOf(err)
	}
	defer room.exit()
	ctx, stop := context.WithTimeout(c.r.Context(), c.cfg.Limits.Send)
	defer stop()
	out := sent{Stream: push.Stream(), Level: g.level()}
	var receipt *patterns.Receipt
	switch {
	case key == "":
		if receipt, err = push.Post(ctx, m); err == nil {
			err = receipt.Stored(ctx)
			out.Seq = receipt.Seq
		}
	case out.Level == levelDurable:
		out.Seq, out.Duplicate, err = g.pushOnce(ctx, c, push, m, key)
	default:
		out.Seq, out.Duplicate, err = g.repeats.once(ctx, repeatKey{Push, c.who(), name, key}, fingerprint(m), c.cfg.Limits.Keys,
			func() (uint64, error) { return push.SendMessage(ctx, m) })
	}
	if err != nil {
		return problemOf(err)
	}
	if wait > 0 && receipt != nil {
		g.awaitFate(c, receipt, wait, &out)
	}
	g.patience(c.w)
	answerJSON(c.w, out)
	return nil
}

// awaitFate waits for what becomes of a message.
func (g *Gateway) awaitFate(c *call, r *patterns.Receipt, wait time.Duration, out *sent) {
	ctx, stop := g.until(c.r.Context(), wait)
	defer stop()
	s, err := r.Wait(ctx)
	if err != nil {
		out.Fate = "pending"
		return
	}
	out.Fate, out.Cause = s.State, s.Reason
	if s.Text != "" {
		out.Cause = s.Text
	}
}

func (g *Gateway) servePub(c *call) *Problem {
	name, p := c.name(wire.Pub)
	if p != nil {
		return p
	}
	retain := c.r.URL.Query().Get("retain")
	if retain != "" && retain != "1" && retain != "true" {
		return invalid("retain=%q: write retain=1, or leave it out", retain)
	}
	body, free, p := g.body(c)
	defer free()
	if p != nil {
		return p
	}
	m, p := messageOf(c.r.Header, body)
	if p != nil {
		return p
	}
	if m.Key != "" || m.Delay > 0 {
		return invalid("%s and %s are for push", headerKey, headerDelay)
	}
	m.Topic = c.r.PathValue("topic")
	key, p := keyOf(c)
	if p != nil {
		return p
	}
	room, pub, err := g.pubTo(name)
	if err != nil {
		return problemOf(err)
	}
	defer room.exit()
	ctx, stop := context.WithTimeout(c.r.Context(), c.cfg.Limits.Send)
	defer stop()
	send := func() (uint64, error) { return pub.PublishMessage(ctx, m) }
	if retain != "" {
		send = func() (uint64, error) { return pub.PublishRetained(ctx, m) }
	}
	out := sent{Stream: pub.Stream(), Level: g.level()}
	if key == "" {
		out.Seq, err = send()
	} else {
		at := repeatKey{Pub, c.who(), name, key}
		out.Seq, out.Duplicate, err = g.repeats.once(ctx, at, fingerprint(m), c.cfg.Limits.Keys, send)
	}
	if err != nil {
		return problemOf(err)
	}
	g.patience(c.w)
	answerJSON(c.w, out)
	return nil
}

// maxKey bounds an Idempotency-Key.
const maxKey = 255

func keyOf(c *call) (string, *Problem) {
	key := c.r.Header.Get(headerIdempotency)
	if len(key) > maxKey {
		return "", invalid("%s: at most %d bytes", headerIdempotency, maxKey)
	}
	return key, nil
}

func (g *Gateway) serveReq(c *call) *Problem {
	name, p := c.name(wire.Req)
	if p != nil {
		return p
	}
	deadline, p := c.duration("deadline", patterns.DefaultDeadline, time.Millisecond, c.cfg.Limits.Deadline)
	if p != nil {
		return p
	}
	body, free, p := g.body(c)
	defer free()
	if p != nil {
		return p
	}
	m, p := messageOf(c.r.Header, body)
	if p != nil {
		return p
	}
	if m.Key != "" || m.Delay > 0 || m.TTL > 0 {
		return invalid("%s, %s and %s are not for requests; give the query parameter deadline", headerKey, headerDelay, headerTTL)
	}
	room, req, err := g.reqTo(name)
	if err != nil {
		return problemOf(err)
	}
	defer room.exit()
	ctx, stop := g.until(c.r.Context(), deadline)
	defer stop()
	reply, err := req.RequestMessage(ctx, m)
	g.patience(c.w)
	h := c.w.Header()
	h.Set(headerOutcome, patterns.OutcomeOf(err).String())
	if err != nil {
		return problemOf(err)
	}
	h.Set(headerFrom, reply.By.String())
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	_, _ = c.w.Write(reply.Body) // to one who has gone nothing can be said
	return nil
}

// until bounds a wait: by its client, its time, and the gateway's end.
func (g *Gateway) until(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithTimeout(ctx, d)
	ctx, cut := context.WithCancelCause(ctx)
	free := context.AfterFunc(g.ctx, func() { cut(errLeaving) })
	return ctx, func() {
		free()
		cut(nil)
		stop()
	}
}
