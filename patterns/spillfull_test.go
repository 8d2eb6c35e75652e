package patterns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// kilobyte is a message of some size that begins with its number.
func kilobyte(i int) []byte {
	return append(fmt.Appendf(nil, "%d ", i), bytes.Repeat([]byte("x"), 1000)...)
}

func numberOf(m *socket.Message) (i int) {
	if _, err := fmt.Sscanf(string(m.Body), "%d ", &i); err != nil {
		panic(err)
	}
	return i
}

// At the quota the policy decides, as it does for a full queue without a directory.
func TestAFullDiskLeavesItToThePolicy(t *testing.T) {
	const count, quota = 100, 40_000
	for _, queue := range []int{5, 60} { // the disk holds more than memory, and less
		for _, policy := range []Overflow{Block, Refuse, DropOldest, DropNewest} {
			for _, attended := range []bool{false, true} {
				t.Run(fmt.Sprint(policy, " ", queue, " ", attended), func(t *testing.T) {
					bubble(t, func(t *testing.T) {
						a, b := newKeptWith(t, 'a', t.TempDir(), quota), newNode(t, 'b')
						var fate fates
						var told gaps
						var seen spillStates
						s := a.memory(Queue(queue, 1<<20), OnOverflow(policy), OnSettled(fate.note), OnSpill(seen.note))
						r := b.pull(OnGap(told.note), Prefetch(3))
						if attended {
							connect(a.node, s, b, r)
							ready(t, s, 1)
						}
						sent := make(chan []int, 1)
						go func() {
							var ok []int
							for i := 1; i <= count; i++ {
								switch err := s.Send(long(t), kilobyte(i)); {
								case err == nil:
									ok = append(ok, i)
								case policy != Refuse || !errors.Is(err, socket.ErrQueueFull):
									t.Errorf("Send of %d: %v", i, err)
								}
								balanced(t, s)
								time.Sleep(time.Millisecond) // what is on its way to the disk gets there
							}
							sent <- ok
						}()
						time.Sleep(10 * time.Second)
						l := balanced(t, s)
						owed := l.Queued + l.Leased
						if owed > uint64(queue)+quota/1000 || policy != DropOldest && owed < uint64(queue) {
							t.Errorf("%d are owed", owed)
						}
						if policy == Block && l.Accepted == count {
							t.Error("nothing waited for room")
						}
						if policy != Refuse && policy != Block && l.Dropped[ledger.ReasonOverflow] != count-owed {
							t.Errorf("ledger %+v", l)
						}
						if !attended {
							connect(a.node, s, b, r)
						}
						var got []int
						for {
							m, err := r.Recv(within(t, 5*time.Second))
							if err != nil {
								break
							}
							if m.Redelivered() {
								t.Errorf("%d is flagged", numberOf(m))
							}
							got = append(got, numberOf(m))
							if err := m.Ack(); err != nil {
								t.Error(err)
							}
						}
						want := <-sent
						flushed(t, s)
						l = balanced(t, s)
						if !slices.IsSorted(got) || uint64(len(got)) != l.Done || l.Queued != 0 {
							t.Errorf("received %v, ledger %+v", got, l)
						}
						switch policy {
						case Block, Refuse:
							same(t, "received", got, want)
						case DropOldest:
							same(t, "last", got[len(got)-1], count)
						case DropNewest:
							same(t, "first", got[:5], []int{1, 2, 3, 4, 5})
						}
						var gone ranges.Set // but behind the last message nobody is told
						for _, g := range told.list() {
							gone.Add(g.From, g.To)
						}
						if attended && policy == DropOldest && gone.Count() != l.Dropped[ledger.ReasonOverflow] {
							t.Errorf("told %v of %d drops", told.told(), l.Dropped[ledger.ReasonOverflow])
						}
						if n := fate.counted(func(s Settled) string { return s.State }); uint64(n["dropped"]) != l.Dropped[ledger.ReasonOverflow] || uint64(n["done"]) != l.Done {
							t.Errorf("fates %v, ledger %+v", n, l)
						}
						if !slices.Contains(seen.all, "disk full!") {
							t.Errorf("states %v", seen.all)
						}
					})
				})
			}
		}
	}
}

func TestAtAFullDiskSendWaitsNoLongerThanItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newKeptWith(t, 'a', t.TempDir(), 10_000)
		s := a.memory(Queue(2, 1<<20))
		var err error
		for err == nil { // how many the disk takes depends on how they share blocks
			err = s.Send(within(t, time.Second), kilobyte(0))
		}
		matches(t, "Send", err, context.DeadlineExceeded)
		if n := balanced(t, s).Accepted; n <= 2 || n > 11 {
			t.Errorf("%d were accepted, want more than memory holds and no more than the disk holds besides", n)
		}
	})
}

// Room that others make on the disk is found.
func TestARoomierDiskIsFoundOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newKeptWith(t, 'a', t.TempDir(), 10_000)
		q, _, err := a.store.OpenQueue("other")
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		c := a.store.Begin()
		if _, _, _, err := c.Append(q, 9_000, func(dst []byte, _ uint64) []byte { return append(dst, make([]byte, 9_000)...) }); err != nil {
			t.Error(err)
		}
		c.End()
		s := a.memory(Queue(1, 1<<20))
		if err := s.Send(long(t), kilobyte(1)); err != nil { // in memory: there is room for one
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() {
			c := a.store.Begin()
			defer c.End()
			c.Settle(q, 1, 1)
		})
		began := time.Now()
		for i := 2; i <= 4; i++ {
			if err := s.Send(long(t), kilobyte(i)); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d < time.Minute || d > time.Minute+time.Second {
			t.Errorf("sent after %v", d)
		}
		synctest.Wait()
		same(t, "left on disk", left(a), 4)
	})
}

