package spool

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

var sampleOps = []op{{key: []byte("k"), value: []byte("value")}, {key: []byte("gone")}, {key: []byte("empty"), value: []byte{}}}

// walEntryOf appends the entry of a commit.
func walEntryOf(b []byte, c *fileCipher, commit uint64, ops []op) []byte {
	var e layout
	e.frame(c, commit, ops, 5)
	_ = e.each(func(part []byte, _ int) error {
		b = append(b, part...)
		return nil
	})
	return b
}

// walOf is a file of these commits.
func walOf(t testing.TB, key []byte, commits ...uint64) []byte {
	t.Helper()
	c, err := newFileCipher(walFiles, key)
	must(t, err)
	b := walFiles.seal(c)
	for _, commit := range commits {
		b = walEntryOf(b, c, commit, sampleOps)
	}
	return b
}

// said shows writes.
func said(ops []op) (text string) {
	for _, o := range ops {
		text += fmt.Sprintf("%q=%q %t\n", o.key, o.value, o.value == nil)
	}
	return text
}

// commitsOf are the commits that a file is found to hold.
func commitsOf(t testing.TB, b, key []byte) []uint64 {
	t.Helper()
	entries, err := parseWAL(b, key)
	must(t, err)
	var commits []uint64
	for _, e := range entries {
		if said(e.ops) != said(sampleOps) {
			t.Errorf("commit %d holds %s", e.commit, said(e.ops))
		}
		commits = append(commits, e.commit)
	}
	return commits
}

func TestWALRoundTrip(t *testing.T) {
	for name, key := range map[string][]byte{"plain": nil, "sealed": testKey} {
		if got := commitsOf(t, walOf(t, key, 7, 8, 9), key); !slices.Equal(got, []uint64{7, 8, 9}) {
			t.Errorf("%s: commits %v", name, got)
		}
	}
}

func TestWALOnDisk(t *testing.T) {
	const want = "706d737077616c0a0002" + "c98fdb02" + "0000001d" + "8d861bfc" + "0000000000000007" +
		"016b" + "06" + "76616c7565" + "04676f6e65" + "00" + "05656d707479" + "01"
	if got := hex.EncodeToString(walOf(t, nil, 7)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestWALEndsWhereItIsTornGarbledOrOld(t *testing.T) {
	for name, key := range map[string][]byte{"plain": nil, "sealed": testKey} {
		t.Run(name, func(t *testing.T) {
			one, two := len(walOf(t, key, 7)), len(walOf(t, key, 7, 8))
			whole := walOf(t, key, 7, 8)
			for n := one; n < two; n++ {
				if got := commitsOf(t, whole[:n], key); !slices.Equal(got, []uint64{7}) {
					t.Fatalf("cut to %d bytes: commits %v", n, got)
				}
				flipped := bytes.Clone(whole)
				flipped[n] ^= 0x10
				if got := commitsOf(t, append(flipped, make([]byte, 100)...), key); !slices.Equal(got, []uint64{7}) {
					t.Fatalf("with byte %d flipped: commits %v", n, got)
				}
			}
			if got := commitsOf(t, walOf(t, key, 7, 8, 5, 6), key); !slices.Equal(got, []uint64{7, 8}) {
				t.Errorf("with entries of the last use behind it: commits %v", got)
			}
		})
	}
}

// What is read of a file is what its entries need, however it ends.
func TestOnlyEntriesAreReadOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), walNames[0])
	for name, key := range map[string][]byte{"plain": nil, "sealed": testKey} {
		whole := walOf(t, key, 7, 8, 9)
		for _, tail := range []int{0, 3, 64 << 10} {
			for n := range len(whole) + 1 {
				b := append(bytes.Clone(whole[:n]), make([]byte, tail)...)
				must(t, os.WriteFile(path, b, 0o600))
				f, err := os.Open(path)
				must(t, err)
				read, err := readEntries(f)
				must(t, errors.Join(err, f.Close()))
				if len(read) > len(whole) {
					t.Fatalf("%s: %d bytes of %d and zeros were read", name, len(read), n)
				}
				want, werr := parseWAL(b, key)
				got, gerr := parseWAL(read, key)
				if len(got) != len(want) || (gerr == nil) != (werr == nil) {
					t.Fatalf("%s: of %d bytes and %d zeros: %d entries, %v; want %d, %v", name, n, tail, len(got), gerr, len(want), werr)
				}
			}
		}
	}
}

func TestWALOfAnotherKeyOrVersionIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), walNames[0])
	newer := walFiles.seal(nil)
	newer[9]++
	newer = finish(nil, newer[:fileHead-sumSize])
	for want, tt := range map[error]struct{ file, key []byte }{
		ErrWrongKey:     {walOf(t, testKey, 1), bytes.Repeat([]byte{9}, KeySize)},
		ErrNoKey:        {walOf(t, testKey, 1), nil},
		ErrNotEncrypted: {walOf(t, nil, 1), testKey},
		ErrVersion:      {newer, nil},
	} {
		must(t, os.WriteFile(path, tt.file, 0o600))
		if _, err := readWAL(path, tt.key); !errors.Is(err, want) || !strings.Contains(err.Error(), walNames[0]) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	for _, content := range [][]byte{nil, []byte(walMagic), make([]byte, 8192)} {
		must(t, os.WriteFile(path, content, 0o600))
		if entries, err := readWAL(path, nil); err != nil || entries != nil {
			t.Errorf("%d bytes: %v, %v", len(content), entries, err)
		}
	}
}

