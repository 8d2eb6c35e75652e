package spool

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecordAsTheNextUseFindsIt(t *testing.T) {
	for _, tt := range []struct{ name, rec, want string }{
		{"nothing ever", "end 0 lowest 1", "end 0 lowest 1"},
		{"all settled", "end 9 lowest 10", "end 9 lowest 10"},
		{"nothing settled", "end 9 lowest 1", "end 9 lowest 10 gap 1-9"},
		{"some settled", "end 9 lowest 4", "end 9 lowest 10 gap 4-9"},
		{"an old gap untold, all settled since", "end 9 lowest 10 gap 1-3", "end 9 lowest 10 gap 1-3"},
		{"an old gap untold, some settled since", "end 9 lowest 7 gap 2-3", "end 9 lowest 10 gap 2-9"},
	} {
		got := parseText(t, tt.rec).resumed()
		if got != parseText(t, tt.want) || got.resumed() != got || !got.valid() {
			t.Errorf("%s: %s becomes %+v, want %s", tt.name, tt.rec, got, tt.want)
		}
	}
}

func TestForgetShortensTheGapFromBelow(t *testing.T) {
	for _, tt := range []struct {
		upTo uint64
		want string
	}{
		{0, "end 9 lowest 10 gap 4-6"}, {3, "end 9 lowest 10 gap 4-6"}, {4, "end 9 lowest 10 gap 5-6"},
		{5, "end 9 lowest 10 gap 6-6"}, {6, "end 9 lowest 10"}, {1<<64 - 1, "end 9 lowest 10"},
	} {
		if got := parseText(t, "end 9 lowest 10 gap 4-6").forgotten(tt.upTo); got != parseText(t, tt.want) {
			t.Errorf("forget up to %d: got %+v, want %s", tt.upTo, got, tt.want)
		}
	}
}

func parseText(t *testing.T, text string) (r streamRecord) {
	t.Helper()
	if _, err := fmt.Sscanf(text, "end %d lowest %d gap %d-%d", &r.end, &r.lowest, &r.gapFrom, &r.gapTo); err == nil {
		return r
	}
	r = streamRecord{}
	if _, err := fmt.Sscanf(text, "end %d lowest %d", &r.end, &r.lowest); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return r
}

// lives walks one store through several lives.
type lives struct {
	*testing.T
	*Store
	dir string
}

func newLives(t *testing.T) *lives {
	dir := t.TempDir()
	return &lives{t, mustOpen(t, dir), dir}
}

// kill ends the life as kill -9 would and begins the next.
func (l *lives) kill() {
	l.Helper()
	l.dir = killed(l, l.dir)
	l.Store = mustOpen(l, l.dir)
}

// resume resumes stream "a" and checks the answer; a gap to 0 is none.
func (l *lives) resume(next, gapFrom, gapTo uint64) {
	l.Helper()
	r, err := l.Store.Resume("a")
	if err != nil {
		l.Fatal(err)
	}
	want := Reservation{Next: next, End: next - 1}
	if gapTo > 0 {
		want.Gap = &SeqRange{gapFrom, gapTo}
	}
	if text(r) != text(want) {
		l.Fatalf("resume: got %s, want %s", text(r), text(want))
	}
}

func text(r Reservation) string {
	if r.Gap == nil {
		return fmt.Sprintf("%d..%d", r.Next, r.End)
	}
	return fmt.Sprintf("%d..%d gap %d-%d", r.Next, r.End, r.Gap.From, r.Gap.To)
}

func (l *lives) reserve(lowest, end uint64)  { l.Helper(); must(l, l.Reserve("a", lowest, end)) }
func (l *lives) release(next, lowest uint64) { l.Helper(); must(l, l.Release("a", next, lowest)) }
func (l *lives) forget(upTo uint64)          { l.Helper(); must(l, l.Forget("a", upTo)) }

func TestNewStreamStartsAtOne(t *testing.T) {
	newLives(t).resume(1, 0, 0)
}

