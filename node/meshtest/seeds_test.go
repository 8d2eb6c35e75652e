package meshtest_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// badLink loses a tenth, doubles a twentieth and holds back a tenth of all packets.
var badLink = meshtest.Link{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.10, Duplicate: 0.05, Reorder: 0.10}

// perPattern is how many messages each pattern sends in each bad network.
const perPattern = 2000

// overSeeds runs f in as many bubbles as PEERMESH_SEEDS says, 3 without it, each on a bad network of its own.
func overSeeds(t *testing.T, f func(*testing.T, *meshtest.Mesh)) {
	t.Helper()
	count := 3
	if s := os.Getenv("PEERMESH_SEEDS"); s != "" {
		var err error
		if count, err = strconv.Atoi(s); err != nil || count < 1 {
			t.Fatalf("PEERMESH_SEEDS=%q, want a number of seeds", s)
		}
	}
	for seed := range uint64(count) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				m := meshtest.New(t, meshtest.Config{Seed: seed, Link: badLink})
				f(t, m)
				t.Logf("%v of fake time, %+v", time.Since(began), m.Net().Stats())
			})
		})
	}
}

func TestPushedMessagesArriveOnceInOrderSeeds(t *testing.T) {
	overSeeds(t, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		ctx := within(t, 10*time.Minute)
		push, pull := must[*patterns.Push](t)(a.Push("jobs")), must[*patterns.Pull](t)(b.Pull("jobs"))
		var wg sync.WaitGroup
		wg.Go(func() { sendNumbers(t, ctx, push, perPattern, 5*time.Millisecond) })
		receiveNumbers(t, ctx, pull, 0, perPattern)
		wg.Wait()
		check(t, push.Flush(ctx))
		if l := push.Stats().Ledger; l.Done != perPattern || l.Accepted != perPattern || !l.Balanced() {
			t.Errorf("ledger %+v, want %d done", l, perPattern)
		}
		nothingMore(t, pull)
	})
}

func TestPublishedMessagesArriveOnceInOrderSeeds(t *testing.T) {
	overSeeds(t, func(t *testing.T, m *meshtest.Mesh) {
		nodes := []*node.Node{m.Node("a"), m.Node("b"), m.Node("c")}
		ctx := within(t, 10*time.Minute)
		pub := must[*patterns.Pub](t)(nodes[0].Pub("news", patterns.OnOverflow(patterns.Block), patterns.Queue(50, 1<<20)))
		var subs []*patterns.Sub
		for _, n := range nodes {
			subs = append(subs, must[*patterns.Sub](t)(n.Sub("news")))
		}
		check(t, pub.WaitReady(ctx, len(subs)))
		var wg sync.WaitGroup
		for _, s := range subs {
			wg.Go(func() { receiveNumbers(t, ctx, s, 0, perPattern) })
		}
		for i := range perPattern {
			check(t, pub.Publish(ctx, "news", fmt.Append(nil, i)))
		}
		wg.Wait()
		check(t, pub.Flush(ctx))
		total := uint64(len(subs) * perPattern)
		if l := pub.Stats().Ledger; l.Done != total || l.Accepted != total || !l.Balanced() {
			t.Errorf("ledger %+v, want %d done", l, total)
		}
		for _, s := range subs {
			nothingMore(t, s)
		}
	})
}