func FuzzParseWAL(f *testing.F) {
	f.Add(walOf(f, nil, 7, 8))
	f.Add(walOf(f, testKey, 7))
	f.Add(walFiles.seal(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, key := range [][]byte{nil, testKey} {
			if _, err := parseWAL(b, key); err != nil {
				continue
			}
			entries, err := parseWAL(b, key)
			for i, e := range entries {
				if i > 0 && e.commit != entries[0].commit+uint64(i) {
					t.Fatalf("commit %d comes after %d", e.commit, entries[i-1].commit)
				}
				again := walEntryOf(nil, nil, e.commit, e.ops)
				_, ops, rest, perr := parseWALEntry(again, nil)
				if said(ops) != said(e.ops) || len(rest) > 0 || errors.Join(err, perr) != nil {
					t.Fatalf("%s comes back as %s, %v", said(e.ops), said(ops), perr)
				}
			}
		}
	})
}

// inBadger counts the blocks that Badger has.
func inBadger(t *testing.T, s *Store) (blocks int) {
	t.Helper()
	must(t, s.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{blockPrefix}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			blocks++
		}
		return nil
	}))
	return blocks
}

func TestWhatIsSettledSoonNeverReachesBadger(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	for range 100 {
		var seq uint64
		commit(t, s, func(c *Change) { seq = mustAppend(t, c, q, strings.Repeat("x", 1000)) })
		commit(t, s, func(c *Change) { c.Settle(q, seq, seq) })
	}
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "stays") })
	if n := inBadger(t, s); n != 0 {
		t.Errorf("%d blocks are in Badger before its turn", n)
	}
	if len(s.ahead.batch.ops) > 20 {
		t.Errorf("%d writes are owed to Badger", len(s.ahead.batch.ops))
	}
	mustClose(t, s)
	if files, err := filepath.Glob(filepath.Join(dir, "spool.wal.*")); err != nil || files != nil {
		t.Errorf("after Close: %v, %v", files, err)
	}
	s = mustOpen(t, dir)
	_, state := mustOpenQueue(t, s, "jobs")
	if n := inBadger(t, s); n != 1 || state.Next != 102 {
		t.Errorf("%d blocks are in Badger, next %d", n, state.Next)
	}
}

func TestRecordsAndNotesAreReadFromTheLog(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "jobs")
	large := strings.Repeat("large", 60<<10) // in parts
	check := func(when string) {
		t.Helper()
		if got := unsettled(t, q, nil); got[1] != "small" || got[2] != large || len(got) != 2 {
			t.Errorf("%s: records %.20v", when, got)
		}
		if got := string(s.Note("note")); got != "here" {
			t.Errorf("%s: note %q", when, got)
		}
	}
	commit(t, s, func(c *Change) {
		mustAppend(t, c, q, "small")
		mustAppend(t, c, q, large)
		c.Put("note", []byte("there"))
	})
	commit(t, s, func(c *Change) { c.Put("note", []byte("here")) })
	if n := inBadger(t, s); n != 0 {
		t.Fatalf("%d blocks are in Badger before its turn", n)
	}
	check("from the log")
	withoutLog(s)
	commit(t, s, func(c *Change) { c.Put("other", []byte("one")) })
	if n := inBadger(t, s); n != 6 {
		t.Fatalf("%d keys of blocks are in Badger", n)
	}
	check("from Badger")
}

func TestLogOfManyTurnsIsWhatAKillLeaves(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	sizeLog(s, 4<<10)
	q, _ := mustOpenQueue(t, s, "jobs")
	want := make(map[uint64]string)
	for i := range 200 {
		commit(t, s, func(c *Change) {
			body := fmt.Sprint(strings.Repeat("x", 10*i), i)
			seq := mustAppend(t, c, q, body)
			want[seq] = body
			if i%3 == 0 {
				c.Settle(q, seq-1, seq-1)
				delete(want, seq-1)
			}
		})
		if i%40 != 0 {
			continue
		}
		again := mustOpen(t, killed(t, dir))
		k, state := mustOpenQueue(t, again, "jobs")
		if got := unsettled(t, k, state.Settled); fmt.Sprint(got) != fmt.Sprint(want) || again.Stat().Damage != nil {
			t.Fatalf("after %d: %d records, want %d; damage %v", i, len(got), len(want), again.Stat().Damage)
		}
		mustClose(t, again)
	}
}

func TestTornLogIsLostWithItsExactRange(t *testing.T) {
	dir, id, log := threeGroupsAhead(t)
	must(t, os.WriteFile(filepath.Join(dir, walNames[0]), log, 0o600))
	_, q, state := wantForked(t, dir, id, "[{6 9}]", 10)
	if got := unsettled(t, q, state.Settled); len(got) != 5 || got[2] != "early" || got[10] != "on" {
		t.Errorf("owed %v", got)
	}
}

