package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// load reads every small record and the key of every block, and checks them against each other and
// against the mark.
func (s *Store) load(m mark) error {
	if err := s.finishPacked(); err != nil {
		return err
	}
	if err := s.findSegments(); err != nil {
		return err
	}
	if err := s.replayLog(); err != nil {
		return err
	}
	found := tally{queues: make(map[uint64]*Queue), holders: make(map[uint64][][16]byte), untold: make(map[string][]SeqRange)}
	err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().Key()
			if key[0] == wastePrefix {
				continue // of a sweep that was cut short; the next one drops it
			}
			if key[0] == blockPrefix {
				if err := s.loadBlock(&found, it.Item()); err != nil {
					return err
				}
				continue
			}
			err := it.Item().Value(func(value []byte) error { return s.loadRecord(&found, key, value) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// A table that Badger passed over while it opened or was read.
	if err := s.failure(); err != nil {
		return err
	}
	if err := found.check(s.head); err != nil {
		return err
	}
	if err := m.check(s.head); s.unmarked == nil && err != nil {
		if !s.doWithout(err) {
			return err
		}
		m = mark{}
	}
	for _, q := range s.queues {
		q.join()
	}
	s.damage = s.missing(&found, m)
	s.recallLost(&found)
	s.next = s.head
	if s.damage != nil {
		s.log.Error("spool: damage: a new store id is minted", "dir", s.dir, "err", s.damage)
		s.next.commits = max(s.head.commits, m.possible)
	}
	if s.head.commits == 0 {
		s.head.id, s.next.id = m.id, m.id
		return nil
	}
	if last := time.Unix(0, s.head.wall); s.now().Before(last) {
		s.log.Warn("spool: the clock stands before the last commit", "dir", s.dir, "last", last)
	}
	return nil
}

// badgerCommits returns the last commit that Badger has.
func (s *Store) badgerCommits() (uint64, error) {
	var r storeRecord
	err := s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(storeKey())
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return explain(err)
		}
		return item.Value(func(value []byte) error {
			r, err = parseStore(value)
			return err
		})
	})
	if err != nil {
		return 0, fmt.Errorf("store record: %w", err)
	}
	return r.commits, nil
}

// missing compares the queues with what the mark says of them and makes what is gone their loss.
// It returns what to tell of it, nil if nothing is missing.
func (s *Store) missing(found *tally, m mark) error {
	var errs []error
	if s.head.commits < m.certain {
		errs = append(errs, fmt.Errorf("%w: the last commits are missing: %d of %d are there", ErrDamaged, s.head.commits, m.certain))
	}
	if s.unmarked != nil {
		errs = append(errs, fmt.Errorf("whether the last commits are all there is not known: %w", s.unmarked))
	}
	if s.head.commits == 0 && m.incarnation > 0 && m.possible == 0 { // else its first group was cut short
		errs = append(errs, fmt.Errorf("%w: this store begins in place of one that was moved aside", ErrDamaged))
	}
	if s.head.commits < m.certain || s.head.commits == 0 {
		for id, known := range m.queues {
			s.lastQueue = max(s.lastQueue, id)
			q := found.queues[id]
			if q == nil {
				if s.queues[known.name] != nil {
					errs = append(errs, fmt.Errorf("%w: queue %q has two ids", ErrDamaged, clip([]byte(known.name))))
					continue
				}
				q = &Queue{s: s, name: known.name, rec: queueRecord{id: id, next: 1}}
				s.queues[known.name] = q
			}
			q.reach(known)
		}
	}
	for _, q := range s.queues {
		for _, r := range q.lost {
			errs = append(errs, fmt.Errorf("%w: queue %q: seqs %d to %d are lost", ErrDamaged, clip([]byte(q.name)), r.From, r.To))
		}
	}
	return errors.Join(errs...)
}

// reach makes the queue go as far as the mark knows it did. What was not settled then is lost.
func (q *Queue) reach(known markedQueue) {
	if known.next <= q.rec.next {
		return
	}
	if from := max(q.rec.next, known.trim+1); from < known.next {
		q.lost = append(q.lost, SeqRange{from, known.next - 1})
	}
	q.passOver(known.next)
}

// tally is what has been read so far, but for the store record.
type tally struct {
	records uint64
	blocks  uint64
	digest  uint64
	queues  map[uint64]*Queue
	holders map[uint64][][16]byte
	untold  map[string][]SeqRange // by queue
}

