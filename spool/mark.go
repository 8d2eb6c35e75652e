package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// The mark file says what Badger must know of. Badger opens without complaint when the tail of a
// log is torn or a log is missing; the mark notices, and can name what is gone.
//
// It is a journal, begun anew at each Open and when it is full:
//
//	file    "pmspool\n" (8) | version (2) | crc32c (4) | entries | zeros
//	entry   size of the rest (4) | crc32c of the rest (4) | fields
//	fields  store id (16), then as uvarints: incarnation, possible, certain,
//	        queues, and for each of these: id, trim, next, length of the name, name
//
// The entry of a group is synced while Badger commits that group, so it can only say that the
// group is possible, and that the group before is certain: acknowledged, hence on disk in both.
// When the store falls idle an entry without queues makes the last group certain as well.
//
//	Badger's last group < certain          groups are lost: damage
//	certain <= Badger's last <= possible+1 normal: the last group may or may not have made it
//	possible+1 < Badger's last             the mark lacks entries: damage of the mark
//
// A queue is named in the first entry of a file that speaks of it. The first entry of a file
// speaks of all queues. The file of an encrypted store is sealed: see fileseal.go.
const (
	markMagic     = "pmspool\n"
	fileHead      = 8 + 2 + sumSize
	markEntryHead = 4 + sumSize

	// maxMark bounds what is read of a mark file: MaxStreams queues with the longest names.
	maxMark = 128 << 20
)

// mark is what the entries of a mark file add up to.
type mark struct {
	id          [16]byte
	incarnation uint64
	possible    uint64
	certain     uint64
	queues      map[uint64]markedQueue // as of certain
}

// markedQueue is where a queue stood.
type markedQueue struct {
	name       string // "" in an entry: named before
	trim, next uint64
}

// markEntry is one entry.
type markEntry struct {
	id                [16]byte
	incarnation       uint64
	possible, certain uint64
	queues            map[uint64]markedQueue
	rest              []byte // behind it, when parsed
}

// append appends the entry, sealed for its place in the file.
func (e *markEntry) append(b []byte, c *fileCipher, at int64) []byte {
	start := len(b)
	b = append(b, make([]byte, markEntryHead)...)
	b = append(b, e.id[:]...)
	b = binary.AppendUvarint(b, e.incarnation)
	b = binary.AppendUvarint(b, e.possible)
	b = binary.AppendUvarint(b, e.certain)
	b = binary.AppendUvarint(b, uint64(len(e.queues)))
	for id, q := range e.queues {
		b = binary.AppendUvarint(b, id)
		b = binary.AppendUvarint(b, q.trim)
		b = binary.AppendUvarint(b, q.next)
		b = binary.AppendUvarint(b, uint64(len(q.name)))
		b = append(b, q.name...)
	}
	b = c.seal(b, start+markEntryHead, at)
	rest := b[start+markEntryHead:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(rest)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(rest, castagnoli))
	return b
}

// parseMarkEntry reads the first entry of b, which lies at a place in the file. errNoEntry: there is
// none, or it is torn.
func parseMarkEntry(b []byte, c *fileCipher, at int64) (e markEntry, err error) {
	if len(b) < markEntryHead {
		return e, errNoEntry
	}
	size := int64(binary.BigEndian.Uint32(b))
	if size < 16 || size > int64(len(b)-markEntryHead) {
		return e, errNoEntry
	}
	f := b[markEntryHead : markEntryHead+size]
	if crc32.Checksum(f, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return e, errNoEntry
	}
	e.rest = b[markEntryHead+size:]
	if f, err = c.open(f, at); err != nil {
		return e, err
	}
	if len(f) < len(e.id) {
		return e, fmt.Errorf("%w: an entry of %d bytes", ErrDamaged, len(f))
	}
	e.id = [16]byte(f)
	r := uvarints{f[16:], nil}
	e.incarnation = r.next(maxIncarnation)
	e.possible = r.next(1<<64 - 1)
	e.certain = r.next(e.possible)
	n := r.next(MaxStreams)
	if r.err == nil && n > 0 {
		e.queues = make(map[uint64]markedQueue, min(n, uint64(len(f))/4))
	}
	for range n {
		id := r.next(1<<64 - 1)
		q := markedQueue{trim: r.next(MaxSeq), next: r.next(MaxSeq + 1)}
		q.name = string(r.bytes(MaxStreamName))
		if r.err != nil {
			return e, r.err
		}
		if id == 0 || q.trim >= q.next {
			return e, fmt.Errorf("%w: queue %d, trim %d, next %d contradict each other", ErrDamaged, id, q.trim, q.next)
		}
		e.queues[id] = q
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%w: %d bytes too many", ErrDamaged, len(r.rest))
	}
	return e, r.err
}

var errNoEntry = errors.New("no entry")

