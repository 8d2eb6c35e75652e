package patterns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/ranges"
	"peermesh/socket"
)

// taker is a puller that takes what comes, over all lives of the sender.
type taker struct {
	*node
	pull *Pull

	mu    sync.Mutex
	clean map[uint64]int // unflagged deliveries by seq
	acked map[uint64]string
	order []uint64 // of unflagged deliveries
	gaps  ranges.Set
}

func newTaker(t *testing.T, id byte) *taker {
	k := &taker{node: newNode(t, id), clean: map[uint64]int{}, acked: map[uint64]string{}}
	k.pull = k.node.pull(Prefetch(7), OnGap(func(g socket.Gap) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.gaps.Add(g.From, g.To)
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() { k.take(ctx) })
	t.Cleanup(func() {
		cancel()
		over.Wait()
	})
	return k
}

func (k *taker) take(ctx context.Context) {
	for {
		m, err := k.pull.Recv(ctx)
		if err != nil {
			return
		}
		k.mu.Lock()
		if !m.Redelivered() {
			k.clean[m.Seq()]++
			k.order = append(k.order, m.Seq())
		}
		k.mu.Unlock()
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
		if rand.IntN(20) == 0 {
			_ = m.Nack(errSpoilt)
			continue
		}
		k.mu.Lock()
		k.acked[m.Seq()] = string(m.Body)
		k.mu.Unlock()
		_ = m.Ack()
	}
}

// killedWhile is the node after it was killed while s was at work: what s had not handed over
// to a pipe by then never leaves.
func (k *kept) killedWhile(s *Push, l *link) *kept {
	s.mu.Lock()
	c := k.store.Begin()
	g := c.Group()
	c.End()
	if err := k.store.Wait(k.Context(), g); err != nil { // or the files are not those of one moment
		k.Fatal(err)
	}
	next := k.copied()
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.cut()
	s.mu.Unlock()
	synctest.Wait()
	return next
}

// A sender sends, is cut off, is killed, closes and begins again; every message it accepted is
// handled, or is in a gap that was told, and no message comes twice unflagged.
func TestWhatIsSpilledOverLivesIsHandledOrTold(t *testing.T) {
	for round := range 6 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, k := newKept(t, 'a', t.TempDir()), newTaker(t, 'b')
				sent := map[uint64]string{}
				for life := range 5 {
					s := a.memory(Queue(20, 1<<20))
					l := connect(a.node, s, k.node, k.pull)
					for range 3 + rand.IntN(6) {
						switch rand.IntN(4) {
						case 0:
							l.sever()
						case 1:
							l.heal()
							time.Sleep(time.Second)
						case 2:
							time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond)
						default:
							for range rand.IntN(60) {
								body := fmt.Sprint(life, "/", len(sent))
								seq, err := s.SendMessage(long(t), &socket.Message{Body: []byte(body)})
								if err != nil {
									t.Fatal(err)
								}
								if other, again := sent[seq]; again {
									t.Fatalf("seq %d is %q and %q", seq, other, body)
								}
								sent[seq] = body
								balanced(t, s)
							}
						}
					}
					if life == 4 {
						l.heal()
						flushed(t, s)
						balanced(t, s)
						break
					}
					var err error
					switch rand.IntN(4) {
					case 0:
						err = s.Close()
					case 1:
						err = s.Shutdown(within(t, time.Second))
					}
					if err != nil {
						t.Fatal(err)
					}
					a = a.killedWhile(s, l)
				}
				time.Sleep(time.Minute)
				k.mu.Lock()
				defer k.mu.Unlock()
				for seq, body := range sent {
					if got, done := k.acked[seq]; done && got != body {
						t.Errorf("seq %d is %q, sent as %q", seq, got, body)
					} else if !done && !k.gaps.Contains(seq) {
						t.Errorf("%q, seq %d, was neither handled nor told as lost", body, seq)
					}
				}
				for seq, n := range k.clean {
					if n > 1 {
						t.Errorf("seq %d came %d times unflagged", seq, n)
					}
					if sent[seq] == "" {
						t.Errorf("seq %d was never sent", seq)
					}
				}
				if !slices.IsSorted(k.order) {
					t.Errorf("first deliveries out of order: %v", k.order)
				}
			})
		})
	}
}
