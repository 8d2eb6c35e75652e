package socket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ranges"
	"peermesh/internal/ticks"
	"peermesh/internal/wire"
)

// row is a DATA frame of n messages that are told apart by seq and body alone. The body is the seq.
func row(first uint64, n int) []byte {
	recs := make([]wire.Record, n)
	for i := range recs {
		recs[i] = wire.Record{Delta: uint64(i), Body: fmt.Append(nil, first+uint64(i))}
	}
	return dataOf(wire.Run{Base: first, Attempt: 1}, recs...)
}

// takes receives the messages from..to of rows, in order.
func takes(t testing.TB, b *Inbox, from, to uint64) (ms []*Message) {
	t.Helper()
	for seq := from; seq <= to; seq++ {
		m := recv(t, b, fmt.Sprint(seq))
		equal(t, "seq", m.Seq(), seq)
		ms = append(ms, m)
	}
	return ms
}

// fullHand sends a row of 200 and takes the first so many, until there is more in the hand.
func fullHand(t testing.TB, b *Inbox, f *far) []*Message {
	t.Helper()
	f.say(row(1, 200))
	synctest.Wait()
	ms := takes(t, b, 1, 33)
	if n := len(b.inHand()); n < 20 {
		t.Fatalf("%d in the hand", n)
	}
	return ms
}

func TestMessagesInARowAreOneEntryUntilTheyAreBegun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Sub)
		s := newSource('s', wire.Pub)
		f, _ := s.attach(t, b)
		body := func(i int) []byte { return fmt.Append(nil, i) }
		var recs []wire.Record
		for i := 1; i <= 100; i++ {
			r := wire.Record{Delta: uint64(i), Body: body(i), Topic: []byte("a")}
			switch {
			case i == 41:
				r.TTL = time.Hour
			case i == 42:
				r.Headers = wire.AppendHeaders(nil, []wire.Header{{Key: "k", Value: "v"}})
			case i == 43:
				r.Key = []byte("k")
			case i > 43 && i <= 60:
				r.Topic = nil
			}
			recs = append(recs, r)
		}
		f.say(dataOf(wire.Run{Base: 0, Attempt: 3, Redelivered: true}, recs...))
		synctest.Wait()
		equal(t, "entries", len(b.queue.s), 6) // 1..40, three alone, 44..60, 61..100
		equal(t, "queued", b.Stats().Queued, 100)
		for i := 1; i <= 100; i++ {
			m := recv(t, b, string(body(i)))
			topic := "a"
			if i > 43 && i <= 60 {
				topic = ""
			}
			same(t, "message", []any{m.Seq(), m.Topic, m.Attempt(), m.Redelivered(), m.TTL > 0, len(m.Headers), m.Key != "", m.From(), cap(m.Body) == len(m.Body)},
				[]any{i, topic, 3, true, i == 41, map[bool]int{i == 42: 1}[true], i == 43, s.Node, true})
			ack(t, m)
		}
		same(t, "done", told(t, f.hear(), wire.TypeDone, 0), seqsOf(1, 100))
		st := b.Stats()
		same(t, "counts", []any{st.Delivered, st.Done, st.Redelivered, st.Queued, st.Begun}, []any{100, 100, 100, 0, 0})
	})
}

func seqsOf(from, to uint64) (out []uint64) {
	for ; from <= to; from++ {
		out = append(out, from)
	}
	return out
}

func TestOfARowOnlyWhatIsNotHereIsTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(row(10, 5))
		synctest.Wait()
		ms := takes(t, b, 10, 12) // 13 and 14 stay
		ack(t, ms[0])
		f.say(row(8, 10))
		takes(t, b, 13, 14)
		takes(t, b, 8, 9)
		takes(t, b, 15, 17)
		none(t, b)
		equal(t, "duplicates", b.Stats().Duplicates, 5)
	})
}

func TestARowEndsAtAHole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		var recs []wire.Record
		for _, seq := range []uint64{1, 2, 3, 5, 6, 8, 11, 12} {
			recs = append(recs, wire.Record{Delta: seq, Body: fmt.Append(nil, seq)})
		}
		f.say(dataOf(wire.Run{Attempt: 1}, recs...))
		takes(t, b, 1, 3)
		takes(t, b, 5, 6)
		takes(t, b, 8, 8)
		takes(t, b, 11, 12)
	})
}

func TestARowEndsAtWhatIsAboveTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.Local.MaxMessage = 3 })
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(row(998, 4))
		takes(t, b, 998, 999)
		none(t, b)
		refused := told(t, f.hear(), wire.TypeNack, wire.NackHandler)
		slices.Sort(refused)
		same(t, "given back", refused, seqsOf(1000, 1001))
	})
}

func TestAcksOfARowAtLevelDurableWaitForTheDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b := keeper(t, disk)
		f, _ := durable('s').attach(t, b)
		fullHand(t, b, f)
		ms := takes(t, b, 34, 63)
		f.hear()
		disk.hold()
		ack(t, ms...)
		b.mu.Lock()
		b.kickAll()
		b.mu.Unlock()
		same(t, "done before it is on disk", told(t, f.hear(), wire.TypeDone, 0), []uint64(nil))
		disk.release(nil)
		same(t, "done when it is", told(t, f.hear(), wire.TypeDone, 0), seqsOf(34, 63))
	})
}

func TestWhatIsInTheHandIsNotBegunWhenTheDiskHasFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b := keeper(t, disk)
		f, _ := durable('s').attach(t, b)
		ms := fullHand(t, b, f)
		disk.hold()
		ack(t, ms[0])
		disk.release(errors.New("no space left"))
		synctest.Wait()
		if m, err := b.Recv(wait(t)); !errors.Is(err, ErrStorage) {
			t.Errorf("Recv: %+v, %v, want %v", m, err, ErrStorage)
		}
	})
}

// besideSave has the first of a row saved, and what follows in its slab acked while the disk does not answer.
func besideSave(t testing.TB, b *Inbox, f *far, disk *shelf) []*Message {
	t.Helper()
	fullHand(t, b, f)
	ms := takes(t, b, 34, 63)
	disk.hold()
	ack(t, ms[:20]...)
	if ms[20].slab.acks.Load()&slabOpen == 0 {
		t.Error("an ack beside a save needs the lock")
	}
	return ms
}

func TestAcksWithoutTheLockAtLevelDurableAreSavedNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{notes: map[string][]byte{}}
		b, s := keeper(t, disk), durable('s')
		f, _ := s.attach(t, b)
		ms := besideSave(t, b, f, disk)
		f.hear()
		disk.release(nil)
		same(t, "done", told(t, f.hear(), wire.TypeDone, 0), seqsOf(34, 53))
		equal(t, "open, and nothing is saved", ms[20].slab.acks.Load()&slabOpen, 0)
		f.cut()
		_, a := s.attach(t, keeper(t, &shelf{notes: disk.all()}))
		same(t, "done in the next life", fmt.Sprint(a.Done), fmt.Sprintf("[{%d [{34 53}]}]", s.Edition))
	})
}

func TestAnAckWithoutTheLockIsRefusedWhenTheDiskHasFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{notes: map[string][]byte{}}
		b := keeper(t, disk)
		f, _ := durable('s').attach(t, b)
		ms := besideSave(t, b, f, disk)
		f.hear()
		disk.release(errors.New("no space left"))
		if err := ms[20].Ack(); !errors.Is(err, ErrStorage) {
			t.Errorf("Ack: %v, want %v", err, ErrStorage)
		}
		same(t, "done", told(t, f.hear(), wire.TypeDone, 0), []uint64(nil))
	})
}

func TestATransactionKnowsOfAcksWithoutTheLock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{notes: map[string][]byte{}}
		b := keeper(t, disk)
		f, _ := durable('s').attach(t, b)
		ms := besideSave(t, b, f, disk)
		var a Acks
		if err := a.Add(ms[19], b.cfg.Local.Store); err != nil {
			t.Fatal(err)
		}
		if err := a.Lock(); !errors.Is(err, ErrAnswered) {
			t.Errorf("Lock: %v, want %v", err, ErrAnswered)
			a.Unlock()
		}
		disk.release(nil)
	})
}

func TestAWindowOfFewBytesHasNoOpenSlab(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.PrefetchBytes = 1 }) // as much as a record takes
		f, _ := newSource('s', wire.Push).attach(t, b)
		recs := make([]wire.Record, 64)
		for i := range recs {
			recs[i] = wire.Record{Delta: uint64(i), Body: zeros[:3000]}
		}
		f.say(dataOf(wire.Run{Base: 1, Attempt: 1}, recs...))
		for range 64 {
			m, err := b.Recv(wait(t))
			if err != nil {
				t.Fatal(err)
			}
			ack(t, m)
			if s := m.slab; s != nil && s.bytes > minPrefetchBytes/8 {
				equal(t, "open", s.acks.Load()&slabOpen, 0)
			}
		}
	})
}

