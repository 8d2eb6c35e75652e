package ledger

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// slots is how many entries there is memory for.
func (r *ring) slots() int {
	n := len(r.spare)
	for _, p := range r.pages {
		if p.list != nil {
			n++
		}
	}
	return n * ringPage
}

// TestARingIsWhatWasPushedAndNotPopped holds a ring against a plain list.
func TestARingIsWhatWasPushedAndNotPopped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		var model []entry
		next := uint64(1)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := rapid.IntRange(1, 5*ringPage).Draw(t, "n")
			switch rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6, 7}).Draw(t, "what") {
			case 7:
				r.calm()
				if most := max(keepRing, 2*(r.n+2*ringPage)); r.slots() > most {
					t.Fatalf("%d slots for %d entries in calm, want at most %d", r.slots(), r.n, most)
				}
			case 5:
				for range n {
					next++
					if !r.add(next, next-next%50, []byte{1}, 0) {
						r.push().seq = next
					}
					model = append(model, entry{seq: next})
				}
			case 6:
				if len(model) > 0 {
					r.at(rapid.IntRange(0, len(model)-1).Draw(t, "i"))
				}
			case 0, 1:
				for range n {
					next += rapid.Uint64Range(1, 3).Draw(t, "gap")
					e := r.push()
					if e.seq != 0 || e.state != Queued || e.record != nil {
						t.Fatalf("a new entry is %+v", *e)
					}
					e.seq, e.record = next, []byte{1}
					model = append(model, entry{seq: next})
				}
			case 2, 3:
				for range min(n, r.n) {
					r.popFront()
				}
				model = model[min(n, len(model)):]
			default:
				for i := range model {
					if model[i].seq%3 == 0 {
						r.at(i).state = Done
					}
				}
				r.compact()
				model = slices.DeleteFunc(model, func(e entry) bool { return e.seq%3 == 0 })
			}
			sameRing(t, &r, model)
		}
	})
}

func sameRing(t *rapid.T, r *ring, model []entry) {
	if r.n != len(model) {
		t.Fatalf("%d entries, want %d", r.n, len(model))
	}
	for i, e := range model {
		if got := r.view(i).seq; got != e.seq || r.seqAt(i) != got {
			t.Fatalf("entry %d is of seq %d and shows %d, want %d", i, got, r.seqAt(i), e.seq)
		}
		if got := r.index(e.seq); got != i {
			t.Fatalf("seq %d is found at %d, want %d", e.seq, got, i)
		}
	}
	if most := max(keepRing, 2*(r.n+2*ringPage), r.most*ringPage); r.slots() > most {
		t.Fatalf("%d slots for %d entries, want at most %d", r.slots(), r.n, most)
	}
	for _, u := range r.idle {
		if u.n != 0 || u.holder != nil || u.pieces[0].data != nil {
			t.Fatalf("an idle row holds %+v", u)
		}
	}
	for _, p := range r.spare {
		for i := range p {
			if p[i].seq != 0 || p[i].record != nil {
				t.Fatalf("a spare page holds %+v", p[i])
			}
		}
	}
}

// TestAQueueThatBreathesAllocatesNoEntries pops a fifth of a long ring, or all of it, and fills it again.
func TestAQueueThatBreathesAllocatesNoEntries(t *testing.T) {
	const long = 100 * ringPage
	var r ring
	next := uint64(0)
	fill := func() {
		for r.n < long {
			next++
			r.push().seq = next
		}
	}
	fill()
	breathes := func(out int) {
		t.Helper()
		if allocs := testing.AllocsPerRun(100, func() {
			for range out {
				r.popFront()
			}
			fill()
		}); allocs > 10 { // of the list of pages
			t.Errorf("%.1f allocations for %d entries", allocs, out)
		}
	}
	breathes(long / 5)
	breathes(long) // as long as calm is not called
}
