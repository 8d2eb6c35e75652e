package patterns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

func (k *kept) pub(opts ...Option) *Pub {
	k.Helper()
	s, err := NewPub(k.env(), "x", opts...)
	return made(k.TB, s, err)
}

// durable is a Sub with a durable name.
func (k *kept) durable(name string, opts ...Option) *Sub {
	k.Helper()
	s, err := NewSub(k.env(), "x", append([]Option{DurableName(name)}, opts...)...)
	return made(k.TB, s, err)
}

// read receives n messages and acks them; it returns their bodies, with "!" behind those
// that are flagged.
func read(t testing.TB, r receives, n int) (bodies []string) {
	t.Helper()
	for range n {
		m, err := r.Recv(long(t))
		if err != nil {
			t.Fatalf("after %v: %v", bodies, err)
		}
		body := string(m.Body)
		if m.Redelivered() {
			body += "!"
		}
		bodies = append(bodies, body)
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	return bodies
}

// either demands those bodies, flagged or not.
func either(t testing.TB, got, want []string) {
	t.Helper()
	for i, body := range got {
		if body != want[i] && body != want[i]+"!" {
			t.Errorf("message %d is %q, want %q", i, body, want[i])
		}
	}
}

func flush(t testing.TB, p *Pub) {
	t.Helper()
	if err := p.Flush(long(t)); err != nil {
		t.Fatalf("Flush: %v", err)
	}
}

// unsettled is what the channel holds on disk.
func unsettled(k *kept) (n uint64) {
	for _, q := range k.store.Queues() {
		if q.Name == queueName("pub", "test", "x") {
			n += q.Unsettled
		}
	}
	return n
}

func TestOneOfFourDurableSubscribersIsAwayForAThirdAndMissesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const third = 300
		a := newKept(t, 'a', t.TempDir())
		p := a.pub()
		var subs []*Sub
		var ls []*link
		for i := range 4 {
			b := newKept(t, byte('b'+i), t.TempDir())
			s := b.durable(fmt.Sprint("s", i))
			subs, ls = append(subs, s), append(ls, connect(a.node, p, b.node, s))
		}
		ready(t, p, 4)
		publish(t, p, "a", counted(1, third)...)
		for _, s := range subs {
			same(t, "first third", read(t, s, third), counted(1, third))
		}
		flush(t, p)
		ls[0].part()
		publish(t, p, "a", counted(third+1, 2*third)...)
		for _, s := range subs[1:] { // the others are not held up
			same(t, "second third", read(t, s, third), counted(third+1, 2*third))
		}
		balanced(t, p)
		ls[0].heal()
		publish(t, p, "a", counted(2*third+1, 3*third)...)
		same(t, "catches up", read(t, subs[0], 2*third), counted(third+1, 3*third))
		for _, s := range subs[1:] {
			same(t, "last third", read(t, s, third), counted(2*third+1, 3*third))
		}
		flush(t, p)
		same(t, "done", balanced(t, p).Done, uint64(4*3*third))
		same(t, "left in the log", unsettled(a), 0)
		for _, s := range subs {
			none(t, s)
		}
	})
}

func TestWithDropOldestAnAbsentSubscriberGetsTheExactGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p := a.pub(Limit(Limits{Count: 100}, DropOldest))
		if err := p.Expect("s"); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", counted(1, 1000)...)
		l := balanced(t, p)
		same(t, "dropped and queued", fmt.Sprint(l.Dropped[reasonLimit], l.Queued), "900 100")
		a2 := a.killed() // the gap is kept with what it speaks of
		p2 := a2.pub(Limit(Limits{Count: 100}, DropOldest))
		same(t, "carried", balanced(t, p2).Carried, 100)
		var g gaps
		s := b.durable("s", OnGap(g.note))
		connect(a2.node, p2, b.node, s)
		same(t, "received", read(t, s, 100), counted(901, 1000))
		same(t, "gaps", g.told(), []string{"1-900 dropped"})
		flush(t, p2)
		same(t, "done", balanced(t, p2).Done, 100)
	})
}

