//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris

package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usageNow is what this process has used so far.
func usageNow() usage {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return usage{} // the kernel refuses this to nobody
	}
	return usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), Memory: peakMemory(int64(r.Maxrss))} //nolint:unconvert // 32 bits wide on some systems
}

// peakMemory is the most memory the process has had, in bytes. Where Linux tells, it
// is taken from there: after an exec, getrusage still counts what the parent had.
func peakMemory(maxrss int64) int64 {
	switch runtime.GOOS {
	case "linux":
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return maxrss << 10 // no /proc here
		}
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
				if err == nil {
					return kb << 10
				}
			}
		}
		return maxrss << 10
	case "darwin":
		return maxrss // bytes, where others count in KiB
	}
	return maxrss << 10
}
