package discovery

import (
	"testing"
	"time"
)

var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// offsets asks on schedule n times and returns when, since the epoch.
func offsets(s *schedule, n int, random float64) []time.Duration {
	list := make([]time.Duration, n)
	for i := range list {
		at := s.next
		list[i] = at.Sub(epoch)
		s.ask(at, random)
	}
	return list
}

func TestQuestionsGoFastAndThenCalm(t *testing.T) {
	s := time.Second
	for _, c := range []struct {
		random float64
		want   [8]time.Duration
	}{
		{0, [8]time.Duration{0, 1 * s, 2 * s, 4 * s, 8 * s, 16 * s, 40 * s, 64 * s}},
		{0.5, [8]time.Duration{125 * time.Millisecond, 1125 * time.Millisecond, 2125 * time.Millisecond, 4125 * time.Millisecond,
			8125 * time.Millisecond, 16125 * time.Millisecond, 46125 * time.Millisecond, 76125 * time.Millisecond}},
	} {
		var sched schedule
		sched.hurry(epoch, c.random)
		if got := [8]time.Duration(offsets(&sched, 8, c.random)); got != c.want {
			t.Errorf("random %v: got %v\nwant %v", c.random, got, c.want)
		}
	}
}

func TestHurryStartsTheFastQuestionsAgain(t *testing.T) {
	var sched schedule
	sched.hurry(epoch, 0)
	offsets(&sched, 7, 0.5)
	sched.hurry(epoch.Add(50*time.Second), 0)
	got := [3]time.Duration(offsets(&sched, 3, 0.5))
	if want := [3]time.Duration{50 * time.Second, 51 * time.Second, 52 * time.Second}; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestHurryNeverMakesTwoQuestionsASecond(t *testing.T) {
	var sched schedule
	sched.hurry(epoch, 0)
	questions := 0
	for now := epoch; now.Before(epoch.Add(time.Minute)); now = now.Add(10 * time.Millisecond) {
		if !now.Before(sched.next) {
			sched.ask(now, 0)
			questions++
		}
		sched.hurry(now, 0)
	}
	if questions != 60 {
		t.Errorf("%d questions in a minute, want 60", questions)
	}
}

func TestALateQuestionDoesNotMakeTheNextOnesHurry(t *testing.T) {
	var sched schedule
	sched.hurry(epoch, 0)
	late := epoch.Add(time.Hour) // the machine slept
	sched.ask(late, 0)
	if got, want := sched.next, late.Add(minPace); !got.Equal(want) {
		t.Errorf("next at %v, want %v", got, want)
	}
}