func TestUncleanEndLeavesTheWholeBlockAsGap(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, ReserveBlock)
	l.reserve(60_000, 2*ReserveBlock)
	l.kill()
	l.resume(2*ReserveBlock+1, 60_000, 2*ReserveBlock)
}

func TestCleanCloseLeavesNoGapAndNoHole(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, ReserveBlock)
	l.release(101, 101)
	l.resume(101, 0, 0) // in the same life
	l.reserve(101, ReserveBlock)
	l.release(111, 111)
	l.kill()
	l.resume(111, 0, 0)
}

func TestCleanCloseWithSomethingOwedLeavesThatAsGap(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, ReserveBlock)
	l.release(101, 98)
	l.kill()
	l.resume(101, 98, 100)
}

func TestReleasedNumbersMustBeReservedAnew(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, ReserveBlock)
	l.release(101, 101)
	l.resume(101, 0, 0)
	l.reserve(101, 200)
	l.kill()
	l.resume(201, 101, 200)
}

func TestGapIsToldAgainAfterLivesWithoutTraffic(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, 10)
	l.kill()
	l.resume(11, 1, 10)
	l.kill() // without a Reserve
	l.kill() // without even a Resume
	l.resume(11, 1, 10)
}

func TestGapOfSeveralUncleanLivesIsOneRange(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, 10)
	l.kill()
	l.resume(11, 1, 10)
	l.reserve(11, 20)
	l.reserve(19, 30)
	l.kill()
	l.resume(31, 1, 30)
}

func TestNoReserveDropsAnUntoldGap(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, 10)
	l.kill()
	l.resume(11, 1, 10)
	l.reserve(11, 20) // knows of nothing unsettled: no receiver has attached yet
	l.reserve(21, 30)
	l.release(31, 31)
	l.kill()
	l.resume(31, 1, 10)
	l.reserve(1, 40) // a lowest below the present use is its first seq
	l.release(41, 41)
	l.kill()
	l.resume(41, 1, 10)
}

func TestForgottenGapIsNotToldAgain(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, 10)
	l.kill()
	l.forget(3) // before anybody resumed it
	l.resume(11, 4, 10)
	l.forget(3)
	l.forget(7)
	l.kill()
	l.resume(11, 8, 10)
	l.reserve(11, 20)
	l.forget(10)
	l.kill()
	l.resume(21, 11, 20)
	l.forget(1<<64 - 1)
	l.release(21, 21)
	l.kill()
	l.resume(21, 0, 0)
}

func TestForgetAfterReleaseDropsWhatTheUseLeft(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, 10)
	l.release(11, 6)
	l.forget(8)
	l.resume(11, 9, 10)
	l.release(11, 11)
	l.forget(10)
	l.kill()
	l.resume(11, 0, 0)
}

func TestForgettingAStrangerIsNoError(t *testing.T) {
	l := newLives(t)
	must(t, l.Forget("never heard of", 5))
	l.kill()
	if len(l.streams) != 0 {
		t.Errorf("streams on disk: %v", l.streams)
	}
}

func TestNothingIsWrittenForNothingNew(t *testing.T) {
	l := newLives(t)
	l.resume(1, 0, 0)
	l.reserve(1, 10)
	before := l.head.commits
	l.reserve(1, 10)
	l.reserve(0, 5)
	l.forget(4)
	if l.head.commits != before {
		t.Errorf("%d commits for nothing new", l.head.commits-before)
	}
	l.kill()
	l.resume(11, 1, 10)
	before = l.head.commits
	l.release(11, 11)
	if l.head.commits != before {
		t.Errorf("%d commits for a use that used nothing", l.head.commits-before)
	}
}

func TestStreamsDoNotTouchEachOther(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	for _, name := range []string{"a", "ab", "a\x00", "\xff"} {
		r, err := s.Resume(name)
		must(t, err)
		if r.Next != 1 || r.Gap != nil {
			t.Errorf("%q starts at %s", name, text(r))
		}
		must(t, s.Reserve(name, 1, 100))
	}
}

