package patterns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// sendAfter sends a message with a delay.
func sendAfter(t testing.TB, p *Push, body string, delay time.Duration) uint64 {
	t.Helper()
	seq, err := p.SendMessage(long(t), &socket.Message{Body: []byte(body), Delay: delay})
	if err != nil {
		t.Fatalf("Send of %q: %v", body, err)
	}
	return seq
}

// day is more fake time than long.
func day(t testing.TB) context.Context { return within(t, 24*time.Hour) }

// atLevels runs a test at levels memory and durable with one puller.
func atLevels(t *testing.T, opts []Option, f func(t *testing.T, s *Push, r *Pull)) {
	t.Run("memory", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s, rs, _ := line(t, 1, opts, nil)
			f(t, s, rs[0])
		})
	})
	t.Run("durable", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
			s, r := a.push(opts...), b.pull()
			connect(a.node, s, b.node, r)
			ready(t, s, 1)
			f(t, s, r)
		})
	})
}

// arrives takes the next message, which must have that body and come that long after since.
// Clocks go off at whole milliseconds at best.
func arrives(t *testing.T, r receives, body string, since time.Time, want time.Duration) *socket.Message {
	t.Helper()
	m, err := r.Recv(day(t))
	if err != nil {
		t.Fatalf("Recv: %v, want %q", err, body)
	}
	if d := time.Since(since); string(m.Body) != body || d < want || d > want+50*time.Millisecond {
		t.Fatalf("%q came after %v, want %q after %v", m.Body, d, body, want)
	}
	return m
}

