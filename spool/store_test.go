package spool

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestReopenKeepsIDAndRaisesIncarnation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	var id [16]byte
	editions := make(map[uint64]bool)
	for life := uint64(1); life <= 4; life++ {
		s := mustOpen(t, dir)
		if life == 1 {
			id = s.ID()
		}
		if s.ID() != id || id == [16]byte{} {
			t.Errorf("life %d: store id %x, first was %x", life, s.ID(), id)
		}
		if s.Incarnation() != life {
			t.Errorf("life %d: incarnation %d", life, s.Incarnation())
		}
		editions[s.Edition()] = true
		mustClose(t, s)
	}
	if len(editions) != 4 {
		t.Errorf("%d editions in 4 lives", len(editions))
	}
}

func TestIncarnationIsDurableWhenOpenReturns(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	again := mustOpen(t, killed(t, dir))
	if again.Incarnation() != s.Incarnation()+1 || again.ID() != s.ID() {
		t.Errorf("after a kill: incarnation %d of store %x, before %d of %x", again.Incarnation(), again.ID(), s.Incarnation(), s.ID())
	}
}

func TestKillWhileTheStoreIsMadeLeavesAStoreThatOpens(t *testing.T) {
	id := [16]byte{1, 2, 3}
	tests := map[string]func(dir string) error{
		"draft of the mark": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, markDraftName), []byte("pmsp"), 0o600)
		},
		"mark":               func(dir string) error { return makeMark(dir, mark{id: id}) },
		"mark, empty logs":   func(dir string) error { return errors.Join(makeMark(dir, mark{id: id}), emptyLogs(dir)) },
		"mark, empty Badger": func(dir string) error { return errors.Join(makeMark(dir, mark{id: id}), emptyBadger(dir)) },
	}
	for name, leave := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, leave(dir))
			s := mustOpen(t, dir)
			if s.Incarnation() != 1 {
				t.Errorf("incarnation %d, want 1", s.Incarnation())
			}
			if strings.HasPrefix(name, "mark") && s.ID() != id {
				t.Errorf("store id %x, the mark says %x", s.ID(), id)
			}
		})
	}
}

func emptyLogs(dir string) error {
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "00001.mem"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "000001.vlog"), nil, 0o600))
}

func emptyBadger(dir string) error {
	db, err := openBadger(dir, sizesOf(ProfileEdge), nil, nil)
	if err != nil {
		return err
	}
	return db.Close()
}

func TestKillBetweenCommitAndMarkIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	old, err := os.ReadFile(filepath.Join(dir, markName))
	must(t, err)
	must(t, s.See([16]byte{1}, 5))
	next := killed(t, dir)
	must(t, os.WriteFile(filepath.Join(next, markName), old, 0o600))
	s = mustOpen(t, next)
	if s.Seen([16]byte{1}) != 5 {
		t.Errorf("seen %d, want 5", s.Seen([16]byte{1}))
	}
}

// A power cut within the first group: the mark says that it is possible, and nothing has it.
func TestCutWithinTheFirstGroupIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	id := s.ID()
	cut := killed(t, dir)
	must(t, os.Remove(filepath.Join(cut, walNames[0])))
	mark := markFiles.seal(nil)
	for _, e := range []markEntry{{id: id}, {id: id, incarnation: 1, possible: 1}} {
		mark = e.append(mark, nil, 0)
	}
	must(t, os.WriteFile(filepath.Join(cut, markName), mark, 0o600))
	s = mustOpen(t, cut)
	if err := s.Stat().Damage; err != nil || s.ID() != id || s.Incarnation() != 2 {
		t.Errorf("damage %v, store %x, want %x, incarnation %d, want 2", err, s.ID(), id, s.Incarnation())
	}
}

func TestEmptyLogsAreRemovedBeforeBadgerSeesThem(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir))
	must(t, os.WriteFile(filepath.Join(dir, "00009.mem"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "000009.vlog"), nil, 0o600))
	if s := mustOpen(t, dir); s.Incarnation() != 2 {
		t.Errorf("incarnation %d, want 2", s.Incarnation())
	}
}

func TestSecondOpenIsLockedOut(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	wantOpenError(t, dir, ErrLocked)
	mustClose(t, s)
	mustOpen(t, dir)
}

func TestSecondProcessIsLockedOut(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if f := openElsewhere(t, dir); !f.Locked || !strings.Contains(f.Text, dir) {
		t.Errorf("while open here: %+v", f)
	}
	mustClose(t, s)
	if f := openElsewhere(t, dir); f.Text != "<nil>" {
		t.Errorf("after close: %+v", f)
	}
}

