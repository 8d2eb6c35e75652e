package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
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

// layout is the entry of a commit as it is written: bytes, and large values between them, where they lie.
type layout struct {
	bytes []byte
	large []largeValue
}

// largeValue is written behind the first of an entry's bytes.
type largeValue struct {
	behind int
	value  []byte
}

// frame makes it the entry of a commit. Values from least on are large; a sealed entry has none.
func (e *layout) frame(c *fileCipher, commit uint64, ops []op, least int) {
	b := append(e.bytes[:0], make([]byte, walEntryHead)...)
	b = binary.BigEndian.AppendUint64(b, commit)
	clear(e.large)
	e.large = e.large[:0]
	for _, o := range ops {
		if c != nil || len(o.value) < max(least, 1) {
			b = appendOp(b, o)
			continue
		}
		b = appendOpHead(b, o)
		e.large = append(e.large, largeValue{len(b), o.value})
	}
	e.bytes = c.seal(b, walEntryHead+walCommit, int64(commit))
	size, sum := 0, uint32(0)
	_ = e.each(func(part []byte, at int) error { // it returns none
		size = at + len(part)
		if at == 0 {
			part = part[walEntryHead:]
		}
		sum = crc32.Update(sum, castagnoli, part)
		return nil
	})
	binary.BigEndian.PutUint32(e.bytes, uint32(size-walEntryHead))
	binary.BigEndian.PutUint32(e.bytes[4:], sum)
}

// each calls f with all that is to be written, in order, and where in the entry that is. It ends at the
// first error.
func (e *layout) each(f func(part []byte, at int) error) error {
	at, from := 0, 0
	for _, l := range e.large {
		part := e.bytes[from:l.behind]
		if err := f(part, at); err != nil {
			return err
		}
		at, from = at+len(part), l.behind
		if err := f(l.value, at); err != nil {
			return err
		}
		at += len(l.value)
	}
	if from == len(e.bytes) {
		return nil
	}
	return f(e.bytes[from:], at)
}

// size is that of the whole entry.
func (e *layout) size() int64 {
	size := int64(len(e.bytes))
	for _, l := range e.large {
		size += int64(len(l.value))
	}
	return size
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
	at     int64 // in the file
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
		e := walEntry{at: int64(len(b) - len(rest))}
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

// walFirst returns the first commit of a file of the log; 0: there is none.
func walFirst(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	b := make([]byte, fileHead+walEntryHead+walCommit) // segments are not sealed
	n, err := io.ReadFull(f, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		n, err = 0, nil
	}
	if err = errors.Join(err, f.Close()); err != nil || n == 0 {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[fileHead+walEntryHead:]), nil
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
	b, err := readEntries(f)
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

// readEntries reads the head of a file and what may be entries: not the zeros behind them, of which
// there are many. It takes no more memory than it reads.
func readEntries(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	end := min(info.Size(), maxWAL)
	b, err := readMore(f, nil, min(sealedFileHead, end))
	if err != nil || len(b) < fileHead {
		return b, err
	}
	at := int64(fileHead)
	if binary.BigEndian.Uint16(b[8:])&fileSealed != 0 {
		at = sealedFileHead
	}
	for end-at >= walEntryHead {
		if b, err = readMore(f, b, at+walEntryHead); err != nil {
			return nil, err
		}
		size := int64(binary.BigEndian.Uint32(b[at:]))
		if size < walCommit || size > end-at-walEntryHead {
			break
		}
		at += walEntryHead + size
		if b, err = readMore(f, b, at); err != nil {
			return nil, err
		}
	}
	return b[:min(at, int64(len(b)))], nil
}

// readMore reads a file, the beginning of which is b, up to end.
func readMore(f *os.File, b []byte, end int64) ([]byte, error) {
	from := int64(len(b))
	if end <= from {
		return b, nil
	}
	b = slices.Grow(b, int(end-from))[:end]
	_, err := f.ReadAt(b[from:], from)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // it has become shorter
	}
	return b, err
}

// walFile is a file of the log that is being written. It is not safe for concurrent use.
type walFile struct {
	path  string
	key   []byte // nil: not encrypted
	large int    // bytes of a value from which on it is not copied
	least int64  // what it is made with
	most  int64  // what it grows to
	once  bool   // it is not written again from its head on: no zeros are written ahead
	step  int64  // how much is allocated ahead instead
	room  *room

	file  *os.File
	seal  *fileCipher
	named bool   // its name is on disk
	head  int64  // size of the head
	at    int64  // where the next entry goes
	size  int64  // of the file, made with zeros
	next  layout // whose memory is used again
}

// takes reports whether an entry of that size, at most, fits.
func (f *walFile) takes(entry int64) bool { return max(f.at, sealedFileHead)+entry <= f.most }

// put writes the entry of a commit, from at on. It is on disk when sync has returned.
func (f *walFile) put(commit uint64, ops []op) (at int64, err error) {
	if f.file == nil {
		if err := f.make(); err != nil {
			return 0, err
		}
	}
	f.next.frame(f.seal, commit, ops, f.large)
	at, end := f.at, f.at+f.next.size()
	if f.once && end > f.size {
		f.size = max(end, min(end+f.step, f.most))
		if _, short := f.room.short(f.size - end); !short {
			extend(f.file, f.size)
		}
	}
	if err := f.next.each(func(part []byte, behind int) error { return f.write(part, at+int64(behind)) }); err != nil {
		return 0, err
	}
	if end > f.size && !f.once {
		size := max(end, min(2*f.size, f.most))
		if err := f.zero(end, size); err != nil {
			return 0, err
		}
		f.size = size
	}
	f.at = end
	clear(f.next.large)
	return at, nil
}

// sync returns when all that was put is on disk. The next entry may be put meanwhile.
func (f *walFile) sync() error {
	if err := syncData(f.file); err != nil || f.named {
		return err
	}
	f.named = true
	return syncDir(filepath.Dir(f.path))
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
	if f.once {
		return nil // the first sync does the rest
	}
	if err := f.zero(f.head, f.least); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	f.named = true
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
	f.size, f.next = f.least, layout{}
	return f.file.Truncate(f.least)
}

// close closes the file. One that is written once gives back what was allocated ahead.
func (f *walFile) close() error {
	if f.file == nil {
		return nil
	}
	var err error
	if f.once && f.size > f.at {
		err = f.file.Truncate(f.at)
	}
	return errors.Join(err, f.file.Close())
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
