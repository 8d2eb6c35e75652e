package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tailOfThree makes three groups in Badger: seqs 1 to 5, seqs 6 to 9, a note. It returns a directory as
// a kill leaves it, and the log as it was after the first group. The second group is certain by then.
func tailOfThree(t *testing.T) (dir string, id [16]byte, log []byte) {
	t.Helper()
	live := t.TempDir()
	s := mustOpen(t, live)
	withoutLog(s)
	return threeGroups(t, s, live, "00001.mem")
}

// threeGroups makes the groups of tailOfThree in a store, whose last writes are in that file.
func threeGroups(t *testing.T, s *Store, live, file string) (dir string, id [16]byte, log []byte) {
	t.Helper()
	q, _ := mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) {
		for range 5 {
			mustAppend(t, c, q, "early")
		}
		c.Settle(q, 1, 1)
	})
	log, err := os.ReadFile(filepath.Join(killed(t, live), file))
	must(t, err)
	commit(t, s, func(c *Change) {
		for range 4 {
			mustAppend(t, c, q, "late")
		}
	})
	commit(t, s, func(c *Change) { c.Put("note", []byte("new")) })
	return killed(t, live), s.ID(), log
}

// wantForked opens dir, whose queue "jobs" must have lost exactly these seqs, and returns it.
func wantForked(t *testing.T, dir string, id [16]byte, lost string, next uint64) (*Store, *Queue, QueueState) {
	t.Helper()
	s := mustOpen(t, dir)
	if err := s.Stat().Damage; !errors.Is(err, ErrDamaged) || s.ID() == id || s.Incarnation() < 2 {
		t.Fatalf("store %x at incarnation %d, was %x; damage %v", s.ID(), s.Incarnation(), id, err)
	}
	q, state := mustOpenQueue(t, s, "jobs")
	if fmt.Sprint(state.Lost) != lost || state.Next != next {
		t.Fatalf("lost %v, next %d; want %s, %d", state.Lost, state.Next, lost, next)
	}
	for _, r := range state.Lost {
		if !slices.ContainsFunc(state.Settled, func(o SeqRange) bool { return o.From <= r.From && r.To <= o.To }) {
			t.Errorf("lost %v is not in settled %v", r, state.Settled)
		}
	}
	commit(t, s, func(c *Change) {
		if seq := mustAppend(t, c, q, "on"); seq != next {
			t.Errorf("goes on at %d, want %d", seq, next)
		}
	})
	// It is told again until somebody says that it has been told.
	for _, want := range []string{lost, lost, "[]", "[]"} {
		next := killed(t, dir)
		again := mustOpen(t, next)
		q, st := mustOpenQueue(t, again, "jobs")
		if again.ID() != s.ID() || again.Stat().Damage != nil || fmt.Sprint(st.Lost) != want || st.Next != state.Next+1 {
			t.Errorf("next life: store %x, damage %v, state %+v, want lost %s", again.ID(), again.Stat().Damage, st, want)
		}
		dir = next
		if again.Incarnation() == s.Incarnation()+2 {
			commit(t, again, func(c *Change) { c.ForgetLost(q); c.ForgetLost(q) })
			if _, st := reopenQueue(t, again, q); st.Lost != nil {
				t.Errorf("at once: lost %v", st.Lost)
			}
		}
	}
	return s, q, state
}

// reopenQueue closes a queue and opens it again.
func reopenQueue(t *testing.T, s *Store, q *Queue) (*Queue, QueueState) {
	t.Helper()
	q.Close()
	return mustOpenQueue(t, s, q.Name())
}

func TestLossIsToldWithThatOfBefore(t *testing.T) {
	dir, id, log := tailOfThree(t)
	must(t, os.WriteFile(filepath.Join(dir, "00001.mem"), log, 0o600))
	s := mustOpen(t, dir) // nobody hears that 6 to 9 are lost
	q, _ := mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "on") })
	mustClose(t, s)
	must(t, os.Remove(filepath.Join(dir, manifestName)))
	wantOpenError(t, dir, ErrDamaged, "MANIFEST is missing")
	s = mustOpen(t, dir) // all is gone, and what was to be told of 6 to 9 as well; the mark knows more
	if _, state := mustOpenQueue(t, s, "jobs"); s.ID() == id || fmt.Sprint(state.Lost) != "[{1 10}]" {
		t.Errorf("lost %v", state.Lost)
	}
}

func TestStoreKeepsItsOwnNotesToItself(t *testing.T) {
	dir, _, log := tailOfThree(t)
	must(t, os.WriteFile(filepath.Join(dir, "00001.mem"), log, 0o600))
	s := mustOpen(t, dir)
	commit(t, s, func(c *Change) { c.Put("note", []byte("mine")) })
	for key := range s.Notes("") {
		if key != "note" {
			t.Errorf("note %q", key)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a caller may write over what is lost")
		}
	}()
	c := s.Begin()
	defer c.End()
	c.Put(lostPrefix+"jobs", nil)
}

