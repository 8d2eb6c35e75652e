package slots

import (
	"maps"
	"math/rand/v2"
	"testing"
)

func TestAMapHoldsWhatAMapOfGoHolds(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var m Map[int]
		want := map[Key]int{}
		spread := []int{2, 100, 1 << 16}[seed%3]
		for step := range 20_000 {
			k := Key{uint64(rnd.IntN(2)), uint64(step/2 - rnd.IntN(spread)*rnd.IntN(2))}
			if seed%5 == 0 {
				k.Seq *= 1 << 12 // they collide
			}
			v, there := want[k]
			if got, ok := m.Get(k); got != v || ok != there {
				t.Fatalf("seed %d: Get(%v) = %d, %v, want %d, %v", seed, k, got, ok, v, there)
			}
			if rnd.IntN(step%4_000+1) < 1_500 {
				m.Put(k, step)
				want[k] = step
				continue
			}
			if got, ok := m.Take(k); got != v || ok != there {
				t.Fatalf("seed %d: Take(%v) = %d, %v, want %d, %v", seed, k, got, ok, v, there)
			}
			delete(want, k)
		}
		if got := maps.Collect(m.All()); !maps.Equal(got, want) || m.Len() != len(want) {
			t.Fatalf("seed %d: All() has %d values, Len() = %d, want %d", seed, len(got), m.Len(), len(want))
		}
		for k := range m.All() {
			m.Take(k)
		}
		if m.Len() != 0 || len(m.rest) != 0 {
			t.Fatalf("seed %d: %d values are left of those that were taken", seed, m.Len())
		}
	}
}

func TestAValueThatStaysHoldsUpNoOther(t *testing.T) {
	var m Map[int]
	m.Put(Key{1, 1}, -1)
	for seq := uint64(2); seq < 1<<20; seq++ {
		m.Put(Key{1, seq}, int(seq))
		if v, ok := m.Take(Key{1, seq}); !ok || v != int(seq) {
			t.Fatalf("Take of %d = %d, %v", seq, v, ok)
		}
	}
	if v, ok := m.Get(Key{1, 1}); !ok || v != -1 {
		t.Errorf("the first one = %d, %v, want -1, true", v, ok)
	}
	if len(m.table) > fewest {
		t.Errorf("a table of %d slots for two values at a time", len(m.table))
	}
}

func TestMemoryGoesBackWhenItIsNotNeededAnyMore(t *testing.T) {
	var m Map[int]
	fill := func(n uint64) {
		for seq := range n {
			m.Put(Key{0, seq}, 0)
		}
		for seq := range n {
			m.Take(Key{0, seq})
		}
	}
	fill(1 << 16)
	if len(m.table) < 1<<16 {
		t.Errorf("%d slots after a time of many values, want them kept", len(m.table))
	}
	fill(1)
	if len(m.table) != 0 {
		t.Errorf("%d slots after a time of one value, want none", len(m.table))
	}
	fill(spared / 4)
	fill(1)
	if len(m.table) == 0 {
		t.Errorf("no slots after a time of few values, want them kept")
	}
}
