package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// outages are shorter than what ends a link (10 s), about as long as a lease, and longer than both.
var outages = []time.Duration{time.Second, 4 * time.Second, 9 * time.Second, 10 * time.Second, 12 * time.Second, 30 * time.Second, 100 * time.Second}

func TestAPartitionLosesAndRepeatsNothing(t *testing.T) {
	for _, out := range outages {
		t.Run(out.String(), func(t *testing.T) {
			t.Parallel()
			inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
				a, b := m.Node("a"), m.Node("b")
				ctx := within(t, 10*time.Minute)
				push, pull := must[*patterns.Push](t)(a.Push("jobs")), must[*patterns.Pull](t)(b.Pull("jobs"))
				const count = 2000
				var wg sync.WaitGroup
				wg.Go(func() { sendNumbers(t, ctx, push, count, 2*time.Millisecond) })
				time.AfterFunc(2*time.Second, func() { m.Partition([]*node.Node{a}, []*node.Node{b}) })
				time.AfterFunc(2*time.Second+out, m.Heal)
				receiveNumbers(t, ctx, pull, 0, count)
				wg.Wait()
				check(t, push.Flush(ctx))
				nothingMore(t, pull)
			})
		})
	}
}

// What is in a puller's hands, begun or not, when the cable is cut: with nobody else to take it, it is handled once
// all the same.
func TestAPartitionLeavesWhatIsInHandAlone(t *testing.T) {
	for _, out := range outages {
		t.Run(out.String(), func(t *testing.T) {
			t.Parallel()
			inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
				a, b := m.Node("a"), m.Node("b")
				ctx := within(t, 10*time.Minute)
				push, pull := must[*patterns.Push](t)(a.Push("jobs")), must[*patterns.Pull](t)(b.Pull("jobs"))
				const count = 300
				sendNumbers(t, ctx, push, count, 0)
				begun := must[*socket.Message](t)(pull.Recv(ctx))
				time.Sleep(time.Second)
				m.Isolate(b)
				time.Sleep(out / 2)
				check(t, begun.Ack()) // nobody hears it yet
				time.Sleep(out / 2)
				m.Heal()
				receiveNumbers(t, ctx, pull, 1, count)
				check(t, push.Flush(ctx))
				nothingMore(t, pull)
			})
		})
	}
}

// A link is cut while requests are on their way, being executed, and being answered.
func TestACutLinkDoublesNoRequest(t *testing.T) {
	for _, ex := range []patterns.Execution{patterns.Once, patterns.Idempotent} {
		for _, out := range []time.Duration{3 * time.Second, 25 * time.Second} {
			t.Run(fmt.Sprintf("execution %d, %v", ex, out), func(t *testing.T) {
				t.Parallel()
				inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) { askThroughCut(t, m, ex, out) })
			})
		}
	}
}

func askThroughCut(t *testing.T, m *meshtest.Mesh, ex patterns.Execution, out time.Duration) {
	a, b := m.Node("a"), m.Node("b")
	ctx := within(t, 10*time.Minute)
	req, rep := must[*patterns.Req](t)(a.Req("slow", patterns.Executed(ex))), must[*patterns.Rep](t)(b.Rep("slow"))
	var mu sync.Mutex
	executed := map[string]int{}
	go rep.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) {
		mu.Lock()
		executed[string(m.Body)]++
		mu.Unlock()
		time.Sleep(time.Second)
		return m.Body, nil
	})
	check(t, req.WaitReady(ctx, 1))
	outcomes := map[string]int{}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 10 * time.Millisecond)
			q := fmt.Sprint(i)
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			body, err := req.Request(ctx, []byte(q))
			mu.Lock()
			defer mu.Unlock()
			outcomes[fmt.Sprint(patterns.OutcomeOf(err))]++
			switch n := executed[q]; {
			case err == nil && (string(body) != q || n < 1):
				t.Errorf("%s: answer %q, executed %d times", q, body, n)
			case err != nil && ex == patterns.Idempotent:
				t.Errorf("%s: %v", q, err)
			case errors.Is(err, patterns.ErrNotExecuted) && n > 0:
				t.Errorf("%s: %v, but executed %d times", q, err, n)
			}
		})
	}
	time.Sleep(1500 * time.Millisecond)
	m.Isolate(b)
	time.Sleep(out)
	m.Heal()
	wg.Wait()
	for q, n := range executed {
		if n > 1 && ex == patterns.Once {
			t.Errorf("%s was executed %d times", q, n)
		}
	}
	t.Logf("%v, %d executed", outcomes, len(executed))
}

// A replier is killed with requests in its hands: nobody will ever know what it did.
func TestAKilledReplierLeavesNoRequestUnanswered(t *testing.T) {
	for _, ex := range []patterns.Execution{patterns.Once, patterns.Idempotent} {
		t.Run(fmt.Sprint("execution ", ex), func(t *testing.T) {
			inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
				a, b, c := m.Node("a"), m.Node("b"), m.Node("c")
				ctx := within(t, 10*time.Minute)
				req := must[*patterns.Req](t)(a.Req("slow", patterns.Executed(ex)))
				var mu sync.Mutex
				executed := map[string]int{}
				for _, n := range []*node.Node{b, c} {
					rep := must[*patterns.Rep](t)(n.Rep("slow"))
					go rep.ServeRequests(ctx, func(ctx context.Context, m *socket.Message) ([]byte, error) {
						mu.Lock()
						executed[string(m.Body)]++
						mu.Unlock()
						time.Sleep(time.Second)
						return m.Body, nil
					})
				}
				check(t, req.WaitReady(ctx, 2))
				var wg sync.WaitGroup
				doubt := 0
				for i := range 40 {
					wg.Go(func() {
						q := fmt.Sprint(i)
						body, err := req.Request(ctx, []byte(q))
						mu.Lock()
						defer mu.Unlock()
						switch {
						case err == nil && string(body) == q && executed[q] > 0:
						case ex == patterns.Once && errors.Is(err, patterns.ErrIndeterminate):
							doubt++
						default:
							t.Errorf("%s: %q, %v, executed %d times", q, body, err, executed[q])
						}
					})
				}
				time.Sleep(500 * time.Millisecond)
				m.Kill(b)
				wg.Wait()
				for q, n := range executed {
					if n > 1 && ex == patterns.Once {
						t.Errorf("%s was executed %d times", q, n)
					}
				}
				t.Logf("%d in doubt", doubt)
			})
		})
	}
}
