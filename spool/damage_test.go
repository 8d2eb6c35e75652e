package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// lastingStore returns directories of one store: closed, with all in tables, and killed, with
// changes in a log as well.
func lastingStore(t *testing.T) (closed, cut string) {
	t.Helper()
	closed = t.TempDir()
	s := mustOpen(t, closed)
	for _, name := range []string{"a", "b"} {
		_, err := s.Resume(name)
		must(t, err)
		must(t, s.Reserve(name, 1, ReserveBlock))
	}
	must(t, s.See([16]byte{1}, 1))
	must(t, s.See([16]byte{1}, 2))
	mustClose(t, s)
	cut = filepath.Join(t.TempDir(), "cut")
	must(t, copyDir(closed, cut))
	s = mustOpen(t, cut)
	withoutLog(s)
	must(t, s.See([16]byte{1}, 3))
	must(t, s.See([16]byte{1}, 4))
	return closed, killed(t, cut)
}

func rewrite(t *testing.T, path string, f func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, f(b), 0o600))
}

// tailLost is what is said of commits that are gone. Such a store is opened under a new id.
const tailLost = "the last commits are missing"

func TestDamagedFilesAreNoticed(t *testing.T) {
	closed, cut := lastingStore(t)
	half := func(b []byte) []byte { return b[:len(b)/2] }
	flip := func(at int) func(b []byte) []byte {
		return func(b []byte) []byte {
			b[(at+len(b))%len(b)] ^= 0x55
			return b
		}
	}
	empty := func([]byte) []byte { return nil }
	for _, tt := range []struct {
		name, from, file string
		change           func(b []byte) []byte // nil: remove the file
		want             string
	}{
		{"log torn", cut, "00001.mem", func(b []byte) []byte { return b[:150] }, tailLost},
		{"log garbled early", cut, "00001.mem", flip(60), tailLost},
		{"log header garbled", cut, "00001.mem", flip(3), "00001.mem"},
		{"log empty", cut, "00001.mem", empty, tailLost},
		{"log gone", cut, "00001.mem", nil, tailLost},
		{"table gone", closed, "000001.sst", nil, "000001.sst"},
		{"table empty", closed, "000001.sst", empty, "000001.sst"},
		{"table halved", closed, "000001.sst", half, "000001.sst"},
		{"table a byte short", closed, "000001.sst", func(b []byte) []byte { return b[:len(b)-1] }, "000001.sst"},
		{"table garbled", closed, "000001.sst", flip(20), "000001.sst"},
		{"table footer garbled", closed, "000001.sst", flip(-4), "000001.sst"},
		{"table footer zero", closed, "000001.sst", func(b []byte) []byte { return append(b, make([]byte, 8)...) }, "000001.sst"},
		{"manifest gone", closed, manifestName, nil, "MANIFEST is missing"},
		{"manifest empty", closed, manifestName, empty, "MANIFEST"},
		{"manifest a byte short", closed, manifestName, func(b []byte) []byte { return b[:len(b)-1] }, tailLost},
		{"manifest garbled", closed, manifestName, flip(20), "MANIFEST"},
		{"mark gone", closed, markName, nil, "mark file spool.mark is missing"},
		{"mark empty", closed, markName, empty, "mark file spool.mark"},
		{"mark of another store", closed, markName, func([]byte) []byte {
			m := markEntry{possible: 5, certain: 5}
			return m.append(markFiles.seal(nil), nil, 0)
		}, "belongs to store"},
		{"mark of long ago", closed, markName, func([]byte) []byte {
			m := markEntry{possible: 3, certain: 3}
			return m.append(markFiles.seal(nil), nil, 0)
		}, "of commit 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			must(t, copyDir(tt.from, dir))
			path := filepath.Join(dir, tt.file)
			if tt.change == nil {
				must(t, os.Remove(path))
			} else {
				rewrite(t, path, tt.change)
			}
			// In a process of its own: when Badger refuses to open it leaves goroutines behind.
			f := openElsewhere(t, dir)
			forked := tt.want == tailLost
			if !f.Damaged || f.Forked != forked || !forked && !strings.Contains(f.Text, dir) || !strings.Contains(f.Text, tt.want) {
				t.Errorf("got %+v, want damage with %q", f, tt.want)
			}
		})
	}
}

