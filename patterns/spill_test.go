package patterns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/socket"
	"peermesh/spool"
)

// memory is a Push at level memory.
func (k *kept) memory(opts ...Option) *Push {
	k.Helper()
	return k.push(append([]Option{Durability(socket.Memory)}, opts...)...)
}

// newKeptWith is newKept with a quota.
func newKeptWith(t testing.TB, id byte, dir string, quota int64) *kept {
	t.Helper()
	s, err := spool.Open(dir, spool.Options{Quota: quota, Profile: spool.ProfileEdge})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("store: %v", err)
		}
	})
	n := newNode(t, id)
	n.local.Store, n.local.Edition, n.local.Incarnation = s.ID(), s.Edition(), s.Incarnation()
	n.local.Nonce[2] = byte(s.Incarnation())
	return &kept{n, dir, s}
}

// left is what the queue of a Push holds on disk, settled or not.
func left(k *kept) (n uint64) {
	for _, q := range k.store.Queues() {
		if q.Name == queueName("push", "test", "x") {
			n += q.Unsettled
		}
	}
	return n
}

// spillStates notes what OnSpill says.
type spillStates struct{ all []string }

func (s *spillStates) note(state SpillState, err error) {
	text := state.String()
	if err != nil {
		text += "!"
	}
	s.all = append(s.all, text)
}

func flushed(t testing.TB, p *Push) {
	t.Helper()
	if err := p.Flush(long(t)); err != nil {
		t.Fatalf("Flush: %v", err)
	}
}

func TestAMessageAtLevelMemoryWaitsOnDiskForAPullerAndAnotherLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s := a.memory()
		send(t, s, counted(1, 100)...)
		synctest.Wait()
		balanced(t, s)
		a2 := a.killed()
		s2 := a2.memory()
		same(t, "carried", balanced(t, s2).Carried, 100)
		send(t, s2, "101")
		r := b.pull()
		connect(a2.node, s2, b.node, r)
		same(t, "received", takeAll(t, r, 101), counted(1, 101))
		flushed(t, s2)
		same(t, "done", balanced(t, s2).Done, 101)
		same(t, "left on disk", left(a2), 0)
		none(t, r)
	})
}

func TestWithAPullerAtHandNothingGoesToTheDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.memory(), b.pull()
		connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, counted(1, 100)...)
		same(t, "received", takeAll(t, r, 100), counted(1, 100))
		flushed(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		same(t, "queues on disk", len(a.store.Queues()), 0)
		s2 := a.memory()
		if s2.gap != nil {
			t.Errorf("a clean end left the gap %v", *s2.gap)
		}
	})
}

// What a kill catches in memory is lost and told; what it finds on disk is not in that gap.
func TestTheNextLifeStatesWhatItDoesNotFindOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newNode(t, 'b'), newNode(t, 'c')
		var told gaps
		s, r := a.memory(), b.pull()
		l := connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, counted(1, 10)...) // in memory
		same(t, "received", takeAll(t, r, 10), counted(1, 10))
		flushed(t, s)
		l.part()
		send(t, s, counted(11, 20)...) // on disk
		synctest.Wait()
		l.heal()
		ready(t, s, 1)
		same(t, "received", takeAll(t, r, 5), counted(11, 15))
		a2 := a.killed()
		l.part()
		s2 := a2.memory()
		r2 := c.pull(OnGap(told.note)) // one that has none of it
		connect(a2.node, s2, c, r2)
		takeAll(t, r2, int(s2.Stats().Ledger.Carried))
		flushed(t, s2)
		for _, g := range told.list() {
			if g.Reason != "incarnation" || g.From <= 20 && g.To >= 16 {
				t.Errorf("told the gap %d to %d, %s", g.From, g.To, g.Reason)
			}
		}
		if all := told.list(); len(all) == 0 || all[len(all)-1].To != spool.ReserveBlock {
			t.Errorf("told %v, want gaps up to %d", told.told(), spool.ReserveBlock)
		}
		none(t, r2)
		balanced(t, s2)
	})
}

