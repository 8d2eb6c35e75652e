package spool

import (
	"errors"
	"runtime"
	"slices"
	"time"
)

// untold bounds the groups on disk whose Thens are not called yet; at it the committer waits.
const untold = 4

// tellGroups calls the Thens: one goroutine, which ends after the committer.
func (s *Store) tellGroups() {
	for g := range s.landing {
		for _, f := range g.then {
			f(g.err)
		}
	}
}

// commitGroups is the committer: one goroutine, from Open to Close.
func (s *Store) commitGroups() {
	defer close(s.landing)
	idle, sweep := time.NewTimer(settleAfter), time.NewTimer(s.rests())
	defer idle.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-s.work:
			for more := true; more; {
				more = s.commitNext()
				s.handOver(false)
			}
			idle.Reset(settleAfter)
			sweep.Reset(s.rests())
		case <-sweep.C:
			s.change.Lock()
			s.sweepIfDue(true)
			s.change.Unlock()
			s.handOver(true)
		case <-idle.C:
			s.settleMark()
		}
		s.change.Lock()
		ended := s.ended
		s.change.Unlock()
		if ended {
			s.lastGroup()
			return
		}
	}
}

// rests is how long the store is idle before it is swept.
func (s *Store) rests() time.Duration {
	s.change.Lock()
	defer s.change.Unlock()
	return s.profile.idle
}

// lastGroup commits what was begun before the store ended, and releases who waits for more.
func (s *Store) lastGroup() {
	for s.commitNext() {
	}
	s.settleMark()
	s.endLog()
	s.change.Lock()
	last := s.open // nobody can change it any more
	s.change.Unlock()
	last.err = ErrClosed
	close(last.taken)
	close(last.done)
}

// handOver has Badger take over from the log: before a sweep, and when the log has grown and the store
// is idle.
func (s *Store) handOver(idle bool) {
	s.change.Lock()
	over := s.sweep.over
	s.sweep.over = false
	emptied := s.sweep.emptied
	s.change.Unlock()
	if s.failure() != nil || !over && !idle {
		return
	}
	s.land()
	var err error
	switch {
	case over && (idle || emptied), idle && s.ahead.grown():
		err = s.ahead.rest()
	case over:
		err = s.ahead.turn(false)
	}
	if err != nil {
		s.fail(err)
	}
}

// endLog has Badger take over, and ends the log. What a failed store has in it stays for the next Open.
func (s *Store) endLog() {
	err := s.failure()
	if err == nil {
		err = s.ahead.flush()
	}
	s.ahead.settle()
	if cerr := s.ahead.end(err == nil); cerr != nil {
		s.fail(cerr)
	}
}

// settleAfter is how long the store must be idle before the mark makes its last group certain.
const settleAfter = 50 * time.Millisecond

func (s *Store) settleMark() {
	if s.failure() != nil {
		return
	}
	if err := s.mark.settle(); err != nil {
		s.fail(err)
	}
}

// commitNext commits what has been gathered. It reports whether there was something. While the disk is
// busy with a large group, the next one is written as soon as it is full.
func (s *Store) commitNext() bool {
	s.landOrFill()
	g, ops, head := s.take()
	if g == nil {
		return s.land()
	}
	w := writing{g: g, head: head, began: time.Now()}
	apart := false
	if w.err = s.failure(); w.err == nil && len(ops)+len(g.fresh) > 0 {
		apart = s.writeGroup(&w, ops)
	}
	s.land()
	if !apart {
		s.finish(&w)
		runtime.Gosched() // those that waited may join the next group
		return true
	}
	landed := make(chan struct{})
	s.flight = landed
	s.owned.Go(func() {
		s.finish(&w)
		close(landed)
	})
	return true
}

// writing is a group on its way to the disk.
type writing struct {
	g       *group
	head    storeRecord
	began   time.Time
	durable func() error // nil: there is nothing to write
	err     error
}

// land waits for the group that is on its way apart. It reports whether there was one.
func (s *Store) land() bool {
	if s.flight == nil {
		return false
	}
	<-s.flight
	s.flight = nil
	return true
}

// landOrFill waits for the group that is on its way, or until the next one is full.
func (s *Store) landOrFill() {
	for s.flight != nil {
		s.change.Lock()
		full := s.open.size >= s.profile.early
		s.change.Unlock()
		if full {
			return
		}
		select {
		case <-s.flight:
			s.flight = nil
		case <-s.full:
		}
	}
}

// finish makes a group durable and says so.
func (s *Store) finish(w *writing) {
	g := w.g
	if w.err == nil {
		w.err = s.failure() // of the group before: nothing is said of this one, and no sync is tried again
	}
	if w.err == nil && w.durable != nil {
		w.err = s.syncGroup(w)
		s.syncs.add(time.Since(w.began))
	}
	if w.err == nil {
		s.mu.Lock()
		s.head = w.head // before it counts as committed: who waits for it only then looks at it at once
		s.mu.Unlock()
	}
	s.change.Lock()
	s.flying = slices.Delete(s.flying, 0, 1)
	if w.err == nil {
		s.committed = g.number
		s.landed(g)
		s.sweepIfDue(false)
	}
	looking := s.looking
	s.looking = false
	s.change.Unlock()
	if looking {
		s.room.look()
	}
	g.err = w.err
	close(g.done)
	if len(g.then) > 0 {
		s.landing <- g
	}
}

