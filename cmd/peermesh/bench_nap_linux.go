package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// nap sleeps for some 60 us at least. time.Sleep may take a millisecond for that,
// and a sender that wakes up so late sends crowds.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, nil) // interrupted: the caller looks at the time again
}
