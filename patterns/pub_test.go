package patterns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// channel is a pub and n subs on nodes of their own, joined.
func channel(t testing.TB, n int, pub, sub []Option) (*Pub, []*Sub, []*link) {
	a := newNode(t, 'a')
	p := a.pub(pub...)
	var rs []*Sub
	var ls []*link
	for i := range n {
		b := newNode(t, byte('b'+i))
		r := b.sub(sub...)
		rs = append(rs, r)
		ls = append(ls, connect(a, p, b, r))
	}
	ready(t, p, n)
	return p, rs, ls
}

func TestASubscriptionGetsWhatItsPatternsMatch(t *testing.T) {
	for name, c := range map[string]struct {
		opts []Option
		want string
	}{
		"everything":       {nil, "[a a.b a.b.c ab b.a]"},
		"one token":        {[]Option{Topics("*")}, "[a ab]"},
		"a token within":   {[]Option{Topics("*.b")}, "[a.b]"},
		"a tail":           {[]Option{Topics("a.>")}, "[a.b a.b.c]"},
		"several, once":    {[]Option{Topics("a.b", "a.*", "b.>")}, "[a.b b.a]"},
		"a raw prefix":     {[]Option{Prefixes("a")}, "[a a.b a.b.c ab]"},
		"the empty prefix": {[]Option{Prefixes("")}, "[a a.b a.b.c ab b.a]"},
		"both":             {[]Option{Topics("b.*"), Prefixes("a.b")}, "[a.b a.b.c b.a]"},
		"nothing there is": {[]Option{Topics("z")}, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p, rs, _ := channel(t, 1, nil, c.opts)
				for _, topic := range []string{"a", "a.b", "a.b.c", "ab", "b.a"} {
					publish(t, p, topic, topic)
				}
				synctest.Wait()
				got := []string{}
				for rs[0].Stats().Queued > 0 {
					m, err := rs[0].Recv(long(t))
					if err != nil || m.Topic != string(m.Body) {
						t.Fatalf("%+v, %v", m, err)
					}
					got = append(got, m.Topic)
					m.Ack()
				}
				same(t, "topics", got, c.want)
			})
		})
	}
}

func TestATopicThatCannotBeIsAnErrorAndUsesUpNoSeq(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, _ := channel(t, 1, nil, nil)
		for _, topic := range []string{"", "a.*", ">", ".", "a..b", "a.", strings.Repeat("x", 300), "\xff", "a\x00"} {
			if err := p.Publish(long(t), topic, nil); err == nil {
				t.Errorf("topic %q was taken", topic)
			}
			if err := p.WaitMatching(long(t), topic, 0); err == nil {
				t.Errorf("WaitMatching for topic %q", topic)
			}
		}
		publish(t, p, "a", "a")
		equal(t, "seq", recv(t, rs[0], "a").Seq(), 1)
	})
}

func TestEverySubscriptionGetsItsCopyAndTheLedgerCountsCopies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told fates
		p, rs, _ := channel(t, 3, []Option{OnSettled(told.note)}, nil)
		publish(t, p, "a", "1", "2")
		for _, r := range rs {
			acked(t, r, "1", "2")
		}
		if err := p.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		l := balanced(t, p)
		equal(t, "accepted", l.Accepted, 6)
		equal(t, "done", l.Done, 6)
		synctest.Wait()
		equal(t, "subscriptions told of", len(told.counted(func(s Settled) string { return s.Sub })), 3)
	})
}

func TestTwoSubscriptionsOfOneNodeAreTwo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		var told fates
		p := a.pub(OnSettled(told.note))
		r1, r2 := b.sub(Topics("a")), b.sub(Topics(">"))
		connect(a, p, b, r1)
		connect(a, p, b, r2)
		ready(t, p, 2)
		publish(t, p, "a", "1")
		publish(t, p, "b", "2")
		acked(t, r1, "1")
		acked(t, r2, "1", "2")
		none(t, r1)
		p.Flush(long(t))
		synctest.Wait()
		id := b.local.Node.String()
		same(t, "fates", told.counted(func(s Settled) string { return s.Sub }), map[string]int{id: 1, id + "/2": 2})
	})
}

func TestASubscriptionBeginsWhenItIsThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		var told fates
		var holes gaps
		p := a.pub(OnSettled(told.note))
		publish(t, p, "a", "early", "too early")
		l := balanced(t, p)
		equal(t, "without subscriber", l.Dropped["no-subscriber"], 2)
		same(t, "fates", told.told(), "[1 dropped no-subscriber 2 dropped no-subscriber]")
		r := b.sub(OnGap(holes.note))
		connect(a, p, b, r)
		ready(t, p, 1)
		publish(t, p, "a", "now")
		equal(t, "seq", recv(t, r, "now").Seq(), 3)
		same(t, "gaps", holes.told(), []string(nil))
	})
}

