package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// A block is a run of records under one key, written once and deleted once:
//
//	key    'q' | queue (8) | base (8) | part (2) | parts (2) | last (8) | edition (8) | size (4) | crc32c (4)
//	value  version (1) | wall clock of its group, Unix ns (8) | bytes of records | crc32c over key and all before (4)
//
// All that must be known of a block without reading it is in its key, so opening reads keys only.
// A record larger than a block is a block of its own, in parts of one key each.
const (
	blockPrefix  = 'q'
	blockKeySize = 1 + 8 + 8 + 2 + 2 + 8 + 8 + 4 + 4
	blockHead    = 1 + 8
	blockTail    = sumSize

	// MaxRecordSize is the size of the largest record.
	MaxRecordSize = 64 << 20

	// blockCost is what a block is charged beside its records: key, header, Badger's own.
	blockCost = 128

	smallestBuffer = 1 << 10
)

// block is what memory knows of a block. Guarded by Store.change, but buf's sealed part.
type block struct {
	q          *Queue
	prev, next *block // of those of the queue that are not gone
	base, last uint64
	edition    uint64
	size       int // bytes of records
	parts      int
	left       uint64 // unsettled
	written    bool   // taken by the committer, or found at Open
	committed  bool
	gone       bool // wholly settled
	dirty      bool // in marked of the group being filled
	settled    []SeqRange
	tries      []Try
	through    uint64 // all after last up to here is settled; 0 or last: nothing
	at         time.Time
	wrote      int64    // bytes of blocks written when it was; 0: by an earlier life
	buf        []byte   // header and records, until Badger has it, or a segment
	seg        *segment // that has it; nil: Badger has it, or will
	spots      []spot   // of its parts there
}

// Block is a run of records of a queue, as Read returns it.
type Block struct {
	Base, Last uint64
	Edition    uint64
	At         time.Time // wall clock when its group was committed
	Data       []byte    // the records one after the other, as framed; settled ones are among them
}

// DamagedError says that records cannot be read. It matches ErrDamaged.
type DamagedError struct {
	From, To uint64
	Err      error // what was found
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("seqs %d to %d: %v", e.From, e.To, e.Err)
}

// Is makes it match ErrDamaged.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns what was found.
func (e *DamagedError) Unwrap() error { return e.Err }

// Append adds a record to q. frame must append at most size bytes to dst, for a record whose seq
// is base+delta, and return the result. record aliases what will be written; it stays valid and
// unchanged for as long as somebody holds it, and must not be changed, nor what lies behind it up to
// its capacity: there the next record of q goes, if it has the same base and there is room.
//
// It never waits. Errors, with nothing changed: ErrSpoolFull (a *FullError), ErrFailed, ErrClosed,
// ErrTooLarge above MaxRecordSize, ErrFull above MaxSeq.
func (c *Change) Append(q *Queue, size int, frame func(dst []byte, delta uint64) []byte) (seq, base uint64, record []byte, err error) {
	if err := c.appendable(q, size); err != nil {
		return 0, 0, nil, err
	}
	if need := int64(size) + blockCost; need <= c.granted {
		c.granted -= need
	} else if err := c.s.fits(int64(size)); err != nil {
		return 0, 0, nil, err
	}
	c.Skip(q, q.reserved)
	b := q.fill
	if b == nil || b.gone || len(b.buf)+size > blockHead+c.s.profile.block || b.last-b.base >= maxBlockCount-1 {
		b = c.newBlock(q, size)
	}
	seq = q.rec.next
	b.room(size)
	start := len(b.buf)
	buf := frame(b.buf, seq-b.base)
	if len(buf) < start || len(buf)-start > size {
		panic(fmt.Sprintf("spool: frame made a record of %d bytes, promised were %d", len(buf)-start, size))
	}
	b.buf = buf
	record = buf[start:]
	b.size += len(record)
	b.last = seq
	b.left++
	q.rec.next++
	q.bytes += int64(len(record))
	q.left++
	c.s.held += int64(len(record))
	c.g.size += len(record)
	c.touch(q)
	return seq, b.base, record, nil
}

// maxBlockCount bounds the records of a block, and with them what is kept of it when it is partly
// settled.
const maxBlockCount = 1 << 14

