package ledger

import (
	"slices"
	"time"

	"peermesh/internal/wire"
)

// aloneAfter is how many leases of a message may end with a lost link before it is
// leased alone, so that a poisonous message takes nothing with it.
const aloneAfter = 2

// FirstWindow is how many messages a receiver takes at first. One that takes more is done with them fast.
const FirstWindow = 256

// Neighbours that go to one consumer: see share.
const (
	mostShare  = 8 * ringPage // so many at most
	workShare  = 32           // this part of a window, which is some 50 ms of work
	queueShare = 64           // or, up to a page, so many times as many must be queued, for each consumer
)

// share is how many messages in a row c gets: more than one only where that makes little difference to who is done when, for
// c is fast, so that they are a millisecond or two of work, or each consumer will get many times as many. Each on its own would
// travel alone.
func (l *Ledger) share(c *Consumer) (n int) {
	if l.mode.Requests {
		return 1
	}
	if window := c.creditMsgs + uint64(c.leased) - c.sentMsgs; window > FirstWindow {
		n = int(min(window/workShare, mostShare))
	}
	return max(n, min(int(l.counts.Queued)/(queueShare*l.up), ringPage), 1)
}

// Dispatch leases queued messages to consumers with credit, round robin, least
// outstanding first, and some neighbours at a time where many are outstanding or queued. wake is called for each consumer
// that got something.
//
// A message is never sent to a process that may still have it from before: its
// answer to the old lease could not be told from one to the new. Such a message waits
// for that answer, or for another consumer, and holds up nobody.
func (l *Ledger) Dispatch(wake func(*Consumer)) {
	if l.waiting > 0 && len(l.away) == 0 {
		l.endPast()
	}
	if l.parked > 0 {
		for _, c := range l.consumers {
			l.dispatchParked(c, wake)
		}
	}
	for l.retry.len() > 0 {
		e := l.ring.find(l.retry.min())
		if e == nil || e.state != Queued {
			l.retry.pop() // settled or leased meanwhile
			continue
		}
		if e.overdue {
			l.retry.pop()
			l.settle(e, Settlement{State: Expired})
			continue
		}
		c := l.choose(e, 0)
		if c == nil && e.state != Parked {
			if !l.awaited(e) {
				break
			}
			l.aside = append(l.aside, e.seq)
		}
		l.retry.pop()
		if c != nil {
			l.lease(e, c)
			wake(c)
		}
	}
	stuck := l.retry.len() > 0
	for _, seq := range l.aside {
		l.retry.push(seq)
	}
	l.aside = l.aside[:0]
	for !stuck {
		i, ok := l.firstFresh()
		if !ok {
			return
		}
		if u, slot := l.ring.rowAt(i); u != nil {
			c := l.dispatchRow(u, slot)
			if c == nil {
				return
			}
			wake(c)
			continue
		}
		e := l.ring.at(i)
		c := l.choose(e, ringPage-l.ring.slot(i))
		if c == nil && e.state != Parked {
			return
		}
		l.fresh = e.seq + 1
		if c != nil {
			l.lease(e, c)
			wake(c)
		}
	}
}

// awaited reports whether a consumer that is there may have e.
func (l *Ledger) awaited(e *entry) bool {
	return slices.ContainsFunc(l.consumers, func(c *Consumer) bool { return c.attached && e.mayHold(c) })
}

// dispatchParked leases to c what waited for it to have room: first the message that
// c is kept for, for whatever stands before it waits for that one.
func (l *Ledger) dispatchParked(c *Consumer, wake func(*Consumer)) {
	if c.alone != 0 {
		if e := l.ring.find(c.alone); l.waitsFor(e, c) && c.room(e) {
			l.lease(e, c)
			wake(c)
		}
	}
	for c.attached && c.parked.len() > 0 {
		e := l.ring.find(c.parked.min())
		if !l.waitsFor(e, c) {
			c.parked.pop() // settled or leased, or waits elsewhere
			continue
		}
		if !c.room(e) {
			return
		}
		c.parked.pop()
		l.lease(e, c)
		wake(c)
	}
}

// waitsFor reports whether e is parked for c to have room.
func (l *Ledger) waitsFor(e *entry, c *Consumer) bool {
	return e != nil && e.state == Parked && l.home(e.key) == c
}

