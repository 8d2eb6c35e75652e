package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// moved is one line of a child that moves records between queues until it is killed: "try" before
// a change, "ok" from its Then.
type moved struct {
	Say    string
	N      int      `json:",omitempty"` // number of the change, which note "n" holds as well
	Append SeqRange // to queue "in"
	Settle []uint64 // of queue "in"; each moves to queue "out", whose record names it
}

// bodyOf is the body of a record: its seq, and more of it so that sizes differ.
func bodyOf(seq uint64) string {
	return fmt.Sprintf("%d %s", seq, strings.Repeat("z", int(seq*7919%3000)))
}

// moveUntilKilled appends to queue "in" and moves settled records to queue "out", each change in one
// transaction and many on their way at a time.
func moveUntilKilled(dir string) {
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	out := json.NewEncoder(os.Stdout) // under the change lock, or from the committer
	lines := make(chan moved, 1000)
	go func() {
		for m := range lines {
			die(out.Encode(m))
		}
	}()
	opt := childOptions()
	opt.Reserve = -1
	s, err := Open(dir, opt)
	die(err)
	die(s.Stat().Damage)
	sizeLog(s, []int64{0, 4 << 10, 1 << 20}[rand.IntN(3)])
	if rand.IntN(2) == 0 {
		keepAll(s, []int64{64 << 10, 256 << 10, 4 << 20}[rand.IntN(3)])
	}
	in, state, err := s.OpenQueue("in")
	die(err)
	to, _, err := s.OpenQueue("out")
	die(err)
	var owed []uint64
	for seq := uint64(1); seq < state.Next; seq++ {
		if !slices.ContainsFunc(state.Settled, func(r SeqRange) bool { return r.From <= seq && seq <= r.To }) {
			owed = append(owed, seq)
		}
	}
	n := 0
	if note := s.Note("n"); note != nil {
		_, err := fmt.Sscan(string(note), &n)
		die(err)
	}
	for {
		n++
		die(s.Ready(context.Background()))
		c := s.Begin()
		m := moved{Say: "try", N: n}
		for range rand.IntN(30) {
			seq, _, _, err := c.Append(in, 4000, framed(bodyOf(in.rec.next)))
			die(err)
			owed = append(owed, seq)
			if m.Append.From == 0 {
				m.Append.From = seq
			}
			m.Append.To = seq
		}
		for range min(rand.IntN(30), len(owed)) {
			i := rand.IntN(min(len(owed), 100))
			seq := owed[i]
			owed = slices.Delete(owed, i, i+1)
			m.Settle = append(m.Settle, seq)
			c.Settle(in, seq, seq)
			_, _, _, err := c.Append(to, 40, framed(fmt.Sprint(seq)))
			die(err)
		}
		c.Put("n", fmt.Append(nil, n))
		lines <- m
		c.Then(func(err error) {
			die(err)
			lines <- moved{Say: "ok", N: m.N}
		})
		g := c.Group()
		c.End()
		if rand.IntN(4) == 0 {
			die(s.Wait(context.Background(), g))
		}
	}
}

// movedLedger is what the children said.
type movedLedger struct {
	key     []byte // of the store; nil: not encrypted
	acked   int
	changes map[int]moved // tried, by number
}

func TestKilledProcessLosesNothingAcknowledgedAndMovesWhole(t *testing.T) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": testKey} {
		t.Run(name, func(t *testing.T) { killMovers(t, key) })
	}
}

func killMovers(t *testing.T, key []byte) {
	dir := filepath.Join(t.TempDir(), "s")
	l := &movedLedger{key: key, changes: make(map[int]moved)}
	kills, deadline := 8, time.Now().Add(8*time.Second)
	if os.Getenv("PEERMESH_KILLS") != "" {
		_, err := fmt.Sscan(os.Getenv("PEERMESH_KILLS"), &kills)
		must(t, err)
		deadline = time.Now().Add(time.Hour)
	}
	lives := 0
	for ; lives < kills && time.Now().Before(deadline); lives++ {
		l.live(t, dir, time.Duration(20+rand.IntN(400))*time.Millisecond, lives%2 == 0)
		l.check(t, dir)
		if t.Failed() {
			t.Fatalf("in life %d", lives)
		}
	}
	t.Logf("%d kills, %d changes acknowledged", lives, l.acked)
	if l.acked < lives/2 {
		t.Errorf("only %d changes in %d lives", l.acked, lives)
	}
}

// live runs a child and kills it after a while: of its life, or from the first that it has
// acknowledged, for on a slow machine it may not come to that in time.
func (l *movedLedger) live(t *testing.T, dir string, limit time.Duration, acked bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=move", dirVar+"="+dir, keyVar+"="+string(l.key))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	timer := time.AfterFunc(limit, func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("kill: %v", err)
		}
	})
	defer timer.Stop()
	if acked {
		timer.Stop()
		defer time.AfterFunc(time.Minute, func() { timer.Reset(0) }).Stop() // it acknowledges nothing
	}
	l.hear(t, out, func() {
		if acked {
			timer.Reset(limit)
			acked = false
		}
	})
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child was not killed: %v", err)
	}
}

// hear reads what a child says, and tells of each change that it has acknowledged.
func (l *movedLedger) hear(t *testing.T, out io.Reader, acked func()) {
	t.Helper()
	for dec := json.NewDecoder(out); ; {
		var m moved
		err := dec.Decode(&m)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return
		}
		must(t, err)
		if m.Say == "ok" {
			l.acked = m.N
			acked()
		} else {
			l.changes[m.N] = m
		}
	}
}

// check opens the store and holds it to what was said: it must be as after some change not before
// the last acknowledged.
func (l *movedLedger) check(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(dir, Options{Profile: ProfileEdge, Reserve: -1, Key: l.key})
	must(t, err)
	defer mustClose(t, s)
	if err := s.Stat().Damage; err != nil {
		t.Fatalf("damage: %v", err)
	}
	done := 0
	if note := s.Note("n"); note != nil {
		_, err := fmt.Sscan(string(note), &done)
		must(t, err)
	}
	if done < l.acked {
		t.Fatalf("the store is at change %d, acknowledged was %d", done, l.acked)
	}
	in, state := mustOpenQueue(t, s, "in")
	out, outState := mustOpenQueue(t, s, "out")
	if state.Lost != nil || outState.Lost != nil {
		t.Fatalf("lost %v, %v", state.Lost, outState.Lost)
	}
	owed := unsettled(t, in, state.Settled)
	for seq, body := range owed {
		if body != bodyOf(seq) {
			t.Fatalf("seq %d comes back as %.20q", seq, body)
		}
	}
	gone := make(map[uint64]bool)
	for _, body := range unsettled(t, out, outState.Settled) {
		var seq uint64
		_, err := fmt.Sscan(body, &seq)
		must(t, err)
		if gone[seq] {
			t.Fatalf("seq %d moved twice", seq)
		}
		gone[seq] = true
	}
	for seq := uint64(1); seq < state.Next; seq++ {
		if _, owes := owed[seq]; owes == gone[seq] {
			t.Fatalf("seq %d: owed %v, moved %v", seq, owes, gone[seq])
		}
	}
	for n, m := range l.changes {
		if n > done {
			delete(l.changes, n)
			continue
		}
		if m.Append.To >= state.Next {
			t.Fatalf("change %d appended up to %d, next is %d", n, m.Append.To, state.Next)
		}
		for _, seq := range m.Settle {
			if !gone[seq] {
				t.Fatalf("change %d settled %d, which is owed", n, seq)
			}
		}
	}
	l.acked = done
}
