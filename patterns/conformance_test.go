package patterns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// The promises that every pattern keeps, each tested on all of them.

type sends interface {
	closer
	meeter
	waiter
	stater
	Kind() socket.Kind
	Stream() string
}

type takes interface {
	closer
	server
	Stats() socket.InboxStats
}

// pattern is how a test speaks to two sockets that belong together.
type pattern struct {
	name     string
	sender   func(n *node, opts ...Option) sends
	receiver func(n *node, opts ...Option) takes
	// send hands a message over. A request's answer is awaited elsewhere.
	send func(ctx context.Context, s sends, body string) error
	// serve handles messages one at a time until ctx ends or the socket closes.
	serve func(ctx context.Context, r takes, handle func(context.Context, *socket.Message) error) error
	// settle waits until nothing is owed.
	settle func(ctx context.Context, s sends) error

	direct bool // over connections with TryWrite
}

var allPatterns = []pattern{
	{
		name:     "push",
		sender:   func(n *node, opts ...Option) sends { return n.push(opts...) },
		receiver: func(n *node, opts ...Option) takes { return n.pull(opts...) },
		send:     func(ctx context.Context, s sends, body string) error { return s.(*Push).Send(ctx, []byte(body)) },
		serve: func(ctx context.Context, r takes, h func(context.Context, *socket.Message) error) error {
			return r.(*Pull).Handle(ctx, 1, h)
		},
		settle: func(ctx context.Context, s sends) error { return s.(*Push).Flush(ctx) },
	},
	{
		name:     "pub",
		sender:   func(n *node, opts ...Option) sends { return n.pub(opts...) },
		receiver: func(n *node, opts ...Option) takes { return n.sub(opts...) },
		send:     func(ctx context.Context, s sends, body string) error { return s.(*Pub).Publish(ctx, "t", []byte(body)) },
		serve: func(ctx context.Context, r takes, h func(context.Context, *socket.Message) error) error {
			return r.(*Sub).Handle(ctx, 1, h)
		},
		settle: func(ctx context.Context, s sends) error { return s.(*Pub).Flush(ctx) },
	},
	requests("req once", Executed(Once)),
	requests("req idempotent", Executed(Idempotent)),
}

// requests makes Req and Rep a pattern: what is sent is asked, and a nil error answers.
func requests(name string, level Option) pattern {
	return pattern{
		name:     name,
		sender:   func(n *node, opts ...Option) sends { return n.req(append(opts, level)...) },
		receiver: func(n *node, opts ...Option) takes { return n.rep(append(opts, Concurrency(1))...) },
		send: func(ctx context.Context, s sends, body string) error {
			q := s.(*Req)
			if ctx.Err() == nil {
				c := q.call()
				c.asked = socket.Message{Body: []byte(body), TTL: time.Hour}
				if err := q.ready(ctx, c); err != nil {
					return err
				}
				return q.insist(ctx, c)
			}
			return context.Cause(ctx)
		},
		serve: func(ctx context.Context, r takes, h func(context.Context, *socket.Message) error) error {
			return r.(*Rep).ServeRequests(ctx, func(ctx context.Context, m *socket.Message) ([]byte, error) { return nil, h(ctx, m) })
		},
		settle: func(ctx context.Context, s sends) error {
			q := s.(*Req)
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.await(ctx, func() bool { return q.waiting.Len() == 0 })
		},
	}
}

// onEach runs a test in a bubble for every pattern, over connections of both kinds.
func onEach(t *testing.T, f func(t *testing.T, p pattern)) {
	for _, p := range allPatterns {
		for _, p.direct = range []bool{false, true} {
			t.Run(fmt.Sprint(p.name, " direct ", p.direct), func(t *testing.T) {
				bubble(t, func(t *testing.T) { f(t, p) })
			})
		}
	}
}

// connect joins two sockets over connections of the kind that is tested.
func (p pattern) connect(from *node, s sends, to *node, r takes) *link {
	l := newLink(from, s, to, r)
	l.direct = p.direct
	l.start()
	return l
}

// pair is a sender and a receiver, joined.
func (p pattern) pair(t testing.TB) (sends, takes, *link) {
	a, b := newNode(t, 'a'), newNode(t, 'b')
	s, r := p.sender(a), p.receiver(b)
	l := p.connect(a, s, b, r)
	ready(t, s, 1)
	return s, r, l
}

func (p pattern) sendAll(t testing.TB, s sends, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := p.send(long(t), s, fmt.Sprint(i)); err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
	}
}

