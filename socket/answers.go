package socket

import (
	"time"

	"peermesh/internal/wire"
)

// answerable reports whether m waits for its answer. b.mu must be held.
func (b *Inbox) answerable(m *Message) (bool, error) {
	switch {
	case m.over():
		return false, nil
	case b.closed:
		return false, ErrClosed
	}
	return true, nil
}

func (b *Inbox) ack(m *Message) error {
	one := [1]*Message{m}
	return b.ackAll(one[:])
}

// ackAll acks messages of this inbox in order. It returns the first error, and goes on after it.
func (b *Inbox) ackAll(ms []*Message) error {
	b.mu.Lock()
	turn, told, err := b.acked(ms)
	b.mu.Unlock()
	b.tell(turn, told)
	return err
}

// tell ends acked, without the lock.
func (b *Inbox) tell(turn Turn, told []*Message) {
	turn.Take()
	for _, m := range told {
		b.cfg.OnDone(m)
	}
}

// acked is ackAll but for what is done without the lock: tell. b.mu must be held.
func (b *Inbox) acked(ms []*Message) (turn Turn, told []*Message, first error) {
	var last *in // whose sender is to be told
	for _, m := range ms {
		collected := 0
		if s := m.slab; s != nil {
			if s.ack(m.seq) {
				continue
			}
			collected = s.collect()
		}
		answered, err := b.handled(m)
		if err != nil && first == nil {
			first = err
		}
		if !answered && collected == 0 {
			continue
		}
		if s := m.slab; s != nil {
			s.open()
		}
		if m.in.durable() {
			continue // the sender is told once the journal has it
		}
		if answered && b.cfg.OnDone != nil {
			told = append(told, m)
		}
		if c := m.in.cur; c != last {
			if last != nil {
				last.answered().Pass()
			}
			last = c
		}
	}
	if last != nil {
		turn = last.answered()
	}
	return turn, told, first
}

// handled answers m "done", if it was not answered. At level durable that is final once the journal has it. b.mu must be held.
func (b *Inbox) handled(m *Message) (answered bool, err error) {
	ok, err := b.answerable(m)
	if !ok {
		return false, err
	}
	if b.failed != nil {
		return false, b.failed
	}
	st := m.in
	b.stats.Done++
	b.finish(m)
	if st.durable() {
		b.keep(m)
		return true, nil
	}
	if st.level != BestEffort {
		st.memory.Done(m.edition, m.seq)
		if st.cur != nil {
			st.cur.markDone(m.edition, m.seq, m.seq)
		}
	}
	return true, nil
}

func (b *Inbox) nack(m *Message, reason wire.NackReason, delay time.Duration, text string) error {
	b.mu.Lock()
	m.in.collect() // it may be acked
	ok, err := b.answerable(m)
	if !ok {
		b.mu.Unlock()
		return err
	}
	st := m.in
	if reason == wire.NackReleased {
		b.stats.Released++
	} else {
		b.stats.Nacked++
	}
	if st.level != BestEffort {
		st.nacks[m.seq] = &nacked{edition: m.edition, reason: reason, delay: delay, text: text}
		st.gone.Remove(m.seq, m.seq) // if it was in a gap it is a hole now
	}
	b.finish(m)
	if st.cur != nil {
		st.cur.pipe.kick()
	}
	b.mu.Unlock()
	if b.cfg.OnNack != nil {
		b.cfg.OnNack(m)
	}
	return nil
}

// confirmed forgets marks and replies that the sender has settled. On disk they are
// forgotten with the next note, or when none is left. The inbox's mutex must be held.
func (st *stream) confirmed(c wire.EditionRanges) {
	had := st.memory.Unconfirmed()
	st.memory.Confirm(c)
	if st.durable() && had > 0 && st.memory.Unconfirmed() == 0 {
		st.box.mark(st)
	}
	st.confirmedReplies(c)
	st.box.confirm(st, c)
}
