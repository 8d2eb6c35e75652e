package patterns

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// feed brings a stream on disk to one ledger, in order, and the ledger's decisions back to
// the disk. The sender's mutex guards it.
//
//	on disk --> ledger --> pipes
//	  |           ^
//	  +- backlog -+  read in order, as room comes free
//
//	answer --> ledger --> open group --sync--> confirmed to the receiver, told to the user
//
// No receiver forgets a mark before the settlement that it allowed is on disk.
type feed struct {
	tail     *tail
	box      *socket.Outbox
	books    books
	label    string                                   // of dead letters
	tell     func(ledger.Settlement)                  // the fate is on disk
	tellDone func(from, to uint64, by socket.Who)     // likewise, of what is done
	lose     func(from, to uint64)                    // the disk has lost these
	keep     func(c *spool.Change, fates []groupFate) // what goes to the disk; nil: nobody asks

	// Of a feed that does not want every message; nil otherwise.
	wants func(seq uint64, topic string) bool
	pass  func(from, to uint64)      // these are not wanted, or settled for everybody
	taken func(seq uint64, size int) // this one goes to the ledger
	held  bool                       // it takes nothing yet: what it wants is not known

	carried  uint64            // unsettled at open
	accepted atomic.Uint64     // since
	given    uint64            // of them to the ledger
	dropped  map[string]uint64 // of them never given to the ledger, by reason
	next     uint64            // the next seq for the ledger; what lies above is on disk only
	earlier  ranges.Set        // settled in an earlier life, from next on
	most     int               // messages in the ledger

	marks   []groupMark // dispatch marks on their way
	marked  uint64      // the highest of them
	delays  delays
	settle  ranges.Set                  // settled, and not handed to the store
	tries   []ledger.Try                // likewise
	fates   []fateRun                   // likewise
	staged  []groupFate                 // handed to the store, not known on disk
	sealed  spool.Group                 // the newest group in which something was settled
	holders map[identity.ID]spool.Group // who may have messages, and the group that says so on disk
}

// books keep a feed's decisions where they outlive the process.
type books interface {
	// write puts what was decided into a change. It does not keep r.
	write(c *spool.Change, r ruling)
}

// ruling is what was decided; the zero value of a field is nothing.
type ruling struct {
	settled []ranges.Range
	tries   []ledger.Try
	mark    uint64
	due     dueMark
	holders [][16]byte
}

type groupMark struct {
	group spool.Group
	mark  uint64
}

// fateRun is the fate of n messages in a row: that of the first, which differs in its seq only.
type fateRun struct {
	ledger.Settlement
	n uint64
}

func (r *fateRun) last() uint64 { return r.Seq + r.n - 1 }

// joins reports whether next goes on where r ends. Only what is done comes in long runs.
func (r *fateRun) joins(next *fateRun) bool {
	return r.State == ledger.Done && next.State == ledger.Done && r.Seq+r.n == next.Seq && r.By == next.By
}

type groupFate struct {
	group spool.Group
	fateRun
}

// newFeed makes a feed that goes on where an earlier life stood. Its dispatch mark may have
// been reserved ahead of the end of the stream: what comes there was never sent.
func newFeed(t *tail, settled *ranges.Set, mark uint64, holders []identity.ID) *feed {
	f := &feed{tail: t, next: 1, earlier: settled.Clone(), marked: min(mark, t.stored-1), holders: map[identity.ID]spool.Group{}, most: t.owner.set.queue}
	for _, h := range holders {
		f.holders[h] = 0 // an earlier life's
	}
	f.skip()
	return f
}

// skip moves next over what was settled in an earlier life.
func (f *feed) skip() {
	for r := range f.earlier.Missing(f.next, max(f.tail.stored, 1)-1) {
		f.next = r.From
		f.earlier.Remove(0, f.next)
		return
	}
	f.next = max(f.next, f.tail.stored)
	f.earlier.Remove(0, f.next-1) // what lies above was refused, with its group on its way
}

// mode is what the ledger must know of earlier lives.
func (f *feed) mode(m ledger.Mode) ledger.Mode {
	m.Marked, m.Staged = true, true
	m.Holders = slices.Collect(maps.Keys(f.holders))
	m.Editions, m.First = f.tail.editions, f.tail.first
	m.OnTry = func(t ledger.Try) { f.tries = append(f.tries, t) }
	return m
}

