package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

// framed makes a record that knows its seq's delta, so that a test sees where it came from.
func framed(body string) func(dst []byte, delta uint64) []byte {
	return func(dst []byte, delta uint64) []byte {
		dst = binary.AppendUvarint(dst, delta)
		dst = binary.AppendUvarint(dst, uint64(len(body)))
		return append(dst, body...)
	}
}

// bodies takes a block apart: seq to body.
func bodies(t fataler, b Block) map[uint64]string {
	t.Helper()
	m := make(map[uint64]string)
	for rest := b.Data; len(rest) > 0; {
		delta, n := binary.Uvarint(rest)
		size, k := binary.Uvarint(rest[max(n, 0):])
		if n <= 0 || k <= 0 || uint64(len(rest)-n-k) < size {
			t.Fatalf("block %d to %d is cut short", b.Base, b.Last)
		}
		m[b.Base+delta] = string(rest[n+k : uint64(n+k)+size])
		rest = rest[uint64(n+k)+size:]
	}
	if len(m) == 0 || len(m) > int(b.Last-b.Base+1) { // seqs may have been skipped
		t.Fatalf("block %d to %d holds %d records", b.Base, b.Last, len(m))
	}
	return m
}

func mustOpenQueue(t testing.TB, s *Store, name string) (*Queue, QueueState) {
	t.Helper()
	q, state, err := s.OpenQueue(name)
	must(t, err)
	return q, state
}

// commit makes one change and waits until it is on disk.
func commit(t testing.TB, s *Store, change func(c *Change)) {
	t.Helper()
	c := s.Begin()
	change(c)
	g := c.Group()
	c.End()
	must(t, s.Wait(context.Background(), g))
}

func mustAppend(t testing.TB, c *Change, q *Queue, body string) uint64 {
	t.Helper()
	seq, _, _, err := c.Append(q, len(body)+10, framed(body))
	must(t, err)
	return seq
}

// unsettled reads all that a queue owes.
func unsettled(t testing.TB, q *Queue, settled []SeqRange) map[uint64]string {
	t.Helper()
	m := make(map[uint64]string)
	for from := uint64(1); ; {
		b, err := q.Read(from)
		if err == io.EOF {
			break
		}
		must(t, err)
		for seq, body := range bodies(t, b) {
			if !slices.ContainsFunc(settled, func(r SeqRange) bool { return r.From <= seq && seq <= r.To }) {
				m[seq] = body
			}
		}
		from = b.Last + 1
	}
	return m
}

func TestRecordsOutliveAKill(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, state := mustOpenQueue(t, s, "jobs\x00x")
	if state.Next != 1 || state.Settled != nil || state.Editions != nil || state.Mark != 0 {
		t.Errorf("new queue: %+v", state)
	}
	want := make(map[uint64]string)
	for i := range 3 {
		commit(t, s, func(c *Change) {
			for j := range 4 {
				body := fmt.Sprint("body", i, j)
				want[mustAppend(t, c, q, body)] = body
			}
		})
	}
	commit(t, s, func(c *Change) {
		c.Settle(q, 2, 2)
		c.Settle(q, 5, 8)
		c.SetMark(q, 7)
		c.SetTry(q, Try{3, 2, 1})
		c.SetTry(q, Try{2, 9, 9})
		c.SetHolders(q, [][16]byte{{1}, {2}})
	})
	edition := s.Edition()
	s = mustOpen(t, killed(t, dir))
	q, state = mustOpenQueue(t, s, "jobs\x00x")
	if got := fmt.Sprint(state.Settled); state.Next != 13 || state.Mark != 7 || got != "[{2 2} {5 8}]" {
		t.Errorf("after a kill: %+v", state)
	}
	if fmt.Sprint(state.Tries) != "[{3 2 1}]" || len(state.Holders) != 2 || len(state.Lost) != 0 {
		t.Errorf("after a kill: %+v", state)
	}
	if !slices.Equal(state.Editions, []EditionSpan{{edition, 1}}) {
		t.Errorf("editions %v, want %x from 1", state.Editions, edition)
	}
	for seq := range want {
		if seq == 2 || 5 <= seq && seq <= 8 {
			delete(want, seq)
		}
	}
	if got := unsettled(t, q, state.Settled); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAppendedRecordAliasesWhatIsWritten(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "a")
	var records [][]byte
	commit(t, s, func(c *Change) {
		for i := range 2000 {
			body := strings.Repeat(string(rune('a'+i%26)), 100+i%50)
			_, _, r, err := c.Append(q, 200, framed(body))
			must(t, err)
			records = append(records, r)
		}
	})
	var all []byte
	for from := uint64(1); ; {
		b, err := q.Read(from)
		if err == io.EOF {
			break
		}
		must(t, err)
		all = append(all, b.Data...)
		from = b.Last + 1
	}
	if !bytes.Equal(all, bytes.Join(records, nil)) {
		t.Error("what was handed out is not what is on disk")
	}
}