func TestLostRangesRoundTrip(t *testing.T) {
	for _, lost := range [][]SeqRange{nil, {{1, 1}}, {{1, 5}, {6, 6}, {9, MaxSeq}}} {
		if got, err := parseLost(sealLost(lost)); err != nil || fmt.Sprint(got) != fmt.Sprint(lost) {
			t.Errorf("%v comes back as %v, %v", lost, got, err)
		}
	}
}

func FuzzParseLost(f *testing.F) {
	f.Add(sealLost([]SeqRange{{1, 5}, {9, 9}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		lost, err := parseLost(b)
		var end uint64
		for _, r := range lost {
			if err == nil && (r.From <= end || r.To < r.From) {
				t.Fatalf("%x: %v", b, lost)
			}
			end = r.To
		}
	})
}

func TestTornTailIsLostWithItsExactRange(t *testing.T) {
	dir, id, log := tailOfThree(t)
	must(t, os.WriteFile(filepath.Join(dir, "00001.mem"), log, 0o600))
	_, q, state := wantForked(t, dir, id, "[{6 9}]", 10)
	if got := unsettled(t, q, state.Settled); len(got) != 5 || got[2] != "early" || got[10] != "on" {
		t.Errorf("owed %v", got)
	}
}

func TestMissingLogIsLostWithItsExactRange(t *testing.T) {
	dir, id, _ := tailOfThree(t)
	must(t, os.Remove(filepath.Join(dir, "00001.mem")))
	wantForked(t, dir, id, "[{1 9}]", 10)
}

func TestLogGarbledInTheMiddleIsLostFromThereOn(t *testing.T) {
	dir, id, log := tailOfThree(t)
	end := len(bytes.TrimRight(log, "\x00"))
	rewrite(t, filepath.Join(dir, "00001.mem"), func(b []byte) []byte {
		b[end+40] ^= 0xff // within the second group
		return b
	})
	wantForked(t, dir, id, "[{6 9}]", 10)
}

func TestCutManifestIsLostWithItsExactRange(t *testing.T) {
	dir, id := waiting(t)
	rewrite(t, filepath.Join(dir, manifestName), func(b []byte) []byte { return b[:len(b)-1] })
	wantForked(t, dir, id, "[{1 9}]", 10)
}

func TestMissingManifestIsLostWithItsExactRange(t *testing.T) {
	dir, id := waiting(t)
	must(t, os.Remove(filepath.Join(dir, manifestName)))
	wantOpenError(t, dir, ErrDamaged, "MANIFEST is missing")
	wantForked(t, dir, id, "[{1 9}]", 10)
}

func TestGroupNobodyWasToldOfMayBeMissing(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	withoutLog(s)
	q, _ := mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "first") })
	log, err := os.ReadFile(filepath.Join(killed(t, dir), "00001.mem"))
	must(t, err)
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "second") })
	cut := killed(t, dir)
	for name, undo := range map[string]func(dir string) error{
		"Badger was faster": func(dir string) error {
			return makeMark(dir, mark{s.ID(), 1, 2, 1, map[uint64]markedQueue{}})
		},
		"the mark was faster": func(dir string) error {
			return errors.Join(
				makeMark(dir, mark{s.ID(), 1, 3, 2, map[uint64]markedQueue{1: {"jobs", 0, 2}}}),
				os.WriteFile(filepath.Join(dir, "00001.mem"), log, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			must(t, copyDir(cut, dir))
			must(t, undo(dir))
			again := mustOpen(t, dir)
			if err := again.Stat().Damage; err != nil || again.ID() != s.ID() {
				t.Errorf("a kill within a commit is called damage: %v", err)
			}
		})
	}
}

func TestIdleStoreKnowsThatItsLastGroupIsCertain(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	withoutLog(s)
	q, _ := mustOpenQueue(t, s, "jobs")
	log, err := os.ReadFile(filepath.Join(killed(t, dir), "00001.mem"))
	must(t, err)
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "last") })
	for m, err := readMark(dir, nil); m.certain < 2; m, err = readMark(dir, nil) {
		must(t, err)
	}
	cut := killed(t, dir)
	must(t, os.WriteFile(filepath.Join(cut, "00001.mem"), log, 0o600))
	wantForked(t, cut, s.ID(), "[{1 1}]", 2)
}

// threeBlocks makes a closed store of three blocks of one record each in one value log file.
func threeBlocks(t *testing.T) (dir string, values string) {
	t.Helper()
	dir = t.TempDir()
	s := mustOpen(t, dir)
	withoutLog(s) // Badger keeps no order within a transaction
	q, _ := mustOpenQueue(t, s, "jobs")
	for _, body := range []string{"A", "B", "C"} {
		commit(t, s, func(c *Change) { mustAppend(t, c, q, strings.Repeat(body, 5000)) })
	}
	mustClose(t, s)
	return dir, filepath.Join(dir, "000001.vlog")
}

