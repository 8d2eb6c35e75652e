package spool

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// What is not settled before Badger takes over a file of the write-ahead log would be written twice for
// nothing. So a file to which large groups go is kept as it is, as a segment, and Badger gets where its
// blocks lie:
//
//	key    that of the block
//	value  version (1) | number of the segment (8) | offset (8) and length (4) of the block's value | crc32c (4)
//
// The number is that of the file. In the life that writes it, it is a file of the log; Open carries out
// what Badger has not of it, as of the other files, and gives it another name, so that no later one
// looks for entries in it:
//
//	spool.wal.N    written by the present life, N from 2 on
//	spool.seg.N    by an earlier one
//
// A segment is deleted when none of its blocks is left and Badger knows that. One of which half is left,
// or less, is emptied: Badger gets the rest of its blocks as they are. The youngest are spared that while
// there is traffic: what is in them may be settled soon.
//
// Small values, and those of an encrypted store, whose log is sealed entry by entry, are written
// to Badger as they are.
const (
	walPrefix     = "spool.wal."
	segmentPrefix = "spool.seg."
	firstSegment  = 2 // the two below are the files of the log that are written again and again

	spotVersion = 0x80 // where a block has formatVersion
	spotSize    = 1 + 8 + 8 + 4 + sumSize

	// maxSmall is how many groups in a row that belong into the log proper may follow to a segment: its
	// syncs take longer, and turning from one to the other costs a transaction.
	maxSmall = 16

	// youngSegments is how many are spared.
	youngSegments = 4
)

// segment is a kept file. Guarded by Store.change, but number and path.
type segment struct {
	number uint64
	path   string
	size   int64    // bytes of values of blocks
	live   int64    // of those that are not gone
	blocks []*block // some are gone
	sealed bool     // nothing is written to it any more
	thins  bool     // in Store.thinning: some of what is gone is in no group yet
	buried Group    // else: the last group with a deletion of something in it
}

// spot is where the value of a block, or of a part of one, lies.
type spot struct {
	segment uint64
	at      int64
	size    int
}

func (p spot) seal(key []byte) []byte {
	b := append(make([]byte, 0, spotSize), spotVersion)
	b = binary.BigEndian.AppendUint64(b, p.segment)
	b = binary.BigEndian.AppendUint64(b, uint64(p.at))
	b = binary.BigEndian.AppendUint32(b, uint32(p.size))
	return finish(key, b)
}

// isSpot tells such a value from that of a block.
func isSpot(value []byte) bool { return len(value) == spotSize && value[0] == spotVersion }

func parseSpot(key, value []byte) (spot, error) {
	if !isSpot(value) || checksum(key, value[:spotSize-sumSize]) != sumOf(value) {
		return spot{}, fmt.Errorf("%w: where a block lies: the checksum does not match", ErrDamaged)
	}
	p := spot{
		segment: binary.BigEndian.Uint64(value[1:]),
		at:      int64(binary.BigEndian.Uint64(value[9:])),
		size:    int(binary.BigEndian.Uint32(value[17:])),
	}
	if p.segment < firstSegment || p.at < 0 || p.size > MaxRecordSize+1<<20 {
		return spot{}, fmt.Errorf("%w: a block at %d of segment %d", ErrDamaged, p.at, p.segment)
	}
	return p, nil
}

// walName is the name of a file of the log, and segmentName that of a segment of an earlier life.
func walName(number uint64) string     { return walPrefix + strconv.FormatUint(number, 10) }
func segmentName(number uint64) string { return segmentPrefix + strconv.FormatUint(number, 10) }

// segmentNumber returns the number of a segment by its name.
func segmentNumber(name string) (number uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, walPrefix)
	if !ok {
		if digits, ok = strings.CutPrefix(name, segmentPrefix); !ok {
			return 0, false
		}
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && number >= firstSegment && strconv.FormatUint(number, 10) == digits
}

// newSegment begins one. Its file is made by the first group that goes to it.
func (s *Store) newSegment() *segment {
	s.change.Lock()
	defer s.change.Unlock()
	s.lastSegment++
	g := &segment{number: s.lastSegment, path: filepath.Join(s.dir, walName(s.lastSegment))}
	s.segments[g.number] = g
	return g
}