func TestLargeRecordComesBackWhole(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "a")
	large := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	commit(t, s, func(c *Change) {
		mustAppend(t, c, q, "before")
		mustAppend(t, c, q, large)
		mustAppend(t, c, q, "after")
	})
	s = mustOpen(t, killed(t, dir))
	q, state := mustOpenQueue(t, s, "a")
	got := unsettled(t, q, nil)
	if got[1] != "before" || got[2] != large || got[3] != "after" || state.Next != 4 {
		t.Errorf("got %d records, the large one of %d bytes", len(got), len(got[2]))
	}
	commit(t, s, func(c *Change) { c.Settle(q, 2, 2) })
	if b, err := q.Read(2); err != nil || b.Base != 3 {
		t.Errorf("read of a settled record: block %d, %v; want the next, 3", b.Base, err)
	}
	for _, info := range s.Queues() {
		if info.Unsettled != 2 || info.Bytes > 1000 {
			t.Errorf("after the large one is settled: %+v", info)
		}
	}
}

func TestTooLargeRecordIsRefused(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "a")
	c := s.Begin()
	defer c.End()
	_, _, _, err := c.Append(q, MaxRecordSize+1, func([]byte, uint64) []byte { panic("framed") })
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestQuotaRefusesAppendsOnly(t *testing.T) {
	s := mustOpenWith(t, t.TempDir(), Options{Profile: ProfileEdge, Quota: 10_000})
	q, _ := mustOpenQueue(t, s, "a")
	body := strings.Repeat("x", 1000)
	n := 0
	for {
		var err error
		commit(t, s, func(c *Change) { _, _, _, err = c.Append(q, 1010, framed(body)) })
		if err != nil {
			var full *FullError
			if !errors.Is(err, ErrSpoolFull) || !errors.As(err, &full) || full.Disk || full.Limit != 10_000 {
				t.Fatalf("at the quota: %v", err)
			}
			break
		}
		n++
	}
	if n < 7 || n > 10 {
		t.Errorf("%d records of 1000 bytes fit in a quota of 10000", n)
	}
	commit(t, s, func(c *Change) {
		c.Settle(q, 1, 2)
		c.Put("note", make([]byte, 20_000))
		c.SetMark(q, 5)
	})
	commit(t, s, func(c *Change) { mustAppend(t, c, q, body) })
}

func TestQueueIsOpenOnce(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "a")
	if _, _, err := s.OpenQueue("a"); !errors.Is(err, ErrInUse) {
		t.Errorf("second open: %v", err)
	}
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "x") })
	q.Close()
	c := s.Begin()
	if _, _, _, err := c.Append(q, 20, framed("y")); !errors.Is(err, ErrClosed) {
		t.Errorf("append to a closed queue: %v", err)
	}
	c.End()
	_, state := mustOpenQueue(t, s, "a")
	if state.Next != 2 {
		t.Errorf("next %d, want 2", state.Next)
	}
}

func TestQueueGoesOnAboveWhatWasReservedUnderItsName(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	_, err := s.Resume("a")
	must(t, err)
	must(t, s.Reserve("a", 1, 100))
	q, state := mustOpenQueue(t, s, "a")
	if state.Next != 101 || fmt.Sprint(state.Settled) != "[{1 100}]" {
		t.Errorf("state %+v", state)
	}
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "x") })
	_, state = mustOpenQueue(t, mustOpen(t, killed(t, dir)), "a")
	if state.Next != 102 || fmt.Sprint(state.Settled) != "[{1 100}]" || state.Lost != nil {
		t.Errorf("after a kill: %+v", state)
	}
}

func TestSeqsReservedWhileAQueueWasClosedAreNotLost(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "a")
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "one") })
	q.Close()
	_, err := s.Resume("a")
	must(t, err)
	must(t, s.Reserve("a", 1, 100))
	q, state := mustOpenQueue(t, s, "a")
	if state.Next != 101 || fmt.Sprint(state.Settled) != "[{2 100}]" {
		t.Errorf("state %+v", state)
	}
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "two") })
	again := mustOpen(t, killed(t, dir))
	_, state = mustOpenQueue(t, again, "a")
	if state.Next != 102 || fmt.Sprint(state.Settled) != "[{2 100}]" || again.Stat().Damage != nil {
		t.Errorf("after a kill: %+v, damage %v", state, again.Stat().Damage)
	}
}

