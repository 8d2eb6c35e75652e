package ledger

import "time"

// Sight is what is known of an owed message.
type Sight struct {
	State      State // Queued, Delayed, Parked, Waiting or Leased
	Holder     Who   // of Leased
	Attempt    uint32
	Deliveries uint32
	Accepted   time.Time
	Due        time.Time // of Delayed: when it may be dispatched; zero: not known
	Expires    time.Time // zero: never
}

// Look tells what is known of an owed message; ok is false if it is not owed, or was not accepted yet. It takes time in
// proportion to the delayed messages.
func (l *Ledger) Look(seq uint64) (s Sight, ok bool) {
	e, ok := l.ring.look(seq)
	if !ok || e.state.settled() {
		return Sight{}, false
	}
	s = Sight{State: e.state, Attempt: e.attempt, Deliveries: e.deliveries, Accepted: l.epoch.Add(time.Duration(e.accepted))}
	if e.holder != nil {
		s.Holder = e.holder.Who
	}
	if e.expires > 0 {
		s.Expires = l.epoch.Add(time.Duration(e.expires))
	}
	if e.state != Delayed && !e.early {
		return s, true
	}
	s.State = Delayed
	for _, t := range l.delayed.items {
		if t.seq == seq && (s.Due.IsZero() || l.epoch.Add(time.Duration(t.at)).After(s.Due)) {
			s.Due = l.epoch.Add(time.Duration(t.at))
		}
	}
	return s, true
}
