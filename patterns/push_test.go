package patterns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/socket"
)

// line is a push and n pulls, joined.
func line(t testing.TB, n int, push, pull []Option) (*Push, []*Pull, []*link) {
	a := newNode(t, 'a')
	s := a.push(push...)
	var rs []*Pull
	var ls []*link
	for i := range n {
		b := newNode(t, byte('b'+i))
		r := b.pull(pull...)
		rs = append(rs, r)
		ls = append(ls, connect(a, s, b, r))
		ready(t, s, i+1) // in this order it is their turn
	}
	return s, rs, ls
}

func TestThreePullersShareTheWorkFairly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 3, nil, nil)
		const total = 300
		for i := range total {
			send(t, s, fmt.Sprint(i))
		}
		synctest.Wait()
		for i, r := range rs {
			equal(t, fmt.Sprintf("queued at puller %d", i), r.Stats().Queued, total/3)
		}
	})
}

func TestASlowPullerGetsNoMoreThanItHasRoomFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 2, nil, []Option{Prefetch(5)})
		for i := range 100 {
			send(t, s, fmt.Sprint(i))
		}
		n := 0
		for range 90 {
			m, err := rs[0].Recv(within(t, time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			m.Ack()
			n++
		}
		synctest.Wait()
		st := rs[1].Stats()
		equal(t, "in hand at the slow one", st.Queued+st.Begun, 5)
		l := balanced(t, s)
		equal(t, "done", l.Done, uint64(n))
		equal(t, "leased", l.Leased, 10)
	})
}

func TestMessagesOfAKeyKeepTheirOrderAndTheirPuller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 3, nil, nil)
		var mu sync.Mutex
		at := map[string]int{}
		last := map[string]int{}
		running := map[string]bool{}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i, r := range rs {
			wg.Go(func() {
				r.Handle(ctx, 4, func(_ context.Context, m *socket.Message) error {
					mu.Lock()
					var n int
					fmt.Sscan(string(m.Body), &n)
					if running[m.Key] {
						t.Errorf("two messages of key %q at a time", m.Key)
					}
					if n <= last[m.Key] {
						t.Errorf("key %q: %d after %d", m.Key, n, last[m.Key])
					}
					if old, known := at[m.Key]; known && old != i {
						t.Errorf("key %q went from puller %d to %d", m.Key, old, i)
					}
					running[m.Key], last[m.Key], at[m.Key] = true, n, i
					mu.Unlock()
					time.Sleep(time.Duration(n%7) * time.Millisecond)
					mu.Lock()
					running[m.Key] = false
					mu.Unlock()
					return nil
				})
			})
		}
		for n := 1; n <= 300; n++ {
			if _, err := s.SendMessage(long(t), &socket.Message{Key: fmt.Sprint("k", n%10), Body: fmt.Append(nil, n)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		stop()
		wg.Wait()
		equal(t, "keys", len(at), 10)
	})
}

func TestAMessageLivesNoLongerThanItsTTL(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told fates
		var holes gaps
		a, b := newNode(t, 'a'), newNode(t, 'b')
		s := a.push(OnSettled(told.note))
		r := b.pull(OnGap(holes.note))
		post := func(body string, ttl time.Duration) {
			if _, err := s.SendMessage(long(t), &socket.Message{Body: []byte(body), TTL: ttl}); err != nil {
				t.Fatal(err)
			}
		}
		post("a", time.Second)
		post("b", 0)
		time.Sleep(time.Second)
		synctest.Wait()
		same(t, "fates before anyone is there", told.told(), "[1 expired]")
		connect(a, s, b, r)
		ready(t, s, 1)
		post("c", time.Second)
		post("d", 3*time.Second)
		synctest.Wait()
		time.Sleep(time.Second) // "c" lies at the puller, which has not begun it
		acked(t, r, "b", "d")
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		all := told.told()
		slices.Sort(all)
		same(t, "fates", all, "[1 expired 2 done 3 expired 4 done]")
		l := balanced(t, s)
		equal(t, "expired", l.Expired, 2)
		send(t, s, "e")
		acked(t, r, "e")
		same(t, "gaps", holes.told(), "[3-3 expired]") // the first one was never this puller's business
	})
}

