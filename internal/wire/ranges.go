package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	"peermesh/internal/ranges"
)

// EditionRanges are seqs of one edition of a stream.
type EditionRanges struct {
	Edition uint64
	Ranges  []ranges.Range
}

// appendRanges writes ascending, disjoint, non-adjacent ranges. The first is
// written as its distance from zero, each other as the distance from the end of
// the one before, less the two that are certain.
func appendRanges(dst []byte, rs []ranges.Range) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(rs)))
	last := uint64(0)
	for i, r := range rs {
		gap := r.From
		if i > 0 {
			gap = r.From - last - 2
		}
		dst = binary.AppendUvarint(dst, gap)
		dst = binary.AppendUvarint(dst, r.To-r.From)
		last = r.To
	}
	return dst
}

func (p *parser) ranges() []ranges.Range {
	n := p.count(MaxFrame/2, 2)
	if n == 0 {
		return nil
	}
	rs := make([]ranges.Range, 0, n)
	last := uint64(0)
	for i := range n {
		from := p.uvarint()
		if i > 0 {
			if from > math.MaxUint64-2 || last > math.MaxUint64-2-from {
				p.fail(fmt.Errorf("%w: range beyond 64 bits", ErrMalformed))
				return nil
			}
			from += last + 2
		}
		length := p.uvarint()
		if length > math.MaxUint64-from {
			p.fail(fmt.Errorf("%w: range beyond 64 bits", ErrMalformed))
			return nil
		}
		if p.err != nil {
			return nil
		}
		last = from + length
		rs = append(rs, ranges.Range{From: from, To: last})
	}
	return rs
}

func appendEditions(dst []byte, es []EditionRanges) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(es)))
	for _, e := range es {
		dst = binary.BigEndian.AppendUint64(dst, e.Edition)
		dst = appendRanges(dst, e.Ranges)
	}
	return dst
}

func (p *parser) editions() []EditionRanges {
	n := p.count(MaxEditions, 9)
	var es []EditionRanges
	for range n {
		e := EditionRanges{Edition: p.u64(), Ranges: p.ranges()}
		if p.err != nil {
			return nil
		}
		es = append(es, e)
	}
	return es
}

func (p *parser) strs(limit int) []string {
	n := p.count(uint64(limit), 1)
	var ss []string
	for range n {
		s := p.str(MaxPattern)
		if p.err != nil {
			return nil
		}
		ss = append(ss, s)
	}
	return ss
}

func appendStrs(dst []byte, ss []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ss)))
	for _, s := range ss {
		dst = appendStr(dst, s)
	}
	return dst
}
