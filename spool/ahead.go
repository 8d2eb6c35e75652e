package spool

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync/atomic"
)

// Badger syncs two files one after the other for each transaction, and writes what dies young as
// carefully as what stays. So a group goes to the write-ahead log, one sync beside that of the mark,
// and is durable then. What becomes of one key is gathered in a batch, and a whole batch reaches Badger
// in one transaction: when its file of the log is full, when it deletes much, and at Close. A message
// that is settled before that never reaches Badger at all.
//
// The committer owns the log and the batch being filled. A goroutine of its own carries out a batch
// while the next one is filled, and the committer waits for it before it begins the one after that: so
// Badger has all batches but the last two, in order. Open carries out what it finds.
//
// What is not settled by then would be written twice for nothing. So where much is written at a time, the
// files of the log are kept and Badger gets where the blocks lie, see segment.go. What fits no file goes to
// Badger directly, with the batch so far, and in an encrypted store so do large groups while most of what was
// written lately outlives a file of the log.
type ahead struct {
	s     *Store
	files [2]*walFile
	batch *batch // being filled
	busy  *batch // being carried out; nil: none
	last  Group  // taken
	small int    // groups in a row that were not large
	owed  atomic.Int64
}

// batch is what some groups add up to.
type batch struct {
	file    *walFile
	seg     *segment // that the file is to be; nil: it is written again
	last    Group
	ops     map[string]lastWrite
	blocks  []*block // whose buffers are kept until Badger has them
	size    int64    // of ops
	small   int64    // of what Badger counts towards a transaction
	garbage int64    // bytes of the blocks it deletes in Badger
	done    chan struct{}
	err     error
}

// lastWrite is the last write of a key, and its group. A nil value deletes.
type lastWrite struct {
	value []byte
	group Group
	kept  bool // deletes what lies in a segment
}

func newBatch(file *walFile) *batch {
	return &batch{file: file, ops: make(map[string]lastWrite), done: make(chan struct{})}
}

// add takes in the writes of a group. A block that is deleted before Badger had it leaves nothing.
func (b *batch) add(g Group, ops []op) {
	for _, o := range ops {
		old, known := b.ops[string(o.key)]
		if known {
			b.count(len(o.key), len(old.value), -1)
		}
		if o.value == nil && o.key[0] == blockPrefix {
			if known && old.value != nil {
				delete(b.ops, string(o.key))
				continue
			}
			b.garbage += blockGarbage(o.key)
		}
		b.ops[string(o.key)] = lastWrite{o.value, g, o.kept}
		b.count(len(o.key), len(o.value), 1)
	}
}

func (b *batch) count(key, value, sign int) {
	size := int64(key + value + entryCost)
	b.size += int64(sign) * size
	if value >= valueThreshold {
		size = int64(key + entryCost)
	}
	b.small += int64(sign) * size
}

// list returns the writes, in no order: Badger keeps none within a transaction.
func (b *batch) list() []op {
	ops := make([]op, 0, len(b.ops))
	for key, w := range b.ops {
		ops = append(ops, op{key: []byte(key), value: w.value})
	}
	return ops
}

// blockGarbage is what a deleted key of a block leaves in Badger's files.
func blockGarbage(key []byte) int64 {
	parts, size := keyExtent(key)
	return int64(size/parts) + blockCost
}

// keyExtent returns into how many keys a block goes, and the bytes of its records.
func keyExtent(key []byte) (parts, size int) {
	if len(key) != blockKeySize {
		return 1, 0 // no block's; who loads it says so
	}
	return max(int(binary.BigEndian.Uint16(key[19:])), 1), int(binary.BigEndian.Uint32(key[37:]))
}

func newAhead(s *Store) *ahead {
	a := &ahead{s: s}
	for i := range a.files {
		a.files[i] = &walFile{path: filepath.Join(s.dir, walNames[i]), key: s.key, large: s.profile.keep, least: s.profile.walLeast, most: s.profile.wal, room: s.room}
	}
	a.batch = newBatch(a.files[0])
	return a
}

// write writes a group to the log, and returns what makes it durable, beside which the next group may
// be written if apart is set. directly: it is to go to Badger.
func (a *ahead) write(g *group, ops []op, directly bool) (durable func() error, apart bool, err error) {
	size, keep := entryBound(ops), a.keeps(g)
	if directly || g.stays || size > a.largest(keep) {
		return func() error { return a.writeDirectly(g, ops) }, false, nil
	}
	if keep != (a.batch.seg != nil) || !a.batch.file.takes(size) || !a.fitsTxn(ops) {
		if err := a.turn(keep); err != nil {
			return nil, false, err
		}
	}
	a.s.room.tend()
	at, err := a.batch.file.put(g.entry.possible, ops)
	if err != nil {
		return nil, false, err
	}
	if a.batch.seg != nil {
		a.place(at, ops)
	}
	a.take(g, ops)
	return a.batch.file.sync, g.large, nil
}

