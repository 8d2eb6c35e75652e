package spool

import (
	"errors"
	"fmt"
	"net"
)

var (
	// ErrLocked: the directory is open in another process, or twice in this one.
	ErrLocked = errors.New("the directory is already in use")

	// ErrForeign: the directory is not one the store may use: others can write to it,
	// or it holds files that are not the store's.
	ErrForeign = errors.New("not a directory for the spool")

	// ErrDamaged: what is on disk is not what was written. The message says what was found.
	ErrDamaged = errors.New("damaged")

	// ErrNoKey, ErrWrongKey, ErrNotEncrypted: Options.Key is not the one that the store was made with,
	// or there should or should not be one. Nothing in the directory has been changed.
	ErrNoKey        = errors.New("the store is encrypted: give the key that it was made with")
	ErrWrongKey     = errors.New("the store is encrypted with another key: give the one that it was made with")
	ErrNotEncrypted = errors.New("the store is not encrypted: open it without a key, or begin with an empty directory")

	// ErrKeyFile: a key file cannot be read, others can read it, or it holds no key.
	ErrKeyFile = errors.New("key file")

	// ErrVersion: the store was written by a version of this package that knows another format.
	// Nothing in the directory has been changed.
	ErrVersion = errors.New("written by another version")

	// ErrFailed: an earlier write or sync failed. The store is read-only until it is opened again.
	ErrFailed = errors.New("the store is read-only after a failed write")

	// ErrFull: a limit of this package has been reached: MaxStreams, MaxPeers, MaxSeq or MaxRaise.
	ErrFull = errors.New("limit reached")

	// ErrInUse: the stream has been resumed and not released, or the queue is open.
	ErrInUse = errors.New("already in use")

	// ErrSpoolFull: quota or reserve hold back what was to be appended. Nothing has been written.
	ErrSpoolFull = errors.New("the spool is full")

	// ErrTooLarge: the record is larger than MaxRecordSize.
	ErrTooLarge = errors.New("the record is too large")

	// ErrClosed: the store is closed. It matches net.ErrClosed.
	ErrClosed error = closedError{}
)

type closedError struct{}

func (closedError) Error() string { return "the store is closed" }

func (closedError) Is(target error) bool { return target == net.ErrClosed }

// FullError says that an Append was refused for want of room. Nothing has been written.
// It matches ErrSpoolFull.
type FullError struct {
	Disk  bool  // the reserve of free space holds it back, not the quota
	Limit int64 // the quota, or what is to stay free, in bytes
	Used  int64 // of the quota
	Free  int64 // of the file system, if Disk
	Need  int64 // what was to be added
}

func (e *FullError) Error() string {
	if e.Disk {
		return fmt.Sprintf("%v: %d more bytes would leave less than %d of the %d that are free", ErrSpoolFull, e.Need, e.Limit, e.Free)
	}
	return fmt.Sprintf("%v: %d more bytes would exceed the quota of %d, of which %d are used", ErrSpoolFull, e.Need, e.Limit, e.Used)
}

// Is makes it match ErrSpoolFull.
func (e *FullError) Is(target error) bool { return target == ErrSpoolFull }