func TestBlockWaitsForRoomAndEndsWithItsContextOrTheSocket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		s := a.push(Queue(3, 1<<20))
		r := b.pull()
		send(t, s, "a", "b", "c")
		began := time.Now()
		matches(t, "Send of one too many", s.Send(within(t, time.Second), []byte("d")), context.DeadlineExceeded)
		equal(t, "waited", time.Since(began), time.Second)
		equal(t, "accepted", balanced(t, s).Accepted, 3)
		sent := make(chan error, 1)
		go func() { sent <- s.Send(long(t), []byte("e")) }()
		synctest.Wait()
		if len(sent) > 0 {
			t.Fatal("it did not wait")
		}
		connect(a, s, b, r)
		ready(t, s, 1)
		acked(t, r, "a")
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		acked(t, r, "b", "c")
		m := recv(t, r, "e")
		equal(t, "seq: what was not accepted used up none", m.Seq(), 4)
		send(t, s, "f", "g")
		go func() { sent <- s.Send(long(t), []byte("h")) }()
		synctest.Wait()
		s.Close()
		matches(t, "Send that waited at Close", <-sent, net.ErrClosed)
	})
}

func TestTheBoundInBytesHoldsButForTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newNode(t, 'a').push(Queue(100, 1000), OnOverflow(Refuse))
		send(t, s, string(make([]byte, 5000)))
		matches(t, "Send behind it", s.Send(long(t), nil), socket.ErrQueueFull)
		s = newNode(t, 'b').push(Queue(100, 1000), OnOverflow(Refuse))
		n := 0
		for s.Send(long(t), make([]byte, 84)) == nil {
			n++
		}
		equal(t, "messages of about 100 bytes in 1000", n, 10)
	})
}

func TestRefuseUsesUpNoSeq(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told fates
		a, b := newNode(t, 'a'), newNode(t, 'b')
		s := a.push(Queue(2, 1<<20), OnOverflow(Refuse), OnSettled(told.note))
		send(t, s, "a", "b")
		for range 5 {
			matches(t, "Send to a full queue", s.Send(long(t), []byte("x")), socket.ErrQueueFull)
			_, err := s.Post(long(t), &socket.Message{})
			matches(t, "Post to a full queue", err, socket.ErrQueueFull)
		}
		r := b.pull()
		connect(a, s, b, r)
		acked(t, r, "a", "b")
		s.Flush(long(t))
		send(t, s, "c")
		equal(t, "seq", recv(t, r, "c").Seq(), 3)
		l := balanced(t, s)
		equal(t, "accepted", l.Accepted, 3)
		same(t, "fates", told.told(), "[1 done 2 done]")
	})
}

func TestDropOldestAndDropNewestAreCountedAndStatedAsGaps(t *testing.T) {
	for policy, c := range map[Overflow]struct {
		kept  []string
		fates string
		gaps  string
	}{
		DropOldest: {[]string{"d", "e"}, "[1 dropped overflow 2 dropped overflow 3 dropped overflow]", "[1-3 dropped]"},
		DropNewest: {[]string{"a", "b"}, "[3 dropped overflow 4 dropped overflow 5 dropped overflow]", "[3-5 dropped]"},
	} {
		t.Run(policy.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var told fates
				var holes gaps
				a, b := newNode(t, 'a'), newNode(t, 'b')
				s := a.push(Queue(2, 1<<20), OnOverflow(policy), OnSettled(told.note))
				r := b.pull(OnGap(holes.note), Prefetch(1))
				l := connect(a, s, b, r)
				ready(t, s, 1)
				l.part() // known, and so it is told of every hole
				for _, body := range []string{"a", "b", "c", "d", "e"} {
					if seq, err := s.SendMessage(long(t), &socket.Message{Body: []byte(body)}); err != nil || seq != uint64(body[0]-'a'+1) {
						t.Fatalf("%s: seq %d, %v", body, seq, err)
					}
				}
				same(t, "fates", told.told(), c.fates)
				got := balanced(t, s)
				equal(t, "accepted", got.Accepted, 5)
				equal(t, "dropped", got.Dropped["overflow"], 3)
				equal(t, "queued", got.Queued, 2)
				l.heal()
				acked(t, r, c.kept...)
				synctest.Wait()
				same(t, "gaps", holes.told(), c.gaps)
				equal(t, "gaps counted", r.Stats().Gaps, 3)
			})
		})
	}
}