func TestASubscriberAtItsLimitIsToldOfEachHoleBeforeWhatFollows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const writers, each = 4, 200
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p := a.pub(Limit(Limits{Count: 20}, DropOldest))
		var g gaps
		s := b.durable("s", OnGap(g.note), Prefetch(5))
		connect(a.node, p, b.node, s)
		ready(t, p, 1)
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() { publish(t, p, "a", counted(1, each)...) })
		}
		soon := within(t, time.Second) // nothing here takes time
		for last := uint64(0); last < writers*each; {
			m, err := s.Recv(soon)
			if err != nil {
				t.Errorf("after message %d: %v", last, err)
				break
			}
			told := g.set()
			for r := range told.Missing(last+1, m.Seq()-1) {
				t.Errorf("message %d comes after %d, and nothing was said of %d to %d", m.Seq(), last, r.From, r.To)
			}
			last = m.Seq()
			if err := m.Ack(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		flush(t, p)
		if l := balanced(t, p); l.Dropped[reasonLimit] == 0 {
			t.Error("nothing was dropped: this has shown nothing")
		}
	})
}

func TestAConsumerGroupOfTwoShares(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
		p := a.pub()
		s1, s2 := b.durable("s", Prefetch(10)), c.durable("s", Prefetch(10))
		connect(a.node, p, b.node, s1)
		connect(a.node, p, c.node, s2)
		for p.Stats().Consumers == nil || len(p.Stats().Consumers) < 2 || !p.Stats().Consumers[0].Attached || !p.Stats().Consumers[1].Attached {
			time.Sleep(time.Millisecond)
		}
		publish(t, p, "a", counted(1, 20)...)
		got := map[string]int{}
		for _, s := range []*Sub{s1, s2} {
			for _, body := range read(t, s, 10) {
				got[body]++
			}
		}
		for _, body := range counted(1, 20) {
			equal(t, body, got[body], 1)
		}
		flush(t, p)
		same(t, "copies", balanced(t, p).Done, 20)
	})
}

func TestAnExclusiveSubscriptionTakesNoSecond(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
		p := a.pub()
		s1, s2 := b.durable("s", Exclusive()), c.durable("s")
		l1 := connect(a.node, p, b.node, s1)
		ready(t, p, 1)
		near, _ := socket.Duplex()
		matches(t, "Meet", p.Meet(t.Context(), c.peer(), s2.Offer(1), near), ErrTaken)
		publish(t, p, "a", "1")
		acked(t, s1, "1")
		flush(t, p)
		l1.part()
		connect(a.node, p, c.node, s2)
		publish(t, p, "a", "2")
		acked(t, s2, "2")
	})
}

func TestAKilledPublisherLosesNothingAndSendsNothingUnflaggedTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
		p := a.pub()
		near, away := b.durable("near", Prefetch(10)), c.durable("away", Topics("a.*"))
		l := connect(a.node, p, b.node, near)
		la := connect(a.node, p, c.node, away)
		ready(t, p, 2)
		la.part()
		publish(t, p, "a.b", counted(1, 30)...)
		publish(t, p, "b", "other")
		same(t, "received", read(t, near, 20), counted(1, 20))
		for p.Stats().Ledger.Done < 20 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		a2 := a.killed()
		l.part()
		p2 := a2.pub()
		same(t, "carried", balanced(t, p2).Carried, 11+30)
		publish(t, p2, "a.c", "31")
		connect(a2.node, p2, b.node, near)
		connect(a2.node, p2, c.node, away)
		either(t, read(t, away, 31), counted(1, 31)) // it had credit, so some may have been on their way
		either(t, read(t, near, 12), append(counted(21, 30), "other", "31"))
		flush(t, p2)
		balanced(t, p2)
		none(t, near)
		none(t, away)
		same(t, "left in the log", unsettled(a2), 0)
	})
}

