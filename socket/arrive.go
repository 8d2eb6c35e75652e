package socket

import (
	"errors"
	"fmt"
	"slices"

	"peermesh/internal/marks"
	"peermesh/internal/wire"
)

const slabSize = 64 // messages allocated at once

// assembly is a large record of which not all fragments have come.
type assembly struct {
	seq uint64
	run wire.Run
	buf []byte
}

// data parses a run without the lock and takes it in hand under it.
func (e *in) data(payload []byte) error {
	run, records, err := wire.ParseData(payload)
	if err != nil {
		return err
	}
	e.box.mu.Lock()
	room := e.announced.Messages - e.received.Messages
	e.box.mu.Unlock()
	e.batch, e.slab, e.run.n = e.batch[:0], nil, 0
	d := e.delivery(run)
	for n := uint64(0); len(records) > 0; n++ {
		if n == room {
			return fmt.Errorf("%w: more than %d messages", errWindow, room)
		}
		r, rest, err := wire.NextRecord(records)
		if err != nil {
			return err
		}
		size := len(records) - len(rest)
		if !e.continues(d, run.Base, &r, records, size) {
			m, err := e.message(d, run.Base, &r, 1+len(rest)/size)
			if err != nil {
				return err
			}
			m.size = int32(size) // of a frame
			e.batch = append(e.batch, item{m: m})
		}
		records = rest
	}
	e.endRun()
	return e.arrive(false)
}

// continues makes the record at the start of records, which has so many bytes there, the next one of a run. It reports
// false, and ends the run at hand, if the record is none for runs.
func (e *in) continues(d *delivery, base uint64, r *wire.Record, records []byte, size int) bool {
	seq, open := base+r.Delta, &e.run
	if len(r.Key) > 0 || len(r.Headers) > 0 || r.TTL > 0 || seq < base || len(r.Body) > e.box.cfg.Local.MaxMessage || !e.runs() {
		e.endRun()
		return false
	}
	if open.n > 0 && (seq != open.first+uint64(open.n) || string(r.Topic) != open.topic) {
		e.endRun()
	}
	if open.n == 0 {
		*open = run{delivery: *d, first: seq, topic: e.topicOf(r), records: records[:0]}
	}
	open.n++
	open.records = open.records[:len(open.records)+size]
	return true
}

// runs reports whether messages of this pipe are taken in hand in runs: not where there are no marks, nor requests, each of
// which has a deadline.
func (e *in) runs() bool { return e.attach.Level != BestEffort && e.box.cfg.Kind != wire.Rep }

// endRun puts the run at hand into the batch.
func (e *in) endRun() {
	switch open := &e.run; open.n {
	case 0:
	case 1:
		whole := *open
		e.batch = append(e.batch, item{m: whole.one()})
	default:
		whole := *open
		whole.records = slices.Clip(whole.records)
		e.batch = append(e.batch, item{r: &whole})
	}
	e.run = run{}
}

// topicOf is the topic of a record, allocated only if it is not that of the record before.
func (e *in) topicOf(r *wire.Record) string {
	if len(r.Topic) > 0 && string(r.Topic) != e.topic {
		e.topic = string(r.Topic)
	}
	return e.topic[:min(len(r.Topic), len(e.topic))]
}

// message makes a Message of a record. Its body aliases the arena. Messages of one
// frame are allocated together, of which there will be about so many more: so a
// message that is kept for long pins nothing but its own arena.
func (e *in) message(d *delivery, base uint64, r *wire.Record, more int) (*Message, error) {
	seq := base + r.Delta
	if seq < base {
		seq = 0 // beyond 64 bits: no seq, and refused as such
	}
	headers, err := decodeHeaders(r.Headers)
	if err != nil {
		return nil, err
	}
	if len(e.slab) == 0 {
		e.slab = make([]Message, min(more, slabSize))
	}
	m := &e.slab[0]
	e.slab = e.slab[1:]
	m.Body, m.delivery, m.seq, m.TTL = r.Body, d, seq, r.TTL
	m.Topic = e.topicOf(r)
	if len(r.Key) > 0 {
		m.Key = string(r.Key)
	}
	if len(headers) > 0 {
		m.Headers = headers
	}
	return m, nil
}

// delivery is what the messages of a run have in common.
func (e *in) delivery(run wire.Run) *delivery {
	return &delivery{in: e.st, edition: e.attach.EditionOf(run.Base), attempt: run.Attempt, redelivered: run.Redelivered, born: e.box.clock() - run.Age}
}

