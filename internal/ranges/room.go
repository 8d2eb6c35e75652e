package ranges

const (
	// minRoom is how many ranges the first buffer has room for: 128 bytes, as most sets hold a handful.
	minRoom = 8

	// keepRoom is how many ranges' room a set keeps however few it holds, so that a set that comes and goes between
	// a burst does not allocate each time: 4 KiB, a page.
	keepRoom = 256

	// wasteRoom bounds a larger buffer: below one part in wasteRoom used, it is replaced by a smaller one.
	wasteRoom = 8
)

// replace puts with where the ranges i <= k < j are. The result must be sorted, disjoint and free of adjacent ranges.
// It does not keep with, which must not be part of s.
func (s *Set) replace(i, j int, with ...Range) {
	for _, r := range s.Ranges()[i:j] {
		s.count -= r.size()
	}
	for _, r := range with {
		s.count += r.size()
	}
	s.resize(i, j, len(with))
	copy(s.Ranges()[i:], with)
	s.trim()
}

// resize makes the ranges i <= k < j into n ranges of any content, moving whichever side of them is shorter.
func (s *Set) resize(i, j, n int) {
	grow := n - (j - i) // negative when ranges go
	front := i < s.Len()-j
	if front && s.lo < grow || !front && len(s.buf)-s.hi < grow {
		s.makeRoom(grow)
	}
	if front {
		copy(s.buf[s.lo-grow:], s.buf[s.lo:s.lo+i])
		s.lo -= grow
		return
	}
	copy(s.buf[s.lo+j+grow:], s.buf[s.lo+j:s.hi])
	s.hi += grow
}

// makeRoom leaves room for n more ranges on either side, and for as many as a quarter of the buffer, so that the next
// call is far away.
func (s *Set) makeRoom(n int) {
	if need := s.Len() + n; 2*need > len(s.buf) {
		s.moveTo(make([]Range, max(3*need, minRoom)))
		return
	}
	s.moveTo(s.buf)
}

// trim gives room back when little of it is used.
func (s *Set) trim() {
	if len(s.buf) > keepRoom && s.Len() < len(s.buf)/wasteRoom {
		s.moveTo(make([]Range, max(3*s.Len(), keepRoom)))
	}
}

// moveTo makes buf the set's buffer, with the ranges in the middle.
func (s *Set) moveTo(buf []Range) {
	lo := (len(buf) - s.Len()) / 2
	n := copy(buf[lo:], s.Ranges())
	s.buf, s.lo, s.hi = buf, lo, lo+n
}