func TestOldTablePutBackIsNoticed(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	id := s.ID()
	mustClose(t, s)
	old := filepath.Join(t.TempDir(), "old")
	must(t, copyDir(dir, old))
	mustClose(t, mustOpen(t, dir))
	must(t, os.Remove(filepath.Join(old, markName)))
	// All but the mark, as from a backup of Badger's files.
	must(t, copyDir(old, dir))
	s = mustOpen(t, dir)
	if err := s.Stat().Damage; !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), tailLost+": 1 of 2") {
		t.Errorf("damage %v", err)
	}
	if s.ID() == id || s.Incarnation() != 3 {
		t.Errorf("incarnation %d of store %x, was %x", s.Incarnation(), s.ID(), id)
	}
}

// tamper edits the records of a closed store behind its back.
func tamper(t *testing.T, dir string, edit func(txn *badger.Txn) error) {
	t.Helper()
	db, err := openBadger(dir, sizesOf(ProfileEdge), nil, nil)
	must(t, err)
	must(t, errors.Join(db.Update(edit), db.Close()))
}

func TestTamperedRecordsAreNoticed(t *testing.T) {
	closed, _ := lastingStore(t)
	get := func(txn *badger.Txn, key []byte) []byte {
		item, err := txn.Get(key)
		must(t, err)
		v, err := item.ValueCopy(nil)
		must(t, err)
		return v
	}
	for _, tt := range []struct {
		name string
		edit func(txn *badger.Txn) error
		want string
	}{
		{"stream dropped", func(txn *badger.Txn) error { return txn.Delete(streamKey("a")) }, "2 records are there of 3"},
		{"peer dropped", func(txn *badger.Txn) error { return txn.Delete(peerKey([16]byte{1})) }, "2 records are there of 3"},
		{"store record dropped", func(txn *badger.Txn) error { return txn.Delete(storeKey()) }, "the store record is missing"},
		{"peer put back", func(txn *badger.Txn) error { return txn.Set(peerKey([16]byte{1}), sealPeer([16]byte{1}, 1)) }, "not the one last written"},
		{"peer added", func(txn *badger.Txn) error { return txn.Set(peerKey([16]byte{2}), sealPeer([16]byte{2}, 1)) }, "4 records are there of 3"},
		{"stream spliced", func(txn *badger.Txn) error { return txn.Set(streamKey("a"), get(txn, streamKey("b"))[:30]) }, `stream "a"`},
		{"value cut", func(txn *badger.Txn) error { return txn.Set(streamKey("b"), []byte{1}) }, `stream "b"`},
		{"peer at 0", func(txn *badger.Txn) error { return txn.Set(peerKey([16]byte{1}), sealPeer([16]byte{1}, 0)) }, "node 01"},
		{"store record garbled", func(txn *badger.Txn) error { return txn.Set(storeKey(), make([]byte, 61)) }, "store record"},
		{"unknown kind", func(txn *badger.Txn) error { return txn.Set([]byte("mz1"), []byte("x")) }, `"mz1"`},
		{"unknown space", func(txn *badger.Txn) error { return txn.Set([]byte("z\x1b"), []byte("x")) }, `"z\x1b"`},
		{"stream without a name", func(txn *badger.Txn) error { return txn.Set([]byte("mr"), []byte("x")) }, `"mr"`},
		{"name too long", func(txn *badger.Txn) error {
			return txn.Set(streamKey(string(make([]byte, MaxStreamName+1))), []byte("x"))
		}, "unknown key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			must(t, copyDir(closed, dir))
			tamper(t, dir, tt.edit)
			wantOpenError(t, dir, ErrDamaged, tt.want)
		})
	}
}

func TestStoreOfANewerVersionIsRefusedUntouched(t *testing.T) {
	closed, _ := lastingStore(t)
	newer := markFiles.seal(nil)
	newer[9] = formatVersion + 1
	newer = finish(nil, newer[:fileHead-sumSize])
	rewrite(t, filepath.Join(closed, markName), func([]byte) []byte { return newer })
	must(t, os.WriteFile(filepath.Join(closed, "00007.mem"), nil, 0o600))
	before := listing(t, closed)
	wantOpenError(t, closed, ErrVersion, fmt.Sprintf("format %d", formatVersion+1))
	if after := listing(t, closed); after != before {
		t.Errorf("the refused store was changed\nbefore %s\nafter  %s", before, after)
	}
}

func TestRecordOfANewerVersionIsRefused(t *testing.T) {
	for name, key := range map[string][]byte{"store record": storeKey(), `stream "a"`: streamKey("a")} {
		closed, _ := lastingStore(t)
		tamper(t, closed, func(txn *badger.Txn) error {
			return txn.Set(key, sealVersion(key, formatVersion+1, 1, 2, 3))
		})
		wantOpenError(t, closed, ErrVersion, name)
	}
}

func listing(t *testing.T, dir string) (text string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		text += e.Name() + " " + info.ModTime().String() + "; "
	}
	return text
}
