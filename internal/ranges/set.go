package ranges

import (
	"fmt"
	"iter"
	"math"
	"slices"
)

// Range is the numbers From, From+1, ... To. Both ends belong to it and From <= To.
type Range struct{ From, To uint64 }

// Len returns how many numbers r holds: at least 1. The one range that holds 2^64 of them reports math.MaxUint64.
func (r Range) Len() uint64 {
	if r.size() == 0 {
		return math.MaxUint64
	}
	return r.size()
}

// size is the length of r modulo 2^64, which is what sums can be made of.
func (r Range) size() uint64 { return r.To - r.From + 1 }

// Set is a set of uint64s. Its zero value is empty and ready for use. A Set is not safe for concurrent use, not even
// for reading while it changes, and must not be copied once used: [Set.Clone] copies.
type Set struct {
	buf    []Range // the ranges are buf[lo:hi]: sorted, disjoint, and never adjacent
	lo, hi int
	count  uint64 // how many numbers, modulo 2^64: 0 in an empty set, and in the full one
}

// Add makes from, to and everything between them members. Numbers that are members already stay so. It panics if
// from > to: whoever takes ranges from the network checks them first.
//
// Adding just behind the last range, or in front of the first, costs O(1) amortised.
func (s *Set) Add(from, to uint64) {
	mustBeOrdered(from, to)
	if s.hi > s.lo {
		if last := &s.buf[s.hi-1]; last.To < from && last.To+1 == from { // extends the last range: by far the commonest
			last.To = to
			s.count += to - from + 1
			return
		}
	}
	i, j := s.overlapping(below(from), above(to)) // a range that only touches is joined too
	if i < j {
		from = min(from, s.Ranges()[i].From)
		to = max(to, s.Ranges()[j-1].To)
	}
	s.replace(i, j, Range{from, to})
}

// Remove makes from, to and everything between them non-members. Numbers that are not members stay so. It panics if
// from > to: whoever takes ranges from the network checks them first.
//
// Removing at the front or at the end costs O(1) amortised.
func (s *Set) Remove(from, to uint64) {
	mustBeOrdered(from, to)
	if s.hi > s.lo {
		if first := &s.buf[s.lo]; first.From == from && to < first.To { // shortens the first range: by far the commonest
			first.From = to + 1
			s.count -= to - from + 1
			return
		}
	}
	i, j := s.overlapping(from, to)
	if i == j {
		return
	}
	first, last := s.Ranges()[i], s.Ranges()[j-1]
	var stay [2]Range // what sticks out on either side
	n := 0
	if first.From < from {
		stay[n] = Range{first.From, from - 1}
		n++
	}
	if last.To > to {
		stay[n] = Range{to + 1, last.To}
		n++
	}
	s.replace(i, j, stay[:n]...)
}

// AddSet adds every member of o, which it leaves alone. It costs one pass over o and over the part of s that o spans.
func (s *Set) AddSet(o *Set) {
	add := o.Ranges()
	if len(add) == 0 {
		return
	}
	i, j := s.overlapping(below(add[0].From), above(add[len(add)-1].To))
	old := s.Ranges()[i:j]
	merged := make([]Range, 0, 16) // stays on the stack while the sets are small
	for len(old)+len(add) > 0 {
		var next Range
		if len(add) == 0 || len(old) > 0 && old[0].From <= add[0].From {
			next, old = old[0], old[1:]
		} else {
			next, add = add[0], add[1:]
		}
		if n := len(merged); n > 0 && next.From <= above(merged[n-1].To) {
			merged[n-1].To = max(merged[n-1].To, next.To)
		} else {
			merged = append(merged, next)
		}
	}
	s.replace(i, j, merged...)
}

// RemoveSet removes every member of o, which it leaves alone (unless o is s itself, which it empties). It costs one
// pass over the part of s that o spans, with a search in o for each range of it.
func (s *Set) RemoveSet(o *Set) {
	if o.Len() == 0 {
		return
	}
	from, _ := o.Min()
	to, _ := o.Max()
	i, j := s.overlapping(from, to)
	stay := make([]Range, 0, 16) // stays on the stack while the sets are small
	for _, r := range s.Ranges()[i:j] {
		for left := range o.Missing(r.From, r.To) {
			stay = append(stay, left)
		}
	}
	s.replace(i, j, stay...)
}