func TestWhatIsInTheHandIsNotBegun(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(b *Inbox, f *far)
		told wire.NackReason // 0: nobody is told
	}{
		{"Pause", func(b *Inbox, _ *far) { b.Pause() }, wire.NackReturned},
		{"REVOKE", func(_ *Inbox, f *far) {
			f.say(wire.AppendRevoke(nil, []ranges.Range{{From: 34, To: 200}}))
		}, 0},
		{"LetGo", func(b *Inbox, _ *far) { b.LetGo(func(identity.ID) bool { return true }) }, wire.NackReturned},
		{"Drain", func(b *Inbox, _ *far) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = b.Drain(ctx)
		}, wire.NackReturned},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newInbox(t, wire.Pull)
				f, _ := newSource('s', wire.Push).attach(t, b)
				ms := fullHand(t, b, f)
				f.hear()
				c.do(b, f)
				fs := f.hear()
				if c.told != 0 {
					same(t, "given back", told(t, fs, wire.TypeNack, c.told), seqsOf(34, 200))
				}
				st := b.Stats()
				same(t, "counts", []any{st.Delivered, st.Queued, st.Begun}, []any{33, 0, 33})
				if m := b.take(); m != nil {
					t.Errorf("message %d was begun", m.Seq())
				}
				ack(t, ms...)
				same(t, "done", told(t, f.hear(), wire.TypeDone, 0), seqsOf(1, 33))
			})
		})
	}
}

func TestWhatIsInTheHandIsNotBegunAfterItsLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		fullHand(t, b, f)
		time.Sleep(BeginWithin + time.Millisecond) // no RENEW is answered
		none(t, b)
		equal(t, "queued", b.Stats().Queued, 167)
		f.cut()
		st := b.Stats()
		same(t, "counts", []any{st.Delivered, st.Queued, st.Begun}, []any{33, 0, 33})
	})
}

// A process that was stopped goes on where it was: the first it does may be to begin what lies in the hand.
func TestNothingInTheHandIsBegunWhenTheLeaseIsOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		fullHand(t, b, f)
		b.mu.Lock()
		s, now := b.hand.Load(), b.clock()
		equal(t, "the lease is over as soon as that of the stream", s.until, s.in.until)
		s.until, s.in.until = now-1, now-1
		b.mu.Unlock()
		none(t, b)
		equal(t, "begun", b.Stats().Begun, 33)
	})
}

func TestTheClockOfTheHandIsReadAgainWhenItIsDated(t *testing.T) {
	dated := func(s *slab) bool {
		for range 1000 { // the test may stand still, too
			if s.at = ticks.Count(); !s.dated() {
				return false
			}
		}
		return true
	}
	equal(t, "dated just now", dated(&slab{timed: true}), false)
	equal(t, "dated where ticks do not count", dated(&slab{}), true)
	for name, at := range map[string]uint64{"a while ago": ticks.Count() - freshTicks - 1, "by a counter that began anew": ticks.Count() + 1<<40} {
		equal(t, name, (&slab{timed: true, at: at}).dated(), true)
	}
	bubble(t, func(t *testing.T) { equal(t, "ticks count in a bubble", newInbox(t, wire.Pull).timed, false) })
}

func TestWhoTakesHisTimeFindsNothingInTheHand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		fullHand(t, b, f)
		takes(t, b, 34, 63)
		equal(t, "in the hand", len(b.inHand()), 0)
		for seq := uint64(64); seq < 70; seq++ {
			time.Sleep(handTime + 1)
			takes(t, b, seq, seq)
			equal(t, "in the hand", len(b.inHand()), 0)
		}
	})
}

func TestASmallWindowHasNoHand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.Prefetch = 15 })
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(row(1, 15))
		for seq := uint64(1); seq <= 15; seq++ {
			ack(t, takes(t, b, seq, seq)...)
			equal(t, "in the hand", len(b.inHand()), 0)
		}
	})
}