func TestMisuseOfAStreamIsRefusedAndChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	for i, err := range []error{s.Reserve("a", 1, 10), s.Release("a", 1, 1)} {
		if err == nil {
			t.Errorf("call %d before Resume: no error", i)
		}
	}
	for _, name := range []string{"", string(make([]byte, MaxStreamName+1))} {
		if _, err := s.Resume(name); err == nil {
			t.Errorf("a name of %d bytes: no error", len(name))
		}
	}
	_, err := s.Resume("a")
	must(t, err)
	must(t, s.Reserve("a", 1, 10))
	must(t, s.Reserve("a", 5, 20))
	if _, err := s.Resume("a"); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Resume: %v", err)
	}
	if err := s.Reserve("a", 5, MaxSeq+1); !errors.Is(err, ErrFull) {
		t.Errorf("reserve beyond MaxSeq: %v", err)
	}
	for name, err := range map[string]error{
		"lowest above all used":  s.Reserve("a", 22, 40),
		"next not reserved":      s.Release("a", 22, 5),
		"next 0":                 s.Release("a", 0, 0),
		"lowest above next":      s.Release("a", 10, 11),
		"release of an old name": s.Release("b", 1, 1),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	r, err := mustOpen(t, killed(t, dir)).Resume("a")
	if want := "21..20 gap 5-20"; err != nil || text(r) != want {
		t.Errorf("next life: %s, %v, want %s", text(r), err, want)
	}
}

func TestLongestNameAndHighestSeqSurvive(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := mustOpen(t, dir)
	name := string(make([]byte, MaxStreamName))
	_, err := s.Resume(name)
	must(t, err)
	must(t, s.Reserve(name, 1, MaxSeq))
	mustClose(t, s)
	s = mustOpen(t, dir)
	r, err := s.Resume(name)
	must(t, err)
	if want := (Reservation{MaxSeq + 1, MaxSeq, &SeqRange{1, MaxSeq}}); text(r) != text(want) {
		t.Errorf("got %s, want %s", text(r), text(want))
	}
	if err := s.Reserve(name, r.Next, r.Next); !errors.Is(err, ErrFull) {
		t.Errorf("reserve beyond MaxSeq: %v", err)
	}
}

func TestAStreamGoesOnAboveTheQueueOfItsName(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "a")
	commit(t, s, func(c *Change) {
		for range 5 {
			mustAppend(t, c, q, "x")
		}
	})
	s = mustOpen(t, killed(t, dir))
	r, err := s.Resume("a")
	must(t, err)
	if r.Next != 6 || r.End != 5 || r.Gap != nil {
		t.Errorf("resumed at %+v", r)
	}
	must(t, s.Release("a", 6, 6)) // nothing was used
	r, err = s.Resume("a")
	must(t, err)
	must(t, s.Reserve("a", r.Next, 20))
	s = mustOpen(t, killed(t, s.dir))
	r, err = s.Resume("a")
	must(t, err)
	if r.Next != 21 || r.Gap == nil || *r.Gap != (SeqRange{6, 20}) {
		t.Errorf("after a kill: %+v, gap %v", r, r.Gap)
	}
}

func TestBusyIsWhatReadyWaitsFor(t *testing.T) {
	s := mustOpenWith(t, t.TempDir(), Options{Profile: ProfileEdge})
	q, _ := mustOpenQueue(t, s, "a")
	for taken := true; taken; {
		c := s.Begin()
		g := c.Group()
		for range 5 {
			mustAppend(t, c, q, strings.Repeat("x", 60_000))
		}
		if c.g.size < s.profile.group {
			t.Fatalf("a group of %d bytes", c.g.size)
		}
		s.change.Unlock() // not End: unless it is still at work, nobody commits it yet
		busy := s.Busy()
		s.change.Lock()
		taken = s.open != c.g
		if !taken && !busy {
			t.Error("a full group is not busy")
		}
		c.End()
		must(t, s.Wait(t.Context(), g))
	}
	if s.Busy() {
		t.Error("busy with nothing to do")
	}
}
