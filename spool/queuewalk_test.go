package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// modelQueue is a queue by the book.
type modelQueue struct {
	owed    map[uint64]string // body by seq
	edition map[uint64]uint64 // by seq, of those owed
	tries   map[uint64]Try
	next    uint64
	mark    uint64
	holders [][16]byte
}

// queueWalk walks a store and its model side by side.
type queueWalk struct {
	base, dir string
	lives     int
	store     *Store
	queues    map[string]*Queue
	model     map[string]*modelQueue
	notes     map[string]string
	heard     int // Thens
	said      int
}

func TestRandomChangesAgreeWithAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base := t.TempDir()
		w := &queueWalk{base: base, dir: filepath.Join(base, "0"), model: make(map[string]*modelQueue), notes: make(map[string]string)}
		for _, name := range []string{"a", "b", "b\x00"} {
			w.model[name] = &modelQueue{owed: make(map[uint64]string), edition: make(map[uint64]uint64), tries: make(map[uint64]Try), next: 1}
		}
		w.open(rt)
		defer func() {
			if err := errors.Join(w.store.Close(), os.RemoveAll(base)); err != nil {
				rt.Error(err)
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"":       w.check,
			"change": w.change,
			"more":   w.change,
			"read":   w.read,
			"close":  w.closeQueue,
			"reopen": w.reopen,
			"kill":   w.kill,
			"sweep":  w.sweep,
		})
	})
}

func (w *queueWalk) open(t *rapid.T) {
	s, err := Open(w.dir, Options{Profile: ProfileEdge})
	if err != nil {
		t.Fatal(err)
	}
	sizeLog(s, rapid.SampledFrom([]int64{0, 1 << 10, 8 << 10, 1 << 20}).Draw(t, "log"))
	if rapid.Bool().Draw(t, "kept") {
		keepAll(s, rapid.SampledFrom([]int64{1 << 10, 8 << 10, 64 << 10}).Draw(t, "segment"))
	}
	w.store, w.queues = s, make(map[string]*Queue)
	if err := s.Stat().Damage; err != nil {
		t.Fatalf("damage: %v", err)
	}
	for name := range w.model {
		w.openQueue(t, name)
	}
}

// openQueue opens a queue and holds what it says of itself against the model.
func (w *queueWalk) openQueue(t *rapid.T, name string) {
	q, st, err := w.store.OpenQueue(name)
	if err != nil {
		t.Fatal(err)
	}
	w.queues[name] = q
	m := w.model[name]
	m.mark = min(m.mark, m.next-1) // what it was reserved ahead for does not exist
	if st.Next != m.next || st.Mark != m.mark || !slices.Equal(st.Holders, m.holders) || len(st.Lost) > 0 {
		t.Fatalf("queue %q: %+v, want next %d, mark %d, holders %v", name, st, m.next, m.mark, m.holders)
	}
	settled := make(map[uint64]bool)
	last := uint64(0)
	for i, r := range st.Settled {
		if r.From > r.To || i > 0 && r.From <= last+1 || r.To >= st.Next {
			t.Fatalf("queue %q: settled %v", name, st.Settled)
		}
		last = r.To
		for seq := r.From; seq <= r.To; seq++ {
			settled[seq] = true
		}
	}
	for seq := uint64(1); seq < m.next; seq++ {
		if _, owed := m.owed[seq]; owed == settled[seq] {
			t.Fatalf("queue %q: seq %d: owed %v, settled %v in %v", name, seq, owed, settled[seq], st.Settled)
		}
	}
	tries := slices.SortedFunc(maps.Values(m.tries), func(a, b Try) int { return cmpSeq(a.Seq, b.Seq) })
	if fmt.Sprint(tries) != fmt.Sprint(st.Tries) {
		t.Fatalf("queue %q: tries %v, want %v", name, st.Tries, tries)
	}
	spans := append(slices.Clone(st.Editions), EditionSpan{st.Edition, st.First})
	for seq, edition := range m.edition {
		i := 0
		for i < len(spans) && spans[i].First <= seq {
			i++
		}
		if i == 0 || spans[i-1].Edition != edition {
			t.Fatalf("queue %q: seq %d is of edition %x, editions %v", name, seq, edition, spans)
		}
	}
}

