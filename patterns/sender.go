package patterns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// guard is a mutex whose Unlock makes the calls to the user that came due while it
// was held: so no callback ever runs under a lock.
type guard struct {
	mu     sync.Mutex
	before func()        // called with the mutex held, before it is released; nil: nothing
	tell   func(Settled) // nil: nobody listens
	due    []Settled
	ended  calls // whose callers are woken once it is released

	at     time.Time // when the clock was read, see sender.moment
	read   bool      // since it was locked
	spared int       // how often at may be used again
}

func (g *guard) Lock() { g.mu.Lock() }

func (g *guard) Unlock() {
	if g.before != nil {
		g.before()
	}
	g.read = false
	if len(g.due) == 0 && g.ended.none() {
		g.mu.Unlock()
		return
	}
	due, ended := g.due, g.ended
	g.due, g.ended = nil, calls{}
	g.mu.Unlock()
	ended.wake()
	for _, s := range due {
		g.tell(s)
	}
}

// sender is what Push, Pub and Req have in common: one stream of seqs, one framer,
// one mutex, one clock.
type sender struct {
	env    Env
	kind   wire.Kind
	name   string
	stream string
	seqs   string // under which the store knows which seqs were used
	set    settings

	mu      guard
	changed socket.Event
	framer  socket.Framer
	next    uint64
	end     uint64 // seqs up to this one are reserved
	closing bool   // takes nothing new
	closed  bool
	journal *journal // of level durable; otherwise nil

	began   time.Time
	clock   sync.WaitGroup
	stop    chan struct{}
	rearm   chan struct{}
	strikes time.Time                     // when the clock goes off next; zero: not by itself
	tick    func(now time.Time) time.Time // set by the kind; locked
	release func() (lowest uint64)        // locked: the first seq not settled

	done    dones
	earlier uint64 // end of the gap that an earlier life left; 0: none
	told    bool   // a receiver has attached since, and so was told
}

func newSender(env Env, kind wire.Kind, name string, opts []Option) (*sender, *spool.SeqRange, error) {
	if err := CheckName(kind, name); err != nil {
		return nil, nil, err
	}
	set, err := resolve(env, kind, opts)
	if err != nil {
		return nil, nil, err
	}
	s := &sender{env: env, kind: kind, name: name, set: set, framer: socket.Framer{MaxMessage: env.Local.MaxMessage},
		began: time.Now(), stop: make(chan struct{}), rearm: make(chan struct{}, 1),
		stream: socket.StreamLabel(env.Local.Node, env.Local.Store, env.Local.Namespace, kind, name)}
	s.mu.tell = set.onSettled
	s.seqs = s.stream
	switch {
	case kind == wire.Push && env.Store != nil: // its queue's: neither uses a seq that the other has used
		s.seqs = queueName(kind.String(), env.Local.Namespace, name)
	case set.level == socket.Durable:
		return s, nil, nil // its seqs are the log's
	}
	r, err := env.Seqs.Resume(s.seqs)
	if err != nil {
		return nil, nil, fmt.Errorf("patterns: %v %q: %w", kind, name, err)
	}
	s.next, s.end = r.Next, r.End
	if r.Gap != nil {
		s.earlier = r.Gap.To
	}
	return s, r.Gap, nil
}

// Kind is what the socket does.
func (s *sender) Kind() socket.Kind { return s.kind }

// Name is the queue, channel or service.
func (s *sender) Name() string { return s.name }

// Stream names this socket's stream: node, store, namespace, kind and name.
func (s *sender) Stream() string { return s.stream }

func (s *sender) outboxConfig() socket.OutboxConfig {
	return socket.OutboxConfig{Local: s.env.Local, Kind: s.kind, Name: s.name, Level: s.set.level, Changed: &s.changed, Wind: s.wind, Linger: s.set.linger,
		Mode: ledger.Mode{OnNack: s.nacked, MaxDeliver: s.set.maxDeliver, Lease: s.set.lease, Backoff: s.set.backoff, MaxBackoff: s.set.maxBackoff}}
}

// reserve makes sure that the next seq may be used. s.mu must be held; once per
// 65,536 messages of a node with a state directory it waits for the disk.
func (s *sender) reserve() error {
	if s.next <= s.end {
		return nil
	}
	end := s.next + spool.ReserveBlock - 1
	if err := s.env.Seqs.Reserve(s.seqs, s.release(), end); err != nil {
		return err
	}
	s.end = end
	return nil
}

// now is time.Now in two thirds of its time: the wall clock is not read again.
func (s *sender) now() time.Time { return s.began.Add(time.Since(s.began)) }

// mostSpared is how many messages may be said to have been accepted when the one before them was.
const mostSpared = 32

