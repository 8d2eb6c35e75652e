package ledger

import "slices"

// A heap of seqs or of times with seqs. Entries are removed lazily: who pops one
// checks that the message still waits for it, and tidy throws the others out before
// they outnumber what is owed.
type heap[T any] struct {
	items []T
	less  func(a, b T) bool
}

func (h *heap[T]) push(v T) {
	h.items = append(h.items, v)
	for i := len(h.items) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(h.items[i], h.items[up]) {
			return
		}
		h.items[i], h.items[up] = h.items[up], h.items[i]
		i = up
	}
}

func (h *heap[T]) len() int { return len(h.items) }

func (h *heap[T]) min() T { return h.items[0] }

func (h *heap[T]) pop() T {
	top := h.items[0]
	last := len(h.items) - 1
	h.items[0] = h.items[last]
	h.items = h.items[:last]
	h.sink(0)
	return top
}

func (h *heap[T]) sink(i int) {
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			return
		}
		if right := child + 1; right < len(h.items) && h.less(h.items[right], h.items[child]) {
			child = right
		}
		if !h.less(h.items[child], h.items[i]) {
			return
		}
		h.items[i], h.items[child] = h.items[child], h.items[i]
		i = child
	}
}

// tidy keeps only what waits, and that once, if there are at least twice as many
// entries as the owed messages that may be in it.
func (h *heap[T]) tidy(owed int, waits func(T) bool) {
	most := 2*owed + minRing
	if len(h.items) <= most {
		return
	}
	kept := h.items[:0]
	for _, v := range h.items {
		if waits(v) {
			kept = append(kept, v)
		}
	}
	if len(kept) > most { // a message that came and went in other ways stands here several times
		slices.SortFunc(kept, h.compare)
		kept = slices.CompactFunc(kept, func(a, b T) bool { return h.compare(a, b) == 0 })
	}
	if cap(kept) > keepRing && len(kept) < cap(kept)/8 {
		kept = append(make([]T, 0, 2*len(kept)), kept...)
	}
	h.items = kept
	for i := len(kept)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
}

func (h *heap[T]) compare(a, b T) int {
	switch {
	case h.less(a, b):
		return -1
	case h.less(b, a):
		return 1
	}
	return 0
}

// timed is a seq that something happens to at a time.
type timed struct {
	at  int64 // ns since the ledger's epoch
	seq uint64
}

func newSeqHeap() heap[uint64] {
	return heap[uint64]{less: func(a, b uint64) bool { return a < b }}
}

func newTimedHeap() heap[timed] {
	return heap[timed]{less: func(a, b timed) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }}
}