func (c *Change) appendable(q *Queue, size int) error {
	s := c.s
	if c.g == nil || q.closed {
		return ErrClosed
	}
	if err := s.writable(); err != nil {
		return err
	}
	if size > MaxRecordSize {
		return fmt.Errorf("%w: %d bytes, allowed are %d", ErrTooLarge, size, MaxRecordSize)
	}
	if q.rec.next > MaxSeq {
		return fmt.Errorf("%w: seq %d", ErrFull, MaxSeq)
	}
	return nil
}

// newBlock begins a block at the end of q that can hold at least size bytes.
func (c *Change) newBlock(q *Queue, size int) *block {
	b := &block{q: q, base: q.rec.next, edition: q.edition, parts: 1, prev: q.tail}
	if size > c.s.profile.block {
		b.parts = (size + c.s.profile.block - 1) / c.s.profile.block
	}
	first := min(max(smallestBuffer, q.lastSize, size), max(size, c.s.profile.block))
	b.buf = append(make([]byte, 0, blockHead+first+blockTail), make([]byte, blockHead)...)
	q.link(b)
	q.fill = b
	c.g.fresh = append(c.g.fresh, b)
	q.bytes += blockCost
	c.s.held += blockCost
	return b
}

// room makes sure that size bytes and the checksum fit. Records given out keep the old buffer.
func (b *block) room(size int) {
	need := len(b.buf) + size + blockTail
	if need <= cap(b.buf) {
		return
	}
	grown := make([]byte, len(b.buf), max(need, min(4*cap(b.buf), blockHead+b.q.s.profile.block+blockTail)))
	copy(grown, b.buf)
	b.buf = grown
}

// link puts b at the end of the queue's blocks.
func (q *Queue) link(b *block) {
	b.prev = q.tail
	if q.tail != nil {
		q.tail.next = b
	}
	q.tail = b
	q.blocks = append(q.blocks, b)
}

// drop takes a wholly settled block out of the queue; its range becomes part of what the block
// before it, or the trim point, says is settled.
func (c *Change) drop(b *block) {
	q, s := b.q, c.s
	end := max(b.last, b.through)
	if b.prev != nil {
		b.prev.next = b.next
		b.prev.through = end
		c.mark(b.prev)
	} else {
		q.rec.trim = end
		c.touch(q)
	}
	if b.next != nil {
		b.next.prev = b.prev
	} else {
		q.tail = b.prev
	}
	b.gone = true
	b.settled, b.tries = nil, nil
	q.bytes -= int64(b.size) + blockCost
	s.held -= int64(b.size) + blockCost
	c.mark(b) // its settlements go as well
	if q.fill == b {
		q.fill = nil
	}
	if b.written {
		s.bury(b)
		s.pace.died(b)
	}
	if b.committed {
		b.buf = nil // a flying one is being sealed
	}
	if b.seg != nil {
		s.thins(b.seg)
		b.seg.leave(b)
	}
	if q.tail == nil {
		s.sweep.emptied = true
	}
	q.holes++
	if q.holes > 32 && q.holes > len(q.blocks)/2 {
		q.compact()
	}
}

// compact forgets blocks that are gone.
func (q *Queue) compact() {
	kept := make([]*block, 0, len(q.blocks)-q.holes)
	for _, b := range q.blocks {
		if !b.gone {
			kept = append(kept, b)
		}
	}
	q.blocks, q.holes = kept, 0
}

// find returns the first block whose last seq is not below from and that is not gone.
func (q *Queue) find(from uint64) *block {
	i := sort.Search(len(q.blocks), func(i int) bool { return q.blocks[i].last >= from })
	for ; i < len(q.blocks); i++ {
		if b := q.blocks[i]; !b.gone {
			return b
		}
	}
	return nil
}

// bury has the keys of a block deleted. They go some at a time: a block that is settled is never
// read again, whether its keys are there or not.
func (s *Store) bury(b *block) {
	for part := range b.parts {
		s.dead = append(s.dead, op{key: b.key(part), of: b, kept: b.seg != nil})
	}
}

// maxBuried bounds how many blocks one transaction deletes; Badger bounds the transaction.
const maxBuried = 1000

