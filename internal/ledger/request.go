package ledger

import "slices"

// Begun reports whether an owed message may have been begun somewhere.
func (l *Ledger) Begun(seq uint64) bool {
	e := l.ring.find(seq)
	return e != nil && !e.state.settled() && e.doubt()
}

// clearLives notes that no process of c has begun e or will: its store says so, of which
// all of them were.
func (l *Ledger) clearLives(e *entry, c *Consumer) {
	if e.sentTo(c) {
		e.suspects = slices.DeleteFunc(slices.Clone(e.suspects), func(p process) bool { return p.who == c })
	}
}
