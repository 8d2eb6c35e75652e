package patterns

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// What is decided under a sender's mutex is not known on disk before it is released, for
// that is what the store's word needs too. Tests that look at such a moment hold it.

func owedInMemory(s *Push) int {
	n, _ := s.box.Ledger().Owed()
	return n
}

func TestAMessageIsTheLedgersWhenItsGroupIsOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newKept(t, 'a', t.TempDir()).push()
		m := &socket.Message{Body: []byte("x")}
		p, err := s.framer.Prepare(m)
		if err != nil {
			t.Fatal(err)
		}
		c := s.journal.store.Begin()
		if _, err := s.journal.put(c, p, m); err != nil {
			t.Fatal(err)
		}
		s.journal.committed(c.Group()-1, nil)
		equal(t, "before it is on disk", owedInMemory(s), 0)
		c.End()
		synctest.Wait()
		equal(t, "when it is", owedInMemory(s), 1)
	})
}

func TestNothingIsConfirmedBeforeTheSettlementIsOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r := a.push(OnSettled(func(Settled) {})), b.pull()
		connect(a.node, s, b.node, r)
		send(t, s, "x")
		m := recv(t, r, "x")
		synctest.Wait()
		s.mu.Lock()
		led := s.box.Ledger()
		con := led.Consumers()[0]
		if err := led.Done(con, wire.EditionRanges{Edition: a.local.Edition, Ranges: []ranges.Range{{From: 1, To: 1}}}); err != nil {
			t.Error(err)
		}
		s.journal.tail.flush()
		equal(t, "confirmed", con.Confirmable(), 0)
		equal(t, "told", len(s.mu.due), 0)
		s.mu.Unlock()
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		equal(t, "done", balanced(t, s).Done, 1)
	})
}

func TestTheDispatchMarkCountsWhenItIsOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newKept(t, 'a', t.TempDir()).push()
		s.mu.Lock()
		led := s.box.Ledger()
		con := led.Join(socket.Who{Node: identity.ID{9}}, 1)
		number, _ := led.Attach(con)
		if _, err := led.Attached(con, wire.Attached{Number: number, Store: [16]byte{9}, Nonce: [16]byte{9}, Messages: 10, Bytes: 1 << 20}, s.now()); err != nil {
			t.Error(err)
		}
		equal(t, "wanted", led.WantsMark(), 10)
		s.journal.tail.flush()
		equal(t, "wanted while it is on its way", led.WantsMark(), 10)
		s.mu.Unlock()
		synctest.Wait()
		s.mu.Lock()
		equal(t, "wanted when it is there", led.WantsMark(), 0)
		led.Detached(con, number, true)
		s.mu.Unlock()
	})
}

func TestTheNextLifeOfASenderKnowsWhatWasDispatched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r := a.push(MaxDeliver(2)), b.pull()
		l := connect(a.node, s, b.node, r)
		send(t, s, "bad")
		m := recv(t, r, "bad")
		if err := m.Nack(errors.New("boom")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // the NACK was read, and it lies at the puller again
		a2 := a.killed()
		l.part()
		s2 := a2.push(MaxDeliver(2))
		if s2.journal.marked == 0 {
			t.Error("the dispatch mark is gone")
		}
		if !known(s2, b.local.Node) {
			t.Error("nobody is known who may hold something")
		}
		connect(a2.node, s2, b.node, r)
		m = recv(t, r, "bad")
		equal(t, "flagged", m.Redelivered(), true)
		if err := m.Nack(errors.New("boom")); err != nil {
			t.Fatal(err)
		}
		if err := s2.Flush(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		equal(t, "dead", balanced(t, s2).Dead, 1)
	})
}

func TestWhatAnEarlierLifeSentIsNobodyElsesBeforeItsHolderWasAsked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
		s, r := a.push(), b.pull()
		l := connect(a.node, s, b.node, r)
		send(t, s, "x")
		m := recv(t, r, "x")
		a2 := a.killed()
		l.part()
		s2, other := a2.push(), c.pull()
		connect(a2.node, s2, c.node, other)
		ready(t, s2, 1)
		none(t, other)
		connect(a2.node, s2, b.node, r)
		ready(t, s2, 2)
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		if err := s2.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		none(t, other)
		equal(t, "done", balanced(t, s2).Done, 1)
	})
}

func TestADeadLetterThatFindsNoRoomStaysOwed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, err := NewPush(a.env(), "x", MaxDeliver(1))
		if err != nil {
			t.Fatal(err)
		}
		r := b.pull()
		connect(a.node, s, b.node, r)
		s.journal.dead.Close() // nothing more can be appended to it
		send(t, s, "bad")
		if err := recv(t, r, "bad").Nack(errors.New("boom")); err != nil {
			t.Fatal(err)
		}
		matches(t, "Flush", s.Flush(within(t, time.Minute)), socket.ErrStorage)
		matches(t, "Close", s.Close(), socket.ErrStorage)
		equal(t, "carried", a.killed().push().Stats().Ledger.Carried, 1)
	})
}

// unreadable is a block of three records from base on, the second of which is garbled.
func unreadable(t *testing.T, s *Push, base uint64) spool.Block {
	t.Helper()
	b := spool.Block{Base: base, Last: base + 2, At: time.Now()}
	for i := range uint64(3) {
		p, err := s.framer.Prepare(&socket.Message{Body: fmt.Append(nil, base+i)})
		if err != nil {
			t.Fatal(err)
		}
		b.Data = p.Append(b.Data, i)
		if i == 1 {
			b.Data[len(b.Data)-1] ^= 1
		}
	}
	return b
}

func TestReadingGoesOnBehindWhatIsDamaged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		var lost gaps
		s := a.push(Queue(2, 1<<20), OnLoss(lost.note))
		send(t, s, counted(1, 10)...)
		synctest.Wait()
		s.mu.Lock()
		j := s.journal
		equal(t, "next to be read", j.next, 3)
		all := func(*ledger.Item) bool { return true }
		if err := j.take(unreadable(t, s, 3), nil, j.stored, all); err != nil {
			t.Error(err)
		}
		if err := j.take(spool.Block{}, &spool.DamagedError{From: 6, To: 8}, j.stored, all); err != nil {
			t.Error(err)
		}
		equal(t, "next to be read", j.next, 9)
		s.mu.Unlock()
		var g gaps
		r := b.pull(OnGap(g.note))
		connect(a.node, s, b.node, r)
		same(t, "received", takeAll(t, r, 6), []string{"1", "2", "3", "5", "9", "10"})
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		l := balanced(t, s)
		same(t, "done and damaged", fmt.Sprint(l.Done, l.Dropped["damaged"]), "6 4")
		same(t, "lost", lost.told(), []string{"4-4 damaged", "6-8 damaged"})
	})
}

// The store's committer is kept busy by groups that cannot be told of, so that what follows
// stays on its way.
func TestASendThatIsCutShortWhileTheDiskIsBusyHasAnUnknownOutcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newKept(t, 'a', t.TempDir())
		s := a.push()
		busy := make(chan struct{})
		for range 10 {
			c := a.store.Begin()
			c.Put("k", []byte("v"))
			c.Then(func(error) { <-busy })
			c.End()
			synctest.Wait()
		}
		err := s.Send(within(t, time.Second), []byte("x"))
		matches(t, "Send", err, socket.ErrUnknown)
		close(busy)
		if err := s.Send(long(t), []byte("y")); err != nil {
			t.Fatal(err)
		}
	})
}

// known reports whether p remembers that a node may have messages.
func known(p *Push, id identity.ID) bool {
	_, ok := p.journal.holders[id]
	return ok
}