func TestWhatIsInHandIsNotDropped(t *testing.T) {
	for _, policy := range []Overflow{DropOldest, DropNewest} {
		bubble(t, func(t *testing.T) {
			s, rs, _ := line(t, 1, []Option{Queue(2, 1<<20), OnOverflow(policy)}, nil)
			send(t, s, "a", "b")
			synctest.Wait()
			send(t, s, "c", "d")
			l := balanced(t, s)
			equal(t, "dropped", l.Dropped["overflow"], 2)
			equal(t, "leased", l.Leased, 2)
			acked(t, rs[0], "a", "b")
			s.Flush(long(t))
			send(t, s, "e")
			acked(t, rs[0], "e")
		})
	}
}

func TestAPullerThatClosesWithWorkInHandHasItRedeliveredFlagged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, ls := line(t, 2, nil, nil)
		send(t, s, "a", "b", "c", "d")
		synctest.Wait()
		begun := recv(t, rs[0], "a") // "c" stays queued there
		if err := rs[0].Close(); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for range 4 {
			m, err := rs[1].Recv(long(t))
			if err != nil {
				t.Fatal(err)
			}
			got[string(m.Body)] = fmt.Sprint("flagged ", m.Redelivered())
			m.Ack()
		}
		delete(got, "c") // may have been sent there once more before it left
		same(t, "delivered elsewhere", got, "map[a:flagged true b:flagged false d:flagged false]")
		matches(t, "Ack of the one in hand", begun.Ack(), net.ErrClosed)
		ls[0].inOrder()
		balanced(t, s)
	})
}

func TestAPullerThatIsGoneForLongerThanALeaseHasItsWorkDoneElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, ls := line(t, 2, nil, nil)
		send(t, s, "a", "b")
		first := recv(t, rs[0], "a")
		acked(t, rs[1], "b")
		began := time.Now()
		ls[0].part()
		m := recv(t, rs[1], "a")
		if d := time.Since(began); d < socket.DefaultLease-socket.RenewEvery || d > socket.DefaultLease+2*socket.RenewEvery {
			t.Errorf("leased elsewhere after %v", d)
		}
		if !m.Redelivered() || m.Attempt() != 2 {
			t.Errorf("attempt %d, flagged %v", m.Attempt(), m.Redelivered())
		}
		m.Ack()
		if err := first.Ack(); err != nil { // it worked all the time
			t.Fatal(err)
		}
		ls[0].heal()
		ready(t, s, 2)
		synctest.Wait()
		l := balanced(t, s)
		equal(t, "done", l.Done, 2)
		none(t, rs[0])
		none(t, rs[1])
	})
}

func TestAFailedMessageComesAgainAfterABackOffUntilItIsDead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told fates
		var holes gaps
		var back []string
		a, b := newNode(t, 'a'), newNode(t, 'b')
		s := a.push(MaxDeliver(4), OnSettled(told.note))
		r := b.pull(OnGap(holes.note), OnNack(func(m *socket.Message) { back = append(back, string(m.Body)) }))
		connect(a, s, b, r)
		receipt, err := s.Post(long(t), &socket.Message{Body: []byte("bad")})
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, "good")
		var after []time.Duration
		var attempts []uint64
		last := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- r.Handle(ctx, 1, func(_ context.Context, m *socket.Message) error {
				if string(m.Body) == "good" {
					return nil
				}
				after = append(after, time.Since(last).Round(10*time.Millisecond))
				last = time.Now()
				attempts = append(attempts, m.Attempt())
				if m.Redelivered() != (m.Attempt() > 1) {
					t.Errorf("attempt %d: flagged %v", m.Attempt(), m.Redelivered())
				}
				return errors.New("no luck")
			})
		}()
		fate, err := receipt.Wait(long(t))
		if err != nil || fate.State != "dead" || fate.Text != "no luck" || fate.By != b.local.Node.String() || fate.Stream != s.Stream() {
			t.Errorf("fate %+v, %v", fate, err)
		}
		stop()
		matches(t, "Handle", <-done, context.Canceled)
		same(t, "attempts", attempts, "[1 2 3 4]")
		same(t, "after", after, "[0s 100ms 200ms 400ms]")
		same(t, "fates", told.told(), "[2 done 1 dead]")
		same(t, "back", back, "[bad bad bad bad]")
		send(t, s, "next")
		acked(t, r, "next")
		same(t, "gaps", holes.told(), "[1-1 dead]")
		equal(t, "dead", balanced(t, s).Dead, 1)
	})
}

func TestTheReceiverMayChooseTheDelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, nil, nil)
		send(t, s, "a")
		began := time.Now()
		if err := recv(t, rs[0], "a").NackAfter(errors.New("later"), 7*time.Second); err != nil {
			t.Fatal(err)
		}
		acked(t, rs[0], "a")
		if d := time.Since(began).Round(10 * time.Millisecond); d != 7*time.Second {
			t.Errorf("it came again after %v", d)
		}
	})
}

// Each cut may take the answer along, and the next pipe brings it again.
func TestAFailureCountsOnceHoweverOftenThePipeIsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, ls := line(t, 1, []Option{MaxDeliver(2)}, nil)
		send(t, s, "a")
		recv(t, rs[0], "a").Nack(errors.New("no luck"))
		for range 3 {
			synctest.Wait()
			ls[0].cut()
			time.Sleep(redial + 10*time.Millisecond)
		}
		m := recv(t, rs[0], "a")
		time.Sleep(5 * time.Second)
		m.Ack()
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		l := balanced(t, s)
		equal(t, "done", l.Done, 1)
		equal(t, "dead", l.Dead, 0)
	})
}

func TestAReleasedMessageGoesElsewhereFirstAndFlaggedAndUsesNothingUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, ls := line(t, 2, []Option{MaxDeliver(1)}, []Option{Prefetch(1)})
		rs[1].Pause()
		synctest.Wait()
		send(t, s, "a", "b")
		for range 5 {
			if err := recv(t, rs[0], "a").Release(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			ls[0].cut()
			time.Sleep(redial + 10*time.Millisecond)
		}
		m := recv(t, rs[0], "a")
		rs[0].Pause()
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		rs[1].Resume()
		m = recv(t, rs[1], "a")
		equal(t, "redelivered", m.Redelivered(), true)
		equal(t, "attempt", m.Attempt(), 7)
		m.Ack()
		m = recv(t, rs[1], "b")
		equal(t, "b was never begun: redelivered", m.Redelivered(), false)
		m.Ack()
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		l := balanced(t, s)
		equal(t, "done", l.Done, 2)
		equal(t, "dead", l.Dead, 0)
		equal(t, "released", rs[0].Stats().Released, 6)
	})
}

func TestAHandlerThatTakesTooLongGivesItsMessageBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, []Option{MaxDeliver(2)}, []Option{HandlerTimeout(time.Second)})
		send(t, s, "a")
		var causes []error
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			rs[0].Handle(ctx, 1, func(ctx context.Context, m *socket.Message) error {
				<-ctx.Done()
				causes = append(causes, context.Cause(ctx))
				return nil // too late
			})
		})
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		stop()
		wg.Wait()
		equal(t, "tries", len(causes), 2)
		for _, err := range causes {
			matches(t, "the handler's context", err, socket.ErrHandlerTimeout)
		}
		equal(t, "dead", balanced(t, s).Dead, 1)
	})
}

