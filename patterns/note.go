package patterns

import (
	"context"
	"errors"

	"peermesh/internal/insight"
	"peermesh/internal/ledger"
	"peermesh/socket"
	"peermesh/spool"
)

// note tells the node what was decided about this socket's name.
func (s *sender) note(d insight.Decision) {
	if s.env.Note == nil {
		return
	}
	d.Kind, d.Name = s.kind.String(), s.name
	s.env.Note(d)
}

// nacked notes a message that a handler gave back. s.mu must be held.
func (s *sender) nacked(n ledger.Nacked) {
	s.note(insight.Decision{What: insight.Nacked, Seq: n.Seq, By: n.By.Node.String(), Text: n.Text})
}

// noteFate notes why a message was not handled. What is dropped by the thousand without
// anything being wrong with a message, for nobody wants it or the queue is at its bound, is counted
// alone: see SenderStats. s.mu must be held.
func (s *sender) noteFate(st ledger.Settlement) {
	d := insight.Decision{Seq: st.Seq, Text: st.Text}
	switch {
	case st.State == ledger.Dead:
		d.What, d.By = insight.Dead, st.By.Node.String()
	case st.State == ledger.Expired:
		d.What = insight.Expired
	case st.Reason == ledger.ReasonNoSubscriber, st.Reason == ledger.ReasonOverflow:
		return
	default:
		d.What, d.Code = insight.Dropped, st.Reason
	}
	s.note(d)
}

// refused notes that a Send was refused, and returns why it was.
func (s *sender) refused(err error) error {
	if err == nil {
		return nil
	}
	var code string
	failed := errors.Is(err, socket.ErrStorage) || errors.Is(err, spool.ErrFailed)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, socket.ErrClosed),
		errors.Is(err, socket.ErrUnknown) && !failed:
		return err
	case errors.Is(err, socket.ErrQueueFull):
		code = "queue_full"
	case errors.Is(err, spool.ErrSpoolFull):
		code = "spool_full"
	case errors.Is(err, socket.ErrTooLarge):
		code = "too_large"
	case failed:
		code = "read_only"
	default:
		code = "refused"
	}
	s.note(insight.Decision{What: insight.Refused, Code: code, Text: err.Error()})
	return err
}

// Look tells where a message stands that this socket has sent, or found on disk.
func (p *Push) Look(seq uint64) insight.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := insight.Message{Seq: seq, Next: p.next, State: StateUnknown, MaxDeliver: p.set.maxDeliver}
	if p.journal != nil {
		m.Next = p.journal.stored
	}
	if s, owed := p.box.Ledger().Look(seq); owed {
		p.sight(&m, s)
		return m
	}
	switch j := p.disk(); {
	case p.journal != nil:
		m.State = j.standing(seq)
	case j != nil && p.spill.keeps(seq) && seq < j.stored:
		m.State = j.standing(seq)
	case seq < m.Next && seq > 0:
		m.State = StateSettled
	}
	if m.State == StateStored || m.State == StateAccepted {
		m.State, m.Waits = ledger.Queued.String(), insight.WaitsDisk
	}
	return m
}

// sight says what the ledger knows of a message. p.mu must be held.
func (p *Push) sight(m *insight.Message, s ledger.Sight) {
	now := p.now()
	m.State, m.Attempt, m.Deliveries = s.State.String(), s.Attempt, s.Deliveries
	m.AgeMs = now.Sub(s.Accepted).Milliseconds()
	if !s.Expires.IsZero() {
		m.ExpiresMs = s.Expires.Sub(now).Milliseconds()
	}
	if !s.Due.IsZero() {
		m.DueMs = max(0, s.Due.Sub(now).Milliseconds())
	}
	switch s.State {
	case ledger.Leased:
		m.By = s.Holder.Node.String()
	case ledger.Delayed:
		m.Waits = insight.WaitsDelay
	case ledger.Parked:
		m.Waits = insight.WaitsKey
	case ledger.Waiting:
		m.Waits = insight.WaitsEarlier
	default:
		m.Waits = insight.WaitsTurn
	}
}