func TestAChangeOfPatternsTakesEffectForwardOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, _ := channel(t, 1, nil, []Option{Topics("a")})
		r := rs[0]
		publish(t, p, "a", "a1")
		publish(t, p, "b", "b1")
		if err := r.Subscribe("b", "c.>"); err != nil {
			t.Fatal(err)
		}
		if err := p.WaitMatching(long(t), "c.d", 1); err != nil {
			t.Fatal(err)
		}
		publish(t, p, "a", "a2")
		publish(t, p, "b", "b2")
		publish(t, p, "c.d", "c2")
		acked(t, r, "a1", "b2", "c2") // what was queued still comes
		none(t, r)
		equal(t, "gaps", r.Stats().Gaps, 0)
		for _, bad := range [][]string{{"a..b"}, slices.Repeat([]string{"x"}, wire.MaxPatterns+1)} {
			if err := r.Subscribe(bad...); err == nil {
				t.Errorf("%d patterns such as %q were taken", len(bad), bad[0])
			}
		}
		publish(t, p, "b", "b3")
		acked(t, r, "b3")
	})
}

func TestWaitMatchingWaitsForTheTopicAndTheNumber(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, ls := channel(t, 2, nil, []Option{Topics("a.*")})
		if err := p.WaitMatching(long(t), "a.b", 2); err != nil {
			t.Fatal(err)
		}
		matches(t, "another topic", p.WaitMatching(within(t, time.Second), "b", 1), context.DeadlineExceeded)
		matches(t, "one more", p.WaitMatching(within(t, time.Second), "a.b", 3), context.DeadlineExceeded)
		rs[0].Subscribe("b")
		if err := p.WaitMatching(long(t), "b", 1); err != nil {
			t.Fatal(err)
		}
		ls[0].part()
		matches(t, "one that is away", p.WaitMatching(within(t, time.Second), "b", 1), context.DeadlineExceeded)
		waited := make(chan error, 1)
		go func() { waited <- p.WaitReady(long(t), 2) }()
		synctest.Wait()
		p.Close()
		matches(t, "WaitReady of a closed socket", <-waited, net.ErrClosed)
	})
}

func TestASlowSubscriberLosesTheOldestAndHoldsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var holes gaps
		a := newNode(t, 'a')
		p := a.pub(Queue(3, 1<<20))
		b, c := newNode(t, 'b'), newNode(t, 'c')
		slow, fast := b.sub(Prefetch(1), OnGap(holes.note)), c.sub()
		connect(a, p, b, slow)
		connect(a, p, c, fast)
		ready(t, p, 2)
		for i := range 10 {
			publish(t, p, "a", fmt.Sprint(i))
			acked(t, fast, fmt.Sprint(i))
			time.Sleep(10 * time.Millisecond)
		}
		acked(t, slow, "0", "8", "9")
		same(t, "gaps", holes.told(), "[2-8 dropped]")
		p.Flush(long(t))
		l := balanced(t, p)
		equal(t, "done", l.Done, 13)
		equal(t, "dropped", l.Dropped["overflow"], 7)
		equal(t, "gaps of the fast one", fast.Stats().Gaps, 0)
	})
}

func TestDropNewestKeepsWhatWasThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var holes gaps
		p, rs, _ := channel(t, 1, []Option{Queue(3, 1<<20), OnOverflow(DropNewest)}, []Option{Prefetch(1), OnGap(holes.note)})
		publish(t, p, "a", "0", "1", "2", "3", "4")
		acked(t, rs[0], "0", "1", "2")
		p.Flush(long(t))
		publish(t, p, "a", "5")
		acked(t, rs[0], "5")
		same(t, "gaps", holes.told(), "[4-5 dropped]")
		equal(t, "dropped", balanced(t, p).Dropped["overflow"], 2)
	})
}

func TestRefuseIsForAllOrNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newNode(t, 'a')
		p := a.pub(Queue(2, 1<<20), OnOverflow(Refuse))
		b, c := newNode(t, 'b'), newNode(t, 'c')
		slow, fast := b.sub(Topics("a")), c.sub()
		connect(a, p, b, slow)
		connect(a, p, c, fast)
		ready(t, p, 2)
		publish(t, p, "a", "0", "1")
		acked(t, fast, "0", "1")
		time.Sleep(time.Second)
		matches(t, "Publish", p.Publish(long(t), "a", []byte("2")), socket.ErrQueueFull)
		publish(t, p, "b", "3") // the slow one does not want this
		equal(t, "seq", recv(t, fast, "3").Seq(), 3)
		none(t, fast)
		equal(t, "accepted", balanced(t, p).Accepted, 5)
	})
}

