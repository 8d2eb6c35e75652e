package patterns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// service is a req and n reps on nodes of their own, joined.
func service(t testing.TB, n int, req, rep []Option) (*Req, []*Rep, []*link) {
	a := newNode(t, 'a')
	q := a.req(req...)
	var rs []*Rep
	var ls []*link
	for i := range n {
		b := newNode(t, byte('b'+i))
		r := b.rep(rep...)
		rs = append(rs, r)
		ls = append(ls, connect(a, q, b, r))
		ready(t, q, i+1)
	}
	return q, rs, ls
}

// serving runs handler until the test ends.
func serving(t testing.TB, r *Rep, handler ReplyFunc) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.ServeRequests(ctx, handler)
	}()
	t.Cleanup(func() { stop(); <-ended })
}

// executions counts what a handler does.
type executions struct {
	mu sync.Mutex
	n  map[string]int
}

func (e *executions) count(body []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n == nil {
		e.n = map[string]int{}
	}
	e.n[string(body)]++
}

func (e *executions) of(body string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n[body]
}

func outcome(t testing.TB, what string, err error, want socket.Outcome) {
	t.Helper()
	if got := OutcomeOf(err); got != want {
		t.Errorf("%s: outcome %v (%v), want %v", what, got, err, want)
	}
}

func TestManyRequestsAreOutstandingAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, _ := service(t, 2, nil, []Option{Concurrency(100)})
		for _, r := range rs {
			serving(t, r, func(_ context.Context, m *socket.Message) ([]byte, error) {
				time.Sleep(time.Second)
				return append([]byte("re: "), m.Body...), nil
			})
		}
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				got, err := q.Request(long(t), fmt.Append(nil, i))
				if err != nil || string(got) != fmt.Sprint("re: ", i) {
					t.Errorf("request %d: %q, %v", i, got, err)
				}
			})
		}
		wg.Wait()
		equal(t, "took", time.Since(began).Round(100*time.Millisecond), time.Second)
		for i, r := range rs {
			equal(t, fmt.Sprint("answered by ", i), r.Stats().Done, 100)
		}
		l := balanced(t, q)
		equal(t, "done", l.Done, 200)
	})
}

func TestAReplyTellsWhoGaveIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, ls := service(t, 1, nil, nil)
		serving(t, rs[0], func(_ context.Context, m *socket.Message) ([]byte, error) { return []byte(m.Headers["h"]), nil })
		r, err := q.RequestMessage(long(t), &socket.Message{Headers: socket.Headers{"h": "v"}})
		if err != nil || string(r.Body) != "v" || r.By != ls[0].to.local.Node {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestAHandlersErrorIsTheRequesters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, ls := service(t, 1, nil, nil)
		serving(t, rs[0], func(_ context.Context, m *socket.Message) ([]byte, error) {
			return []byte("not this"), errors.New(string(m.Body))
		})
		for _, text := range []string{"no luck", "", strings.Repeat("long ", 100000)} {
			got, err := q.Request(long(t), []byte(text))
			var remote *RemoteError
			if !errors.As(err, &remote) || remote.Message != text || remote.By != ls[0].to.local.Node || got != nil {
				t.Errorf("%.20q: %q, %.100v", text, got, err)
			}
			outcome(t, text, err, wire.Error)
		}
	})
}

func TestADeadlineTellsWhatIsKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		q := a.req()
		_, err := q.Request(within(t, time.Second), nil)
		outcome(t, "nobody is there", err, wire.Failed)
		matches(t, "nobody is there", err, context.DeadlineExceeded)
		matches(t, "nobody is there", err, ErrNotExecuted)
		began := time.Now()
		_, err = q.Request(context.Background(), nil)
		outcome(t, "nobody is there, without a deadline", err, wire.Failed)
		matches(t, "nobody is there, without a deadline", err, context.DeadlineExceeded)
		equal(t, "waited", time.Since(began), DefaultDeadline)
		_, err = q.RequestMessage(context.Background(), &socket.Message{TTL: 5 * time.Second})
		outcome(t, "nobody is there, TTL", err, wire.Failed)
		equal(t, "waited", time.Since(began), DefaultDeadline+5*time.Second)

		r := b.rep()
		connect(a, q, b, r)
		ready(t, q, 1)
		_, err = q.Request(within(t, time.Second), nil)
		outcome(t, "it lies at a replier", err, wire.Indeterminate)
		matches(t, "it lies at a replier", err, context.DeadlineExceeded)
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, stop) // before the clock of its deadline
		_, err = q.Request(ctx, nil)
		outcome(t, "it lies at a replier, and nobody waits any more", err, wire.Indeterminate)
		synctest.Wait() // until the replier has heard
		var ran executions
		serving(t, r, func(ctx context.Context, m *socket.Message) ([]byte, error) {
			ran.count(m.Body)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		_, err = q.Request(within(t, time.Second), []byte("slow"))
		outcome(t, "it is being executed", err, wire.Indeterminate)
		matches(t, "it is being executed", err, ErrIndeterminate)
		equal(t, "executed", ran.of("slow"), 1)
		equal(t, "executed after its deadline", ran.of(""), 0)
		l := balanced(t, q)
		equal(t, "owed", l.Queued+l.Leased, 0)
	})
}

func TestARequestWhoseContextHasEndedIsNotMade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, _ := service(t, 1, nil, nil)
		var ran executions
		serving(t, rs[0], func(_ context.Context, m *socket.Message) ([]byte, error) { ran.count(m.Body); return nil, nil })
		cause := errors.New("enough")
		ctx, stop := context.WithCancelCause(t.Context())
		stop(cause)
		_, err := q.Request(ctx, []byte("x"))
		outcome(t, "cancelled before", err, wire.Failed)
		matches(t, "cancelled before", err, cause)
		past, stop2 := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer stop2()
		_, err = q.Request(past, []byte("x"))
		outcome(t, "deadline in the past", err, wire.Failed)
		matches(t, "deadline in the past", err, context.DeadlineExceeded)
		time.Sleep(time.Second)
		equal(t, "executed", ran.of("x"), 0)
		equal(t, "accepted", balanced(t, q).Accepted, 0)
	})
}

func TestCancellationReachesTheHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, _ := service(t, 1, nil, nil)
		causes := make(chan error, 1)
		serving(t, rs[0], func(ctx context.Context, m *socket.Message) ([]byte, error) {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil, nil
		})
		ctx, stop := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { _, err := q.Request(ctx, nil); ended <- err }()
		synctest.Wait()
		began := time.Now()
		cause := errors.New("enough")
		stop(cause)
		err := <-ended
		outcome(t, "cancelled", err, wire.Indeterminate)
		matches(t, "cancelled", err, cause)
		matches(t, "the handler's context", <-causes, socket.ErrRevoked)
		if d := time.Since(began); d > 10*time.Millisecond {
			t.Errorf("the handler was told after %v", d)
		}
	})
}

func TestTheHandlersContextEndsWithTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, _ := service(t, 1, nil, nil)
		after := make(chan time.Duration, 1)
		began := time.Now()
		serving(t, rs[0], func(ctx context.Context, m *socket.Message) ([]byte, error) {
			<-ctx.Done()
			after <- time.Since(began)
			return nil, nil
		})
		q.Request(within(t, 3*time.Second), nil)
		if d := <-after; d < 3*time.Second || d > 3*time.Second+10*time.Millisecond {
			t.Errorf("it ended after %v", d)
		}
	})
}

func TestACancelledRequestThatIsNotBegunIsNeverExecuted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, _ := service(t, 1, nil, []Option{Concurrency(1)})
		var ran executions
		serving(t, rs[0], func(_ context.Context, m *socket.Message) ([]byte, error) {
			ran.count(m.Body)
			time.Sleep(10 * time.Second)
			return nil, nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { q.Request(long(t), []byte("busy")) })
		synctest.Wait()
		_, err := q.Request(within(t, time.Second), []byte("x"))
		outcome(t, "queued at the replier", err, wire.Indeterminate)
		wg.Wait()
		time.Sleep(time.Minute)
		equal(t, "executed", ran.of("x"), 0)
	})
}

// flaky closes a connection after so many bytes were written, in the middle of
// whatever that is.
type flaky struct {
	socket.Conn
	left int
}

