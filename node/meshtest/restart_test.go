package meshtest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// holes notes what gaps a socket is told of.
type holes struct {
	mu   sync.Mutex
	gaps []socket.Gap
}

func (h *holes) note(g socket.Gap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gaps = append(h.gaps, g)
}

func (h *holes) told() []socket.Gap {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.gaps)
}

// covers reports whether seq lies in a gap.
func (h *holes) covers(seq uint64) bool {
	return slices.ContainsFunc(h.told(), func(g socket.Gap) bool { return g.From <= seq && seq <= g.To })
}

func TestWorkOfAKilledPullerGoesToTheOther(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		a, b, c := m.Node("a"), m.Node("b"), m.Node("c")
		ctx := within(t, 10*time.Minute)
		push := must[*patterns.Push](t)(a.Push("jobs"))
		pb, pc := must[*patterns.Pull](t)(b.Pull("jobs")), must[*patterns.Pull](t)(c.Pull("jobs"))
		check(t, push.WaitReady(ctx, 2))
		const count = 400
		sendNumbers(t, ctx, push, count, 0)
		begun, done := map[string]bool{}, map[string]bool{} // at b
		for range 50 {
			begun[string(must[*socket.Message](t)(pb.Recv(ctx)).Body)] = true
		}
		for range 100 {
			msg := must[*socket.Message](t)(pb.Recv(ctx))
			done[string(msg.Body)] = true
			check(t, msg.Ack())
		}
		time.Sleep(time.Second) // its answers arrive
		m.Kill(b)
		killed := time.Now()
		for len(done) < count {
			msg := must[*socket.Message](t)(pc.Recv(ctx))
			body := string(msg.Body)
			if done[body] {
				t.Errorf("%s was done already", body)
			}
			if begun[body] && !msg.Redelivered() {
				t.Errorf("%s was begun by the one that was killed, but is not flagged", body)
			}
			done[body] = true
			check(t, msg.Ack())
		}
		if took := time.Since(killed); took > 15*time.Second {
			t.Errorf("took %v, want at most 15s", took)
		}
		check(t, push.Flush(ctx))
		nothingMore(t, pc)
	})
}

// A puller whose process is restarted gets what the old process had in hand at once: no lease needs to run out.
func TestARestartedPullerGoesOnAtOnce(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), stateful(m, "b")
		ctx := within(t, 10*time.Minute)
		push, pull := must[*patterns.Push](t)(a.Push("jobs")), must[*patterns.Pull](t)(b.Pull("jobs"))
		const count = 100
		sendNumbers(t, ctx, push, count, 0)
		receiveNumbers(t, ctx, pull, 0, 40)
		time.Sleep(time.Second)
		m.Kill(b)
		pull = must[*patterns.Pull](t)(stateful(m, "b").Pull("jobs"))
		restarted := time.Now()
		for i := 40; i < count; i++ {
			msg := must[*socket.Message](t)(pull.Recv(ctx))
			if got := string(msg.Body); got != fmt.Sprint(i) || !msg.Redelivered() {
				t.Errorf("got %s, redelivered %v, want %d, flagged: the old process may have begun it", got, msg.Redelivered(), i)
			}
			check(t, msg.Ack())
		}
		if took := time.Since(restarted); took > 5*time.Second {
			t.Errorf("took %v, want at most 5s", took)
		}
		check(t, push.Flush(ctx))
	})
}

// A subscriber that comes back, as the same node or another, begins with what is published then.
func TestARestartedSubscriberBeginsAnew(t *testing.T) {
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
				a, b := m.Node("a"), open(m, "b")
				ctx := within(t, 10*time.Minute)
				pub, sub := must[*patterns.Pub](t)(a.Pub("news")), must[*patterns.Sub](t)(b.Sub("news"))
				check(t, pub.WaitReady(ctx, 1))
				for i := range 10 {
					check(t, pub.Publish(ctx, "x", fmt.Append(nil, i)))
				}
				receiveNumbers(t, ctx, sub, 0, 10)
				time.Sleep(time.Second) // its answers arrive
				m.Kill(b)
				check(t, pub.Publish(ctx, "x", []byte("for nobody")))
				var h holes
				sub = must[*patterns.Sub](t)(open(m, "b").Sub("news", patterns.OnGap(h.note)))
				time.Sleep(5 * time.Second)
				for i := range 10 {
					check(t, pub.Publish(ctx, "x", fmt.Append(nil, i)))
				}
				for got := ""; got != "9"; {
					msg := must[*socket.Message](t)(sub.Recv(ctx))
					got = string(msg.Body)
					if got == "for nobody" && !msg.Redelivered() {
						t.Error("a message for the old process came unflagged")
					}
					check(t, msg.Ack())
				}
				if gaps := h.told(); len(gaps) > 0 {
					t.Errorf("a new subscriber was told of the gaps %v", gaps)
				}
				time.Sleep(time.Minute) // by then the old one is taken for gone
				check(t, pub.Flush(ctx))
				if l := pub.Stats().Ledger; !l.Balanced() {
					t.Errorf("ledger %+v", l)
				}
			})
		})
	}
}

