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
	most := int64(r.Maxrss) //nolint:unconvert // 32 bits wide on some systems
	u := usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), Memory: most << 10}
	switch runtime.GOOS {
	case "linux":
		// After an exec, getrusage still counts what the parent had.
		if status, err := os.ReadFile("/proc/self/status"); err == nil {
			if peak := kilobytes(string(status), "VmHWM:"); peak > 0 {
				u.Memory = peak
			}
			u.Resident = kilobytes(string(status), "VmRSS:")
		}
	case "darwin":
		u.Memory = most // bytes, where others count in KiB
	}
	return u
}

// kilobytes is a line of /proc/PID/status in bytes; 0 if there is none.
func kilobytes(status, line string) int64 {
	for l := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(l, line); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}