// One message is stuck, and what came after it was handled and confirmed; another subscription
// keeps all of it on disk.
func TestAKilledPublisherRemembersWhatIsSettledAboveTheOldestMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p, s := a.pub(), b.durable("s", Prefetch(10))
		l := connect(a.node, p, b.node, s)
		ready(t, p, 1)
		if err := p.Expect("away"); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", counted(1, 10)...)
		stuck := recv(t, s, "1")
		same(t, "received", read(t, s, 9), counted(2, 10))
		time.Sleep(5 * time.Second) // confirmed
		a2 := a.killed()
		l.part()
		p2 := a2.pub()
		same(t, "carried", balanced(t, p2).Carried, 1+10)
		connect(a2.node, p2, b.node, s)
		ready(t, p2, 1)
		if err := stuck.Ack(); err != nil {
			t.Fatal(err)
		}
		away := b.durable("away")
		connect(a2.node, p2, b.node, away)
		same(t, "the other received", read(t, away, 10), counted(1, 10))
		flush(t, p2)
		none(t, s)
		same(t, "done", balanced(t, p2).Done, 1+10)
		same(t, "left in the log", unsettled(a2), 0)
	})
}

// The link is cut before any answer, so that only the subscriber's disk knows what is done.
func TestAKilledSubscriberGetsNothingTwiceThatItHasDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		done := make(chan struct{}, 30)
		p, s := a.pub(), b.durable("s", OnDone(func(*socket.Message) { done <- struct{}{} }))
		l := connect(a.node, p, b.node, s)
		ready(t, p, 1)
		publish(t, p, "a", counted(1, 30)...)
		var ms []*socket.Message
		for i := range 20 {
			ms = append(ms, recv(t, s, fmt.Sprint(i+1)))
		}
		synctest.Wait() // the rest is on its way too
		l.part()
		for _, m := range ms {
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
			<-done // it is on disk
		}
		same(t, "the publisher knows", p.Stats().Ledger.Done, 0)
		b2 := b.killed()
		s2 := b2.durable("s")
		connect(a.node, p, b2.node, s2)
		want := counted(21, 30)
		for i := range want {
			want[i] += "!" // they were sent to a process that is gone
		}
		same(t, "received by the next life", read(t, s2, 10), want)
		flush(t, p)
		none(t, s2)
		same(t, "done", balanced(t, p).Done, 30)
	})
}

func TestExpectKeepsMessagesBeforeTheFirstAttach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p := a.pub()
		publish(t, p, "a.b", "before")
		if err := p.Expect("s", "a.*"); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a.b", "1")
		publish(t, p, "b", "nobody's")
		publish(t, p, "a.c", "2")
		l := balanced(t, p)
		same(t, "dropped, queued", fmt.Sprint(l.Dropped["no-subscriber"], l.Queued), "2 2")
		a2 := a.killed()
		p2 := a2.pub()
		same(t, "carried", balanced(t, p2).Carried, 2)
		s := b.durable("s", Topics("a.*"))
		connect(a2.node, p2, b.node, s)
		same(t, "received", read(t, s, 2), []string{"1", "2"})
		flush(t, p2)
		none(t, s)
	})
}

func TestASubscriptionBeginsWhereItSays(t *testing.T) {
	for name, tc := range map[string]struct {
		from Position
		want []string
		gaps []string
	}{
		"new":          {New, []string{"9"}, nil},
		"earliest":     {Earliest, []string{"5", "6", "7", "8", "9"}, nil},
		"a seq":        {FromSeq(7), []string{"7", "8", "9"}, nil},
		"a lost seq":   {FromSeq(3), []string{"5", "6", "7", "8", "9"}, []string{"3-4 retention"}},
		"a future seq": {FromSeq(1000), []string{"9"}, nil},
		"last value":   {LastValue, []string{"6", "8", "9"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
				p := a.pub(Keep(4))
				for i := 1; i <= 8; i++ {
					topicName := []string{"even", "odd"}[i%2]
					how := p.PublishMessage
					if i == 6 || i == 8 {
						topicName, how = fmt.Sprint("kept.", i), p.PublishRetained
					}
					if _, err := how(long(t), &socket.Message{Topic: topicName, Body: fmt.Append(nil, i)}); err != nil {
						t.Fatal(err)
					}
				}
				same(t, "in the log", unsettled(a), 4)
				a2 := a.killed()
				p2 := a2.pub(Keep(4))
				var g gaps
				s := b.durable("s", From(tc.from), OnGap(g.note))
				connect(a2.node, p2, b.node, s)
				ready(t, p2, 1)
				publish(t, p2, "even", "9")
				same(t, "received", read(t, s, len(tc.want)), tc.want)
				flush(t, p2)
				none(t, s)
				same(t, "gaps", g.told(), tc.gaps)
				balanced(t, p2)
			})
		})
	}
}

