package gateway

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"
)

// status is what the node sees and counts at one moment.
type status struct {
	Node     nodeStatus     `json:"node"`
	Peers    []peerStatus   `json:"peers"`
	Sockets  []socketStatus `json:"sockets"`
	Spool    *spoolStatus   `json:"spool,omitempty"`
	Gateway  Stats          `json:"gateway"`
	Problems []string       `json:"problems"`
}

type nodeStatus struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Namespace   string          `json:"namespace"`
	Mesh        string          `json:"mesh"`
	Addr        string          `json:"addr"`
	Incarnation uint64          `json:"incarnation"`
	Ledger      patterns.Ledger `json:"ledger"` // of all sending sockets
}

type peerStatus struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Addr    string   `json:"addr"`
	SinceMs int64    `json:"since_ms"`
	RTTUs   int64    `json:"rtt_us"`
	Via     string   `json:"via"`               // unix or udp: how messages travel
	Stripes int      `json:"stripes,omitempty"` // connections that messages are spread over, if they are
	Offers  []string `json:"offers"`            // "pull jobs"
}

type socketStatus struct {
	Kind      string           `json:"kind"`
	Name      string           `json:"name"`
	Label     string           `json:"label,omitempty"`
	Ledger    *patterns.Ledger `json:"ledger,omitempty"` // of push, pub, req
	Bytes     uint64           `json:"bytes,omitempty"`
	Attached  int              `json:"attached"`           // receivers of a sending socket, senders of a receiving one
	Received  *receivedStatus  `json:"received,omitempty"` // of pull, sub, rep
	OnDisk    uint64           `json:"on_disk,omitempty"`
	Redeliver uint64           `json:"redelivered,omitempty"`
}

type receivedStatus struct {
	Delivered uint64 `json:"delivered"`
	Done      uint64 `json:"done"`
	Nacked    uint64 `json:"nacked"`
	Returned  uint64 `json:"returned"`
	Gaps      uint64 `json:"gaps"`
	Queued    int    `json:"queued"`
	Begun     int    `json:"begun"`
	Paused    bool   `json:"paused"`
}

type spoolStatus struct {
	Used      int64  `json:"used"`
	Quota     int64  `json:"quota"`
	Disk      int64  `json:"disk"`
	Encrypted bool   `json:"encrypted"`
	Failed    string `json:"failed,omitempty"`
	Dead      uint64 `json:"dead"` // dead letters in all queues
}

// Stats tells what clients have under way.
type Stats struct {
	Requests int64 `json:"requests"` // those that wait for messages included
	Streams  int64 `json:"streams"`
	Leases   int   `json:"leases"` // messages and requests in their hands
	Bodies   int64 `json:"bodies"` // bytes that are being received or sent
	Leaving  bool  `json:"leaving"`
}

// Stats tells what clients have under way now.
func (g *Gateway) Stats() Stats {
	_, held := g.leases.left()
	return Stats{Requests: g.requests.out.Load(), Streams: g.streams.out.Load(), Leases: held, Bodies: g.bodies.out.Load(), Leaving: g.ctx.Err() != nil}
}

func (g *Gateway) serveStatus(c *call) *Problem {
	answerJSON(c.w, g.status())
	return nil
}