func TestASlowPullerGetsMoreThanMemoryHoldsInOrderAndOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const count = 3000
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		var seen spillStates
		s, r := a.memory(Queue(50, 1<<20), OnSpill(seen.note)), b.pull(Prefetch(5))
		connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, counted(1, count)...)
		balanced(t, s)
		if n, _ := s.box.Ledger().Owed(); n > 50 {
			t.Errorf("%d messages in memory", n)
		}
		if st := s.Stats(); st.OnDisk < count-100 {
			t.Errorf("%d wait on disk alone", st.OnDisk)
		}
		same(t, "received", takeAll(t, r, count), counted(1, count))
		flushed(t, s)
		send(t, s, "more")
		same(t, "received", takeAll(t, r, 1), []string{"more"})
		flushed(t, s)
		same(t, "done", balanced(t, s).Done, count+1)
		same(t, "states", seen.all, []string{"spilling", "in memory"})
		same(t, "left on disk", left(a), 0)
	})
}

func TestWhenTheLastPullerGoesWhatIsOwedGoesToTheDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newNode(t, 'b'), newNode(t, 'c')
		s, r := a.memory(), b.pull(Prefetch(4))
		l := connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, counted(1, 10)...)
		same(t, "received", takeAll(t, r, 1), counted(1, 1))
		recv(t, r, "2") // in hand when the link goes
		synctest.Wait()
		l.part()
		synctest.Wait()
		same(t, "on disk", left(a), 9)
		a2 := a.killed()
		s2 := a2.memory()
		same(t, "carried", balanced(t, s2).Carried, 9)
		r2 := c.pull()
		connect(a2.node, s2, c, r2)
		// What was sent to the first puller comes when its lease must be over.
		same(t, "received", takeAll(t, r2, 9), []string{"6", "7", "8", "9", "10", "2!", "3!", "4!", "5!"})
		flushed(t, s2)
		balanced(t, s2)
	})
}

// The first puller may still have what it was sent: the next life gives that to nobody else
// before it has said so, or its lease must be over.
func TestThoseWhoWereMetBeforeAnythingWasOnDiskAreAskedInTheNextLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newNode(t, 'b'), newNode(t, 'c')
		s, r := a.memory(), b.pull()
		l := connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, "x")
		m := recv(t, r, "x")
		l.part()
		synctest.Wait()
		a2 := a.killed()
		s2 := a2.memory()
		began := time.Now()
		r2 := c.pull()
		connect(a2.node, s2, c, r2)
		none(t, r2)
		connect(a2.node, s2, b, r)
		time.Sleep(time.Second)
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		flushed(t, s2)
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("settled after %v", d)
		}
		none(t, r2)
		same(t, "done", balanced(t, s2).Done, 1)
	})
}

func TestAPullerThatHasDoneASpilledMessageDoesNotGetItAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s := a.memory()
		send(t, s, counted(1, 10)...)
		synctest.Wait()
		r := b.pull()
		l := connect(a.node, s, b, r)
		ready(t, s, 1)
		synctest.Wait()
		before := a.killed() // what follows is not on its disk
		same(t, "received", takeAll(t, r, 10), counted(1, 10))
		l.part()
		s2 := before.memory()
		same(t, "carried", balanced(t, s2).Carried, 10)
		connect(before.node, s2, b, r)
		flushed(t, s2)
		none(t, r)
		same(t, "done", balanced(t, s2).Done, 10)
	})
}

func TestShutdownAndCloseLeaveWhatIsOwedToTheNextLife(t *testing.T) {
	for name, end := range map[string]func(*Push) error{
		"Shutdown": func(p *Push) error { return p.Shutdown(context.Background()) },
		"Close":    (*Push).Close,
		"Shutdown without time": func(p *Push) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return p.Shutdown(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
				var fate fates
				s, r := a.memory(OnSettled(fate.note)), b.pull(Prefetch(3))
				l := connect(a.node, s, b, r)
				ready(t, s, 1)
				send(t, s, counted(1, 10)...)
				same(t, "received", takeAll(t, r, 2), counted(1, 2))
				if name == "Shutdown" {
					time.AfterFunc(time.Second, func() { // until then it waits for the puller
						l.mu.Lock()
						l.down = true
						l.mu.Unlock()
						l.cut()
					})
				}
				if err := end(s); err != nil {
					t.Fatal(err)
				}
				l.part()
				same(t, "settled", fate.told(), []string{"1 done", "2 done"})
				a2 := a.killed()
				s2 := a2.memory()
				if s2.gap != nil {
					t.Errorf("a clean end left the gap %v", *s2.gap)
				}
				same(t, "carried", balanced(t, s2).Carried, 8)
				connect(a2.node, s2, b, r)
				either(t, takeAll(t, r, 8), counted(3, 10))
				flushed(t, s2)
				none(t, r)
			})
		})
	}
}

