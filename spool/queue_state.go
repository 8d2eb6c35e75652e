package spool

// State is where an open queue stands now, as OpenQueue told it then. It takes longer the more
// blocks the queue has.
func (q *Queue) State() QueueState {
	q.s.change.Lock()
	defer q.s.change.Unlock()
	return q.state()
}
