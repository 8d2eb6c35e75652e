package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
)

// EditionSpan says that an edition owns the seqs from First to below the First of
// the span that follows.
type EditionSpan struct{ Edition, First uint64 }

// EditionOf is the edition that owns seq; 0 when it is below all of them, so that no
// honest sender sends it.
func (a *Attach) EditionOf(seq uint64) uint64 {
	if seq >= a.First {
		return a.Edition
	}
	i := sort.Search(len(a.Editions), func(i int) bool { return a.Editions[i].First > seq })
	if i == 0 {
		return 0
	}
	return a.Editions[i-1].Edition
}

// appendSpans writes the earlier editions and the present one. Each First but the
// lowest is written as the distance from the one before, less the one that is certain,
// so that whatever is read ascends.
func appendSpans(dst []byte, earlier []EditionSpan, own EditionSpan) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(earlier)))
	last := uint64(0)
	for i := range len(earlier) + 1 {
		s := own
		if i < len(earlier) {
			s = earlier[i]
		}
		gap := s.First
		if i > 0 {
			gap -= last + 1
		}
		dst = binary.BigEndian.AppendUint64(dst, s.Edition)
		dst = binary.AppendUvarint(dst, gap)
		last = s.First
	}
	return dst
}

func (p *parser) spans() (earlier []EditionSpan, own EditionSpan) {
	n := p.count(MaxEditions, 9)
	if n > 0 {
		earlier = make([]EditionSpan, 0, n)
	}
	last := uint64(0)
	for i := range n + 1 {
		s := EditionSpan{Edition: p.u64(), First: p.uvarint()}
		if i > 0 {
			if last == math.MaxUint64 || s.First > math.MaxUint64-last-1 {
				p.fail(fmt.Errorf("%w: edition beyond 64 bits", ErrMalformed))
				return nil, own
			}
			s.First += last + 1
		}
		if p.err != nil {
			return nil, own
		}
		last = s.First
		if i == n {
			return earlier, s
		}
		earlier = append(earlier, s)
	}
	return earlier, own
}
