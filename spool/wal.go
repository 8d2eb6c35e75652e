package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// A file of the write-ahead log holds groups that Badger does not have yet, see ahead.go:
//
//	file    head (see fileseal.go) | entries | zeros, or entries of the file's last use
//	entry   size of the rest (4) | crc32c of the rest (4) | commit (8) | writes
//	writes  each: length of the key, key, 0 or length of the value plus 1, value; numbers are uvarints
//
// The entries of a file have consecutive commits. When Badger has them all, the file is written anew
// from its head on; what is left of its last use has lower commits, and ends the file. In an encrypted
// store the writes of an entry are sealed, with its commit for the nonce. Open carries out what it
// finds and begins new files, so a commit never comes twice under one key.
//
// Nothing in a file tells a tail that was never written from one that was lost: the mark does.
const (
	walMagic     = "pmspwal\n"
	walEntryHead = 4 + sumSize
	walCommit    = 8

	// maxWAL bounds what is read of a file of the log.
	maxWAL = 64 << 20
)

// walNames are the files of the log: while one is carried out, the other is written.
var walNames = [2]string{"spool.wal.0", "spool.wal.1"}

// appendWALEntry appends the entry of a commit.
func appendWALEntry(b []byte, c *fileCipher, commit uint64, ops []op) []byte {
	start := len(b)
	b = append(b, make([]byte, walEntryHead)...)
	b = binary.BigEndian.AppendUint64(b, commit)
	b = appendOps(b, ops)
	b = c.seal(b, start+walEntryHead+walCommit, int64(commit))
	rest := b[start+walEntryHead:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(rest)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(rest, castagnoli))
	return b
}

// parseWALEntry reads the first entry of b. errNoEntry: there is none, or it is torn.
func parseWALEntry(b []byte, c *fileCipher) (commit uint64, ops []op, rest []byte, err error) {
	if len(b) < walEntryHead {
		return 0, nil, nil, errNoEntry
	}
	size := int64(binary.BigEndian.Uint32(b))
	if size < walCommit || size > int64(len(b)-walEntryHead) {
		return 0, nil, nil, errNoEntry
	}
	f := b[walEntryHead : walEntryHead+size]
	if crc32.Checksum(f, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return 0, nil, nil, errNoEntry
	}
	commit = binary.BigEndian.Uint64(f)
	writes, err := c.open(f[walCommit:], int64(commit))
	if err == nil {
		ops, err = parseOps(writes, maxWAL)
	}
	return commit, ops, b[walEntryHead+size:], err
}

// walEntry is one entry as read.
type walEntry struct {
	commit uint64
	ops    []op
}

// parseWAL reads the entries of a file, up to the first that does not follow the one before.
func parseWAL(b, key []byte) ([]walEntry, error) {
	c, size, err := walFiles.parse(b, key)
	if err != nil {
		return nil, err
	}
	var entries []walEntry
	for rest := b[size:]; ; {
		var e walEntry
		e.commit, e.ops, rest, err = parseWALEntry(rest, c)
		if n := len(entries); errors.Is(err, errNoEntry) || n > 0 && e.commit != entries[n-1].commit+1 {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
}

// readWAL reads a file of the log. One that is not there, or that a kill cut short when it was made,
// has no entries.
func readWAL(path string, key []byte) ([]walEntry, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxWAL))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	entries, err := parseWAL(b, key)
	if errors.Is(err, ErrDamaged) {
		return nil, nil // whether something is missing now, the mark tells
	}
	if err != nil {
		return nil, fmt.Errorf("write-ahead log %s: %w", filepath.Base(path), err)
	}
	return entries, nil
}

// walFile is a file of the log that is being written. It is not safe for concurrent use.
type walFile struct {
	path  string
	key   []byte // nil: not encrypted
	least int64  // what it is made with
	most  int64  // what it grows to
	room  *room

	file *os.File
	seal *fileCipher
	head int64 // size of the head
	at   int64 // where the next entry goes
	size int64
	buf  []byte
}

// takes reports whether an entry of that size, at most, fits.
func (f *walFile) takes(entry int64) bool { return max(f.at, sealedFileHead)+entry <= f.most }

// append writes the entry of a commit and returns when it is on disk.
func (f *walFile) append(commit uint64, ops []op) error {
	if f.file == nil {
		if err := f.make(); err != nil {
			return err
		}
	}
	f.buf = appendWALEntry(f.buf[:0], f.seal, commit, ops)
	end := f.at + int64(len(f.buf))
	if err := f.write(f.buf, f.at); err != nil {
		return err
	}
	if end > f.size {
		size := max(end, min(2*f.size, f.most))
		if err := f.zero(end, size); err != nil {
			return err
		}
		f.size = size
	}
	if err := syncData(f.file); err != nil {
		return err
	}
	f.at = end
	return nil
}

// make makes the file, in place of one of an earlier life.
func (f *walFile) make() error {
	seal, err := newFileCipher(walFiles, f.key)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	head := walFiles.seal(seal)
	f.file, f.seal, f.head, f.at, f.size = file, seal, int64(len(head)), int64(len(head)), f.least
	if err := f.write(head, 0); err != nil {
		return err
	}
	if err := f.zero(f.head, f.least); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

var zeros [64 << 10]byte

// zero writes zeros, so that the syncs to come need not bring metadata to the disk.
func (f *walFile) zero(from, to int64) error {
	for ; from < to; from += int64(len(zeros)) {
		if err := f.write(zeros[:min(to-from, int64(len(zeros)))], from); err != nil {
			return err
		}
	}
	return nil
}

// write writes b. On a full disk the ballast gives way.
func (f *walFile) write(b []byte, at int64) error {
	_, err := f.file.WriteAt(b, at)
	if errors.Is(err, syscall.ENOSPC) {
		if err = f.room.dropBallast(); err == nil {
			_, err = f.file.WriteAt(b, at)
		}
	}
	return err
}

// reset forgets the entries: Badger has them.
func (f *walFile) reset() { f.at = f.head }

// grown reports whether the file takes more room than one that rests.
func (f *walFile) grown() bool { return f.file != nil && f.size > f.least }

// shrink gives back the room of a file that was reset.
func (f *walFile) shrink() error {
	if !f.grown() {
		return nil
	}
	f.size, f.buf = f.least, nil
	return f.file.Truncate(f.least)
}

func (f *walFile) close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// removeWAL removes the files of the log from dir, so that a commit begun anew is never taken for one
// of theirs.
func removeWAL(dir string) error {
	removed := false
	for _, name := range walNames {
		err := os.Remove(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		removed = removed || err == nil
	}
	if !removed {
		return nil
	}
	return syncDir(dir)
}