// begin gives the ledger what an earlier life may have dispatched: all of it, before any
// receiver can speak of it. It reads from the disk.
func (f *feed) begin(box *socket.Outbox, tries map[uint64]spool.Try) error {
	f.box = box
	mark := f.marked
	f.box.Ledger().SetMark(mark)
	for f.next <= mark && f.next < f.tail.stored {
		b, err := f.tail.queue.Read(f.next)
		if err := f.take(b, err, f.tail.stored, func(it *ledger.Item) bool {
			it.Unknown = it.Seq <= mark && !it.Absent
			t := tries[it.Seq]
			it.Attempt, it.Deliveries = t.Attempts, t.Deliveries
			return it.Seq <= mark
		}); err != nil {
			return err
		}
	}
	return nil
}

// take gives the ledger the records of a block from next on, as long as more says so.
// end is where the disk ended when it was read.
func (f *feed) take(b spool.Block, err error, end uint64, more func(*ledger.Item) bool) error {
	var damaged *spool.DamagedError
	switch {
	case errors.Is(err, io.EOF):
		f.holes(f.next, end-1)
		return nil
	case errors.As(err, &damaged):
		f.holes(f.next, damaged.To)
		return nil
	case err != nil:
		return err
	}
	accepted := f.tail.owner.now().Add(-max(time.Since(b.At), 0)) // by the wall clock: it is the only one that outlives a process
	for data := b.Data; len(data) > 0; {
		r, rest, err := wire.NextRecord(data)
		if err != nil && !errors.Is(err, wire.ErrChecksum) {
			break
		}
		raw := data[:len(data)-len(rest)] // the next one stands behind it
		data = rest
		seq := b.Base + r.Delta
		if err != nil || seq < f.next || f.earlier.Contains(seq) {
			continue // what is unreadable shows as a hole before the next one
		}
		f.holes(f.next, seq-1)
		if f.wants != nil && !f.wants(seq, string(r.Topic)) {
			f.passOver(seq, seq)
			continue
		}
		it := ledger.Item{Seq: seq, Base: b.Base, Record: raw, Key: string(r.Key), Accepted: accepted, Expires: since(accepted, r.TTL)}
		if r.Delay > 0 {
			it = f.delayed(it, b.At, r)
		}
		if !more(&it) {
			return nil
		}
		f.give(it, f.tail.owner.now())
	}
	f.holes(f.next, b.Last)
	f.skip()
	return nil
}

// holes passes over from..to: what of it was not settled in an earlier life, the disk has
// lost. That is stated, and settled.
func (f *feed) holes(from, to uint64) {
	if from > to {
		return
	}
	for r := range f.earlier.Missing(from, to) {
		f.lose(r.From, r.To)
	}
	f.next = max(f.next, to+1)
}

// passOver moves next over messages that are not wanted.
func (f *feed) passOver(from, to uint64) {
	if from <= to {
		f.pass(from, to)
		f.next = max(f.next, to+1)
	}
}

// get takes a message that came to the disk just now, was accepted at about that time and is the next one; or of a row as much
// as there is room for. A Pub's messages, which may not be wanted, come one by one.
func (f *feed) get(m *fresh, at, now time.Time) {
	switch {
	case m.seq < f.next:
	case f.wants != nil && !f.wants(m.seq, m.topic()):
		f.passOver(m.seq, m.seq)
	case !m.plain():
		f.give(m.item(at), now)
	default:
		ends := m.ends[:f.fits(m.ends)]
		f.given += uint64(len(ends))
		f.next = m.seq + uint64(len(ends))
		f.box.Ledger().AppendRun(m.seq, m.base, m.record, ends, at)
	}
}

// fits is how many messages whose records end there the ledger takes until it is full, which it is not.
func (f *feed) fits(ends []uint32) int {
	messages, bytes := f.inMemory()
	room := uint64(f.tail.owner.set.queueBytes) - bytes
	n := sort.Search(min(len(ends), f.most-messages), func(i int) bool { return uint64(ends[i]) >= room })
	return min(n+1, len(ends), f.most-messages)
}

