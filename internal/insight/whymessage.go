package insight

import "fmt"

// message says where a message stands and what holds it up.
func (w *why) message(q subject) Answer {
	var at *Sight
	for i := range w.all {
		if m := w.all[i].Message; m != nil && (at == nil || m.State != "unknown" && at.Message.State == "unknown") {
			at = &w.all[i]
		}
	}
	if at == nil {
		a := w.name(q.name)
		a.because("no Push of %q could be asked for message %d: only queues number their messages for why", q.name, q.seq)
		return a
	}
	a := w.standing(q, at)
	a.because("at %s: message %d is %s, attempt %d, %d failed deliveries", at.Status.Name, q.seq, at.Message.State, at.Message.Attempt, at.Message.Deliveries)
	return a
}

func (w *why) standing(q subject, at *Sight) Answer {
	m := at.Message
	a := Answer{Code: CodeOK}
	switch m.State {
	case "queued":
		return w.queued(q, at)
	case "leased", "sent":
		return w.leased(q, at)
	case "done":
		a.Cause = fmt.Sprintf("message %d of %q was handled", q.seq, q.name)
		if m.By != "" {
			a.Cause += " by " + w.nameOf(m.By)
		}
		return a
	}
	for i := len(at.Decisions) - 1; i >= 0; i-- {
		if d := at.Decisions[i]; d.Name == q.name && d.First <= q.seq && q.seq <= d.Seq && (d.What == Dead || d.What == Expired || d.What == Dropped) {
			return w.over(q, d, at)
		}
	}
	if m.State == "unknown" {
		a.Code = CodeUnknown
		a.Cause = fmt.Sprintf("there is no message %d of %q: the next one gets number %d", q.seq, q.name, m.Next)
		a.Cure = "ask for a number that push --json has printed"
		return a
	}
	a.Cause = fmt.Sprintf("message %d of %q is %s", q.seq, q.name, m.State)
	switch m.State {
	case "settled":
		a.Cause = fmt.Sprintf("message %d of %q is settled; which way is not known any more", q.seq, q.name)
		for _, h := range w.homes(q.name) {
			if h.sight == at {
				a.because("all of that queue: %s", h.socket.Ledger.text())
			}
		}
	case "dead":
		a.Code, a.Cure = CodeDead, fmt.Sprintf("peermesh dlq peek %s shows it, and dlq replay %s sends it again", q.name, q.name)
	case "expired":
		a.Code, a.Cure = CodeExpiredTTL, "give such messages a longer TTL, or more receivers"
	case "dropped":
		a.Code, a.Cure = CodeDropped, "raise the bound of the queue, or choose another overflow policy"
	}
	return a
}

// over tells a fate from the decision that it was.
func (w *why) over(q subject, d Decision, at *Sight) Answer {
	var a Answer
	switch d.What {
	case Dead:
		a.Code = CodeDead
		a.Cause = fmt.Sprintf("message %d of %q is dead: %s fails on it: %s", q.seq, q.name, w.nameOf(d.By), quoteOr(d.Text))
		a.Cure = deadCure(q.name, at)
	case Expired:
		a.Code, a.Cause = CodeExpiredTTL, fmt.Sprintf("the TTL of message %d of %q ran out before anybody had handled it", q.seq, q.name)
		a.Cure = "give such messages a longer TTL, or more receivers"
	default:
		a.Code, a.Cause = CodeDropped, fmt.Sprintf("message %d of %q was dropped (%s)", q.seq, q.name, d.Code)
		a.Cure = "raise the bound of the queue, or choose another overflow policy"
	}
	a.because("it happened %v ago", ms(d.AgeMs))
	return a
}

// leased: somebody has the message.
func (w *why) leased(q subject, at *Sight) Answer {
	m := at.Message
	a := Answer{Code: CodeBusy, Cause: fmt.Sprintf("%s has message %d of %q and has not answered", w.nameOf(m.By), q.seq, q.name)}
	a.Cure = "wait, or look at what the program of that node does"
	for _, h := range w.homes(q.name) {
		if h.sight != at {
			continue
		}
		for i := range h.socket.Consumers {
			c := &h.socket.Consumers[i]
			if c.ID != m.By {
				continue
			}
			if s := w.stuck(h, c); s != nil {
				return *s
			}
			if !c.Attached {
				a.Code, a.Cause = CodeDown, fmt.Sprintf("%s has message %d of %q and is away: others get it when its lease is over, at most 10 s after its last sign of life",
					w.nameOf(m.By), q.seq, q.name)
			}
		}
	}
	return a
}

// queued: nobody has the message.
func (w *why) queued(q subject, at *Sight) Answer {
	m := at.Message
	a := Answer{Code: CodeWaits}
	switch {
	case m.Waits == WaitsDelay && m.Deliveries > 0:
		for _, h := range w.homes(q.name) {
			if d := w.newest(h, Nacked); h.sight == at && d != nil && d.Seq == q.seq {
				a = w.poison(h, d)
				a.because("it comes again in %v; %d of %d deliveries are used up", ms(m.DueMs), m.Deliveries, m.MaxDeliver)
				return a
			}
		}
		a.Code = CodePoison
		a.Cause = fmt.Sprintf("a handler gave message %d of %q back: it comes again in %v, %d of %d deliveries are used up", q.seq, q.name, ms(m.DueMs),
			m.Deliveries, m.MaxDeliver)
		a.Cure = "correct the handler or the message; after its last try it is a dead letter"
		return a
	case m.Waits == WaitsDelay:
		a.Cause = fmt.Sprintf("message %d of %q was sent with a delay, of which %v are left", q.seq, q.name, ms(m.DueMs))
		a.Cure = "wait, or send without --delay"
		return a
	case m.Waits == WaitsEarlier:
		a.Cause = fmt.Sprintf("message %d of %q went out in an earlier life of its sender: it waits for the nodes that may have it, or 10 s", q.seq, q.name)
		a.Cure = "start the nodes that pulled before, or wait"
		return a
	}
	for _, h := range w.homes(q.name) {
		if h.sight != at {
			continue
		}
		if a = w.sender(h); a.Code != CodeOK {
			return a
		}
	}
	a.Code, a.Cause = CodeWaits, fmt.Sprintf("message %d of %q waits for its turn", q.seq, q.name)
	if m.Waits == WaitsKey {
		a.Cause = fmt.Sprintf("message %d of %q waits for an earlier message of its key, or for the receiver that has its key", q.seq, q.name)
	}
	a.Cure = "ask again: peermesh why " + fmt.Sprintf("%s/%d", q.name, q.seq)
	return a
}