// bytes returns a run of bytes led by its length.
func (r *uvarints) bytes(limit uint64) []byte {
	n := r.next(limit)
	if r.err == nil && n > uint64(len(r.rest)) {
		r.err = fmt.Errorf("%w: %d bytes of %d", ErrDamaged, len(r.rest), n)
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// parseMark adds up the entries of a mark file. It ends at the first that is not whole: that is
// how a kill leaves it.
func parseMark(b, key []byte) (mark, error) {
	c, size, err := markFiles.parse(b, key)
	if err != nil {
		return mark{}, err
	}
	m := mark{queues: make(map[uint64]markedQueue)}
	var last markEntry
	for n, rest := 0, b[size:]; ; n++ {
		e, err := parseMarkEntry(rest, c, int64(len(b)-len(rest)))
		if errors.Is(err, errNoEntry) {
			if n == 0 {
				return mark{}, fmt.Errorf("%w: no entry", ErrDamaged)
			}
			break
		}
		if err == nil && (e.possible < last.possible || e.certain < last.certain) {
			err = fmt.Errorf("%w: entry %d goes back", ErrDamaged, n)
		}
		if err != nil {
			return mark{}, err
		}
		if n == 0 || last.possible <= e.certain {
			m.add(last)
		}
		last, rest = e, e.rest
	}
	if last.possible <= last.certain {
		m.add(last)
	}
	m.id, m.incarnation, m.possible, m.certain = last.id, last.incarnation, last.possible, last.certain
	return m, nil
}

// add takes in what an entry says of queues.
func (m *mark) add(e markEntry) {
	for id, q := range e.queues {
		if q.name == "" {
			q.name = m.queues[id].name
		}
		m.queues[id] = q
	}
}

// markFile is the mark on disk. It is not safe for concurrent use.
type markFile struct {
	dir  string
	key  []byte // nil: not encrypted
	file *os.File
	mark             // as written: queues as of the last entry
	room int         // bytes of entries a file gets
	at   int64       // where the next entry goes
	size int64       // of the file
	seal *fileCipher // of the file
	buf  []byte
}

func readMark(dir string, key []byte) (mark, error) {
	f, err := os.Open(filepath.Join(dir, markName))
	if err != nil {
		return mark{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxMark))
	if err = errors.Join(err, f.Close()); err != nil {
		return mark{}, err
	}
	m, err := parseMark(b, key)
	if err != nil {
		return mark{}, fmt.Errorf("mark file %s: %w", markName, err)
	}
	return m, nil
}

// begin starts a new mark file that says m and has room for need bytes of entries or more, so
// that it is there whole or not at all. The old one, if any, is gone then.
func (f *markFile) begin(m mark, need int) error {
	seal, err := newFileCipher(markFiles, f.key)
	if err != nil {
		return err
	}
	first := markEntry{m.id, m.incarnation, m.possible, m.certain, m.queues, nil}
	head := markFiles.seal(seal)
	b := first.append(head, seal, int64(len(head)))
	at := int64(len(b))
	b = append(b, make([]byte, max(f.room, need))...) // so that a sync need not bring metadata to the disk
	draft := filepath.Join(f.dir, markDraftName)
	file, err := os.OpenFile(draft, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = writePages(file, b)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(draft, filepath.Join(f.dir, markName))
	}
	if err == nil {
		err = syncDir(f.dir)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	old := f.file
	f.file, f.mark, f.at, f.size, f.seal = file, m, at, int64(len(b)), seal
	if old != nil {
		return old.Close()
	}
	return nil
}

// writePages writes page by page: what is written at once some systems keep, and count, as one piece from
// then on, whatever is changed of it.
func writePages(f *os.File, b []byte) error {
	for len(b) > 0 {
		n, err := f.Write(b[:min(len(b), 4096)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// write appends an entry and returns when it is on disk. Queues unknown to the file must be named.
func (f *markFile) write(e markEntry) error {
	f.buf = e.append(f.buf[:0], f.seal, f.at)
	if f.at+int64(len(f.buf)) > f.size {
		// All that was possible before e is certain: its group is begun after theirs were on disk.
		f.certain = f.possible
		if err := f.begin(f.mark, len(f.buf)); err != nil {
			return err
		}
		f.buf = e.append(f.buf[:0], f.seal, f.at)
	}
	if _, err := f.file.WriteAt(f.buf, f.at); err != nil {
		return err
	}
	if err := syncData(f.file); err != nil {
		return err
	}
	f.at += int64(len(f.buf))
	f.id, f.incarnation, f.possible, f.certain = e.id, e.incarnation, e.possible, e.certain
	f.add(e)
	return nil
}

// settle makes certain what is possible, if it is not.
func (f *markFile) settle() error {
	if f.certain == f.possible {
		return nil
	}
	return f.write(markEntry{id: f.id, incarnation: f.incarnation, possible: f.possible, certain: f.possible})
}

func (f *markFile) close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
