package reference

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData returns when what was written to f is on disk.
func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
