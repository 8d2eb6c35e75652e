package ranges

import (
	"math"
	"math/bits"
	"slices"
	"testing"
)

// set makes a set of ranges given as from, to, from, to, ...
func set(ends ...uint64) *Set {
	s := new(Set)
	for i := 0; i < len(ends); i += 2 {
		s.Add(ends[i], ends[i+1])
	}
	return s
}

func list(ends ...uint64) []Range {
	var l []Range
	for i := 0; i < len(ends); i += 2 {
		l = append(l, Range{ends[i], ends[i+1]})
	}
	return l
}

const top = math.MaxUint64

func TestAddMergesWhatItTouches(t *testing.T) {
	for _, c := range []struct {
		name     string
		before   []uint64
		from, to uint64
		want     []Range
	}{
		{"first", nil, 5, 7, list(5, 7)},
		{"extends the last", []uint64{1, 3}, 4, 4, list(1, 4)},
		{"extends the first downwards", []uint64{5, 6}, 4, 4, list(4, 6)},
		{"behind the last with a gap", []uint64{1, 3}, 5, 5, list(1, 3, 5, 5)},
		{"before the first with a gap", []uint64{5, 6}, 1, 3, list(1, 3, 5, 6)},
		{"closes a gap", []uint64{1, 3, 5, 6}, 4, 4, list(1, 6)},
		{"already there", []uint64{1, 9}, 3, 4, list(1, 9)},
		{"overlaps the front", []uint64{5, 9}, 3, 6, list(3, 9)},
		{"overlaps the end", []uint64{5, 9}, 8, 12, list(5, 12)},
		{"swallows several", []uint64{2, 3, 5, 6, 8, 9, 20, 21}, 1, 10, list(1, 10, 20, 21)},
		{"zero", []uint64{1, 1}, 0, 0, list(0, 1)},
		{"the greatest number", []uint64{top - 1, top - 1}, top, top, list(top-1, top)},
		{"below the greatest number", []uint64{top, top}, top - 1, top - 1, list(top-1, top)},
		{"the greatest number again", []uint64{top, top}, top, top, list(top, top)},
		{"zero beside the greatest number", []uint64{top, top}, 0, 0, list(0, 0, top, top)},
		{"everything", []uint64{4, 5, 9, 9}, 0, top, list(0, top)},
		{"to everything", []uint64{0, top}, 7, 8, list(0, top)},
	} {
		s := set(c.before...)
		s.Add(c.from, c.to)
		if got := s.Ranges(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v + %d-%d = %v, want %v", c.name, c.before, c.from, c.to, got, c.want)
		}
	}
}

func TestRemoveSplitsAndTrims(t *testing.T) {
	for _, c := range []struct {
		name     string
		before   []uint64
		from, to uint64
		want     []Range
	}{
		{"from nothing", nil, 0, top, nil},
		{"not there", []uint64{1, 3, 7, 9}, 4, 6, list(1, 3, 7, 9)},
		{"front", []uint64{1, 3}, 1, 1, list(2, 3)},
		{"end", []uint64{1, 3}, 3, 3, list(1, 2)},
		{"middle", []uint64{1, 3}, 2, 2, list(1, 1, 3, 3)},
		{"whole range", []uint64{1, 3, 7, 9}, 1, 3, list(7, 9)},
		{"across ranges", []uint64{1, 3, 5, 6, 8, 10}, 3, 8, list(1, 2, 9, 10)},
		{"more than there is", []uint64{5, 6, 8, 10}, 0, top, nil},
		{"zero", []uint64{0, 1}, 0, 0, list(1, 1)},
		{"the greatest number", []uint64{top - 1, top}, top, top, list(top-1, top-1)},
		{"the middle of everything", []uint64{0, top}, 5, 5, list(0, 4, 6, top)},
	} {
		s := set(c.before...)
		s.Remove(c.from, c.to)
		if got := s.Ranges(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v - %d-%d = %v, want %v", c.name, c.before, c.from, c.to, got, c.want)
		}
	}
}