func TestAReceiptTellsTheFateOfItsMessageAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, nil, nil)
		var receipts []*Receipt
		for i := range 3 {
			r, err := s.Post(long(t), &socket.Message{Body: fmt.Append(nil, i)})
			if err != nil {
				t.Fatal(err)
			}
			if r.Seq != uint64(i+1) || r.Stream != s.Stream() {
				t.Errorf("receipt %+v", r)
			}
			receipts = append(receipts, r)
		}
		m := recv(t, rs[0], "0")
		acked(t, rs[0], "1")
		<-receipts[1].Done()
		_, err := receipts[0].Wait(within(t, time.Second))
		matches(t, "Wait for one that is not settled", err, context.DeadlineExceeded)
		m.Ack()
		for i, r := range receipts[:2] {
			fate, err := r.Wait(long(t))
			if err != nil || fate.State != "done" || fate.Seq != uint64(i+1) {
				t.Errorf("fate %+v, %v", fate, err)
			}
		}
		s.Close()
		fate, err := receipts[2].Wait(long(t))
		if err != nil || fate.State != "dropped" || fate.Reason != "shutdown" {
			t.Errorf("fate %+v, %v", fate, err)
		}
		equal(t, "receipts kept", len(s.receipts.pages)+len(s.receipts.alone), 0)
	})
}

func TestReceiptsOfDroppedAndExpiredMessagesAreSettledToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newNode(t, 'a').push(Queue(1, 1<<20), OnOverflow(DropNewest))
		kept, _ := s.Post(long(t), &socket.Message{TTL: time.Second})
		dropped, err := s.Post(long(t), &socket.Message{})
		if err != nil {
			t.Fatal(err)
		}
		fate, _ := dropped.Wait(long(t))
		same(t, "dropped", fate.State+" "+fate.Reason, "dropped overflow")
		fate, _ = kept.Wait(long(t))
		same(t, "expired", fate.State, "expired")
	})
}

func TestBestEffortCountsWhatItHanded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told fates
		a, b := newNode(t, 'a'), newNode(t, 'b')
		s := a.push(Durability(socket.BestEffort), Queue(2, 1<<20), OnOverflow(DropOldest), OnSettled(told.note))
		r := b.pull(Prefetch(1))
		send(t, s, "a", "b", "c")
		if _, err := s.SendMessage(long(t), &socket.Message{Body: []byte("d"), TTL: time.Second}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		l := balanced(t, s)
		same(t, "before anyone is there", fmt.Sprint(l.Dropped, l.Expired, l.Handed), "map[overflow:2] 1 0")
		connect(a, s, b, r)
		ready(t, s, 1)
		receipt, err := s.Post(long(t), &socket.Message{Body: []byte("e")})
		if err != nil {
			t.Fatal(err)
		}
		acked(t, r, "c")
		fate, _ := receipt.Wait(long(t))
		equal(t, "fate", fate.State, "handed")
		m := recv(t, r, "e")
		if m.Redelivered() {
			t.Error("flagged")
		}
		m.Nack(errors.New("nobody hears this"))
		none(t, r)
		l = balanced(t, s)
		same(t, "at the end", fmt.Sprint(l.Accepted, l.Queued, l.Leased, l.Done, l.Dropped, l.Expired, l.Handed), "3 0 0 0 map[overflow:2] 1 2")
		same(t, "fates", told.told(), "[1 dropped overflow 2 dropped overflow 4 expired 3 handed 5 handed]")
	})
}

func TestTheBestEffortLedgerIsInBalanceWhileAPipeIsStuck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, _, _ := line(t, 1, []Option{Durability(socket.BestEffort), Queue(4, 1<<30)}, []Option{Prefetch(100), PrefetchBytes(16 << 20)})
		ctx := within(t, time.Minute)
		for s.Send(ctx, make([]byte, 200<<10)) == nil { // until the queue is full and the pipe too
			balanced(t, s)
		}
		l := balanced(t, s)
		if l.Handed == 0 {
			t.Errorf("ledger %+v", l)
		}
	})
}

func TestFlushWaitsUntilNothingIsOwed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, nil, nil)
		if err := s.Flush(long(t)); err != nil {
			t.Errorf("Flush with nothing owed: %v", err)
		}
		send(t, s, "a")
		m := recv(t, rs[0], "a")
		matches(t, "Flush with a message in hand", s.Flush(within(t, time.Second)), context.DeadlineExceeded)
		flushed := make(chan error, 1)
		go func() { flushed <- s.Flush(long(t)) }()
		synctest.Wait()
		m.Ack()
		if err := <-flushed; err != nil {
			t.Errorf("Flush: %v", err)
		}
		flushed2 := make(chan error, 1)
		send(t, s, "b")
		go func() { flushed2 <- s.Flush(long(t)) }()
		synctest.Wait()
		s.Close()
		if err := <-flushed2; err != nil { // all of it is settled: dropped
			t.Errorf("Flush at Close: %v", err)
		}
	})
}