// Clear removes every member.
func (s *Set) Clear() {
	s.hi = s.lo
	s.count = 0
	s.trim()
}

// Contains tells whether x is a member.
func (s *Set) Contains(x uint64) bool { return s.Overlaps(x, x) }

// Overlaps tells whether any of from, to and the numbers between them is a member. If from > to there are no such
// numbers and it is false.
func (s *Set) Overlaps(from, to uint64) bool {
	i := s.search(from)
	return from <= to && i < s.Len() && s.Ranges()[i].From <= to
}

// Count returns how many numbers are members, in O(1). The set of all 2^64 reports math.MaxUint64.
func (s *Set) Count() uint64 {
	if s.count == 0 && s.Len() > 0 {
		return math.MaxUint64
	}
	return s.count
}

// Len returns how many ranges the members form, in O(1). This, and not Count, is what the set costs in memory: 16 bytes
// a range, times three when the set has just grown, times eight before a set that shrinks gives room back; a buffer of
// 4 KiB or less is kept.
func (s *Set) Len() int { return s.hi - s.lo }

// Min returns the smallest member, and false if there is none.
func (s *Set) Min() (uint64, bool) {
	if s.Len() == 0 {
		return 0, false
	}
	return s.buf[s.lo].From, true
}

// Max returns the largest member, and false if there is none.
func (s *Set) Max() (uint64, bool) {
	if s.Len() == 0 {
		return 0, false
	}
	return s.buf[s.hi-1].To, true
}

// Ranges returns the set's ranges in rising order, with at least one number missing between any two. The slice is the
// set's own: it is valid until the next change of the set, and the caller must not write to it. [Set.Append] copies.
func (s *Set) Ranges() []Range { return s.buf[s.lo:s.hi:s.hi] }

// Append appends the set's ranges to dst in rising order and returns the result. The copy is the caller's.
func (s *Set) Append(dst []Range) []Range { return append(dst, s.Ranges()...) }

// Clone returns a set with the same members that shares nothing with s.
func (s *Set) Clone() Set {
	buf := slices.Clone(s.Ranges())
	return Set{buf: buf, hi: len(buf), count: s.count}
}

// Each yields the members one by one in rising order. The set must not change meanwhile.
func (s *Set) Each() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, r := range s.Ranges() {
			for x := r.From; ; x++ {
				if !yield(x) {
					return
				}
				if x == r.To { // not in the loop's head: "x <= r.To" is always true of math.MaxUint64
					break
				}
			}
		}
	}
}

// Missing yields, in rising order, the ranges of non-members among from, to and the numbers between them: nothing if
// all of them are members or if from > to. The set must not change meanwhile.
func (s *Set) Missing(from, to uint64) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		if from > to {
			return
		}
		next := from // everything from here on has not been looked at
		for _, r := range s.Ranges()[s.search(from):] {
			if r.From > to {
				break
			}
			if next < r.From && !yield(Range{next, r.From - 1}) {
				return
			}
			if r.To >= to {
				return
			}
			next = r.To + 1
		}
		yield(Range{next, to})
	}
}

// search returns the index of the first range that ends at x or later, or Len if there is none.
func (s *Set) search(x uint64) int {
	r := s.Ranges()
	if len(r) == 0 || r[0].To >= x { // both ends first: that is where a stream works
		return 0
	}
	i, j := 1, len(r)
	if r[j-1].To < x {
		return j
	}
	for i < j {
		if mid := int(uint(i+j) / 2); r[mid].To < x {
			i = mid + 1
		} else {
			j = mid
		}
	}
	return i
}

// overlapping returns i and j such that the ranges i <= k < j, and no others, have a member in from..to. If there are
// none, i == j is where such a range would stand.
func (s *Set) overlapping(from, to uint64) (i, j int) {
	i = s.search(from)
	for j = i; j < s.Len() && s.Ranges()[j].From <= to; j++ { // every caller replaces these, so the walk is paid for
	}
	return i, j
}

// below returns the number before x, or 0.
func below(x uint64) uint64 { return x - min(x, 1) }

// above returns the number after x, or math.MaxUint64.
func above(x uint64) uint64 { return x + min(math.MaxUint64-x, 1) }

func mustBeOrdered(from, to uint64) {
	if from > to {
		panic(fmt.Sprintf("ranges: from %d is greater than to %d", from, to))
	}
}
