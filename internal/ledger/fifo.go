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

// spans is a queue of seqs, of which neighbours stand together, and which reuses its memory.
type spans struct {
	s    []span
	head int
}

// push adds n seqs, the first of which is seq.
func (q *spans) push(seq, n uint64) {
	if last := len(q.s) - 1; last >= q.head && q.s[last].to+1 == seq {
		q.s[last].to += n
		return
	}
	if len(q.s) == cap(q.s) && q.head > len(q.s)/2 {
		n := copy(q.s, q.s[q.head:])
		q.s, q.head = q.s[:n], 0
	}
	q.s = append(q.s, span{seq, seq + n - 1})
}

func (q *spans) len() int     { return len(q.s) - q.head }
func (q *spans) peek() uint64 { return q.s[q.head].from }

// pop takes out n seqs, which are neighbours.
func (q *spans) pop(n uint64) {
	if first := &q.s[q.head]; first.from+n <= first.to {
		first.from += n
		return
	}
	q.head++
	if q.head == len(q.s) {
		q.s, q.head = q.s[:0], 0
	}
}
