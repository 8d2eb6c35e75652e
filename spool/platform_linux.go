package spool

import (
	"errors"
	"os"
	"syscall"
)

// syncData makes what was written to f durable, within the size it had before.
func syncData(f *os.File) error {
	for {
		// A signal before it began is no failure.
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// fileSystem returns the size of the file system of dir, and what is free of it for us.
func fileSystem(dir string) (total, free int64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, false
	}
	return int64(st.Blocks) * int64(st.Bsize), int64(st.Bavail) * int64(st.Bsize), true
}

// memory returns the size of the machine's memory; 0: unknown.
func memory() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// keepSize is FALLOC_FL_KEEP_SIZE.
const keepSize = 1

// allocate has the file system set aside the blocks of the first size bytes of a file, whose size
// stays. A file system that cannot do that is no error.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for {
		err = syscall.Fallocate(int(f.Fd()), keepSize, 0, size)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		err = nil
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return os.NewSyscallError("fallocate", err)
}

// extend makes a file larger by blocks that are set aside, so that the syncs of what is written there need not
// bring a new size to the disk. Where that does not work, the file grows by what is written.
func extend(f *os.File, size int64) {
	_ = syscall.Fallocate(int(f.Fd()), 0, 0, size) // on a full disk the write says so
}