func TestBadgerOpenedByAnotherProgramIsLocked(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir))
	db, err := openBadger(dir, sizesOf(ProfileEdge), nil, nil)
	must(t, err)
	wantOpenError(t, dir, ErrLocked)
	must(t, db.Close())
}

func TestFailedOpenHoldsNothing(t *testing.T) {
	dir := t.TempDir()
	reason := errors.New("no bits left")
	_, err := Open(dir, Options{Profile: ProfileEdge, Rand: iotest.ErrReader(reason)})
	if !errors.Is(err, reason) {
		t.Fatalf("open without randomness: %v", err)
	}
	// The edition is the first thing an existing store needs randomness for: Badger is open by then.
	mustClose(t, mustOpen(t, dir))
	if _, err := Open(dir, Options{Profile: ProfileEdge, Rand: iotest.ErrReader(reason)}); !errors.Is(err, reason) {
		t.Fatalf("reopen without randomness: %v", err)
	}
	if s := mustOpen(t, dir); s.Incarnation() != 2 {
		t.Errorf("incarnation %d, want 2: the failed open began no life", s.Incarnation())
	}
}

func TestDirectoriesAreMadePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no mode bits")
	}
	top := filepath.Join(t.TempDir(), "state")
	dir := filepath.Join(top, "spool")
	mustOpen(t, dir)
	for _, d := range []string{top, dir} {
		info, err := os.Stat(d)
		must(t, err)
		if info.Mode().Perm() != 0o700 {
			t.Errorf("mode of %s: %04o, want 0700", d, info.Mode().Perm())
		}
	}
}

func TestDirectoryOthersCanWriteToIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no mode bits")
	}
	for _, mode := range []os.FileMode{0o720, 0o702, 0o777} {
		dir := t.TempDir()
		must(t, os.Chmod(dir, mode))
		wantOpenError(t, dir, ErrForeign, "others may write")
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("mode %04o: the refused directory now holds %v (%v)", mode, entries, err)
		}
	}
}

func TestFilesNotOursAreRefusedAndLeftAlone(t *testing.T) {
	for _, name := range []string{"thesis.txt", "x.sst", "1.sst.bak", ".mem", "spool.mark~", "a\x1b[31mb"} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600))
		wantOpenError(t, dir, ErrForeign)
		entries, err := os.ReadDir(dir)
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("%q: the refused directory now holds %v", name, entries)
		}
	}
}

func TestNamesInErrorsAreQuoted(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a\x1b[31mb"), nil, 0o600))
	_, err := Open(dir, Options{Profile: ProfileEdge})
	if err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("error %q", err)
	}
	s := mustOpen(t, t.TempDir())
	if err := s.Reserve("a\x1b[31mb", 1, 1); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("error %q", err)
	}
}

func TestSymlinksAndDirectoriesAmongTheFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir))
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Rename(filepath.Join(dir, markName), outside))
	must(t, os.Symlink(outside, filepath.Join(dir, markName)))
	wantOpenError(t, dir, ErrForeign, markName)
	must(t, os.Remove(filepath.Join(dir, markName)))
	must(t, os.Mkdir(filepath.Join(dir, markName), 0o700))
	wantOpenError(t, dir, ErrForeign, markName)
}

func TestPlainFileInPlaceOfTheDirectoryIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, nil, 0o600))
	wantOpenError(t, path, ErrForeign, "not a directory")
}

func TestRaiseAboveForksTheStoreDurably(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	id, edition := s.ID(), s.Edition()
	got, err := s.RaiseAbove(41)
	if got != 42 || err != nil || s.Incarnation() != 42 {
		t.Fatalf("RaiseAbove(41) = %d, %v; incarnation %d; want 42", got, err, s.Incarnation())
	}
	fork := s.ID()
	if fork == id {
		t.Error("the store id is still the old one")
	}
	if s.Edition() != edition {
		t.Error("the edition changed within one life")
	}
	again := mustOpen(t, killed(t, dir))
	if again.Incarnation() != 43 || again.ID() != fork {
		t.Errorf("next life: incarnation %d of store %x, want 43 of %x", again.Incarnation(), again.ID(), fork)
	}
}