func TestADelayedMessageWaitsForItsTimeAndHoldsUpNobody(t *testing.T) {
	atLevels(t, nil, func(t *testing.T, s *Push, r *Pull) {
		began := time.Now()
		sendAfter(t, s, "late", time.Hour)
		sendAfter(t, s, "soon", 90*time.Second)
		send(t, s, "now")
		m := arrives(t, r, "now", began, 0)
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		l := balanced(t, s)
		equal(t, "queued", l.Queued, 2)
		equal(t, "delayed", s.Stats().Delayed, 2)
		equal(t, "done", l.Done, 1)
		for _, want := range []struct {
			body  string
			after time.Duration
		}{{"soon", 90 * time.Second}, {"late", time.Hour}} {
			m := arrives(t, r, want.body, began, want.after)
			if m.Redelivered() || m.Attempt() != 1 || m.Delay != 0 || m.Age() < want.after {
				t.Errorf("%q is flagged %v, attempt %d, delay %v, age %v", want.body, m.Redelivered(), m.Attempt(), m.Delay, m.Age())
			}
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(day(t)); err != nil {
			t.Fatal(err)
		}
		equal(t, "done", balanced(t, s).Done, 3)
	})
}

func TestFlushWaitsForWhatIsDelayed(t *testing.T) {
	atLevels(t, nil, func(t *testing.T, s *Push, r *Pull) {
		sendAfter(t, s, "late", 10*time.Second)
		matches(t, "Flush", s.Flush(within(t, 9*time.Second)), context.DeadlineExceeded)
		acked(t, r, "late")
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestATTLRunsDuringTheDelay(t *testing.T) {
	var told fates
	atLevels(t, []Option{OnSettled(told.note)}, func(t *testing.T, s *Push, r *Pull) {
		told.all = nil
		for _, ttl := range []time.Duration{5 * time.Second, 10 * time.Second, 11 * time.Second} {
			if _, err := s.SendMessage(long(t), &socket.Message{Body: []byte("x"), Delay: 10 * time.Second, TTL: ttl}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(6 * time.Second)
		same(t, "fates after 6 s", told.told(), []string{"1 expired"})
		acked(t, r, "x")
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		same(t, "fates", told.told(), []string{"1 expired", "2 expired", "3 done"})
	})
}

func TestMessagesOfAKeyPassADelayedOneAndOneIsInHandAtATime(t *testing.T) {
	atLevels(t, nil, func(t *testing.T, s *Push, r *Pull) {
		began := time.Now()
		for _, m := range []*socket.Message{{Body: []byte("1"), Delay: 10 * time.Second}, {Body: []byte("2")}, {Body: []byte("3")}, {Body: []byte("4")}} {
			m.Key = "k"
			if _, err := s.SendMessage(long(t), m); err != nil {
				t.Fatal(err)
			}
		}
		acked(t, r, "2")
		three := arrives(t, r, "3", began, 0)
		none(t, r)
		time.Sleep(20 * time.Second) // 1 is due and 3 in hand
		none(t, r)
		if err := three.Ack(); err != nil {
			t.Fatal(err)
		}
		acked(t, r, "1", "4")
	})
}

func TestADelayedMessageOfATransactionWaitsToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r := a.push(), b.pull()
		connect(a.node, s, b.node, r)
		ready(t, s, 1)
		began := time.Now()
		err := a.txs().Run(long(t), func(tx *Tx) error {
			return tx.Send(s, &socket.Message{Body: []byte("x"), Delay: time.Minute})
		})
		if err != nil {
			t.Fatal(err)
		}
		arrives(t, r, "x", began, time.Minute)
	})
}

func TestOnlyAPushAboveBestEffortDelays(t *testing.T) {
	n := newNode(t, 'a')
	late := &socket.Message{Topic: "a", Delay: time.Second}
	_, err := n.push(Durability(socket.BestEffort)).SendMessage(long(t), late)
	_, perr := n.pub().PublishMessage(long(t), late)
	_, qerr := n.req().RequestMessage(long(t), late)
	for what, err := range map[string]error{"best effort": err, "pub": perr, "req": qerr} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte("cannot delay")) {
			t.Errorf("%s: %v, want an error that says so", what, err)
		}
	}
	p := n.push()
	for _, d := range []time.Duration{-time.Second, time.Microsecond, socket.MaxDelay + 1} {
		if _, err := p.SendMessage(long(t), &socket.Message{Delay: d}); err == nil {
			t.Errorf("a delay of %v is accepted", d)
		}
	}
	if _, err := p.SendMessage(long(t), &socket.Message{Delay: socket.MaxDelay}); err != nil {
		t.Error(err)
	}
}

func TestADelayOutlivesItsSenderAndCountsOnMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s := a.push()
		began := time.Now()
		sendAfter(t, s, "late", time.Hour)
		sendAfter(t, s, "over", 10*time.Minute)
		send(t, s, "1", "2")
		r := b.pull()
		l := connect(a.node, s, b.node, r)
		acked(t, r, "1", "2") // so that the dispatch mark passes the others
		time.Sleep(time.Second)
		equal(t, "done", balanced(t, s).Done, 2)
		l.part()
		time.Sleep(20*time.Minute - time.Since(began))
		a2 := a.killed()
		s2 := a2.push()
		equal(t, "carried", balanced(t, s2).Queued, 2)
		connect(a2.node, s2, b.node, r)
		if m := arrives(t, r, "over", began, 20*time.Minute); m.Redelivered() || m.Ack() != nil {
			t.Errorf("%q is flagged %v", m.Body, m.Redelivered())
		}
		none(t, r)
		if m := arrives(t, r, "late", began, time.Hour); m.Redelivered() || m.Ack() != nil {
			t.Errorf("%q is flagged %v", m.Body, m.Redelivered())
		}
		if err := s2.Flush(day(t)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestADelayedMessageThatMayHaveBeenBegunIsFlaggedByTheNextLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newKept(t, 'a', t.TempDir())
		b, c := newNode(t, 'b'), newNode(t, 'c')
		s := a.push()
		r := b.pull()
		connect(a.node, s, b, r)
		ready(t, s, 1)
		sendAfter(t, s, "due", time.Second)
		sendAfter(t, s, "late", time.Hour)
		recv(t, r, "due") // and never answered
		a2 := a.killed()
		s2 := a2.push()
		r2 := c.pull()
		connect(a2.node, s2, c, r2)
		same(t, "received", takeAll(t, r2, 2), []string{"due!", "late"})
	})
}

