package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files of ours in the directory; the rest is Badger's.
const (
	lockName      = "spool.lock"
	markName      = "spool.mark"
	markDraftName = "spool.mark.new"
	attemptName   = "spool.opening"
	manifestName  = "MANIFEST"
)

// place is a directory that has been checked and locked, and what was found in it.
type place struct {
	dir       string // absolute
	lock      io.Closer
	attempt   *attempt
	marked    bool     // the mark file is there
	manifest  bool     // Badger's manifest is there
	badger    bool     // some file of Badger's is there
	emptyLogs []string // paths
}

// claim makes dir if need be, checks it and takes the lock.
func claim(dir string) (*place, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := checkMode(dir); err != nil {
		return nil, err
	}
	// Before the first file of ours is made: this may be somebody's home directory.
	if _, err := listOwn(dir); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	p := &place{dir: dir, lock: lock}
	err = p.survey()
	if err == nil {
		p.attempt, err = readAttempt(dir)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return p, nil
}

// survey looks at what is there. Under the lock: another opener's files come and go.
func (p *place) survey() error {
	entries, err := listOwn(p.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); name {
		case lockName, markDraftName, attemptName, ballastName:
			continue
		case markName:
			p.marked = true
			continue
		case manifestName:
			p.manifest = true
		}
		p.badger = true
		if ext := filepath.Ext(e.Name()); ext != ".mem" && ext != ".vlog" {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Size() == 0 {
			p.emptyLogs = append(p.emptyLogs, filepath.Join(p.dir, e.Name()))
		}
	}
	return nil
}

// removeEmptyLogs clears what a kill between the creation of a log and its first byte leaves
// behind. Badger refuses to open with it.
func (p *place) removeEmptyLogs() error {
	for _, path := range p.emptyLogs {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// makeDir is os.MkdirAll with mode 0700 that also syncs the entries it makes.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// listOwn lists dir and refuses anything that is not a plain file of the store.
func listOwn(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !ownName(e.Name()) {
			return nil, fmt.Errorf("%w: it holds %q", ErrForeign, e.Name())
		}
		if !e.Type().IsRegular() {
			return nil, fmt.Errorf("%w: %q is not a plain file", ErrForeign, e.Name())
		}
	}
	return entries, nil
}

func ownName(name string) bool {
	switch name {
	case lockName, markName, markDraftName, attemptName, ballastName, walNames[0], walNames[1]:
		return true
	case manifestName, "MANIFEST-REWRITE", registryName, "REWRITE-KEYREGISTRY", discardName, "LOCK":
		return true
	}
	if _, ok := segmentNumber(name); ok {
		return true
	}
	ext := filepath.Ext(name)
	if ext != ".mem" && ext != ".vlog" && ext != ".sst" {
		return false
	}
	number := strings.TrimSuffix(name, ext)
	return number != "" && strings.Trim(number, "0123456789") == ""
}