func (f *flaky) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		n, _ := f.Conn.Write(b[:max(0, len(b)+f.left)])
		f.Close()
		return n, net.ErrClosed
	}
	return f.Conn.Write(b)
}

// mute is a connection whose reading side breaks after so many bytes.
type mute struct {
	socket.Conn
	left int
}

func (m *mute) Read(b []byte) (int, error) {
	if m.left <= 0 {
		m.Close()
		return 0, net.ErrClosed
	}
	n, err := m.Conn.Read(b[:min(len(b), m.left)])
	m.left -= n
	return n, err
}

// Wherever the pipe breaks, in either direction, a request is executed exactly once
// and its answer arrives.
func TestOnceNeverExecutesTwiceWhereverThePipeIsCut(t *testing.T) {
	for _, req := range [][]Option{{Executed(Once)}, {Executed(Idempotent)}} {
		for cut := range 40 {
			for _, reading := range []bool{false, true} {
				bubble(t, func(t *testing.T) {
					a, b := newNode(t, 'a'), newNode(t, 'b')
					q, r := a.req(req...), b.rep()
					var ran executions
					serving(t, r, func(_ context.Context, m *socket.Message) ([]byte, error) {
						ran.count(m.Body)
						time.Sleep(time.Millisecond)
						return append([]byte("re: "), m.Body...), nil
					})
					n := 0
					l := newLink(a, q, b, r)
					l.wrap = func(c socket.Conn) socket.Conn { // the first pipes break, each a little later
						if n++; n > 10 {
							return c
						}
						at := 10 + 40*cut + 17*n
						if reading {
							return &mute{c, at}
						}
						return &flaky{c, at}
					}
					l.direct = cut%2 == 0
					l.start()
					var wg sync.WaitGroup
					for i := range 5 {
						wg.Go(func() {
							body := fmt.Sprint(i)
							got, err := q.Request(long(t), []byte(body))
							if err != nil || string(got) != "re: "+body {
								t.Errorf("cut %d, reading %v: request %d: %q, %v", cut, reading, i, got, err)
							}
							if x := ran.of(body); x != 1 {
								t.Errorf("cut %d, reading %v: request %d was executed %d times", cut, reading, i, x)
							}
						})
						time.Sleep(100 * time.Millisecond)
					}
					wg.Wait()
					balanced(t, q)
				})
			}
		}
	}
}

func TestARequestToAReplierThatDiesIsIndeterminateOrAskedAgain(t *testing.T) {
	for _, c := range []struct {
		level Execution
		want  socket.Outcome
		runs  int
	}{{Once, wire.Indeterminate, 1}, {Idempotent, wire.OK, 2}} {
		bubble(t, func(t *testing.T) {
			a, b := newNode(t, 'a'), newNode(t, 'b')
			q, r := a.req(Executed(c.level)), b.rep()
			var ran executions
			serving(t, r, func(ctx context.Context, m *socket.Message) ([]byte, error) {
				ran.count(m.Body)
				time.Sleep(time.Minute)
				return nil, nil
			})
			l := connect(a, q, b, r)
			ready(t, q, 1)
			ended := make(chan error, 1)
			go func() { _, err := q.Request(long(t), []byte("x")); ended <- err }()
			synctest.Wait()
			l.part() // for good
			b2 := b.again()
			r2 := b2.rep()
			serving(t, r2, func(_ context.Context, m *socket.Message) ([]byte, error) {
				if !m.Redelivered() {
					t.Error("not flagged")
				}
				ran.count(m.Body)
				return nil, nil
			})
			connect(a, q, b2, r2)
			outcome(t, fmt.Sprint("level ", c.level), <-ended, c.want)
			equal(t, "executed", ran.of("x"), c.runs)
			balanced(t, q)
		})
	}
}