func TestRaiseAboveAnIncarnationLongPassedChangesNothing(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	if _, err := s.RaiseAbove(9); err != nil {
		t.Fatal(err)
	}
	id := s.ID()
	for _, seen := range []uint64{0, 1, 9} {
		if got, err := s.RaiseAbove(seen); got != 10 || err != nil {
			t.Errorf("RaiseAbove(%d) = %d, %v; want 10", seen, got, err)
		}
	}
	if s.ID() != id {
		t.Error("several complaints of one rollback forked the store twice")
	}
	if got, err := s.RaiseAbove(10); got != 11 || err != nil || s.ID() == id {
		t.Errorf("RaiseAbove(10) = %d, %v: somebody else lived incarnation 10", got, err)
	}
}

func TestPeerCannotUseUpTheIncarnations(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	for _, seen := range []uint64{MaxRaise, 1<<64 - 1} {
		if got, err := s.RaiseAbove(seen); !errors.Is(err, ErrFull) {
			t.Errorf("RaiseAbove(%d) = %d, %v; want ErrFull", seen, got, err)
		}
	}
	if got, err := s.RaiseAbove(MaxRaise - 1); got != MaxRaise || err != nil {
		t.Errorf("RaiseAbove(MaxRaise-1) = %d, %v", got, err)
	}
}

func TestSeenRemembersTheHighestIncarnation(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	a, b := [16]byte{1}, [16]byte{2}
	for _, n := range []uint64{0, 3, 7, 5} {
		must(t, s.See(a, n))
	}
	must(t, s.See(b, 1<<64-1))
	for _, s := range []*Store{s, mustOpen(t, killed(t, dir))} {
		if s.Seen(a) != 7 || s.Seen(b) != 1<<64-1 || s.Seen([16]byte{3}) != 0 {
			t.Errorf("seen %d, %d, %d; want 7, 2^64-1, 0", s.Seen(a), s.Seen(b), s.Seen([16]byte{3}))
		}
	}
}

func TestSeeingAKnownIncarnationWritesNothing(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	must(t, s.See([16]byte{1}, 5))
	before := s.head.commits
	must(t, s.See([16]byte{1}, 5))
	must(t, s.See([16]byte{1}, 4))
	if s.head.commits != before {
		t.Errorf("%d commits for nothing new", s.head.commits-before)
	}
}

func TestPeersAndStreamsAreBounded(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	for i := range MaxPeers {
		s.peers[[16]byte{byte(i), byte(i >> 8), byte(i >> 16), 1}] = 1
	}
	if err := s.See([16]byte{15: 1}, 1); !errors.Is(err, ErrFull) {
		t.Errorf("one node too many: %v", err)
	}
	if err := s.See([16]byte{3: 1}, 2); err != nil {
		t.Errorf("a known node: %v", err)
	}
	for i := range MaxStreams {
		s.streams[string([]byte{byte(i), byte(i >> 8), byte(i >> 16)})] = &stream{rec: streamRecord{lowest: 1}}
	}
	if _, err := s.Resume("one too many"); !errors.Is(err, ErrFull) {
		t.Errorf("one stream too many: %v", err)
	}
	if _, err := s.Resume("\x00\x00\x00"); err != nil {
		t.Errorf("a known stream: %v", err)
	}
}

func TestConcurrentUseLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := string(rune('a' + i))
			r, err := s.Resume(name)
			for n := uint64(1); n <= 20 && err == nil; n++ {
				err = errors.Join(s.Reserve(name, r.Next, n*10), s.See([16]byte{byte(i)}, n))
				_, _, _ = s.ID(), s.Incarnation(), s.Seen([16]byte{byte(i)})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	again := mustOpen(t, killed(t, dir))
	for i := range 4 {
		r, err := again.Resume(string(rune('a' + i)))
		if err != nil || r.Next != 201 || again.Seen([16]byte{byte(i)}) != 20 {
			t.Errorf("stream %d goes on at %d (%v), node %d seen at %d", i, r.Next, err, i, again.Seen([16]byte{byte(i)}))
		}
	}
}

func TestClosedStoreSaysSoAndStillAnswers(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	must(t, s.See([16]byte{1}, 5))
	id := s.ID()
	mustClose(t, s)
	mustClose(t, s)
	_, errResume := s.Resume("a")
	_, errRaise := s.RaiseAbove(5)
	for i, err := range []error{
		errResume, errRaise, s.Reserve("a", 1, 1), s.Release("a", 1, 1), s.Forget("a", 1), s.See([16]byte{1}, 6),
	} {
		if !errors.Is(err, ErrClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("call %d after Close: %v", i, err)
		}
	}
	if s.ID() != id || s.Incarnation() != 1 || s.Seen([16]byte{1}) != 5 {
		t.Error("what was known is gone after Close")
	}
}

