package ledger

// The dispatch mark: after a crash every message up to it counts as dispatched. It is
// durable before the bytes leave, and reserved ahead so that not each message waits for
// a disk.

// SetMark notes that the dispatch mark is durable up to seq. With Mode.Marked nothing
// above is dispatched. The mark only rises.
func (l *Ledger) SetMark(seq uint64) { l.mark = max(l.mark, seq) }

// WantsMark is the seq up to which the mark should be raised now, so that all credit in
// hand of those attached can be used; 0: it is high enough. It asks when half of that
// credit is left without marks.
func (l *Ledger) WantsMark() uint64 {
	if !l.mode.Marked || !l.kept(l.fresh) {
		return 0
	}
	l.firstFresh() // for the seqs before it need no mark
	credit, marked := uint64(0), uint64(0)
	for _, c := range l.consumers {
		if c.attached && c.creditMsgs > c.sentMsgs {
			credit += min(c.creditMsgs-c.sentMsgs, maxAhead)
		}
	}
	from := l.passDelayed()
	if l.mark >= from {
		marked = l.mark - from + 1
	}
	if credit == 0 || marked > credit/2 || !l.kept(l.fresh) {
		return 0
	}
	return from + credit - 1
}

// passDelayed is the first seq that is not delayed of those never dispatched, or was when it was
// asked last: a long row of them is passed at once, and looked at once.
func (l *Ledger) passDelayed() uint64 {
	l.ahead = max(l.ahead, l.fresh)
	for i := l.ring.index(l.ahead); i < l.ring.n && l.ring.seqAt(i) == l.ahead && l.ring.stateAt(i) == Delayed; i++ {
		l.ahead++
	}
	return l.ahead
}

// maxAhead bounds what is reserved for one consumer, whatever credit it claims to give:
// as much as the widest window of an honest one.
const maxAhead = 1 << 16
