package ledger

import (
	"math"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// span is the seqs that an edition owns.
type span struct{ from, to uint64 }

// spansOf finds the seqs of each earlier edition. There are mostly none.
func spansOf(m Mode) map[uint64]span {
	if len(m.Editions) == 0 {
		return nil
	}
	spans := make(map[uint64]span, len(m.Editions))
	to := m.First
	for i := len(m.Editions) - 1; i >= 0; i-- {
		e := m.Editions[i]
		spans[e.Edition] = span{e.First, to - 1}
		to = e.First
	}
	return spans
}

// span is what an edition owns of the stream; ok is false if that is nothing.
func (l *Ledger) span(edition uint64) (s span, ok bool) {
	if edition == l.mode.Edition {
		return span{l.mode.First, math.MaxUint64}, true
	}
	s, ok = l.earlier[edition]
	return s, ok
}

// owned is the part of what a consumer says that is about messages of this stream. All
// else, a tail that was lost or an edition with nothing owed, means other messages.
func (l *Ledger) owned(in wire.EditionRanges) []ranges.Range {
	s, ok := l.span(in.Edition)
	if !ok {
		return nil
	}
	within := true
	for _, r := range in.Ranges {
		within = within && r.From >= s.from && r.To <= s.to
	}
	if within {
		return in.Ranges
	}
	var out []ranges.Range
	for _, r := range in.Ranges {
		if r.From <= r.To && r.From <= s.to && r.To >= s.from {
			out = append(out, ranges.Range{From: max(r.From, s.from), To: min(r.To, s.to)})
		}
	}
	return out
}

// Editions lists the earlier editions for an ATTACH: those that own something owed, or
// something that was not appended yet.
func (l *Ledger) Editions() (out []wire.EditionSpan) {
	for _, e := range l.mode.Editions {
		if s := l.earlier[e.Edition]; s.to >= l.next || l.owes(s.from, s.to) {
			out = append(out, e)
		}
	}
	return out
}
