package ledger

import "sort"

const (
	minRing   = 64   // entries that it is not worth to tidy up after
	keepRing  = 1024 // room for so many is kept however few messages are owed
	ringPage  = 64   // entries of a page
	keepPages = keepRing / ringPage
)

// ring holds the unsettled messages and some settled ones between them, ascending
// by seq. Settled messages leave at the front as soon as nothing older is owed, and
// anywhere once they outnumber the owed ones, so that one stuck message does not
// pin memory for all that passed it.
//
// It is made of pages, which come and go one by one: a queue that breathes moves no entry
// and, while it keeps four fifths of what it had, allocates none; between two calls of calm it may breathe out wholly.
type ring struct {
	pages []page // those in use
	head  int    // of the first page: where the entries begin
	n     int
	most  int                // pages in use at a time since calm
	spare []*[ringPage]entry // zero
	idle  []*row             // empty
}

// page holds an entry for each message, or all of them as a row.
type page struct {
	list *[ringPage]entry // nil: see row
	row  *row
}

// at is an entry; if it is part of a row, its page is spread.
func (r *ring) at(i int) *entry {
	i += r.head
	p := &r.pages[uint(i)/ringPage]
	if p.list == nil {
		r.spread(p)
	}
	return &p.list[uint(i)%ringPage]
}

// spread ends a row: its messages go their own ways.
func (r *ring) spread(p *page) {
	u, from := p.row, 0
	if p == &r.pages[0] {
		from = r.head
	}
	list := r.list()
	for slot := from; slot < u.n; slot++ {
		list[slot] = u.entry(slot)
	}
	p.list, p.row = list, nil
	r.rest(u)
}

// rowAt is the row that entry i is part of, and where in it; nil if there is none.
func (r *ring) rowAt(i int) (u *row, slot int) {
	return r.pages[uint(r.head+i)/ringPage].row, r.slot(i)
}

// slot is where in its page entry i stands.
func (r *ring) slot(i int) int { return (r.head + i) % ringPage }

// seqAt is the seq of entry i.
func (r *ring) seqAt(i int) uint64 {
	i += r.head
	p := &r.pages[uint(i)/ringPage]
	if p.list == nil {
		return p.row.first + uint64(uint(i)%ringPage)
	}
	return p.list[uint(i)%ringPage].seq
}

// stateAt is the state of entry i.
func (r *ring) stateAt(i int) State {
	if u, slot := r.rowAt(i); u != nil {
		return u.state(slot)
	}
	return r.at(i).state
}

// view is a copy of entry i.
func (r *ring) view(i int) entry {
	if u, slot := r.rowAt(i); u != nil {
		return u.entry(slot)
	}
	return *r.at(i)
}

// look is a copy of the entry of seq, if it has not left the ring.
func (r *ring) look(seq uint64) (e entry, ok bool) {
	if i := r.index(seq); i < r.n && r.seqAt(i) == seq {
		return r.view(i), true
	}
	return entry{}, false
}

// push adds an entry, which is zero and valid until its message leaves or compact is called.
func (r *ring) push() *entry {
	if r.head+r.n == len(r.pages)*ringPage {
		r.pages = append(r.pages, page{list: r.list()})
		r.most = max(r.most, len(r.pages))
	}
	r.n++
	return r.at(r.n - 1)
}

// add adds a plain message to the row at the end, or to a new one where a page begins. It reports false if there is none
// that would take it.
func (r *ring) add(seq, base uint64, record []byte, accepted int64) bool {
	end := r.head + r.n
	switch {
	case end == len(r.pages)*ringPage:
		if r.n > 0 && r.seqAt(r.n-1)+1 != seq {
			return false // such streams have no neighbours
		}
		r.pages = append(r.pages, page{row: r.row()})
	case end == 0 && r.pages[0].list != nil:
		r.free(r.pages[0].list)
		r.pages[0] = page{row: r.row()}
	}
	u := r.pages[end/ringPage].row
	if u == nil || u.n != end%ringPage || !u.add(seq, base, record, accepted) {
		return false
	}
	r.n++
	return true
}

