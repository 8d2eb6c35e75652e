package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// How long a reader waits for a process that made the file but has not filled it yet. That happens only where the
// file system has no hard links (see publish), and then for the time of one small write.
const (
	emptyWait = 2 * time.Second
	emptyPoll = 10 * time.Millisecond
)

// loadOrCreate returns the content of the file at path. If there is none it publishes what fresh returns. However
// many processes call it at once, all return the same bytes. It may wait up to emptyWait for one of them.
func loadOrCreate(path string, fresh func() ([]byte, error), link linker) ([]byte, error) {
	data, err := readFilled(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	data, err = fresh()
	if err != nil {
		return nil, err
	}
	err = publish(path, data, link)
	if errors.Is(err, fs.ErrExist) {
		return readFilled(path) // another process was first, and its file is the one that counts
	}
	if err != nil {
		return nil, err
	}
	return readPrivate(path)
}

// readFilled is readPrivate for a file that another process may be writing at this moment.
func readFilled(path string) ([]byte, error) {
	for start := time.Now(); ; time.Sleep(emptyPoll) {
		data, err := readPrivate(path)
		if err != nil || len(data) > 0 {
			return data, err
		}
		if time.Since(start) >= emptyWait {
			return nil, fmt.Errorf("%s is empty: its making was cut short; remove it to have it made anew", path)
		}
	}
}

// readPrivate returns the content of a secret file, and refuses one that other users could read, change or replace.
func readPrivate(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// The open file is asked, not the path: what is checked is what is read.
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory", path)
	}
	if err := checkPrivate(path, info); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1)) // one byte too many is enough for readPEM to refuse it
}

// linker is os.Link, or in tests a file system that has no links.
type linker func(from, to string) error

// publish puts data into a new file at path with mode 0600, on disk before it returns. If path is taken the error
// matches fs.ErrExist and path is untouched. Readers see no file, or all of it: data is written beside path under
// another name and given its own by a hard link, which unlike a rename fails when the name is taken.
//
// Where hard links do not work (FAT, some network and FUSE mounts) it makes the file in place, and a reader can see
// it empty for the time of one write; readFilled waits for that.
func publish(path string, data []byte, link linker) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	info, err := f.Stat()
	if err == nil {
		err = checkPrivate(path, info) // rather than make a file that readPrivate would refuse
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if err := fill(f, data); err != nil {
		return err
	}
	err = link(f.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	if err != nil {
		err = createInPlace(path, data) // if the cause was not the link, this fails for the same cause
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// replace puts data in the place of the file at path, on disk before it returns.
func replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	if err := fill(f, data); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// createInPlace is publish without links.
func createInPlace(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := fill(f, data); err != nil {
		return errors.Join(err, os.Remove(path)) // O_EXCL: the file is ours to remove
	}
	return nil
}

// fill writes data, forces it to disk and closes f.
func fill(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir forces a new name in dir to disk, so that a node does not wake up as somebody else after a power cut.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // file systems that do not know the operation have no other way to offer
	}
	return errors.Join(err, d.Close())
}
