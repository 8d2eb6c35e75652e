package spool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// drainAndClose appends a backlog, settles all of it but the last records, and closes.
func drainAndClose(dir string) {
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	s, err := Open(dir, Options{Profile: ProfileEdge, Reserve: -1})
	die(err)
	die(s.Stat().Damage)
	q, _, err := s.OpenQueue("jobs")
	die(err)
	withoutLog(s) // what is drained was in Badger, and Close sweeps
	last, err := drain(s, q)
	die(err)
	fmt.Println("drained", last)
	die(s.Close())
	fmt.Println("closed", last)
}

// keptOfDrain is how many records drain leaves unsettled.
const keptOfDrain = 5

// drain appends 24 MB and settles all up to the last records; it returns the last seq.
func drain(s *Store, q *Queue) (last uint64, err error) {
	const n, size = 1200, 20 << 10
	var g Group
	for range n {
		c := s.Begin()
		body := fmt.Sprintf("%d %0*d", q.rec.next, size, 0)
		last, _, _, err = c.Append(q, len(body)+10, framed(body))
		g = c.Group()
		c.End()
		if err := errors.Join(err, s.Ready(context.Background())); err != nil {
			return 0, err
		}
	}
	if err := s.Wait(context.Background(), g); err != nil {
		return 0, err
	}
	c := s.Begin()
	c.Settle(q, 1, last-keptOfDrain)
	g = c.Group()
	c.End()
	return last, s.Wait(context.Background(), g)
}

// wantDrained opens what drain has left: the last records are there, and the room of the others is
// given back while the store is open.
func wantDrained(t *testing.T, dir string, last uint64) {
	t.Helper()
	s, err := Open(dir, Options{Profile: ProfileEdge, Reserve: -1})
	must(t, err)
	defer mustClose(t, s)
	must(t, s.Stat().Damage)
	q, state := mustOpenQueue(t, s, "jobs")
	owed := unsettled(t, q, state.Settled)
	if state.Next != last+1 || len(state.Lost) > 0 || len(owed) != keptOfDrain {
		t.Fatalf("%d records are owed, next is %d, lost %v; want %d, %d, none", len(owed), state.Next, state.Lost, keptOfDrain, last+1)
	}
	for seq, body := range owed {
		var said uint64
		if _, err := fmt.Sscan(body, &said); err != nil || said != seq {
			t.Fatalf("seq %d says it is %d (%v)", seq, said, err)
		}
	}
	wantSwept(t, s)
}

// wantSwept waits until the files of an open store take next to nothing.
func wantSwept(t *testing.T, s *Store) {
	t.Helper()
	for began := time.Now(); s.Stat().Disk >= restDisk; runtime.Gosched() {
		must(t, s.Stat().Failed)
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%d bytes still on disk\n%s", s.Stat().Disk, sizes2(s.dir))
		}
	}
}

func TestKillInTheSweepOfCloseLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	within, lives := 0, 0
	for deadline := time.Now().Add(30 * time.Second); (lives < 12 || within == 0) && time.Now().Before(deadline); lives++ {
		last, closed := killInClose(t, dir, time.Duration(rand.Int64N(int64(200*time.Millisecond)>>(lives%6))))
		if !closed {
			within++
		}
		wantDrained(t, dir, last)
	}
	t.Logf("%d kills, %d of them in Close", lives, within)
	if within == 0 {
		t.Error("no kill met Close")
	}
}

// killInClose runs a child that drains and closes, and kills it so long after it has begun to close.
func killInClose(t *testing.T, dir string, after time.Duration) (last uint64, closed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(slices.Clone(os.Environ()), roleVar+"=drain", dirVar+"="+dir, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var say string
		_, err := fmt.Sscan(lines.Text(), &say, &last)
		must(t, err)
		if closed = say == "closed"; closed {
			continue
		}
		timer := time.AfterFunc(after, func() {
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("kill: %v", err)
			}
		})
		defer timer.Stop()
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && (!errors.As(err, &exit) || exit.Exited()) {
		t.Fatalf("the child: %v", err)
	}
	if last == 0 {
		t.Fatal("the child said nothing")
	}
	return last, closed
}

func TestCloseOfADrainedStoreGivesTheDiskBack(t *testing.T) {
	for name, tt := range map[string]struct {
		profile  Profile
		inBadger bool
	}{"server": {ProfileServer, false}, "edge": {ProfileEdge, false}, "in Badger": {ProfileEdge, true}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpenWith(t, dir, Options{Profile: tt.profile})
			if tt.inBadger {
				withoutLog(s)
			}
			q, _ := mustOpenQueue(t, s, "jobs")
			last, err := drain(s, q)
			must(t, err)
			mustClose(t, s)
			if disk := diskUsed(dir); disk >= restDisk {
				t.Errorf("%d bytes on disk\n%s", disk, sizes2(dir))
			}
			wantDrained(t, dir, last)
		})
	}
}

// A kill while Badger deletes a file leaves it with nothing counted as garbage in it.
func TestLogThatNothingPointsToIsGivenBackAfterOpen(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	withoutLog(s)
	q, _ := mustOpenQueue(t, s, "jobs")
	backlog(t, s, q, 400, 10<<10)
	values := filepath.Join(dir, "000001.vlog")
	old := filepath.Join(t.TempDir(), "old")
	must(t, copySparse(values, old))
	commit(t, s, func(c *Change) {
		c.Settle(q, 1, 400)
		mustAppend(t, c, q, strings.Repeat("new", 1000))
	})
	mustClose(t, s)
	if _, err := os.Stat(values); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("after Close: %v", err)
	}
	must(t, copySparse(old, values))
	s = mustOpen(t, dir)
	wantSwept(t, s)
	q, state := mustOpenQueue(t, s, "jobs")
	if got := unsettled(t, q, state.Settled); len(got) != 1 || got[401] != strings.Repeat("new", 1000) {
		t.Errorf("owed %.100v", got)
	}
}

func TestCloseDoesNotSweepWhatIsOwed(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	backlog(t, s, q, 400, 10<<10)
	if owed, excess := s.outgrown(); owed < 4_000_000 || excess != 0 {
		t.Errorf("owed %d, excess %d", owed, excess)
	}
	mustClose(t, s)
	values, err := filepath.Glob(filepath.Join(dir, "000001.vlog"))
	must(t, err)
	if len(values) != 1 {
		t.Errorf("the value log was rewritten:\n%s", sizes2(dir))
	}
}
