package spool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"
)

var (
	testKey  = bytes.Repeat([]byte("0123456789abcdef"), 2)
	otherKey = bytes.Repeat([]byte("x"), KeySize)
)

func sealedOptions() Options { return Options{Profile: ProfileEdge, Reserve: -1, Key: testKey} }

// needle is in everything that writeNeedles gives to a store.
const needle = "NEEDLE-in-the-haystack"

// writeNeedles puts the needle into all that a caller can name or store.
func writeNeedles(s *Store) error {
	q, _, err := s.OpenQueue("queue " + needle)
	if err != nil {
		return err
	}
	if _, err := s.Resume("stream " + needle); err != nil {
		return err
	}
	if err := s.Reserve("stream "+needle, 1, 10); err != nil {
		return err
	}
	for _, size := range []int{1, 100, 3000, 300 << 10} { // in tables, in the value log, in parts
		body := strings.Repeat(needle, 1+size/len(needle))
		c := s.Begin()
		_, _, _, err := c.Append(q, len(body)+10, framed(body))
		c.Put(fmt.Sprintf("note %s %d", needle, size), []byte(body))
		g := c.Group()
		c.End()
		if err := errors.Join(err, s.Wait(context.Background(), g)); err != nil {
			return err
		}
	}
	return nil
}

// wantNoNeedle looks through every file of dir.
func wantNoNeedle(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		if at := bytes.Index(b, []byte(needle)); at >= 0 {
			t.Errorf("%s shows the needle at %d of %d bytes", e.Name(), at, len(b))
		}
	}
}

// wantNeedles checks that all that writeNeedles wrote is there.
func wantNeedles(t *testing.T, s *Store) {
	t.Helper()
	if st := s.Stat(); st.Damage != nil || st.Failed != nil {
		t.Fatalf("damage %v, failed %v", st.Damage, st.Failed)
	}
	q, state := mustOpenQueue(t, s, "queue "+needle)
	owed := unsettled(t, q, state.Settled)
	if len(owed) != 4 {
		t.Fatalf("%d records are owed, want 4", len(owed))
	}
	for seq, body := range owed {
		if !strings.HasPrefix(body, needle) {
			t.Errorf("seq %d reads %.30q", seq, body)
		}
	}
	if note := s.Note("note " + needle + " 3000"); !bytes.HasPrefix(note, []byte(needle)) {
		t.Errorf("the note reads %.30q", note)
	}
}

func writeNeedlesAndWait(dir string) {
	s, err := Open(dir, sealedOptions())
	if err == nil {
		withoutLog(s)
		err = writeNeedles(s)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode("written")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	time.Sleep(time.Hour) // until it is killed
}

// killWithNeedles makes an encrypted store whose process was killed.
func killWithNeedles(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "s")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=needles", dirVar+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var said string
	must(t, json.NewDecoder(out).Decode(&said))
	must(t, cmd.Process.Kill())
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child was not killed: %v", err)
	}
	return dir
}

func TestNothingWrittenIsLegibleInAnEncryptedStore(t *testing.T) {
	plain := t.TempDir()
	s := mustOpen(t, plain)
	must(t, writeNeedles(s))
	legible, err := os.ReadFile(filepath.Join(plain, markName))
	must(t, err)
	if !bytes.Contains(legible, []byte(needle)) {
		t.Error("not even a store without a key shows the needle")
	}

	dir := t.TempDir()
	s = mustOpenWith(t, dir, sealedOptions())
	must(t, writeNeedles(s))
	wantNoNeedle(t, dir)
	mustClose(t, s)
	wantNoNeedle(t, dir)
	for range 3 { // tables are written anew
		s = mustOpenWith(t, dir, sealedOptions())
		wantNeedles(t, s)
		must(t, s.reclaim(true, func() bool { return false }))
		wantNoNeedle(t, dir)
		mustClose(t, s)
		wantNoNeedle(t, dir)
	}
}