// extend adds plain messages in a row to the row at the end, if there is one: those whose records end there, one behind the
// other, of which the first was added just now. It returns how many of them are in the ring then.
func (r *ring) extend(ends []uint32) int {
	u := r.pages[(r.head+r.n-1)/ringPage].row
	if u == nil {
		return 1
	}
	n := u.extend(ends)
	r.n += n - 1
	return n
}

// list is a page of entries that are zero.
func (r *ring) list() *[ringPage]entry { return fetch(&r.spare) }

// row is an empty row.
func (r *ring) row() *row { return fetch(&r.idle) }

// fetch takes one of the spare ones, or makes one.
func fetch[T any](spare *[]*T) (p *T) {
	last := len(*spare) - 1
	if last < 0 {
		return new(T)
	}
	p = (*spare)[last]
	(*spare)[last], *spare = nil, (*spare)[:last]
	return p
}

// free takes back a page whose entries are zero.
func (r *ring) free(p *[ringPage]entry) {
	r.spare = append(r.spare, p)
	r.shrink()
}

// rest takes back a row that has ended.
func (r *ring) rest(u *row) {
	u.clear()
	r.idle = append(r.idle, u)
	r.shrink()
}

// shrink lets go of spare pages and idle rows: a quarter as many of each are kept for later as there are pages in use, and of
// the pages as many as were in use with them since calm.
func (r *ring) shrink() {
	most := max(keepPages-len(r.pages), len(r.pages)/4)
	r.spare, r.idle = keep(r.spare, max(most, r.most-len(r.pages))), keep(r.idle, most)
}

// calm lets go of what is not in use now. It is to be called now and then.
func (r *ring) calm() {
	r.most = len(r.pages)
	r.shrink()
}

func keep[T any](spare []*T, most int) []*T {
	for len(spare) > most {
		last := len(spare) - 1
		spare[last], spare = nil, spare[:last]
	}
	return spare
}

func (r *ring) popFront() {
	if p := &r.pages[0]; p.list != nil {
		p.list[r.head] = entry{}
	}
	r.pop(1)
}

// popDone pops what of the row in front is done, and returns how many messages that were.
func (r *ring) popDone() int {
	u := r.pages[0].row
	if u == nil || !u.isDone(r.head) {
		return 0
	}
	n := u.next(r.head, u.n, false) - r.head
	r.pop(n)
	return n
}

// pop takes so many entries, which are of the first page and zero or of a row, out in front.
func (r *ring) pop(n int) {
	r.head += n
	switch r.n -= n; {
	case r.head == ringPage:
		p := r.pages[0]
		r.pages[0] = page{}
		r.pages, r.head = r.pages[1:], 0
		r.drop(p)
	case r.n == 0:
		r.head = 0 // a message at a time always stands in the same place
		if u := r.pages[0].row; u != nil {
			u.clear()
		}
	}
}

// drop takes back a page that has left, whose entries are zero.
func (r *ring) drop(p page) {
	if p.list != nil {
		r.free(p.list)
		return
	}
	r.rest(p.row)
}

// index finds the first entry with a seq of at least seq. Streams are mostly
// dense, so the distance from the first one is tried before searching.
func (r *ring) index(seq uint64) int {
	if r.n == 0 {
		return 0
	}
	first := r.seqAt(0)
	if seq <= first {
		return 0
	}
	if d := seq - first; d < uint64(r.n) && r.seqAt(int(d)) == seq {
		return int(d)
	}
	return r.search(seq)
}

func (r *ring) search(seq uint64) int {
	return sort.Search(r.n, func(i int) bool { return r.seqAt(i) >= seq })
}

// find returns the entry of seq, or nil when it has left the ring.
func (r *ring) find(seq uint64) *entry {
	if i := r.index(seq); i < r.n && r.seqAt(i) == seq {
		return r.at(i)
	}
	return nil
}

// compact drops settled entries wherever they stand, and ends all rows.
func (r *ring) compact() {
	kept := ring{spare: r.spare, idle: r.idle, most: r.most}
	for i := range r.n {
		if !r.stateAt(i).settled() {
			*kept.push() = r.view(i)
		}
	}
	for _, p := range r.pages {
		if p.list != nil {
			*p.list = [ringPage]entry{}
		}
		kept.drop(p)
	}
	*r = kept
}