func (g *Gateway) status() status {
	n := g.node
	s := status{Peers: []peerStatus{}, Sockets: []socketStatus{}, Problems: []string{}}
	for _, p := range n.Peers() {
		s.Peers = append(s.Peers, peerStatusOf(p))
	}
	slices.SortFunc(s.Peers, func(a, b peerStatus) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	var sum patterns.Ledger
	for _, i := range n.Sockets() {
		s.Sockets = append(s.Sockets, socketStatusOf(i))
		if i.Sender != nil {
			sum.Add(i.Sender.Ledger)
		}
	}
	for _, p := range n.Problems() {
		s.Problems = append(s.Problems, p.Source+" "+p.Interface+": "+p.Err.Error())
	}
	slices.Sort(s.Problems)
	s.Node = nodeStatus{ID: n.ID().String(), Name: n.Name(), Namespace: n.Namespace(), Mesh: n.Mesh(), Addr: n.Addr().String(),
		Incarnation: n.Incarnation(), Ledger: sum}
	s.Spool = spoolStatusOf(n.Spool())
	s.Gateway = g.Stats()
	return s
}

func peerStatusOf(p node.Peer) peerStatus {
	out := peerStatus{ID: p.ID.String(), Name: p.Name, Addr: p.Addr, SinceMs: time.Since(p.Since).Milliseconds(), RTTUs: p.RTT.Microseconds(), Via: p.Via, Stripes: p.Stripes, Offers: []string{}}
	for _, o := range p.Offers {
		out.Offers = append(out.Offers, o.Kind.String()+" "+o.Name)
	}
	slices.Sort(out.Offers)
	return out
}

func socketStatusOf(i node.SocketInfo) socketStatus {
	s := socketStatus{Kind: i.Kind.String(), Name: i.Name, Label: i.Label}
	if r := i.Receiver; r != nil {
		s.Attached = r.Pipes
		s.Received = &receivedStatus{Delivered: r.Delivered, Done: r.Done, Nacked: r.Nacked, Returned: r.Returned, Gaps: r.Gaps,
			Queued: r.Queued, Begun: r.Begun, Paused: r.Paused}
	}
	if o := i.Sender; o != nil {
		s.Ledger, s.Bytes, s.OnDisk, s.Redeliver = &o.Ledger, o.Bytes, o.OnDisk, o.Redelivered
		for _, c := range o.Consumers {
			if c.Attached {
				s.Attached++
			}
		}
	}
	return s
}

func spoolStatusOf(s *node.Spool) *spoolStatus {
	if s == nil {
		return nil
	}
	st := s.Stat()
	out := &spoolStatus{Used: st.Used, Quota: st.Quota, Disk: st.Disk, Encrypted: st.Encrypted}
	if st.Failed != nil {
		out.Failed = st.Failed.Error()
	}
	for _, q := range s.Queues() {
		if q.Kind == node.QueueDead || q.Kind == node.QueuePubDead {
			out.Dead += q.Info.Unsettled
		}
	}
	return out
}

// serveReady says whether messages can be taken and moved.
func (g *Gateway) serveReady(c *call) *Problem {
	if g.ctx.Err() != nil {
		return problemOf(errLeaving)
	}
	if s := g.node.Spool(); s != nil {
		if err := s.Stat().Failed; err != nil {
			return problem(http.StatusServiceUnavailable, "storage", "the state directory can no longer be written", err.Error(),
				"see the log, free or replace the disk, and restart")
		}
	}
	if ready := c.cfg.Ready; ready != nil {
		if err := ready(); err != nil {
			return problem(http.StatusServiceUnavailable, "not-ready", "a part of this program does not work", err.Error(), "see the log")
		}
	}
	answerJSON(c.w, map[string]string{"status": "ready"})
	return nil
}

// serveMetrics leaves the answer to what the program has put here.
func (g *Gateway) serveMetrics(c *call) *Problem {
	c.cfg.Metrics.ServeHTTP(c.w, c.r)
	return nil
}

func (g *Gateway) serveLive(c *call) *Problem {
	answerJSON(c.w, map[string]string{"status": "live"})
	return nil
}

// deadQueue is a line of the list of dead letters.
type deadQueue struct {
	Queue string `json:"queue"`
	Dead  uint64 `json:"dead"`
}

// letter is a dead letter.
type letter struct {
	Seq     uint64         `json:"seq"`
	At      time.Time      `json:"at"` // it was put there
	ID      string         `json:"id"` // what it was
	Cause   string         `json:"cause"`
	Tries   string         `json:"tries"`
	Key     string         `json:"key,omitempty"`
	Headers socket.Headers `json:"headers,omitempty"`
	Size    int            `json:"size"`
	Text    *string        `json:"text,omitempty"`
	Body    []byte         `json:"body,omitempty"`
	Cut     bool           `json:"cut,omitempty"` // text or body is the beginning only
}

// maxPeek bounds the bytes of a body that are shown.
const maxPeek = 4 << 10

func (g *Gateway) serveDeadList(c *call) *Problem {
	out := []deadQueue{}
	if s := g.node.Spool(); s != nil {
		for _, q := range s.Queues() {
			if q.Kind == node.QueueDead && q.Namespace == g.node.Namespace() && q.Info.Unsettled > 0 &&
				(c.token == nil || c.token.allows(Dead, q.Name)) {
				out = append(out, deadQueue{q.Name, q.Info.Unsettled})
			}
		}
	}
	answerJSON(c.w, out)
	return nil
}

// lendDead lends the dead letters of a queue.
func (g *Gateway) lendDead(name string) (*node.Spool, node.Loan, *Problem) {
	s := g.node.Spool()
	if s == nil {
		return nil, node.Loan{}, problemOf(socket.ErrNoDir)
	}
	for _, q := range s.Queues() {
		if q.Kind == node.QueueDead && q.Name == name && q.Namespace == g.node.Namespace() {
			loan, err := s.Lend(q)
			if err != nil {
				return nil, loan, problem(http.StatusConflict, "in-use", "the dead letters cannot be looked into now", err.Error(), "try again in a moment")
			}
			return s, loan, nil
		}
	}
	return nil, node.Loan{}, problem(http.StatusNotFound, "no-dead-letters", "no message of that queue has died here", name,
		"GET /v1/dead lists the queues with dead letters")
}

func (g *Gateway) serveDeadPeek(c *call) *Problem {
	from, p := c.number("from", 1, 1, 1<<62)
	if p != nil {
		return p
	}
	most, p := c.number("max", 20, 1, 100)
	if p != nil {
		return p
	}
	_, loan, p := g.lendDead(c.r.PathValue("name"))
	if p != nil {
		return p
	}
	defer loan.Return()
	out := []letter{}
	err := eachLetter(c.r.Context(), loan, from, func(at time.Time, seq uint64, m *socket.Message) bool {
		out = append(out, letterOf(at, seq, m))
		return uint64(len(out)) < most
	})
	if err != nil {
		return problemOf(err)
	}
	answerJSON(c.w, out)
	return nil
}

func letterOf(at time.Time, seq uint64, m *socket.Message) letter {
	l := letter{Seq: seq, At: at, ID: m.Headers[patterns.HeaderDeadID], Cause: m.Headers[patterns.HeaderDeadCause],
		Tries: m.Headers[patterns.HeaderDeadTries], Key: m.Key, Headers: m.Headers, Size: len(m.Body)}
	body := m.Body
	if len(body) > maxPeek {
		body, l.Cut = body[:maxPeek], true
		if isText(m.Body) {
			body = []byte(strings.ToValidUTF8(string(body), ""))
		}
	}
	l.Text, l.Body = asText(body)
	return l
}

// eachLetter visits what waits in a queue from a seq on, while visit wants more. What cannot be read is passed over:
// peermesh spool verify tells of it.
func eachLetter(ctx context.Context, loan node.Loan, from uint64, visit func(at time.Time, seq uint64, m *socket.Message) bool) error {
	settled := func(seq uint64) bool {
		return slices.ContainsFunc(loan.State.Settled, func(r spool.SeqRange) bool { return r.From <= seq && seq <= r.To })
	}
	for ctx.Err() == nil {
		b, err := loan.Read(from)
		var damage *spool.DamagedError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &damage):
			from = damage.To + 1
			continue
		case err != nil:
			return err
		}
		for data := b.Data; len(data) > 0; {
			r, rest, err := wire.NextRecord(data)
			if err != nil && !errors.Is(err, wire.ErrChecksum) {
				break
			}
			data = rest
			seq := b.Base + r.Delta
			if err != nil || seq < from || seq > b.Last || settled(seq) {
				continue
			}
			m, err := socket.Unframe(r)
			if err != nil {
				continue
			}
			if !visit(b.At, seq, m) {
				return nil
			}
		}
		from = b.Last + 1
	}
	return context.Cause(ctx)
}