func TestAReplierThatClosesWithAHandlerRunning(t *testing.T) {
	for _, c := range []struct {
		level Execution
		want  socket.Outcome
		runs  int
	}{{Once, wire.Indeterminate, 1}, {Idempotent, wire.OK, 2}} {
		bubble(t, func(t *testing.T) {
			q, rs, _ := service(t, 2, []Option{Executed(c.level)}, []Option{Concurrency(1)})
			var ran executions
			handler := func(ctx context.Context, m *socket.Message) ([]byte, error) {
				ran.count(m.Body)
				if ran.of(string(m.Body)) == 1 && string(m.Body) == "a" {
					<-ctx.Done()
					return nil, context.Cause(ctx)
				}
				return nil, nil
			}
			serving(t, rs[0], handler)
			ended := map[string]chan error{}
			for _, body := range []string{"a", "b", "c"} { // "b" goes to the other, "c" waits behind "a"
				ended[body] = make(chan error, 1)
				go func() { _, err := q.Request(long(t), []byte(body)); ended[body] <- err }()
				synctest.Wait()
			}
			if err := rs[0].Close(); err != nil {
				t.Fatal(err)
			}
			serving(t, rs[1], handler)
			outcome(t, fmt.Sprint("begun, level ", c.level), <-ended["a"], c.want)
			equal(t, "executed", ran.of("a"), c.runs)
			for _, body := range []string{"b", "c"} {
				outcome(t, "not begun", <-ended[body], wire.OK)
				equal(t, "executed", ran.of(body), 1)
			}
		})
	}
}

func TestAReplierThatShutsDownAnswersWhatItHasBegun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, ls := service(t, 2, nil, []Option{Concurrency(1)})
		var ran executions
		handler := func(_ context.Context, m *socket.Message) ([]byte, error) {
			ran.count(m.Body)
			time.Sleep(time.Second)
			return m.Body, nil
		}
		serving(t, rs[0], handler)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				body := fmt.Sprint(i)
				_, err := q.Request(long(t), []byte(body))
				outcome(t, "request "+body, err, wire.OK)
				equal(t, "executed", ran.of(body), 1)
			})
		}
		synctest.Wait()
		if err := rs[0].Shutdown(long(t)); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		serving(t, rs[1], handler)
		wg.Wait()
		ls[0].inOrder()
	})
}

func TestRepliesLargerThanTheirWindowArrive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, ls := service(t, 1, nil, nil)
		serving(t, rs[0], func(_ context.Context, m *socket.Message) ([]byte, error) {
			var n int
			fmt.Sscan(string(m.Body), &n)
			body := make([]byte, n)
			for i := range body {
				body[i] = byte(i * 13)
			}
			return body, nil
		})
		var wg sync.WaitGroup
		for _, n := range []int{0, 1, replyWindow - 1, replyWindow, replyWindow + 1, 3*replyWindow + 7, 8 << 20} {
			wg.Go(func() {
				got, err := q.Request(long(t), fmt.Append(nil, n))
				if err != nil || len(got) != n {
					t.Errorf("reply of %d bytes: %d, %v", n, len(got), err)
				}
				for i := range got {
					if got[i] != byte(i*13) {
						t.Fatalf("reply of %d bytes: byte %d was changed", n, i)
					}
				}
			})
		}
		wg.Wait()
		_, err := q.Request(long(t), fmt.Append(nil, 8<<20+1))
		outcome(t, "a reply above the limit", err, wire.Error)
		got, err := q.Request(long(t), []byte("1"))
		if err != nil || len(got) != 1 {
			t.Errorf("the next one: %q, %v", got, err)
		}
		ls[0].inOrder()
	})
}

// The replier may take more than the requester: its reply must not end pipe after pipe.
func TestAReplyAboveTheRequestersLimitIsAnErrorAndHoldsUpNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		a.local.MaxMessage = 1000
		q, r := a.req(), b.rep()
		l := connect(a, q, b, r)
		serving(t, r, func(_ context.Context, m *socket.Message) ([]byte, error) {
			if len(m.Body) > 0 {
				return make([]byte, 100000), nil
			}
			return nil, nil
		})
		_, err := q.Request(long(t), []byte("x"))
		outcome(t, "a reply above the limit", err, wire.Error)
		_, err = q.Request(long(t), nil)
		outcome(t, "the next one", err, wire.OK)
		l.inOrder()
	})
}

