package patterns

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"peermesh/internal/identity"
	"peermesh/internal/ranges"
	"peermesh/internal/topic"
	"peermesh/internal/wire"
	"peermesh/spool"
)

// aNote has something in every field.
func aNote(t testing.TB) *viewNote {
	t.Helper()
	n := &viewNote{expelled: true, values: true, first: 7, mark: 300, counted: 400, owed: 5, bytes: 600, unseen: ranges.Range{From: 8, To: 9},
		tries: map[uint64]spool.Try{12: {Seq: 12, Attempts: 3, Deliveries: 2}, 300: {Seq: 300, Attempts: 1, Deliveries: 1}}, holders: []identity.ID{{1}, {2}}}
	n.settled.Add(0, 6)
	n.settled.Add(10, 11)
	n.own.Add(14, 14)
	n.gaps[wire.GapDropped].Add(10, 11)
	for i, text := range []string{"a.*", "prefix:x"} {
		p, err := topic.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		n.versions = append(n.versions, version{uint64(7 + i), []topic.Pattern{p}})
	}
	return n
}

func TestAViewNoteIsReadAsItWasWritten(t *testing.T) {
	n := aNote(t)
	b := n.append(nil)
	got, err := parseViewNote(b)
	if err != nil {
		t.Fatal(err)
	}
	if again := got.append(nil); !bytes.Equal(again, b) {
		t.Errorf("written again:\n got %x\nwant %x", again, b)
	}
	if !reflect.DeepEqual(got.tries, n.tries) || !reflect.DeepEqual(got.versions, n.versions) || !reflect.DeepEqual(got.holders, n.holders) {
		t.Errorf("got %+v, want %+v", got, n)
	}
	same(t, "scalars", fmt.Sprint(got.expelled, got.values, got.first, got.mark, got.counted, got.owed, got.bytes, got.unseen), "true true 7 300 400 5 600 {8 9}")
	same(t, "settled", got.settled.Ranges(), n.settled.Ranges())
	same(t, "gaps", got.gaps[wire.GapDropped].Ranges(), "[{10 11}]")
}

func TestEveryTruncationOfAViewNoteIsAnError(t *testing.T) {
	b := aNote(t).append(nil)
	for i := range b {
		if _, err := parseViewNote(b[:i]); !errors.Is(err, errViewNote) {
			t.Errorf("%d of %d bytes: %v", i, len(b), err)
		}
	}
	if _, err := parseViewNote(append(b, 0)); !errors.Is(err, errViewNote) {
		t.Errorf("a byte too many: %v", err)
	}
	if _, err := parseViewNote([]byte{viewNoteVersion + 1, 0}); !errors.Is(err, errViewNote) || !strings.Contains(err.Error(), "version") {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzViewNote(f *testing.F) {
	f.Add(aNote(f).append(nil))
	f.Add((&viewNote{first: 1}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseViewNote(b)
		if err != nil {
			return
		}
		again, err := parseViewNote(n.append(nil))
		if err != nil {
			t.Fatalf("%x is read, and not when it is written again: %v", b, err)
		}
		if !bytes.Equal(again.append(nil), n.append(nil)) {
			t.Fatalf("%x changes as it is written", b)
		}
	})
}

func TestVersionsSayWhatWasWantedAtASeq(t *testing.T) {
	pat := func(text string) []topic.Pattern {
		p, err := topic.ParseAll([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	vs := versions(nil).change(5, pat("a")).change(10, pat("b")).change(10, pat("c"))
	for seq, want := range map[uint64]string{4: "[]", 5: "[a]", 9: "[a]", 10: "[c]", 11: "[c]"} {
		var got []string
		for _, name := range []string{"a", "b", "c"} {
			if vs.at(seq).match(name) {
				got = append(got, name)
			}
		}
		same(t, fmt.Sprint("at ", seq), got, want)
	}
	same(t, "before both are over", len(vs.trim(9)), 2)
	same(t, "the first is over", len(vs.trim(10)), 1)
}

func TestTooManyVersionsAskForTooMuchRatherThanTooLittle(t *testing.T) {
	var vs versions
	for i := range 3 * maxVersions {
		p, err := topic.ParseAll([]string{fmt.Sprint("t", i)})
		if err != nil {
			t.Fatal(err)
		}
		vs = vs.change(uint64(i+1), p)
	}
	equal(t, "versions", len(vs), maxVersions)
	for i := range 3 * maxVersions {
		if !vs.at(uint64(i + 1)).match(fmt.Sprint("t", i)) {
			t.Errorf("what version %d wanted is forgotten", i)
		}
	}
	if vs.now().match("t0") {
		t.Error("the newest version is touched")
	}
}

func TestVersionsStayWithinTheirBytes(t *testing.T) {
	var vs versions
	for i := range 10 {
		var all []topic.Pattern
		for j := range wire.MaxPatterns {
			p, err := topic.Prefix(strings.Repeat("\xff", topic.MaxBytes-8) + fmt.Sprintf("%08d", i*wire.MaxPatterns+j))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		vs = vs.change(uint64(i+1), all)
	}
	if n := vs.size(); n > 2*maxVersionBytes {
		t.Errorf("%d versions of %d bytes", len(vs), n)
	}
	if !vs.at(1).match("anything") {
		t.Error("what does not fit asks for everything")
	}
}
