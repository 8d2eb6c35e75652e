package patterns

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// tail is a stream on disk at the end where it grows, and what reads it: one feed for
// Push, one per durable subscription for Pub. The sender's mutex guards it, but for what
// an append needs: that is the store's change lock.
//
//	append --> open group --sync--> on disk --> feeds
//
// Nothing leaves before its group is on disk.
type tail struct {
	owner *sender
	store *spool.Store
	queue *spool.Queue
	dead  *spool.Queue

	edition  uint64             // of what is appended
	first    uint64             // it owns the seqs from here on
	editions []wire.EditionSpan // earlier ones
	stored   uint64             // seqs below are on disk
	arrivals arrivals           // appended, not known on disk
	asked    atomic.Uint64      // the newest group that will call committed
	synced   spool.Group        // the newest group known on disk
	broken   atomic.Pointer[error]
	urgent   bool          // what is flushed next lets messages go
	wake     chan struct{} // the loader

	feeds   []*feed
	arrived func(f *fresh, at, now time.Time) // a message is on disk; nil: nobody asks
	landed  func(spool.Group)                 // of Pub: a group is
	flushed func(change func() *spool.Change) // of Pub: what is to be said beside the feeds
}

// fresh is a message on its way to the disk, or several in a row that have nothing but their records, which stand one behind
// the other.
type fresh struct {
	seq, base uint64
	record    []byte
	key       string
	rare      *rarely  // nil: nothing of it
	ends      []uint32 // of a row: where each record ends
}

// plain reports whether a message has nothing but its record.
func (f *fresh) plain() bool { return f.key == "" && f.rare == nil }

// last is the seq of the last message.
func (f *fresh) last() uint64 { return f.seq + uint64(max(len(f.ends), 1)) - 1 }

// goesOn makes next part of the row f, if it is the next one and its record follows.
func (f *fresh) goesOn(next *fresh) bool {
	n, size := len(f.record), len(next.record)
	if !next.plain() || !f.plain() || f.last()+1 != next.seq || f.base != next.base || size == 0 || cap(f.record)-n < size || &f.record[:n+1][n] != &next.record[0] {
		return false
	}
	f.record = f.record[:n+size]
	return true
}

// rarely is what most messages on their way to the disk have not.
type rarely struct {
	expires   time.Time
	notBefore time.Time
	topic     string
	views     []*view // Pub: ephemeral subscriptions that get it when it is there
	unwanted  bool    // Pub: no subscription matched
}

// item is the message as a ledger takes it; it was accepted at about that time.
func (f *fresh) item(at time.Time) ledger.Item {
	it := ledger.Item{Seq: f.seq, Base: f.base, Record: f.record, Key: f.key, Accepted: at}
	if f.rare == nil {
		return it
	}
	it.Expires, it.NotBefore = f.rare.expires, f.rare.notBefore
	if !it.NotBefore.IsZero() {
		return withoutRecord(it)
	}
	return it
}

// topic is what it was published under.
func (f *fresh) topic() string {
	if f.rare == nil {
		return ""
	}
	return f.rare.topic
}

// arrivals are the messages on their way to the disk, by group. Who adds holds the store's
// change lock, which settles their order.
type arrivals struct {
	mu     sync.Mutex
	groups []arrival
	spare  []arrival
}

// arrival is what one group brings, and about when it was accepted.
type arrival struct {
	group spool.Group
	at    time.Time
	items []fresh
	ends  []uint32 // of the last of items; those before may have theirs in what it was before it grew
}

// add adds a message.
func (a *arrival) add(f *fresh) {
	n := len(a.items)
	if n == 0 || !a.items[n-1].goesOn(f) {
		a.items = append(a.items, *f)
		n++
	}
	last := &a.items[n-1]
	if !last.plain() {
		return
	}
	a.ends = append(a.ends, uint32(len(last.record)))
	last.ends = a.ends[len(a.ends)-len(last.ends)-1:]
}

// add notes a message of group g. now is asked once for each group.
func (a *arrivals) add(g spool.Group, f fresh, now func() time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.groups)
	if n == 0 || a.groups[n-1].group != g {
		var next arrival
		if k := len(a.spare); k > 0 {
			next, a.spare = a.spare[k-1], a.spare[:k-1]
		}
		next.group, next.at = g, now()
		a.groups = append(a.groups, next)
		n++
	}
	a.groups[n-1].add(&f)
}

// take takes out the first group, if it is g or an earlier one.
func (a *arrivals) take(g spool.Group) (out arrival, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.groups) == 0 || a.groups[0].group > g {
		return arrival{}, false
	}
	out = a.groups[0]
	a.groups = slices.Delete(a.groups, 0, 1)
	return out, true
}

// mostSpare bounds the lists that are kept for the next group.
const mostSpare = 1 << 14