// moment is about now: while s.mu is held, which it must be, or more comes up than is taken (pressed), the clock is read
// only now and then.
func (s *sender) moment(pressed bool) time.Time {
	g := &s.mu
	if g.spared--; g.spared <= 0 || !g.read && !pressed {
		g.at, g.spared = s.now(), mostSpared
	}
	g.read = true
	return g.at
}

// startClock begins the goroutine that does what time demands; stopClock ends it.
func (s *sender) startClock() {
	s.clock.Go(func() {
		t := time.NewTimer(0)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-s.rearm:
			case <-s.stop:
				return
			}
			s.mu.Lock()
			s.mu.spared = 0 // what presses may not come for long
			next := s.tick(time.Now())
			s.strikes = next
			s.framer.Trim()
			s.mu.Unlock()
			if next.IsZero() {
				t.Stop()
				continue
			}
			t.Reset(max(time.Until(next), time.Millisecond))
		}
	})
}

// wind makes sure that the clock goes off at that time or before: something new waits
// for it. s.mu must be held.
func (s *sender) wind(at time.Time) {
	if !s.strikes.IsZero() && !at.Before(s.strikes) {
		return
	}
	s.strikes = at
	select {
	case s.rearm <- struct{}{}:
	default: // it will look anyway
	}
}

func (s *sender) stopClock() {
	close(s.stop)
	s.clock.Wait()
}

// full reports whether a message of that size must wait for room behind what is
// owed.
func (s *sender) full(messages int, bytes uint64, size int) bool {
	if messages == 0 {
		return false
	}
	return messages >= s.set.queue || bytes+uint64(size) > uint64(s.set.queueBytes)
}

// await releases the lock until something changed or ctx ended, until ok holds. It
// returns ErrClosed on a closed socket. s.mu must be held.
func (s *sender) await(ctx context.Context, ok func() bool) error {
	for !ok() {
		if s.closed {
			return socket.ErrClosed
		}
		changed := s.changed.Wait()
		s.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		s.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// since is when a message's TTL or delay ends that was accepted then; never, if it has none.
func since(accepted time.Time, d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return accepted.Add(d)
}

// windFor makes the clock go off when the time of a new message has come or is over. s.mu
// must be held.
func (s *sender) windFor(it ledger.Item) {
	if !it.NotBefore.IsZero() {
		s.wind(it.NotBefore)
	}
	if !it.Expires.IsZero() {
		s.wind(it.Expires)
	}
}

// prepare checks and encodes m. It needs no lock.
func (s *sender) prepare(m *socket.Message) (socket.Prepared, error) {
	if m.Delay > 0 && (s.kind != wire.Push || s.set.level == socket.BestEffort) {
		return socket.Prepared{}, fmt.Errorf("patterns: %v %q cannot delay a message: only a Push at level memory or durable can", s.kind, s.name)
	}
	return s.framer.Prepare(m)
}

// settled notes a message's fate for the user. s.mu must be held.
func (s *sender) settled(st ledger.Settlement, sub string) {
	if st.State == ledger.Dead || st.State == ledger.Expired || st.State == ledger.Dropped {
		s.noteFate(st)
	}
	if s.mu.tell != nil {
		s.mu.due = append(s.mu.due, s.fate(st).settled(s.stream, st.Seq, sub))
	}
}

// doneAll is settled for neighbours that are done. s.mu must be held.
func (s *sender) doneAll(from, to uint64, by socket.Who, sub string) {
	for seq := from; s.mu.tell != nil && seq <= to; seq++ {
		s.settled(ledger.Settlement{Seq: seq, State: ledger.Done, By: by}, sub)
	}
}

// lost tells that seqs which were accepted are gone from the disk. s.mu must be held.
func (s *sender) lost(from, to uint64) {
	if s.set.onLoss != nil {
		s.set.onLoss(socket.Gap{Stream: s.stream, From: from, To: to, Reason: ledger.ReasonDamaged})
	}
}

// putBack returns the stream at close: seqs from lowest on were not settled. boxes are those that were finished.
func (s *sender) putBack(lowest uint64, boxes ...*socket.Outbox) error {
	s.mu.Lock()
	told := s.told || slices.ContainsFunc(boxes, (*socket.Outbox).Told) // a pipe that has ended may still be noting it
	s.mu.Unlock()
	var err error
	if told && s.earlier > 0 {
		err = s.env.Seqs.Forget(s.seqs, s.earlier)
	}
	return errors.Join(err, s.env.Seqs.Release(s.seqs, s.next, lowest))
}

// giveUp is the error of a Shutdown that could not finish.
func giveUp(n int, cause error) error {
	return fmt.Errorf("%w: %d messages: %w", socket.ErrShutdown, n, cause)
}

// closeGrace bounds how long Close waits for pipes to end in good order.
const closeGrace = time.Second
