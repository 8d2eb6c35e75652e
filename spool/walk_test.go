package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

// modelStream is a stream by the book: what was owed becomes gap when a use ends.
type modelStream struct {
	inUse      bool
	first, end uint64 // of the present use; end is also the last of all before
	lowest     uint64
	gap        *SeqRange
}

// finish ends the use: cleanly with what Release said, or else with what was last reserved.
func (m *modelStream) finish() {
	if m.inUse && m.lowest <= m.end {
		from := m.lowest
		if m.gap != nil {
			from = m.gap.From
		}
		m.gap = &SeqRange{from, m.end}
	}
	m.inUse = false
}

// model is the whole store in memory.
type model struct {
	id          [16]byte
	incarnation uint64
	streams     map[string]*modelStream
	seen        map[[16]byte]uint64
}

func TestRandomWalkAgreesWithAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base := t.TempDir()
		w := &walk{dir: filepath.Join(base, "0"), base: base, model: model{
			streams: make(map[string]*modelStream),
			seen:    make(map[[16]byte]uint64),
		}}
		for _, name := range []string{"a", "b"} {
			w.model.streams[name] = &modelStream{}
		}
		w.open(rt)
		w.model.id = w.store.ID()
		defer func() {
			if err := w.store.Close(); err != nil {
				rt.Error(err)
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"":        w.check,
			"resume":  w.resume,
			"reserve": w.reserve,
			"release": w.release,
			"forget":  w.forget,
			"raise":   w.raise,
			"see":     w.see,
			"reopen":  w.reopen,
			"kill":    w.kill,
		})
	})
}

type walk struct {
	model model
	store *Store
	base  string
	dir   string
	lives int
}

func (w *walk) open(t *rapid.T) {
	s, err := Open(w.dir, Options{Profile: ProfileEdge})
	if err != nil {
		t.Fatal(err)
	}
	w.store = s
	w.model.incarnation++
	for _, m := range w.model.streams {
		m.finish()
	}
}

func (w *walk) check(t *rapid.T) {
	if w.store.Incarnation() != w.model.incarnation || w.store.ID() != w.model.id {
		t.Fatalf("incarnation %d of %x, want %d of %x", w.store.Incarnation(), w.store.ID(), w.model.incarnation, w.model.id)
	}
	for i := range byte(3) {
		if got, want := w.store.Seen([16]byte{i}), w.model.seen[[16]byte{i}]; got != want {
			t.Fatalf("node %d: seen %d, want %d", i, got, want)
		}
	}
}

func (w *walk) pick(t *rapid.T) (string, *modelStream) {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "stream")
	return name, w.model.streams[name]
}

func (w *walk) resume(t *rapid.T) {
	name, m := w.pick(t)
	r, err := w.store.Resume(name)
	if m.inUse {
		if !errors.Is(err, ErrInUse) {
			t.Fatalf("resume while in use: %v", err)
		}
		return
	}
	want := Reservation{m.end + 1, m.end, m.gap}
	if err != nil || text(r) != text(want) {
		t.Fatalf("resume: %s, %v, want %s", text(r), err, text(want))
	}
	m.inUse, m.first, m.lowest = true, m.end+1, m.end+1
}

func (w *walk) reserve(t *rapid.T) {
	name, m := w.pick(t)
	lowest := rapid.Uint64Range(0, m.end+2).Draw(t, "lowest")
	end := rapid.Uint64Range(0, m.end+20).Draw(t, "end")
	err := w.store.Reserve(name, lowest, end)
	if want := m.inUse && lowest <= m.end+1; (err == nil) != want {
		t.Fatalf("reserve: %v, allowed %v", err, want)
	}
	if err == nil {
		m.end, m.lowest = max(m.end, end), max(m.first, lowest)
	}
}

func (w *walk) release(t *rapid.T) {
	name, m := w.pick(t)
	next := rapid.Uint64Range(0, m.end+2).Draw(t, "next")
	lowest := rapid.Uint64Range(0, next+1).Draw(t, "lowest")
	err := w.store.Release(name, next, lowest)
	if want := m.inUse && m.first <= next && next <= m.end+1 && lowest <= next; (err == nil) != want {
		t.Fatalf("release: %v, allowed %v", err, want)
	}
	if err == nil {
		m.end, m.lowest = next-1, max(m.first, lowest)
		m.finish()
	}
}

func (w *walk) forget(t *rapid.T) {
	name, m := w.pick(t)
	upTo := rapid.Uint64Range(0, m.end+2).Draw(t, "up to")
	if err := w.store.Forget(name, upTo); err != nil {
		t.Fatal(err)
	}
	switch {
	case m.gap == nil || upTo < m.gap.From:
	case upTo >= m.gap.To:
		m.gap = nil
	default:
		m.gap = &SeqRange{upTo + 1, m.gap.To}
	}
}

func (w *walk) raise(t *rapid.T) {
	seen := rapid.Uint64Range(0, w.model.incarnation+3).Draw(t, "seen")
	before := w.store.ID()
	got, err := w.store.RaiseAbove(seen)
	forked := seen >= w.model.incarnation
	if forked {
		w.model.incarnation = seen + 1
		w.model.id = w.store.ID()
	}
	if err != nil || got != w.model.incarnation || (w.store.ID() != before) != forked {
		t.Fatalf("raise above %d: %d, %v, forked %v; want %d, forked %v", seen, got, err, w.store.ID() != before, w.model.incarnation, forked)
	}
}

func (w *walk) see(t *rapid.T) {
	node := [16]byte{rapid.ByteRange(0, 2).Draw(t, "node")}
	n := rapid.Uint64Range(0, 20).Draw(t, "incarnation")
	if err := w.store.See(node, n); err != nil {
		t.Fatal(err)
	}
	w.model.seen[node] = max(w.model.seen[node], n)
}

func (w *walk) reopen(t *rapid.T) {
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	w.open(t)
}

// kill goes on with a copy made while the store was open.
func (w *walk) kill(t *rapid.T) {
	w.lives++
	next := filepath.Join(w.base, fmt.Sprint(w.lives))
	if err := errors.Join(copyLive(w.dir, next), w.store.Close(), os.RemoveAll(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.dir = next
	w.open(t)
}