// free takes the lists of an arrival back.
func (a *arrivals) free(out arrival) {
	if cap(out.items) > mostSpare || cap(out.ends) > 4*mostSpare {
		return
	}
	clear(out.items)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.spare) < 4 {
		a.spare = append(a.spare, arrival{items: out.items[:0], ends: out.ends[:0]})
	}
}

// queueName is a stream's name in the store. No name holds a NUL.
func queueName(kind, namespace, name string) string {
	return kind + "\x00" + namespace + "\x00" + name
}

// openTail opens the stream of a socket, and its dead letters, in the store.
func openTail(s *sender, dead string) (*tail, spool.QueueState, error) {
	store, ns := s.env.Store, s.env.Local.Namespace
	q, state, err := store.OpenQueue(queueName(s.kind.String(), ns, s.name))
	if err != nil {
		return nil, state, err
	}
	d, _, err := store.OpenQueue(queueName(dead, ns, s.name))
	if err != nil {
		q.Close()
		return nil, state, err
	}
	t := &tail{owner: s, store: store, queue: q, dead: d, edition: state.Edition, first: state.First, stored: state.Next, wake: make(chan struct{}, 1)}
	for _, e := range state.Editions {
		t.editions = append(t.editions, wire.EditionSpan{Edition: e.Edition, First: e.First})
	}
	return t, state, nil
}

// ask makes the change's group call committed.
func (t *tail) ask(c *spool.Change) {
	if g := c.Group(); t.asked.Load() != uint64(g) {
		t.asked.Store(uint64(g))
		c.Then(func(err error) { t.committed(g, err) })
	}
}

// newest is the newest group that will call committed.
func (t *tail) newest() spool.Group { return spool.Group(t.asked.Load()) }

// committed: group g is on disk, or will never be known to be.
func (t *tail) committed(g spool.Group, err error) {
	s := t.owner
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Fire()
	if err != nil {
		t.fail(err)
		return
	}
	t.synced = g
	now := s.now()
	for a, ok := t.arrivals.take(g); ok; a, ok = t.arrivals.take(g) {
		for i := range a.items {
			t.landedRow(&a.items[i], a.at, now)
		}
		t.arrivals.free(a)
	}
	for _, f := range t.feeds {
		f.landed(g)
	}
	if t.landed != nil {
		t.landed(g)
	}
}

// landedRow: a message that was accepted at about that time is on disk, or a row.
func (t *tail) landedRow(m *fresh, at, now time.Time) {
	end := t.stored
	t.stored = m.last() + 1
	if t.arrived != nil {
		t.arrived(m, at, now)
	}
	for _, f := range t.feeds {
		if f.next >= end && !f.full() { // otherwise it is read from the disk in its turn
			f.get(m, at, now)
		}
	}
}

// fail ends the stream's work: nothing more can be settled. The first reason stays.
func (t *tail) fail(err error) {
	err = fmt.Errorf("%w: %w", socket.ErrStorage, err)
	t.broken.CompareAndSwap(nil, &err)
}

// failure is why nothing more can be settled; nil as long as it can.
func (t *tail) failure() error {
	if err := t.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// flush hands to the store what was decided since it was last called, in one change. It is
// called whenever the sender's mutex is about to be released.
func (t *tail) flush() {
	if t.failure() != nil {
		return
	}
	var c *spool.Change
	change := func() *spool.Change {
		if c == nil {
			c = t.store.Begin()
			t.ask(c)
		}
		return c
	}
	for _, f := range t.feeds {
		f.flush(change)
	}
	if t.flushed != nil {
		t.flushed(change)
	}
	if c == nil {
		return
	}
	if !t.urgent {
		c.Lazily()
	}
	t.urgent = false
	c.End()
}

// hungry makes the loader look.
func (t *tail) hungry() {
	select {
	case t.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// load reads the backlog into the ledgers as room comes free, until stop is closed: a
// block for each feed in turn, so that one that is far behind does not hold up the others.
// It runs on a goroutine of the sender.
func (t *tail) load(stop <-chan struct{}) {
	for {
		select {
		case <-t.wake:
		case <-stop:
			return
		}
		for more := true; more; {
			more = false
			t.owner.mu.Lock()
			feeds := slices.Clone(t.feeds)
			t.owner.mu.Unlock()
			for _, f := range feeds {
				more = f.loadDue() || more
				more = f.loadBlock() || more
			}
		}
	}
}

// close waits until what was handed to the store is on disk, and leaves the stream there.
func (t *tail) close() error {
	err := t.failure()
	if last := t.newest(); err == nil && last > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
		defer cancel()
		err = t.store.Wait(ctx, last)
	}
	t.queue.Close()
	t.dead.Close()
	return err
}
