package spool

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// TimingBuckets is how many buckets a Timing has.
const TimingBuckets = 18

// Timing is a histogram of durations since Open.
type Timing struct {
	Count uint64
	Sum   time.Duration
	// Buckets count those of at most TimingBound(i) and more than TimingBound(i-1). What took
	// longer than the last bound, 8.4 s, is in Count alone.
	Buckets [TimingBuckets]uint64
}

// leastTiming is the first bound: no disk is faster.
const leastTiming = 64 * time.Microsecond

// TimingBound is the upper bound of bucket i: 64 us, doubled with each.
func TimingBound(i int) time.Duration { return leastTiming << i }

// stopwatch adds durations up. Safe for concurrent use.
type stopwatch struct {
	count   atomic.Uint64
	sum     atomic.Int64
	buckets [TimingBuckets]atomic.Uint64
}

func (w *stopwatch) add(d time.Duration) {
	w.count.Add(1) // first, see read
	w.sum.Add(int64(d))
	if i := timingBucket(d); i < TimingBuckets {
		w.buckets[i].Add(1)
	}
}

// timingBucket is the first bucket whose bound d does not exceed; beyond all of them it is
// TimingBuckets or more.
func timingBucket(d time.Duration) int {
	if d <= leastTiming {
		return 0
	}
	return bits.Len64(uint64((d - 1) / leastTiming))
}

// read returns a snapshot in which Count is no less than the buckets together.
func (w *stopwatch) read() (t Timing) {
	for i := range w.buckets {
		t.Buckets[i] = w.buckets[i].Load()
	}
	t.Sum, t.Count = time.Duration(w.sum.Load()), w.count.Load()
	return t
}
