package meshtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// listener is a subscription and what it heard of one publisher.
type listener struct {
	name string
	node *node.Node

	mu       sync.Mutex
	heard    []hearing
	first    map[uint64]bool // delivered, whether flagged
	gaps     map[uint64]string
	problems []string
}

type hearing struct {
	seq, attempt uint64
	flagged      bool
	at           time.Time
}

func (l *listener) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

func (l *listener) gap(g socket.Gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := g.From; i <= g.To; i++ {
		if _, ok := l.first[i]; ok {
			l.problem("gap %d (%s) after its delivery", i, g.Reason)
		}
		l.gaps[i] = g.Reason
	}
}

func (l *listener) hear(m *socket.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.gaps[m.Seq()]; ok {
		l.problem("%d delivered after its gap (%s), flagged %v", m.Seq(), r, m.Redelivered())
	}
	if _, again := l.first[m.Seq()]; again {
		l.problem("%d delivered again, flagged %v", m.Seq(), m.Redelivered())
	}
	l.first[m.Seq()] = m.Redelivered()
	l.heard = append(l.heard, hearing{m.Seq(), m.Attempt(), m.Redelivered(), time.Now()})
}

func newListener(n *node.Node) *listener {
	return &listener{name: n.Name(), node: n, first: map[uint64]bool{}, gaps: map[uint64]string{}}
}

// listen notes what a subscription gets, and handles each message for up to slow.
func (l *listener) listen(ctx context.Context, sub *patterns.Sub, slow time.Duration) {
	for m := range sub.Messages(ctx) {
		l.hear(m)
		if slow > 0 {
			time.Sleep(rand.N(slow))
		}
	}
}

// check holds what was heard against what was published, seqs 1 to last.
func (l *listener) check(t *testing.T, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.problems[:min(3, len(l.problems))] {
		t.Errorf("%s: %s", l.name, p)
	}
	for i := uint64(1); i <= last; i++ {
		if _, ok := l.first[i]; !ok && l.gaps[i] == "" {
			t.Errorf("%s: %d neither delivered nor in a gap", l.name, i)
			break
		}
	}
	for i, h := range l.heard[min(1, len(l.heard)):] {
		if h.seq < l.heard[i].seq {
			t.Errorf("%s: %d after %d: %s", l.name, h.seq, l.heard[i].seq, fmt.Sprint(l.heard[max(0, i-5):min(i+5, len(l.heard))]))
			break
		}
	}
	t.Logf("%s: %d delivered, %d in gaps", l.name, len(l.first), len(l.gaps))
}

func TestSubscribersMissNothingUntoldSeeds(t *testing.T) {
	for _, policy := range []patterns.Overflow{patterns.Block, patterns.DropOldest, patterns.DropNewest} {
		t.Run(policy.String(), func(t *testing.T) {
			overSeeds(t, func(t *testing.T, m *meshtest.Mesh) { pubStorm(t, m, policy) })
		})
	}
}

func pubStorm(t *testing.T, m *meshtest.Mesh, policy patterns.Overflow) {
	m.Net().SetDefault(meshtest.Link{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.01})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var users, sending sync.WaitGroup
	p := m.Node("p")
	pub := must[*patterns.Pub](t)(p.Pub("news", patterns.OnOverflow(policy), patterns.Queue(100, 1<<20)))
	var ls []*listener
	for _, slow := range []time.Duration{0, 5 * time.Millisecond, 40 * time.Millisecond} {
		l := newListener(m.Node(fmt.Sprint("sub ", slow)))
		sub := must[*patterns.Sub](t)(l.node.Sub("news", patterns.OnGap(l.gap)))
		users.Go(func() { l.listen(ctx, sub, slow) })
		ls = append(ls, l)
	}
	if err := pub.WaitReady(ctx, len(ls)); err != nil {
		t.Fatal(err)
	}
	sending.Go(func() {
		count := lighter(3000)
		for i := range count {
			if err := pub.Publish(ctx, "a.b", []byte(strings.Repeat("x", i%300))); err != nil {
				t.Errorf("publish %d: %v", i, err)
				return
			}
			if i%10 == 0 {
				time.Sleep(rand.N(2 * stormFor * 10 / time.Duration(count)))
			}
		}
	})
	for end := time.Now().Add(stormFor); time.Now().Before(end); {
		time.Sleep(rand.N(3 * time.Second))
		l := ls[rand.IntN(len(ls))]
		switch rand.IntN(4) {
		case 0:
			m.Isolate(l.node)
		case 1:
			m.Partition([]*node.Node{p}, []*node.Node{l.node})
		case 2:
			bad := badLink
			bad.Loss = 0.3
			m.Net().SetLink(m.Host(p), m.Host(l.node), bad)
		case 3:
			m.Heal()
		}
		if rand.IntN(3) == 0 {
			time.Sleep(rand.N(20 * time.Second))
			m.Heal()
		}
	}
	m.Heal()
	sending.Wait()
	if err := pub.Flush(ctx); err != nil {
		t.Errorf("flush: %v, %+v", err, pub.Stats())
	}
	time.Sleep(30 * time.Second)
	last, err := pub.PublishMessage(ctx, &socket.Message{Topic: "end"}) // gaps are told before the next message
	if err != nil {
		t.Error(err)
	}
	if err := pub.Flush(ctx); err != nil {
		t.Errorf("flush: %v, %+v", err, pub.Stats())
	}
	for _, l := range ls {
		l.check(t, last)
	}
	if led := pub.Stats().Ledger; !led.Balanced() {
		t.Errorf("%+v", led)
	}
	cancel()
	users.Wait()
}
