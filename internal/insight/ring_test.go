package insight

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestRingsAreBoundedAndTheNewestStay(t *testing.T) {
	var r Rings
	for i := range 3 * PerName {
		r.Note(Decision{At: noon, Name: "a", What: Dead, Seq: uint64(10 * i)})
	}
	got := r.Recent("a", noon.Add(time.Second))
	if len(got) != PerName || got[len(got)-1].Seq != 10*(3*PerName-1) || got[0].Seq != 20*PerName || got[0].AgeMs != 1000 {
		t.Errorf("%d decisions, the first %+v, the last %+v", len(got), got[0], got[len(got)-1])
	}
	for i := range MaxNames {
		r.Note(Decision{At: noon.Add(time.Duration(i+1) * time.Second), Name: fmt.Sprint(i), What: Dead})
	}
	if n := len(r.names); n != MaxNames {
		t.Errorf("%d names, at most %d", n, MaxNames)
	}
	if len(r.Recent("a", noon)) != 0 || len(r.Recent("0", noon)) != 1 {
		t.Error("not the name went that nothing was decided about for longest")
	}
	if n := len(r.Recent("", noon)); n != MaxNames {
		t.Errorf("%d decisions of all names", n)
	}
}

func TestWhatRepeatsIsCountedAsOne(t *testing.T) {
	var r Rings
	note := func(what string, seq uint64, text string) {
		r.Note(Decision{Name: "a", What: what, Seq: seq, Text: text})
	}
	note(Nacked, 7, "boom") // the same message again and again
	note(Nacked, 7, "boom")
	note(Nacked, 7, "bang") // another reason
	note(Expired, 10, "")   // one message after the other
	note(Expired, 11, "")
	note(Expired, 12, "")
	note(Expired, 14, "") // not the next
	var got []string
	for _, d := range r.Recent("a", noon) {
		got = append(got, fmt.Sprint(d.What, d.First, "-", d.Seq, "x", d.Count))
	}
	if want := "[nacked7-7x2 nacked7-7x1 expired10-12x3 expired14-14x1]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	note(Dead, 1, strings.Repeat("ü", maxText))
	all := r.Recent("a", noon)
	if text := all[len(all)-1].Text; len(text) > maxText || strings.ContainsRune(text, '\uFFFD') {
		t.Errorf("text of %d bytes", len(text))
	}
}

func TestASocketIsStillWhileItHasWorkAndFinishesNone(t *testing.T) {
	var s Stills
	at := func(sec int) time.Time { return noon.Add(time.Duration(sec) * time.Second) }
	look := func(sec, owed int, over uint64) { s.Look(map[string]Work{"a": {owed, over}}, at(sec)) }
	is := func(sec, owed int, over uint64, want int) {
		t.Helper()
		if got := s.For("a", Work{owed, over}, at(sec)); got != time.Duration(want)*time.Second {
			t.Errorf("at %d with %d owed and %d over: still for %v, want %d s", sec, owed, over, got, want)
		}
	}
	is(0, 1, 0, 0) // never looked at
	look(0, 0, 0)
	look(2, 1, 0) // it may have begun just now
	is(2, 1, 0, 0)
	look(4, 1, 0)
	is(5, 1, 0, 3)
	is(5, 1, 1, 0) // it has finished one since
	is(5, 0, 0, 0) // it has nothing
	look(6, 2, 1)
	is(9, 2, 1, 3)
	look(8, 0, 1)
	look(10, 1, 1) // no work in between
	is(12, 1, 1, 2)
	s.Look(map[string]Work{}, at(14))
	is(15, 1, 1, 0) // it was closed
}

func TestNearNamesAreThoseThatOneSlipMakes(t *testing.T) {
	names := []string{"jobs", "orders", "invoices", "resize-images"}
	for want, near := range map[string]string{"jbos": "jobs", "joobs": "jobs", "jobz": "jobs", "order": "orders", "ordres": "orders",
		"orders": "", "odrsre": "", "invoyzes": "invoices", "resizeimagse": "resize-images", "jo": "", "": "", "weather": "", "xobz": ""} {
		if got := nearest(want, names); got != near {
			t.Errorf("near %q: got %q, want %q", want, got, near)
		}
	}
}