func (w *queueWalk) change(t *rapid.T) {
	c := w.store.Begin()
	defer func() {
		if c != nil {
			c.End()
		}
	}()
	for range rapid.IntRange(1, 6).Draw(t, "ops") {
		name := rapid.SampledFrom([]string{"a", "b", "b\x00"}).Draw(t, "queue")
		q, m := w.queues[name], w.model[name]
		seq := rapid.Uint64Range(0, m.next+2).Draw(t, "seq")
		switch op := rapid.SampledFrom([]string{"append", "append", "append", "settle", "settle", "mark", "try", "holders", "skip", "note"}).Draw(t, "op"); op {
		case "append":
			size := rapid.SampledFrom([]int{0, 3, 900, 1100, 20_000, 64 << 10, 200_000}).Draw(t, "size")
			for range rapid.IntRange(1, 8).Draw(t, "records") {
				body := strings.Repeat(string(rune('a'+m.next%26)), size)
				got, base, record, err := c.Append(q, size+10, framed(body))
				if err != nil || got != m.next || base > got || !strings.HasSuffix(string(record), body) {
					t.Fatalf("append: seq %d of block %d, %v; want %d", got, base, err, m.next)
				}
				m.owed[got], m.edition[got] = body, w.store.Edition()
				m.next++
			}
		case "settle":
			to := seq + rapid.Uint64Range(0, 30).Draw(t, "length")
			c.Settle(q, seq, to)
			for ; seq <= to; seq++ {
				delete(m.owed, seq)
				delete(m.edition, seq)
				delete(m.tries, seq)
			}
		case "mark":
			c.SetMark(q, seq)
			m.mark = max(m.mark, seq)
		case "try":
			try := Try{seq, rapid.Uint32().Draw(t, "attempts"), rapid.Uint32Range(0, 9).Draw(t, "deliveries")}
			c.SetTry(q, try)
			if _, owed := m.owed[seq]; owed {
				m.tries[seq] = try
			}
		case "holders":
			m.holders = make([][16]byte, rapid.IntRange(0, 3).Draw(t, "holders"))
			for i := range m.holders {
				m.holders[i] = [16]byte{byte(seq), byte(i)}
			}
			c.SetHolders(q, m.holders)
		case "skip":
			c.Skip(q, seq)
			m.next = max(m.next, seq)
		case "note":
			key := rapid.SampledFrom([]string{"x", "x/1", "y"}).Draw(t, "note")
			size := rapid.SampledFrom([]int{-1, 0, 5, 3000}).Draw(t, "note size")
			if size < 0 {
				c.Put(key, nil)
				delete(w.notes, key)
			} else {
				w.notes[key] = strings.Repeat("n", size)
				c.Put(key, []byte(w.notes[key]))
			}
		}
	}
	w.said++
	heard := w.said
	c.Then(func(err error) {
		if err != nil || w.heard != heard-1 {
			panic(fmt.Sprintf("then %d after %d: %v", heard, w.heard, err))
		}
		w.heard++
	})
	g := c.Group()
	c.End()
	c = nil
	if rapid.Bool().Draw(t, "wait") {
		w.wait(t, g)
	}
}

func (w *queueWalk) wait(t *rapid.T, g Group) {
	if err := w.store.Wait(context.Background(), g); err != nil {
		t.Fatal(err)
	}
}

// land waits until all is on disk.
func (w *queueWalk) land(t *rapid.T) {
	c := w.store.Begin()
	g := c.Group()
	c.End()
	w.wait(t, g)
}

func (w *queueWalk) check(t *rapid.T) {
	infos := make(map[string]QueueInfo)
	for _, info := range w.store.Queues() {
		infos[info.Name] = info
	}
	for name, m := range w.model {
		info := infos[name]
		if info.Next != m.next || info.Unsettled != uint64(len(m.owed)) || info.Mark != m.mark || len(m.owed) == 0 && info.Bytes != 0 {
			t.Fatalf("queue %q: %+v, want next %d, %d owed, mark %d", name, info, m.next, len(m.owed), m.mark)
		}
	}
	got := make(map[string]string)
	for key, value := range w.store.Notes("") {
		got[key] = string(value)
	}
	if !maps.Equal(got, w.notes) {
		t.Fatalf("notes %v, want %v", slices.Collect(maps.Keys(got)), slices.Collect(maps.Keys(w.notes)))
	}
}

// read reads a queue from some seq on, and finds what is owed there.
func (w *queueWalk) read(t *rapid.T) {
	w.land(t)
	name := rapid.SampledFrom([]string{"a", "b", "b\x00"}).Draw(t, "queue")
	q, m := w.queues[name], w.model[name]
	from := rapid.Uint64Range(0, m.next+1).Draw(t, "from")
	left := maps.Clone(m.owed)
	maps.DeleteFunc(left, func(seq uint64, _ string) bool { return seq < from })
	for {
		b, err := q.Read(from)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		before := len(left)
		for seq, body := range bodies(t, b) {
			if want, owed := left[seq]; owed && seq >= from {
				if body != want || b.Edition != m.edition[seq] {
					t.Fatalf("seq %d: %d bytes of edition %x, want %d of %x", seq, len(body), b.Edition, len(want), m.edition[seq])
				}
				delete(left, seq)
			}
		}
		if len(left) == before {
			t.Fatalf("block %d to %d, read from %d, owes nothing", b.Base, b.Last, from)
		}
		from = b.Last + 1
	}
	if len(left) > 0 {
		t.Fatalf("queue %q: not read: %v", name, slices.Sorted(maps.Keys(left)))
	}
}

func (w *queueWalk) closeQueue(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "b\x00"}).Draw(t, "queue")
	w.queues[name].Close()
	w.openQueue(t, name)
}

func (w *queueWalk) reopen(t *rapid.T) {
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	w.open(t)
}

// kill goes on with a copy made while the store was open.
func (w *queueWalk) kill(t *rapid.T) {
	w.land(t)
	w.lives++
	next := filepath.Join(w.base, fmt.Sprint(w.lives))
	if err := errors.Join(copyLive(w.dir, next), w.store.Close(), os.RemoveAll(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.dir = next
	w.open(t)
}

func (w *queueWalk) sweep(t *rapid.T) {
	if err := w.store.reclaim(rapid.Bool().Draw(t, "release"), func() bool { return false }); err != nil {
		t.Fatal(err)
	}
}
