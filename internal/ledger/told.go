package ledger

import (
	"cmp"
	"math"
	"slices"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// What a consumer is told beside messages: which marks it may forget, what it should
// drop, and which seqs will never come.

const (
	maxMarks   = 1 << 18 // ranges to confirm; an honest consumer has no more marks than that
	maxConfirm = 1 << 15 // ranges in one CONFIRM or REVOKE, so that it fits a frame whatever the seqs
)

// confirms are done marks that a consumer may forget but was not told so yet.
type confirms struct {
	current ranges.Set      // of the present edition
	older   []*editionMarks // of earlier lives of the sender, ascending by edition
	ranges  int             // in all of them
	answers uint64          // noted since take
	out     []wire.EditionRanges
	parts   []ranges.Range // what out consists of
}

type editionMarks struct {
	edition uint64
	set     ranges.Set
}

func (m *confirms) pending() bool { return m.ranges > 0 }

// put notes marks; those of another edition are nobody's business but the consumer's.
// It reports false when they are of too many editions.
func (m *confirms) put(edition uint64, r ranges.Range, current uint64) bool {
	set := &m.current
	if edition != current {
		i, found := slices.BinarySearchFunc(m.older, edition, func(o *editionMarks, id uint64) int { return cmp.Compare(o.edition, id) })
		if !found {
			if len(m.older) == wire.MaxEditions {
				return false
			}
			m.older = slices.Insert(m.older, i, &editionMarks{edition: edition})
		}
		set = &m.older[i].set
	}
	m.ranges -= set.Len()
	set.Add(r.From, r.To)
	m.ranges += set.Len()
	m.answers += min(r.Len(), math.MaxUint64-m.answers)
	return true
}

// take hands all of it over. The result is valid until the next call.
func (m *confirms) take(current uint64) []wire.EditionRanges {
	m.out, m.parts = m.out[:0], m.current.Append(m.parts[:0])
	m.current.Clear()
	m.tell(current, m.parts)
	for _, o := range m.older {
		m.tell(o.edition, o.set.Ranges())
	}
	m.older, m.ranges, m.answers = nil, 0, 0
	return m.out
}

func (m *confirms) tell(edition uint64, rs []ranges.Range) {
	for part := range slices.Chunk(rs, maxConfirm) {
		m.out = append(m.out, wire.EditionRanges{Edition: edition, Ranges: part})
	}
}

// Confirmable is how many answers TakeConfirms would confirm.
func (c *Consumer) Confirmable() uint64 { return c.confirms.answers }

// TakeConfirms hands over what c may forget. The result is valid until the next
// call.
func (l *Ledger) TakeConfirms(c *Consumer) []wire.EditionRanges {
	return c.confirms.take(l.mode.Edition)
}

// TakeRevoked reports whether there is something for a consumer to drop since it was called last.
func (l *Ledger) TakeRevoked() bool {
	was := l.revoked
	l.revoked = false
	return was
}

// TakeRevokes hands over what c should drop, as much of it as fits a frame; nil if there
// is nothing.
func (c *Consumer) TakeRevokes() []ranges.Range {
	all := c.revoke.Ranges()
	if len(all) == 0 {
		return nil
	}
	rs := slices.Clone(all[:min(len(all), maxConfirm)])
	if len(rs) == len(all) {
		c.revoke.Clear()
	} else {
		c.revoke.Remove(rs[0].From, rs[len(rs)-1].To)
	}
	return rs
}

// maxGaps bounds the holes of one reason kept for a consumer, beside two for each
// message that was owed; above it neighbours with nothing owed between them are
// merged, so that what is stated is an upper bound and yet nothing of it will ever be
// sent.
const maxGaps = 4096

// gapSets are gaps by reason: empty, as mostly, or with a set for each.
type gapSets []ranges.Set

// of returns the set of a reason.
func (s *gapSets) of(reason wire.GapReason) *ranges.Set {
	if *s == nil {
		*s = make(gapSets, wire.GapDropped+1)
	}
	return &(*s)[reason]
}

// holes are the gaps of a consumer. A pipe that breaks may take told ones with it.
// So they are kept until the consumer answers a message that was sent after them on
// the same pipe, and told again on the next one otherwise.
//
//	add          tell               next message         its answer
//	---> waiting ----> told[1] ... (told[0] is empty) -> told[0] ---> forgotten
//	        ^             |                                 |
//	        +-------------+--------- the pipe ended --------+
type holes struct {
	start   uint64 // what lies below is not the consumer's business
	limit   int    // ranges of one reason before they are merged again
	waiting gapSets
	told    [2]gapSets
	proof   uint64 // the message whose answer proves that told[0] was read; 0: it is empty
	news    bool   // told[1] is not empty
}

// lowest is the first seq of all holes that may not have been read; none: the highest seq.
func (h *holes) lowest() uint64 {
	low := uint64(math.MaxUint64)
	for _, sets := range []gapSets{h.waiting, h.told[0], h.told[1]} {
		for i := range sets {
			if rs := sets[i].Ranges(); len(rs) > 0 {
				low = min(low, rs[0].From)
			}
		}
	}
	return low
}

// hole notes a gap for c.
func (l *Ledger) hole(c *Consumer, g wire.Gap) {
	h := &c.holes
	if g.To < h.start {
		return
	}
	set := h.waiting.of(g.Reason)
	set.Add(max(g.From, h.start), g.To)
	if h.limit = max(h.limit, maxGaps); set.Len() > h.limit {
		l.merge(set)
		h.limit = 2 * set.Len() // what is left has owed messages between
	}
}

// merge fills the holes of set that hold nothing owed.
func (l *Ledger) merge(set *ranges.Set) {
	rs := set.Append(nil)
	for i, r := range rs[1:] {
		if from := rs[i].To + 1; !l.owes(from, r.From-1) {
			set.Add(from, r.From-1)
		}
	}
}

// owes reports whether any of from..to is not settled.
func (l *Ledger) owes(from, to uint64) bool {
	for i := l.ring.index(from); i < l.ring.n && l.ring.seqAt(i) <= to; i++ {
		if !l.ring.stateAt(i).settled() {
			return true
		}
	}
	return false
}

// HolesRead reports whether c has certainly been told of every hole so far.
func (c *Consumer) HolesRead() bool {
	for _, set := range []gapSets{c.holes.waiting, c.holes.told[0], c.holes.told[1]} {
		for i := range set {
			if set[i].Count() > 0 {
				return false
			}
		}
	}
	return true
}

// TakeGaps hands over the holes c has not been told of, by seq.
func (c *Consumer) TakeGaps() (out []wire.Gap) {
	h := &c.holes
	for reason := range h.waiting {
		set := &h.waiting[reason]
		if set.Len() == 0 {
			continue
		}
		for _, r := range set.Ranges() {
			out = append(out, wire.Gap{From: r.From, To: r.To, Reason: wire.GapReason(reason)})
		}
		h.told[1].of(wire.GapReason(reason)).AddSet(set)
		set.Clear()
	}
	h.news = h.news || len(out) > 0
	slices.SortFunc(out, func(a, b wire.Gap) int { return cmp.Compare(a.From, b.From) })
	return out
}

// sent notes that a message follows the holes told so far.
func (h *holes) sent(seq uint64) {
	if h.proof == 0 && h.news {
		h.proof, h.news = seq, false
		h.told[0], h.told[1] = h.told[1], nil
	}
}

// answered forgets the holes that c has certainly been told.
func (h *holes) answered(rs []ranges.Range) {
	if h.proof == 0 {
		return
	}
	for _, r := range rs {
		if r.From <= h.proof && h.proof <= r.To {
			h.proof, h.told[0] = 0, nil
			return
		}
	}
}

// again makes all that may not have been read wait for the next pipe.
func (h *holes) again() {
	for i := range h.told {
		for reason := range h.told[i] {
			h.waiting.of(wire.GapReason(reason)).AddSet(&h.told[i][reason])
		}
		h.told[i] = nil
	}
	h.proof, h.news = 0, false
}
