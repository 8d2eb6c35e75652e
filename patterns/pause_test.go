package patterns

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/socket"
)

// workbook notes who handled what, in which order.
type workbook struct {
	mu  sync.Mutex
	by  map[string][]string // puller to bodies
	key map[string][]string // key to bodies
}

func newWorkbook() *workbook { return &workbook{by: map[string][]string{}, key: map[string][]string{}} }

func (d *workbook) note(who string, m *socket.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	body := string(m.Body)
	if m.Redelivered() {
		body += "!"
	}
	d.by[who] = append(d.by[who], body)
	d.key[m.Key] = append(d.key[m.Key], body)
}

func (d *workbook) handled(who string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.by[who])
}

// works has a puller handle messages until the test ends, each for that long.
func works(t *testing.T, d *workbook, who string, r *Pull, each time.Duration) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Handle(ctx, 4, func(_ context.Context, m *socket.Message) error { // ends with ctx
			time.Sleep(each)
			d.note(who, m)
			return nil
		})
	}()
	t.Cleanup(func() { stop(); <-done })
}

func TestAPausedPullLeavesAllToTheOther(t *testing.T) {
	const keys, each = 5, 40
	forms := map[string]func(t *testing.T) (*Push, []*Pull){
		"memory": func(t *testing.T) (*Push, []*Pull) {
			s, rs, _ := line(t, 2, nil, nil)
			return s, rs
		},
		"durable": func(t *testing.T) (*Push, []*Pull) {
			a, b, c := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir()), newKept(t, 'c', t.TempDir())
			s, rs := a.push(), []*Pull{b.pull(), c.pull()}
			connect(a.node, s, b.node, rs[0])
			connect(a.node, s, c.node, rs[1])
			ready(t, s, 2)
			return s, rs
		},
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, rs := form(t)
				d := newWorkbook()
				works(t, d, "a", rs[0], time.Second)
				works(t, d, "b", rs[1], time.Second)
				var sent [keys][]string
				for i := range keys * each {
					body := fmt.Sprint(i)
					sent[i%keys] = append(sent[i%keys], body)
					if _, err := s.SendMessage(long(t), &socket.Message{Body: []byte(body), Key: fmt.Sprint("k", i%keys)}); err != nil {
						t.Fatal(err)
					}
					if i%2 == 0 {
						send(t, s, "free")
					}
				}
				time.Sleep(5500 * time.Millisecond)
				rs[0].Pause()
				time.Sleep(1500 * time.Millisecond) // what it had begun is done
				before := d.handled("a")
				equal(t, "paused", rs[0].Stats().Paused, true)
				equal(t, "begun", rs[0].Stats().Begun, 0)
				equal(t, "queued", rs[0].Stats().Queued, 0)
				s.mu.Lock()
				equal(t, "ready", s.box.Ledger().Ready(), 1)
				s.mu.Unlock()
				time.Sleep(20 * time.Second)
				equal(t, "handled during the pause", d.handled("a"), before)
				rs[0].Resume()
				time.Sleep(5 * time.Second)
				if d.handled("a") == before {
					t.Error("nothing was handled after the pause")
				}
				rs[0].Pause()
				if err := s.Flush(long(t)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				equal(t, "done", balanced(t, s).Done, keys*each*3/2)
				equal(t, "handled", d.handled("a")+d.handled("b"), keys*each*3/2)
				for i := range keys {
					same(t, fmt.Sprint("k", i), d.key[fmt.Sprint("k", i)], sent[i])
				}
				equal(t, "flagged", s.Stats().Redelivered, 0)
			})
		})
	}
}

func TestAPullThatPausesAndGoesOnGetsAllInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, nil, []Option{Prefetch(10)})
		var want, got []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
		}
		send(t, s, want...)
		for i := range 100 {
			m, err := rs[0].Recv(long(t))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(m.Body))
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
			if i%7 == 3 {
				rs[0].Pause()
				if i%2 == 0 {
					time.Sleep(time.Second)
				}
				rs[0].Resume()
			}
		}
		same(t, "received", got, want)
		equal(t, "flagged", s.Stats().Redelivered, 0)
	})
}

// What is in hand during a long pause stays in hand: its lease is renewed.
func TestWhatAPausedPullHasBegunIsAckedInItsTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, ls := line(t, 2, nil, nil)
		send(t, s, "x")
		m := recv(t, rs[0], "x")
		rs[0].Pause()
		time.Sleep(10 * time.Minute)
		none(t, rs[1])
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		send(t, s, "y")
		acked(t, rs[1], "y")
		for _, l := range ls {
			l.inOrder()
		}
	})
}

func TestASenderThatComesDuringAPauseIsServedAfterIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newNode(t, 'a'), newNode(t, 'b')
		r := b.pull()
		r.Pause()
		s := a.push()
		connect(a, s, b, r)
		send(t, s, "x")
		none(t, r)
		matches(t, "WaitReady", s.WaitReady(within(t, time.Minute), 1), context.DeadlineExceeded)
		equal(t, "queued", balanced(t, s).Queued, 1)
		r.Resume()
		ready(t, s, 1)
		acked(t, r, "x")
	})
}

func TestAPauseOutlivesABrokenPipe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, ls := line(t, 1, nil, nil)
		send(t, s, "x", "y")
		m := recv(t, rs[0], "x")
		rs[0].Pause()
		ls[0].cut()
		time.Sleep(time.Minute)
		none(t, rs[0])
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		rs[0].Resume()
		acked(t, rs[0], "y")
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		equal(t, "flagged", s.Stats().Redelivered, 0)
	})
}

func TestADurablePushShutsDownWhenItsPullersPause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.push(), b.pull()
		connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, "x", "y")
		m := recv(t, r, "x")
		r.Pause()
		time.AfterFunc(10*time.Second, func() { _ = m.Ack() }) // seen in Done
		began := time.Now()
		if err := s.Shutdown(long(t)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d < 10*time.Second || d > time.Minute {
			t.Errorf("Shutdown took %v, the handler 10s", d)
		}
		equal(t, "done", balanced(t, s).Done, 1)
	})
}

func TestAPausedSubscriptionGetsAfterwardsWhatItsQueueHolds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, _ := channel(t, 2, nil, nil)
		rs[0].Pause()
		publish(t, p, "a", "1", "2")
		acked(t, rs[1], "1", "2")
		none(t, rs[0])
		rs[0].Resume()
		acked(t, rs[0], "1", "2")
	})
}

func TestRequestsGoToTheReplierThatIsNotPaused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newNode(t, 'a')
		q := a.req()
		var reps []*Rep
		for i, id := range []byte("bc") {
			n := newNode(t, id)
			r := n.rep()
			connect(a, q, n, r)
			ready(t, q, i+1)
			reps = append(reps, r)
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = r.ServeRequests(ctx, func(context.Context, *socket.Message) ([]byte, error) { return []byte{id}, nil }) // ends with ctx
			}()
			t.Cleanup(func() { stop(); <-done })
		}
		for i := range 20 {
			if i%10 == 0 {
				reps[i/10].Pause()
				reps[1-i/10].Resume()
				time.Sleep(time.Second)
			}
			answer, err := q.Request(long(t), []byte("x"))
			if err != nil || string(answer) != []string{"c", "b"}[i/10] {
				t.Errorf("request %d: %q, %v", i, answer, err)
			}
		}
	})
}