func TestEverythingCountsAsTheGreatestNumber(t *testing.T) {
	s := set(0, top)
	if got := s.Count(); got != top {
		t.Errorf("Count of all numbers = %d, want %d", got, uint64(top))
	}
	if got := (Range{0, top}).Len(); got != top {
		t.Errorf("Len of the range of all numbers = %d, want %d", got, uint64(top))
	}
	s.Remove(9, 9)
	if got := s.Count(); got != top {
		t.Errorf("Count of all numbers but one = %d, want %d", got, uint64(top))
	}
	s.Remove(3, 3)
	if got := s.Count(); got != top-1 {
		t.Errorf("Count of all numbers but two = %d, want %d", got, uint64(top-1))
	}
	s.Remove(0, top)
	if got := s.Count(); got != 0 {
		t.Errorf("Count of nothing = %d, want 0", got)
	}
}

func TestTheEmptySetHasNeitherMinNorMax(t *testing.T) {
	var zero Set
	emptied := set(4, 9)
	emptied.Remove(4, 9)
	cleared := set(4, 9)
	cleared.Clear()
	for name, s := range map[string]*Set{"zero": &zero, "emptied": emptied, "cleared": cleared} {
		if x, ok := s.Min(); ok {
			t.Errorf("%s: Min = %d, true", name, x)
		}
		if x, ok := s.Max(); ok {
			t.Errorf("%s: Max = %d, true", name, x)
		}
		if s.Len() != 0 || s.Count() != 0 || len(s.Ranges()) != 0 || s.Overlaps(0, top) {
			t.Errorf("%s: %v is not empty", name, s.Ranges())
		}
	}
}

func TestBackwardsRangesPanicWhenChangedAndAreEmptyWhenAsked(t *testing.T) {
	s := set(1, 9)
	for name, change := range map[string]func(from, to uint64){"Add": s.Add, "Remove": s.Remove} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s(5, 4) did not panic", name)
				}
			}()
			change(5, 4)
		}()
	}
	if s.Overlaps(5, 4) {
		t.Error("Overlaps(5, 4) = true, want false")
	}
	for r := range new(Set).Missing(5, 4) {
		t.Errorf("Missing(5, 4) yields %v, want nothing", r)
	}
}

func TestMissingYieldsTheGapsBetweenItsBounds(t *testing.T) {
	for _, c := range []struct {
		have     []uint64
		from, to uint64
		want     []Range
	}{
		{nil, 3, 5, list(3, 5)},
		{nil, 0, top, list(0, top)},
		{[]uint64{3, 5}, 3, 5, nil},
		{[]uint64{3, 5}, 4, 4, nil},
		{[]uint64{3, 5}, 1, 4, list(1, 2)},
		{[]uint64{3, 5}, 4, 8, list(6, 8)},
		{[]uint64{3, 5}, 6, 8, list(6, 8)},
		{[]uint64{3, 5}, 1, 2, list(1, 2)},
		{[]uint64{3, 5, 9, 9}, 0, 20, list(0, 2, 6, 8, 10, 20)},
		{[]uint64{3, 5, 9, 9}, 7, 8, list(7, 8)},
		{[]uint64{0, 0, top, top}, 0, top, list(1, top-1)},
		{[]uint64{0, top}, 0, top, nil},
		{[]uint64{top - 1, top - 1}, top, top, list(top, top)},
	} {
		s := set(c.have...)
		missing := s.Missing(c.from, c.to)
		for _, run := range []string{"first", "second"} { // an iter.Seq may be run again
			if got := slices.Collect(missing); !slices.Equal(got, c.want) {
				t.Errorf("%s run: %v.Missing(%d, %d) = %v, want %v", run, c.have, c.from, c.to, got, c.want)
			}
		}
	}
}

func TestIteratorsStopWhenAsked(t *testing.T) {
	s := set(1, 2, 4, 5)
	for x := range s.Each() {
		if x == 4 {
			break
		}
	}
	n := 0
	for range s.Missing(0, 9) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("Missing yielded %d gaps before the break, want 2", n)
	}
}