// keep says that a value of b lies in g. s.change must be held.
func (g *segment) keep(b *block, p spot) {
	if b.seg == nil {
		g.blocks = append(g.blocks, b)
		b.seg = g
	}
	b.spots = append(b.spots, p)
	g.size += int64(p.size)
	g.live += int64(p.size)
}

// leave says that b is in g no more: it is gone, or Badger has it. s.change must be held.
func (g *segment) leave(b *block) {
	for _, p := range b.spots {
		g.live -= int64(p.size)
	}
	b.seg, b.spots = nil, nil
}

// thins says that a block of g is to be deleted. s.change must be held.
func (s *Store) thins(g *segment) {
	if !g.thins {
		g.thins = true
		s.thinning = append(s.thinning, g)
	}
}

// deletedIn says that all deletions are in a group or before. s.change must be held.
func (s *Store) deletedIn(last Group) {
	for _, g := range s.thinning {
		g.thins, g.buried = false, last
	}
	s.thinning = nil
}

// readSpots reads a block from its segment.
func readSpots(path string, b *block, spots []spot, keys [][]byte) (Block, error) {
	out := Block{Base: b.base, Last: b.last, Edition: b.edition}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return out, err
	}
	for i, p := range spots {
		value := make([]byte, p.size)
		if _, err = f.ReadAt(value, p.at); err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: %s ends before the block does", ErrDamaged, filepath.Base(path))
			}
			break
		}
		var data []byte
		if out.At, data, err = parseBlock(keys[i], value); err != nil {
			break
		}
		if i == 0 {
			out.Data = data // most blocks have one part
		} else {
			out.Data = append(out.Data, data...)
		}
	}
	err = errors.Join(err, f.Close())
	if err == nil && len(out.Data) != b.size {
		err = fmt.Errorf("%w: %d bytes of %d", ErrDamaged, len(out.Data), b.size)
	}
	return out, err
}

// half says whether half of a segment, or less, is left. s.change must be held.
func (g *segment) half() bool { return g.size > 0 && g.live <= g.size/2 }

// sparse reports whether there is such a segment, which is to be emptied or deleted.
func (s *Store) sparse() bool {
	s.change.Lock()
	defer s.change.Unlock()
	for _, g := range s.segments {
		if g.half() && (g.live > 0 || !g.thins) {
			return true
		}
	}
	return false
}

// thinned returns a segment that is better emptied, none of the youngest; nil: there is none.
func (s *Store) thinned(spared uint64) (g *segment, blocks []*block) {
	s.change.Lock()
	defer s.change.Unlock()
	for _, g := range s.segments {
		if !g.sealed || g.live == 0 || !g.half() || g.number+spared > s.lastSegment {
			continue
		}
		for _, b := range g.blocks {
			if b.seg == g {
				blocks = append(blocks, b)
			}
		}
		return g, blocks
	}
	return nil, nil
}

// thin has Badger take what is left of sparse segments, but of the youngest. It runs where batches are carried out, and at
// rest: a deletion of one of the blocks comes later to Badger.
func (s *Store) thin(spared uint64) error {
	for bytes := int64(0); bytes < s.profile.segment; {
		g, blocks := s.thinned(spared)
		if g == nil || s.cramped(s.profile.segment) {
			return nil
		}
		n, err := s.emptyOut(g, blocks)
		if err != nil {
			return err
		}
		bytes += n
	}
	return nil
}

// cramped says whether so many bytes more would be a risk.
func (s *Store) cramped(bytes int64) bool {
	s.room.tend()
	free, short := s.room.short(bytes)
	return short && free < 2*bytes
}

