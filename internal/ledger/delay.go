package ledger

// A message may have a delay. Until that is over it is owed, and nobody gets it; it holds up
// nobody, not even those of its key. Then it stands where its seq puts it: before all that
// is queued and was accepted later.
//
//	Append ---> DELAYED ---------------------------> QUEUED
//	                |     its time came                ^
//	                +--> TakeDue, if it is absent --> Fill
//
// An owner who keeps messages on disk leaves the records of delayed ones there: then only
// an entry of the ring is in memory for each.

// delay notes what it says of e, just accepted. An absent one is always filled in first.
func (l *Ledger) delay(e *entry, it Item) {
	if e.absent = it.Absent; e.absent {
		l.absent++
	}
	if it.NotBefore.IsZero() {
		return
	}
	e.early = true
	l.early++
	l.delayed.push(timed{l.at(it.NotBefore), e.seq})
	l.set(e, Delayed)
}

// timeCame: a delay or back-off of e is over.
func (l *Ledger) timeCame(e *entry) {
	if e.early {
		e.early = false
		l.early--
	}
	switch {
	case e.state != Delayed:
	case e.absent:
		l.due.push(e.seq)
	default:
		l.ready(e)
	}
}

// ready makes e, whose delay or back-off is over, be dispatched in its turn.
func (l *Ledger) ready(e *entry) {
	switch {
	case e.unknown:
	case e.seq >= l.fresh:
		l.set(e, Queued) // firstFresh has not come to it yet
		return
	case e.key != 0 && !l.leads(e):
		l.set(e, Parked)
		return
	}
	l.requeue(e)
}

// present ends the notes about e's delay and absence, for it is settled.
func (l *Ledger) present(e *entry) {
	if e.early {
		e.early = false
		l.early--
	}
	if e.absent {
		e.absent = false
		l.absent--
	}
}

// Early is the number of messages whose delay is not over.
func (l *Ledger) Early() int { return l.early }

// Absent is the number of messages without their record.
func (l *Ledger) Absent() int { return l.absent }

// NextDue is the first absent message whose delay is over and which is to be filled in; false
// if there is none.
func (l *Ledger) NextDue() (seq uint64, ok bool) {
	for l.due.len() > 0 {
		if e := l.ring.find(l.due.min()); e != nil && e.absent && !e.early {
			return e.seq, true
		}
		l.due.pop()
	}
	return 0, false
}

// TakeDue takes note that the owner fetches NextDue and the due ones after it, up to seq last,
// appended to dst. Each is then filled in or lost.
func (l *Ledger) TakeDue(dst []uint64, last uint64) []uint64 {
	for seq, ok := l.NextDue(); ok && seq <= last; seq, ok = l.NextDue() {
		l.due.pop()
		dst = append(dst, seq)
	}
	return dst
}

// Fill gives an absent message its record, immutable from now on. It does nothing if the
// message has been settled meanwhile.
func (l *Ledger) Fill(seq, base uint64, record []byte) {
	e := l.ring.find(seq)
	if e == nil || !e.absent {
		return
	}
	e.absent = false
	l.absent--
	e.base, e.record = base, record
	l.counts.Bytes += uint64(len(record))
	if e.state == Delayed && !e.early {
		l.ready(e)
	}
}

// Lose settles a message whose record the owner cannot read any more.
func (l *Ledger) Lose(seq uint64) {
	if e := l.ring.find(seq); e != nil && !e.state.settled() {
		l.settle(e, Settlement{State: Dropped, Reason: ReasonDamaged})
	}
}