func TestMissingWriteAheadLogIsLostWithItsExactRange(t *testing.T) {
	dir, id, _ := threeGroupsAhead(t)
	must(t, os.Remove(filepath.Join(dir, walNames[0])))
	wantForked(t, dir, id, "[{1 9}]", 10)
}

func TestWriteAheadLogGarbledInTheMiddleIsLostFromThereOn(t *testing.T) {
	dir, id, log := threeGroupsAhead(t)
	end := len(bytes.TrimRight(log, "\x00"))
	rewrite(t, filepath.Join(dir, walNames[0]), func(b []byte) []byte {
		b[end+40] ^= 0xff // within the second group
		return b
	})
	wantForked(t, dir, id, "[{6 9}]", 10)
}

func TestLogOfAnEarlierLifeIsNotTakenForThisOnes(t *testing.T) {
	dir, id, log := threeGroupsAhead(t)
	full, err := os.ReadFile(filepath.Join(dir, walNames[0]))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, walNames[0]), log, 0o600))
	s, _, _ := wantForked(t, dir, id, "[{6 9}]", 10)
	mustClose(t, s)
	must(t, os.WriteFile(filepath.Join(dir, walNames[1]), full, 0o600)) // put back behind the store's back
	s = mustOpen(t, dir)
	_, state := mustOpenQueue(t, s, "jobs")
	if s.Stat().Damage != nil || fmt.Sprint(state.Lost) != "[{6 9}]" || state.Next != 11 {
		t.Errorf("damage %v, state %+v", s.Stat().Damage, state)
	}
}

// The mark is lost, so nobody knows what is missing between Badger and the log; the numbers of the
// commits come again.
func TestLogOfAnEarlierLifeEndsWithIt(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir))
	stray := walFiles.seal(nil)
	for commit := uint64(6); commit < 30; commit++ {
		stray = walEntryOf(stray, nil, commit, []op{{key: []byte("stray"), value: []byte("value")}})
	}
	for _, name := range walNames {
		must(t, os.WriteFile(filepath.Join(dir, name), stray, 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, markName), nil, 0o600))
	wantOpenError(t, dir, ErrDamaged, markName)
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	for range 10 {
		commit(t, s, func(c *Change) { mustAppend(t, c, q, "on") })
	}
	s = mustOpen(t, killed(t, dir))
	if _, state := mustOpenQueue(t, s, "jobs"); s.Stat().Damage != nil || state.Next != 11 {
		t.Errorf("damage %v, next %d", s.Stat().Damage, state.Next)
	}
}

// threeGroupsAhead is tailOfThree with the groups in the write-ahead log.
func threeGroupsAhead(t *testing.T) (dir string, id [16]byte, log []byte) {
	t.Helper()
	live := t.TempDir()
	return threeGroups(t, mustOpen(t, live), live, walNames[0])
}

func TestFailureOfBadgerLosesNothingInTheLog(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "kept") })
	cut := killed(t, dir)
	s.fail(errors.New("badger: out of order"))
	must(t, s.Close())
	for _, dir := range []string{dir, cut} {
		s = mustOpen(t, dir)
		q, state := mustOpenQueue(t, s, "jobs")
		if got := unsettled(t, q, state.Settled); got[1] != "kept" || s.Stat().Damage != nil {
			t.Errorf("records %v, damage %v", got, s.Stat().Damage)
		}
	}
}

func TestLargeGroupsOfAnEncryptedStoreGoToBadgerWhereMessagesStay(t *testing.T) {
	s := mustOpenWith(t, t.TempDir(), Options{Profile: ProfileEdge, Key: testKey})
	q, _ := mustOpenQueue(t, s, "jobs")
	body := strings.Repeat("x", 10_000)
	write := func(settle bool) {
		commit(t, s, func(c *Change) {
			for range 20 {
				seq := mustAppend(t, c, q, body)
				if settle && seq > 40 {
					c.Settle(q, seq-40, seq-40)
				}
			}
		})
	}
	for range 30 {
		write(false)
	}
	if !s.pace.stays || len(s.ahead.batch.ops) > 0 {
		t.Errorf("%d writes are owed to Badger while messages stay", len(s.ahead.batch.ops))
	}
	for range 30 {
		write(true)
	}
	if s.pace.stays || len(s.ahead.batch.ops) == 0 {
		t.Error("what dies young goes to Badger")
	}
}

func TestIdleStoreGivesTheRoomOfItsLogBack(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	for range 8 {
		commit(t, s, func(c *Change) { mustAppend(t, c, q, strings.Repeat("x", 20_000)) })
	}
	path := filepath.Join(dir, walNames[0])
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() <= s.profile.walLeast {
		t.Fatalf("a log of %d bytes", info.Size())
	}
	for info.Size() > s.profile.walLeast { // until the test times out
		info, err = os.Stat(path)
		must(t, err)
	}
	if n := inBadger(t, s); n == 0 {
		t.Error("the log was given up before Badger had it")
	}
}