func TestNothingIsLegibleAfterAKill(t *testing.T) {
	dir := killWithNeedles(t)
	wantNoNeedle(t, dir)
	s := mustOpenWith(t, dir, sealedOptions())
	wantNeedles(t, s)
	mustClose(t, s)
	wantNoNeedle(t, dir)
}

// Left to itself Badger takes the lack of a data key for a young one, and writes plain text.
func TestStoreIsEncryptedWhateverTheClockSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in the year 2000
		dir := t.TempDir()
		s := mustOpenWith(t, dir, sealedOptions())
		must(t, writeNeedles(s))
		mustClose(t, s)
		wantNoNeedle(t, dir)
		r, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: s.badgerKey, EncryptionKeyRotationDuration: neverReplaced})
		must(t, err)
		time.Sleep(100 * 365 * 24 * time.Hour)
		if k, err := r.LatestDataKey(); err != nil || k == nil || k.KeyId != 1 {
			t.Errorf("a hundred years on: data key %v, %v", k, err)
		}
	})
}

// mistakes are the keys that do not open a store, and what Open says then.
func mistakes(t *testing.T, sealed, plain string) {
	t.Helper()
	for _, m := range []struct {
		name, dir string
		key       []byte
		want      error
	}{
		{"another key", sealed, otherKey, ErrWrongKey},
		{"no key", sealed, nil, ErrNoKey},
		{"a key for a plain store", plain, testKey, ErrNotEncrypted},
	} {
		before := listing(t, m.dir)
		for range 3 {
			s, err := Open(m.dir, Options{Profile: ProfileEdge, Key: m.key})
			if err == nil {
				mustClose(t, s)
			}
			if !errors.Is(err, m.want) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), m.dir) {
				t.Errorf("%s: got %v, want %v", m.name, err, m.want)
			}
		}
		if after := listing(t, m.dir); after != before {
			t.Errorf("%s: the directory was changed\nbefore %s\nafter  %s", m.name, before, after)
		}
		others, err := filepath.Glob(m.dir + ".*")
		must(t, err)
		if len(others) > 0 {
			t.Errorf("%s: made %v", m.name, others)
		}
	}
}

func TestStoreWithTheWrongKeyIsLeftAsItIs(t *testing.T) {
	sealed, plain := killWithNeedles(t), filepath.Join(t.TempDir(), "plain")
	s := mustOpen(t, plain)
	must(t, writeNeedles(s))
	mustClose(t, s)
	mistakes(t, sealed, plain)
	wantNeedles(t, mustOpenWith(t, sealed, sealedOptions()))
	wantNeedles(t, mustOpen(t, plain))
}

// Neither a missing nor a damaged mark is a reason to take a wrong key for damage.
func TestWrongKeyIsToldWithoutTheMark(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"gone":    os.Remove,
		"garbled": func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			sealed, plain := killWithNeedles(t), filepath.Join(t.TempDir(), "plain")
			s := mustOpen(t, plain)
			must(t, writeNeedles(s))
			mustClose(t, s)
			must(t, errors.Join(harm(filepath.Join(sealed, markName)), harm(filepath.Join(plain, markName))))
			mistakes(t, sealed, plain)
			for range 2 { // as without a key: the second Open goes on under a new id
				s, err := Open(sealed, sealedOptions())
				if err != nil {
					if !errors.Is(err, ErrDamaged) {
						t.Errorf("right key: %v", err)
					}
					continue
				}
				q, state := mustOpenQueue(t, s, "queue "+needle)
				if owed := unsettled(t, q, state.Settled); len(owed) != 4 {
					t.Errorf("%d records are owed, want 4", len(owed))
				}
				mustClose(t, s)
			}
		})
	}
}