// handling serves until the test, or stop, ends it; got is what was handled so far.
func (p pattern) handling(t testing.TB, r takes, handle func(context.Context, *socket.Message) error) (got func() []string, stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var all []string
	ended := make(chan error, 1)
	go func() {
		ended <- p.serve(ctx, r, func(ctx context.Context, m *socket.Message) error {
			mu.Lock()
			all = append(all, string(m.Body))
			mu.Unlock()
			if handle == nil {
				return nil
			}
			return handle(ctx, m)
		})
	}()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { stop() })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}, stop
}

func numbered(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func TestEachMessageComesOnceInOrderToALiveReceiver(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		s, r, l := p.pair(t)
		got, _ := p.handling(t, r, func(_ context.Context, m *socket.Message) error {
			if m.Redelivered() || m.Attempt() != 1 || m.Stream() != s.Stream() || m.From() != l.from.local.Node {
				t.Errorf("message %d: flagged %v, attempt %d, stream %q from %v", m.Seq(), m.Redelivered(), m.Attempt(), m.Stream(), m.From())
			}
			return nil
		})
		p.sendAll(t, s, 0, 1000)
		if err := p.settle(long(t), s); err != nil {
			t.Fatal(err)
		}
		same(t, "handled", got(), numbered(0, 1000))
		led := balanced(t, s)
		equal(t, "accepted", led.Accepted, 1000)
		equal(t, "done", led.Done, 1000)
		synctest.Wait()
		st := r.Stats()
		equal(t, "receiver's done", st.Done, 1000)
		equal(t, "receiver's duplicates", st.Duplicates, 0)
		l.inOrder()
	})
}

// However often the pipe is cut, a receiver that lives gets each message once, in
// order, without a flag: its memory is compared at each attach.
func TestCutsLoseAndDoubleNothing(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		s, r, l := p.pair(t)
		rng, breaks := rand.New(rand.NewPCG(7, 7)), rand.New(rand.NewPCG(8, 8))
		l.mu.Lock()
		l.wrap = func(c socket.Conn) socket.Conn { // each pipe breaks somewhere by itself
			switch at := 50 + breaks.IntN(3000); breaks.IntN(3) {
			case 0:
				return &flaky{c, at}
			case 1:
				return &mute{c, at}
			}
			return c
		}
		l.mu.Unlock()
		got, _ := p.handling(t, r, func(_ context.Context, m *socket.Message) error {
			if m.Redelivered() {
				t.Errorf("message %d is flagged", m.Seq())
			}
			time.Sleep(time.Duration(m.Seq()%5) * time.Millisecond)
			return nil
		})
		for i := range 500 {
			p.sendAll(t, s, i, i+1)
			if i%20 == 0 {
				time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
				l.cut()
			}
		}
		if err := p.settle(long(t), s); err != nil {
			t.Fatal(err)
		}
		same(t, "handled", got(), numbered(0, 500))
		equal(t, "done", balanced(t, s).Done, 500)
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.errs) < 10 {
			t.Errorf("only %d pipes ended", len(l.errs))
		}
	})
}

func TestTheLedgerIsInBalanceAtEverySnapshot(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		a := newNode(t, 'a')
		s := p.sender(a, Queue(30, 1<<20))
		var ls []*link
		for i := range 3 {
			b := newNode(t, byte('b'+i))
			r := p.receiver(b, Prefetch(5))
			ls = append(ls, p.connect(a, s, b, r))
			ready(t, s, i+1)
			p.handling(t, r, func(ctx context.Context, m *socket.Message) error {
				time.Sleep(time.Millisecond)
				if m.Seq()%7 == 0 && m.Attempt() == 1 {
					return errors.New("again")
				}
				return nil
			})
		}
		done := make(chan struct{})
		var looking sync.WaitGroup
		looking.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(300 * time.Microsecond):
					balanced(t, s)
				}
			}
		})
		var sending sync.WaitGroup
		for range 4 {
			sending.Go(func() {
				for i := range 100 {
					if err := p.send(long(t), s, "x"); err != nil {
						t.Error(err)
					}
					balanced(t, s)
					if i%30 == 29 {
						ls[i%3].cut()
					}
				}
			})
		}
		sending.Wait()
		if err := p.settle(long(t), s); err != nil {
			t.Fatal(err)
		}
		close(done)
		looking.Wait()
		l := balanced(t, s)
		equal(t, "owed", l.Queued+l.Leased, 0)
		if l.Done < 50 {
			t.Errorf("ledger %+v", l)
		}
	})
}

