package patterns

import "peermesh/socket"

// Callers in great number, each of whom takes the socket's lock to have its call accepted, would spend more time on the lock
// than on anything else. So they put their calls on a list that needs none, and go to sleep; one of them, or the pipe's
// reader, accepts all that are there:
//
//	on the list -- gather -> waiting -> ended
//	            -- no room, or the socket closes -> refused: its caller does it by itself, see insist
//
// Whoever finds the list empty has it gathered: so there is always somebody who will.

// stage has a call accepted, or refused. It returns at once, or when that is done.
func (r *Req) stage(c *call) {
	w := r.common.Load()
	c.watched = w != nil && w.done == c.over
	last := r.staged.Load()
	for c.next = last; !r.staged.CompareAndSwap(last, c); c.next = last { // from then on it is who gathers who may touch it
		last = r.staged.Load()
	}
	if last != nil || r.box.Leave() {
		return
	}
	r.mu.Lock()
	turn := r.gather()
	r.mu.Unlock()
	turn.Take()
}

// gather accepts what is on the list, and returns whose turn it is to speak. r.mu must be held.
func (r *Req) gather() (turn socket.Turn) {
	if r.acceptStaged() {
		turn = r.box.DispatchHere()
	}
	return turn
}

// acceptStaged accepts what is on the list, or refuses it; it reports whether there was something. r.mu must be held.
func (r *Req) acceptStaged() bool {
	var first *call // of the list, oldest first
	for c := r.staged.Swap(nil); c != nil; {
		next := c.next
		c.next, first, c = first, c, next
	}
	if first == nil {
		return false
	}
	now := r.now()
	for c := first; c != nil; {
		next := c.next
		c.next = nil
		if messages, bytes := r.box.Ledger().Owed(); r.closing || r.full(messages, bytes, c.prepared.Size()) || r.reserve() != nil {
			c.refused = true
			r.mu.ended.add(c)
		} else {
			r.accept(c, now)
		}
		c = next
	}
	return true
}
