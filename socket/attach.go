package socket

import (
	"context"
	"fmt"
	"math"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/marks"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// Serve runs a pipe that a sender opened with a, read already from c. It blocks
// until the pipe has ended, and returns nil when it ended in good order.
func (b *Inbox) Serve(ctx context.Context, peer Peer, a wire.Attach, c Conn) error {
	e, old, refusal := b.attach(peer, a)
	if refusal != nil {
		return Reject(ctx, c, refusal)
	}
	if old != nil {
		old.pipe.abort(marks.ErrFenced)
	}
	if b.cfg.OnGap != nil {
		for _, r := range e.jumped.Ranges() {
			b.cfg.OnGap(Gap{Stream: e.st.label, From: r.From, To: r.To, Reason: wire.GapDropped.String()})
		}
	}
	e.pipe.conn = c
	b.measure(e.st, c)
	err := e.pipe.run(ctx)
	b.detach(e)
	return err
}

// measure has a stream's window follow the distance of its sender, if c knows it.
func (b *Inbox) measure(st *stream, c Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st.window.rtt = nil
	if d, ok := c.(distant); ok {
		st.window.rtt = d.RTT
	}
}

// attach compares the ATTACH with what is remembered and fences older pipes.
func (b *Inbox) attach(peer Peer, a wire.Attach) (e, old *in, err *Rejection) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed || b.draining:
		return nil, nil, &Rejection{Code: CodeNoSocket, Reason: "the socket is closing"}
	case a.Kind.Opposite() != b.cfg.Kind || a.Name != b.cfg.Name:
		return nil, nil, &Rejection{Code: CodeNoSocket, Reason: fmt.Sprintf("%v %q is not %v %q", a.Kind, a.Name, b.cfg.Kind.Opposite(), b.cfg.Name)}
	case a.Nonce != peer.Nonce || a.Incarnation != peer.Incarnation:
		return nil, nil, &Rejection{Code: identity.CodeIdentity, Reason: "ATTACH and HELLO name different processes"}
	case b.cfg.Kind == wire.Rep && a.Level == BestEffort:
		return nil, nil, &Rejection{Code: CodeLimit, Reason: "a request has an answer: best effort has none"}
	case b.cfg.Kind == wire.Rep && a.Level == Durable && b.cfg.Replies == nil:
		return nil, nil, &Rejection{Code: CodeNoDir, Reason: "a replier without a state directory cannot execute once across restarts"}
	case b.failed != nil:
		return nil, nil, &Rejection{Code: CodeLimit, Reason: b.failed.Error()}
	}
	b.forget(time.Now())
	if b.cfg.Kind == wire.Rep {
		b.replaced(peer.ID, a.Nonce)
	}
	key := streamKey{peer.ID, a.Store}
	st := b.streams[key]
	if st == nil {
		if b.count(peer.ID) >= streamsPerPeer || b.records[key] == nil && b.countRecords(peer.ID) >= recordsPerPeer {
			return nil, nil, &Rejection{Code: CodeLimit, Reason: fmt.Sprintf("more than %d streams of one node", streamsPerPeer)}
		}
		st = &stream{level: a.Level, box: b, key: key, unsaid: a.LastStore == b.cfg.Local.Store, window: newWindow(b.cfg.Prefetch, b.cfg.PrefetchBytes), nacks: map[uint64]*nacked{},
			lost: map[requestID]struct{}{}, mortal: a.Store == a.Nonce,
			label: StreamLabel(peer.ID, a.Store, b.cfg.Local.Namespace, a.Kind, a.Name)}
		if a.Level != BestEffort && b.cfg.Journal != nil { // the sender may have been durable in an earlier life
			if err := st.restore(); err != nil {
				return nil, nil, &Rejection{Code: CodeLimit, Reason: err.Error()}
			}
		}
		if err := st.recall(a.Start); err != nil {
			return nil, nil, &Rejection{Code: CodeLimit, Reason: err.Error()}
		}
		b.streams[key] = st
	}
	id, ferr := st.memory.Attach(a)
	if ferr != nil {
		return nil, nil, &Rejection{Code: identity.CodeSuperseded, Reason: ferr.Error()}
	}
	if a.Start > 0 { // what lies below is settled at the sender, or it would still be owed
		st.confirmed(upTo(a))
		st.settledReplies(func(id requestID) bool { return id.Seq < a.Start })
	}
	var jumped ranges.Set
	if b.cfg.Kind == wire.Sub && a.Level != Durable { // there every hole is told
		jumped = b.jump(st, a)
	}
	b.letGoIfOver(st) // ATTACHED says that they are not here
	st.peer, st.level = peer, a.Level
	b.record(st)
	old = st.cur
	e = newIn(b, st, id, a, st.unsaid)
	e.jumped = jumped
	st.cur = e
	b.pipes[e] = struct{}{}
	return e, old, nil
}

// jump: a publisher that gave up keeping messages for this subscriber begins anew
// further on. What lies between, as far as it would have matched, is a gap, and so is
// what came and was not begun, here still or given back since, for its lease is over.
// b.mu must be held.
func (b *Inbox) jump(st *stream, a wire.Attach) (missed ranges.Set) {
	if st.level != BestEffort {
		for _, m := range b.unbegun(st, func(m *Message) bool { return m.edition == a.EditionOf(m.seq) && m.seq < a.Start }) {
			b.giveBack(m, wire.NackReturned)
			missed.Add(m.seq, m.seq)
		}
		if st.peer.Nonce == a.Nonce {
			missed.AddSet(&st.back)
			missed.Remove(a.Start, math.MaxUint64)
		}
		st.back.Remove(0, a.Start-min(a.Start, 1))
	}
	if top := st.top; top > 0 && top+1 < a.Start && st.peer.Nonce == a.Nonce {
		missed.Add(top+1, a.Start-1)
	}
	st.top = max(st.top, a.Start-min(a.Start, 1))
	b.stats.Gaps += missed.Count()
	return missed
}

func (b *Inbox) count(node identity.ID) (n int) {
	for k := range b.streams {
		if k.node == node {
			n++
		}
	}
	return n
}

// forget drops streams that have nothing in hand and were without a link for the
// grace time: a requester without a state directory never comes back. b.mu must be
// held.
func (b *Inbox) forget(now time.Time) {
	for _, st := range b.streams {
		if st.cur == nil && st.inMsgs == 0 && st.storing == 0 && now.Sub(st.away) > Grace {
			b.drop(st)
		}
	}
	b.forgetRecords(now)
}

// detach notes that e's pipe has ended.
func (b *Inbox) detach(e *in) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pipes, e)
	close(b.ended)
	b.ended = make(chan struct{})
	st := e.st
	if st.cur == e {
		st.collect()
		b.reclaim()
		st.cur, st.away = nil, time.Now()
		b.flush()
		// A sender's socket that closed has stated the fate of what it owed; and what was
		// stalled cannot go on.
		if e.detached && st.level != BestEffort || len(st.stalled) > 0 {
			for _, m := range b.unbegun(st, all) {
				b.giveBack(m, wire.NackReturned)
			}
		}
	}
	e.dropClaims()
}