func TestDamageOfAnEncryptedStoreIsNoticed(t *testing.T) {
	closed := filepath.Join(t.TempDir(), "closed")
	s := mustOpenWith(t, closed, sealedOptions())
	must(t, writeNeedles(s))
	mustClose(t, s)
	cut := killWithNeedles(t)
	flip := func(at int) func(b []byte) []byte {
		return func(b []byte) []byte {
			b[(at+len(b))%len(b)] ^= 0x55
			return b
		}
	}
	half := func(b []byte) []byte { return b[:len(b)/2] }
	for _, tt := range []struct {
		name, from, file string
		change           func(b []byte) []byte // nil: remove the file
		want             string
	}{
		{"log torn", cut, "00001.mem", func(b []byte) []byte { return b[:150] }, tailLost},
		{"log garbled early", cut, "00001.mem", flip(60), tailLost},
		{"log of another data key", cut, "00001.mem", flip(3), "00001.mem"},
		{"iv of the log garbled", cut, "00001.mem", flip(12), tailLost},
		{"table halved", closed, "000001.sst", half, "000001.sst"},
		{"table garbled", closed, "000001.sst", flip(20), "000001.sst"},
		{"table footer garbled", closed, "000001.sst", flip(-4), "000001.sst"},
		{"table gone", closed, "000001.sst", nil, "000001.sst"},
		{"registry gone", closed, registryName, nil, "KEYREGISTRY is missing"},
		{"registry empty", closed, registryName, func([]byte) []byte { return nil }, "KEYREGISTRY"},
		{"registry of another key", closed, registryName, flip(20), "KEYREGISTRY does not go with the key"},
		{"registry plain", closed, registryName, func([]byte) []byte { return append(make([]byte, 16), registryText...) }, "KEYREGISTRY does not go with the key"},
		{"registry cut to its head", closed, registryName, func(b []byte) []byte { return b[:registryHead] }, "no data key"},
		{"length of the data key", closed, registryName, flip(28), "a data key is cut short"},
		{"data key garbled", closed, registryName, flip(-1), "KEYREGISTRY"},
		{"mark gone", closed, markName, nil, "mark file spool.mark is missing"},
		{"salt of the mark", closed, markName, flip(20), "mark file spool.mark"},
		{"check of the mark", closed, markName, flip(35), "mark file spool.mark"},
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
			f := openElsewhere(t, dir, keyVar+"="+string(testKey))
			forked := tt.want == tailLost
			if !f.Damaged || f.Forked != forked || !strings.Contains(f.Text, tt.want) {
				t.Errorf("got %+v, want damage with %q", f, tt.want)
			}
		})
	}
}

func TestGarbledBlockOfAnEncryptedStoreIsToldWithItsRange(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenWith(t, dir, sealedOptions())
	withoutLog(s) // Badger keeps no order within a transaction
	q, _ := mustOpenQueue(t, s, "jobs")
	for range 3 {
		commit(t, s, func(c *Change) { mustAppend(t, c, q, strings.Repeat("b", 5000)) })
	}
	mustClose(t, s)
	mustClose(t, mustOpenWith(t, dir, sealedOptions())) // Badger looks through its last file only
	rewrite(t, filepath.Join(dir, "000001.vlog"), func(b []byte) []byte {
		b[7500] ^= 1 // in the second of the blocks
		return b
	})
	q, _ = mustOpenQueue(t, mustOpenWith(t, dir, sealedOptions()), "jobs")
	read, lost := readAll(t, q)
	if fmt.Sprint(read) != "[{1 1} {3 3}]" || fmt.Sprint(lost) != "[{2 2}]" {
		t.Errorf("read %v, lost %v", read, lost)
	}
}