// loadRecord takes in one small record. Key and value are Badger's and valid only now.
func (s *Store) loadRecord(found *tally, key, value []byte) error {
	if len(key) < keyOverhead {
		return fmt.Errorf("%w: unknown key %q", ErrDamaged, clip(key))
	}
	rest := key[keyOverhead:]
	var err error
	switch space, kind := key[0], key[1]; {
	case space == metaPrefix && kind == kindStore && len(rest) == 0:
		if s.head, err = parseStore(value); err != nil {
			return fmt.Errorf("store record: %w", err)
		}
		return nil
	case space == metaPrefix && kind == kindStream && 0 < len(rest) && len(rest) <= MaxStreamName:
		err = s.loadStream(string(rest), value)
	case space == metaPrefix && kind == kindPeer && len(rest) == 16:
		err = s.loadPeer([16]byte(rest), value)
	case space == metaPrefix && kind == kindQueue && 0 < len(rest) && len(rest) <= MaxStreamName:
		err = s.loadQueue(found, string(rest), value)
	case space == metaPrefix && kind == kindHolders && len(rest) == 8:
		err = found.loadHolders(key, value)
	case space == settlePrefix && len(key) == 17:
		err = s.loadSettled(found, key, value)
	case space == notePrefix && len(key) <= 1+MaxNoteKey:
		err = s.loadNote(found, key, value)
	default:
		return fmt.Errorf("%w: unknown key %q", ErrDamaged, clip(key))
	}
	s.sums[string(key)] = sumOf(value)
	found.records++
	found.digest += uint64(sumOf(value))
	return err
}

func (s *Store) loadQueue(found *tally, name string, value []byte) error {
	r, err := parseQueue(name, value)
	if err != nil {
		return fmt.Errorf("record of queue %q: %w", clip([]byte(name)), err)
	}
	if len(s.queues) >= MaxStreams {
		return fmt.Errorf("%w: more than %d queues", ErrDamaged, MaxStreams)
	}
	if found.queues[r.id] != nil {
		return fmt.Errorf("%w: two queues have the id %d", ErrDamaged, r.id)
	}
	q := &Queue{s: s, name: name, rec: r, holders: found.holders[r.id]}
	s.queues[name], found.queues[r.id] = q, q
	s.lastQueue = max(s.lastQueue, r.id)
	return nil
}

// loadHolders takes in the holders of a queue, whose record comes later.
func (found *tally) loadHolders(key, value []byte) error {
	ids, err := parseHolders(key, value)
	if err != nil {
		return fmt.Errorf("holders of queue %x: %w", key[2:], err)
	}
	found.holders[binary.BigEndian.Uint64(key[2:])] = ids
	return nil
}

// loadBlock takes in a block by its key. Those that are settled and not yet deleted are deleted.
func (s *Store) loadBlock(found *tally, item *badger.Item) error {
	key := item.Key()
	k, err := parseBlockKey(key)
	if err != nil {
		return err
	}
	found.blocks++
	found.digest += uint64(keySum(key))
	q := found.queues[k.queue]
	if q == nil {
		return fmt.Errorf("%w: a block of queue %d, which has no record", ErrDamaged, k.queue)
	}
	if k.last <= q.rec.trim {
		s.dead = append(s.dead, op{key: bytes.Clone(key)})
		return nil
	}
	if b := q.tail; b != nil && b.base == k.base && k.part > 0 {
		return s.loadPlace(b, item)
	}
	b := &block{
		q: q, base: k.base, last: k.last, edition: k.edition, size: k.size, parts: k.parts,
		left: k.last - k.base + 1, written: true, committed: true,
	}
	q.link(b)
	return s.loadPlace(b, item)
}

// loadPlace finds out whether a block lies in a segment.
func (s *Store) loadPlace(b *block, item *badger.Item) error {
	if item.ValueSize() != spotSize {
		return nil
	}
	return item.Value(func(value []byte) error {
		if !isSpot(value) {
			return nil
		}
		return s.loadSpot(b, item.Key(), value)
	})
}