// The clock of a bubble begins at the same time in each: for the next life it was set back.
func TestAClockThatWasSetBackDelaysByTheWholeDelayAtMost(t *testing.T) {
	dir := t.TempDir()
	for life := range 2 {
		bubble(t, func(t *testing.T) {
			a, b := newKept(t, 'a', dir), newNode(t, 'b')
			s := a.push()
			if life == 0 {
				time.Sleep(time.Hour)
				sendAfter(t, s, "late", 5*time.Minute)
				return
			}
			began := time.Now()
			r := b.pull()
			connect(a.node, s, b, r)
			if m := arrives(t, r, "late", began, 5*time.Minute); m.Redelivered() {
				t.Error("flagged, and nobody can have had it")
			}
		})
	}
}

// What came due and was dispatched before the clock was set back is in doubt, and waits again.
func TestAClockThatWasSetBackDoesNotHideThatAMessageWasDispatched(t *testing.T) {
	dir := t.TempDir()
	for life := range 2 {
		bubble(t, func(t *testing.T) {
			a, b := newKept(t, 'a', dir), newNode(t, 'b')
			s := a.push()
			r := b.pull()
			connect(a.node, s, b, r)
			if life == 0 {
				time.Sleep(time.Hour)
				sendAfter(t, s, "late", 5*time.Minute)
				if m, err := r.Recv(day(t)); err != nil || string(m.Body) != "late" {
					t.Fatal(m, err)
				}
				return
			}
			began := time.Now()
			if m := arrives(t, r, "late", began, 5*time.Minute); !m.Redelivered() {
				t.Error("not flagged, although it was begun before")
			}
		})
	}
}

// The ledger holds 50 messages at a time: delayed ones must not be among them.
func TestABacklogWithManyDelayedMessagesFlows(t *testing.T) {
	const n, every = 4000, 4 // of which each fourth is not delayed
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s := a.push(Queue(50, 1<<20))
		began := time.Now()
		var last *Receipt
		for i := range n {
			m := &socket.Message{Body: fmt.Append(nil, i)}
			if i%every != 0 {
				m.Delay = 10*time.Minute + time.Duration(i%100)*time.Second
			}
			r, err := s.Post(long(t), m)
			if err != nil {
				t.Fatal(err)
			}
			last = r
		}
		if err := last.Stored(long(t)); err != nil {
			t.Fatal(err)
		}
		for life := range 2 {
			s, a := s, a
			if life == 1 {
				a = a.killed()
				s = a.push(Queue(50, 1<<20))
			}
			r := b.pull()
			l := connect(a.node, s, b, r)
			if life == 0 {
				for i := 0; i < n; i += every {
					acked(t, r, fmt.Sprint(i))
				}
				none(t, r)
				if d := time.Since(began); d > time.Minute {
					t.Errorf("what is not delayed came after %v", d)
				}
				s.mu.Lock()
				messages, bytes := s.journal.inMemory()
				s.mu.Unlock()
				equal(t, "messages in memory", messages, 0)
				equal(t, "bytes in memory", bytes, 0)
				equal(t, "queued", balanced(t, s).Queued, n-n/every)
				l.part()
				continue
			}
			var got []int
			for range n - n/every {
				m, err := r.Recv(day(t))
				if err != nil {
					t.Fatal(err)
				}
				var i int
				if _, err := fmt.Sscan(string(m.Body), &i); err != nil {
					t.Fatal(err)
				}
				if early := 10*time.Minute + time.Duration(i%100)*time.Second - time.Since(began); early > 0 || m.Redelivered() {
					t.Fatalf("%d came %v too early, flagged %v", i, early, m.Redelivered())
				}
				got = append(got, i)
				if err := m.Ack(); err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(got)
			if got = slices.Compact(got); len(got) != n-n/every {
				t.Errorf("%d different messages came, want %d", len(got), n-n/every)
			}
			if err := s.Flush(day(t)); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d > 15*time.Minute {
				t.Errorf("the last one came after %v", d)
			}
		}
	})
}

func TestAShutdownLeavesWhatIsDelayedOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.push(), b.pull()
		connect(a.node, s, b, r)
		ready(t, s, 1)
		sendAfter(t, s, "late", time.Hour)
		began := time.Now()
		if err := s.Shutdown(day(t)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > time.Minute {
			t.Errorf("Shutdown took %v", d)
		}
		equal(t, "queued", balanced(t, a.push()).Queued, 1)
	})
}

func TestTooManyDelayedMessagesAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newKept(t, 'a', t.TempDir())
		s := a.push()
		sendAfter(t, s, "late", time.Hour)
		synctest.Wait()
		s.journal.delays.coming.Store(maxDelayed - 1)
		equal(t, "delayed", s.Stats().Delayed, 1)
		_, err := s.SendMessage(long(t), &socket.Message{Delay: time.Hour})
		matches(t, "Send", err, socket.ErrQueueFull)
		_, _, err = s.PostWith(long(t), &socket.Message{Delay: time.Hour}, func(*spool.Change) {})
		matches(t, "PostWith", err, socket.ErrQueueFull)
		matches(t, "Run", a.txs().Run(long(t), func(tx *Tx) error { return tx.Send(s, &socket.Message{Delay: time.Hour}) }), socket.ErrQueueFull)
		send(t, s, "now") // what has no delay is not concerned
		s.journal.delays.coming.Store(0)
		sendAfter(t, s, "again", time.Hour)
	})
}

func TestADelayedMessageThatTheDiskHasLostIsTold(t *testing.T) {
	for name, err := range map[string]error{"damaged": &spool.DamagedError{From: 1, To: 2}, "gone": nil} {
		bubble(t, func(t *testing.T) {
			var told fates
			var lost gaps
			a := newKept(t, 'a', t.TempDir())
			s := a.push(OnSettled(told.note), OnLoss(lost.note))
			for range 2 {
				sendAfter(t, s, "late", time.Hour)
			}
			synctest.Wait()
			s.mu.Lock()
			s.journal.box.Tick(time.Now().Add(2 * time.Hour))
			if err := s.journal.fetch(spool.Block{Base: 1, Last: 2}, err); err != nil {
				t.Error(err)
			}
			s.mu.Unlock()
			if err := s.Flush(long(t)); err != nil {
				t.Fatal(err)
			}
			same(t, name, told.told(), []string{"1 dropped damaged", "2 dropped damaged"})
			same(t, name, lost.told(), []string{"1-2 damaged"})
			balanced(t, s)
		})
	}
}

func TestADeadLetterHasNoDelayLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.push(MaxDeliver(1)), b.pull()
		connect(a.node, s, b, r)
		sendAfter(t, s, "bad", time.Second)
		if err := recv(t, r, "bad").Nack(errors.New("boom")); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		q, _ := s.Backlog(true)
		block, err := q.Read(1)
		if err != nil {
			t.Fatal(err)
		}
		m, err := unframe(block.Data)
		if err != nil || m.Delay != 0 || string(m.Body) != "bad" {
			t.Errorf("the dead letter is %+v, %v", m, err)
		}
	})
}

func FuzzDueMark(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(dueMark{1, 2}.append(nil))
	f.Add([]byte("torn"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := parseDueMark(b)
		if again := m.append(nil); !bytes.Equal(again, b) && m != (dueMark{math.MaxInt64, math.MaxUint64}) && len(b) > 0 {
			t.Errorf("% x is read as %+v, which is written as % x", b, m, again)
		}
	})
}

func TestTheOrderOfDuesIsByTimeAndThenBySeq(t *testing.T) {
	at := time.Unix(1e9, 0)
	rising := []dueMark{{}, dueOf(at, 9, 0), dueOf(at, 1, time.Second), dueOf(at, 2, time.Second), dueOf(at.Add(time.Second), 3, time.Second),
		dueOf(at, 1, socket.MaxDelay), dueOf(at, 2, math.MaxInt64), parseDueMark([]byte("unreadable"))}
	for i := range rising[1:] {
		if rising[i].compare(rising[i+1]) >= 0 || rising[i+1].compare(rising[i]) <= 0 {
			t.Errorf("%+v does not stand before %+v", rising[i], rising[i+1])
		}
	}
	r := wire.Record{Delay: time.Hour}
	same(t, "due", dueOf(at, 5, r.Delay), dueMark{at.Add(time.Hour).UnixNano(), 5})
}
