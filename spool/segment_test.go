package spool

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// segmentsIn lists the segments in a directory.
func segmentsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if _, ok := segmentNumber(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	return names
}

// keeping opens a store all of whose blocks go to segments of 64 KiB, with a queue.
func keeping(t *testing.T, dir string) (*Store, *Queue) {
	t.Helper()
	s := mustOpenWith(t, dir, Options{Profile: ProfileEdge})
	keepAll(s, 64<<10)
	q, _ := mustOpenQueue(t, s, "jobs")
	return s, q
}

// restless has a store leave its log as it is when it falls idle.
func restless(s *Store) {
	s.change.Lock() // as in keepAll
	defer s.change.Unlock()
	s.profile.idle = time.Hour
}

// numbered10 appends n records of 10 KB that say which they are.
func numbered10(t *testing.T, s *Store, q *Queue, n int) {
	t.Helper()
	for range n {
		commit(t, s, func(c *Change) {
			mustAppend(t, c, q, fmt.Sprintf("%d %s", q.rec.next, strings.Repeat("s", 10_000)))
		})
	}
}

// wantNumbered holds what is owed against what numbered10 appended.
func wantNumbered(t *testing.T, q *Queue, settled []SeqRange, seqs ...uint64) {
	t.Helper()
	got := unsettled(t, q, settled)
	for _, seq := range seqs {
		if body := got[seq]; !strings.HasPrefix(body, fmt.Sprintf("%d s", seq)) || len(body) < 10_000 {
			t.Errorf("seq %d is %.20q", seq, body)
		}
	}
	if len(got) != len(seqs) {
		t.Errorf("%d records are owed, want %v", len(got), seqs)
	}
}

func seqsTo(n uint64) (seqs []uint64) {
	for seq := uint64(1); seq <= n; seq++ {
		seqs = append(seqs, seq)
	}
	return seqs
}

func TestWhatStaysIsWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	const total = 48 << 20
	backlog(t, s, q, total/(64<<10), 64<<10)
	values, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	must(t, err)
	var inBadger int64
	for _, path := range values {
		info, err := os.Stat(path)
		must(t, err)
		inBadger += allocated(info)
	}
	if kept := segmentsIn(t, dir); len(kept) == 0 || inBadger > total/10 {
		t.Errorf("%d MB in segments %v, %d bytes of %d in Badger", s.segments[firstSegment].live>>20, kept, inBadger, total)
	}
	mustClose(t, s)
	s = mustOpen(t, dir)
	q, state := mustOpenQueue(t, s, "jobs")
	if got := unsettled(t, q, state.Settled); len(got) != total/(64<<10) {
		t.Errorf("%d records are owed", len(got))
	}
}

func TestSegmentsAreReadInThisLifeTheNextAndAfterAKill(t *testing.T) {
	dir := t.TempDir()
	s, q := keeping(t, dir)
	restless(s)
	large := strings.Repeat("large", 6<<10) // in parts
	commit(t, s, func(c *Change) { mustAppend(t, c, q, large) })
	numbered10(t, s, q, 30)
	check := func(dir string, more uint64) (s *Store, q *Queue) {
		t.Helper()
		s = mustOpen(t, dir)
		must(t, s.Stat().Damage)
		q, state := mustOpenQueue(t, s, "jobs")
		got := unsettled(t, q, state.Settled)
		if got[1] != large || state.Next != 32+more || len(got) != int(31+more) {
			t.Errorf("%d records, next %d, the large one has %d bytes", len(got), state.Next, len(got[1]))
		}
		for seq := uint64(2); seq < state.Next; seq++ {
			if !strings.HasPrefix(got[seq], fmt.Sprintf("%d s", seq)) {
				t.Errorf("seq %d is %.20q", seq, got[seq])
			}
		}
		return s, q
	}
	if n := len(segmentsIn(t, dir)); n < 5 || s.ahead.batch.seg == nil {
		t.Fatalf("%d segments", n)
	}
	wantNumbered(t, q, []SeqRange{{1, 1}}, seqsTo(31)[1:]...)
	for range 3 { // some of it was not carried out the first time
		dir = killed(t, dir)
		s, q = check(dir, 0)
	}
	for _, name := range segmentsIn(t, dir) {
		if !strings.HasPrefix(name, segmentPrefix) {
			t.Errorf("%s has the name of a file of the log in its next life", name)
		}
	}
	keepAll(s, 64<<10)
	numbered10(t, s, q, 3)
	check(killed(t, dir), 3)
	mustClose(t, s)
	check(dir, 3)
}