func TestTheFirstAnswerCountsHoweverItIsNoted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		takes(t, b, 1, uint64(len(fullHand(t, b, f))-33))
		ms := takes(t, b, 34, 63)
		f.hear()
		ack(t, ms[0], ms[1]) // the first opens the slab, or finds it so
		if ms[2].slab.acks.Load()&slabOpen == 0 {
			t.Fatal("acks take the lock")
		}
		ack(t, ms[2])
		if err := ms[2].Nack(errors.New("too late")); err != nil {
			t.Fatal(err)
		}
		if err := ms[3].Nack(errors.New("bad")); err != nil {
			t.Fatal(err)
		}
		ack(t, ms[4], ms[3], ms[2], ms[4])
		equal(t, "held", ms[4].Held(), false)
		equal(t, "held", ms[5].Held(), true)
		fs := f.hear()
		same(t, "done", told(t, fs, wire.TypeDone, 0), []uint64{34, 35, 36, 38})
		same(t, "failed", told(t, fs, wire.TypeNack, wire.NackHandler), []uint64{37})
		st := b.Stats()
		same(t, "counts", []any{st.Done, st.Nacked, st.Begun}, []any{4, 1, 33 + 30 - 5})
	})
}

func TestASlabIsOpenFromTheStartWhereAFillIsDue(t *testing.T) {
	for _, c := range []struct {
		name         string
		durable, due bool
		open         bool
	}{{"due", false, true, true}, {"not due", false, false, false}, {"due, durable", true, true, false}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b, s := newInbox(t, wire.Pull), newSource('s', wire.Push)
				if c.durable {
					b, s = keeper(t, &shelf{}), durable('s')
				}
				f, _ := s.attach(t, b)
				fullHand(t, b, f)
				takes(t, b, 34, 63)
				f.hear()
				if c.due {
					b.mu.Lock()
					for e := range b.pipes {
						e.pipe.nudge(nudgeDelay)
					}
					b.mu.Unlock()
				}
				ms := takes(t, b, 64, 70)
				equal(t, "open", ms[0].slab.acks.Load()&slabOpen != 0, c.open)
				ack(t, ms...)
				same(t, "done", told(t, f.hear(), wire.TypeDone, 0), seqsOf(64, 70))
			})
		})
	}
}

func TestAcksAreToldSoonThoughOneOfTheirSlabIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		fullHand(t, b, f)
		ms := takes(t, b, 34, 63)
		f.hear()
		ack(t, ms[1:]...)
		same(t, "done", told(t, f.hear(), wire.TypeDone, 0), seqsOf(35, 63))
		ack(t, ms[0])
		same(t, "done", told(t, f.hear(), wire.TypeDone, 0), []uint64{34})
	})
}

func TestAcksWithoutTheLockAreInTheNextAttached(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		fullHand(t, b, f)
		ms := takes(t, b, 34, 63)
		f.hear()
		ack(t, ms[:10]...) // nothing has filled the pipe since
		_, a := s.attach(t, b)
		same(t, "done", a.Done, []wire.EditionRanges{{Edition: s.Edition, Ranges: []ranges.Range{{From: 34, To: 43}}}})
		ack(t, ms[10:20]...)
		_, a = s.attach(t, b)
		same(t, "done", a.Done, []wire.EditionRanges{{Edition: s.Edition, Ranges: []ranges.Range{{From: 34, To: 53}}}})
	})
}

func TestAnAckThatCloseDoesNotTellIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		fullHand(t, b, f)
		ms := takes(t, b, 34, 63)
		f.hear()
		ack(t, ms[:10]...)
		go b.Close()
		same(t, "done", told(t, f.hear(), wire.TypeDone, 0), seqsOf(34, 43))
		for _, m := range ms[10:] {
			if err := m.Ack(); !errors.Is(err, ErrClosed) {
				t.Fatalf("Ack of %d after Close: %v", m.Seq(), err)
			}
		}
		if err := ms[0].Ack(); err != nil {
			t.Errorf("the second Ack of what was acked before Close: %v", err)
		}
		equal(t, "done", b.Stats().Done, 10)
	})
}

func TestABatchIsAckedAsARow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(row(1, 200))
		synctest.Wait()
		ms := make([]*Message, 150)
		n, err := b.RecvBatch(wait(t), ms, 1<<20)
		if n != 150 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		if err := AckAll(ms); err != nil {
			t.Fatal(err)
		}
		if err := AckAll(ms[100:]); err != nil {
			t.Fatal(err)
		}
		same(t, "done", told(t, f.hear(), wire.TypeDone, 0), seqsOf(1, 150))
		st := b.Stats()
		same(t, "counts", []any{st.Done, st.Queued, st.Begun}, []any{150, 50, 0})
	})
}

