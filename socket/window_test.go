package socket

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
)

func TestASenderThatExceedsItsWindowIsCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		prefetch int
		level    Level
		frames   [][]byte
	}{
		"messages":              {2, Memory, [][]byte{data(1, ""), data(2, ""), data(3, "")}},
		"messages in one frame": {2, Memory, [][]byte{dataOf(wire.Run{Base: 1}, make([]wire.Record, 3)...)}},
		"best effort":           {2, BestEffort, [][]byte{data(1, ""), data(2, ""), data(3, "")}},
		"the same again":        {2, Memory, [][]byte{data(1, ""), data(1, ""), data(1, ""), data(1, ""), data(1, "")}},
		"bytes":                 {0, Memory, [][]byte{data(1, string(filler(250<<10))), data(2, string(filler(250<<10))), data(3, string(filler(250<<10)))}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newInbox(t, wire.Pull, func(cfg *InboxConfig) { cfg.Prefetch, cfg.PrefetchBytes = c.prefetch, 1 })
				s := newSource('s', wire.Push)
				s.level = c.level
				f, _ := s.attach(t, b)
				other, _ := newSource('t', wire.Push).attach(t, b)
				f.say(bytes.Join(c.frames, nil))
				err, over := f.end()
				if !over || err == nil {
					t.Fatalf("ended %v, %v", over, err)
				}
				if q := b.Stats().Queued; q > 2 {
					t.Errorf("%d messages were taken in", q)
				}
				other.alive()
			})
		})
	}
}

// A frame that breaks the word counts as nothing; what came before it is here.
func TestABreachTakesNothingAwayFromWhatCameBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(cfg *InboxConfig) { cfg.Prefetch = 3 })
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), dataOf(wire.Run{Base: 2}, make([]wire.Record, 3)...))
		f.dead(errWindow)
		recv(t, b, "a")
		none(t, b)
		_, a := s.attach(t, b)
		same(t, "held", a.Held, []wire.EditionRanges{editionOf(s.Edition, 1)})
	})
}

func TestWhoWaitsGetsWhatCameBeforeAnUnreadableSeq(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		got := make(chan string, 1)
		go func() {
			if m, err := b.Recv(wait(t)); err == nil {
				got <- string(m.Body)
			}
		}()
		synctest.Wait()
		f.say(dataOf(wire.Run{Base: 1<<64 - 1}, wire.Record{Body: []byte("last")}, wire.Record{Body: []byte("seq 0")}))
		if _, over := f.end(); !over {
			t.Fatal("seq 0 was taken")
		}
		equal(t, "delivered", len(got), 1)
	})
}

func TestAFrameFullOfRecordsCostsNoMoreThanTheWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(cfg *InboxConfig) { cfg.Prefetch = 10 })
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		e := b.streams[streamKey{s.Node, s.Store}].cur
		f.say(dataOf(wire.Run{Base: 1}, make([]wire.Record, 400_000)...))
		if err, over := f.end(); !over || err == nil {
			t.Fatalf("ended %v, %v", over, err)
		}
		if n := cap(e.batch); n > 10*slabSize {
			t.Errorf("%d messages were made for a window of 10", n)
		}
	})
}

// What counts is how fast handlers are, not how much there is for them to do.
func TestTheWindowGrowsForWhoWaitsForMessages(t *testing.T) {
	for name, c := range map[string]struct {
		handlers int
		first    time.Duration // what a handler does before it calls Recv
		then     time.Duration // and before it acks
		grows    bool
	}{
		"they wait for messages":          {1, 0, 0, true},
		"they have a little to do":        {1, 0, windowFast / DefaultPrefetch / 2, true},
		"they have much to do":            {1, 0, 2 * windowSlow / DefaultPrefetch, false},
		"they have much to do, and spare": {20, 0, windowSlow / 2, false},
		"they ack first":                  {1, 2 * windowSlow / DefaultPrefetch, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newInbox(t, wire.Pull)
				s := newSource('s', wire.Push)
				f, _ := s.attach(t, b)
				ctx, stop := context.WithCancel(t.Context())
				var work sync.WaitGroup
				for range c.handlers {
					work.Go(func() {
						for {
							time.Sleep(c.first)
							m, err := b.Recv(ctx)
							if err != nil {
								return
							}
							time.Sleep(c.then)
							if err := m.Ack(); err != nil {
								t.Error(err)
							}
						}
					})
				}
				for seq := range uint64(DefaultPrefetch) {
					time.Sleep(12 * time.Millisecond)
					f.say(data(1+seq, ""))
				}
				time.Sleep(windowSlow)
				stop()
				work.Wait()
				b.mu.Lock()
				defer b.mu.Unlock()
				if n := b.streams[streamKey{s.Node, s.Store}].window.messages; n > DefaultPrefetch != c.grows {
					t.Errorf("the window is %d", n)
				}
			})
		})
	}
}

