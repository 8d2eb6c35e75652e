package spool

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// makeMark writes the mark file of a new store.
func makeMark(dir string, m mark) error {
	f := markFile{dir: dir, room: 1 << 10}
	return errors.Join(f.begin(m, 0), f.close())
}

// entry is what group n says of queue 1.
func entry(n uint64, name string) markEntry {
	return markEntry{sampleNode, 1, n, n - 1, map[uint64]markedQueue{1: {name, n, 10 * n}}, nil}
}

func wantMark(t *testing.T, dir string, want mark) {
	t.Helper()
	got, err := readMark(dir, nil)
	must(t, err)
	if got.id != want.id || got.incarnation != want.incarnation || got.possible != want.possible || got.certain != want.certain || !maps.Equal(got.queues, want.queues) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestMarkAddsUpWhatIsCertain(t *testing.T) {
	dir := t.TempDir()
	f := markFile{dir: dir, room: 300} // a few entries
	must(t, f.begin(mark{id: sampleNode, incarnation: 1, queues: map[uint64]markedQueue{}}, 0))
	defer func() { must(t, f.close()) }()
	name := "jobs"
	for n := uint64(1); n < 40; n++ {
		must(t, f.write(entry(n, name)))
		name = "" // named once a file; begin names it again
		want := mark{sampleNode, 1, n, n - 1, map[uint64]markedQueue{1: {"jobs", n - 1, 10 * (n - 1)}}}
		if n == 1 {
			want.queues = nil
		}
		wantMark(t, dir, want)
	}
	must(t, f.settle())
	must(t, f.settle())
	wantMark(t, dir, mark{sampleNode, 1, 39, 39, map[uint64]markedQueue{1: {"jobs", 39, 390}}})
}

func TestTornMarkEntryLeavesThoseBefore(t *testing.T) {
	head := markFiles.seal(nil)
	first, second := entry(1, "jobs"), entry(2, "")
	b := first.append(head, nil, 0)
	whole := len(b)
	b = second.append(b, nil, 0)
	for n := whole; n < len(b); n++ {
		torn := append(append([]byte(nil), b[:n]...), make([]byte, len(b)-n+50)...)
		if string(torn[:len(b)]) == string(b) {
			continue // torn within zeros
		}
		m, err := parseMark(torn, nil)
		if err != nil || m.possible != 1 || len(m.queues) != 0 {
			t.Fatalf("torn at %d of %d: %+v, %v", n, len(b), m, err)
		}
	}
	if m, err := parseMark(b, nil); err != nil || m.possible != 2 || m.certain != 1 || m.queues[1] != (markedQueue{"jobs", 1, 10}) {
		t.Errorf("whole: %+v, %v", m, err)
	}
	for n := range whole {
		if m, err := parseMark(b[:n], nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %+v, %v", n, m, err)
		}
	}
}

func TestMarkOfAnotherVersionIsRefused(t *testing.T) {
	for _, version := range []byte{1, formatVersion + 1} {
		b := markFiles.seal(nil)
		b[9] = version
		if _, err := parseMark(finish(nil, b[:fileHead-sumSize]), nil); !errors.Is(err, ErrVersion) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

func TestMarkWithoutAnEntryIsDamaged(t *testing.T) {
	for _, content := range [][]byte{nil, []byte(markMagic), make([]byte, 8192), markFiles.seal(nil)} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, markName), content, 0o600))
		if m, err := readMark(dir, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes: %+v, %v", len(content), m, err)
		}
	}
}

func FuzzParseMark(f *testing.F) {
	first, second := entry(1, "jobs"), entry(2, "")
	f.Add(second.append(first.append(markFiles.seal(nil), nil, 0), nil, 0))
	f.Add(markFiles.seal(nil))
	c, err := newFileCipher(markFiles, testKey)
	must(f, err)
	f.Add(first.append(markFiles.seal(c), c, sealedFileHead))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseMark(b, testKey) // must not panic
		m, err := parseMark(b, nil)
		if err != nil {
			return
		}
		again := markEntry{m.id, m.incarnation, m.possible, m.possible, m.queues, nil}
		if _, err := parseMark(again.append(markFiles.seal(nil), nil, 0), nil); err != nil {
			t.Errorf("%x parses to %+v, which does not parse: %v", b, m, err)
		}
	})
}
