package ledger

import "slices"

// fifo is a queue of seqs that reuses its memory.
type fifo struct {
	s    []uint64
	head int
}

func (f *fifo) push(v uint64) {
	if len(f.s) == cap(f.s) && f.head > len(f.s)/2 {
		n := copy(f.s, f.s[f.head:])
		f.s, f.head = f.s[:n], 0
	}
	f.s = append(f.s, v)
}

func (f *fifo) len() int     { return len(f.s) - f.head }
func (f *fifo) peek() uint64 { return f.s[f.head] }

func (f *fifo) pop() {
	f.head++
	if f.head == len(f.s) {
		f.s, f.head = f.s[:0], 0
	}
}

// insert puts v in its place in a queue that ascends, if it is not there.
func (f *fifo) insert(v uint64) {
	if f.len() == 0 || v > f.s[len(f.s)-1] {
		f.push(v)
		return
	}
	if i, found := slices.BinarySearch(f.s[f.head:], v); !found {
		f.s = slices.Insert(f.s, f.head+i, v)
	}
}

// remove takes v out of a queue that ascends.
func (f *fifo) remove(v uint64) {
	if i, found := slices.BinarySearch(f.s[f.head:], v); found {
		f.s = slices.Delete(f.s, f.head+i, f.head+i+1)
	}
}