// keeps says whether a group goes to a segment.
func (a *ahead) keeps(g *group) bool {
	switch {
	case a.s.key != nil:
		return false
	case g.large:
		a.small = 0
		return true
	}
	a.small++
	return a.batch.seg != nil && a.small < maxSmall
}

// largest is the size of the largest entry that a file takes.
func (a *ahead) largest(keep bool) int64 {
	if keep {
		return a.s.profile.segment - sealedFileHead
	}
	return a.files[0].most - sealedFileHead
}

// place has what lies in the segment written at at go to Badger as that.
func (a *ahead) place(at int64, ops []op) {
	seg := a.batch.seg
	a.s.change.Lock()
	defer a.s.change.Unlock()
	seg.place(at, ops, a.s.profile.keep, func(b *block, p spot) {
		if b.gone {
			a.s.thins(seg)
		} else {
			seg.keep(b, p)
		}
	})
}

// stays says whether a value is left in its segment, if it has so many bytes at least: that of all parts
// of a block, or of none.
func (o op) stays(least int) bool {
	if o.value == nil || o.key[0] != blockPrefix {
		return false
	}
	parts, size := keyExtent(o.key)
	return size/parts >= least
}

// entryBound is not below the size of the entry that ops make.
func entryBound(ops []op) int64 {
	size := int64(walEntryHead + walCommit + sealCheckSize)
	for _, o := range ops {
		size += int64(len(o.key)+len(o.value)) + 2*binary.MaxVarintLen32
	}
	return size
}

// opHeadSize is how many bytes come before the value of a write.
func opHeadSize(o op) int64 {
	var b [2*binary.MaxVarintLen64 + blockKeySize]byte
	return int64(len(appendOpHead(b[:0], o)))
}

// fitsTxn says whether Badger takes the batch with ops added in one transaction.
func (a *ahead) fitsTxn(ops []op) bool {
	b := a.batch
	if len(b.ops) == 0 {
		return true // or it takes several: see pack.go
	}
	small := b.small
	for _, o := range ops {
		small += int64(len(o.key)) + entryCost
		if len(o.value) < valueThreshold {
			small += int64(len(o.value))
		}
	}
	return int64(len(b.ops)+len(ops)) < a.s.db.MaxBatchCount()/2 && small < a.s.db.MaxBatchSize()/2
}

// take adds a group to the batch.
func (a *ahead) take(g *group, ops []op) {
	size, garbage := a.batch.size, a.batch.garbage
	a.batch.add(g.number, ops)
	a.batch.last, a.last = g.number, g.number
	a.batch.blocks = append(a.batch.blocks, g.fresh...)
	a.owed.Add(a.batch.size - size)
	if garbage < a.batch.garbage {
		a.s.change.Lock()
		a.s.sweep.pending += a.batch.garbage - garbage
		a.s.change.Unlock()
	}
}

// writeDirectly brings a group to Badger, with the batch so far.
func (a *ahead) writeDirectly(g *group, ops []op) error {
	if err := a.wait(); err != nil {
		return err
	}
	a.take(g, ops)
	b := a.batch
	a.batch = a.next(false)
	a.seal(b)
	a.carryOut(b)
	a.busy = b
	return a.wait()
}

// turn has the batch carried out while the next one is filled, which is to be kept or not. It waits for
// the one before.
func (a *ahead) turn(keep bool) error {
	if err := a.wait(); err != nil {
		return err
	}
	b := a.batch
	a.batch, a.busy = a.next(keep), b
	a.seal(b)
	flight := a.s.flight
	a.s.owned.Go(func() {
		if flight != nil {
			<-flight // a group of the batch
		}
		a.carryOut(b)
	})
	return nil
}

// next is an empty batch, while at most the one before is not carried out.
func (a *ahead) next(keep bool) *batch {
	if keep {
		seg := a.s.newSegment()
		b := newBatch(&walFile{path: seg.path, large: a.s.profile.keep, most: a.s.profile.segment, once: true, step: a.s.profile.extend, room: a.s.room})
		b.seg = seg
		return b
	}
	if a.batch.file == a.files[0] {
		return newBatch(a.files[1])
	}
	return newBatch(a.files[0])
}

// seal ends the writing to a batch's segment.
func (a *ahead) seal(b *batch) {
	if b.seg == nil {
		return
	}
	a.s.change.Lock()
	defer a.s.change.Unlock()
	b.seg.sealed = true
}

// wait waits for the batch that is being carried out, whose file is free then.
func (a *ahead) wait() error {
	b := a.busy
	if b == nil {
		return nil
	}
	<-b.done
	if b.err != nil {
		return b.err
	}
	a.busy = nil
	if b.seg != nil {
		return b.file.close()
	}
	b.file.reset()
	return nil
}

// settle returns when nothing is being carried out.
func (a *ahead) settle() {
	if a.busy != nil {
		<-a.busy.done
	}
}

