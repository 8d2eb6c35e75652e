package ledger

import (
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// With Mode.Staged a consumer is told to forget a mark only when what it answered is
// durable here:
//
//	answered -> staged -- Seal(n) -> sealed -- Release(n) -> TakeConfirms
//
// Each fate is staged too: until it is durable, a restart would owe the message again. So
// no hole is stated before, and no mark forgotten by way of ATTACH's start. A message from
// behind one that was dropped waits for that, for whoever gets it must know of the hole. It
// is leased meanwhile: what waits is not dropped in its turn, so it does not wait for ever.
type stage struct {
	marks   []stagedMark // oldest first
	head    int          // the first that is not released
	open    int          // the last so many are not sealed
	dropped ranges.Set   // of those not released
}

// stagedMark is what c may forget when n is durable.
type stagedMark struct {
	c       *Consumer // nil: a fate
	edition uint64
	seqs    ranges.Range
	reason  wire.GapReason // of a fate that leaves a hole; otherwise 0
	n       uint64         // 0: not sealed
}

// Unsealed reports whether something was answered or settled since the last Seal.
func (l *Ledger) Unsealed() bool { return l.stage.open > 0 }

// Seal says that all that was answered and settled until now is durable when n is. n
// is not 0 and rises.
func (l *Ledger) Seal(n uint64) {
	s := &l.stage
	for i := len(s.marks) - s.open; i < len(s.marks); i++ {
		s.marks[i].n = n
	}
	s.open = 0
}

// Release says that everything sealed with n or less is durable. Confirmable tells
// which consumers have marks to be confirmed now, and Urgent which have messages that waited
// for a hole; holes are told with the next message.
func (l *Ledger) Release(n uint64) {
	s := &l.stage
	for ; s.head < len(s.marks)-s.open && s.marks[s.head].n <= n; s.head++ {
		m := s.marks[s.head]
		s.marks[s.head].c = nil
		switch {
		case m.c != nil:
			m.c.staged--
			m.c.confirms.put(m.edition, m.seqs, l.mode.Edition) // too many editions: no honest consumer has them
		case m.reason != 0:
			if m.reason == wire.GapDropped {
				l.bare(m.seqs)
			}
			l.gap(wire.Gap{From: m.seqs.From, To: m.seqs.To, Reason: m.reason})
		}
	}
	s.shrink()
}

// bare lets go what waited for these to be durable.
func (l *Ledger) bare(rs ranges.Range) {
	l.stage.dropped.Remove(rs.From, rs.To)
	for _, c := range l.consumers {
		c.behind = false
	}
}

// behind reports whether a message lies behind one that was dropped, which is not durable.
func (s *stage) behind(seq uint64) bool {
	first, ok := s.dropped.Min()
	return ok && first < seq
}

// shrink makes room in front, once that is worth it.
func (s *stage) shrink() {
	switch n := len(s.marks) - s.head; {
	case n == 0 && cap(s.marks) > keepRing:
		s.marks, s.head = nil, 0
	case n < s.head || n == 0:
		copy(s.marks, s.marks[s.head:])
		clear(s.marks[n:]) // it keeps no consumer alive
		s.marks, s.head = s.marks[:n], 0
	}
}

// confirm notes that c may forget marks, now or when they are released.
func (l *Ledger) confirm(c *Consumer, e wire.EditionRanges) error {
	for _, r := range e.Ranges {
		if r.From > r.To {
			return ErrForged{r.To}
		}
	}
	if l.mode.Staged && c.staged+c.confirms.ranges+len(e.Ranges) > 2*maxMarks {
		return errUnread
	}
	for _, r := range e.Ranges {
		if l.mode.Staged && l.kept(r.From) {
			l.stage.add(stagedMark{c: c, edition: e.Edition, seqs: r})
			c.staged++
			continue
		}
		if !c.confirms.put(e.Edition, r, l.mode.Edition) || c.confirms.ranges > maxMarks {
			return errUnread
		}
	}
	return nil
}

// fate notes that neighbours met a fate.
func (s *stage) fate(r ranges.Range, reason wire.GapReason) {
	if reason == wire.GapDropped {
		s.dropped.Add(r.From, r.To)
	}
	if s.open > 0 {
		if last := &s.marks[len(s.marks)-1]; last.c == nil && last.reason == reason && last.seqs.To+1 == r.From {
			last.seqs.To = r.To
			return
		}
	}
	s.add(stagedMark{seqs: r, reason: reason})
}

func (s *stage) add(m stagedMark) {
	s.marks = append(s.marks, m)
	s.open++
}

// retold drops what c was to be told: it has just told all that it has not forgotten.
// Marks of requests are told with their replies, which need not come if they are
// confirmed before.
func (l *Ledger) retold(c *Consumer) {
	if !l.mode.Requests {
		c.confirms = confirms{}
	}
	if c.staged == 0 {
		return
	}
	s := &l.stage
	kept := s.marks[:s.head]
	open := s.open
	for i, m := range s.marks[s.head:] {
		if m.c != c {
			kept = append(kept, m)
		} else if i >= len(s.marks)-s.head-s.open {
			open--
		}
	}
	clear(s.marks[len(kept):])
	s.marks, s.open, c.staged = kept, open, 0
}

// StartOf is what an ATTACH to c may name as its start: Start, or the first hole that c may
// not have been told of. At the start a receiver forgets its done marks below, and without
// these it could not tell which messages of a hole it has had all the same.
func (l *Ledger) StartOf(c *Consumer) uint64 { return min(l.Start(), c.holes.lowest()) }

// Start is the lowest seq that a restart of the sender might owe: the first one not
// settled, or whose fate is not durable. ATTACH must not name a higher one.
func (l *Ledger) Start() uint64 {
	start := l.Lowest()
	for _, m := range l.stage.marks[l.stage.head:] {
		if m.c == nil {
			start = min(start, m.seqs.From)
		}
	}
	return start
}