func TestReadsUnderWayEndWithClose(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "a")
	backlog(t, s, q, 100, 5000)
	var readers sync.WaitGroup
	started := make(chan struct{}, 4)
	for range 4 {
		readers.Go(func() {
			for from := uint64(1); ; from = from%100 + 1 {
				b, err := q.Read(from)
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil || b.Base > from {
					t.Errorf("read from %d: block %d, %v", from, b.Base, err)
				}
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 4 {
		<-started
	}
	mustClose(t, s)
	readers.Wait()
}

func TestSkippedSeqsCountAsSettled(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "a")
	commit(t, s, func(c *Change) {
		mustAppend(t, c, q, "one")
		c.Skip(q, 10)
		mustAppend(t, c, q, "ten")
		c.Skip(q, 3)
		c.Skip(q, 20)
	})
	q, state := mustOpenQueue(t, mustOpen(t, killed(t, dir)), "a")
	if state.Next != 20 || fmt.Sprint(state.Settled) != "[{2 9} {11 19}]" || state.Lost != nil {
		t.Errorf("state %+v", state)
	}
	if got := unsettled(t, q, state.Settled); fmt.Sprint(got) != "map[1:one 10:ten]" {
		t.Errorf("got %v", got)
	}
}

// What holes cost must not depend on how many there are.
func TestShortHolesLieWithinABlock(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "a")
	commit(t, s, func(c *Change) {
		for seq := uint64(1); seq < 200; seq += 2 {
			c.Skip(q, seq)
			mustAppend(t, c, q, fmt.Sprint(seq))
		}
		if len(q.blocks) != 1 {
			t.Errorf("%d blocks", len(q.blocks))
		}
	})
	q, state := mustOpenQueue(t, mustOpen(t, killed(t, dir)), "a")
	if state.Next != 200 || len(state.Settled) != 99 || state.Settled[0] != (SeqRange{2, 2}) || state.Lost != nil {
		t.Errorf("state %+v", state)
	}
	if got := unsettled(t, q, state.Settled); len(got) != 100 || got[101] != "101" {
		t.Errorf("got %v", got)
	}
}

// A record in parts is a block of its own.
func TestAHoleBehindALargeRecordIsNotPartOfItsBlock(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "a")
	large := strings.Repeat("x", 3*s.profile.block)
	commit(t, s, func(c *Change) {
		mustAppend(t, c, q, large)
		c.Skip(q, 5)
		mustAppend(t, c, q, "five")
	})
	q, state := mustOpenQueue(t, mustOpen(t, killed(t, dir)), "a")
	if got := unsettled(t, q, state.Settled); len(got) != 2 || got[1] != large || got[5] != "five" {
		t.Errorf("%d records", len(got))
	}
}

func TestThensRunInOrderAfterTheirGroup(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "a")
	var order []int
	last := make(chan struct{})
	for i := range 50 {
		c := s.Begin()
		mustAppend(t, c, q, "x")
		g := c.Group()
		c.Then(func(err error) {
			if err != nil {
				t.Errorf("then %d: %v", i, err)
			}
			if s.Wait(t.Context(), g) != nil || s.Stat().Groups < g {
				t.Errorf("then %d: its group %d is not known to be on disk", i, g)
			}
			order = append(order, i)
			if i == 49 {
				close(last)
			}
		})
		c.End()
	}
	<-last
	if !slices.IsSorted(order) || len(order) != 50 {
		t.Errorf("order %v", order)
	}
}

func TestChangeAfterAnEmptyOneIsCommittedWithoutAWait(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "a")
	for range 20 {
		for range 5 {
			s.Begin().End()
		}
		told := make(chan error)
		c := s.Begin()
		mustAppend(t, c, q, "x")
		c.Then(func(err error) { told <- err })
		c.End()
		must(t, <-told)
	}
}

func TestChangeAfterCloseHearsErrClosed(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "a")
	mustClose(t, s)
	c := s.Begin()
	var got error
	c.Then(func(err error) { got = err })
	c.Settle(q, 1, 1)
	c.Put("x", []byte("y"))
	_, _, _, err := c.Append(q, 20, framed("x"))
	g := c.Group()
	c.End()
	if !errors.Is(got, ErrClosed) || !errors.Is(err, ErrClosed) || !errors.Is(s.Wait(t.Context(), g), ErrClosed) {
		t.Errorf("then %v, append %v", got, err)
	}
	if _, err := q.Read(1); !errors.Is(err, ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("ready: %v", err)
	}
}

func TestWaitForAnEmptyGroupEnds(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	before := s.head.commits
	commit(t, s, func(*Change) {})
	if s.head.commits != before {
		t.Error("nothing was written, in a transaction")
	}
}

func TestNotesOutliveAKill(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	big := bytes.Repeat([]byte("b"), MaxNoteSize)
	commit(t, s, func(c *Change) {
		c.Put("a/1", []byte("one"))
		c.Put("a/2", []byte{})
		c.Put("b/1", big)
		c.Put("a/3", []byte("gone"))
	})
	commit(t, s, func(c *Change) {
		c.Put("a/3", nil)
		c.Put("never", nil)
		c.Put("a/1", []byte("uno"))
		if got := s2note(s, c, "a/1"); got != "uno" {
			t.Errorf("note within the change: %q", got)
		}
	})
	for _, s := range []*Store{s, mustOpen(t, killed(t, dir))} {
		var keys []string
		for key, value := range s.Notes("a/") {
			keys = append(keys, key+"="+string(value))
		}
		if fmt.Sprint(keys) != "[a/1=uno a/2=]" {
			t.Errorf("notes %v", keys)
		}
		if s.Note("a/3") != nil || s.Note("never") != nil || !bytes.Equal(s.Note("b/1"), big) {
			t.Error("notes differ from what was put")
		}
	}
}

// s2note reads a note while c holds the change lock.
func s2note(s *Store, _ *Change, key string) string {
	n := s.notes[key]
	return string(n.value[1 : len(n.value)-sumSize])
}

// fataler is what bodies needs of a test.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}