// flush returns when Badger has everything, and no segment is sparse.
func (a *ahead) flush() error {
	if len(a.batch.ops) > 0 {
		if err := a.turn(false); err != nil {
			return err
		}
	}
	if err := a.wait(); err != nil {
		return err
	}
	if err := a.s.thin(0); err != nil {
		return err
	}
	a.s.deleteSegments(a.last)
	return nil
}

// grown reports whether the log takes more room than one that rests.
func (a *ahead) grown() bool {
	return a.files[0].grown() || a.files[1].grown() || a.s.sparse()
}

// rest has Badger take over, and gives back the room of the log.
func (a *ahead) rest() error {
	if err := a.flush(); err != nil {
		return err
	}
	return errors.Join(a.files[0].shrink(), a.files[1].shrink())
}

// end closes the log. When Badger has everything it is removed.
func (a *ahead) end(flushed bool) error {
	err := errors.Join(a.files[0].close(), a.files[1].close())
	for _, b := range []*batch{a.batch, a.busy} {
		if b != nil && b.seg != nil {
			err = errors.Join(err, b.file.close())
		}
	}
	if err != nil || !flushed {
		return err
	}
	return removeWAL(a.s.dir)
}

// carryOut brings a batch to Badger, in one transaction if it fits, and forgets what was kept for it.
func (a *ahead) carryOut(b *batch) {
	defer close(b.done)
	if b.err = a.bring(b); b.err != nil {
		a.s.fail(b.err)
	}
}

func (a *ahead) bring(b *batch) error {
	s := a.s
	if err := s.failure(); err != nil {
		return err // the log may not have it
	}
	ops := b.list()
	if err := s.room.prepare(ops); err != nil {
		return err
	}
	if err := s.transact(ops); err != nil {
		return err
	}
	if err := s.failure(); err != nil { // some failures of Badger's arrive by its log alone
		return err
	}
	a.brought(b)
	if err := s.thin(youngSegments); err != nil {
		return err
	}
	s.deleteSegments(b.last)
	return nil
}

// brought forgets what was kept of a batch that Badger has.
func (a *ahead) brought(b *batch) {
	s := a.s
	a.owed.Add(-b.size)
	s.change.Lock()
	defer s.change.Unlock()
	s.sweep.pending -= b.garbage
	for _, k := range b.blocks {
		k.buf = nil
	}
	for key, w := range b.ops {
		s.noteLanded(key, w.group)
		switch {
		case w.kept:
			s.discarded(blockCost)
		case key[0] == blockPrefix && w.value == nil:
			s.discarded(blockGarbage([]byte(key)))
		case key[0] == notePrefix:
			s.discarded(int64(len(w.value))) // by the next write of it
		}
	}
	s.sweepIfDue(false)
}

// pace tells whether what is appended dies young. Guarded by Store.change.
type pace struct {
	window  int64 // bytes
	written int64 // bytes of blocks, ever
	since   int64 // written when the window began
	young   int64 // bytes of blocks that were settled within a window of their writing
	stays   bool  // most did not, in the last window
}

// wrote counts a block that is about to be written.
func (p *pace) wrote(b *block) {
	p.written += int64(b.size)
	b.wrote = p.written
	if p.written-p.since >= p.window {
		p.stays = 2*p.young < p.written-p.since
		p.since, p.young = p.written, 0
	}
}

// died counts a block that is settled.
func (p *pace) died(b *block) {
	if b.wrote > 0 && p.written-b.wrote < p.window {
		p.young += int64(b.size)
	}
}

// replayLog carries out what the write-ahead log has and Badger has not.
func (s *Store) replayLog() error {
	commits, err := s.badgerCommits()
	if err != nil {
		return err
	}
	found, err := s.readLog(commits)
	if err != nil {
		return err
	}
	a := newAhead(s)
	for {
		commits++
		ops, more := found[commits]
		if len(a.batch.ops) > 0 && (!more || !a.fitsTxn(ops)) {
			if err := s.replayBatch(a.batch); err != nil {
				return err
			}
			a.batch = newBatch(nil)
		}
		if !more {
			return nil
		}
		a.batch.add(0, ops)
	}
}

// readLog returns what the files of the log hold after a commit.
func (s *Store) readLog(after uint64) (map[uint64][]op, error) {
	found := make(map[uint64][]op)
	for _, name := range walNames {
		entries, err := readWAL(filepath.Join(s.dir, name), s.key)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			found[e.commit] = e.ops
		}
	}
	segments, err := s.openSegments(after)
	if err != nil {
		return nil, err
	}
	for _, g := range segments {
		entries, err := readWAL(g.path, nil)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.commit > after {
				g.place(e.at, e.ops, s.profile.keep, func(*block, spot) {}) // loadSpot counts it
				found[e.commit] = e.ops
			}
		}
	}
	return found, nil
}

func (s *Store) replayBatch(b *batch) error {
	ops := b.list()
	if err := s.room.prepare(ops); err != nil {
		return err
	}
	return s.transact(ops)
}