func TestBlockWaitsForTheSlowestThatWantsTheTopic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, ls := channel(t, 1, []Option{Queue(2, 1<<20), OnOverflow(Block)}, []Option{Topics("a")})
		publish(t, p, "a", "0", "1")
		publish(t, p, "b", "nobody")
		matches(t, "Publish", p.Publish(within(t, time.Second), "a", nil), context.DeadlineExceeded)
		sent := make(chan error, 1)
		go func() { sent <- p.Publish(long(t), "a", []byte("2")) }()
		synctest.Wait()
		acked(t, rs[0], "0")
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		acked(t, rs[0], "1", "2")
		p.Flush(long(t))
		equal(t, "dropped", balanced(t, p).Dropped["overflow"], 0)
		publish(t, p, "a", "3", "4")
		ls[0].part() // and does not come back: after a while it is taken for gone
		began := time.Now()
		if err := p.Publish(long(t), "a", nil); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > viewGrace+2*socket.RenewEvery {
			t.Errorf("it waited %v for one that is gone", d)
		}
		l := balanced(t, p)
		same(t, "dropped", l.Dropped, "map[gone:2 no-subscriber:2]")
	})
}

// Whatever a message is made of, Block never drops one.
func TestBlockDropsNothingWhateverTheSizes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, _ := channel(t, 1, []Option{Queue(50, 2000), OnOverflow(Block)}, nil)
		n := 0
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- rs[0].Handle(ctx, 1, func(context.Context, *socket.Message) error {
				n++
				time.Sleep(time.Millisecond)
				return nil
			})
		}()
		const total = 600
		for i := range total {
			m := &socket.Message{Topic: strings.Repeat("t", 1+i%250), Key: strings.Repeat("k", i%255), TTL: time.Hour * 24 * 365 * 50, Body: make([]byte, i)}
			if i%3 == 0 {
				m.Headers = socket.Headers{"h": strings.Repeat("v", i)}
			}
			if _, err := p.PublishMessage(long(t), m); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		stop()
		<-done
		equal(t, "handled", n, total)
		equal(t, "done", balanced(t, p).Done, total)
	})
}

func TestASubscriberThatComesBackInTimeMissesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var holes gaps
		p, rs, ls := channel(t, 1, nil, []Option{OnGap(holes.note)})
		publish(t, p, "a", "0")
		acked(t, rs[0], "0")
		ls[0].part()
		publish(t, p, "a", "1")
		time.Sleep(viewGrace - time.Second)
		publish(t, p, "a", "2")
		ls[0].heal()
		acked(t, rs[0], "1", "2")
		p.Flush(long(t))
		same(t, "gaps", holes.told(), []string(nil))
		equal(t, "done", balanced(t, p).Done, 3)
	})
}

func TestASubscriberThatStaysAwayIsToldWhatItMissed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var holes gaps
		var told fates
		p, rs, ls := channel(t, 1, []Option{OnSettled(told.note)}, []Option{OnGap(holes.note)})
		publish(t, p, "a", "0")
		acked(t, rs[0], "0")
		p.Flush(long(t))
		ls[0].part()
		publish(t, p, "a", "1", "2")
		time.Sleep(viewGrace + 2*socket.RenewEvery)
		publish(t, p, "a", "3")
		same(t, "fates", told.told(), "[1 done 2 dropped gone 3 dropped gone 4 dropped no-subscriber]")
		ls[0].heal()
		ready(t, p, 1)
		publish(t, p, "a", "4")
		equal(t, "seq", recv(t, rs[0], "4").Seq(), 5)
		same(t, "gaps", holes.told(), "[2-4 dropped]")
		l := balanced(t, p)
		same(t, "dropped", l.Dropped, "map[gone:2 no-subscriber:1]")
	})
}

func TestASubscriberThatLeavesIsOwedNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, ls := channel(t, 2, nil, nil)
		publish(t, p, "a", "0", "1")
		acked(t, rs[0], "0")
		rs[0].Close()
		acked(t, rs[1], "0", "1")
		p.Flush(long(t))
		publish(t, p, "a", "2")
		acked(t, rs[1], "2")
		ls[0].inOrder()
		ls[1].inOrder()
		l := balanced(t, p)
		same(t, "dropped", l.Dropped, "map[gone:1]")
		equal(t, "accepted", l.Accepted, 5)
		equal(t, "subscriptions", len(p.Stats().Consumers), 1)
	})
}

