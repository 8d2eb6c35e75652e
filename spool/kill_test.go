package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// event is one line of what a child says: "try" before it asks the store for something, "ok" after
// the store has said yes, "use" before it would put seqs on the wire.
type event struct {
	Say         string
	Op          string
	Stream      string    `json:",omitempty"`
	ID          [16]byte  // after open and raise
	Incarnation uint64    // after open and raise, and of see
	Lowest      uint64    `json:",omitempty"`
	From, To    uint64    `json:",omitempty"` // seqs used; To is the argument of forget and see
	Gap         *SeqRange `json:",omitempty"`
	Seen        uint64    `json:",omitempty"` // of peer, after open
}

var peer = [16]byte{7}

// walkUntilKilled does what a node does, at random and without end, and says what it does.
func walkUntilKilled(dir string) {
	out := json.NewEncoder(os.Stdout)
	say := func(e event) {
		if err := out.Encode(e); err != nil {
			os.Exit(3) // the parent is gone
		}
	}
	try := func(e event, op func() error) {
		e.Say = "try"
		say(e)
		if err := op(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		e.Say = "ok"
		say(e)
	}
	s, err := Open(dir, Options{Profile: ProfileEdge})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	say(event{Say: "ok", Op: "open", ID: s.ID(), Incarnation: s.Incarnation(), Seen: s.Seen(peer)})
	type use struct{ next, end, lowest uint64 }
	streams := make(map[string]*use)
	for n := s.Seen(peer) + 1; ; n++ {
		name := []string{"a", "b", "c"}[rand.IntN(3)]
		u := streams[name]
		if u == nil {
			r, err := s.Resume(name)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(2)
			}
			u = &use{r.Next, r.End, r.Next}
			streams[name] = u
			say(event{Say: "ok", Op: "resume", Stream: name, From: r.Next, Gap: r.Gap})
		}
		switch rand.IntN(8) {
		case 0:
			u.lowest += rand.Uint64N(u.next - u.lowest + 1)
			try(event{Op: "release", Stream: name, Lowest: u.lowest}, func() error { return s.Release(name, u.next, u.lowest) })
			delete(streams, name)
		case 1:
			upTo := rand.Uint64N(u.next)
			try(event{Op: "forget", Stream: name, To: upTo}, func() error { return s.Forget(name, upTo) })
		case 2:
			try(event{Op: "see", To: n}, func() error { return s.See(peer, n) })
		case 3:
			var e event
			try(event{Op: "raise"}, func() error {
				var err error
				e.Incarnation, err = s.RaiseAbove(s.Incarnation() + rand.Uint64N(3))
				return err
			})
			say(event{Say: "ok", Op: "raised", ID: s.ID(), Incarnation: e.Incarnation})
		default:
			u.lowest += rand.Uint64N(u.next - u.lowest + 1)
			end := u.end + 1 + rand.Uint64N(50)
			try(event{Op: "reserve", Stream: name, Lowest: u.lowest}, func() error { return s.Reserve(name, u.lowest, end) })
			u.end = end
			last := u.next + rand.Uint64N(end-u.next+1)
			say(event{Say: "use", Stream: name, From: u.next, To: last})
			u.next = last + 1
		}
	}
}

// witness knows what the children said, over all their lives, and holds the store to it.
type witness struct {
	t           *testing.T
	id          [16]byte
	incarnation uint64
	raising     bool
	seen        SeqRange // acknowledged, tried
	streams     map[string]*witnessed
}

type witnessed struct {
	used uint64   // highest seq a child would have sent
	owed SeqRange // used, and neither settled nor forgotten; empty when From > To
}