// choose finds who gets e now. A keyed message that must wait for its lane or its
// consumer is parked. As many as most, from e on, may go to one consumer together; 0: e goes on its own.
func (l *Ledger) choose(e *entry, most int) *Consumer {
	if e.key == 0 {
		if most == 0 {
			return l.robin(e)
		}
		c, _ := l.following(e, most)
		l.goes(1)
		return c
	}
	c := l.home(e.key)
	if c == nil || e.mayHold(c) {
		return nil
	}
	if !l.leads(e) {
		l.set(e, Parked)
		return nil
	}
	if c.room(e) {
		return c
	}
	l.park(e, c)
	return nil
}

// leads reports whether e is the head of its key's lane, into which it is put.
func (l *Ledger) leads(e *entry) bool {
	ln := l.lanes[e.key]
	if ln == nil {
		ln = l.lane(e)
	}
	if ln.head != e.seq {
		ln.waiting.insert(e.seq)
	}
	return ln.head == e.seq
}

// lane makes e the head of a new lane.
func (l *Ledger) lane(e *entry) *lane {
	var ln *lane
	if n := len(l.spare); n > 0 {
		ln = l.spare[n-1]
		l.spare = l.spare[:n-1]
	} else {
		ln = new(lane)
	}
	ln.head = e.seq
	l.lanes[e.key] = ln
	return ln
}

// park makes e, the head of its lane, wait until c has room.
func (l *Ledger) park(e *entry, c *Consumer) {
	l.set(e, Parked)
	c.parked.push(e.seq)
	c.parked.tidy(l.parked, func(seq uint64) bool { return l.is(seq, Parked) })
	if e.lost >= aloneAfter && c.alone == 0 {
		c.alone = e.seq // c gets nothing else until its hands are empty
	}
}

// unpark makes what waited for c ready again, to be chosen for anew.
func (l *Ledger) unpark(c *Consumer) {
	for ; c.parked.len() > 0; c.parked.pop() {
		if e := l.ring.find(c.parked.min()); e != nil && e.state == Parked {
			l.requeue(e)
		}
	}
}

// home is the attached consumer that is not paused with the highest score for a key.
func (l *Ledger) home(key uint64) (best *Consumer) {
	var top uint64
	for _, c := range l.consumers {
		if !c.attached || c.paused {
			continue
		}
		if s := mix(c.hash ^ key); best == nil || s > top {
			best, top = c, s
		}
	}
	return best
}

// mix is the finalizer of SplitMix64. A consumer's weight for a key is the mixture of
// both: rendezvous hashing (Thaler and Ravishankar, 1998), highest wins.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// following tells who gets e: who got the message before it, as long as that may have more in a row, or who is next. From e on
// that may get n messages, as many as most, the rest of e's page, at most; goes must be told how many it got.
func (l *Ledger) following(e *entry, most int) (c *Consumer, n int) {
	if c = l.favoured; l.left > 0 && (c.out.len() > 0 || l.left <= c.leased || uint64(l.left*l.up) <= l.counts.Queued) && c.room(e) {
		return c, min(l.left, most)
	}
	l.favoured, l.left = nil, 0
	c = l.robin(e)
	if c == nil || l.up == 1 {
		return c, most
	}
	l.shared = l.share(c)
	if n = wholePages(l.shared, most); n > 1 {
		l.favoured, l.left = c, n
	}
	return c, min(n, most)
}

// wholePages is about n messages, of which so many are the rest of a page: where that is much of a page the last one ends with a
// page, for those that are dealt out in parts are held in no row.
func wholePages(n, rest int) int {
	if n < ringPage/2 {
		return min(n, rest)
	}
	return rest + max(n-rest+ringPage/2, 0)/ringPage*ringPage
}

// goes notes that who is favoured got n messages, if anybody is.
func (l *Ledger) goes(n int) {
	if l.left = max(l.left-n, 0); l.left == 0 {
		l.favoured = nil
	}
}

// robin is the consumer with the fewest outstanding messages, and of those the next one.
func (l *Ledger) robin(e *entry) (best *Consumer) {
	n := len(l.consumers)
	at := 0
	for i := range n {
		j := l.turn + i
		if j >= n {
			j -= n
		}
		c := l.consumers[j]
		if c.room(e) && (best == nil || c.leased < best.leased) {
			best, at = c, j
		}
	}
	if best != nil {
		l.turn = at + 1
		if l.turn == n {
			l.turn = 0
		}
	}
	return best
}

