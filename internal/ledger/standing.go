package ledger

// Standing is where an owed message stands: Queued or Leased. ok is false if it is not owed, or
// was not accepted yet.
func (l *Ledger) Standing(seq uint64) (s State, ok bool) {
	e, ok := l.ring.look(seq)
	switch {
	case !ok || e.state.settled():
		return 0, false
	case e.state == Leased || e.state == Waiting:
		return Leased, true
	}
	return Queued, true
}
