package patterns

import (
	"context"
	"errors"
	"fmt"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/internal/ranges"
	"peermesh/socket"
	"peermesh/spool"
)

// journal is the durable half of a Push: its stream on disk, and the feed that brings all
// of it to the one ledger. The sender's mutex guards it.
type journal struct {
	*tail
	*feed
	outcomes *outcomes
	shut     bool // nothing new is taken; guarded by the store's change lock
}

// openJournal opens the stream of a socket in the store.
func openJournal(s *sender) (*journal, spool.QueueState, error) {
	t, state, err := openTail(s, "dead")
	if err != nil {
		return nil, state, err
	}
	var settled ranges.Set
	for _, r := range state.Settled {
		settled.Add(r.From, r.To)
	}
	holders := make([]identity.ID, len(state.Holders))
	for i, h := range state.Holders {
		holders[i] = h
	}
	j := &journal{tail: t, feed: newFeed(t, &settled, state.Mark, holders)}
	j.feed.books = queueBooks{t.queue}
	j.delays.before, j.delays.mark = min(state.Mark, state.Next-1), readDueMark(t)
	j.lose, j.keep = j.lost, j.keepOutcomes
	if j.outcomes, err = parseOutcomes(t.store.Note(outcomesKey(t.queue))); err != nil {
		return nil, state, errors.Join(err, t.close())
	}
	j.carried = state.Next - 1 - settled.Count()
	t.feeds = []*feed{j.feed}
	return j, state, nil
}

// queueBooks keep decisions in the records of the queue itself.
type queueBooks struct{ queue *spool.Queue }

func (b queueBooks) write(c *spool.Change, r ruling) {
	for _, s := range r.settled {
		c.Settle(b.queue, s.From, s.To)
	}
	for _, t := range r.tries {
		c.SetTry(b.queue, spool.Try{Seq: t.Seq, Attempts: t.Attempt, Deliveries: t.Deliveries})
	}
	if r.mark > 0 {
		c.SetMark(b.queue, r.mark)
	}
	if r.due != (dueMark{}) {
		c.Put(dueMarkKey(b.queue), r.due.append(nil))
	}
	if r.holders != nil {
		c.SetHolders(b.queue, r.holders)
	}
}

// begin gives the ledger what an earlier life may have dispatched. It reads from the disk.
func (j *journal) begin(box *socket.Outbox, state spool.QueueState) error {
	tries := map[uint64]spool.Try{}
	for _, t := range state.Tries {
		tries[t.Seq] = t
	}
	return j.feed.begin(box, tries)
}

// lost settles what the disk has lost.
func (j *journal) lost(from, to uint64) {
	for seq := from; seq <= to; seq++ {
		j.box.Ledger().Refuse(seq, ledger.ReasonDamaged)
		j.given++
	}
	j.owner.lost(from, to)
}

// join begins a change with room for a message, unless the stream takes nothing new or can keep
// nothing more. Without an error the caller must End it.
func (j *journal) join(ctx context.Context, m *socket.Message) (*spool.Change, error) {
	c, err := j.store.Join(ctx)
	if err != nil {
		return nil, err
	}
	if err := j.open(m); err != nil {
		c.End()
		return nil, err
	}
	return c, nil
}

// open says why m cannot be put into the stream; nil if it can. The store's change lock must
// be held.
func (j *journal) open(m *socket.Message) error {
	if j.shut {
		return socket.ErrClosed
	}
	if err := j.roomForDelay(m); err != nil {
		return err
	}
	return j.failure()
}

// roomForDelay says why m cannot be delayed; nil if it can, or is not.
func (j *journal) roomForDelay(m *socket.Message) error {
	if m.Delay > 0 && j.delays.crowded() {
		return fmt.Errorf("patterns: push %q: %w: %d delayed messages", j.owner.name, socket.ErrQueueFull, maxDelayed)
	}
	return nil
}

// takeNoMore has open refuse from now on; what it did not refuse is counted.
func (j *journal) takeNoMore() {
	c := j.store.Begin()
	defer c.End()
	j.shut = true
}

// put stores a message in a change. It needs no lock but the change's, so that senders do not
// wait for those who bring messages on their way.
func (j *journal) put(c *spool.Change, p socket.Prepared, m *socket.Message) (uint64, error) {
	seq, base, record, err := c.Append(j.queue, p.MaxSize(), p.Append)
	if err != nil {
		return 0, err
	}
	j.ask(c)
	j.accepted.Add(1)
	f := fresh{seq: seq, base: base, record: record, key: m.Key}
	if m.TTL > 0 || m.Delay > 0 {
		now := j.owner.now()
		f.rare = &rarely{expires: since(now, m.TTL), notBefore: since(now, m.Delay)}
	}
	if m.Delay > 0 {
		j.delays.coming.Add(1)
	}
	j.arrivals.add(c.Group(), f, j.owner.now)
	return seq, nil
}
