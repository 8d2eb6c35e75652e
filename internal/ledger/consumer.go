package ledger

import (
	"hash/fnv"
	"slices"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// Consumer is one remote receiving socket as the sender knows it. Its fields are
// read by the owner under the same mutex as the ledger.
type Consumer struct {
	Who Who

	hash     uint64 // of Who, for rendezvous hashing
	number   uint64 // of its newest ATTACH
	attached bool
	nonce    [16]byte  // of the process last met
	self     []process // that process alone: shared by all messages with no other suspect
	store    [16]byte  // last met, for ATTACH
	renewed  int64     // when a RENEW, or ATTACHED, last came
	over     bool      // it ended in good order
	stale    bool      // its leases ran out while its pipe was there
	paused   bool      // it wants nothing for now

	creditMsgs, creditBytes uint64 // since ATTACHED
	sentMsgs, sentBytes     uint64
	leased                  int
	alone                   uint64 // a message that must be the only one in hand; 0: none
	out                     spans  // leased, not yet taken by the writer
	behind                  bool   // its next one waits for a hole to be durable
	parked                  heap[uint64]

	confirms confirms
	staged   int // ranges that are not released
	revoke   ranges.Set
	holes    holes
}

// Attached reports whether a pipe to the consumer is up.
func (c *Consumer) Attached() bool { return c.attached }

// Leased is the number of messages it holds.
func (c *Consumer) Leased() int { return c.leased }

// Room is the number of messages it would take now.
func (c *Consumer) Room() uint64 {
	if !c.attached || c.paused || c.creditMsgs < c.sentMsgs {
		return 0
	}
	return c.creditMsgs - c.sentMsgs
}

// Paused reports whether it wants nothing for now.
func (c *Consumer) Paused() bool { return c.attached && c.paused }

// Stale reports whether leases ran out although the pipe is there: it must be
// replaced, for an ATTACH compares the two memories anew.
func (c *Consumer) Stale() bool { return c.stale }

// Waits reports whether there are messages to take for the consumer.
func (c *Consumer) Waits() bool { return c.out.len() > 0 && !c.behind }

// Urgent reports whether there is anything to take for the consumer that should not
// wait: messages and revocations.
func (c *Consumer) Urgent() bool { return c.Waits() || c.revoke.Count() > 0 }

// Pending reports whether there is anything to take for the consumer.
func (c *Consumer) Pending() bool { return c.Urgent() || c.confirms.pending() }

// Join returns the consumer of that name, known or new. A new one is owed nothing
// below start and told of no hole below it.
func (l *Ledger) Join(w Who, start uint64) *Consumer {
	for _, c := range l.consumers {
		if c.Who == w {
			return c
		}
	}
	h := fnv.New64a()
	h.Write(w.Node[:])
	h.Write([]byte(w.Label))
	c := &Consumer{Who: w, hash: h.Sum64(), parked: newSeqHeap(), holes: holes{start: start}}
	c.self = []process{{c, c.nonce, none}}
	for _, g := range l.told {
		l.hole(c, g)
	}
	l.consumers = append(l.consumers, c)
	return c
}

// Consumers lists all known ones, attached or not.
func (l *Ledger) Consumers() []*Consumer { return l.consumers }

// Ready counts those that are attached and not paused.
func (l *Ledger) Ready() (n int) {
	for _, c := range l.consumers {
		if c.attached && !c.paused {
			n++
		}
	}
	return n
}

// Busy reports whether there is a consumer that works: attached, and not paused with nothing
// in hand.
func (l *Ledger) Busy() bool {
	return slices.ContainsFunc(l.consumers, func(c *Consumer) bool { return c.attached && (!c.paused || c.leased > 0) })
}

// Part forgets a consumer that holds nothing and is not attached.
func (l *Ledger) Part(c *Consumer) bool {
	if c.attached || c.leased > 0 || l.suspected(c) {
		return false
	}
	l.consumers = slices.DeleteFunc(l.consumers, func(o *Consumer) bool { return o == c })
	l.turn = 0
	return true
}

// suspected reports whether c may have begun a message that is still owed.
func (l *Ledger) suspected(c *Consumer) (found bool) {
	l.each(func(e *entry) { found = found || e.sentTo(c) })
	return found
}

// each calls f for every owed message that was ever dispatched, by seq. f may
// settle the one it is given.
func (l *Ledger) each(f func(*entry)) {
	end := max(l.fresh, l.unsure)
	for i := 0; i < l.ring.n && l.ring.seqAt(i) < end; i++ {
		if l.ring.stateAt(i).settled() {
			continue
		}
		e := l.ring.at(i)
		seq := e.seq
		f(e)
		i = l.ring.index(seq+1) - 1 // settling may have moved the ring
	}
}

// Attach begins a new pipe to c: whatever was on the older one is void. It returns
// the ATTACH's number and the store c was last met with.
func (l *Ledger) Attach(c *Consumer) (number uint64, lastStore [16]byte) {
	l.detach(c)
	c.stale = false
	c.holes.again()
	if l.mode.Number != nil {
		c.number = l.mode.Number()
	} else {
		c.number++
	}
	return c.number, c.store
}

// detach stops dispatch to c. What was leased but never taken was never on the
// wire: it is queued again without suspicion.
func (l *Ledger) detach(c *Consumer) {
	if c.attached {
		c.attached = false
		l.up--
	}
	l.retract(c)
}

// Pause notes that c wants nothing until Resume or its next pipe, and gives back what it has not
// begun. It keeps its leases, and others get what it would have got.
func (l *Ledger) Pause(c *Consumer) {
	c.paused = true
	l.retract(c)
}

// Resume ends Pause.
func (l *Ledger) Resume(c *Consumer) {
	c.paused = false
	for _, o := range l.consumers {
		l.unpark(o) // some keys are at home here again
	}
}

// retract queues again what c was to get.
func (l *Ledger) retract(c *Consumer) {
	for ; c.out.len() > 0; c.out.pop(1) {
		if e := l.ring.find(c.out.peek()); e != nil && e.state == Leased && e.holder == c {
			l.requeue(e)
		}
	}
	l.unpark(c)
}

// Attached compares the two memories, see DELIVERY.md "Attach". An answer to any
// but the newest ATTACH is without effect.
func (l *Ledger) Attached(c *Consumer, a wire.Attached, now time.Time) (bool, error) {
	if a.Number != c.number || c.attached {
		return false, nil
	}
	l.tell(now)
	if n := count(a.Done) + count(a.Held) + count(a.Lost); n > 2*maxMarks {
		return false, errHoards
	}
	var done, held, lost ranges.Set
	for _, part := range []struct {
		in  []wire.EditionRanges
		out *ranges.Set
	}{{a.Done, &done}, {a.Held, &held}, {a.Lost, &lost}} {
		if err := l.collect(c, part.in, part.out); err != nil {
			return false, err
		}
	}
	if !l.mode.Requests { // a request is settled by its reply
		l.settleRanges(c, done.Ranges())
	}
	l.retold(c)
	for _, e := range a.Done {
		if _, ok := l.span(e.Edition); ok && l.mode.Requests {
			continue // confirmed with its reply
		}
		if err := l.confirm(c, e); err != nil {
			return false, err
		}
	}
	for _, e := range a.Lost { // taken note of below
		if err := l.confirm(c, e); err != nil {
			return false, err
		}
	}
	lives := l.mode.PerStore && c.store == a.Store && !a.Forgotten
	if c.nonce != a.Nonce {
		lost := c.nonce != [16]byte{}
		c.nonce, c.self = a.Nonce, []process{{c, a.Nonce, none}}
		l.endLeases(c, lost)
	}
	c.paused = false
	c.attached, c.over, c.store, c.renewed = true, false, a.Store, l.at(now)
	l.up++
	c.creditMsgs, c.creditBytes, c.sentMsgs, c.sentBytes = a.Messages, a.Bytes, 0, 0
	c.revoke = held.Clone() // but for what is owed: see below
	l.each(func(e *entry) {
		switch {
		case held.Contains(e.seq):
			c.revoke.Remove(e.seq, e.seq)
			l.keep(e, c)
		case done.Contains(e.seq):
			l.keep(e, c)
		default:
			if lives {
				l.clearLives(e, c)
			}
			l.notHere(e, c, a.Forgotten, lost.Contains(e.seq))
		}
	})
	l.revoked = l.revoked || c.revoke.Count() > 0
	for _, o := range l.consumers {
		l.unpark(o) // some keys are at home here now
	}
	l.returned(c.Who.Node)
	return true, nil
}

// count is the number of ranges of all editions.
func count(es []wire.EditionRanges) (n int) {
	for _, e := range es {
		n += len(e.Ranges)
	}
	return n
}

// collect adds the ranges that mean messages of this stream to out.
func (l *Ledger) collect(c *Consumer, in []wire.EditionRanges, out *ranges.Set) error {
	for _, e := range in {
		own := l.owned(e)
		if err := l.check(c, e.Edition, own); err != nil {
			return err
		}
		for _, r := range own {
			out.Add(r.From, r.To)
		}
	}
	return nil
}

// keep: c has it in hand, or its reply. A lease there goes on; one elsewhere is
// not touched, but the message is suspect here too.
func (l *Ledger) keep(e *entry, c *Consumer) {
	if i := e.at(c); i >= 0 && e.suspects[i].nack != none {
		l.suspect(e, c, again)
		return
	}
	l.suspect(e, c, none)
	if e.state == Leased {
		return
	}
	l.hold(e, c)
}

// hold leases e, which is nobody's, to c, which has it already.
func (l *Ledger) hold(e *entry, c *Consumer) {
	l.set(e, Leased)
	e.holder, e.taken = c, true
	c.leased++
	if e.lost >= aloneAfter && c.leased == 1 {
		c.alone = e.seq
	}
}

// notHere: c has not begun e and because of the fence never will. forgotten, lost:
// it may have, but nobody will ever know.
func (l *Ledger) notHere(e *entry, c *Consumer, forgotten, lost bool) {
	if lost || forgotten && e.sentTo(c) {
		e.begun = true
	}
	l.clear(e, c)
	if e.state == Leased && e.holder == c {
		l.requeue(e)
	}
	l.giveUpDoubtful(e, c.Who)
}

// giveUpDoubtful settles a message that nobody has in hand and that must not be sent
// again, for somebody may have begun it.
func (l *Ledger) giveUpDoubtful(e *entry, by Who) {
	if l.mode.AtMostOnce && e.state != Leased && e.state != Waiting && e.doubt() {
		l.settle(e, Settlement{State: Indeterminate, By: by})
	}
}

// suspect notes that c's process may begin e, and what is known of its NACK.
func (l *Ledger) suspect(e *entry, c *Consumer, n nack) {
	if len(e.suspects) == 0 && n == none {
		e.suspects = c.self
		return
	}
	i := e.at(c)
	if i >= 0 && e.suspects[i].nack == n {
		return
	}
	l.clear(e, c)
	e.suspects = append(slices.Clip(e.suspects), process{c, c.nonce, n})
}

// clear notes that c's process has not begun e and will not.
func (l *Ledger) clear(e *entry, c *Consumer) {
	if i := e.at(c); i >= 0 {
		e.suspects = slices.Delete(slices.Clone(e.suspects), i, i+1)
	}
}

// settleRanges marks as done what c says it did. Answers for what is settled
// already change nothing.
func (l *Ledger) settleRanges(c *Consumer, rs []ranges.Range) {
	for _, r := range rs {
		l.countLate(r)
		for seq := r.From; seq <= r.To; {
			i := l.ring.index(seq)
			if i >= l.ring.n || l.ring.seqAt(i) > r.To {
				break
			}
			if u, slot := l.ring.rowAt(i); u != nil && u.holder == c && slot < u.taken {
				end := slot + int(min(r.To-l.ring.seqAt(i)+1, uint64(u.taken-slot)))
				seq = u.first + uint64(end)
				l.settleRow(u, slot, end)
				continue
			}
			e := l.ring.at(i)
			seq = e.seq + 1
			if !e.state.settled() {
				l.revoke(e, c)
				l.settle(e, Settlement{State: Done, By: c.Who})
			}
		}
	}
}

// countLate counts the messages of r that had met another fate.
func (l *Ledger) countLate(r ranges.Range) {
	if !l.late.Overlaps(r.From, r.To) {
		return
	}
	n := r.Len()
	for other := range l.late.Missing(r.From, r.To) {
		n -= other.Len()
	}
	l.counts.LateDone += n
	l.late.Remove(r.From, r.To)
}

// Done handles a DONE from c's newest pipe.
func (l *Ledger) Done(c *Consumer, d wire.EditionRanges) error {
	if own := l.owned(d); len(own) > 0 {
		if l.mode.Requests {
			return errNoReply
		}
		if err := l.check(c, d.Edition, own); err != nil {
			return err
		}
		l.settleRanges(c, own)
		c.holes.answered(own)
	}
	return l.confirm(c, d)
}

// Reply settles a request that c answered and confirms it. It reports whether the
// request was still waited for.
func (l *Ledger) Reply(c *Consumer, edition, seq uint64, s State) (bool, error) {
	r := wire.EditionRanges{Edition: edition, Ranges: []ranges.Range{{From: seq, To: seq}}}
	own := l.owned(r)
	if err := l.check(c, edition, own); err != nil {
		return false, err
	}
	if err := l.confirm(c, r); err != nil {
		return false, err
	}
	if len(own) == 0 {
		return false, nil
	}
	l.countLate(own[0])
	e := l.ring.find(seq)
	if e == nil || e.state.settled() {
		return false, nil
	}
	l.revoke(e, c)
	l.settle(e, Settlement{State: s, By: c.Who, Replied: true})
	return true, nil
}

// Nack handles messages that c gives back, from its newest pipe.
func (l *Ledger) Nack(c *Consumer, n wire.Nack, now time.Time) error {
	own := l.owned(wire.EditionRanges{Edition: n.Edition, Ranges: n.Ranges})
	if err := l.check(c, n.Edition, own); err != nil {
		return err
	}
	c.holes.answered(own)
	for _, r := range own {
		for seq := r.From; seq <= r.To; {
			i := l.ring.index(seq)
			if i >= l.ring.n || l.ring.seqAt(i) > r.To {
				break
			}
			e := l.ring.at(i)
			seq = e.seq + 1
			if !e.state.settled() && e.mayHold(c) {
				l.nack(e, c, n, now)
			}
		}
	}
	return nil
}

// nack handles the answer of one that may have e; the lease may be another's by now,
// and is not touched then.
func (l *Ledger) nack(e *entry, c *Consumer, n wire.Nack, now time.Time) {
	repeated := e.suspects[e.at(c)].nack == again
	l.clear(e, c)
	elsewhere := e.state == Leased && e.holder != c
	switch n.Reason {
	case wire.NackReturned:
		if e.state == Leased && !elsewhere {
			l.requeue(e)
			l.giveUpDoubtful(e, c.Who)
		}
		return
	case wire.NackExpired:
		switch {
		case elsewhere:
		case l.mode.Requests && e.doubt(): // another may have executed it in time
			l.settle(e, Settlement{State: Indeterminate, By: c.Who})
		default:
			l.settle(e, Settlement{State: Expired, By: c.Who})
		}
		return
	}
	e.begun = true
	l.suspect(e, c, read)
	if elsewhere || repeated {
		return
	}
	if n.Reason == wire.NackReleased && !l.mode.AtMostOnce {
		if e.state == Leased {
			l.requeue(e)
		}
		return
	}
	e.deliveries++
	switch {
	case l.mode.AtMostOnce:
		l.settle(e, Settlement{State: Indeterminate, By: c.Who})
	case n.Reason == wire.NackCorrupt || l.usedUp(e):
		l.settle(e, Settlement{State: Dead, By: c.Who, Text: n.Text})
	default:
		delay := n.Delay
		if delay <= 0 {
			delay = l.mode.backoff(e.deliveries)
		}
		l.set(e, Delayed)
		l.try(e)
		l.oldest = min(l.oldest, e.seq)
		l.delayed.push(timed{l.at(now.Add(delay)), e.seq})
		if l.mode.OnNack != nil {
			l.mode.OnNack(Nacked{Seq: e.seq, By: c.Who, Text: n.Text})
		}
	}
}

// try tells the owner that e's deliveries have risen.
func (l *Ledger) try(e *entry) {
	if l.mode.OnTry != nil {
		l.mode.OnTry(Try{Seq: e.seq, Attempt: e.attempt, Deliveries: e.deliveries})
	}
}

func (l *Ledger) usedUp(e *entry) bool {
	return l.mode.MaxDeliver > 0 && int(e.deliveries) >= l.mode.MaxDeliver
}

// backoff is how long a message waits after so many failed deliveries.
func (m Mode) backoff(deliveries uint32) time.Duration {
	d := m.Backoff
	for ; deliveries > 1 && d < m.MaxBackoff; deliveries-- {
		d *= 2
	}
	return min(d, m.MaxBackoff)
}

// Renew notes that c is alive and holds what it was leased. It reports false when
// the leases are over, or were never granted: then RENEW must not be answered, for
// the answer says that c may begin what it holds.
func (l *Ledger) Renew(c *Consumer, now time.Time) bool {
	if !c.attached {
		return false
	}
	c.renewed = l.tell(now)
	return true
}

// Credit notes c's window: totals since ATTACHED, which only rise.
func (l *Ledger) Credit(c *Consumer, w wire.Credit) {
	c.creditMsgs, c.creditBytes = max(c.creditMsgs, w.Messages), max(c.creditBytes, w.Bytes)
}

// Detached ends c's pipe of that number. A graceful end (WITHDRAW, LEAVE, GOAWAY)
// ends its leases at once; otherwise they live until Lease after the last RENEW.
func (l *Ledger) Detached(c *Consumer, number uint64, graceful bool) {
	if number != c.number {
		return
	}
	l.detach(c)
	if graceful {
		l.endAll(c)
	}
}

// endAll ends c's leases in good order: it has begun what it has, and will begin no more.
func (l *Ledger) endAll(c *Consumer) {
	c.over = true
	l.endLeases(c, false)
}

// Left ends c's pipe of that number, and c with it: what it holds and has not begun it
// never will.
func (l *Ledger) Left(c *Consumer, number uint64, begun []wire.EditionRanges) error {
	if number != c.number || !c.attached {
		return nil
	}
	var set ranges.Set
	for _, e := range begun {
		own := l.owned(e)
		if err := l.check(c, e.Edition, own); err != nil {
			return err
		}
		for _, r := range own {
			set.Add(r.From, r.To)
		}
	}
	l.detach(c)
	l.each(func(e *entry) {
		if !set.Contains(e.seq) {
			l.notHere(e, c, false, false)
		}
	})
	l.endAll(c)
	return nil
}

// endLeases queues everything leased to c again. lost: its link or process ended
// without a word, so what was in hand may be what ended it.
func (l *Ledger) endLeases(c *Consumer, lost bool) {
	l.each(func(e *entry) {
		if e.state != Leased || e.holder != c {
			return
		}
		tried := false
		if lost {
			if c.alone == e.seq {
				e.deliveries++
				tried = true
			}
			e.lost = min(e.lost+1, 200)
		}
		switch {
		case l.usedUp(e):
			l.settle(e, Settlement{State: Dead, By: c.Who, Text: "the link was lost each time it was in hand"})
		case l.mode.AtMostOnce && !lost:
			l.settle(e, Settlement{State: Indeterminate, By: c.Who})
		default:
			l.requeue(e)
			if tried {
				l.try(e)
			}
		}
	})
}