// give hands a message to the ledger.
func (f *feed) give(it ledger.Item, now time.Time) {
	f.goesOn(it.Seq, len(it.Record))
	f.box.Ledger().Append(it, now)
	f.tail.owner.windFor(it)
	if it.Absent && it.Seq >= f.tail.first {
		f.delays.coming.Add(-1)
	}
}

// goesOn notes that the ledger gets a message.
func (f *feed) goesOn(seq uint64, size int) {
	if f.taken != nil {
		f.taken(seq, size)
	}
	f.given++
	f.next = seq + 1
}

// mark raises the dispatch mark as far as the receivers' credit reaches.
func (f *feed) mark(change func() *spool.Change) {
	if want := f.box.Ledger().WantsMark(); want > f.marked {
		c := change()
		f.marked = want
		f.books.write(c, ruling{mark: want})
		f.marks = append(f.marks, groupMark{c.Group(), want})
		f.tail.urgent = true
	}
}

// flush hands to the store what was settled since it was last called.
func (f *feed) flush(change func() *spool.Change) {
	if f.next < f.tail.stored && f.low() {
		f.tail.hungry()
	}
	if len(f.fates) > 0 || len(f.tries) > 0 {
		f.rule(change())
	}
	f.mark(change)
	f.seal()
	f.lookForDue()
}

// rule puts fates and tries into a change.
func (f *feed) rule(c *spool.Change) {
	before := len(f.staged)
	for _, run := range f.fates {
		if run.State == ledger.Dead {
			if err := f.tail.bury(c, run.Settlement, f.label); err != nil {
				f.settle.Remove(run.Seq, run.Seq) // rather again in the next life than nowhere
				f.tail.fail(fmt.Errorf("dead letter %d: %w", run.Seq, err))
				continue // its fate is not on disk: nothing is told
			}
		}
		f.staged = append(f.staged, groupFate{c.Group(), run})
		f.tail.urgent = f.tail.urgent || run.State == ledger.Dropped // what lies behind waits for it
	}
	if len(f.fates) > 0 {
		f.sealed = c.Group()
		if f.keep != nil {
			f.keep(c, f.staged[before:])
		}
	}
	clear(f.fates)
	f.fates = f.fates[:0]
	f.books.write(c, ruling{settled: f.settle.Ranges(), tries: f.tries})
	f.tries = f.tries[:0]
	f.settle.Clear()
}

// seal binds the confirmations that wait to the group that makes them true.
func (f *feed) seal() {
	if led := f.box.Ledger(); led.Unsealed() {
		led.Seal(sealOf(f.sealed))
		if f.sealed <= f.tail.synced {
			f.box.Release(sealOf(f.tail.synced))
		}
	}
}

// sealOf is a group as the ledger counts them: from 1 for what an earlier life settled.
func sealOf(g spool.Group) uint64 { return uint64(g) + 1 }

// settled notes a message's fate, to be told when it is on disk.
func (f *feed) settled(st ledger.Settlement) { f.fated(fateRun{st, 1}) }

// doneAll is settled for neighbours that are done.
func (f *feed) doneAll(from, to uint64, by socket.Who) {
	f.fated(fateRun{ledger.Settlement{Seq: from, State: ledger.Done, By: by}, to - from + 1})
}

func (f *feed) fated(run fateRun) {
	f.settle.Add(run.Seq, run.last())
	if n := len(f.fates); n > 0 && f.fates[n-1].joins(&run) {
		f.fates[n-1].n += run.n
		return
	}
	f.fates = append(f.fates, run)
}

// untold is how many fates are not handed to the store.
func (f *feed) untold() (n uint64) {
	for i := range f.fates {
		n += f.fates[i].n
	}
	return n
}

// landed: what was handed to the store up to group g is on disk.
func (f *feed) landed(g spool.Group) {
	n := 0
	for ; n < len(f.marks) && f.marks[n].group <= g; n++ {
		f.box.Ledger().SetMark(f.marks[n].mark)
	}
	f.marks = slices.Delete(f.marks, 0, n)
	f.fetched(g)
	for n = 0; n < len(f.staged) && f.staged[n].group <= g; n++ {
		f.tellRun(f.staged[n].fateRun)
	}
	f.staged = slices.Delete(f.staged, 0, n)
	f.box.Release(sealOf(g))
	f.box.Dispatch()
}

