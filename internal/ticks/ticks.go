// Package ticks counts something that passes with time and is cheap to read: the processor's time stamp counter, where that can
// be relied on. It tells of a moment whether it was just now, and nothing more: how many ticks a second has is not known here.
//
//	at := ticks.Count() // before the clock is read
//	now := time.Now()
//	...
//	if ticks.Count()-at > few {
//		now = time.Now()
//	}
//
// The difference is unsigned: a counter that began anew, or that of another processor that lags behind, is far away too.
package ticks

import "time"

// Count returns the count so far. A second has a hundred million or more where Usable is true; elsewhere it means nothing.
func Count() uint64 { return count() }

// Usable reports whether ticks go by whenever time goes by on the monotonic clock of the calling goroutine: whatever the processor
// rests, whether the process runs or is stopped. It is false for a processor without such a counter, and in a bubble of
// testing/synctest, where time goes by in leaps.
func Usable() bool {
	// A bubble's clock begins in the year 2000, which is decades before or after anything that happened outside.
	age := time.Since(began)
	return steady && 0 <= age && age < 10*365*24*time.Hour
}

var began = time.Now()
