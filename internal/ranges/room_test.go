package ranges

import "testing"

// fill adds n ranges of one number each, with a gap between them.
func fill(s *Set, n int) {
	for i := range uint64(n) {
		s.Add(2*i, 2*i)
	}
}

func TestRemovingAtTheFrontLeavesTheOtherRangesWhereTheyAre(t *testing.T) {
	s := new(Set)
	fill(s, 10_000)
	last := &s.Ranges()[s.Len()-1]
	for i := range uint64(5_000) {
		s.Remove(2*i, 2*i)
		if &s.Ranges()[s.Len()-1] != last {
			t.Fatalf("removing range %d moved the last one", i)
		}
	}
}

// A window that moves along must slide inside its buffer now and then; were it at every step, each message would cost
// as much as all that are owed.
func TestAMovingWindowSeldomMovesItsRanges(t *testing.T) {
	const window, steps = 1000, 100_000
	s := new(Set)
	fill(s, window)
	moved := 0
	for i := uint64(window); i < window+steps; i++ {
		kept := &s.Ranges()[window/2]
		s.Add(2*i, 2*i)
		s.Remove(2*(i-window), 2*(i-window))
		if kept != &s.Ranges()[window/2-1] {
			moved++
		}
	}
	if most := steps / (window / 2); moved > most {
		t.Errorf("in %d steps the ranges moved %d times, want at most %d", steps, moved, most)
	}
}

func TestARangeInFrontMovesTheOthersSeldom(t *testing.T) {
	const n = 10_000
	s := new(Set)
	moved := 0
	for i := uint64(n); i > 0; i-- {
		var last *Range
		if s.Len() > 0 {
			last = &s.Ranges()[s.Len()-1]
		}
		s.Add(2*i, 2*i)
		if &s.Ranges()[s.Len()-1] != last {
			moved++
		}
	}
	if moved > 30 { // it grows by a half at least each time
		t.Errorf("adding %d ranges downwards moved the others %d times, want at most 30", n, moved)
	}
}

func TestAnEmptiedSetGivesItsRoomBack(t *testing.T) {
	s := new(Set)
	fill(s, 100_000)
	for i := range uint64(100_000) {
		s.Remove(2*i, 2*i)
		checkRoom(t, s)
	}
	fill(s, 100_000)
	s.Clear()
	checkRoom(t, s)
}

func TestTheSteadyStateAllocatesNothing(t *testing.T) {
	next := uint64(0)
	for name, c := range map[string]struct {
		start, step func(*Set)
	}{
		"in order": {
			func(s *Set) { s.Add(0, 999); next = 1000 },
			func(s *Set) { s.Add(next, next); s.Remove(next-1000, next-1000); next++ },
		},
		"every second number": {
			func(s *Set) { fill(s, 1000); next = 2000 },
			func(s *Set) { s.Add(next, next); s.Remove(next-2000, next-2000); next += 2 },
		},
		"empty and back": {
			func(*Set) {},
			func(s *Set) { s.Add(next, next); s.Remove(next, next); next += 2 },
		},
		"bursts of a hundred": {
			func(s *Set) { fill(s, 100); s.Clear() },
			func(s *Set) { fill(s, 100); s.Clear() },
		},
		"a gap that opens and closes": {
			func(s *Set) { fill(s, 1000) },
			func(s *Set) { s.Add(1001, 1001); s.Remove(1001, 1001) },
		},
		"asking": {
			func(s *Set) { fill(s, 1000) },
			func(s *Set) {
				for range s.Missing(500, 600) {
					s.Contains(505)
				}
			},
		},
		"small sets": {
			func(s *Set) { fill(s, 5); next = 0 },
			func(s *Set) { o := Set{buf: fewRanges, hi: len(fewRanges)}; s.AddSet(&o); s.RemoveSet(&o) },
		},
	} {
		s := new(Set)
		c.start(s)
		steps := func() {
			for range 5000 {
				c.step(s)
			}
		}
		steps()                                          // find its size
		if n := testing.AllocsPerRun(1, steps); n != 0 { // not one in all the steps: an average is rounded down
			t.Errorf("%s: %v allocations in 5000 steps, want 0", name, n)
		}
	}
}

var fewRanges = list(3, 3, 7, 9)

func BenchmarkAddInOrder(b *testing.B) {
	s := new(Set)
	b.ReportAllocs()
	for x := uint64(0); b.Loop(); x++ {
		s.Add(x, x)
	}
}

func BenchmarkWindowInOrder(b *testing.B) {
	s := new(Set)
	s.Add(0, 999)
	b.ReportAllocs()
	for x := uint64(1000); b.Loop(); x++ {
		s.Add(x, x)
		s.Remove(x-1000, x-1000)
	}
}

// Every number stands alone, as if each second message were still out.
func BenchmarkWindowOfRanges(b *testing.B) {
	s := new(Set)
	fill(s, 1000)
	b.ReportAllocs()
	for x := uint64(2000); b.Loop(); x += 2 {
		s.Add(x, x)
		s.Remove(x-2000, x-2000)
	}
}

// Numbers come in any order within a window of 1024, as from many workers.
func BenchmarkWindowShuffled(b *testing.B) {
	s := new(Set)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		x := i&^1023 | i*389&1023
		s.Add(x, x)
		if i&1023 == 1023 {
			s.Remove(0, x|1023)
		}
	}
}

// The worst case: 2^18 ranges, DELIVERY's bound on unconfirmed marks, changed in the middle.
func BenchmarkMiddleOfAQuarterMillion(b *testing.B) {
	s := new(Set)
	fill(s, 1<<18)
	b.ReportAllocs()
	for b.Loop() {
		s.Add(1<<18|1, 1<<18|1)
		s.Remove(1<<18|1, 1<<18|1)
	}
}

func BenchmarkContainsAmongAThousand(b *testing.B) {
	s := new(Set)
	fill(s, 1000)
	b.ReportAllocs()
	for x := uint64(0); b.Loop(); x++ {
		s.Contains(x * 389 % 2000)
	}
}
