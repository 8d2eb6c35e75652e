package ledger

import "sort"

const (
	minRing   = 64   // entries that it is not worth to tidy up after
	keepRing  = 1024 // room for so many is kept however few messages are owed
	ringPage  = 128  // entries of a page
	keepPages = keepRing / ringPage
)

// ring holds the unsettled messages and some settled ones between them, ascending
// by seq. Settled messages leave at the front as soon as nothing older is owed, and
// anywhere once they outnumber the owed ones, so that one stuck message does not
// pin memory for all that passed it.
//
// It is made of pages, which come and go one by one: a queue that breathes moves no entry
// and, while it keeps four fifths of what it had, allocates none.
type ring struct {
	pages []*[ringPage]entry // those in use
	head  int                // of the first page: where the entries begin
	n     int
	spare []*[ringPage]entry // zero
}

func (r *ring) at(i int) *entry {
	i += r.head
	return &r.pages[uint(i)/ringPage][uint(i)%ringPage]
}

// push adds an entry, which is zero and valid until its message leaves or compact is called.
func (r *ring) push() *entry {
	if r.head+r.n == len(r.pages)*ringPage {
		r.grow()
	}
	r.n++
	return r.at(r.n - 1)
}

func (r *ring) grow() {
	var p *[ringPage]entry
	if last := len(r.spare) - 1; last >= 0 {
		p = r.spare[last]
		r.spare[last], r.spare = nil, r.spare[:last]
	} else {
		p = new([ringPage]entry)
	}
	r.pages = append(r.pages, p)
}

func (r *ring) popFront() {
	*r.at(0) = entry{}
	r.head++
	switch r.n--; {
	case r.head == ringPage:
		p := r.pages[0]
		r.pages[0] = nil
		r.pages, r.head = r.pages[1:], 0
		r.free(p)
	case r.n == 0:
		r.head = 0 // a message at a time always stands in the same place
	}
}

// free takes back a page whose entries are zero. A quarter as many are kept for later as are in use.
func (r *ring) free(p *[ringPage]entry) {
	r.spare = append(r.spare, p)
	for most := max(keepPages-len(r.pages), len(r.pages)/4); len(r.spare) > most; {
		last := len(r.spare) - 1
		r.spare[last], r.spare = nil, r.spare[:last]
	}
}

// index finds the first entry with a seq of at least seq. Streams are mostly
// dense, so the distance from the first one is tried before searching.
func (r *ring) index(seq uint64) int {
	if r.n == 0 {
		return 0
	}
	first := r.at(0).seq
	if seq <= first {
		return 0
	}
	if d := seq - first; d < uint64(r.n) && r.at(int(d)).seq == seq {
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
	for used := (r.head + kept + ringPage - 1) / ringPage; len(r.pages) > used; {
		last := len(r.pages) - 1
		p := r.pages[last]
		r.pages[last], r.pages = nil, r.pages[:last]
		r.free(p)
	}
}