var errSpoilt = errors.New("input/output error")

func spoil(s *Push) {
	s.mu.Lock()
	s.spill.tail.fail(errSpoilt)
	s.mu.Unlock()
}

func TestADiskThatFailsLeavesItToMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		var fate fates
		var seen spillStates
		s, err := NewPush(a.env(), "x", Durability(socket.Memory), Queue(10, 1<<20), OnOverflow(Refuse), OnSettled(fate.note), OnSpill(seen.note))
		if err != nil {
			t.Fatal(err)
		}
		r := b.pull(Prefetch(3))
		l := connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, "1", "2")
		spoil(s)
		send(t, s, "3")
		l.part() // nobody is there, and nothing goes to the disk
		send(t, s, counted(4, 10)...)
		matches(t, "Send to a full queue", s.Send(long(t), []byte("x")), socket.ErrQueueFull)
		l.heal()
		same(t, "received", takeAll(t, r, 10), counted(1, 10))
		flushed(t, s)
		balanced(t, s)
		same(t, "left on disk", left(a), 0)
		same(t, "states", seen.all, []string{"disk failed!"})
		send(t, s, "11") // held by the puller when the socket closes
		synctest.Wait()
		matches(t, "Close", s.Close(), socket.ErrStorage)
		same(t, "told last", fate.told()[10], "11 dropped shutdown")
	})
}

// What is on the disk and not below the mark there cannot be sent in this life: the next one
// would not flag it. What comes later would overtake it.
func TestWhatAFailedDiskHoldsIsNotOvertaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, err := NewPush(a.env(), "x", Durability(socket.Memory))
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, "1", "2")
		synctest.Wait()
		spoil(s)
		matches(t, "Send", s.Send(long(t), []byte("3")), socket.ErrStorage)
		r := b.pull()
		l := connect(a.node, s, b, r)
		none(t, r)
		matches(t, "Flush", s.Flush(long(t)), socket.ErrStorage)
		l.part()
		matches(t, "Close", s.Close(), socket.ErrStorage)
		balanced(t, s)
		a2 := a.killed()
		s2 := a2.memory()
		connect(a2.node, s2, b, r)
		same(t, "received", takeAll(t, r, 2), counted(1, 2))
		flushed(t, s2)
	})
}

// What was answered is told although the disk will never say so.
func TestFatesThatWaitForADiskThatFailsAreTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		var fate fates
		s, err := NewPush(a.env(), "x", Durability(socket.Memory), OnSettled(fate.note))
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, counted(1, 4)...)
		r := b.pull()
		l := connect(a.node, s, b, r)
		m := recv(t, r, "1")
		acked(t, r, "2", "3", "4")
		synctest.Wait()
		before := a.killed()
		s.mu.Lock()
		led := s.box.Ledger()
		if err := led.Done(led.Consumers()[0], wire.EditionRanges{Edition: a.local.Edition, Ranges: []ranges.Range{{From: 1, To: 1}}}); err != nil {
			t.Error(err)
		}
		s.spill.tail.flush() // it is on its way to the disk
		s.spill.tail.fail(errSpoilt)
		s.mu.Unlock()
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		flushed(t, s)
		same(t, "told", len(fate.told()), 4)
		balanced(t, s)
		l.part()
		matches(t, "Close", s.Close(), socket.ErrStorage)
		// It was not confirmed: the puller knows it again.
		s2 := before.memory()
		connect(before.node, s2, b, r)
		flushed(t, s2)
		none(t, r)
	})
}

// What is answered later is told at once.
func TestWithAFailedDiskAnswersAreFinal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		var fate fates
		s, err := NewPush(a.env(), "x", Durability(socket.Memory), OnSettled(fate.note))
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, counted(1, 4)...)
		r := b.pull()
		l := connect(a.node, s, b, r)
		m := recv(t, r, "1")
		synctest.Wait()
		spoil(s)
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		acked(t, r, "2", "3", "4")
		flushed(t, s)
		same(t, "told", fate.told(), []string{"1 done", "2 done", "3 done", "4 done"})
		balanced(t, s)
		l.part()
		matches(t, "Close", s.Close(), socket.ErrStorage)
	})
}

func TestAtTheQuotaShutdownSaysWhatItGaveUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKeptWith(t, 'a', t.TempDir(), 5_000), newNode(t, 'b')
		var fate fates
		s, err := NewPush(a.env(), "x", Durability(socket.Memory), OnSettled(fate.note))
		if err != nil {
			t.Fatal(err)
		}
		r := b.pull(Prefetch(1))
		l := connect(a.node, s, b, r)
		ready(t, s, 1)
		for i := 1; i <= 10; i++ {
			if err := s.Send(long(t), kilobyte(i)); err != nil {
				t.Fatal(err)
			}
		}
		l.part()
		err = s.Shutdown(long(t))
		matches(t, "Shutdown", err, socket.ErrShutdown)
		matches(t, "Shutdown", err, spool.ErrSpoolFull)
		kept := left(a)
		if kept == 0 || kept == 10 {
			t.Errorf("%d are on disk", kept)
		}
		same(t, "given up", uint64(len(fate.told())), 10-kept)
		a2 := a.killed()
		s2 := a2.memory()
		if s2.gap == nil || s2.gap.From != kept+1 || s2.gap.To != 10 {
			t.Errorf("gap %v, %d are on disk", s2.gap, kept)
		}
		same(t, "carried", balanced(t, s2).Carried, kept)
	})
}
