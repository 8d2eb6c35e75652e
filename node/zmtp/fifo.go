package zmtp

import "slices"

// A fifo is a queue. The zero value is empty.
type fifo[T any] struct {
	s    []T
	head int
}

func (q *fifo[T]) len() int { return len(q.s) - q.head }

// all is what is in the queue, oldest first, valid until the next push or drop.
func (q *fifo[T]) all() []T { return q.s[q.head:] }

func (q *fifo[T]) push(vs ...T) {
	if len(q.s)+len(vs) > cap(q.s) && q.head >= len(q.s)/2 {
		q.s, q.head = slices.Delete(q.s, 0, q.head), 0
	}
	q.s = append(q.s, vs...)
}

// drop removes the oldest n.
func (q *fifo[T]) drop(n int) {
	clear(q.s[q.head : q.head+n])
	if q.head += n; q.head == len(q.s) {
		q.s, q.head = q.s[:0], 0
	}
}