// take closes the group being filled, opens the next, and returns what is to be written. Blocks
// are not among the ops yet: their bytes are worked on without the lock.
func (s *Store) take() (*group, []op, storeRecord) {
	s.change.Lock()
	defer s.change.Unlock()
	g := s.open
	if s.lazy() {
		return nil, nil, storeRecord{}
	}
	if !g.changes() && !g.waited && len(g.then) == 0 && len(s.dead) == 0 && !s.looking {
		g.kicked = false // whoever puts something into it has to tell
		return nil, nil, storeRecord{}
	}
	s.open = newGroup(g.number + 1)
	s.flying = append(s.flying, g)
	close(g.taken)
	if !g.changes() && len(s.dead) == 0 {
		return g, nil, s.next
	}
	return g, s.collect(g), s.next
}

// collect turns a group into writes and brings the store record up to date with them.
// s.change must be held.
func (s *Store) collect(g *group) (ops []op) {
	set := func(key string, value []byte) {
		if s.account(key, value) {
			ops = append(ops, op{key: []byte(key), value: value})
		}
	}
	wall := s.now()
	fresh := g.fresh[:0]
	for _, b := range g.fresh {
		b.q.fill, b.q.lastSize = nil, b.size
		if b.gone {
			continue
		}
		b.written = true
		b.at = wall
		s.pace.wrote(b)
		fresh = append(fresh, b)
		for part := range b.parts {
			s.next.blocks++
			s.next.digest += uint64(keySum(b.key(part)))
		}
	}
	g.fresh = fresh
	g.large = g.size >= s.profile.large
	g.stays = g.large && s.key != nil && s.pace.stays
	for _, b := range g.marked {
		b.dirty = false
		set(string(settleKey(b.q.rec.id, b.base)), b.sealSettled())
	}
	g.entry.queues = make(map[uint64]markedQueue, len(g.queues))
	for _, q := range g.queues {
		q.dirty = false
		known := markedQueue{trim: q.rec.trim, next: q.rec.next}
		if !q.marked {
			known.name, q.marked = q.name, true
		}
		g.entry.queues[q.rec.id] = known
		set(string(queueKey(q.name)), q.rec.seal(q.name))
	}
	for key, value := range g.small {
		set(key, value)
	}
	for _, o := range s.buried() {
		s.next.blocks--
		s.next.digest -= uint64(keySum(o.key))
		ops = append(ops, o)
	}
	if len(s.dead) == 0 {
		s.deletedIn(g.number)
	}
	if g.head != nil {
		s.next.id, s.next.incarnation = g.head.id, g.head.incarnation
	}
	s.next.commits++
	s.next.wall = wall.UnixNano()
	g.entry.id, g.entry.incarnation = s.next.id, s.next.incarnation
	g.entry.possible, g.entry.certain = s.next.commits, s.next.commits-1
	return append(ops, op{key: storeKey(), value: s.next.seal()})
}

// account keeps the books of small records: it reports whether the write changes anything.
// s.change must be held.
func (s *Store) account(key string, value []byte) bool {
	old, stored := s.sums[key]
	if value == nil {
		if !stored {
			return false
		}
		delete(s.sums, key)
		s.next.records--
		s.next.digest -= uint64(old)
		return true
	}
	sum := sumOf(value)
	if !stored {
		s.next.records++
	}
	s.sums[key] = sum
	s.next.digest += uint64(sum) - uint64(old)
	return true
}

// writeGroup writes a group to the log, if it goes there. It reports whether the next one may be
// written before this one is durable.
func (s *Store) writeGroup(w *writing, ops []op) (apart bool) {
	fresh := s.mark.file == nil // in the first group after damage
	for _, b := range w.g.fresh {
		ops = append(ops, b.seal()...)
	}
	w.durable, apart, w.err = s.ahead.write(w.g, ops, fresh)
	if w.err != nil {
		s.fail(w.err)
		w.err = s.failure()
	}
	return apart && !fresh
}

// syncGroup brings a group to the disk, and what the mark says of it at the same time. After an
// error nobody knows what is there: the store is read-only until a new Open has looked.
func (s *Store) syncGroup(w *writing) error {
	marked := make(chan error, 1)
	fresh := s.mark.file == nil
	if fresh {
		marked <- nil
	} else {
		s.owned.Go(func() { marked <- s.mark.write(w.g.entry) })
	}
	err := errors.Join(w.durable(), <-marked)
	if fresh && err == nil {
		err = s.mark.begin(s.markNow(), 0)
	}
	if err != nil {
		s.fail(err)
	}
	// Some failures of Badger's arrive by its log alone.
	return s.failure()
}

// landed marks as committed what a group brought. s.change must be held.
func (s *Store) landed(g *group) {
	for _, b := range g.fresh {
		b.committed = true
		if b.gone || b.seg != nil {
			b.buf = nil
		}
	}
}