var errWindow = errors.New("sender exceeds its window")

// take counts what came against the window that was announced. The inbox's mutex must
// be held.
func (e *in) take(messages, bytes int) error {
	got := wire.Credit{Messages: e.received.Messages + uint64(messages), Bytes: e.received.Bytes + uint64(bytes)}
	if got.Messages > e.announced.Messages || got.Bytes > e.announced.Bytes {
		return fmt.Errorf("%w: %+v of %+v", errWindow, got, e.announced)
	}
	e.received = got
	return nil
}

// arrive takes the batch in hand: all that is not here already. large: it is the one
// message that a grant was for.
func (e *in) arrive(large bool) error {
	b, st := e.box, e.st
	b.mu.Lock()
	defer b.mu.Unlock()
	if !st.memory.Current(e.id) {
		return marks.ErrFenced
	}
	n, bytes := 0, 0
	for _, it := range e.batch {
		n += it.count()
		bytes += it.bytes()
	}
	if err := e.take(n, bytes); err != nil {
		return err
	}
	if err := e.heard(); err != nil {
		return err
	}
	defer b.callWaiting()
	all, err := e.allFresh()
	if err != nil {
		return err
	}
	for _, it := range e.batch {
		switch {
		case all:
			e.admit(it)
		case large:
			err = e.arriveLarge(it.m)
		default:
			err = e.arriveItem(it)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// arriveLarge is arrive for the one message that a grant was for. The inbox's mutex must be held.
func (e *in) arriveLarge(m *Message) error {
	fresh, err := e.fresh(m.seq)
	if err != nil {
		return err
	}
	c := e.granted[m.seq]
	delete(e.granted, m.seq)
	if m.large = c; fresh {
		e.admit(item{m: m})
	} else {
		e.box.cfg.Local.Budget.drop(c)
	}
	e.stop() // once it is given back
	return nil
}

// arriveItem is arrive for what may be here already, whole or in part. The inbox's mutex must be held.
func (e *in) arriveItem(it item) (err error) {
	if it.r != nil {
		from, to := it.span()
		whole, err := e.st.memory.ArriveRun(it.r.edition, from, to)
		if whole {
			e.admit(it)
		}
		if whole || err != nil {
			return err
		}
	}
	it.each(func(m *Message) {
		fresh := false
		if err == nil {
			fresh, err = e.fresh(m.seq)
		}
		if fresh {
			e.admit(item{m: m})
		}
	})
	return err
}

// allFresh is fresh for the whole batch at once, if its seqs are a run of which nothing
// is here, as is usual; otherwise it does nothing and reports false. The inbox's mutex
// must be held.
func (e *in) allFresh() (bool, error) {
	if e.st.level == BestEffort || len(e.batch) == 0 {
		return false, nil
	}
	first, end := e.batch[0].span()
	if len(e.batch) == 1 && first == end {
		return false, nil
	}
	for _, it := range e.batch[1:] {
		from, to := it.span()
		if from != end+1 {
			return false, nil
		}
		end = to
	}
	return e.st.memory.ArriveRun(e.attach.EditionOf(first), first, end)
}

// fresh notes that a message came, and reports whether it is not here already. The
// inbox's mutex must be held.
func (e *in) fresh(seq uint64) (bool, error) {
	st := e.st
	if st.level == BestEffort {
		return true, nil
	}
	edition := e.attach.EditionOf(seq)
	if n := st.nacks[seq]; n != nil && n.edition == edition {
		delete(st.nacks, seq) // sent again, so the NACK was read
		st.memory.Return(edition, seq)
	}
	return st.memory.Arrive(edition, seq)
}

// admit queues what is held from now on. The inbox's mutex must be held.
func (e *in) admit(it item) {
	b, st := e.box, e.st
	first, last := it.span()
	if st.back.Count() > 0 {
		st.back.Remove(first, last)
	}
	st.inMsgs += it.count()
	st.inBytes += it.bytes()
	st.top = max(st.top, last)
	switch most := b.cfg.Local.MaxMessage; {
	case b.draining || e.halted():
		it.each(func(m *Message) { b.giveBack(m, wire.NackReturned) })
		return
	case it.m != nil && len(it.m.Body) > most:
		b.release(it.m)
		e.refuse(it.m.seq, fmt.Sprintf("body of %d bytes, at most %d", len(it.m.Body), most))
		return
	}
	b.queue.push(it)
}

// refuse answers a message that is held and can never be handled here: another
// receiver may be able to. The inbox's mutex must be held.
func (e *in) refuse(seq uint64, why string) {
	st, edition := e.st, e.attach.EditionOf(seq)
	switch {
	case st.level == BestEffort: // nobody waits for an answer
	case e.box.cfg.Kind == wire.Rep:
		st.cache(len(why))
		e.box.keepReply(st, requestID{Edition: edition, Seq: seq}, reply{wire.Failed, []byte(why)})
	default:
		st.nacks[seq] = &nacked{edition: edition, reason: wire.NackHandler, text: why}
	}
	e.pipe.kick()
}

// maxWants bounds the room one sender may ask for at a time; it sends one large
// message after the other.
const maxWants = 4

// want asks the node's budget for room. The inbox's mutex must be held.
func (e *in) want(w wire.Want) error {
	if e.wants[w.Seq] != nil || e.granted[w.Seq] != nil || len(e.wants)+len(e.granted) >= maxWants {
		return fmt.Errorf("%w: WANT %d", errUnexpected, w.Seq)
	}
	local := e.box.cfg.Local
	if most := local.MaxMessage + wire.MaxHeaders + 4*wire.MaxName; w.Bytes > uint64(most) {
		return e.decline(w.Seq, fmt.Sprintf("message of %d bytes, at most %d", w.Bytes, most))
	}
	if e.halted() {
		return e.returnUnsent(w.Seq)
	}
	c := local.Budget.claim(int(w.Bytes), e.pipe.kick)
	if c == nil {
		return e.decline(w.Seq, fmt.Sprintf("message of %d bytes is above the budget for large ones", w.Bytes))
	}
	e.wants[w.Seq] = c
	e.pipe.kick()
	return nil
}

// decline refuses a message of which no part has come. The inbox's mutex must be held.
func (e *in) decline(seq uint64, why string) error {
	if err := e.take(1, 0); err != nil {
		return err
	}
	if fresh, err := e.fresh(seq); !fresh {
		return err
	}
	e.refuse(seq, why)
	return nil
}

// dropClaims gives back the room that no message came to use. The inbox's mutex
// must be held.
func (e *in) dropClaims() {
	for _, c := range e.wants {
		e.box.cfg.Local.Budget.drop(c)
	}
	for _, c := range e.granted {
		e.box.cfg.Local.Budget.drop(c)
	}
	e.wants, e.granted = nil, nil
}

// fragment adds a part of a large record; the last one makes it arrive.
func (e *in) fragment(payload []byte) error {
	f, err := wire.ParseFragment(payload)
	if err != nil {
		return err
	}
	if e.large == nil {
		e.box.mu.Lock()
		c := e.granted[f.Base] // a large record is the only one of its block
		e.box.mu.Unlock()
		if c == nil || uint64(c.size) != f.Total || f.Offset != 0 {
			return fmt.Errorf("%w: fragment of %d without a grant", errUnexpected, f.Base)
		}
		e.large = &assembly{seq: f.Base, run: f.Run, buf: make([]byte, 0, c.size)}
	}
	l := e.large
	if f.Base != l.seq || f.Offset != uint64(len(l.buf)) || f.Total != uint64(cap(l.buf)) {
		return fmt.Errorf("%w: fragment %d+%d, want %d+%d", errUnexpected, f.Base, f.Offset, l.seq, len(l.buf))
	}
	l.buf = append(l.buf, f.Part...)
	if len(l.buf) < cap(l.buf) {
		return nil
	}
	e.large = nil
	r, rest, err := wire.NextRecord(l.buf)
	if err != nil || len(rest) > 0 {
		return fmt.Errorf("large record %d: %w", l.seq, errors.Join(err, wire.ErrMalformed))
	}
	e.slab = nil
	m, err := e.message(e.delivery(l.run), l.run.Base, &r, 1)
	if err != nil {
		return err
	}
	if m.seq != l.seq { // or it would not count against the grant
		return fmt.Errorf("%w: record %d in the fragments of %d", wire.ErrMalformed, m.seq, l.seq)
	}
	e.batch = append(e.batch[:0], item{m: m})
	return e.arrive(true)
}