func TestARequestAboveTheRepliersLimitIsCertainlyNotExecuted(t *testing.T) {
	for _, size := range []int{2000, 2 << 20} {
		bubble(t, func(t *testing.T) {
			a, b := newNode(t, 'a'), newNode(t, 'b')
			b.local.MaxMessage = 1000
			q, r := a.req(), b.rep()
			l := connect(a, q, b, r)
			serving(t, r, func(context.Context, *socket.Message) ([]byte, error) { return nil, nil })
			_, err := q.Request(long(t), make([]byte, size))
			outcome(t, "a request above the limit", err, wire.Failed)
			if err == nil || !strings.Contains(err.Error(), "at most") {
				t.Errorf("it says %v", err)
			}
			_, err = q.Request(long(t), nil)
			outcome(t, "the next one", err, wire.OK)
			l.inOrder()
		})
	}
}

// Requests that run into their deadline while the pipe is stuck must not use up the
// credit that the replier gave.
func TestAServiceRecoversFromATimeOfTimeouts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, ls := service(t, 1, nil, []Option{Prefetch(4)})
		for range 5 {
			for range 10 {
				q.Request(within(t, time.Second), make([]byte, 100<<10))
			}
			if len(rs) == 1 {
				serving(t, rs[0], func(context.Context, *socket.Message) ([]byte, error) { return nil, nil })
				rs = nil
			}
			_, err := q.Request(long(t), nil)
			outcome(t, "afterwards", err, wire.OK)
		}
		ls[0].inOrder()
	})
}

func TestAFullQueueOfRequestsBlocksOrRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newNode(t, 'a').req(Queue(1, 1<<20), OnOverflow(Refuse))
		var wg sync.WaitGroup
		wg.Go(func() { q.Request(within(t, time.Minute), nil) })
		synctest.Wait()
		_, err := q.Request(long(t), nil)
		matches(t, "refused", err, socket.ErrQueueFull)
		outcome(t, "refused", err, wire.Failed)
		wg.Wait()
		b := newNode(t, 'b').req(Queue(1, 1<<20))
		wg.Go(func() { b.Request(within(t, time.Minute), nil) })
		synctest.Wait()
		_, err = b.Request(within(t, time.Second), nil)
		matches(t, "blocked", err, context.DeadlineExceeded)
		outcome(t, "blocked", err, wire.Failed)
		equal(t, "accepted", balanced(t, b).Accepted, 1)
		wg.Wait()
	})
}

func TestClosingARequesterEndsItsRequestsWithTheTruth(t *testing.T) {
	for name, end := range map[string]func(testing.TB, *Req) error{
		"Close":    func(_ testing.TB, q *Req) error { return q.Close() },
		"Shutdown": func(t testing.TB, q *Req) error { return q.Shutdown(within(t, time.Second)) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q, rs, ls := service(t, 1, nil, []Option{Prefetch(1)})
				causes := make(chan error, 1)
				serving(t, rs[0], func(ctx context.Context, _ *socket.Message) ([]byte, error) {
					<-ctx.Done()
					causes <- context.Cause(ctx)
					return nil, nil
				})
				ended := make([]chan error, 2) // one is executed, one does not fit
				for i := range ended {
					ended[i] = make(chan error, 1)
					go func() { _, err := q.Request(long(t), nil); ended[i] <- err }()
					synctest.Wait()
				}
				err := end(t, q)
				if name == "Shutdown" {
					matches(t, name, err, socket.ErrShutdown)
					matches(t, name, err, context.DeadlineExceeded)
				} else if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				outcome(t, "begun", <-ended[0], wire.Indeterminate)
				outcome(t, "not begun", <-ended[1], wire.Failed)
				matches(t, "the handler's context", <-causes, socket.ErrRevoked)
				l := balanced(t, q)
				equal(t, "owed", l.Queued+l.Leased, 0)
				_, err = q.Request(long(t), nil)
				matches(t, "Request after the end", err, net.ErrClosed)
				outcome(t, "Request after the end", err, wire.Failed)
				ls[0].inOrder()
			})
		})
	}
}

func TestShutdownOfARequesterWaitsForItsAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, ls := service(t, 1, nil, nil)
		serving(t, rs[0], func(context.Context, *socket.Message) ([]byte, error) {
			time.Sleep(3 * time.Second)
			return []byte("late"), nil
		})
		ended := make(chan error, 1)
		go func() { _, err := q.Request(long(t), nil); ended <- err }()
		synctest.Wait()
		if err := q.Shutdown(long(t)); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		outcome(t, "request", <-ended, wire.OK)
		ls[0].inOrder()
	})
}