// buried takes the deletions of the next group. The parts of a block go together.
func (s *Store) buried() []op {
	n := min(len(s.dead), maxBuried)
	for 0 < n && n < len(s.dead) && sameBlock(s.dead[n-1].key, s.dead[n].key) {
		n++
	}
	ops := s.dead[:n:n]
	s.dead = s.dead[n:]
	if len(s.dead) == 0 {
		s.dead = nil
	}
	return ops
}

// sameBlock says whether two keys are of one block.
func sameBlock(a, b []byte) bool { return string(a[:17]) == string(b[:17]) }

func (b *block) key(part int) []byte {
	size := b.size
	k := append(make([]byte, 0, blockKeySize), blockPrefix)
	k = binary.BigEndian.AppendUint64(k, b.q.rec.id)
	k = binary.BigEndian.AppendUint64(k, b.base)
	k = binary.BigEndian.AppendUint16(k, uint16(part))
	k = binary.BigEndian.AppendUint16(k, uint16(b.parts))
	k = binary.BigEndian.AppendUint64(k, b.last)
	k = binary.BigEndian.AppendUint64(k, b.edition)
	k = binary.BigEndian.AppendUint32(k, uint32(size))
	return binary.BigEndian.AppendUint32(k, crc32.Checksum(k, castagnoli))
}

// keySum is the checksum that a block's key ends with.
func keySum(key []byte) uint32 { return binary.BigEndian.Uint32(key[len(key)-4:]) }

// blockKey is a key taken apart.
type blockKey struct {
	queue, base, last, edition uint64
	part, parts                int
	size                       int
}

func parseBlockKey(key []byte) (blockKey, error) {
	if len(key) != blockKeySize || key[0] != blockPrefix {
		return blockKey{}, fmt.Errorf("%w: unknown key %q", ErrDamaged, clip(key))
	}
	if crc32.Checksum(key[:blockKeySize-4], castagnoli) != keySum(key) {
		return blockKey{}, fmt.Errorf("%w: the checksum of key %x does not match", ErrDamaged, key)
	}
	k := blockKey{
		queue:   binary.BigEndian.Uint64(key[1:]),
		base:    binary.BigEndian.Uint64(key[9:]),
		part:    int(binary.BigEndian.Uint16(key[17:])),
		parts:   int(binary.BigEndian.Uint16(key[19:])),
		last:    binary.BigEndian.Uint64(key[21:]),
		edition: binary.BigEndian.Uint64(key[29:]),
		size:    int(binary.BigEndian.Uint32(key[37:])),
	}
	if k.queue == 0 || k.base == 0 || k.last < k.base || k.last > MaxSeq || k.last-k.base >= maxBlockCount ||
		k.part >= k.parts || k.parts > 1 && k.base != k.last || k.size > MaxRecordSize+1<<20 {
		return blockKey{}, fmt.Errorf("%w: key %x contradicts itself", ErrDamaged, key)
	}
	return k, nil
}

// seal returns the writes of a block. Nobody else changes its buffer any more.
func (b *block) seal() []op {
	b.buf[0] = formatVersion
	binary.BigEndian.PutUint64(b.buf[1:], uint64(b.at.UnixNano()))
	if b.parts == 1 {
		key := b.key(0)
		return []op{{key: key, value: finish(key, b.buf), of: b}}
	}
	data := b.buf[blockHead:]
	each := (len(data) + b.parts - 1) / b.parts
	ops := make([]op, b.parts)
	for part := range ops {
		piece := data[min(part*each, len(data)):min((part+1)*each, len(data))]
		key := b.key(part)
		value := append(make([]byte, 0, blockHead+len(piece)+blockTail), b.buf[:blockHead]...)
		ops[part] = op{key: key, value: finish(key, append(value, piece...)), of: b}
	}
	return ops
}

// parseBlock checks the value of one key and returns its clock and its bytes, which alias it.
func parseBlock(key, value []byte) (at time.Time, data []byte, err error) {
	if len(value) < blockHead+blockTail {
		return at, nil, fmt.Errorf("%w: a block of %d bytes", ErrDamaged, len(value))
	}
	body := value[:len(value)-sumSize]
	if checksum(key, body) != sumOf(value) {
		return at, nil, fmt.Errorf("%w: the checksum does not match", ErrDamaged)
	}
	if body[0] != formatVersion {
		return at, nil, fmt.Errorf("%w: a block in format %d", ErrDamaged, body[0])
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(body[1:]))), body[blockHead:], nil
}

