package spool

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
)

// What is settled of a block that still owes something, and how often its records were tried:
//
//	key    's' | queue (8) | base of the block (8)
//	fields through | ranges | tries, as uvarints, each list led by its length
//
// A range is its distance from the end of the one before and its length; a try is its distance
// from the one before and its two counts. through is where the next block begins, less one, when
// blocks between the two are settled and gone; it is told as its distance from the block's end.
// So the trim point, the blocks and these records account for every seq of a queue, and what none
// of them accounts for is lost.
const settlePrefix = 's'

// Try is how often a record was leased and how often that counted as delivered.
type Try struct {
	Seq                  uint64
	Attempts, Deliveries uint32
}

func settleKey(queue, base uint64) []byte {
	k := append(make([]byte, 0, 17), settlePrefix)
	k = binary.BigEndian.AppendUint64(k, queue)
	return binary.BigEndian.AppendUint64(k, base)
}

// Settle says that the seqs from..to are never read again. Seqs not yet appended, and those
// settled before, are passed over. The room is given back in the same or a later transaction.
func (c *Change) Settle(q *Queue, from, to uint64) {
	if c.g == nil || q.closed {
		return
	}
	from, to = max(from, q.rec.trim+1), min(to, q.rec.next-1)
	if from > to {
		return
	}
	for b := q.find(from); b != nil && b.base <= to; {
		next := b.next
		c.settle(b, SeqRange{max(from, b.base), min(to, b.last)})
		b = next
	}
}

func (c *Change) settle(b *block, r SeqRange) {
	var added uint64
	b.settled, added = insert(b.settled, r)
	if added == 0 {
		return
	}
	b.left -= added
	b.q.left -= added
	b.tries = slices.DeleteFunc(b.tries, func(t Try) bool { return r.From <= t.Seq && t.Seq <= r.To })
	// A block still being filled may yet get records.
	if b.left == 0 {
		c.drop(b)
		return
	}
	c.mark(b)
}

// mark has the settlements of b written.
func (c *Change) mark(b *block) {
	if !b.dirty {
		b.dirty = true
		c.g.marked = append(c.g.marked, b)
	}
}

// touch has the record of q written.
func (c *Change) touch(q *Queue) {
	if q.rec.id == 0 {
		c.s.lastQueue++
		q.rec.id = c.s.lastQueue
	}
	if !q.dirty {
		q.dirty = true
		c.g.queues = append(c.g.queues, q)
	}
}

// doubtAll raises every mark to the end of its queue: under a new store id nobody can tell any
// more what was handed out before.
func (c *Change) doubtAll() {
	for _, q := range c.s.queues {
		if q.rec.next > 1 {
			q.rec.mark = max(q.rec.mark, q.rec.next-1)
			c.touch(q)
		}
	}
}

// SetMark raises the mark of q, a seq of the caller's choosing; a lower one changes nothing.
func (c *Change) SetMark(q *Queue, seq uint64) {
	if c.g == nil || q.closed || seq <= q.rec.mark {
		return
	}
	q.rec.mark = seq
	c.touch(q)
}

// SetTry remembers how often a record was tried, until its seq is settled. For a seq that is
// settled or was not appended it does nothing.
func (c *Change) SetTry(q *Queue, t Try) {
	if c.g == nil || q.closed {
		return
	}
	b := q.find(t.Seq)
	if b == nil || t.Seq < b.base || b.isSettled(t.Seq) {
		return
	}
	i, found := slices.BinarySearchFunc(b.tries, t.Seq, func(t Try, seq uint64) int { return cmpSeq(t.Seq, seq) })
	if found {
		b.tries[i] = t
	} else {
		b.tries = slices.Insert(b.tries, i, t)
	}
	c.mark(b)
}

// Skip makes next the seq of the next record, if it is higher: the seqs passed over count as
// settled and are never used.
func (c *Change) Skip(q *Queue, next uint64) {
	if c.g == nil || q.closed || next <= q.rec.next || next > MaxSeq+1 {
		return
	}
	switch b := q.tail; {
	case b == nil:
		q.rec.trim = next - 1
		q.fill = nil
	case b == q.fill && b.parts == 1 && next-b.base < maxBlockCount: // many short holes need not make many short blocks
		b.settled, _ = insert(b.settled, SeqRange{b.last + 1, next - 1})
		b.last = next - 1
		c.mark(b)
	default:
		b.through = next - 1
		q.fill = nil
		c.mark(b)
	}
	q.rec.next = next
	c.touch(q)
}