// wantSegments waits until there are so many.
func wantSegments(t *testing.T, s *Store, n int) {
	t.Helper()
	for began := time.Now(); len(segmentsIn(t, s.dir)) != n; runtime.Gosched() {
		must(t, s.Stat().Failed)
		if time.Since(began) > 30*time.Second {
			t.Fatalf("segments %v, want %d", segmentsIn(t, s.dir), n)
		}
	}
}

func TestASegmentGoesWhenBadgerKnowsThatNothingIsLeft(t *testing.T) {
	dir := t.TempDir()
	s, q := keeping(t, dir)
	numbered10(t, s, q, 20)
	commit(t, s, func(c *Change) { c.Settle(q, 1, 20) })
	cut := killed(t, dir) // the deletions are in the log
	wantSegments(t, s, 0)
	numbered10(t, s, q, 1)
	wantNumbered(t, q, nil, 21)
	for _, dir := range []string{cut, killed(t, dir)} {
		s := mustOpen(t, dir)
		must(t, s.Stat().Damage)
		q, state := mustOpenQueue(t, s, "jobs")
		if len(state.Lost) > 0 {
			t.Errorf("lost %v", state.Lost)
		}
		wantNumbered(t, q, state.Settled, seqsTo(state.Next - 1)[20:]...)
	}
}

func TestWhatIsLeftOfASparseSegmentMovesToBadger(t *testing.T) {
	dir := t.TempDir()
	s, q := keeping(t, dir)
	numbered10(t, s, q, 40)
	commit(t, s, func(c *Change) {
		for seq := uint64(1); seq <= 40; seq++ {
			if seq%20 != 10 {
				c.Settle(q, seq, seq)
			}
		}
	})
	cut := killed(t, dir)
	wantSegments(t, s, 0)
	wantNumbered(t, q, nil, 10, 30)
	for _, dir := range []string{cut, killed(t, dir)} {
		s := mustOpen(t, dir)
		must(t, s.Stat().Damage)
		q, state := mustOpenQueue(t, s, "jobs")
		wantNumbered(t, q, state.Settled, 10, 30)
		wantSegments(t, s, 0)
		wantNumbered(t, q, state.Settled, 10, 30)
	}
}

// A reader has found a block, and then it moves.
func TestABlockThatMovesIsReadWhereItWent(t *testing.T) {
	s, q := keeping(t, t.TempDir())
	numbered10(t, s, q, 6)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if b, err := q.Read(6); err != nil || b.Base != 6 {
					t.Errorf("block %d, %v", b.Base, err)
					return
				}
			}
		})
	}
	commit(t, s, func(c *Change) { c.Settle(q, 1, 5) })
	wantSegments(t, s, 0)
	close(stop)
	readers.Wait()
}

func TestAMissingSegmentIsToldWithItsExactRange(t *testing.T) {
	dir := t.TempDir()
	s, q := keeping(t, dir)
	numbered10(t, s, q, 20)
	mustClose(t, s)
	must(t, os.Remove(filepath.Join(dir, walName(firstSegment+1))))
	s = mustOpen(t, dir)
	q, _ = mustOpenQueue(t, s, "jobs")
	var lost, read uint64
	for from := uint64(1); ; {
		b, err := q.Read(from)
		var damaged *DamagedError
		switch {
		case err == io.EOF:
			if lost != 6 || read != 14 {
				t.Errorf("%d are lost, %d are read", lost, read)
			}
			commit(t, s, func(c *Change) { c.Settle(q, 1, 20) })
			wantSegments(t, s, 0)
			return
		case errors.As(err, &damaged) && damaged.From == from && damaged.To >= from:
			lost += damaged.To - damaged.From + 1
			from = damaged.To + 1
		case err != nil || b.Base != from:
			t.Fatalf("at %d: block %d, %v", from, b.Base, err)
		default:
			read += b.Last - b.Base + 1
			from = b.Last + 1
		}
	}
}