// loadSettled takes in what is settled of a block.
func (s *Store) loadSettled(found *tally, key, value []byte) error {
	id, base := binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:])
	q := found.queues[id]
	if q == nil {
		return fmt.Errorf("%w: settlements of queue %d, which has no record", ErrDamaged, id)
	}
	i := sort.Search(len(q.blocks), func(i int) bool { return q.blocks[i].base >= base })
	if i == len(q.blocks) || q.blocks[i].base != base {
		return fmt.Errorf("%w: settlements of a block %d of queue %q, which is missing", ErrDamaged, base, clip([]byte(q.name)))
	}
	if err := q.blocks[i].parseSettled(key, value); err != nil {
		return fmt.Errorf("settlements of block %d of queue %q: %w", base, clip([]byte(q.name)), err)
	}
	return nil
}

func (s *Store) loadNote(found *tally, key, value []byte) error {
	name := string(key[1:])
	fields, err := unsealAny(key, value)
	if err != nil {
		return fmt.Errorf("note %q: %w", clip(key[1:]), err)
	}
	s.notes[name] = &note{size: int64(len(value))}
	return found.loadLost(name, fields)
}

// join makes the blocks of a queue one account of all its seqs. What nobody accounts for is lost.
func (q *Queue) join() {
	blocks := q.blocks
	q.blocks, q.tail = nil, nil
	lose := func(from, to uint64) {
		if from <= to {
			q.lost = append(q.lost, SeqRange{from, to})
		}
	}
	at := q.rec.trim
	for _, b := range blocks {
		if b.last <= at { // deleted soon
			b.gone = true
			q.s.bury(b)
			if b.seg != nil {
				q.s.thins(b.seg)
				b.seg.leave(b)
			}
			continue
		}
		lose(at+1, b.base-1)
		q.cover(b.base - 1)
		b.prev, b.next = nil, nil
		q.link(b)
		q.left += b.left
		q.bytes += int64(b.size) + blockCost
		at = max(b.last, b.through)
	}
	lose(at+1, q.rec.next-1)
	q.cover(q.rec.next - 1)
	q.s.held += q.bytes
}

// cover extends what is settled after the last block, or the trim point, up to seq.
func (q *Queue) cover(seq uint64) {
	if b := q.tail; b == nil {
		q.rec.trim = max(q.rec.trim, seq)
	} else if seq > max(b.last, b.through) {
		b.through = seq
	}
}

func (s *Store) loadStream(name string, value []byte) error {
	r, err := parseStream(name, value)
	if err != nil {
		return fmt.Errorf("record of stream %q: %w", name, err)
	}
	if len(s.streams) >= MaxStreams {
		return fmt.Errorf("%w: more than %d streams", ErrDamaged, MaxStreams)
	}
	s.ends[name] = r.end
	s.streams[name] = &stream{disk: r, rec: r.resumed()}
	return nil
}

func (s *Store) loadPeer(node [16]byte, value []byte) error {
	incarnation, err := parsePeer(node, value)
	if err != nil {
		return fmt.Errorf("record of node %x: %w", node, err)
	}
	if len(s.peers) >= MaxPeers {
		return fmt.Errorf("%w: more than %d nodes", ErrDamaged, MaxPeers)
	}
	s.peers[node] = incarnation
	return nil
}

// check compares what was read with what the store record says must be there.
func (found tally) check(head storeRecord) error {
	switch {
	case head.commits == 0 && found.records+found.blocks > 0:
		return fmt.Errorf("%w: the store record is missing", ErrDamaged)
	case found.records != head.records:
		return fmt.Errorf("%w: %d records are there of %d", ErrDamaged, found.records, head.records)
	case found.blocks != head.blocks:
		return fmt.Errorf("%w: %d blocks are there of %d", ErrDamaged, found.blocks, head.blocks)
	case found.digest != head.digest:
		return fmt.Errorf("%w: a record is not the one last written", ErrDamaged)
	}
	return nil
}

// check says whether the mark can be the mark of this store. What it knows of and the store does not
// is another matter: see missing.
func (m mark) check(head storeRecord) error {
	switch {
	case head.commits > 0 && head.commits-1 > m.possible:
		return fmt.Errorf("%w: mark file %s is of commit %d, the store of %d", ErrDamaged, markName, m.possible, head.commits)
	case head.commits > 0 && head.commits == m.possible && head.id != m.id:
		return fmt.Errorf("%w: mark file %s belongs to store %x, not %x", ErrDamaged, markName, m.id, head.id)
	}
	return nil
}

// clip keeps a key short enough for a message.
func clip(key []byte) []byte { return key[:min(len(key), 32)] }