func (w *witness) hear(e event) {
	switch e.Say + " " + e.Op {
	case "ok open":
		if e.Incarnation <= w.incarnation {
			w.t.Errorf("incarnation %d after %d", e.Incarnation, w.incarnation)
		}
		if w.incarnation > 0 && e.ID != w.id && !w.raising {
			w.t.Errorf("store id %x, was %x", e.ID, w.id)
		}
		if e.Seen < w.seen.From || e.Seen > w.seen.To {
			w.t.Errorf("peer seen at %d, acknowledged was %d, tried %d", e.Seen, w.seen.From, w.seen.To)
		}
		w.id, w.incarnation, w.raising = e.ID, e.Incarnation, false
		w.seen.From = e.Seen
	case "ok resume":
		w.resumed(w.stream(e.Stream), e)
	case "try release", "try reserve":
		// The store may know of it or not: what it would settle is no longer surely owed.
		st := w.stream(e.Stream)
		st.owed.From = max(st.owed.From, min(e.Lowest, st.used+1))
	case "try forget":
		st := w.stream(e.Stream)
		st.owed.From = max(st.owed.From, e.To+1)
	case "use ":
		st := w.stream(e.Stream)
		if e.From <= st.used {
			w.t.Errorf("stream %s: seq %d was used before, up to %d", e.Stream, e.From, st.used)
		}
		if st.owed.From > st.owed.To {
			st.owed.From = e.From
		}
		st.used, st.owed.To = e.To, e.To
	case "try see":
		w.seen.To = e.To
	case "ok see":
		w.seen.From = e.To
	case "try raise":
		w.raising = true
	case "ok raised":
		if e.Incarnation <= w.incarnation || e.ID == w.id {
			w.t.Errorf("raised from %d to %d, store %x to %x", w.incarnation, e.Incarnation, w.id, e.ID)
		}
		w.id, w.incarnation, w.raising = e.ID, e.Incarnation, false
	}
}

func (w *witness) resumed(st *witnessed, e event) {
	if e.From <= st.used {
		w.t.Errorf("stream %s resumes at %d, used up to %d", e.Stream, e.From, st.used)
	}
	if e.Gap != nil && e.Gap.To >= e.From {
		w.t.Errorf("stream %s resumes at %d and says %+v is never sent", e.Stream, e.From, *e.Gap)
	}
	if st.owed.From > st.owed.To {
		return
	}
	if e.Gap == nil || e.Gap.From > st.owed.From || e.Gap.To < st.owed.To {
		w.t.Errorf("stream %s: gap %+v does not cover %+v", e.Stream, e.Gap, st.owed)
	}
}

func (w *witness) stream(name string) *witnessed {
	if w.streams[name] == nil {
		w.streams[name] = &witnessed{owed: SeqRange{From: 1}}
	}
	return w.streams[name]
}

func TestKilledProcessNeverReusesAnything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	w := &witness{t: t, streams: make(map[string]*witnessed)}
	const kills = 30
	heard := 0
	for i := range kills {
		var n int
		if i%4 == 0 {
			// Within Open or just after, by the clock.
			n = oneLife(t, w, dir, -1, time.Duration(rand.Int64N(int64(150*time.Millisecond))))
		} else {
			n = oneLife(t, w, dir, 1+rand.IntN(80), time.Minute)
		}
		heard += n
		if t.Failed() {
			t.Fatalf("in life %d", i)
		}
	}
	s := mustOpen(t, dir)
	w.hear(event{Say: "ok", Op: "open", ID: s.ID(), Incarnation: s.Incarnation(), Seen: s.Seen(peer)})
	t.Logf("%d kills, %d lines, incarnation %d", kills, heard, s.Incarnation())
	if heard < kills {
		t.Errorf("the children said next to nothing: %d lines", heard)
	}
}

// oneLife runs a child, kills it after so many lines or so much time, and returns how many lines
// it said.
func oneLife(t *testing.T, w *witness, dir string, lines int, limit time.Duration) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=walk", dirVar+"="+dir)
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
	n := 0
	for dec := json.NewDecoder(out); ; n++ {
		var e event
		if err := dec.Decode(&e); err != nil {
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Errorf("line %d: %v", n, err)
			}
			break
		}
		if n == lines {
			must(t, cmd.Process.Kill())
		}
		w.hear(e)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child was not killed: %v", err)
	}
	return n
}