// The subscription of a process that is gone must not decide what the next process of
// that node gets.
func TestANewProcessOfANodeBringsItsOwnPatterns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		p := a.pub()
		old := b.sub(Topics("a"))
		for range 5 {
			old.Subscribe("b")
		}
		l := connect(a, p, b, old)
		ready(t, p, 1)
		l.part() // without a word
		b2 := b.again()
		r := b2.sub(Topics("c"))
		connect(a, p, b2, r)
		ready(t, p, 1)
		publish(t, p, "b", "for the old one")
		publish(t, p, "c", "for the new one")
		acked(t, r, "for the new one")
		none(t, r)
	})
}

func TestCountsOfSubscriptionsThatAreGoneStayCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, ls := channel(t, 1, nil, nil)
		publish(t, p, "a", "0", "1")
		recv(t, rs[0], "0").Nack(errors.New("again"))
		acked(t, rs[0], "1", "0")
		p.Flush(long(t))
		before := p.Stats()
		equal(t, "redelivered", before.Redelivered, 1)
		ls[0].part()
		time.Sleep(viewGrace + 2*socket.RenewEvery)
		after := p.Stats()
		equal(t, "subscriptions", len(after.Consumers), 0)
		same(t, "ledger", after.Ledger, before.Ledger)
		equal(t, "redelivered", after.Redelivered, before.Redelivered)
	})
}

// A subscriber that comes back in the very moment in which it is taken for gone.
func TestASubscriptionIsNeverMetAndDroppedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, ls := channel(t, 1, nil, nil)
		publish(t, p, "a", "0")
		ls[0].part()
		p.mu.Lock()
		var who socket.Who
		for who = range p.views {
		}
		v := p.enter(who, wire.AtNew) // as Meet does
		p.tickAll(time.Now().Add(time.Hour))
		equal(t, "the same view is there", p.views[who], v)
		p.leave(v)
		p.mu.Unlock()
		ls[0].heal()
		acked(t, rs[0], "0")
		ls[0].part()
		p.mu.Lock()
		p.tickAll(time.Now().Add(time.Hour))
		equal(t, "views when it stays away", len(p.views), 0)
		p.mu.Unlock()
	})
}

func TestMessagesOfASubAreAcknowledgedByTheLoop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, _ := channel(t, 1, []Option{MaxDeliver(1)}, nil)
		publish(t, p, "a", "0", "1", "2", "3")
		n := 0
		for m := range rs[0].Messages(long(t)) {
			if n++; n == 2 {
				m.Nack(errors.New("bad"))
			}
			if n == 3 {
				break
			}
		}
		time.Sleep(time.Second)
		l := balanced(t, p)
		same(t, "done, dead, leased", fmt.Sprint(l.Done, l.Dead, l.Leased), "2 1 1")
	})
}

func TestPublishBestEffort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, ls := channel(t, 2, []Option{Durability(socket.BestEffort), Queue(1, 1<<20)}, []Option{Prefetch(1)})
		for _, body := range []string{"0", "1", "2"} {
			publish(t, p, "a", body)
			synctest.Wait() // it is on its way, if there is room
		}
		l := balanced(t, p)
		equal(t, "handed", l.Handed, 2)
		equal(t, "dropped", l.Dropped["overflow"], 2)
		for _, r := range rs {
			acked(t, r, "0", "2")
		}
		for _, l := range ls {
			l.part()
		}
		time.Sleep(viewGrace + 2*socket.RenewEvery)
		equal(t, "handed", balanced(t, p).Handed, 4)
	})
}

func TestManyPublishersAndSubscribersAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, ls := channel(t, 3, []Option{OnOverflow(Block), Queue(20, 1<<20)}, nil)
		var got [3][]string
		ctx, stop := context.WithCancel(t.Context())
		var handlers, publishers sync.WaitGroup
		for i, r := range rs {
			handlers.Go(func() {
				for m := range r.Messages(ctx) {
					got[i] = append(got[i], string(m.Body))
				}
			})
		}
		for k := range 4 {
			publishers.Go(func() {
				for i := range 50 {
					publish(t, p, fmt.Sprint("t", k), fmt.Sprint(k, " ", i))
					balanced(t, p)
					if i%17 == 16 {
						ls[(i+k)%3].cut()
					}
				}
			})
		}
		publishers.Wait()
		if err := p.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		stop()
		handlers.Wait()
		for i := range got {
			next := [4]int{}
			for _, s := range got[i] {
				var k, n int
				fmt.Sscan(s, &k, &n)
				if n != next[k] {
					t.Fatalf("subscriber %d: message %d of publisher %d, want %d", i, n, k, next[k])
				}
				next[k]++
			}
			same(t, "messages", next, "[50 50 50 50]")
		}
		equal(t, "done", balanced(t, p).Done, 600)
	})
}
