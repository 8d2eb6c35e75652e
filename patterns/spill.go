package patterns

import (
	"context"
	"errors"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// spill lets a Push at level Memory of a node with a store wait on disk: a journal that is
// used when memory has no room, or nobody is there to send to. The Push's mutex guards it.
//
//	memory     what is sent goes to the ledger at once
//	spilling   what is sent goes to the disk, behind all that is owed
//	draining   spilling, with a puller attached: the feed brings it to the ledger, in order
//
//	nobody is attached, the queue is full, or a delay         attached
//	memory ----------------------------------------> spilling ----------> draining
//	   ^                                                 ^    <----------     |
//	   |                                                 |      all went      |
//	   +-------------------------------------------------|--------------------+
//	     nothing waits on disk alone, half of the queue is free, and a message is sent
//
// A message with a delay goes to the disk as well: it is to wait. There it has its mark of its
// own, see delays.
//
// In every state bound divides what is owed. Below it all is on disk, or on its way there,
// and is treated as at level durable: dispatch mark, holders, staged settlements, and after a
// restart flags and waiting for those who may have it. From bound on it is in memory alone
// and is treated as without a store. Whoever goes to spilling moves that part to the disk
// first, in order, so bound only rises; what was dispatched already goes there below the mark.
// Close and Shutdown do the same. What a kill catches in memory is lost, and stated: seqs are
// reserved in every state, and the next life states all that it does not find on disk.
//
// Send does not wait for the disk to be synced, only while the committer has its hands full.
//
// A disk without room leaves what is owed where it is. What is sent stays in memory as long as
// nothing waits on disk alone that it would overtake, and then the overflow policy decides. A
// disk that has failed is not written to any more; what it may hold and the dispatch mark does
// not cover cannot be sent in this life, for the next one would not flag it. If there is any,
// nothing more is accepted, or it would overtake; otherwise it goes on in memory, until the
// seqs that are reserved on that disk are used up.
type spill struct {
	*journal
	push *Push

	on        bool // spilling, or draining
	bound     uint64
	sure      uint64 // seqs below are settled, or known to be on disk
	direct    uint64 // accepted, and given to the ledger without the disk
	reserving bool   // somebody waits for the disk to reserve seqs

	meeting   map[identity.ID]int // pipes under way
	strangers bool                // some of their nodes are not among the holders on disk
	state     SpillState          // told last
}

// moveBytes is how much is moved to the disk in one change.
const moveBytes = 256 << 10

// How long to wait before the disk is asked again: when it is busy, and when it has no room.
const (
	busyRetry  = 5 * time.Millisecond
	spaceRetry = 250 * time.Millisecond
)

var errBusy = errors.New("patterns: the disk does not keep up")

func newSpill(p *Push, j *journal) *spill {
	sp := &spill{journal: j, push: p, bound: p.next, sure: p.next, meeting: map[identity.ID]int{}}
	sp.dropped = map[string]uint64{}
	sp.tail.landed = func(g spool.Group) {
		if sp.newest() <= g {
			sp.sure = sp.bound
		}
	}
	return sp
}

// opened: what an earlier life left is known.
func (sp *spill) opened() {
	sp.on = !sp.drained()
	sp.box.Ledger().Volatile(sp.bound)
}

// tried notes a try of what is on disk.
func (sp *spill) tried(t ledger.Try) {
	if t.Seq < sp.bound {
		sp.tries = append(sp.tries, t)
	}
}

// drained reports whether nothing waits on disk alone.
func (sp *spill) drained() bool { return sp.next >= sp.stored && sp.waiting() == 0 }

// full reports whether the ledger has no room for a message of that size.
func (sp *spill) full(size int) bool {
	messages, bytes := sp.box.Ledger().Owed()
	return sp.owner.full(messages, bytes, size)
}

// turn decides where a message of that size goes, which is to wait or not.
func (sp *spill) turn(size int, wait bool) {
	attended := sp.box.Ledger().Attended()
	switch {
	case sp.on:
		if attended && !wait && sp.drained() && sp.low() {
			sp.on = false
			sp.next = sp.push.next
			sp.report(InMemory, nil)
		}
	case (!attended || wait || sp.full(size)) && sp.failure() == nil:
		sp.on = true
		sp.report(Spilling, nil)
	}
}

// toDisk puts a message behind all that is owed.
func (sp *spill) toDisk(m *socket.Message, prepared socket.Prepared) (seq uint64, err error) {
	if err := sp.roomForDelay(m); err != nil {
		return 0, err
	}
	if err := sp.moveAll(); err != nil {
		return 0, err
	}
	if sp.store.Busy() {
		return 0, errBusy
	}
	c := sp.store.Begin()
	defer c.End()
	sp.introduce(c)
	c.Skip(sp.queue, sp.push.next)
	if seq, err = sp.put(c, prepared, m); err != nil {
		return 0, err
	}
	sp.raise(seq + 1)
	sp.report(Spilling, nil)
	return seq, nil
}

// raise makes next the bound, and the next seq not below it.
func (sp *spill) raise(next uint64) {
	sp.bound = next
	sp.push.next = max(sp.push.next, next)
	sp.box.Ledger().Volatile(next)
}

// moveAll moves to the disk all that is in memory alone, as far as that keeps up.
func (sp *spill) moveAll() error {
	for sp.bound < sp.push.next {
		if sp.store.Busy() {
			return errBusy
		}
		if err := sp.move(); err != nil {
			return err
		}
	}
	return nil
}

// move moves some of it.
func (sp *spill) move() (err error) {
	led := sp.box.Ledger()
	if sp.firstVolatile() == sp.push.next {
		sp.raise(sp.push.next) // nothing of it is owed
		return nil
	}
	c := sp.store.Begin()
	defer c.End()
	sp.introduce(c)
	r, next, size := ruling{}, sp.push.next, 0
	led.Owing(sp.bound, func(d ledger.Debt) bool {
		if size < moveBytes {
			err = sp.copy(c, d)
		}
		if err != nil || size >= moveBytes {
			next = d.Seq
			return false
		}
		size += len(d.Record)
		if d.Attempt > 1 || d.Deliveries > 0 {
			r.tries = append(r.tries, ledger.Try{Seq: d.Seq, Attempt: d.Attempt, Deliveries: d.Deliveries})
		}
		return true
	})
	if size == 0 && err != nil {
		return err // nothing comes to the disk of which to hear
	}
	if mark := min(led.Dispatched(), next-1); mark > sp.marked {
		sp.marked, r.mark = mark, mark
		sp.marks = append(sp.marks, groupMark{c.Group(), mark})
	}
	sp.books.write(c, r)
	sp.ask(c)
	sp.raise(next)
	return err
}

// copy writes an owed message down as it is now: of its TTL what is left.
func (sp *spill) copy(c *spool.Change, d ledger.Debt) error {
	r, _, err := wire.NextRecord(d.Record)
	if err != nil {
		return err
	}
	if !d.Expires.IsZero() {
		r.TTL = max(d.Expires.Sub(sp.owner.now()), time.Millisecond)
	}
	c.Skip(sp.queue, d.Seq)
	_, _, _, err = c.Append(sp.queue, len(d.Record)+recordSlack, func(dst []byte, delta uint64) []byte {
		r.Delta = delta
		return wire.AppendRecord(dst, r)
	})
	return err
}

// recordSlack is how much longer a record may get in another block: its delta and TTL.
const recordSlack = 20

// firstVolatile is the first seq that is owed and in memory alone, or the next one.
func (sp *spill) firstVolatile() uint64 {
	first := sp.push.next
	sp.box.Ledger().Owing(sp.bound, func(d ledger.Debt) bool {
		first = d.Seq
		return false
	})
	return first
}

// lowest is the first seq that is neither settled nor known to be on disk, as far as that is
// known.
func (sp *spill) lowest() uint64 {
	if sp.sure < sp.bound {
		return sp.sure
	}
	return sp.firstVolatile()
}

// reserve makes sure of the next seqs. It releases the lock meanwhile: the store may have to
// call back before it gets to them.
func (sp *spill) reserve(ctx context.Context) error {
	s := sp.owner
	if sp.reserving {
		return s.await(ctx, func() bool { return !sp.reserving })
	}
	sp.reserving = true
	lowest, end := sp.lowest(), s.next+spool.ReserveBlock-1
	s.mu.Unlock()
	err := s.env.Seqs.Reserve(s.seqs, lowest, end)
	s.mu.Lock()
	sp.reserving = false
	s.changed.Fire()
	if err != nil && s.closing {
		return socket.ErrClosed
	}
	if err == nil {
		s.end = end
	}
	return err
}

// meet notes that a pipe to a node begins, and returns the group that must be on disk before
// it may: the next life must know whom to ask about what is on disk.
func (sp *spill) meet(id identity.ID) spool.Group {
	sp.meeting[id]++
	if sp.on || sp.box.Ledger().Lowest() < sp.bound {
		return sp.hold(id)
	}
	if _, known := sp.holders[id]; !known {
		sp.strangers = true
	}
	return 0
}

// introduce makes holders of those met while nothing was on disk, in the change that brings
// the first of it there.
func (sp *spill) introduce(c *spool.Change) {
	if !sp.strangers {
		return
	}
	sp.strangers = false
	met := make(map[identity.ID]struct{}, len(sp.meeting))
	for id := range sp.meeting {
		met[id] = struct{}{}
	}
	for _, c := range sp.box.Ledger().Consumers() { // some have left, and may have something all the same
		met[c.Who.Node] = struct{}{}
	}
	var ids []identity.ID
	for id := range met {
		if _, known := sp.holders[id]; !known {
			ids = append(ids, id)
		}
	}
	sp.enter(c, ids...)
}

// parted notes that a pipe to a node has ended. When nobody is left, what is owed goes to the
// disk.
func (sp *spill) parted(id identity.ID) {
	if sp.meeting[id]--; sp.meeting[id] == 0 {
		delete(sp.meeting, id)
	}
	if sp.owner.closing || sp.failure() != nil || sp.box.Ledger().Attended() || sp.firstVolatile() == sp.owner.next {
		return
	}
	if !sp.on {
		sp.on = true
		sp.report(Spilling, nil)
	}
	sp.owner.wind(sp.owner.now())
}

// tick is the outbox's, and moves on what is to be moved.
func (sp *spill) tick(now time.Time) time.Time {
	next := sp.box.Tick(now)
	if !sp.on || sp.owner.closing || sp.failure() != nil {
		return next
	}
	again := time.Time{}
	switch err := sp.moveAll(); {
	case err == nil:
	case errors.Is(err, errBusy):
		again = now.Add(busyRetry)
	case errors.Is(err, spool.ErrSpoolFull):
		sp.report(DiskFull, err)
		again = now.Add(spaceRetry)
	default:
		sp.tail.fail(err)
	}
	if next.IsZero() || !again.IsZero() && again.Before(next) {
		next = again
	}
	return next
}

// flush is the tail's; when the disk has failed, what waited for it to be told is told.
func (sp *spill) flush() {
	if sp.quiet() { // as it is while all is in memory; the tail's would cost more
		return
	}
	sp.tail.flush()
	err := sp.failure()
	if err == nil || sp.state == DiskFailed {
		return
	}
	sp.on = false
	sp.report(DiskFailed, err)
	for _, run := range sp.staged {
		sp.tellRun(run.fateRun)
	}
	for _, run := range sp.fates {
		sp.tellRun(run)
	}
	sp.staged, sp.fates = nil, nil
	sp.box.Ledger().Spoilt()
	sp.box.Kick()
}

// quiet reports whether there is nothing to hand to the disk.
func (sp *spill) quiet() bool {
	led := sp.box.Ledger()
	if _, due := led.NextDue(); due {
		return false
	}
	return sp.next >= sp.stored && len(sp.fates) == 0 && len(sp.tries) == 0 && !led.Unsealed() && led.WantsMark() <= sp.marked && sp.failure() == nil
}

// keeps reports whether the fate of that message goes to the disk.
func (sp *spill) keeps(seq uint64) bool { return seq < sp.bound && sp.failure() == nil }

// stuck is why nothing more can be sent in order; nil if it can.
func (sp *spill) stuck() error {
	err := sp.failure()
	if err == nil || sp.waiting() == 0 && !sp.box.Ledger().Unmarked() {
		return nil
	}
	return err
}

// idle reports whether nothing is owed, and what was settled is where it is to be.
func (sp *spill) idle() bool {
	if sp.failure() == nil {
		return sp.feed.idle()
	}
	n, _ := sp.box.Ledger().Owed()
	return n == 0 && sp.waiting() == 0
}

// stats adds what is on disk, and what never was.
func (sp *spill) stats(l *Ledger) {
	sp.feed.stats(l)
	l.Accepted += sp.direct
}

// save moves all to the disk and waits until it is there, or ctx ends. The lock is released
// meanwhile.
func (sp *spill) save(ctx context.Context) error {
	for {
		err := sp.failure()
		if err == nil {
			err = sp.moveAll()
		}
		switch {
		case err == nil:
			last := sp.newest()
			sp.owner.mu.Unlock()
			defer sp.owner.mu.Lock()
			if last == 0 {
				return nil
			}
			return sp.store.Wait(ctx, last)
		case errors.Is(err, errBusy):
			sp.owner.mu.Unlock()
			err = sp.store.Ready(ctx)
			sp.owner.mu.Lock()
		}
		if err != nil {
			return err
		}
	}
}