// serveReplay makes a new message of a dead letter, in one transaction.
func (g *Gateway) serveReplay(c *call) *Problem {
	name := c.r.PathValue("name")
	seq, err := strconv.ParseUint(c.r.PathValue("seq"), 10, 64)
	if err != nil || seq == 0 {
		return invalid("%q is no number of a dead letter", c.r.PathValue("seq"))
	}
	g.replaying.Lock() // or two who replay the same letter would make two messages of it
	defer g.replaying.Unlock()
	s, loan, p := g.lendDead(name)
	if p != nil {
		return p
	}
	defer loan.Return()
	var found *socket.Message
	if err := eachLetter(c.r.Context(), loan, seq, func(_ time.Time, at uint64, m *socket.Message) bool {
		if at == seq {
			found = m
		}
		return false
	}); err != nil {
		return problemOf(err)
	}
	if found == nil {
		return problem(http.StatusNotFound, "no-dead-letter", "there is no such dead letter", "it may have been replayed or dropped",
			"GET /v1/dead/"+pathOf(name)+" lists those that are there")
	}
	delete(found.Headers, patterns.HeaderDeadCause)
	delete(found.Headers, patterns.HeaderDeadTries)
	room, _, err := g.pushTo(name) // who replays wants it delivered
	switch {
	case err == nil:
		defer room.exit()
	case !errors.Is(err, node.ErrNameInUse): // then who has it open delivers it
		return problemOf(err)
	}
	feed, err := s.Feed(node.Queue{Kind: node.QueuePush, Namespace: g.node.Namespace(), Name: name})
	if err != nil {
		return problemOf(err)
	}
	defer feed.Close()
	ctx, stop := context.WithTimeout(c.r.Context(), c.cfg.Limits.Send)
	defer stop()
	now, group, err := feed.Post(ctx, found, func(change *spool.Change) { change.Settle(loan.Queue, seq, seq) })
	if err == nil {
		err = s.Wait(ctx, group)
	}
	if err != nil {
		return problemOf(err)
	}
	answerJSON(c.w, replayed{Queue: name, Dead: seq, Seq: now})
	return nil
}

// replayed is a dead letter that is a message again.
type replayed struct {
	Queue string `json:"queue"`
	Dead  uint64 `json:"dead"`
	Seq   uint64 `json:"seq"`
}
