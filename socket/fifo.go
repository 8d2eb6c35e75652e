package socket

// item is a message in the queue, or a run of them.
type item struct {
	m *Message
	r *run
}

func (it item) stream() *stream {
	if it.r != nil {
		return it.r.in
	}
	return it.m.in
}

// count is how many messages it is.
func (it item) count() int {
	if it.r != nil {
		return it.r.n
	}
	return 1
}

// span tells the first and the last seq.
func (it item) span() (from, to uint64) {
	if it.r != nil {
		return it.r.first, it.r.last()
	}
	return it.m.seq, it.m.seq
}

// bytes is what it takes of the window.
func (it item) bytes() int {
	if it.r != nil {
		return len(it.r.records)
	}
	return int(it.m.size)
}

// each calls f for each message, which of a run are made for it.
func (it item) each(f func(*Message)) {
	if it.r == nil {
		f(it.m)
		return
	}
	for it.r.n > 0 {
		f(it.r.one())
	}
}

// fifo is the queue of messages in order of arrival.
type fifo struct {
	s    []item
	head int
	n    int // messages
}

func (q *fifo) len() int { return q.n }

// front is what pop would return. There must be something.
func (q *fifo) front() item { return q.s[q.head] }

func (q *fifo) push(it item) {
	if len(q.s) == cap(q.s) && q.head > len(q.s)/2 {
		n := copy(q.s, q.s[q.head:])
		clear(q.s[n:])
		q.s, q.head = q.s[:n], 0
	}
	q.s = append(q.s, it)
	q.n += it.count()
}

func (q *fifo) pop() item {
	it := q.s[q.head]
	q.s[q.head] = item{}
	if q.head++; q.head == len(q.s) {
		q.s, q.head = q.s[:0], 0
	}
	q.n -= it.count()
	return it
}

// unpop puts items back before all others.
func (q *fifo) unpop(back []item) {
	for _, it := range back {
		q.n += it.count()
	}
	if n := len(back); n <= q.head {
		q.head -= n
		copy(q.s[q.head:], back)
		return
	}
	q.s, q.head = append(back, q.s[q.head:]...), 0
}

// take removes and returns the messages of a stream (nil: of all) that match.
func (q *fifo) take(st *stream, match func(*Message) bool) (out []*Message) {
	kept := make([]item, 0, len(q.s)-q.head)
	for _, it := range q.s[q.head:] {
		if st != nil && it.stream() != st {
			kept = append(kept, it)
			continue
		}
		it.each(func(m *Message) {
			if match(m) {
				out = append(out, m)
			} else {
				kept = append(kept, item{m: m})
			}
		})
	}
	q.s, q.head = kept, 0
	q.n -= len(out)
	return out
}