func TestTheLastValuesOfATopicAreForTheNewSubscriptionAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p := a.pub()
		old := b.durable("old")
		connect(a.node, p, b.node, old)
		ready(t, p, 1)
		for _, body := range []string{"1", "2"} {
			if _, err := p.PublishRetained(long(t), &socket.Message{Topic: "t", Body: []byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
		acked(t, old, "1", "2")
		c := newKept(t, 'c', t.TempDir())
		s := c.sub(From(LastValue)) // ephemeral ones too
		connect(a.node, p, c.node.node(), s)
		m := recv(t, s, "2")
		same(t, "marked", m.Headers[HeaderRetained], "1")
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		d := newKept(t, 'd', t.TempDir())
		s2 := d.durable("new", From(LastValue))
		connect(a.node, p, d.node, s2)
		acked(t, s2, "2")
		flush(t, p)
		none(t, old)
		none(t, s)
		balanced(t, p)
		same(t, "left in the log", unsettled(a), 0)
	})
}

func (n *node) node() *node { return n }

func TestAPatternChangeTakesEffectFromTheToldSeqOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p, s := a.pub(Queue(1, 1<<20)), b.durable("s", Topics("a")) // what is read from the disk later, too
		l := connect(a.node, p, b.node, s)
		ready(t, p, 1)
		l.part()
		publish(t, p, "a", "1")
		publish(t, p, "b", "no")
		if err := s.Subscribe("b"); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", "2")
		publish(t, p, "b", "neither")
		l.heal()
		acked(t, s, "1", "2")
		flush(t, p)
		publish(t, p, "a", "not any more")
		publish(t, p, "b", "3")
		acked(t, s, "3")
		flush(t, p)
		none(t, s)
		l.part()
		a2 := a.killed()
		p2 := a2.pub()
		publish(t, p2, "a", "still not")
		publish(t, p2, "b", "4")
		connect(a2.node, p2, b.node, s)
		acked(t, s, "4")
		none(t, s)
		balanced(t, p2)
	})
}

func TestAnEphemeralSubscriptionOfADurablePubGetsWhatIsOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		p, s := a.pub(), b.sub(Topics("a"))
		connect(a.node, p, b, s)
		ready(t, p, 1)
		publish(t, p, "a", counted(1, 100)...)
		publish(t, p, "b", "nobody's")
		same(t, "received", read(t, s, 100), counted(1, 100))
		flush(t, p)
		l := balanced(t, p)
		same(t, "done and dropped", fmt.Sprint(l.Done, l.Dropped["no-subscriber"]), "100 1")
		same(t, "left in the log", unsettled(a), 0)
	})
}

func TestUnsubscribeRemovesTheSubscriptionAndCloseKeepsIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p, s := a.pub(), b.durable("s")
		connect(a.node, p, b.node, s)
		ready(t, p, 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", "1")
		same(t, "queued", balanced(t, p).Queued, 1)
		s = b.durable("s")
		connect(a.node, p, b.node, s)
		ready(t, p, 1)
		if err := s.Unsubscribe(long(t)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		l := balanced(t, p)
		same(t, "gone and queued", fmt.Sprint(l.Dropped["gone"], l.Queued), "1 0")
		publish(t, p, "a", "2")
		same(t, "nobody's", balanced(t, p).Dropped["no-subscriber"], 1)
		a2 := a.killed()
		same(t, "subscriptions of the next life", len(a2.pub().log.subs), 0)
	})
}

func TestALimitBlocksThePublisher(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p := a.pub(Limit(Limits{Count: 3}, Block))
		if err := p.Expect("s"); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", counted(1, 3)...)
		matches(t, "Publish", p.Publish(within(t, time.Second), "a", []byte("4")), context.DeadlineExceeded)
		s := b.durable("s")
		connect(a.node, p, b.node, s)
		go func() { _ = p.Publish(long(t), "a", []byte("4")) }()
		same(t, "received", read(t, s, 4), counted(1, 4))
		flush(t, p)
		balanced(t, p)
	})
}

