//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris)

package main

import "time"

var processStart = time.Now()

// monotonic stands in for CLOCK_MONOTONIC where there is none: the wall clock at the
// start of the process plus the monotonic time since. It never jumps in one process;
// between processes it agrees as well as the wall clock did when they began.
func monotonic() int64 { return processStart.UnixNano() + int64(time.Since(processStart)) }
