package ledger

import "time"

// A stream may be kept on disk up to some message, and in memory alone from there on:
//
//	kept on disk             | volatile from here on
//	marked, staged           | neither: the owner's end is theirs
//
// What is volatile and owed can be handed to the disk later, by seq: then it is kept, and
// what of it was dispatched is below the mark that goes there with it.

// Volatile says that messages from that seq on are kept nowhere: neither Marked nor Staged
// concerns them. The boundary only rises. A ledger that was never told keeps all of them.
func (l *Ledger) Volatile(from uint64) {
	l.volatile = from
}

// kept reports whether a message is kept on disk.
func (l *Ledger) kept(seq uint64) bool { return seq < l.volatile }

// Debt is an owed message as its owner needs it to write it down.
type Debt struct {
	Seq                 uint64
	Record              []byte
	Expires             time.Time // zero: never
	Attempt, Deliveries uint32
}

// Owing calls f for each message from that seq on that is owed, by seq, until f returns
// false. f must not change the ledger.
func (l *Ledger) Owing(from uint64, f func(Debt) bool) {
	for i := l.ring.index(from); i < l.ring.n; i++ {
		e := l.ring.view(i)
		if e.state.settled() {
			continue
		}
		d := Debt{Seq: e.seq, Record: e.record, Attempt: e.attempt, Deliveries: e.deliveries}
		if e.expires > 0 {
			d.Expires = l.epoch.Add(time.Duration(e.expires))
		}
		if !f(d) {
			return
		}
	}
}

// Dispatched is the highest seq that was ever dispatched in this life, or may have been: all
// that is kept up to it belongs below the mark.
func (l *Ledger) Dispatched() uint64 { return l.fresh - min(l.fresh, 1) }

// Unmarked reports whether the next message to be dispatched waits for the mark.
func (l *Ledger) Unmarked() bool {
	if !l.mode.Marked {
		return false
	}
	l.firstFresh()
	i := l.ring.index(l.fresh)
	return i < l.ring.n && l.ring.seqAt(i) > l.mark && l.kept(l.ring.seqAt(i))
}

// Attended reports whether any consumer is attached.
func (l *Ledger) Attended() bool {
	for _, c := range l.consumers {
		if c.attached {
			return true
		}
	}
	return false
}

// DropFrom settles everything owed from that seq on as dropped.
func (l *Ledger) DropFrom(from uint64, reason string) {
	for i := l.ring.index(from); i < l.ring.n; i = l.ring.index(from) {
		e := l.ring.at(i)
		from = e.seq + 1
		if !e.state.settled() {
			l.giveUp(e, reason)
		}
	}
}

// Spoilt says that nothing more becomes durable: what is staged is never told, and nothing
// waits for it any longer.
func (l *Ledger) Spoilt() {
	l.stage.dropped.Clear()
	for _, c := range l.consumers {
		c.behind = false
	}
}

// Missed states the hole that a message leaves which was dropped before it came to the
// ledger: when what is sealed next is durable.
func (l *Ledger) Missed(seq uint64) { l.fate(seq, gapReasons[Dropped]) }