func TestHandleRunsAsManyAtATimeAsItIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, nil, nil)
		for i := range 20 {
			send(t, s, fmt.Sprint(i))
		}
		var mu sync.Mutex
		now, most := 0, 0
		ctx, stop := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- rs[0].Handle(ctx, 3, func(context.Context, *socket.Message) error {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return nil
			})
		}()
		began := time.Now()
		s.Flush(long(t))
		equal(t, "at a time", most, 3)
		equal(t, "took", time.Since(began).Round(time.Second), 7*time.Second)
		cause := errors.New("enough")
		stop(cause)
		matches(t, "Handle", <-done, cause)
		if err := rs[0].Handle(t.Context(), 0, nil); err == nil {
			t.Error("no handler at a time was taken")
		}
		go func() {
			done <- rs[0].Handle(t.Context(), 2, func(context.Context, *socket.Message) error { return nil })
		}()
		synctest.Wait()
		rs[0].Close()
		matches(t, "Handle of a closed socket", <-done, net.ErrClosed)
	})
}

func TestMessagesLeavesWhatTheLoopDidNotAnswerInHand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, nil, nil)
		send(t, s, "a", "b", "c")
		for m := range rs[0].Messages(long(t)) {
			if string(m.Body) == "b" {
				break
			}
			m.Ack()
		}
		synctest.Wait()
		l := balanced(t, s)
		equal(t, "done", l.Done, 1)
		equal(t, "leased", l.Leased, 2)
		acked(t, rs[0], "c")
		ctx, stop := context.WithCancel(t.Context())
		stop()
		for range rs[0].Messages(ctx) {
			t.Error("a message after the context's end")
		}
		rs[0].Close()
		for range rs[0].Messages(long(t)) {
			t.Error("a message of a closed socket")
		}
	})
}

func TestLargeMessagesPassThroughASmallBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		b.local.Budget = socket.NewBudget(9 << 20)
		s, s2 := a.push(Queue(9, 64<<20)), newNode(t, 'c')
		other := s2.push(Queue(9, 64<<20))
		r := b.pull()
		l1, l2 := connect(a, s, b, r), connect(s2, other, b, r)
		body := make([]byte, 8<<20)
		for i := range body {
			body[i] = byte(i * 7)
		}
		for _, p := range []*Push{s, other} {
			for _, n := range []int{300 << 10, 8 << 20, 1, 8 << 20} {
				if err := p.Send(long(t), body[:n]); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 8 {
			m, err := r.Recv(long(t))
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Body) != string(body[:len(m.Body)]) {
				t.Errorf("message %d of %d bytes was changed", m.Seq(), len(m.Body))
			}
			if m.Redelivered() {
				t.Errorf("message %d is flagged", m.Seq())
			}
			m.Ack()
		}
		for _, p := range []*Push{s, other} {
			if err := p.Flush(long(t)); err != nil {
				t.Fatal(err)
			}
		}
		none(t, r)
		l1.cut()
		l2.cut()
	})
}

// A puller with a lower limit than its sender: the message must go to one that can
// take it, and must not stop the others of the pipe.
func TestAMessageThatOnePullerCannotTakeGoesToAnother(t *testing.T) {
	for _, size := range []int{10 << 10, 600 << 10} {
		bubble(t, func(t *testing.T) {
			a, small, big := newNode(t, 'a'), newNode(t, 'b'), newNode(t, 'c')
			small.local.MaxMessage = 5 << 10
			s, r := a.push(), small.pull()
			connect(a, s, small, r)
			ready(t, s, 1)
			if err := s.Send(long(t), make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			send(t, s, "next")
			acked(t, r, "next")
			r2 := big.pull()
			connect(a, s, big, r2)
			m, err := r2.Recv(long(t))
			if err != nil || len(m.Body) != size {
				t.Fatalf("%v", err)
			}
			m.Ack()
			if err := s.Flush(long(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}