func TestAClosedSenderSaysSo(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		s, r, l := p.pair(t)
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		l.inOrder()
		equal(t, "Closed calls", l.from.closed, 1)
		if err := errors.Join(s.Close(), s.Shutdown(long(t)), s.Close()); err != nil {
			t.Errorf("again: %v", err)
		}
		equal(t, "Closed calls", l.from.closed, 1)
		err := p.send(long(t), s, "x")
		matches(t, "send", err, net.ErrClosed)
		matches(t, "send", err, socket.ErrClosed)
		matches(t, "WaitReady", s.WaitReady(long(t), 1), net.ErrClosed)
		equal(t, "pipes at the receiver", r.Stats().Pipes, 0)
		near, _ := socket.Duplex()
		matches(t, "Meet", s.Meet(t.Context(), l.to.peer(), wire.Offer{Kind: r.Kind(), Name: "x"}, near), net.ErrClosed)
		equal(t, "accepted", balanced(t, s).Accepted, 0)
	})
}

func TestAClosedReceiverSaysSo(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		_, r, l := p.pair(t)
		_, stop := p.handling(t, r, nil)
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		matches(t, "handling", stop(), net.ErrClosed)
		matches(t, "handling anew", p.serve(long(t), r, nil), net.ErrClosed)
		if err := errors.Join(r.Close(), r.Shutdown(long(t))); err != nil {
			t.Errorf("again: %v", err)
		}
		equal(t, "Closed calls", l.to.closed, 1)
		l.inOrder()
		s2 := p.sender(newNode(t, 'c'))
		l2 := p.connect(newNode(t, 'c'), s2, l.to, r)
		synctest.Wait()
		l2.mu.Lock()
		defer l2.mu.Unlock()
		var rej *socket.Rejection
		if len(l2.errs) != 1 || !errors.As(l2.errs[0], &rej) || rej.Code != socket.CodeNoSocket || !rej.Remote {
			t.Errorf("a pipe to it ended with %v", l2.errs)
		}
		l2.down = true
	})
}

func TestSocketsThatNobodyJoinedCloseToo(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		n := newNode(t, 'a')
		for _, c := range []closer{p.sender(n), p.receiver(n)} {
			began := time.Now()
			if err := c.Shutdown(long(t)); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			equal(t, "it took", time.Since(began), 0)
		}
		equal(t, "Closed calls", n.closed, 2)
	})
}

func TestShutdownOfASenderWaitsForWhatIsOwed(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		s, r, l := p.pair(t)
		p.sendAll(t, s, 0, 10)
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(long(t)) }()
		synctest.Wait()
		matches(t, "send while it shuts down", p.send(long(t), s, "x"), net.ErrClosed)
		if len(ended) > 0 {
			t.Fatal("it did not wait")
		}
		got, _ := p.handling(t, r, func(context.Context, *socket.Message) error { time.Sleep(time.Second); return nil })
		if err := <-ended; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		same(t, "handled", got(), numbered(0, 10))
		equal(t, "done", balanced(t, s).Done, 10)
		l.inOrder()
	})
}

func TestShutdownThatMustGiveUpSaysSoAndCountsIt(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		s, r, l := p.pair(t)
		p.sendAll(t, s, 0, 10)
		got, _ := p.handling(t, r, func(context.Context, *socket.Message) error { time.Sleep(time.Second); return nil })
		began := time.Now()
		err := s.Shutdown(within(t, 3500*time.Millisecond))
		matches(t, "Shutdown", err, socket.ErrShutdown)
		matches(t, "Shutdown", err, context.DeadlineExceeded)
		if d := time.Since(began); d > 3500*time.Millisecond+closeGrace {
			t.Errorf("it took %v", d)
		}
		led := balanced(t, s)
		equal(t, "owed", led.Queued+led.Leased, 0)
		given := uint64(0)
		for _, n := range led.Dropped {
			given += n
		}
		equal(t, "done", led.Done, 3)
		equal(t, "given up", given, 7)
		time.Sleep(time.Minute)
		same(t, "handled", got(), numbered(0, 4)) // one was begun; the rest was revoked
		l.inOrder()
	})
}