func TestCloseWaitsForAChangeUnderWay(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	var wg sync.WaitGroup
	acked := make([]uint64, 4)
	for i := range acked {
		wg.Go(func() {
			for n := uint64(1); s.See([16]byte{byte(i)}, n) == nil; n++ {
				acked[i] = n
			}
		})
	}
	for s.Seen([16]byte{}) < 5 {
		runtime.Gosched()
	}
	mustClose(t, s)
	wg.Wait()
	again := mustOpen(t, dir)
	for i, n := range acked {
		if got := again.Seen([16]byte{byte(i)}); got != n {
			t.Errorf("node %d: %d on disk, acknowledged was %d", i, got, n)
		}
	}
}

// hungLock is a lock that a hung disk does not let go.
type hungLock struct {
	io.Closer
	release chan struct{}
}

func (l hungLock) Close() error {
	<-l.release
	return l.Closer.Close()
}

func TestCloseGivesUpOnAHungDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(dir, Options{Profile: ProfileEdge})
		must(t, err)
		hung := hungLock{s.lock, make(chan struct{})}
		s.lock = hung
		began := time.Now()
		if err := s.Close(); err == nil || time.Since(began) != closeLimit {
			t.Errorf("close of a hung store: %v after %v, want an error after %v", err, time.Since(began), closeLimit)
		}
		wantOpenError(t, dir, ErrLocked)
		close(hung.release)
		mustClose(t, s)
	})
}

func TestFailedWriteMakesTheStoreReadOnlyUntilReopened(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	must(t, s.See([16]byte{1}, 5))
	good := s.mark.file
	broken, err := os.Open(filepath.Join(dir, markName)) // not writable
	must(t, err)
	s.mark.file = broken
	if err := s.See([16]byte{1}, 6); !errors.Is(err, ErrFailed) {
		t.Fatalf("see on a broken disk: %v", err)
	}
	if s.Seen([16]byte{1}) != 5 {
		t.Errorf("an unacknowledged incarnation is told: %d", s.Seen([16]byte{1}))
	}
	must(t, broken.Close())
	s.mark.file = good
	if err := s.See([16]byte{2}, 1); !errors.Is(err, ErrFailed) {
		t.Errorf("a write after a failed one: %v", err)
	}
	if _, err := s.Resume("a"); !errors.Is(err, ErrFailed) {
		t.Errorf("resume after a failed write: %v", err)
	}
	mustClose(t, s)
	again := mustOpen(t, dir)
	if n := again.Seen([16]byte{1}); n != 5 && n != 6 {
		t.Errorf("after reopening: %d", n)
	}
	must(t, again.See([16]byte{1}, 7))
}

func TestClockBehindTheLastCommitIsReported(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	mustClose(t, mustOpenWith(t, dir, Options{Profile: ProfileEdge, Now: func() time.Time { return at }}))
	for _, tt := range []struct {
		now  time.Time
		want bool
	}{{at.Add(time.Hour), false}, {at, true}} {
		var log bytes.Buffer
		now := func() time.Time { return tt.now }
		mustClose(t, mustOpenWith(t, dir, Options{Profile: ProfileEdge, Now: now, Logger: slog.New(slog.NewTextHandler(&log, nil))}))
		if got := strings.Contains(log.String(), "clock stands before"); got != tt.want {
			t.Errorf("at %v: warned %v, want %v\n%s", tt.now, got, tt.want, log.String())
		}
	}
}

func BenchmarkOpenClose(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := Open(dir, Options{Profile: ProfileEdge})
		must(b, err)
		must(b, s.Close())
	}
}

func BenchmarkReserve(b *testing.B) {
	s := mustOpen(b, b.TempDir())
	_, err := s.Resume("a")
	must(b, err)
	for end := uint64(ReserveBlock); b.Loop(); end += ReserveBlock {
		must(b, s.Reserve("a", 1, end))
	}
}

// Whoever asks only when the group is on disk need not wait, and must not see the store as it was before.
func TestARaisedIncarnationIsThereAsSoonAsItIsCommitted(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	for range 300 {
		s.writing.Lock()
		id, incarnation := s.ID(), s.Incarnation()+1
		id[0]++
		c := s.Begin()
		c.g.head = &headChange{id, incarnation}
		g := c.Group()
		c.End()
		for committed := Group(0); committed < g; {
			s.change.Lock()
			committed = s.committed
			s.change.Unlock()
		}
		if got := s.Incarnation(); s.ID() != id || got != incarnation {
			t.Errorf("incarnation %d of %x, want %d of %x", got, s.ID(), incarnation, id)
		}
		s.writing.Unlock()
		if t.Failed() {
			return
		}
	}
}