// While they are reserved the committer calls back for groups that are on disk.
func TestReservingSeqsDoesNotHoldUpWhatBringsThemToTheDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s := a.memory()
		const each, senders = 20_000, 4
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for range each {
					if err := s.Send(long(t), []byte("x")); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		same(t, "owed", balanced(t, s).Queued, each*senders)
		r := b.pull()
		connect(a.node, s, b, r)
		takeAll(t, r, each*senders)
		flushed(t, s)
	})
}

// Settled messages lie between those that are moved.
func TestWhatIsMovedToTheDiskLeavesHolesForWhatIsSettled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.memory(), b.pull()
		l := connect(a.node, s, b, r)
		ready(t, s, 1)
		body := bytes.Repeat([]byte("y"), 1000)
		const count = 2000
		for range count {
			if err := s.Send(long(t), body); err != nil {
				t.Fatal(err)
			}
		}
		var want []uint64
		for i := range 200 {
			m, err := r.Recv(long(t))
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				want = append(want, m.Seq())
				continue
			}
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		l.part()
		time.Sleep(time.Second)
		q := s.spill.queue
		var got []uint64
		for from := uint64(1); ; {
			blk, err := q.Read(from)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if blk.Base < 100 && blk.Last < 150 {
				t.Errorf("holes cut the block %d to %d short", blk.Base, blk.Last)
			}
			from = blk.Last + 1
		}
		settled := q.State().Settled
		for seq := uint64(1); seq <= 200; seq++ {
			if !slices.ContainsFunc(settled, func(r spool.SeqRange) bool { return r.From <= seq && seq <= r.To }) {
				got = append(got, seq)
			}
		}
		same(t, "owed on disk", got, want)
		same(t, "left on disk", left(a), count-100)
	})
}

func TestWhatWasDurableYesterdayIsDeliveredAtLevelMemoryAndBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s := a.push()
		send(t, s, counted(1, 10)...)
		a = a.killed()
		s = a.memory()
		send(t, s, counted(11, 20)...)
		synctest.Wait()
		a = a.killed()
		s = a.push()
		same(t, "carried", balanced(t, s).Carried, 20)
		send(t, s, counted(21, 30)...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = a.memory() // in the same life
		send(t, s, counted(31, 40)...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = a.push()
		r := b.pull()
		connect(a.node, s, b.node, r)
		same(t, "received", takeAll(t, r, 40), counted(1, 40))
		flushed(t, s)
		same(t, "left on disk", left(a), 0)
	})
}

// A message is named by stream, edition and seq, whatever the level of the socket that sent it.
func TestNoSeqIsUsedTwiceWhenTheLevelChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		seqs := map[uint64]bool{}
		r := b.pull()
		for i, level := range []socket.Level{socket.Memory, socket.Durable, socket.BestEffort, socket.Durable, socket.Memory} {
			s := a.push(Durability(level))
			l := connect(a.node, s, b, r)
			ready(t, s, 1)
			send(t, s, fmt.Sprint(i))
			m := recv(t, r, fmt.Sprint(i))
			if seqs[m.Seq()] {
				t.Errorf("seq %d again at level %v", m.Seq(), level)
			}
			seqs[m.Seq()] = true
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
			flushed(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			l.part()
		}
	})
}

// The done mark is on the puller's disk when the sender is durable, and known whatever the
// sender is later.
func TestADurableDoneMarkIsKnownAtLevelMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		done := make(chan struct{}, 1)
		s, r := a.push(), b.pull(OnDone(func(*socket.Message) { done <- struct{}{} }))
		l := connect(a.node, s, b.node, r)
		send(t, s, "x")
		m := recv(t, r, "x")
		l.part()
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		<-done
		b2, a2 := b.killed(), a.killed()
		s2, r2 := a2.memory(), b2.pull()
		connect(a2.node, s2, b2.node, r2)
		flushed(t, s2)
		none(t, r2)
	})
}