func TestRequestsAreExecutedOnceSeeds(t *testing.T) {
	overSeeds(t, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		ctx := within(t, 10*time.Minute)
		req, rep := must[*patterns.Req](t)(a.Req("echo")), must[*patterns.Rep](t)(b.Rep("echo", patterns.Concurrency(1)))
		executed := map[string]int{}
		var serving, asking sync.WaitGroup
		serving.Go(func() {
			rep.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) {
				executed[string(m.Body)]++
				return append([]byte("re "), m.Body...), nil
			})
		})
		const askers = 10
		for k := range askers {
			asking.Go(func() {
				for i := range perPattern / askers {
					q := fmt.Sprint(k, "/", i)
					if got, err := req.Request(ctx, []byte(q)); err != nil || string(got) != "re "+q {
						t.Errorf("request %s: %q, %v", q, got, err)
						return
					}
				}
			})
		}
		asking.Wait()
		check(t, rep.Close())
		serving.Wait()
		if len(executed) != perPattern {
			t.Errorf("%d requests were executed, want %d", len(executed), perPattern)
		}
		for q, n := range executed {
			if n != 1 {
				t.Errorf("%s was executed %d times", q, n)
			}
		}
	})
}

// Shutdown returns when all that was accepted is done, and what it said of it is true.
func TestShutdownLosesNothingSeeds(t *testing.T) {
	overSeeds(t, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		ctx := within(t, 10*time.Minute)
		push, pull := must[*patterns.Push](t)(a.Push("jobs")), must[*patterns.Pull](t)(b.Pull("jobs"))
		sendNumbers(t, ctx, push, perPattern, 0)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := a.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
		receiveNumbers(t, ctx, pull, 0, perPattern)
		wg.Wait()
		if l := push.Stats().Ledger; l.Done != perPattern || !l.Balanced() {
			t.Errorf("ledger %+v, want %d done", l, perPattern)
		}
	})
}

// Pullers that come and go in good order hand over what they had not begun.
func TestPullersThatShutDownLoseNothingSeeds(t *testing.T) {
	overSeeds(t, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		ctx := within(t, 10*time.Minute)
		push := must[*patterns.Push](t)(a.Push("jobs"))
		var mu sync.Mutex
		handled := map[string]int{}
		flagged := 0
		var wg sync.WaitGroup
		work := func(n *node.Node) {
			p := must[*patterns.Pull](t)(n.Pull("jobs"))
			wg.Go(func() {
				p.Handle(ctx, 4, func(_ context.Context, m *socket.Message) error {
					time.Sleep(2 * time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					handled[string(m.Body)]++
					if m.Redelivered() {
						flagged++
					}
					return nil
				})
			})
		}
		work(b)
		wg.Go(func() { sendNumbers(t, ctx, push, perPattern, time.Millisecond) })
		for range 4 {
			c := m.Node("c")
			work(c)
			time.Sleep(500 * time.Millisecond)
			check(t, c.Shutdown(ctx))
		}
		check(t, a.Shutdown(ctx))
		check(t, b.Shutdown(ctx))
		wg.Wait()
		if len(handled) != perPattern {
			t.Errorf("%d messages were handled, want %d", len(handled), perPattern)
		}
		for body, n := range handled {
			if n != 1 {
				t.Errorf("message %s was handled %d times", body, n)
			}
		}
		if flagged > 0 { // what was on its way to one that left was begun by nobody
			t.Errorf("%d messages were flagged as redelivered, want none", flagged)
		}
	})
}

// Messages beyond 256 KiB travel in parts, and small ones pass between them.
func TestLargeMessagesArriveWholeSeeds(t *testing.T) {
	overSeeds(t, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		ctx := within(t, 10*time.Minute)
		push, pull := must[*patterns.Push](t)(a.Push("jobs")), must[*patterns.Pull](t)(b.Pull("jobs"))
		body := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, []int{10, 300 << 10, 1000, 1 << 20}[i%4]) }
		const count = 16
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range count {
				check(t, push.Send(ctx, body(i)))
			}
		})
		for i := range count {
			msg := must[*socket.Message](t)(pull.Recv(ctx))
			if !bytes.Equal(msg.Body, body(i)) || msg.Redelivered() {
				t.Fatalf("message %d: %d bytes, redelivered %v", i, len(msg.Body), msg.Redelivered())
			}
			check(t, msg.Ack())
		}
		wg.Wait()
		check(t, push.Flush(ctx))
	})
}
