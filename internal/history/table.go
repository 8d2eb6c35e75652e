package history

import (
	"iter"
	"maps"
	"slices"
)

// pageSize is small enough that a lone message far away costs little, and large enough that dense seqs cost no more
// than an array.
const pageSize = 256

// table holds one T for each seq that was asked for. Seqs are dense with few holes, but holes may be wide.
type table[T any] struct {
	pages map[uint64]*[pageSize]T
	page  *[pageSize]T // the one used last
	of    uint64       // its number
}

// at returns the T of seq, a new one if need be. It stays where it is.
func (t *table[T]) at(seq uint64) *T {
	if n := seq / pageSize; t.page == nil || n != t.of {
		if t.pages == nil {
			t.pages = map[uint64]*[pageSize]T{}
		}
		page := t.pages[n]
		if page == nil {
			page = new([pageSize]T)
			t.pages[n] = page
		}
		t.page, t.of = page, n
	}
	return &t.page[seq%pageSize]
}

// all visits every T of the pages that exist, ascending by seq; some were never asked for and are zero.
func (t *table[T]) all() iter.Seq2[uint64, *T] {
	return func(yield func(uint64, *T) bool) {
		for _, n := range slices.Sorted(maps.Keys(t.pages)) {
			page := t.pages[n]
			for i := range page {
				if !yield(n*pageSize+uint64(i), &page[i]) {
					return
				}
			}
		}
	}
}