// Read returns the committed block that holds from, or the first above it, with something
// unsettled at from or above; io.EOF if there is none. It reads from the disk, or from memory the
// operating system keeps of it, and may be called concurrently with everything. Data is the
// caller's.
//
// A block that cannot be read is a *DamagedError with its exact range: the caller states that it is
// lost, settles it, and goes on above it. Other errors: ErrClosed, and those of the operating system,
// after which nothing is known of the block and nothing must be said of it.
func (q *Queue) Read(from uint64) (Block, error) {
	for {
		f, err := q.locate(from)
		if err != nil {
			return Block{}, err
		}
		if f.buf != nil {
			return Block{f.b.base, f.b.last, f.b.edition, f.at, bytes.Clone(f.buf[blockHead:])}, nil
		}
		out, err := q.s.readFound(f)
		if err == nil {
			return out, nil
		}
		if q.isStill(f) {
			if !errors.Is(err, ErrDamaged) {
				return Block{}, err
			}
			return Block{}, &DamagedError{out.Base, out.Last, err}
		}
		// It was settled meanwhile, and deleted, or moved.
	}
}

// view runs f on Badger, which stays open meanwhile; ErrClosed once it is not.
func (s *Store) view(f func(txn *badger.Txn) error) error {
	s.reading.RLock()
	defer s.reading.RUnlock()
	if s.unreadable {
		return ErrClosed
	}
	return s.db.View(f)
}

// found is a block for Read: what it takes to read it, for it may be deleted any time.
type found struct {
	b    *block
	keys [][]byte
	at   time.Time
	buf  []byte // header and records, which nobody changes any more; nil: they are on disk

	seg   *segment // that has them; nil: Badger has
	spots []spot
}

// locate finds the block for Read.
func (q *Queue) locate(from uint64) (found, error) {
	q.s.change.Lock()
	defer q.s.change.Unlock()
	if q.closed || q.s.ended {
		return found{}, ErrClosed
	}
	for b := q.find(from); b != nil; b = b.next {
		if !b.committed {
			break
		}
		if !b.owes(from) {
			continue
		}
		if b.buf != nil {
			return found{b: b, at: b.at, buf: b.buf}, nil
		}
		keys := make([][]byte, b.parts)
		for part := range keys {
			keys[part] = b.key(part)
		}
		return found{b: b, keys: keys, seg: b.seg, spots: b.spots}, nil
	}
	return found{}, io.EOF
}

// isStill says whether a block is still what and where it was.
func (q *Queue) isStill(f found) bool {
	q.s.change.Lock()
	defer q.s.change.Unlock()
	return !f.b.gone && f.b.seg == f.seg
}

// readFound reads a block from the disk.
func (s *Store) readFound(f found) (Block, error) {
	if f.seg == nil {
		return s.readBlock(f.b, f.keys)
	}
	s.reading.RLock() // the next Open, which may rename or remove the file, comes after
	defer s.reading.RUnlock()
	if s.unreadable {
		return Block{}, ErrClosed
	}
	return readSpots(f.seg.path, f.b, f.spots, f.keys)
}

// readBlock reads the keys of a block. Its base, last and edition never change.
func (s *Store) readBlock(b *block, keys [][]byte) (Block, error) {
	out := Block{Base: b.base, Last: b.last, Edition: b.edition}
	err := s.view(func(txn *badger.Txn) error {
		for _, key := range keys {
			item, err := txn.Get(key)
			if errors.Is(err, badger.ErrKeyNotFound) {
				return fmt.Errorf("%w: the block is missing", ErrDamaged)
			}
			if err != nil {
				return fmt.Errorf("%w: badger: %w", ErrDamaged, err)
			}
			err = item.Value(func(value []byte) error {
				at, data, err := parseBlock(key, value)
				if err != nil {
					return err
				}
				if out.Data == nil {
					out.Data = make([]byte, 0, b.size)
				}
				out.At = at
				out.Data = append(out.Data, data...)
				return nil
			})
			if err != nil {
				return fmt.Errorf("%w: %w", ErrDamaged, err)
			}
		}
		if len(out.Data) != b.size {
			return fmt.Errorf("%w: %d bytes of %d", ErrDamaged, len(out.Data), b.size)
		}
		return nil
	})
	return out, err
}
