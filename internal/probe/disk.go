package probe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"peermesh/internal/insight"
)

const (
	syncTries = 15
	syncBytes = 4 << 10
)

// Disk writes and syncs a small file in the directory some times, and takes it away. The directory is made if it is
// not there.
func Disk(dir string) (s insight.Space) {
	if s.Err = os.MkdirAll(dir, 0o700); s.Err != nil {
		return s
	}
	s.Free, s.Total, s.Err = freeSpace(dir)
	if s.Err != nil {
		return s
	}
	s.Sync, s.Err = timeSync(dir)
	s.Full = errors.Is(s.Err, syscall.ENOSPC)
	return s
}

func timeSync(dir string) (median time.Duration, err error) {
	f, err := os.CreateTemp(dir, "doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page := make([]byte, syncBytes)
	var took []time.Duration
	for range syncTries {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// Newest is when the newest of a directory's files was written, as far as can be told.
func Newest(dir string) (newest time.Time) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // what cannot be read tells nothing
		}
		if info, err := d.Info(); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return nil
	})
	return newest
}