// tellRun tells what became of some messages.
func (f *feed) tellRun(run fateRun) {
	if run.State == ledger.Done {
		f.tellDone(run.Seq, run.last(), run.By)
		return
	}
	f.tell(run.Settlement)
}

// full reports whether the ledger holds as much as it may.
func (f *feed) full() bool {
	return f.held || f.crowded() || f.box.Ledger().Absent() >= maxDelayed
}

// crowded reports whether the ledger has no room for a record more.
func (f *feed) crowded() bool {
	messages, bytes := f.inMemory()
	return messages >= f.most || bytes >= uint64(f.tail.owner.set.queueBytes)
}

// low reports whether the ledger has room for half of what it may hold.
func (f *feed) low() bool {
	messages, bytes := f.inMemory()
	return !f.held && messages <= f.most/2 && bytes <= uint64(f.tail.owner.set.queueBytes)/2
}

// inMemory is how many messages the ledger holds with their records.
func (f *feed) inMemory() (messages int, bytes uint64) {
	messages, bytes = f.box.Ledger().Owed()
	return messages - f.box.Ledger().Absent(), bytes
}

// loadBlock reads one block without the lock. It reports whether there may be more.
func (f *feed) loadBlock() bool {
	t := f.tail
	s := t.owner
	s.mu.Lock()
	from, end := f.next, t.stored
	wanted := from < end && t.failure() == nil && !s.closed && !f.full()
	s.mu.Unlock()
	if !wanted {
		return false
	}
	b, err := t.queue.Read(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || f.next != from {
		return false
	}
	if err := f.take(b, err, end, func(*ledger.Item) bool { return !f.full() }); err != nil {
		t.fail(err)
		s.changed.Fire()
		return false
	}
	f.box.Dispatch()
	return true
}

// waiting is how many messages are owed and not in the ledger.
func (f *feed) waiting() uint64 { return f.waitingOf(f.accepted.Load()) }

// waitingOf is waiting when so many were accepted.
func (f *feed) waitingOf(accepted uint64) uint64 {
	n := f.given
	for _, dropped := range f.dropped {
		n += dropped
	}
	if n > f.carried+accepted { // an earlier life could not count all of it
		f.carried = n - accepted
	}
	return f.carried + accepted - n
}

// idle reports whether nothing is owed, and what was settled is on disk.
func (f *feed) idle() bool {
	n, _ := f.box.Ledger().Owed()
	return n == 0 && f.waiting() == 0 && len(f.fates) == 0 && len(f.staged) == 0
}

// maxHolders bounds the receivers remembered by name; the store refuses more.
const maxHolders = spool.MaxHolders

// hold records that a receiver may get messages, before the ATTACH is sent. It returns
// the group to wait for, 0 if that is on disk already.
func (f *feed) hold(id identity.ID) spool.Group {
	if f.tail.failure() != nil {
		return 0
	}
	if g, known := f.holders[id]; known {
		if g <= f.tail.synced {
			return 0
		}
		return g
	}
	c := f.tail.store.Begin()
	defer c.End()
	f.enter(c, id)
	f.tail.ask(c)
	return c.Group()
}

// enter records in a change that receivers may get messages.
func (f *feed) enter(c *spool.Change, ids ...identity.ID) {
	if len(f.holders)+len(ids) > maxHolders {
		attached := map[identity.ID]spool.Group{}
		for _, c := range f.box.Ledger().Consumers() {
			attached[c.Who.Node] = f.holders[c.Who.Node]
		}
		f.holders = attached
	}
	for _, id := range ids {
		f.holders[id] = c.Group()
	}
	var all [][16]byte
	for h := range f.holders {
		if len(all) < maxHolders { // what the others may have is flagged all the same
			all = append(all, h)
		}
	}
	f.books.write(c, ruling{holders: all})
}

// stats is what the ledger counts and what waits on disk.
func (f *feed) stats(l *Ledger) {
	accepted := f.accepted.Load() // it may grow meanwhile
	waiting := f.waitingOf(accepted)
	l.Carried, l.Accepted = f.carried, accepted
	l.Queued += waiting
	for reason, n := range f.dropped {
		l.Dropped[reason] += n
	}
}
