package spool

import (
	"testing"
	"time"
)

func TestADurationIsInTheFirstBucketThatHoldsIt(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want int
	}{
		{-time.Second, 0}, {0, 0}, {TimingBound(0), 0}, {TimingBound(0) + 1, 1}, {TimingBound(1), 1}, {TimingBound(1) + 1, 2},
		{TimingBound(TimingBuckets - 1), TimingBuckets - 1}, {TimingBound(TimingBuckets-1) + 1, TimingBuckets},
		{time.Hour, 26},
	} {
		if got := timingBucket(c.d); got != c.want {
			t.Errorf("%v: got bucket %d, want %d", c.d, got, c.want)
		}
	}
}

func TestAStopwatchCountsAll(t *testing.T) {
	var w stopwatch
	w.add(TimingBound(0))
	w.add(TimingBound(3))
	w.add(time.Hour)
	got := w.read()
	want := Timing{Count: 3, Sum: time.Hour + TimingBound(0) + TimingBound(3)}
	want.Buckets[0], want.Buckets[3] = 1, 1
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAStoreTimesEachGroup(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before := s.Stat().Syncs.Count
	for range 3 {
		c := s.Begin()
		c.Put("key", []byte("value"))
		g := c.Group()
		c.End()
		if err := s.Wait(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Stat().Syncs; got.Count != before+3 || got.Sum <= 0 {
		t.Errorf("got %+v after 3 groups more than %d", got, before)
	}
}