// What cannot be read for a reason that may pass, such as too many open files, is not lost.
func TestASegmentThatCannotBeReadNowIsNotDamaged(t *testing.T) {
	s, q := keeping(t, t.TempDir())
	restless(s)
	numbered10(t, s, q, 3)
	path := filepath.Join(s.dir, walName(firstSegment))
	must(t, os.Rename(path, path+".away"))
	must(t, os.Mkdir(path, 0o700)) // it can be opened, and not be read
	if _, err := q.Read(1); err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	must(t, os.Remove(path))
	must(t, os.Rename(path+".away", path))
	wantNumbered(t, q, nil, 1, 2, 3)
}

// One byte of a segment is another, or its end is missing: each block is what it was, or damaged.
func TestAGarbledSegmentGivesNoWrongRecord(t *testing.T) {
	dir := t.TempDir()
	s, q := keeping(t, dir)
	numbered10(t, s, q, 6)
	mustClose(t, s)
	path := filepath.Join(dir, walName(firstSegment))
	whole, err := os.ReadFile(path)
	must(t, err)
	for at := 0; at < len(whole); at += 4999 {
		for name, b := range map[string][]byte{
			"garbled": slicesSet(whole, at),
			"torn":    whole[:at],
		} {
			must(t, os.WriteFile(path, b, 0o600))
			s := mustOpen(t, copyOf(t, dir))
			q, _ := mustOpenQueue(t, s, "jobs")
			damaged := 0
			for from := uint64(1); from <= 6; from++ {
				b, err := q.Read(from)
				if errors.Is(err, ErrDamaged) {
					damaged++
					continue
				}
				must(t, err)
				if body := bodies(t, b)[from]; !strings.HasPrefix(body, fmt.Sprintf("%d sss", from)) {
					t.Errorf("%s at %d: seq %d is %.20q", name, at, from, body)
				}
			}
			if want := 1; name == "garbled" && damaged > want || name == "torn" && damaged == 0 {
				t.Errorf("%s at %d: %d blocks are damaged", name, at, damaged)
			}
			mustClose(t, s)
		}
	}
}

// slicesSet is b with another byte at a place.
func slicesSet(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x55
	return b
}

// copyOf copies a directory that nobody uses.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	must(t, copyDir(dir, to))
	return to
}

// threeGroupsKept is tailOfThree with the groups in a segment.
func threeGroupsKept(t *testing.T) (dir string, id [16]byte, log []byte) {
	t.Helper()
	live := t.TempDir()
	s := mustOpen(t, live)
	keepAll(s, 64<<10)
	restless(s)
	return threeGroups(t, s, live, walName(firstSegment))
}

func TestATornSegmentIsLostWithItsExactRange(t *testing.T) {
	dir, id, log := threeGroupsKept(t)
	must(t, os.WriteFile(filepath.Join(dir, walName(firstSegment)), log, 0o600))
	_, q, state := wantForked(t, dir, id, "[{6 9}]", 10)
	if got := unsettled(t, q, state.Settled); len(got) != 5 || got[2] != "early" || got[10] != "on" {
		t.Errorf("owed %v", got)
	}
}

// Only what Badger does not have is read when a store is opened.
func TestSegmentsThatBadgerHasAreNotReadAgain(t *testing.T) {
	dir := t.TempDir()
	s, q := keeping(t, dir)
	numbered10(t, s, q, 40)
	dir = killed(t, dir)
	names := segmentsIn(t, dir)
	if len(names) < 5 {
		t.Fatalf("segments %v", names)
	}
	// The first is beyond reading, but for where its commits begin.
	rewrite(t, filepath.Join(dir, walName(firstSegment)), func(b []byte) []byte {
		return append(b[:fileHead+walEntryHead+walCommit:fileHead+walEntryHead+walCommit], bytes.Repeat([]byte{0x55}, len(b)-fileHead-walEntryHead-walCommit)...)
	})
	s = mustOpen(t, dir)
	q, state := mustOpenQueue(t, s, "jobs")
	if s.Stat().Damage != nil || state.Next != 41 || len(state.Lost) > 0 {
		t.Errorf("damage %v, next %d, lost %v", s.Stat().Damage, state.Next, state.Lost)
	}
	if _, err := q.Read(1); !errors.Is(err, ErrDamaged) {
		t.Errorf("block 1: %v", err)
	}
	if b, err := q.Read(40); err != nil || b.Last != 40 {
		t.Errorf("block 40: %v", err)
	}
}