func TestShutdownOfAReceiverFinishesWhatIsBegunAndGivesTheRestBack(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		s, r, l := p.pair(t)
		p.sendAll(t, s, 0, 5)
		got, stop := p.handling(t, r, func(context.Context, *socket.Message) error { time.Sleep(time.Second); return nil })
		synctest.Wait()
		if err := r.Shutdown(long(t)); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		stop()
		same(t, "handled", got(), numbered(0, 1))
		equal(t, "done", balanced(t, s).Done, 1)
		l.inOrder()
		if p.name == "pub" {
			equal(t, "gone with the subscriber", balanced(t, s).Dropped["gone"], 4)
			return
		}
		b := newNode(t, 'c')
		r2 := p.receiver(b)
		got2, _ := p.handling(t, r2, func(_ context.Context, m *socket.Message) error {
			if m.Redelivered() {
				t.Errorf("message %d was never begun and is flagged", m.Seq())
			}
			return nil
		})
		p.connect(l.from, s, b, r2)
		if err := p.settle(long(t), s); err != nil {
			t.Fatal(err)
		}
		same(t, "handled elsewhere", got2(), numbered(1, 5))
	})
}

func TestShutdownOfAReceiverEndsWithItsContext(t *testing.T) {
	onEach(t, func(t *testing.T, p pattern) {
		s, r, _ := p.pair(t)
		p.sendAll(t, s, 0, 1)
		ended := make(chan error, 1)
		p.handling(t, r, func(ctx context.Context, _ *socket.Message) error {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil
		})
		synctest.Wait()
		matches(t, "Shutdown", r.Shutdown(within(t, time.Second)), context.DeadlineExceeded)
		matches(t, "the handler's context", <-ended, net.ErrClosed)
	})
}

// What a socket calls back may use the socket: no lock is held.
func TestCallbacksRunWithoutLocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		var s *Push
		var r *Pull
		var told sync.WaitGroup
		told.Add(3)
		s = a.push(MaxDeliver(1), OnSettled(func(x Settled) {
			s.Stats()
			if x.Seq == 1 {
				if err := s.Send(context.Background(), []byte("from the callback")); err != nil {
					t.Error(err)
				}
			}
			told.Done()
		}))
		look := func(*socket.Message) { r.Stats() }
		r = b.pull(OnDone(look), OnNack(look), OnGap(func(socket.Gap) { r.Stats() }))
		connect(a, s, b, r)
		send(t, s, "bad", "good")
		recv(t, r, "bad").Nack(errors.New("bad"))
		acked(t, r, "good", "from the callback")
		told.Wait()
	})
}

func TestEachFateIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told fates
		a := newNode(t, 'a')
		s := a.push(Queue(20, 1<<20), OnOverflow(DropOldest), MaxDeliver(2), OnSettled(told.note))
		rng := rand.New(rand.NewPCG(3, 3))
		var ls []*link
		for i := range 3 {
			b := newNode(t, byte('b'+i))
			r := b.pull(Prefetch(3))
			ls = append(ls, connect(a, s, b, r))
			allPatterns[0].handling(t, r, func(_ context.Context, m *socket.Message) error {
				time.Sleep(time.Duration(m.Seq()%40) * time.Millisecond)
				if m.Seq()%5 == 0 {
					return errors.New("bad")
				}
				return nil
			})
		}
		for i := range 500 {
			m := &socket.Message{Body: []byte("x")}
			if i%3 == 0 {
				m.TTL = 20 * time.Millisecond
			}
			if _, err := s.SendMessage(long(t), m); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rng.IntN(4)) * time.Millisecond)
			switch rng.IntN(60) {
			case 0:
				ls[rng.IntN(3)].cut()
			case 1:
				l := ls[rng.IntN(3)]
				l.sever()
				time.AfterFunc(time.Duration(rng.IntN(15))*time.Second, l.heal)
			}
		}
		s.Shutdown(within(t, time.Minute))
		synctest.Wait()
		for seq, n := range told.counted(func(x Settled) string { return fmt.Sprint(x.Seq) }) {
			if n != 1 {
				t.Errorf("the fate of %s was told %d times", seq, n)
			}
		}
		l := balanced(t, s)
		states := told.counted(func(x Settled) string { return x.State })
		same(t, "fates", states, map[string]int{"done": int(l.Done), "dead": int(l.Dead), "expired": int(l.Expired), "dropped": int(l.Dropped["overflow"])})
		if l.Accepted != 500 || len(states) != 4 {
			t.Errorf("ledger %+v", l)
		}
		time.Sleep(20 * time.Second) // for the healers
	})
}