func TestEachReachesTheGreatestNumberAndEnds(t *testing.T) {
	want := []uint64{0, 7, 8, top - 1, top}
	if got := slices.Collect(set(0, 0, 7, 8, top-1, top).Each()); !slices.Equal(got, want) {
		t.Errorf("Each = %v, want %v", got, want)
	}
}

func TestCloneAndAppendShareNothing(t *testing.T) {
	s := set(1, 3, 7, 9)
	clone, copied := s.Clone(), s.Append(list(0, 0))
	s.Add(4, 6)
	s.Remove(1, 1)
	if got, want := clone.Ranges(), list(1, 3, 7, 9); !slices.Equal(got, want) || clone.Count() != 6 {
		t.Errorf("the clone became %v with %d members, want %v with 6", got, clone.Count(), want)
	}
	if want := list(0, 0, 1, 3, 7, 9); !slices.Equal(copied, want) {
		t.Errorf("Append made %v, want %v", copied, want)
	}
	clone.Remove(0, top)
	if got, want := s.Ranges(), list(2, 9); !slices.Equal(got, want) {
		t.Errorf("emptying the clone left the set %v, want %v", got, want)
	}
}

func TestASetCanBeAddedToAndRemovedFromItself(t *testing.T) {
	s := set(1, 3, 7, 9, top, top)
	s.AddSet(s)
	if got, want := s.Ranges(), list(1, 3, 7, 9, top, top); !slices.Equal(got, want) || s.Count() != 7 {
		t.Errorf("s + s = %v (%d members), want %v", got, s.Count(), want)
	}
	s.RemoveSet(s)
	if s.Len() != 0 || s.Count() != 0 {
		t.Errorf("s - s = %v (%d members), want nothing", s.Ranges(), s.Count())
	}
}

// bitSet is 64 consecutive numbers from base on: slow, and too simple to be wrong.
type bitSet struct {
	base    uint64
	members uint64
}

// span returns the bits of offsets from..to, both 0..63.
func span(from, to uint64) uint64 { return (math.MaxUint64 << from) & (math.MaxUint64 >> (63 - to)) }

func (b bitSet) ranges() []Range {
	var l []Range
	for i := uint64(0); i < 64; i++ {
		if b.members>>i&1 == 0 {
			continue
		}
		x := b.base + i
		if n := len(l); n > 0 && l[n-1].To+1 == x {
			l[n-1].To = x
		} else {
			l = append(l, Range{x, x})
		}
	}
	return l
}

func (b bitSet) set() *Set {
	s := new(Set)
	for _, r := range b.ranges() {
		s.Add(r.From, r.To)
	}
	return s
}

// checkAgainst compares all that s tells with the bits.
func checkAgainst(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *Set, b bitSet) {
	t.Helper()
	want := b.ranges()
	if got := s.Ranges(); !slices.Equal(got, want) {
		t.Fatalf("ranges %v, want %v", got, want)
	}
	if got, want := s.Count(), uint64(bits.OnesCount64(b.members)); got != want {
		t.Fatalf("%v: Count = %d, want %d", s.Ranges(), got, want)
	}
	if got := s.Len(); got != len(want) {
		t.Fatalf("%v: Len = %d, want %d", s.Ranges(), got, len(want))
	}
	gaps := bitSet{b.base, ^b.members}
	if got, want := slices.Collect(s.Missing(b.base, b.base+63)), gaps.ranges(); !slices.Equal(got, want) {
		t.Fatalf("%v: Missing = %v, want %v", s.Ranges(), got, want)
	}
	for i := uint64(0); i < 64; i++ {
		if got, want := s.Contains(b.base+i), b.members>>i&1 == 1; got != want {
			t.Fatalf("%v: Contains(%d) = %v, want %v", s.Ranges(), b.base+i, got, want)
		}
	}
	checkRoom(t, s)
}

// checkRoom holds the set to what Len promises of its memory.
func checkRoom(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *Set) {
	t.Helper()
	if room, most := len(s.buf), max(keepRoom, wasteRoom*(s.Len()+1)); room > most {
		t.Fatalf("%d ranges have room for %d, want at most %d", s.Len(), room, most)
	}
}
