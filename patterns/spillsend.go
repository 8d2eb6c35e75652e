package patterns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"peermesh/internal/ledger"
	"peermesh/socket"
	"peermesh/spool"
)

// accept makes a message owed, in memory or on disk; where there is no room in either, the
// overflow policy decides. The lock must be held; it is released while there is no room.
func (sp *spill) accept(ctx context.Context, m *socket.Message, prepared socket.Prepared, r *Receipt) (uint64, error) {
	p := sp.push
	for {
		if p.closing {
			return 0, socket.ErrClosed
		}
		if p.next > p.end {
			if err := sp.reserve(ctx); err != nil {
				return 0, err
			}
			continue
		}
		seq, err := sp.place(m, prepared, r)
		if err == nil {
			return seq, nil
		}
		p.box.DispatchHere().Pass() // as in room
		dropNew, err := sp.overflow(ctx, err)
		switch {
		case err != nil:
			return 0, err
		case dropNew:
			return sp.refuse(r), nil
		}
	}
}

// place puts a message where it goes now. The error says why there is no room.
func (sp *spill) place(m *socket.Message, prepared socket.Prepared, r *Receipt) (uint64, error) {
	p, size := sp.push, prepared.Size()
	sp.turn(size, m.Delay > 0)
	if sp.on {
		seq, err := sp.toDisk(m, prepared)
		switch {
		case err == nil:
			p.receipts.note(r, seq)
			return seq, nil
		case errors.Is(err, spool.ErrSpoolFull):
			sp.report(DiskFull, err)
		}
		if !errors.Is(err, spool.ErrSpoolFull) || !sp.drained() || sp.full(size) || m.Delay > 0 {
			return 0, err
		}
	} else if err := sp.stuck(); err != nil {
		return 0, err
	} else if sp.full(size) {
		return 0, errNoRoom
	}
	seq := p.own(m, prepared, r)
	sp.direct++
	sp.next = p.next
	return seq, nil
}

var errNoRoom = errors.New("patterns: the disk has failed, and the queue in memory is full")

// overflow is what becomes of a message for which there is no room, for that cause. Without
// an error, and unless the message is to be dropped, it is tried again.
func (sp *spill) overflow(ctx context.Context, cause error) (dropNew bool, err error) {
	p := sp.push
	busy := errors.Is(cause, errBusy)
	switch {
	case errors.Is(cause, spool.ErrFailed):
		sp.tail.fail(cause)
		sp.flush() // what is sent from now on goes elsewhere
		return false, nil
	case !busy && !errors.Is(cause, spool.ErrSpoolFull) && !errors.Is(cause, errNoRoom):
		return false, cause
	}
	switch p.set.overflow {
	case Refuse:
		return false, fmt.Errorf("%w: %w", socket.ErrQueueFull, cause)
	case DropNewest:
		return true, nil
	case DropOldest:
		switch {
		case !busy && sp.dropOldest():
			return false, nil
		case !busy && !sp.flying():
			return true, nil // all of it is in hand somewhere
		}
	}
	return false, sp.pause(ctx, busy)
}

// flying reports whether something is on its way to the disk: it is the newest, and before it
// is there it cannot be told apart from what is dropped.
func (sp *spill) flying() bool { return sp.failure() == nil && sp.newest() > sp.synced }

// pause waits until there may be room, or ctx ends.
func (sp *spill) pause(ctx context.Context, busy bool) (err error) {
	s := sp.owner
	changed := s.changed.Wait()
	s.mu.Unlock()
	defer s.mu.Lock()
	if busy {
		err = sp.store.Ready(ctx)
		if errors.Is(err, spool.ErrFailed) {
			return nil // it is found out with the next try
		}
		return err
	}
	t := time.NewTimer(spaceRetry) // others may make room on the disk
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return err
}

// dropOldest drops the oldest message that nobody holds. It reports false if there is none.
func (sp *spill) dropOldest() bool {
	led := sp.box.Ledger()
	if sp.failure() != nil && led.Lowest() < sp.bound {
		return false // the next life would find it all the same
	}
	if !led.DropOldest(ledger.ReasonOverflow) {
		if sp.failure() != nil || sp.next >= sp.stored {
			return false
		}
		seq := sp.next // it waits on disk alone
		sp.next++
		sp.skip()
		sp.missed(seq)
	}
	sp.flush() // that may make room
	return true
}

// refuse drops a message the moment it is accepted.
func (sp *spill) refuse(r *Receipt) (seq uint64) {
	p := sp.push
	seq = p.next
	p.next++
	p.receipts.note(r, seq)
	if sp.drained() {
		p.box.Ledger().Refuse(seq, ledger.ReasonOverflow)
		sp.direct++
		sp.next = p.next
		return seq
	}
	c := sp.store.Begin() // the ledger must not hear of it before what waits on disk
	c.Skip(sp.queue, p.next)
	sp.ask(c)
	c.End()
	sp.raise(p.next)
	sp.accepted.Add(1)
	sp.earlier.Add(seq, seq)
	sp.missed(seq)
	return seq
}

// missed settles a message that was never given to the ledger as dropped.
func (sp *spill) missed(seq uint64) {
	sp.dropped[ledger.ReasonOverflow]++
	sp.box.Ledger().Missed(seq)
	sp.settled(ledger.Settlement{Seq: seq, State: ledger.Dropped, Reason: ledger.ReasonOverflow})
}

// report tells the user where what is sent goes, when that has changed.
func (sp *spill) report(s SpillState, cause error) {
	if s == sp.state {
		return
	}
	sp.state = s
	if f := sp.owner.set.onSpill; f != nil {
		f(s, cause)
	}
}

// SpillState is where a Push at level Memory of a node with a state directory puts what is
// sent.
type SpillState uint8

// Spill states.
const (
	InMemory   SpillState = iota // in memory
	Spilling                     // on disk, behind what waits there
	DiskFull                     // on disk when there is room; until then the overflow policy decides
	DiskFailed                   // in memory for good: the disk cannot be written to any more
)

// String is the state's name.
func (s SpillState) String() string {
	names := [...]string{"in memory", "spilling", "disk full", "disk failed"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("spill state(%d)", uint8(s))
}
