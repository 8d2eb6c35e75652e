package patterns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/ranges"
	"peermesh/socket"
)

// group is what became of the messages of one durable subscription, whoever shares it.
type group struct {
	name  string
	wants Option
	match func(i int) bool

	mu    sync.Mutex
	clean map[string]int // unflagged deliveries
	acked map[string]bool
	late  []string // delivered unflagged after an ack that was on that disk
	gaps  ranges.Set
}

// reader is one durable subscriber of a channel, over all lives of its node.
type reader struct {
	*group
	disk   map[string]bool // acked, and on its disk
	on     *kept
	sub    *Sub
	link   *link
	cancel context.CancelFunc
	over   sync.WaitGroup
}

// open starts a life of the reader.
func (r *reader) open(from *kept, p *Pub) {
	disk := func(m *socket.Message) {
		r.mu.Lock()
		r.disk[string(m.Body)] = true
		r.mu.Unlock()
	}
	gap := func(g socket.Gap) {
		r.mu.Lock()
		r.gaps.Add(g.From, g.To)
		r.mu.Unlock()
	}
	r.sub = r.on.durable(r.name, r.wants, Prefetch(20), OnDone(disk), OnGap(gap))
	r.join(from, p)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	sub := r.sub
	r.over.Go(func() {
		for {
			m, err := sub.Recv(ctx)
			if err != nil {
				return
			}
			body := string(m.Body)
			r.mu.Lock()
			if !m.Redelivered() {
				r.clean[body]++
				if r.disk[body] {
					r.late = append(r.late, body)
				}
			}
			r.acked[body] = true
			r.mu.Unlock()
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
			_ = m.Ack() // killed meanwhile
		}
	})
}

func (r *reader) join(from *kept, p *Pub) { r.link = connect(from.node, p, r.on.node, r.sub) }

// die kills the reader's node.
func (r *reader) die() {
	r.link.sever()
	next := r.on.killed()
	r.cancel()
	r.over.Wait()
	r.on = next
}

func TestDurableSubscriptionsOutliveKillsOfBothSides(t *testing.T) { outlive(t) }

func TestWhatALimitDropsIsStatedWhateverIsKilled(t *testing.T) {
	outlive(t, Limit(Limits{Count: 30}, DropOldest))
}

// outlive kills publisher and subscribers at random: every message is handled, or stated in a
// gap if there is a limit; none comes unflagged twice.
func outlive(t *testing.T, limit ...Option) {
	bubble(t, func(t *testing.T) {
		opts := append([]Option{Queue(50, 1<<20)}, limit...) // some of it is read from the disk
		const lives, batch = 8, 50
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		a := newKept(t, 'a', t.TempDir())
		p := a.pub(opts...)
		groups := []*group{
			{name: "all", wants: Topics(">"), match: func(int) bool { return true }},
			{name: "even", wants: Topics("even"), match: func(i int) bool { return i%2 == 0 }},
			{name: "odd", wants: Topics("odd"), match: func(i int) bool { return i%2 == 1 }},
		}
		for _, g := range groups {
			g.clean, g.acked = map[string]int{}, map[string]bool{}
		}
		rs := []*reader{{group: groups[0]}, {group: groups[1]}, {group: groups[2]}, {group: groups[2]}}
		for i, r := range rs {
			r.disk = map[string]bool{}
			r.on = newKept(t, byte('b'+i), t.TempDir())
			if err := p.Expect(r.name, texts(mustSettings(t, r.wants).patterns)...); err != nil {
				t.Fatal(err)
			}
			r.open(a, p)
		}
		sent := 0
		for range lives {
			for range batch {
				publish(t, p, []string{"even", "odd"}[sent%2], fmt.Sprint(sent))
				sent++
				if rnd.IntN(10) == 0 {
					time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
				}
			}
			balanced(t, p)
			switch who := rnd.IntN(len(rs) + 1); who {
			case len(rs):
				for _, r := range rs {
					r.link.sever()
				}
				a = a.killed()
				p = a.pub(opts...)
				balanced(t, p)
				for _, r := range rs {
					r.join(a, p)
				}
			default:
				rs[who].die()
				if rnd.IntN(2) == 0 { // it is away for some time
					publish(t, p, "even", fmt.Sprint(sent))
					sent++
					publish(t, p, "odd", fmt.Sprint(sent))
					sent++
				}
				rs[who].open(a, p)
			}
		}
		flush(t, p)
		synctest.Wait()
		l := balanced(t, p)
		same(t, "queued and leased", l.Queued+l.Leased, 0)
		same(t, "left in the log", unsettled(a), 0)
		for _, r := range rs {
			r.cancel()
			r.over.Wait()
		}
		for _, r := range groups {
			if len(limit) == 0 {
				same(t, r.name+" was told of gaps", r.gaps.Count(), 0)
			}
			t.Logf("%s missed %d of %d", r.name, r.gaps.Count(), sent)
			same(t, r.name+" got unflagged what its disk had done", r.late, []string(nil))
			for i := range sent {
				body := fmt.Sprint(i)
				missed := len(limit) > 0 && r.gaps.Contains(uint64(i+1))
				if r.acked[body] && !r.match(i) || !r.acked[body] && r.match(i) && !missed {
					t.Errorf("%s: message %d: delivered %t, wanted %t", r.name, i, r.acked[body], r.match(i))
				}
				if r.clean[body] > 1 {
					t.Errorf("%s: message %d came %d times unflagged", r.name, i, r.clean[body])
				}
			}
		}
	})
}

// mustSettings are what options set for a Sub.
func mustSettings(t *testing.T, opts ...Option) settings {
	t.Helper()
	s := settings{}
	for _, o := range opts {
		if err := o.apply(&s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}