// A TTL is counted from when the message was accepted, in memory and on disk.
func TestTheTTLOfWhatIsMovedGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.memory(), b.pull(Prefetch(1))
		l := connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, "first") // keeps the puller busy
		if _, err := s.SendMessage(long(t), &socket.Message{Body: []byte("short"), TTL: 10 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Minute)
		l.part()
		time.Sleep(time.Second)
		a2 := a.killed()
		s2 := a2.memory()
		time.Sleep(30 * time.Second)
		same(t, "after nine and a half minutes", balanced(t, s2).Expired, 0)
		time.Sleep(time.Minute)
		same(t, "after ten and a half", balanced(t, s2).Expired, 1)
	})
}

func TestTheTriesOfWhatIsMovedCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newNode(t, 'b'), newNode(t, 'c')
		s, r := a.memory(MaxDeliver(3)), b.pull()
		l := connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, "bad")
		for range 2 {
			if err := recv(t, r, "bad").Nack(errSpoilt); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second) // the NACKs were read, and it lies at the puller again
		l.part()
		time.Sleep(time.Second)
		a2 := a.killed()
		s2 := a2.memory(MaxDeliver(3))
		r2 := c.pull()
		connect(a2.node, s2, c, r2)
		m := recv(t, r2, "bad")
		if m.Attempt() < 4 {
			t.Errorf("attempt %d", m.Attempt())
		}
		if err := m.Nack(errSpoilt); err != nil {
			t.Fatal(err)
		}
		flushed(t, s2)
		same(t, "dead", balanced(t, s2).Dead, 1)
		if b, err := s2.spill.dead.Read(1); err != nil || len(b.Data) == 0 {
			t.Errorf("the dead letter: %+v, %v", b, err)
		}
	})
}

// Until it is there a kill loses it, and the next life must say so.
func TestWhatIsOnItsWayToTheDiskIsNotYetSafe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newKept(t, 'a', t.TempDir()).memory()
		send(t, s, "1")
		synctest.Wait()
		m := &socket.Message{Body: []byte("2")}
		p, err := s.framer.Prepare(m)
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		equal(t, "on disk", s.spill.lowest(), 2)
		if _, err := s.spill.toDisk(m, p); err != nil {
			t.Error(err)
		}
		equal(t, "with one on its way", s.spill.lowest(), 2)
		s.mu.Unlock()
		synctest.Wait()
		s.mu.Lock()
		equal(t, "with both on disk", s.spill.lowest(), 3)
		s.mu.Unlock()
	})
}

// The puller is killed with the message in hand, and the sender too: the next life must know
// that there is somebody to wait for.
func TestAPullerOfWhatIsOnDiskIsAHolderBeforeItGetsAnything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newKept(t, 'a', t.TempDir()), newNode(t, 'b'), newNode(t, 'c')
		s := a.memory()
		send(t, s, "x")
		synctest.Wait()
		r := b.pull()
		l := connect(a.node, s, b, r)
		recv(t, r, "x")
		a2 := a.killedWhile(s, l)
		s2 := a2.memory()
		began := time.Now()
		r2 := c.pull()
		connect(a2.node, s2, c, r2)
		same(t, "received", takeAll(t, r2, 1), []string{"x!"})
		if d := time.Since(began); d < 9*time.Second {
			t.Errorf("it went elsewhere after %v", d)
		}
		flushed(t, s2)
	})
}

// The ledger does not know it: it is dropped while earlier ones wait on disk.
func TestWhatIsDroppedBehindABacklogIsToldAsAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKeptWith(t, 'a', t.TempDir(), 30_000), newNode(t, 'b')
		var told gaps
		s, r := a.memory(Queue(2, 1<<20), OnOverflow(DropNewest)), b.pull(Prefetch(1), OnGap(told.note))
		connect(a.node, s, b, r)
		ready(t, s, 1)
		for i := range 40 {
			if err := s.Send(long(t), kilobyte(i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		dropped := balanced(t, s).Dropped["overflow"]
		if dropped == 0 {
			t.Fatal("nothing was dropped")
		}
		for range 40 - dropped {
			m, err := r.Recv(long(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
		}
		flushed(t, s)
		send(t, s, "last")
		recv(t, r, "last")
		n := uint64(0)
		for _, g := range told.list() {
			n += g.To - g.From + 1
		}
		same(t, "told", n, dropped)
	})
}
