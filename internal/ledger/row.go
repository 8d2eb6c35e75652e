package ledger

import (
	"math/bits"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// Most messages are plain: they have no key, no TTL and no delay, and the one consumer
// there is gets them, and is done with them, at the first attempt. Their records stand one behind the other in a block. A
// page of the ring holds such neighbours as a row, in which a message costs a few bytes and next to no time:
//
//	0        taken      leased       n       slots of the page
//	| handed  | leased   | queued    |
//	| over    | to       | and never |
//	|         | holder   | dispatched|
//
// What is done of those handed over is a bit each. All else that can happen to a message (it comes back, it is dropped or
// moved to disk, another consumer joins) ends the row: its page is spread, into an entry for each, and these go their own
// ways. Whoever asks the ring for an entry has its page spread (at, find); who only looks does not (view, stateAt, seqAt).

const (
	// rowPieces is how many blocks, or times of acceptance, the messages of a row come from.
	rowPieces = 4
	// rowAge is how much earlier than it was a message of a row may be said to have been accepted.
	rowAge = int64(10 * time.Millisecond)
	// maxPlain is the longest record that is worth it: of a page's worth rowPieces blocks hold all.
	maxPlain = 3 << 9
)

type row struct {
	first            uint64 // seq of slot 0
	n, leased, taken int
	done             [ringPage / 64]uint64
	settled          int       // bits of done
	holder           *Consumer // of what is leased and taken
	self             []process // of the holder, when it was taken
	pieces           [rowPieces]piece
	used             int // pieces
	ends             [ringPage]uint32
}

// piece is the records of neighbours, which stand one behind the other.
type piece struct {
	from     int    // its first slot
	at       uint32 // bytes of the records in the slots before
	base     uint64
	accepted int64
	data     []byte
}

// plain reports whether a message has nothing but its record.
func (it *Item) plain() bool {
	return it.Key == "" && it.Expires.IsZero() && it.NotBefore.IsZero() && !it.Absent && !it.Unknown && it.Attempt == 0 && it.Deliveries == 0
}

// toRow adds a plain message to a row. It reports false if it must be an entry of its own.
func (l *Ledger) toRow(seq, base uint64, record []byte, accepted int64) bool {
	return len(record) > 0 && len(record) <= maxPlain && (l.up <= 1 || l.shared >= ringPage/2) && !l.mode.single() &&
		l.ring.add(seq, base, record, accepted)
}

// single reports whether each message of such a stream is an entry of its own.
func (m *Mode) single() bool { return m.BestEffort || m.AtMostOnce || m.Requests }

// add takes a message in, if it is the next one and its record has a place.
func (u *row) add(seq, base uint64, record []byte, accepted int64) bool {
	if u.n > 0 && seq != u.first+uint64(u.n) {
		return false
	}
	if !u.follows(base, record, accepted) {
		if u.used == rowPieces {
			return false
		}
		u.pieces[u.used] = piece{from: u.n, at: u.start(u.n), base: base, accepted: accepted, data: record}
		u.used++
	}
	if u.n == 0 {
		u.first = seq
	}
	u.ends[u.n] = u.start(u.n) + uint32(len(record))
	u.n++
	return true
}

// follows reports whether a message's record goes on where the last piece ends, which it is part of then.
func (u *row) follows(base uint64, record []byte, accepted int64) bool {
	if u.used == 0 {
		return false
	}
	p := &u.pieces[u.used-1]
	n, size := len(p.data), len(record)
	if p.base != base || accepted < p.accepted || accepted-p.accepted > rowAge || cap(p.data)-n < size || &p.data[:n+1][n] != &record[0] {
		return false
	}
	p.data = p.data[:n+size]
	return true
}

// extend adds messages whose records follow that of the last one, the first of these, as far as there is room for them.
func (u *row) extend(ends []uint32) (n int) {
	at := u.ends[u.n-1] - ends[0]
	for n = 1; n < len(ends) && u.n < ringPage && ends[n]-ends[n-1] <= maxPlain; n++ {
		u.ends[u.n] = at + ends[n]
		u.n++
	}
	p := &u.pieces[u.used-1]
	p.data = p.data[:len(p.data)+int(ends[n-1]-ends[0])]
	return n
}

// start is where the record of a slot begins: the bytes of all before it.
func (u *row) start(slot int) uint32 {
	if slot == 0 {
		return 0
	}
	return u.ends[slot-1]
}

// size is the bytes of the records of slots a to b-1.
func (u *row) size(a, b int) uint64 { return uint64(u.start(b) - u.start(a)) }

// fit is the end of the slots from a on, up to b, whose records come to no more than so many bytes.
func (u *row) fit(a, b int, most uint64) int {
	if u.size(a, b) <= most {
		return b
	}
	for b = a; u.size(a, b+1) <= most; b++ {
	}
	return b
}

// piece is the index of that in which a slot's record is.
func (u *row) piece(slot int) int {
	i := u.used - 1
	for u.pieces[i].from > slot {
		i--
	}
	return i
}

// records are those of slots a to b-1, all of one piece.
func (u *row) records(p *piece, a, b int) []byte {
	from, to := u.start(a)-p.at, u.start(b)-p.at
	return p.data[from:to:to]
}

func (u *row) isDone(slot int) bool { return u.done[slot/64]>>(slot%64)&1 != 0 }

// word is the bits of slots a to b-1 that are in a word of done.
func word(w, a, b int) uint64 {
	a, b = max(a-64*w, 0), min(b-64*w, 64)
	if a >= b {
		return 0
	}
	return ^uint64(0) >> (64 - (b - a)) << a
}

// next is the first slot from a on, up to b, that is done, or is not.
func (u *row) next(a, b int, done bool) int {
	for w := a / 64; w < len(u.done); w++ {
		set := u.done[w]
		if !done {
			set = ^set
		}
		if set &= word(w, a, b); set != 0 {
			return 64*w + bits.TrailingZeros64(set)
		}
	}
	return b
}

func (u *row) state(slot int) State {
	switch {
	case slot >= u.leased:
		return Queued
	case slot < u.taken && u.isDone(slot):
		return Done
	}
	return Leased
}

// entry is what a slot's message would be on its own.
func (u *row) entry(slot int) entry {
	e := entry{seq: u.first + uint64(slot), state: u.state(slot)}
	if slot < u.leased {
		e.attempt = 1
	}
	if e.state == Done {
		return e
	}
	p := &u.pieces[u.piece(slot)]
	e.base, e.accepted, e.record = p.base, p.accepted, u.records(p, slot, slot+1)
	if slot < u.leased {
		e.holder = u.holder
	}
	if slot < u.taken {
		e.suspects, e.taken = u.self, true
	}
	return e
}

// clear makes u empty.
func (u *row) clear() {
	clear(u.pieces[:u.used])
	u.first, u.n, u.leased, u.taken, u.done, u.settled, u.holder, u.self, u.used = 0, 0, 0, 0, [ringPage / 64]uint64{}, 0, nil, nil, 0
}

// dispatchRow leases what is queued of u, from its slot at on, to whom that goes, and tells who got something; nil: nobody has
// room. Where it does not all go to one consumer, u is spread.
func (l *Ledger) dispatchRow(u *row, at int) *Consumer {
	e := u.entry(at)
	c, n := l.following(&e, ringPage-at)
	switch {
	case c == nil:
	case u.holder == c, u.holder == nil && (l.up == 1 || n > 1):
		l.leaseRow(u, at, c, n)
	default:
		l.lease(l.ring.find(e.seq), c)
		l.fresh = e.seq + 1
		l.goes(1)
	}
	return c
}

// leaseRow leases to c n messages of u, from its slot at on, as far as they are there and marked and c has credit. For one that
// is so.
func (l *Ledger) leaseRow(u *row, at int, c *Consumer, n int) {
	end := at + int(min(uint64(n), uint64(u.n-at), c.creditMsgs-c.sentMsgs))
	end = u.fit(at, end, c.creditBytes-c.sentBytes)
	from := u.first + uint64(at)
	if l.mode.Marked && l.kept(from) {
		end = min(end, at+int(min(l.mark-from+1, ringPage)))
	}
	n = end - at
	c.out.push(from, uint64(n))
	c.leased += n
	c.sentMsgs += uint64(n)
	c.sentBytes += u.size(at, end)
	l.counts.Queued -= uint64(n)
	l.counts.Leased += uint64(n)
	l.fresh = from + uint64(n)
	l.goes(n)
	u.holder, u.leased = c, end
}

// takeRow hands over what of u is leased and comes to no more than so many bytes, each piece's as one. The first message
// goes whatever its size if it must.
func (u *row) takeRow(dst []Send, most int, must bool, now int64) []Send {
	end := u.fit(u.taken, u.leased, uint64(max(most, 0)))
	if end == u.taken && must {
		end++
	}
	for u.taken < end {
		i := u.piece(u.taken)
		p, to := &u.pieces[i], end
		if i+1 < u.used {
			to = min(to, u.pieces[i+1].from)
		}
		to = max(u.fit(u.taken, to, wire.MaxRun), u.taken+1)
		dst = append(dst, Send{Seq: u.first + uint64(u.taken), N: to - u.taken, Base: p.base, Record: u.records(p, u.taken, to), Attempt: 1,
			Age: time.Duration(now - p.accepted)})
		u.taken = to
	}
	u.self = u.holder.self
	return dst
}

// settleRow settles slots a to b-1 of u as done, but for those that are already. All of them were handed over.
func (l *Ledger) settleRow(u *row, a, b int) {
	for a = u.next(a, b, false); a < b; a = u.next(a, b, false) {
		end := u.next(a, b, true)
		for w := range u.done {
			u.done[w] |= word(w, a, end)
		}
		n := end - a
		u.settled += n
		l.settled += n
		u.holder.leased -= n
		l.counts.Leased -= uint64(n)
		l.counts.Done += uint64(n)
		l.counts.Bytes -= u.size(a, end)
		l.fates(ranges.Range{From: u.first + uint64(a), To: u.first + uint64(end-1)}, 0)
		l.tellDone(u, a, end)
		a = end
	}
	if u.settled == ringPage {
		clear(u.pieces[:u.used]) // whatever else keeps the page, it keeps no block
	}
	l.trim()
}

// tellDone tells the owner that slots a to b-1 of u are done.
func (l *Ledger) tellDone(u *row, a, b int) {
	if l.mode.OnDone != nil {
		l.mode.OnDone(u.first+uint64(a), u.first+uint64(b-1), u.holder.Who)
		return
	}
	for slot := a; slot < b; slot++ {
		l.onSettl(Settlement{Seq: u.first + uint64(slot), State: Done, By: u.holder.Who, Base: u.pieces[u.piece(slot)].base, Attempt: 1})
	}
}
