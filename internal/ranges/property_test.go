package ranges

import (
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Where 64 numbers stand: at both ends of what a uint64 holds, and between.
var bases = []uint64{0, 1, 1 << 32, math.MaxUint64 - 63}

func TestASetAgreesWithSixtyFourBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := bitSet{base: rapid.SampledFrom(bases).Draw(t, "base")}
		s := new(Set)
		drawSpan := func(t *rapid.T) (from, to uint64) {
			from = rapid.Uint64Range(0, 63).Draw(t, "from")
			return from, rapid.Uint64Range(from, 63).Draw(t, "to")
		}
		drawOther := func(t *rapid.T) bitSet { return bitSet{b.base, rapid.Uint64().Draw(t, "other")} }
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				from, to := drawSpan(t)
				s.Add(b.base+from, b.base+to)
				b.members |= span(from, to)
			},
			"remove": func(t *rapid.T) {
				from, to := drawSpan(t)
				s.Remove(b.base+from, b.base+to)
				b.members &^= span(from, to)
			},
			"add one": func(t *rapid.T) {
				x := rapid.Uint64Range(0, 63).Draw(t, "x")
				s.Add(b.base+x, b.base+x)
				b.members |= span(x, x)
			},
			"remove one": func(t *rapid.T) {
				x := rapid.Uint64Range(0, 63).Draw(t, "x")
				s.Remove(b.base+x, b.base+x)
				b.members &^= span(x, x)
			},
			"add set": func(t *rapid.T) {
				o := drawOther(t)
				s.AddSet(o.set())
				b.members |= o.members
			},
			"remove set": func(t *rapid.T) {
				o := drawOther(t)
				s.RemoveSet(o.set())
				b.members &^= o.members
			},
			"overlaps": func(t *rapid.T) {
				from, to := drawSpan(t)
				if got, want := s.Overlaps(b.base+from, b.base+to), b.members&span(from, to) != 0; got != want {
					t.Fatalf("%v: Overlaps(%d, %d) = %v, want %v", s.Ranges(), b.base+from, b.base+to, got, want)
				}
			},
			"clear": func(*rapid.T) {
				s.Clear()
				b.members = 0
			},
			"clone": func(*rapid.T) {
				clone := s.Clone()
				s = &clone
			},
			"": func(t *rapid.T) { checkAgainst(t, s, b) },
		})
	})
}

// A few thousand numbers make hundreds of ranges: the buffer grows, slides and shrinks.
func TestALargeSetAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := new(Set), map[uint64]bool{}
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 40).Draw(t, "steps")
		for _, step := range steps {
			for x := step.from; x <= step.to; x += step.stride {
				if step.add {
					s.Add(x, x)
					m[x] = true
				} else {
					s.Remove(x, x)
					delete(m, x)
				}
			}
			checkRoom(t, s)
			if got, want := slices.Collect(s.Each()), slices.Sorted(maps.Keys(m)); !slices.Equal(got, want) {
				t.Fatalf("members %v, want %v", got, want)
			}
			if s.Count() != uint64(len(m)) {
				t.Fatalf("Count = %d, want %d", s.Count(), len(m))
			}
		}
	})
}

// step adds or removes every stride-th number of from..to.
type step struct {
	add              bool
	from, to, stride uint64
}

func drawStep(t *rapid.T) step {
	from := rapid.Uint64Range(0, 2000).Draw(t, "from")
	return step{
		add:    rapid.Bool().Draw(t, "add"),
		from:   from,
		to:     from + rapid.Uint64Range(0, 2000).Draw(t, "length"),
		stride: rapid.Uint64Range(1, 5).Draw(t, "stride"),
	}
}

// Each three bytes are an operation and its two ends.
func FuzzSet(f *testing.F) {
	f.Add(uint8(0), []byte{0, 1, 3, 0, 7, 9, 0, 4, 4, 1, 8, 8})
	f.Add(uint8(3), []byte{0, 63, 63, 0, 62, 62, 1, 63, 63})
	f.Fuzz(func(t *testing.T, where uint8, ops []byte) {
		b := bitSet{base: bases[int(where)%len(bases)]}
		s, o := new(Set), bitSet{base: b.base}
		for ; len(ops) >= 3; ops = ops[3:] {
			from, to := uint64(ops[1]%64), uint64(ops[2]%64)
			from, to = min(from, to), max(from, to)
			switch ops[0] % 5 {
			case 0:
				s.Add(b.base+from, b.base+to)
				b.members |= span(from, to)
			case 1:
				s.Remove(b.base+from, b.base+to)
				b.members &^= span(from, to)
			case 2: // build up the other set
				o.members ^= span(from, to)
			case 3:
				s.AddSet(o.set())
				b.members |= o.members
			case 4:
				s.RemoveSet(o.set())
				b.members &^= o.members
			}
			checkAgainst(t, s, b)
		}
	})
}