func garbleIn(t *testing.T, path, run string) {
	t.Helper()
	rewrite(t, path, func(b []byte) []byte {
		at := bytes.Index(b, []byte(run))
		if at < 0 {
			t.Fatalf("%s holds no %s", path, run)
		}
		b[at+len(run)/2] ^= 0x20
		return b
	})
}

// readAll reads a queue as a sender does that states what is lost and goes on.
func readAll(t *testing.T, q *Queue) (read, lost []SeqRange) {
	t.Helper()
	for from := uint64(1); ; {
		b, err := q.Read(from)
		var damaged *DamagedError
		switch {
		case err == io.EOF:
			return read, lost
		case errors.As(err, &damaged) && errors.Is(err, ErrDamaged):
			lost = append(lost, SeqRange{damaged.From, damaged.To})
			from = damaged.To + 1
		case err != nil:
			t.Fatal(err)
		default:
			read = append(read, SeqRange{b.Base, b.Last})
			from = b.Last + 1
		}
	}
}

func TestDamagedBlockIsToldWithItsRangeAndTheRestIsRead(t *testing.T) {
	dir, values := threeBlocks(t)
	mustClose(t, mustOpen(t, dir)) // Badger looks through its last file only; now that is another
	garbleIn(t, values, "BBBB")
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	read, lost := readAll(t, q)
	if fmt.Sprint(read) != "[{1 1} {3 3}]" || fmt.Sprint(lost) != "[{2 2}]" {
		t.Errorf("read %v, lost %v", read, lost)
	}
	commit(t, s, func(c *Change) { c.Settle(q, 2, 2) })
	if read, lost := readAll(t, q); len(read) != 2 || lost != nil {
		t.Errorf("after it is settled: read %v, lost %v", read, lost)
	}
}

func TestValueLogGarbledInTheMiddleGivesNoGapToAReader(t *testing.T) {
	dir, values := threeBlocks(t)
	garbleIn(t, values, "BBBB") // Badger cuts the file off there
	q, _ := mustOpenQueue(t, mustOpen(t, dir), "jobs")
	read, lost := readAll(t, q)
	if fmt.Sprint(read) != "[{1 1}]" || fmt.Sprint(lost) != "[{2 2} {3 3}]" {
		t.Errorf("read %v, lost %v", read, lost)
	}
}

func TestMissingValueLogGivesNoGapToAReader(t *testing.T) {
	dir, values := threeBlocks(t)
	must(t, os.Remove(values))
	q, _ := mustOpenQueue(t, mustOpen(t, dir), "jobs")
	read, lost := readAll(t, q)
	if read != nil || fmt.Sprint(lost) != "[{1 1} {2 2} {3 3}]" {
		t.Errorf("read %v, lost %v", read, lost)
	}
}

func TestFailedCommitTellsEveryThenAndEndsAllWriting(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "good") })
	good := s.mark.file
	broken, err := os.Open(filepath.Join(dir, markName)) // not writable
	must(t, err)
	s.mark.file = broken
	c := s.Begin()
	mustAppend(t, c, q, "doubtful")
	told := make(chan error, 1)
	c.Then(func(err error) { told <- err })
	g := c.Group()
	c.End()
	if err := s.Wait(context.Background(), g); !errors.Is(err, ErrFailed) {
		t.Errorf("wait: %v", err)
	}
	if err := <-told; !errors.Is(err, ErrFailed) {
		t.Errorf("then: %v", err)
	}
	must(t, broken.Close())
	s.mark.file = good
	if b, err := q.Read(1); err != nil || b.Base != 1 {
		t.Errorf("what was on disk cannot be read: %v", err)
	}
	c = s.Begin()
	if _, _, _, err := c.Append(q, 20, framed("late")); !errors.Is(err, ErrFailed) {
		t.Errorf("append: %v", err)
	}
	c.Settle(q, 1, 1)
	c.Then(func(err error) { told <- err })
	g = c.Group()
	c.End()
	if err := s.Wait(context.Background(), g); !errors.Is(err, ErrFailed) {
		t.Errorf("wait after a failure: %v", err)
	}
	if err := <-told; !errors.Is(err, ErrFailed) {
		t.Errorf("then after a failure: %v", err)
	}
	if err := s.Ready(context.Background()); !errors.Is(err, ErrFailed) {
		t.Errorf("ready: %v", err)
	}
	mustClose(t, s)
	_, state := mustOpenQueue(t, mustOpen(t, dir), "jobs")
	if state.Next < 2 || state.Next > 3 || state.Lost != nil {
		t.Errorf("after reopening: %+v", state)
	}
}