func TestKillWhileAnEncryptedStoreIsMadeIsMadeGood(t *testing.T) {
	derived, err := badgerKey(testKey)
	must(t, err)
	write := func(dir, name, text string) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
	}
	for name, leave := range map[string]func(dir string) error{
		"the mark":            func(string) error { return nil },
		"half a registry":     func(dir string) error { return write(dir, "REWRITE-KEYREGISTRY", "half") },
		"the registry":        func(dir string) error { return makeRegistry(dir, derived) },
		"registry, empty log": func(dir string) error { return errors.Join(makeRegistry(dir, derived), write(dir, "00001.mem", "")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := markFile{dir: dir, key: testKey, room: 1 << 10}
			must(t, errors.Join(f.begin(mark{id: sampleNode}, 0), f.close(), leave(dir)))
			for key, want := range map[string]error{"": ErrNoKey, string(otherKey): ErrWrongKey} {
				opt := Options{Profile: ProfileEdge, Key: []byte(key)}
				if key == "" {
					opt.Key = nil
				}
				if _, err := Open(dir, opt); !errors.Is(err, want) {
					t.Errorf("key %.4q: %v, want %v", key, err, want)
				}
			}
			s := mustOpenWith(t, dir, sealedOptions())
			must(t, writeNeedles(s))
			mustClose(t, s)
			wantNoNeedle(t, dir)
			wantNeedles(t, mustOpenWith(t, dir, sealedOptions()))
		})
	}
}

// What is lost is told by a mark that is sealed as well, and the new store is encrypted too.
func TestEncryptedStoreMovedAsideIsFollowedByAnEncryptedOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := mustOpenWith(t, dir, sealedOptions())
	must(t, writeNeedles(s))
	mustClose(t, s)
	garbleTables(t, dir)
	if _, err := Open(dir, sealedOptions()); !errors.Is(err, ErrDamaged) {
		t.Fatalf("open: %v", err)
	}
	s = mustOpenWith(t, dir, sealedOptions())
	if _, state := mustOpenQueue(t, s, "queue "+needle); fmt.Sprint(state.Lost) != "[{1 4}]" {
		t.Errorf("lost %v", state.Lost)
	}
	wantNoNeedle(t, dir)
	mustClose(t, s)
	if _, err := Open(dir, Options{Key: otherKey}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("open with another key: %v", err)
	}
}

func TestSealedMarkAddsUpLikeAPlainOne(t *testing.T) {
	dir := t.TempDir()
	f := markFile{dir: dir, key: testKey, room: 400} // a few entries
	must(t, f.begin(mark{id: sampleNode, incarnation: 1, queues: map[uint64]markedQueue{}}, 0))
	defer func() { must(t, f.close()) }()
	name := needle
	for n := uint64(1); n < 40; n++ {
		must(t, f.write(entry(n, name)))
		name = ""
		m, err := readMark(dir, testKey)
		must(t, err)
		if m.possible != n || m.certain != n-1 || n > 1 && m.queues[1] != (markedQueue{needle, n - 1, 10 * (n - 1)}) {
			t.Fatalf("after entry %d: %+v", n, m)
		}
		wantNoNeedle(t, dir)
	}
}

func TestEntryOfAnotherPlaceIsNoEntryOfASealedMark(t *testing.T) {
	c, err := newFileCipher(markFiles, testKey)
	must(t, err)
	head := markFiles.seal(c)
	first, second := entry(1, "a"), entry(2, "b")
	b := first.append(head, c, sealedFileHead)
	b = second.append(b, c, int64(len(b))+1)
	if m, err := parseMark(b, testKey); !errors.Is(err, ErrDamaged) {
		t.Errorf("an entry put elsewhere: %+v, %v", m, err)
	}
}

func TestKeyOfAnotherLengthIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := Open(dir, Options{Key: make([]byte, n)}); err == nil || !strings.Contains(err.Error(), "want 32") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}

func FuzzParseRegistry(f *testing.F) {
	dir := f.TempDir()
	derived, err := badgerKey(testKey)
	must(f, err)
	must(f, makeRegistry(dir, derived))
	b, err := os.ReadFile(filepath.Join(dir, registryName))
	must(f, err)
	must(f, parseRegistry(b, derived))
	f.Add(b)
	f.Add(append(make([]byte, 16), registryText...))
	f.Fuzz(func(t *testing.T, b []byte) {
		withKey, without := parseRegistry(b, derived), parseRegistry(b, nil)
		if withKey == nil && without == nil {
			t.Errorf("%x is said to be encrypted and not", b)
		}
	})
}
