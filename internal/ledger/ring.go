package ledger

import "sort"

const (
	minRing  = 64   // slots of the first buffer
	keepRing = 1024 // a buffer of this size is kept however few messages are owed
)

// ring holds the unsettled messages and some settled ones between them, ascending
// by seq. Settled messages leave at the front as soon as nothing older is owed, and
// anywhere once they outnumber the owed ones, so that one stuck message does not
// pin memory for all that passed it.
type ring struct {
	buf  []entry // length is a power of two
	head int
	n    int
}

func (r *ring) at(i int) *entry { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

// push adds an entry, which is zero and valid until the next push.
func (r *ring) push() *entry {
	if r.n == len(r.buf) {
		r.resize(max(minRing, 2*len(r.buf)))
	}
	r.n++
	return r.at(r.n - 1)
}

func (r *ring) resize(size int) {
	buf := make([]entry, size)
	for i := range r.n {
		buf[i] = *r.at(i)
	}
	r.buf, r.head = buf, 0
}

func (r *ring) popFront() {
	*r.at(0) = entry{}
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	r.shrink()
}

// shrink gives memory back when little of it is used; it leaves room to double
// twice, so that a queue that breathes does not allocate with each breath.
func (r *ring) shrink() {
	size := len(r.buf)
	for size > keepRing && r.n < size/8 {
		size /= 2
	}
	if size < len(r.buf) {
		r.resize(size)
	}
}

// index finds the first entry with a seq of at least seq. Streams are mostly
// dense, so the distance from the first one is tried before searching.
func (r *ring) index(seq uint64) int {
	if r.n == 0 || seq <= r.at(0).seq {
		return 0
	}
	if d := seq - r.at(0).seq; d < uint64(r.n) && r.at(int(d)).seq == seq {
		return int(d)
	}
	return r.search(seq)
}

func (r *ring) search(seq uint64) int {
	return sort.Search(r.n, func(i int) bool { return r.at(i).seq >= seq })
}

// find returns the entry of seq, or nil when it has left the ring.
func (r *ring) find(seq uint64) *entry {
	if i := r.index(seq); i < r.n && r.at(i).seq == seq {
		return r.at(i)
	}
	return nil
}

// compact drops settled entries wherever they stand.
func (r *ring) compact() {
	kept := 0
	for i := range r.n {
		if e := r.at(i); !e.state.settled() {
			if kept != i {
				*r.at(kept) = *e
			}
			kept++
		}
	}
	for i := kept; i < r.n; i++ {
		*r.at(i) = entry{}
	}
	r.n = kept
	r.shrink()
}