// room reports whether c may get e: within its credit, and alone if e must be.
func (c *Consumer) room(e *entry) bool {
	if !c.attached || c.paused || c.alone != 0 && c.alone != e.seq || c.sentMsgs >= c.creditMsgs || e.mayHold(c) {
		return false
	}
	if e.lost >= aloneAfter && c.leased > 0 {
		return false
	}
	return large(e) || c.sentBytes+uint64(len(e.record)) <= c.creditBytes
}

// large records travel in fragments against a grant, not against the byte window.
func large(e *entry) bool { return len(e.record) > wire.MaxRecord }

func (l *Ledger) lease(e *entry, c *Consumer) {
	l.set(e, Leased)
	e.holder = c
	e.attempt++
	c.leased++
	c.sentMsgs++
	if !large(e) {
		c.sentBytes += uint64(len(e.record))
	}
	if e.lost >= aloneAfter {
		c.alone = e.seq
	}
	c.out.push(e.seq, 1)
}

// refund gives back the credit of a message that was leased and never sent.
func (c *Consumer) refund(e *entry) {
	c.sentMsgs--
	if !large(e) {
		c.sentBytes -= uint64(len(e.record))
	}
}

// free lets consumers that were kept for one message get others again.
func (l *Ledger) free(seq uint64) {
	for _, c := range l.consumers {
		if c.alone == seq {
			c.alone = 0
		}
	}
}

// Send is a message on its way to the wire, or several: those of the seqs from Seq on whose records follow each other.
type Send struct {
	Seq         uint64
	N           int // messages
	Base        uint64
	Record      []byte // all of theirs
	Attempt     uint64
	Redelivered bool
	Age         time.Duration
	Large       bool
}

// Take hands over what is leased to c and not yet written, at most max bytes of
// records beyond the first, appended to dst, and nothing from behind a dropped one whose
// fate is not durable. From this moment c's process is a suspect. A large message is handed
// over alone.
func (l *Ledger) Take(c *Consumer, dst []Send, max int, now time.Time) []Send {
	t, size := l.at(now), 0
	c.behind = false
	for c.attached && c.out.len() > 0 {
		if u := l.rowFor(c); u != nil {
			if c.behind = l.stage.behind(c.out.peek()); c.behind {
				break
			}
			before, taken := len(dst), u.taken
			if dst = u.takeRow(dst, max-size, size == 0, t); len(dst) == before {
				break
			}
			c.holes.sent(c.out.peek())
			c.out.pop(uint64(u.taken - taken))
			size += int(u.size(taken, u.taken))
			continue
		}
		e := l.ring.find(c.out.peek())
		if e == nil || e.state != Leased || e.holder != c {
			c.out.pop(1) // cancelled or settled by another meanwhile
			continue
		}
		if size > 0 && (size+len(e.record) > max || large(e)) {
			break
		}
		if l.stage.behind(e.seq) {
			c.behind = true
			break
		}
		size += len(e.record)
		s := Send{Seq: e.seq, N: 1, Base: e.base, Record: e.record, Attempt: uint64(e.attempt),
			Redelivered: e.doubt(), Age: time.Duration(t - e.accepted), Large: large(e)}
		dst = append(dst, s)
		c.out.pop(1)
		e.taken = true
		if l.mode.BestEffort {
			l.settle(e, Settlement{State: Handed})
			continue
		}
		if s.Redelivered {
			l.counts.Redelivered++
		}
		l.suspect(e, c, none)
		c.holes.sent(e.seq)
		if s.Large {
			break
		}
	}
	return dst
}

// rowFor is the row whose part that is leased to c and not taken is next to be taken by it; nil if something else is.
func (l *Ledger) rowFor(c *Consumer) *row {
	i := l.ring.index(c.out.peek())
	if i >= l.ring.n || l.ring.seqAt(i) != c.out.peek() {
		return nil
	}
	if u, slot := l.ring.rowAt(i); u != nil && u.holder == c && u.taken == slot && slot < u.leased {
		return u
	}
	return nil
}