func TestAnExpelledSubscriberIsToldWhatItMissedAndBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p := a.pub(Limit(Limits{Count: 3}, Expel))
		var g gaps
		s := b.durable("s", OnGap(g.note))
		l := connect(a.node, p, b.node, s)
		ready(t, p, 1)
		publish(t, p, "a", "1")
		acked(t, s, "1")
		flush(t, p)
		l.part()
		publish(t, p, "a", counted(2, 7)...)
		same(t, "expelled", fmt.Sprint(balanced(t, p).Dropped), "map[expelled:4 no-subscriber:2]")
		same(t, "left in the log", unsettled(a), 0)
		a2 := a.killed()
		p2 := a2.pub()
		connect(a2.node, p2, b.node, s)
		ready(t, p2, 1)
		publish(t, p2, "a", "8")
		acked(t, s, "8")
		flush(t, p2)
		balanced(t, p2)
		var missed uint64
		for _, x := range g.all {
			missed += x.To - x.From + 1
		}
		same(t, "missed", missed, 6)
	})
}

func TestSeqOfWhatNobodyWantedIsNotUsedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newKept(t, 'a', t.TempDir())
		p := a.pub()
		for want := range uint64(6) {
			seq, err := p.PublishMessage(long(t), &socket.Message{Topic: "a"})
			if err != nil || seq <= want {
				t.Fatalf("seq %d, %v; %d were told", seq, err, want)
			}
			a = a.killed()
			p = a.pub()
		}
	})
}

func TestWhatIsTooOldIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newKept(t, 'a', t.TempDir())
		p := a.pub(Limit(Limits{Age: time.Minute}, DropOldest))
		if err := p.Expect("s"); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", "1")
		time.Sleep(50 * time.Second)
		publish(t, p, "a", "2")
		time.Sleep(20 * time.Second)
		l := balanced(t, p)
		same(t, "dropped and queued", fmt.Sprint(l.Dropped[reasonLimit], l.Queued), "1 1")
	})
}

func TestAPublisherThatKeepsNothingRefusesDurableSubscriptions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newKept(t, 'b', t.TempDir())
		p := a.pub()
		near, _ := socket.Duplex()
		matches(t, "Meet", p.Meet(t.Context(), b.peer(), wire.Offer{Kind: wire.Sub, Name: "x", Label: "s", Durable: true}, near), socket.ErrNotDurable)
		matches(t, "Expect", p.Expect("s"), socket.ErrNotDurable)
	})
}

func TestWhatTheDiskHasLostIsStatedAndCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		var lost gaps
		p := a.pub(Queue(2, 1<<20), OnLoss(lost.note))
		if err := p.Expect("s", "a"); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			publish(t, p, []string{"b", "a"}[min(i, 1)], fmt.Sprint(i+1))
		}
		synctest.Wait()
		p.mu.Lock()
		v := p.log.subs["s"]
		equal(t, "next to be read", v.next, 4)
		if err := v.feed.take(spool.Block{}, &spool.DamagedError{From: 4, To: 8}, p.log.stored, nil); err != nil {
			t.Error(err)
		}
		p.mu.Unlock()
		balanced(t, p)
		var g gaps
		s := b.durable("s", Topics("a"), OnGap(g.note))
		connect(a.node, p, b.node, s)
		same(t, "received", read(t, s, 4), []string{"2", "3", "9", "10"})
		flush(t, p)
		l := balanced(t, p)
		same(t, "done and damaged", fmt.Sprint(l.Done, l.Dropped["damaged"]), "4 5")
		same(t, "gaps", g.told(), []string{"4-8 corrupt"})
		same(t, "lost", lost.told(), []string{"4-8 damaged"})
	})
}