// credit plays an honest sender: it never sends more than it was told.
type credit struct {
	wire.Credit
	sent wire.Credit
}

func TestRoomIsAnnouncedAsItComesFreeAndNeverTooMuch(t *testing.T) {
	for _, prefetch := range []int{1, 2, 3, 7, 8, 9, 100} {
		t.Run(fmt.Sprint(prefetch), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newInbox(t, wire.Pull, func(cfg *InboxConfig) { cfg.Prefetch, cfg.PrefetchBytes = prefetch, 1 })
				s := newSource('s', wire.Push)
				f, a := s.attach(t, b)
				st := b.streams[streamKey{s.Node, s.Store}]
				w := credit{Credit: wire.Credit{Messages: a.Messages, Bytes: a.Bytes}}
				rng := rand.New(rand.NewPCG(1, uint64(prefetch)))
				began := time.Now()
				var held []*Message
				for seq := uint64(1); seq <= 150; {
					size := 1
					if rng.IntN(6) == 0 {
						size = rng.IntN(250 << 10)
					}
					frame := data(seq, string(filler(size)))
					_, recs, err := wire.ParseData(parsedPayload(t, frame))
					if err != nil {
						t.Fatal(err)
					}
					if w.sent.Messages < w.Messages && w.sent.Bytes+uint64(len(recs)) <= w.Bytes {
						w.sent.Messages++
						w.sent.Bytes += uint64(len(recs))
						f.say(frame)
						seq++
						continue
					}
					synctest.Wait()
					if st.inMsgs > prefetch || st.inBytes > minPrefetchBytes {
						t.Fatalf("%d messages of %d bytes are in hand", st.inMsgs, st.inBytes)
					}
					for b.Stats().Queued > 0 {
						m, err := b.Recv(wait(t))
						if err != nil {
							t.Fatal(err)
						}
						held = append(held, m)
					}
					rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
					n := rng.IntN(len(held)) + 1
					for _, m := range held[:n] {
						if rng.IntN(4) == 0 {
							m.Nack(nil)
						} else {
							ack(t, m)
						}
					}
					held = held[n:]
					for _, p := range f.only(wire.TypeCredit) {
						c := parsed(t, wire.ParseCredit, p)
						if c.Messages < w.Messages || c.Bytes < w.Bytes {
							t.Fatalf("credit fell from %+v to %+v", w.Credit, c)
						}
						w.Credit = c
					}
				}
				f.alive()
				if time.Since(began) > time.Second { // nothing waited for a tick
					t.Errorf("it took %v", time.Since(began))
				}
			})
		})
	}
}

func parsedPayload(t testing.TB, b []byte) []byte {
	_, payload, rest, _, err := wire.Next(b)
	if err != nil || len(rest) > 0 {
		t.Fatal(err)
	}
	return payload
}

func TestNoCreditIsGrantedWhileTooManyMarksAreUnconfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(cfg *InboxConfig) { cfg.Prefetch = 1 })
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		st := b.streams[streamKey{s.Node, s.Store}]
		b.mu.Lock()
		for seq := uint64(10); seq < 10+1<<18; seq++ { // as if they had been handled
			st.memory.Arrive(s.Edition, seq)
			st.memory.Done(s.Edition, seq)
		}
		b.mu.Unlock()
		f.say(data(1, "a"))
		ack(t, recv(t, b, "a"))
		time.Sleep(2 * RenewEvery)
		if c := f.only(wire.TypeCredit); len(c) > 0 {
			t.Errorf("credit %x", c)
		}
		f.say(confirm(s.Edition, 1, 10))
		if c := f.only(wire.TypeCredit); len(c) != 1 {
			t.Errorf("%d CREDITs after a CONFIRM", len(c))
		}
	})
}

func TestNoCreditIsGrantedWhileTooManyNacksMayBeUnread(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(cfg *InboxConfig) { cfg.Prefetch = 1 })
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		st := b.streams[streamKey{s.Node, s.Store}]
		b.mu.Lock()
		for seq := uint64(10); seq < 9+maxNacks; seq++ { // as if they had failed
			st.nacks[seq] = &nacked{edition: s.Edition, renew: 1}
		}
		b.mu.Unlock()
		f.say(data(1, "a"))
		recv(t, b, "a").Nack(nil)
		if c := f.only(wire.TypeCredit); len(c) > 0 {
			t.Errorf("credit %x", c)
		}
		f.say(number(wire.TypeRenewed, 1))
		if c := f.only(wire.TypeCredit); len(c) != 1 {
			t.Errorf("%d CREDITs when they were read", len(c))
		}
		equal(t, "kept", len(st.nacks), 1)
	})
}
