package spool

import (
	"context"
	"time"
)

// Group numbers the transactions of one open store, from 1, in the order in which they reach the
// disk. Badger syncs once per transaction, so everything that is asked for while one transaction
// is on its way is gathered in the next: that is one Group.
type Group uint64

// group is what one transaction will hold. Guarded by Store.change until the committer takes it.
type group struct {
	number Group
	size   int               // bytes of records
	fresh  []*block          // to be written
	queues []*Queue          // whose record changed
	marked []*block          // whose settlements changed
	small  map[string][]byte // sealed small records; nil: deleted
	head   *headChange       // of the store record
	entry  markEntry         // for the mark, once taken
	large  bool              // better written to a segment
	stays  bool              // better written to Badger directly
	then   []func(error)
	kicked bool // the committer knows of it
	full   bool // the committer knows that it is large enough to be written early
	waited bool // somebody waits for it, though it may be empty
	later  bool // it has changes that need not reach the disk at once

	taken chan struct{} // closed when the committer takes it
	done  chan struct{} // closed after err is set
	err   error
}

type headChange struct {
	id          [16]byte
	incarnation uint64
}

func newGroup(number Group) *group {
	return &group{number: number, small: make(map[string][]byte), taken: make(chan struct{}), done: make(chan struct{})}
}

// changes says whether there is something to write.
func (g *group) changes() bool {
	return len(g.fresh)+len(g.queues)+len(g.marked)+len(g.small) > 0 || g.head != nil
}

// op is one write of a transaction. A nil value deletes.
type op struct {
	key, value []byte
	of         *block // whose value it is, or was
	kept       bool   // deletes what lies in a segment
}

// Change is one change of a store: several operations that reach the disk in one transaction,
// whole or not at all, whatever queues they touch. It is used by one goroutine.
type Change struct {
	s    *Store
	g    *group        // nil: the store is closed
	late []func(error) // Thens that come after Close
	lazy bool

	granted int64 // bytes that Fits promised
}

// Begin opens a change. It waits for the change of somebody else to End, which takes microseconds,
// and never for the disk. Until End the caller holds the store's change lock: no I/O, no waiting,
// and never two changes at a time in one goroutine.
//
// On a closed store the operations do nothing and every Then hears ErrClosed.
func (s *Store) Begin() *Change {
	s.change.Lock()
	if s.ended {
		return &Change{s: s}
	}
	return &Change{s: s, g: s.open}
}

// Group returns the number of the group in which this change will be; 0 on a closed store.
func (c *Change) Group() Group {
	if c.g == nil {
		return 0
	}
	return c.g.number
}

// Then has f called once it is known that this change is on disk (nil) or that it will never be
// known to be. A goroutine of the store calls, in the order of groups and of calls, beside the next
// write; f must not block for long, and may call Begin.
func (c *Change) Then(f func(err error)) {
	if c.g == nil {
		c.late = append(c.late, f)
		return
	}
	c.g.then = append(c.g.then, f)
}

// Lazily says that nobody waits for this change: it reaches the disk with what comes next, or
// after lazyAfter. Who Waits for its group ends that.
func (c *Change) Lazily() { c.lazy = true }

// lazyAfter bounds how long a lazy change is held back. Whoever sends one message after the
// other would wait for the sync of what became of the one before otherwise.
const lazyAfter = time.Millisecond

// End closes the change and leaves the rest to the committer. It does not wait for the disk.
func (c *Change) End() {
	s := c.s
	kick := c.g != nil && !c.g.kicked && !c.lazy
	switch g := c.g; {
	case kick:
		g.kicked = true
	case c.lazy && g != nil && !g.kicked && !g.later:
		g.later = true
		time.AfterFunc(lazyAfter, func() { s.urge(g) })
	}
	full := c.g != nil && !c.g.full && c.g.size >= s.profile.early
	if full {
		c.g.full = true
	}
	s.change.Unlock()
	if full {
		select {
		case s.full <- struct{}{}:
		default:
		}
	}
	if c.g == nil {
		for _, f := range c.late {
			f(ErrClosed)
		}
		return
	}
	if kick {
		s.kick()
	}
}

// urge ends the waiting of a group that was lazy.
func (s *Store) urge(g *group) {
	s.change.Lock()
	defer s.change.Unlock()
	if s.open == g && !g.kicked {
		g.kicked = true
		s.kick()
	}
}

// lazy reports whether the open group may wait. s.change must be held.
func (s *Store) lazy() bool {
	g := s.open
	return g.later && !g.kicked && !g.waited && !s.looking && !s.ended
}

// kick tells the committer that there may be something to do.
func (s *Store) kick() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// Wait blocks until group g is on disk; nil then. It returns ErrFailed if that will never be
// known, ErrClosed if the store was closed before, and the cause of ctx if that ends first:
// then nothing is known of the group yet.
func (s *Store) Wait(ctx context.Context, g Group) error {
	s.change.Lock()
	done, err := s.outcome(g)
	s.change.Unlock()
	if done == nil {
		return err
	}
	select {
	case <-done.done:
		return done.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// outcome returns the group to wait for, or without one what became of it. s.change must be held.
func (s *Store) outcome(g Group) (*group, error) {
	switch {
	case g == 0:
		return nil, ErrClosed
	case g == s.open.number:
		s.open.waited = true
		s.kick()
		return s.open, nil
	case g > s.committed && len(s.flying) > 0 && g >= s.flying[0].number:
		return s.flying[g-s.flying[0].number], nil
	case g > s.committed: // failed; or never a group of this store
		if err := s.failure(); err != nil {
			return nil, err
		}
		return nil, ErrClosed
	}
	return nil, nil
}

// Ready blocks while the group being filled is as large as it should get, so that senders are
// slowed down to the speed of the disk. It returns nil, ErrFailed, ErrClosed, or the cause of ctx.
// It promises nothing: others may fill the group meanwhile, and Append never waits.
func (s *Store) Ready(ctx context.Context) error {
	c, err := s.Join(ctx)
	if err == nil {
		c.s.change.Unlock() // nothing was changed
	}
	return err
}

// Busy reports whether Ready would block. Like that it promises nothing.
func (s *Store) Busy() bool {
	s.change.Lock()
	defer s.change.Unlock()
	return s.open.size >= s.profile.group
}

// Join is Ready and Begin in one: a change of a group that has room. Without an error the caller
// must End it.
func (s *Store) Join(ctx context.Context) (*Change, error) {
	for {
		if err := s.writable(); err != nil {
			return nil, err
		}
		c := s.Begin()
		if c.g == nil || c.g.size < s.profile.group {
			return c, nil
		}
		s.change.Unlock()
		select {
		case <-c.g.taken:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// commitSmall makes one change of small records durable and then lets apply bring memory up to
// date, under s.mu. s.writing must be held.
func (s *Store) commitSmall(change func(c *Change), apply func()) error {
	if err := s.writable(); err != nil {
		return err
	}
	c := s.Begin()
	change(c)
	g := c.Group()
	c.End()
	if err := s.Wait(context.Background(), g); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if apply != nil {
		apply()
	}
	return nil
}

// set writes a sealed small record.
func (c *Change) set(key, value []byte) {
	if c.g != nil {
		c.g.small[string(key)] = value
	}
}