var openers = map[string]func(*meshtest.Mesh, string) *node.Node{
	"same node":    stateful,
	"another node": func(m *meshtest.Mesh, name string) *node.Node { return m.Node(name) },
}

// At level Memory a killed sender takes what it was owed with it. Its next life says so, before anything else.
func TestAKilledSendersHoleIsTold(t *testing.T) {
	for _, kind := range []string{"push", "pub"} {
		t.Run(kind, func(t *testing.T) {
			inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
				ctx := within(t, 10*time.Minute)
				b := m.Node("b", func(c *node.Config) { c.Peers = []string{m.Addr("a")} })
				var h holes
				opts := []patterns.Option{patterns.Prefetch(10), patterns.OnGap(h.note)}
				var s source
				if kind == "push" {
					s = must[*patterns.Pull](t)(b.Pull("x", opts...))
				} else {
					s = must[*patterns.Sub](t)(b.Sub("x", opts...))
				}
				a := stateful(m, "a")
				send := sender(t, ctx, a, kind)
				for i := range 100 {
					check(t, send([]byte(fmt.Sprint(i))))
				}
				receiveNumbers(t, ctx, s, 0, 50)
				time.Sleep(time.Second)
				m.Kill(a)
				send = sender(t, ctx, stateful(m, "a"), kind)
				check(t, send([]byte("again")))
				got := map[uint64]bool{}
				for {
					msg := must[*socket.Message](t)(s.Recv(ctx))
					got[msg.Seq()] = true
					if h.covers(msg.Seq()) {
						t.Errorf("seq %d came and was said to be lost", msg.Seq())
					}
					check(t, msg.Ack())
					if string(msg.Body) == "again" {
						break
					}
				}
				for seq := uint64(51); seq <= 100; seq++ {
					if !got[seq] && !h.covers(seq) {
						t.Errorf("seq %d was lost in silence; told were %v", seq, h.told())
					}
				}
			})
		})
	}
}

// sender opens a Push or a Pub with a receiver there, and returns its sending half.
func sender(t *testing.T, ctx context.Context, n *node.Node, kind string) func([]byte) error {
	if kind == "push" {
		p := must[*patterns.Push](t)(n.Push("x"))
		check(t, p.WaitReady(ctx, 1))
		return func(body []byte) error { return p.Send(ctx, body) }
	}
	p := must[*patterns.Pub](t)(n.Pub("x"))
	check(t, p.WaitReady(ctx, 1))
	return func(body []byte) error { return p.Publish(ctx, "topic", body) }
}

// A link is lost and found before the subscription is given up: what was published meanwhile on other topics is no
// gap.
func TestMessagesOfOtherTopicsAreNoGap(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		ctx := within(t, 10*time.Minute)
		var h holes
		pub, sub := must[*patterns.Pub](t)(a.Pub("news")), must[*patterns.Sub](t)(b.Sub("news", patterns.Topics("mine"), patterns.OnGap(h.note)))
		check(t, pub.WaitReady(ctx, 1))
		const count = 60
		var wg sync.WaitGroup
		wg.Go(func() { receiveNumbers(t, ctx, sub, 0, count) })
		for i := range count {
			if i%20 == 10 {
				m.Isolate(b)
				time.AfterFunc(14*time.Second, m.Heal) // longer than the link lasts, shorter than the subscription
			}
			check(t, pub.Publish(ctx, "theirs", nil))
			check(t, pub.Publish(ctx, "mine", fmt.Append(nil, i)))
			time.Sleep(time.Second)
		}
		wg.Wait()
		if gaps := h.told(); len(gaps) > 0 {
			t.Errorf("told of the gaps %v", gaps)
		}
	})
}
