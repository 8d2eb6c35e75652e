package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

const errorSharingViolation = syscall.Errno(32)

// lockFile takes the lock that the file stands for: nobody else may open it meanwhile.
func lockFile(path string) (io.Closer, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil,
		syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, errorSharingViolation) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// checkMode checks that dir is a directory. Who may write to it is decided by access lists, which
// mode bits do not show here.
func checkMode(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%w: not a directory", ErrForeign)
	}
	return nil
}

// checkKeyMode does nothing: who may read a file is decided by access lists.
func checkKeyMode(*os.File) error { return nil }

// syncDir does nothing: directory entries cannot be synced here.
func syncDir(string) error { return nil }

// allocated returns the size of a file: what it takes cannot be told.
func allocated(info os.FileInfo) int64 { return info.Size() }
