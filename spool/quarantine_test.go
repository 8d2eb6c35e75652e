package spool

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// waiting makes a store with a queue that owes seqs 3 to 9 of 1 to 9, and returns its directory,
// closed.
func waiting(t *testing.T) (dir string, id [16]byte) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "s")
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) {
		for range 9 {
			mustAppend(t, c, q, strings.Repeat("x", 200))
		}
		c.Settle(q, 1, 2)
	})
	mustClose(t, s)
	return dir, s.ID()
}

func garbleTables(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	must(t, err)
	if len(tables) == 0 {
		t.Fatal("there is no table")
	}
	for _, path := range tables {
		rewrite(t, path, func(b []byte) []byte {
			b[len(b)-4] ^= 0x55
			return b
		})
	}
}

func TestDamageMetTwiceMovesTheStoreAsideAndTellsWhatIsLost(t *testing.T) {
	dir, id := waiting(t)
	garbleTables(t, dir)
	before := listing(t, dir)
	wantOpenError(t, dir, ErrDamaged, ".sst")
	var log bytes.Buffer
	s := mustOpenWith(t, dir, Options{Profile: ProfileEdge, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if s.ID() == id || s.Incarnation() != 2 || s.Stat().Damage == nil {
		t.Errorf("store %x at incarnation %d, was %x; damage %v", s.ID(), s.Incarnation(), id, s.Stat().Damage)
	}
	q, state := mustOpenQueue(t, s, "jobs")
	// Settled seqs in a block that still owes something are known to the tables alone.
	if state.Next != 10 || fmt.Sprint(state.Lost) != "[{1 9}]" || fmt.Sprint(state.Settled) != "[{1 9}]" {
		t.Errorf("state %+v", state)
	}
	commit(t, s, func(c *Change) {
		if seq := mustAppend(t, c, q, "on"); seq != 10 {
			t.Errorf("goes on at %d", seq)
		}
	})
	if !strings.Contains(log.String(), "seqs 1 to 9 are lost") {
		t.Errorf("the log does not say what is lost:\n%s", log.String())
	}
	aside, err := filepath.Glob(dir + ".damaged-*")
	must(t, err)
	if len(aside) != 1 {
		t.Fatalf("moved aside: %v", aside)
	}
	if after := listing(t, aside[0]); !strings.Contains(after, "000001.sst") {
		t.Errorf("the damaged store is not all there\nbefore %s\nafter  %s", before, after)
	}
	_, state = mustOpenQueue(t, mustOpen(t, killed(t, dir)), "jobs")
	if state.Next != 11 || fmt.Sprint(state.Lost) != "[{1 9}]" || fmt.Sprint(state.Settled) != "[{1 9}]" {
		t.Errorf("next life: %+v", state)
	}
}

func TestKillWhileAStoreIsMovedAsideLosesNoTidings(t *testing.T) {
	damaged, id := waiting(t)
	garbleTables(t, damaged)
	wantOpenError(t, damaged, ErrDamaged, ".sst")
	names, err := movable(damaged)
	must(t, err)
	for n := 1; n <= len(names); n++ {
		dir := filepath.Join(t.TempDir(), "s")
		must(t, copyDir(damaged, dir))
		for _, name := range names[:n] {
			must(t, os.Remove(filepath.Join(dir, name)))
		}
		s := mustOpen(t, dir)
		if s.ID() == id || s.Incarnation() != 2 || s.Stat().Damage == nil {
			t.Errorf("after %v: store %x at incarnation %d, was %x; damage %v", names[:n], s.ID(), s.Incarnation(), id, s.Stat().Damage)
		}
		if _, state := mustOpenQueue(t, s, "jobs"); state.Next != 10 || fmt.Sprint(state.Lost) != "[{1 9}]" {
			t.Errorf("after %v: state %+v", names[:n], state)
		}
	}
}

func TestStoreWithoutItsMarkIsOpenedTheSecondTimeUnderANewID(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"gone":    os.Remove,
		"garbled": func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
		"old": func(path string) error {
			return makeMark(filepath.Dir(path), mark{id: [16]byte{1}, incarnation: 1, queues: map[uint64]markedQueue{}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, id := waiting(t)
			must(t, harm(filepath.Join(dir, markName)))
			wantOpenError(t, dir, ErrDamaged, markName)
			s := mustOpen(t, dir)
			if s.ID() == id || s.Incarnation() != 2 || s.Stat().Damage == nil {
				t.Errorf("store %x at incarnation %d, was %x; damage %v", s.ID(), s.Incarnation(), id, s.Stat().Damage)
			}
			q, state := mustOpenQueue(t, s, "jobs")
			if got := unsettled(t, q, state.Settled); len(got) != 7 || state.Lost != nil || state.Next != 10 {
				t.Errorf("%d records are owed, state %+v", len(got), state)
			}
			again := mustOpen(t, killed(t, dir))
			if again.ID() != s.ID() || again.Stat().Damage != nil {
				t.Errorf("next life: store %x, was %x; damage %v", again.ID(), s.ID(), again.Stat().Damage)
			}
		})
	}
}

func TestGoodOpenForgetsAnEarlierFailure(t *testing.T) {
	dir, _ := waiting(t)
	good := filepath.Join(t.TempDir(), "good")
	must(t, copyDir(dir, good))
	garbleTables(t, dir)
	wantOpenError(t, dir, ErrDamaged)
	must(t, copyDir(good, dir)) // somebody has mended it
	mustClose(t, mustOpen(t, dir))
	garbleTables(t, dir)
	wantOpenError(t, dir, ErrDamaged)
}

func TestDeathsInOpenCountAsDamageOnlyAfterMany(t *testing.T) {
	dir, id := waiting(t)
	must(t, attempt{deaths: maxDeaths - 1}.write(dir))
	s := mustOpen(t, dir)
	if s.ID() != id {
		t.Error("a kill in the midst of Open cost the store")
	}
	mustClose(t, s)
	if _, err := os.Stat(filepath.Join(dir, attemptName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a good open: %v", err)
	}
	must(t, attempt{deaths: maxDeaths}.write(dir))
	if s := mustOpen(t, dir); s.ID() == id {
		t.Error("a store that ends every process that opens it is still in place")
	}
}

func FuzzParseAttempt(f *testing.F) {
	f.Add([]byte("1 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := parseAttempt(b); a.deaths < 0 || a.failures < 0 {
			t.Errorf("%q: %+v", b, *a)
		}
	})
}