// Many receivers, acks, failures and looks from outside at once: each message is answered once, and all is accounted for.
func TestAFloodIsAnsweredOnceByManyAtATime(t *testing.T) {
	const n = 30_000
	b := newInbox(t, wire.Pull)
	f := newFlood(t, b, 20)
	f.say(n)
	var mu sync.Mutex
	seen := ranges.Set{}
	ctx, all := context.WithCancel(context.Background())
	defer all()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				m, err := b.Recv(ctx)
				if err != nil {
					return
				}
				switch seq := m.Seq(); {
				case seq%1000 == 7:
					_ = m.Nack(errors.New("bad"))
				case seq%500 == 3:
					_ = b.Stats()
					fallthrough
				default:
					_ = m.Ack()
				}
				if i == 0 {
					_ = m.Nack(errors.New("too late"))
					_ = m.Ack()
				}
				mu.Lock()
				if seen.Contains(m.Seq()) {
					t.Errorf("message %d came twice", m.Seq())
				}
				seen.Add(m.Seq(), m.Seq())
				if seen.Count() == n {
					all()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	st := b.Stats()
	same(t, "counts", []any{st.Delivered, st.Done, st.Nacked, st.Queued, st.Begun}, []any{n, n - n/1000, n / 1000, 0, 0})
}

func TestHandlersAnswerAFlood(t *testing.T) {
	const n = 20_000
	var failed, done sync.Map
	b := newInbox(t, wire.Pull)
	f := newFlood(t, b, 20)
	f.say(n)
	ctx, all := context.WithCancel(context.Background())
	defer all()
	var left atomic.Int64
	left.Store(n)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			_ = b.Handle(ctx, 0, func(_ context.Context, m *Message) error { // ends with ctx
				if left.Add(-1) == 0 {
					all()
				}
				if m.Seq()%1000 == 7 {
					failed.Store(m.Seq(), true)
					return errors.New("bad")
				}
				if _, again := done.LoadOrStore(m.Seq(), true); again {
					t.Errorf("message %d came twice", m.Seq())
				}
				return nil
			})
		})
	}
	wg.Wait()
	st := b.Stats()
	same(t, "counts", []any{st.Delivered, st.Done, st.Nacked, st.Queued, st.Begun}, []any{n, n - n/1000, n / 1000, 0, 0})
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.streams {
		equal(t, "handlers left", s.tasks == nil, true)
	}
}

// What the receiver's side allocates: the Messages, which are their receiver's for good, dozens at a time; the arenas, which
// their bodies lie in; and what goes with each frame. The clock stands still while anything is done: on a machine that is
// busy with something else messages are begun late, and one at a time.
func TestAMessageInARowAllocatesNothingOfItsOwn(t *testing.T) {
	const n = 50_000
	for who, take := range map[string]func(t *testing.T, b *Inbox) (next func()){
		"Recv": func(t *testing.T, b *Inbox) func() {
			return func() {
				for range n {
					m, err := b.Recv(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					if err := m.Ack(); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
		"Handle": func(t *testing.T, b *Inbox) func() {
			ctx, stop := context.WithCancel(context.Background())
			ended, left, all := make(chan error, 1), n, make(chan struct{})
			t.Cleanup(func() {
				stop()
				<-ended
			})
			go func() {
				ended <- b.Handle(ctx, 0, func(context.Context, *Message) error {
					if left--; left == 0 {
						left = n
						all <- struct{}{}
					}
					return nil
				})
			}()
			return func() { <-all }
		},
	} {
		t.Run(who, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newInbox(t, wire.Pull)
				f := newFlood(t, b, 100)
				next := take(t, b)
				if per := testing.AllocsPerRun(3, func() { f.say(n); next() }) / n; per > 0.1 {
					t.Errorf("%.3f allocations for each message, want 0.1 at most", per)
				}
			})
		})
	}
}

func TestNoHandlerIsBegunInAContextThatHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(row(1, 100))
		synctest.Wait()
		enough := errors.New("enough")
		for _, fails := range []error{nil, errors.New("failed")} {
			ctx, stop := context.WithCancelCause(wait(t))
			begun := 0
			err := b.Handle(ctx, 0, func(context.Context, *Message) error {
				if begun++; begun == 5 {
					stop(enough)
				}
				return fails
			})
			if !errors.Is(err, enough) || begun != 5 {
				t.Errorf("%d were begun, and Handle returns %v", begun, err)
			}
			if err := b.Handle(ctx, 0, func(context.Context, *Message) error { return errors.New("begun") }); !errors.Is(err, enough) {
				t.Errorf("begun anew it returns %v", err)
			}
		}
		equal(t, "begun", b.Stats().Delivered, 10)
	})
}