func TestAKilledMemberOfAGroupLeavesItsShareToTheOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
		p := a.pub()
		s1, s2 := b.durable("s", Prefetch(5)), c.durable("s", Prefetch(5))
		l1 := connect(a.node, p, b.node, s1)
		ready(t, p, 1)
		publish(t, p, "a", counted(1, 10)...)
		for i := range 5 {
			recv(t, s1, fmt.Sprint(i+1))
		}
		l1.part()
		connect(a.node, p, c.node, s2)
		want := counted(6, 10)
		for i := range 5 {
			want = append(want, fmt.Sprint(i+1, "!"))
		}
		same(t, "received", len(read(t, s2, 10)), len(want))
		flush(t, p)
		same(t, "done", balanced(t, p).Done, 10)
		same(t, "redelivered", p.Stats().Redelivered, 5)
	})
}

// A member of a group that was away sees seqs far above those it had: the others had them.
func TestWhatOthersOfTheGroupHandledIsNoGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
		var g gaps
		p := a.pub()
		s1, s2 := b.durable("s", OnGap(g.note)), c.durable("s", OnGap(g.note))
		l1 := connect(a.node, p, b.node, s1)
		ready(t, p, 1)
		publish(t, p, "a", "1")
		acked(t, s1, "1")
		flush(t, p)
		l1.part()
		l2 := connect(a.node, p, c.node, s2)
		publish(t, p, "a", counted(2, 20)...)
		same(t, "received by the other", read(t, s2, 19), counted(2, 20))
		flush(t, p)
		l2.part()
		l1.heal()
		publish(t, p, "a", "21")
		acked(t, s1, "21")
		flush(t, p)
		same(t, "gaps", g.told(), []string(nil))
	})
}

func TestAMemberThatUnsubscribesLeavesTheGroupToTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
		p := a.pub()
		s1, s2 := b.durable("s"), c.durable("s")
		connect(a.node, p, b.node, s1)
		ready(t, p, 1)
		connect(a.node, p, c.node, s2)
		synctest.Wait()
		if err := s1.Unsubscribe(long(t)); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", "1")
		acked(t, s2, "1")
		flush(t, p)
		balanced(t, p)
	})
}

func TestADeadLetterOfAChannelNamesItsSubscription(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p, s := a.pub(MaxDeliver(1)), b.durable("s")
		var g gaps
		other := b.durable("other", OnGap(g.note))
		connect(a.node, p, b.node, s)
		connect(a.node, p, b.node, other)
		ready(t, p, 2)
		publish(t, p, "a", "bad")
		if err := recv(t, s, "bad").Nack(errors.New("boom")); err != nil {
			t.Fatal(err)
		}
		acked(t, other, "bad")
		flush(t, p)
		l := balanced(t, p)
		same(t, "dead and done", fmt.Sprint(l.Dead, l.Done), "1 1")
		same(t, "gaps of the other", g.told(), []string(nil))
		blk, err := p.log.dead.Read(1)
		if err != nil {
			t.Fatal(err)
		}
		m, err := unframe(blk.Data)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "letter", fmt.Sprint(string(m.Body), m.Topic, m.Headers[HeaderDeadSub], m.Headers[HeaderDeadCause]), "badas"+"boom")
		same(t, "left in the log", unsettled(a), 0)
	})
}

func TestABacklogThatDoesNotFitMemoryComesInOrderToEachSubscription(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const count = 2000
		a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
		p := a.pub(Queue(100, 1<<20))
		for _, name := range []string{"all", "odd"} {
			if err := p.Expect(name, map[string]string{"all": ">", "odd": "odd"}[name]); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for i := 1; i <= count; i += 100 { // so that they share groups
			for j := range 100 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					_ = p.Publish(context.Background(), []string{"even", "odd"}[j%2], []byte("x"))
				}()
			}
		}
		wg.Wait()
		same(t, "queued", balanced(t, p).Queued, count+count/2)
		all, odd := b.durable("all", Topics(">")), c.durable("odd", Topics("odd"))
		connect(a.node, p, b.node, all)
		connect(a.node, p, c.node, odd)
		for s, n := range map[*Sub]int{all: count, odd: count / 2} {
			last := uint64(0)
			for range n {
				m, err := s.Recv(long(t))
				if err != nil {
					t.Fatal(err)
				}
				if m.Seq() <= last {
					t.Fatalf("message %d after %d", m.Seq(), last)
				}
				last = m.Seq()
				if err := m.Ack(); err != nil {
					t.Fatal(err)
				}
			}
		}
		flush(t, p)
		same(t, "done", balanced(t, p).Done, count+count/2)
		same(t, "left in the log", unsettled(a), 0)
	})
}

func TestALastValueWithoutABodyIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p := a.pub()
		retain := func(topicName, body string) {
			t.Helper()
			if _, err := p.PublishRetained(long(t), &socket.Message{Topic: topicName, Body: []byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
		retain("a", "1")
		retain("b", "2")
		retain("a", "")
		a2 := a.killed()
		p = a2.pub()
		equal(t, "bytes of last values", p.log.holds, p.log.retained["b"])
		s := b.durable("s", From(LastValue))
		connect(a2.node, p, b.node, s)
		acked(t, s, "2")
		none(t, s)
		_, err := p.PublishRetained(long(t), &socket.Message{Topic: "a", Body: make([]byte, maxRetainedBytes)})
		matches(t, "too large", err, socket.ErrTooLarge)
		memory := newNode(t, 'm').pub()
		_, err = memory.PublishRetained(long(t), &socket.Message{Topic: "a", Body: []byte("x")})
		matches(t, "in memory", err, socket.ErrNotDurable)
	})
}

// The publisher is killed when it knows a subscription and not yet what that wants.
func TestASubscriptionThatHasNotToldWhatItWantsIsOwedWhatItWillTell(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p, s := a.pub(), b.durable("s", Topics("a"))
		publish(t, p, "a", "before")
		near, far := socket.Duplex()
		met := make(chan error)
		go func() { met <- p.Meet(long(t), b.peer(), s.Offer(1), near) }()
		synctest.Wait()
		far.Close() // before it read ATTACH
		if err := <-met; err == nil {
			t.Error("a pipe without an ATTACHED ended in good order")
		}
		publish(t, p, "a", "1")
		publish(t, p, "b", "no")
		a2 := a.killed()
		p2 := a2.pub()
		publish(t, p2, "a", "2")
		matches(t, "Flush", p2.Flush(within(t, time.Second)), context.DeadlineExceeded)
		balanced(t, p2)
		connect(a2.node, p2, b.node, s)
		acked(t, s, "1", "2")
		flush(t, p2)
		none(t, s)
		same(t, "done", balanced(t, p2).Done, 2)
		same(t, "left in the log", unsettled(a2), 0)
	})
}

func TestABacklogFromBeforeTheSubscriptionIsCountedOnceAcrossAKill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		opts := []Option{Keep(50), Queue(5, 1<<20)}
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p := a.pub(opts...)
		publish(t, p, "a", counted(1, 50)...)
		s := b.durable("s", From(Earliest), Prefetch(3))
		l := connect(a.node, p, b.node, s)
		same(t, "received", read(t, s, 10), counted(1, 10))
		time.Sleep(time.Second)
		l.part()
		balanced(t, p)
		a2 := a.killed()
		p2 := a2.pub(opts...)
		balanced(t, p2)
		connect(a2.node, p2, b.node, s)
		either(t, read(t, s, 40), counted(11, 50))
		flush(t, p2)
		l2 := balanced(t, p2)
		same(t, "done", l2.Done, 40)
		same(t, "carried and found", l2.Carried+l2.Accepted, 40)
		none(t, s)
		same(t, "kept", unsettled(a2), 50)
	})
}

func TestALimitOfAgeHoldsBelowASecond(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told fates
		a := newKept(t, 'a', t.TempDir())
		p := a.pub(Limit(Limits{Age: 300 * time.Millisecond}, DropOldest), OnSettled(told.note))
		if err := p.Expect("s"); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", "1")
		time.Sleep(200 * time.Millisecond)
		publish(t, p, "a", "2")
		same(t, "after 200 ms", told.told(), []string(nil))
		time.Sleep(150 * time.Millisecond)
		same(t, "after 350 ms", told.told(), []string{"1 dropped limit"})
		time.Sleep(200 * time.Millisecond)
		same(t, "after 550 ms", told.told(), []string{"1 dropped limit", "2 dropped limit"})
		equal(t, "queued", balanced(t, p).Queued, 0)
	})
}