func cmpSeq(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// isSettled says whether seq, of this block, is settled.
func (b *block) isSettled(seq uint64) bool {
	i := sort.Search(len(b.settled), func(i int) bool { return b.settled[i].To >= seq })
	return i < len(b.settled) && b.settled[i].From <= seq
}

// owes says whether something at from or above is unsettled.
func (b *block) owes(from uint64) bool {
	if from <= b.base {
		return b.left > 0
	}
	if n := len(b.settled); n > 0 && b.settled[n-1].To == b.last {
		return b.settled[n-1].From > from
	}
	return true
}

// insert adds r to ascending, disjoint ranges and says how many seqs were new.
func insert(ranges []SeqRange, r SeqRange) ([]SeqRange, uint64) {
	// i..j are those that touch r.
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i].To+1 >= r.From })
	added := r.To - r.From + 1
	j := i
	for ; j < len(ranges) && ranges[j].From <= r.To+1; j++ {
		o := ranges[j]
		if from, to := max(o.From, r.From), min(o.To, r.To); from <= to {
			added -= to - from + 1
		}
	}
	if j > i {
		r = SeqRange{min(r.From, ranges[i].From), max(r.To, ranges[j-1].To)}
	}
	if added == 0 {
		return ranges, 0
	}
	return slices.Replace(ranges, i, j, r), added
}

// sealSettled returns the record of a block, nil if there is nothing to say.
func (b *block) sealSettled() []byte {
	hole := b.through > b.last
	if b.gone || len(b.settled) == 0 && len(b.tries) == 0 && !hole {
		return nil
	}
	v := begin(16 + 4*len(b.settled) + 6*len(b.tries))
	var beyond uint64
	if hole {
		beyond = b.through - b.last
	}
	v = binary.AppendUvarint(v, beyond)
	v = binary.AppendUvarint(v, uint64(len(b.settled)))
	at := b.base
	for _, r := range b.settled {
		v = binary.AppendUvarint(v, r.From-at)
		v = binary.AppendUvarint(v, r.To-r.From)
		at = r.To
	}
	v = binary.AppendUvarint(v, uint64(len(b.tries)))
	at = b.base
	for _, t := range b.tries {
		v = binary.AppendUvarint(v, t.Seq-at)
		v = binary.AppendUvarint(v, uint64(t.Attempts))
		v = binary.AppendUvarint(v, uint64(t.Deliveries))
		at = t.Seq
	}
	return finish(settleKey(b.q.rec.id, b.base), v)
}

// parseSettled reads such a record into b, whose base and last are known.
func (b *block) parseSettled(key, value []byte) error {
	f, err := unsealAny(key, value)
	if err != nil {
		return err
	}
	r := uvarints{f, nil}
	beyond := r.next(MaxSeq - b.last)
	n := r.next(b.last - b.base + 1)
	at := b.base
	for range n {
		from := at + r.next(b.last-at)
		to := from + r.next(b.last-from)
		if r.err != nil {
			return r.err
		}
		if len(b.settled) > 0 && from < at+2 {
			return fmt.Errorf("%w: settled ranges touch", ErrDamaged)
		}
		b.settled = append(b.settled, SeqRange{from, to})
		b.left -= to - from + 1
		at = to
	}
	n = r.next(b.last - b.base + 1)
	at = b.base
	for i := range n {
		t := Try{Seq: at + r.next(b.last-at), Attempts: uint32(r.next(1<<32 - 1)), Deliveries: uint32(r.next(1<<32 - 1))}
		if r.err != nil {
			return r.err
		}
		if i > 0 && t.Seq == at || b.isSettled(t.Seq) {
			return fmt.Errorf("%w: tries of seq %d contradict the rest", ErrDamaged, t.Seq)
		}
		b.tries = append(b.tries, t)
		at = t.Seq
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%w: %d bytes too many", ErrDamaged, len(r.rest))
	}
	if beyond > 0 {
		b.through = b.last + beyond
	}
	return r.err
}

// uvarints reads numbers one after the other and remembers the first that makes no sense.
type uvarints struct {
	rest []byte
	err  error
}

// next returns a number not above limit; 0 after an error.
func (r *uvarints) next(limit uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > limit {
		r.err = fmt.Errorf("%w: a number is missing or above %d", ErrDamaged, limit)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}