// emptyOut moves blocks of a segment, and returns how many bytes that were.
func (s *Store) emptyOut(g *segment, blocks []*block) (bytes int64, err error) {
	var ops []op
	moved := blocks[:0]
	for _, b := range blocks {
		values, err := s.valuesOf(g, b)
		if err != nil {
			s.log.Error("spool: a block cannot be moved", "dir", s.dir, "segment", g.number, "err", err)
			continue // who reads it is told
		}
		ops = append(ops, values...)
		moved = append(moved, b)
		bytes += int64(b.size)
	}
	if err := s.room.prepare(ops); err != nil {
		return 0, err
	}
	if err := s.transact(ops); err != nil {
		return 0, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	for _, b := range moved {
		if b.seg == g {
			g.leave(b)
		}
	}
	g.size = g.live // what could not be moved is not tried again and again
	return bytes, nil
}

// valuesOf reads the values of a block as they are to be written to Badger.
func (s *Store) valuesOf(g *segment, b *block) ([]op, error) {
	s.change.Lock()
	spots := slices.Clone(b.spots)
	s.change.Unlock()
	f, err := os.Open(g.path)
	if err != nil {
		return nil, err
	}
	var ops []op
	for part, p := range spots {
		o := op{key: b.key(part), value: make([]byte, p.size)}
		if _, err = f.ReadAt(o.value, p.at); err != nil {
			break
		}
		if _, _, err = parseBlock(o.key, o.value); err != nil {
			break
		}
		ops = append(ops, o)
	}
	return ops, errors.Join(err, f.Close())
}

// deleteSegments deletes those of which nothing is left, when Badger has all groups up to last.
func (s *Store) deleteSegments(last Group) {
	s.change.Lock()
	var gone []*segment
	for number, g := range s.segments {
		if g.sealed && g.live == 0 && !g.thins && g.buried <= last {
			gone = append(gone, g)
			delete(s.segments, number)
		}
	}
	s.change.Unlock()
	for _, g := range gone {
		if err := os.Remove(g.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Error("spool: an empty segment stays until the store is opened again", "dir", s.dir, "err", err)
		}
	}
}

// loadSpot takes in where a part of a block lies.
func (s *Store) loadSpot(b *block, key, value []byte) error {
	p, err := parseSpot(key, value)
	if err != nil {
		return err
	}
	g := s.segments[p.segment]
	if g == nil { // its file is missing: who reads the block is told
		g = &segment{number: p.segment, path: filepath.Join(s.dir, segmentName(p.segment)), sealed: true}
		s.segments[p.segment] = g
		s.lastSegment = max(s.lastSegment, p.segment)
	}
	g.keep(b, p)
	g.size -= int64(p.size) // that is of the whole file
	return nil
}

// findSegments lists the segments that are there.
func (s *Store) findSegments() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if number, ok := segmentNumber(e.Name()); ok {
			info, err := e.Info()
			if err != nil {
				return err
			}
			s.segments[number] = &segment{number: number, path: filepath.Join(s.dir, e.Name()), size: info.Size(), sealed: true}
			s.lastSegment = max(s.lastSegment, number)
		}
	}
	return nil
}

// tidySegments removes those that nothing points to and gives the others the names of an earlier life's.
func (s *Store) tidySegments() error {
	changed := false
	for number, g := range s.segments {
		path := filepath.Join(s.dir, segmentName(number))
		var err error
		switch {
		case g.live == 0:
			delete(s.segments, number)
			err = os.Remove(g.path)
		case g.path != path:
			err = os.Rename(g.path, path)
			g.path = path
		default:
			continue
		}
		if err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return syncDir(s.dir)
}

// openSegments returns those of the last life that may hold commits after one, in order.
func (s *Store) openSegments(after uint64) ([]*segment, error) {
	type begun struct {
		g     *segment
		first uint64
	}
	var list []begun
	for _, g := range s.segments {
		if !strings.HasPrefix(filepath.Base(g.path), walPrefix) {
			continue
		}
		first, err := walFirst(g.path)
		if err != nil {
			return nil, err
		}
		list = append(list, begun{g, first})
	}
	slices.SortFunc(list, func(a, b begun) int { return cmp.Compare(a.g.number, b.g.number) })
	var open []*segment
	for i, b := range list {
		if i+1 == len(list) || list[i+1].first > after+1 || list[i+1].first == 0 {
			open = append(open, b.g)
		}
	}
	return open, nil
}

// place puts where they lie in the place of values that stay in g, whose entry is at at, and calls kept
// with each.
func (g *segment) place(at int64, ops []op, least int, kept func(*block, spot)) {
	at += walEntryHead + walCommit
	for i, o := range ops {
		p := spot{g.number, at + opHeadSize(o), len(o.value)}
		at = p.at + int64(p.size)
		if o.stays(least) {
			ops[i].value = p.seal(o.key)
			kept(o.of, p)
		}
	}
}
