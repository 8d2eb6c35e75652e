package ledger

import (
	"math"
	"slices"

	"peermesh/internal/identity"
)

// What an earlier life of the sender dispatched, or may have: to whom is not known any
// more. Such a message waits until every node that may have it was attached once, for
// then each has said whether it has, or until its lease must be over.
//
//	          Append             kept, or done
//	earlier ----------> WAITING <-------------> LEASED, DONE
//	 life                  |     its lease ends
//	                       |
//	                       +----> QUEUED, or INDETERMINATE at most once
//	         all holders attached, or the lease time is over

// appendUnknown makes e, just accepted, wait. It is ahead of all of its key that come
// later, whether they wait as well or not.
func (l *Ledger) appendUnknown(e *entry) {
	e.begun, e.unknown = true, true
	e.attempt = max(e.attempt, 1)
	l.unsure = e.seq + 1
	if e.key != 0 {
		if ln := l.lanes[e.key]; ln == nil {
			l.lane(e)
		} else {
			ln.waiting.insert(e.seq)
		}
	}
	l.set(e, Waiting)
}

// waitsForPast makes e, which is nobody's now, wait for those who have not said yet
// whether they have it, or leaves it to one who has said so: of several who have, one may
// have a lease of the earlier life that goes on, and nobody knows which. It reports false
// if there is none.
func (l *Ledger) waitsForPast(e *entry) bool {
	if len(l.away) > 0 {
		l.set(e, Waiting)
		return true
	}
	for _, p := range e.suspects {
		if p.nonce == p.who.nonce && p.nack == none && l.alive(p.who) {
			l.set(e, Queued)
			l.hold(e, p.who)
			return true
		}
	}
	return false
}

// alive reports whether leases of c may go on.
func (l *Ledger) alive(c *Consumer) bool {
	return !c.over && (l.mode.AtMostOnce || c.renewed+int64(l.mode.Lease) > l.now)
}

// pastEnd is when the wait for those who may have what is unknown ends; never, if
// nothing waits for them.
func (l *Ledger) pastEnd() int64 {
	switch {
	case l.waiting == 0:
		return math.MaxInt64
	case len(l.away) == 0:
		return 0
	}
	return int64(l.mode.Lease)
}

// returned notes that a node was attached and told what it has.
func (l *Ledger) returned(n identity.ID) {
	l.away = slices.DeleteFunc(l.away, func(id identity.ID) bool { return id == n })
	if len(l.away) == 0 {
		l.endPast()
	}
}

// endPast ends the wait: whoever may have what still waits will not begin it.
func (l *Ledger) endPast() {
	l.away = nil
	if l.waiting == 0 {
		return
	}
	l.each(func(e *entry) {
		if e.state == Waiting {
			l.requeue(e)
			l.giveUpDoubtful(e, Who{})
		}
	})
}
