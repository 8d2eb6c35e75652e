package spool

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// MaxHolders is how many holders a queue can have.
const MaxHolders = 1024

// Queue is an open queue: records numbered from 1 without holes, each of which stays until it is
// settled. All methods may be called concurrently.
type Queue struct {
	s    *Store
	name string

	// Guarded by s.change.
	rec      queueRecord
	blocks   []*block // ascending; also holds some that are gone
	holes    int      // how many those are
	tail     *block   // the last that is not gone
	fill     *block   // the one of the open group that may grow
	lastSize int      // bytes of the block filled before
	left     uint64   // unsettled
	bytes    int64
	holders  [][16]byte
	lost     []SeqRange
	dirty    bool
	marked   bool // the mark knows its name
	opened   bool
	closed   bool   // has been opened, and closed since
	reserved uint64 // the next Append skips to it, if it is higher
	edition  uint64 // of what is appended
}

// MaxEditions bounds the editions of which a queue holds something unsettled: with so many lives
// in its backlog the newest edition is continued. Nothing that was on disk is missing then, or it
// would have been noticed at Open.
const MaxEditions = 1024

// queueRecord is what the disk says of a queue besides its blocks:
//
//	key    'm' 'q' name
//	fields queue id (8) | trim (8) | next (8) | mark (8)
type queueRecord struct {
	id   uint64 // names the queue in other keys; 0: not on disk
	trim uint64 // all up to here is settled
	next uint64 // seq of the next record
	mark uint64
}

const (
	kindQueue   = 'q'
	kindHolders = 'h'
	queueSize   = 4 * 8
)

// QueueState is where a queue stands when it is opened.
type QueueState struct {
	// Next is the seq of the next record; 1 for a new queue. It is never below the end of what
	// Reserve gave out under the same name.
	Next uint64

	Mark     uint64        // the highest SetMark
	Settled  []SeqRange    // ascending, disjoint: what is settled, skipped or lost
	Edition  uint64        // of what is appended now
	First    uint64        // it owns the seqs from here on; those from Next on at least
	Editions []EditionSpan // earlier ones, ascending by First; only those that still own something unsettled
	Tries    []Try         // of unsettled seqs, ascending
	Holders  [][16]byte

	// Lost is damage found when the store was opened, now or before: these seqs are gone. Each Open
	// tells it, until ForgetLost. They are in Settled too.
	Lost []SeqRange
}

// EditionSpan says that the seqs from First up to the next span's First-1 were appended in a life
// of that edition.
type EditionSpan struct{ Edition, First uint64 }

// QueueInfo is a line of the list of all queues.
type QueueInfo struct {
	Name            string
	Next, Unsettled uint64
	Mark            uint64
	Bytes           int64 // of the blocks that hold something unsettled
	Open            bool
}

// OpenQueue opens a queue by name: 1 to MaxStreamName bytes, any bytes. It does not touch the disk
// and makes nothing there by itself. ErrInUse if the queue is open already, ErrFull beyond
// MaxStreams queues, ErrClosed.
func (s *Store) OpenQueue(name string) (*Queue, QueueState, error) {
	q, state, err := s.openQueue(name)
	if err != nil {
		return nil, QueueState{}, fmt.Errorf("spool: open queue %q: %w", clip([]byte(name)), err)
	}
	return q, state, nil
}

