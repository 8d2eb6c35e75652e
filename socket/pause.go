package socket

import "peermesh/internal/wire"

// A paused inbox begins nothing, keeps nothing that it has not begun, and gives no credit. The
// credit that is out is void, so the sender of each pipe is told:
//
//	RUNNING --Pause--> ASKED --PAUSE, RENEW n--> PAUSING --RENEWED n--> PAUSED --RESUME--> RUNNING
//
// PAUSED needs the last fragment of a large message that was under way, too.
//
// What comes while a pipe is not running was sent before the sender knew. It is given back, even
// if the pause is over by then: what was given back before must not be overtaken by it.
type flow uint8

const (
	running flow = iota
	asked
	pausing
	paused
)

// Pause makes the inbox begin nothing more, and give back what it has not begun. What is begun
// goes on, and its leases too. At level best effort, where nothing can be given back, what came
// waits here instead. It may be called at any time, twice too, and does not block.
func (b *Inbox) Pause() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.paused || b.closed {
		return
	}
	b.paused = true
	for e := range b.pipes {
		e.ask()
	}
	for _, st := range b.streams {
		if st.level == BestEffort {
			continue
		}
		for _, m := range b.unbegun(st, all) {
			b.giveBack(m, wire.NackReturned)
		}
		if st.cur != nil {
			st.cur.returnWants()
		}
	}
	b.kickAll()
}

// Resume ends Pause.
func (b *Inbox) Resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paused = false
	b.callWaiting()
	b.kickAll()
}

// ask makes the pipe say PAUSE, even if the pause is over by then. The inbox's mutex must be held.
func (e *in) ask() {
	if e.flow == running {
		e.flow = asked
	}
}

// halted reports whether what comes is to be given back. The inbox's mutex must be held.
func (e *in) halted() bool { return e.st.level != BestEffort && e.flow != running }

// fillFlow tells the sender that it should pause or go on, before anything is given back.
func (e *in) fillFlow(dst []byte) []byte {
	switch {
	case e.flow == asked:
		dst = wire.AppendEmpty(dst, wire.TypePause)
		if e.flow, e.proof, e.read = pausing, e.renew+1, false; e.st.level == BestEffort {
			e.flow = paused // there are no RENEWs, and nothing to be overtaken
		}
	case !e.box.paused && e.flow == paused:
		dst = wire.AppendEmpty(dst, wire.TypeResume)
		e.flow = running
	}
	return dst
}

// unproven reports whether the RENEW that proves that PAUSE was read is still to be sent.
func (e *in) unproven() bool { return e.flow == pausing && e.renew < e.proof }

// proven: the sender has read all that was said before RENEW n.
func (e *in) proven(n uint64) {
	if e.flow == pausing && n >= e.proof {
		e.read = true
		e.stop()
	}
}

// stop ends pausing when nothing is under way any more: neither what was sent before PAUSE was
// read, nor the rest of a large message. The inbox's mutex must be held.
func (e *in) stop() {
	if e.flow == pausing && e.read && len(e.granted) == 0 {
		e.flow = paused
		e.pipe.kick()
	}
}

// returnWants gives back the large messages that no room was granted for. The inbox's mutex must
// be held.
func (e *in) returnWants() {
	for seq, c := range e.wants {
		delete(e.wants, seq)
		e.box.cfg.Local.Budget.drop(c)
		if err := e.returnUnsent(seq); err != nil {
			e.pipe.abort(err)
			return
		}
	}
}

// returnUnsent gives back a large message of which no part has come. The inbox's mutex must be
// held.
func (e *in) returnUnsent(seq uint64) error {
	if err := e.take(1, 0); err != nil {
		return err
	}
	e.giveBack(e.attach.EditionOf(seq), seq, wire.NackReturned)
	e.pipe.kick()
	return nil
}