func TestSmallGroupsGoBackToTheLog(t *testing.T) {
	s := mustOpenWith(t, t.TempDir(), Options{Profile: ProfileEdge})
	q, _ := mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) {
		for range 4 {
			mustAppend(t, c, q, strings.Repeat("x", 10_000))
		}
	})
	if s.ahead.batch.seg == nil {
		t.Fatal("a large group is not kept")
	}
	for range maxSmall {
		commit(t, s, func(c *Change) { mustAppend(t, c, q, "small") })
	}
	if s.ahead.batch.seg != nil {
		t.Error("small groups follow to the segment for ever")
	}
	if got := unsettled(t, q, nil); len(got) != 4+maxSmall {
		t.Errorf("%d records", len(got))
	}
}

func TestAnEncryptedStoreKeepsNoSegments(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenWith(t, dir, Options{Profile: ProfileEdge, Key: testKey})
	keepAll(s, 64<<10)
	q, _ := mustOpenQueue(t, s, "jobs")
	numbered10(t, s, q, 10)
	if names := segmentsIn(t, dir); len(names) > 0 {
		t.Errorf("segments %v", names)
	}
	wantNumbered(t, q, nil, seqsTo(10)...)
}

func TestSegmentNames(t *testing.T) {
	for name, want := range map[string]uint64{
		"spool.wal.2": 2, "spool.seg.17": 17, "spool.wal.0": 0, "spool.wal.1": 0, "spool.seg.": 0, "spool.seg.02": 0,
		"spool.seg.-3": 0, "spool.seg.+3": 0, "spool.mark": 0, "spool.wal.99999999999999999999": 0,
	} {
		if got, ok := segmentNumber(name); ok != (want > 0) || ok && got != want {
			t.Errorf("%s: %d, %v", name, got, ok)
		}
	}
}

func TestSpotOnDisk(t *testing.T) {
	key := []byte("key")
	p := spot{segment: 7, at: 300, size: 1 << 20}
	const want = "80" + "0000000000000007" + "000000000000012c" + "00100000"
	value := p.seal(key)
	if got := hex.EncodeToString(value[:len(value)-sumSize]); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got, err := parseSpot(key, value); err != nil || got != p {
		t.Errorf("comes back as %+v, %v", got, err)
	}
	for n := range value {
		if _, err := parseSpot(key, value[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes of it: %v", n, err)
		}
		if _, err := parseSpot(key, slicesSet(value, n)); !errors.Is(err, ErrDamaged) {
			t.Errorf("another byte %d: %v", n, err)
		}
	}
	if _, err := parseSpot([]byte("kez"), value); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
}

func FuzzParseSpot(f *testing.F) {
	f.Add([]byte("key"), spot{segment: 7, at: 300, size: 1 << 20}.seal([]byte("key")))
	f.Add([]byte("key"), spot{segment: 1, at: -1}.seal([]byte("key")))
	f.Add([]byte{}, []byte{spotVersion})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		p, err := parseSpot(key, value)
		if err != nil {
			return
		}
		if !bytes.Equal(p.seal(key), value) || p.segment < firstSegment || p.at < 0 || p.size < 0 {
			t.Errorf("%x is %+v", value, p)
		}
	})
}

func TestAnIdleStoreEndsItsSegmentWhenHalfOfItIsGone(t *testing.T) {
	s, q := keeping(t, t.TempDir())
	numbered10(t, s, q, 4)
	commit(t, s, func(c *Change) { c.Settle(q, 1, 1) })
	if names := segmentsIn(t, s.dir); len(names) != 1 {
		t.Fatalf("segments %v", names)
	}
	commit(t, s, func(c *Change) { c.Settle(q, 2, 3) })
	wantSegments(t, s, 0)
	wantNumbered(t, q, nil, 4)
}