func (s *Store) openQueue(name string) (*Queue, QueueState, error) {
	if len(name) == 0 || len(name) > MaxStreamName {
		return nil, QueueState{}, fmt.Errorf("a name of %d bytes, allowed are 1 to %d", len(name), MaxStreamName)
	}
	if err := s.writable(); err != nil {
		return nil, QueueState{}, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	q := s.queues[name]
	if q == nil {
		if len(s.queues) >= MaxStreams {
			return nil, QueueState{}, fmt.Errorf("%w: %d queues", ErrFull, len(s.queues))
		}
		q = &Queue{s: s, name: name, rec: queueRecord{next: 1}}
		s.queues[name] = q
	}
	if q.opened {
		return nil, QueueState{}, ErrInUse
	}
	q.opened, q.closed = true, false
	q.rec.mark = min(q.rec.mark, q.rec.next-1) // what it was reserved ahead for does not exist
	s.mu.RLock()
	q.reserved = s.ends[name] + 1
	s.mu.RUnlock()
	st := q.state()
	q.edition = st.Edition
	return q, st, nil
}

// passOver makes next the next seq in memory. The caller has it written.
func (q *Queue) passOver(next uint64) {
	if q.tail != nil {
		q.tail.through = next - 1
	} else {
		q.rec.trim = next - 1
	}
	q.rec.next = next
	q.fill = nil
}

// Name returns the name of the queue.
func (q *Queue) Name() string { return q.name }

// Close gives the name back. The last Change of the queue must have ended; what it appended stays.
func (q *Queue) Close() {
	q.s.change.Lock()
	defer q.s.change.Unlock()
	if q.closed {
		return
	}
	q.opened, q.closed = false, true
	q.fill = nil
	if q.rec.id == 0 {
		delete(q.s.queues, q.name)
	}
}

// state is what OpenQueue tells. s.change must be held.
func (q *Queue) state() QueueState {
	st := QueueState{
		Next:    q.rec.next,
		Mark:    q.rec.mark,
		Holders: slices.Clone(q.holders),
		Lost:    slices.Clone(q.lost),
	}
	settled := func(from, to uint64) {
		if from > to {
			return
		}
		if n := len(st.Settled); n > 0 && st.Settled[n-1].To+1 == from {
			st.Settled[n-1].To = to
			return
		}
		st.Settled = append(st.Settled, SeqRange{from, to})
	}
	settled(1, q.rec.trim)
	for _, b := range q.blocks {
		if b.gone {
			continue
		}
		if n := len(st.Editions); n == 0 || st.Editions[n-1].Edition != b.edition {
			st.Editions = append(st.Editions, EditionSpan{b.edition, b.base})
		}
		for _, r := range b.settled {
			settled(r.From, r.To)
		}
		settled(b.last+1, b.through)
		st.Tries = append(st.Tries, b.tries...)
	}
	settled(q.rec.next, q.reserved-1)
	st.Next = max(q.rec.next, q.reserved)
	st.Edition, st.First = q.s.edition, st.Next
	if n := len(st.Editions); n > 0 && (n >= MaxEditions || st.Editions[n-1].Edition == q.s.edition) {
		last := st.Editions[n-1]
		st.Edition, st.First, st.Editions = last.Edition, last.First, st.Editions[:n-1]
	}
	return st
}

// SetHolders remembers who may hold records of q, at most MaxHolders of them.
func (c *Change) SetHolders(q *Queue, ids [][16]byte) {
	if len(ids) > MaxHolders {
		panic(fmt.Sprintf("spool: %d holders of a queue, allowed are %d", len(ids), MaxHolders))
	}
	if c.g == nil || q.closed || slices.Equal(q.holders, ids) {
		return
	}
	q.holders = slices.Clone(ids)
	c.touch(q)
	key := holdersKey(q.rec.id)
	if len(ids) == 0 {
		c.set(key, nil)
		return
	}
	v := begin(16 * len(ids))
	for _, id := range ids {
		v = append(v, id[:]...)
	}
	c.set(key, finish(key, v))
}

// Queues lists all queues on disk and all that are open, in no order.
func (s *Store) Queues() []QueueInfo {
	s.change.Lock()
	defer s.change.Unlock()
	list := make([]QueueInfo, 0, len(s.queues))
	for _, q := range s.queues {
		list = append(list, QueueInfo{q.name, q.rec.next, q.left, q.rec.mark, q.bytes, q.opened})
	}
	return list
}

func queueKey(name string) []byte {
	return append([]byte{metaPrefix, kindQueue}, name...)
}

func holdersKey(queue uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{metaPrefix, kindHolders}, queue)
}

func (r queueRecord) seal(name string) []byte {
	b := begin(queueSize)
	b = binary.BigEndian.AppendUint64(b, r.id)
	b = binary.BigEndian.AppendUint64(b, r.trim)
	b = binary.BigEndian.AppendUint64(b, r.next)
	b = binary.BigEndian.AppendUint64(b, r.mark)
	return finish(queueKey(name), b)
}

func parseQueue(name string, value []byte) (queueRecord, error) {
	f, err := unseal(queueKey(name), value, queueSize)
	if err != nil {
		return queueRecord{}, err
	}
	r := queueRecord{
		id:   binary.BigEndian.Uint64(f),
		trim: binary.BigEndian.Uint64(f[8:]),
		next: binary.BigEndian.Uint64(f[16:]),
		mark: binary.BigEndian.Uint64(f[24:]),
	}
	if r.id == 0 || r.next == 0 || r.next > MaxSeq+1 || r.trim >= r.next {
		return queueRecord{}, fmt.Errorf("%w: queue %d, trim %d, next %d contradict each other", ErrDamaged, r.id, r.trim, r.next)
	}
	return r, nil
}

func parseHolders(key, value []byte) ([][16]byte, error) {
	f, err := unsealAny(key, value)
	if err != nil {
		return nil, err
	}
	if len(f)%16 != 0 || len(f) > 16*MaxHolders {
		return nil, fmt.Errorf("%w: %d bytes of holders", ErrDamaged, len(f))
	}
	ids := make([][16]byte, len(f)/16)
	for i := range ids {
		ids[i] = [16]byte(f[16*i:])
	}
	return ids, nil
}
