package zmtp

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestAFifoIsAQueue(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var q fifo[int]
	var want []int
	for step := range 10000 {
		if r.IntN(2) == 0 {
			vs := make([]int, r.IntN(8))
			for i := range vs {
				vs[i] = r.Int()
			}
			q.push(vs...)
			want = append(want, vs...)
		} else if n := min(r.IntN(9), len(want)); n > 0 {
			q.drop(n)
			want = want[n:]
		}
		if !slices.Equal(q.all(), want) || q.len() != len(want) {
			t.Fatalf("step %d: got %v, want %v", step, q.all(), want)
		}
		if at := slices.IndexFunc(q.s[:q.head], func(v int) bool { return v != 0 }); at >= 0 {
			t.Fatalf("step %d: what was dropped is kept", step)
		}
	}
	if cap(q.s) > 4096 {
		t.Errorf("room for %d, and %d are there", cap(q.s), len(want))
	}
}
