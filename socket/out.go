package socket

import (
	"fmt"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
)

// out is the sending end of a pipe. Its fields are guarded by the outbox's mutex,
// but for sends, which is whose turn it is to write.
type out struct {
	box    *Outbox
	con    *ledger.Consumer
	peer   Peer
	pipe   *pipe
	attach wire.Attach
	number uint64

	sent      bool // ATTACH
	attached  bool
	spoke     bool // all that had to be told first was told
	left      bool // LEAVE came
	dismissed bool // it asked for its end, and others go on
	said      bool // DETACH sent

	renewed     uint64           // RENEW to answer; 0: none
	unconfirmed int              // answers since the last fill, see confirm
	asked       uint64           // version of the patterns whose effect is to be told; 0: none
	subscribed  *wire.Subscribed // the newest version, not told yet

	large   *ledger.Send // on its way in fragments
	wanted  bool
	granted bool
	offset  int

	replyCredit uint64 // told so far
	replyGot    uint64
	creditDue   bool

	part *partial

	sends []ledger.Send

	// Of the reading goroutine.
	replies  []wire.Reply // of the frames at hand, not handled yet
	answered int          // the most of them that were handled together since settle
}

// partial is a reply of which not all parts have come.
type partial struct {
	seq     uint64
	outcome Outcome
	total   uint64
	buf     []byte
}

func (o *out) finished() bool {
	o.box.mu.Lock()
	defer o.box.mu.Unlock()
	return o.left || o.said
}

// fill says what there is to say: what the receiver may forget and must know first,
// then messages within its credit.
func (o *out) fill(dst []byte) ([]byte, bool) {
	o.box.mu.Lock()
	if !o.sent {
		o.sent = true
		o.box.mu.Unlock()
		return wire.AppendAttach(dst, o.attach), false
	}
	if !o.attached {
		fin := o.box.closing
		o.said = o.said || fin
		o.box.mu.Unlock()
		if fin {
			dst = wire.AppendText(dst, wire.TypeDetach, "the socket closed")
		}
		return dst, fin
	}
	dst = o.fillControl(dst)
	o.spoke = true
	fin := o.left || o.dismissed || o.box.closing
	o.sends = o.sends[:0]
	if o.box.expected {
		o.box.dispatch(o)
	}
	if !fin && o.large == nil {
		o.sends = o.box.led.Take(o.con, o.sends, o.pipe.piece, time.Now())
		o.startLarge()
	}
	if o.large != nil && !fin {
		dst = o.fillLarge(dst)
	}
	if fin {
		if !o.left {
			dst = wire.AppendText(dst, wire.TypeDetach, "the socket closed")
		}
		o.said = true
	}
	if o.con.Waits() && o.large == nil || o.large != nil && o.granted {
		o.pipe.kick() // there is more than fits one write
	}
	o.box.copying.Add(1)
	o.box.mu.Unlock()
	dst = appendSends(dst, o.sends)
	o.box.copying.Add(-1)
	clear(o.sends) // they keep nothing alive
	if o.pipe.spares(len(o.sends), cap(o.sends)) {
		o.sends = nil
	}
	return dst, fin
}

// Confirmations only free memory at the receiver. They go along with whatever is said
// next, RENEWED at the latest; confirmAfter answers do not wait, where confirmBytes of
// a reply count like one more.
const (
	confirmAfter = 4096
	confirmBytes = 64
)

// confirm notes that so many answers are to be confirmed. The outbox's mutex must be
// held.
func (o *out) confirm(answers int) {
	if o.unconfirmed += answers; o.unconfirmed >= confirmAfter {
		o.pipe.kick()
	}
}

// fillControl is everything but messages, in this order: what is revoked is not begun
// by the answer to a RENEW, where a subscription begins decides which gaps concern it,
// and a gap spares what is done and not yet confirmed.
func (o *out) fillControl(dst []byte) []byte {
	o.unconfirmed = 0
	for rs := o.con.TakeRevokes(); rs != nil; rs = o.con.TakeRevokes() {
		dst = wire.AppendRevoke(dst, rs)
	}
	if o.subscribed != nil {
		dst = wire.AppendSubscribed(dst, *o.subscribed)
		o.subscribed = nil
	}
	for _, g := range o.con.TakeGaps() {
		dst = wire.AppendGap(dst, g)
	}
	for _, c := range o.box.led.TakeConfirms(o.con) {
		dst = wire.AppendRanges(dst, wire.TypeConfirm, c)
	}
	if o.renewed != 0 {
		dst = wire.AppendNumber(dst, wire.TypeRenewed, o.renewed)
		o.renewed = 0
	}
	if o.creditDue {
		o.creditDue = false
		o.replyCredit = o.replyGot + o.box.cfg.ReplyCredit
		dst = wire.AppendNumber(dst, wire.TypeReplyCredit, o.replyCredit)
	}
	return dst
}

// startLarge takes the one large message, which Take hands over alone, aside.
func (o *out) startLarge() {
	if n := len(o.sends); n > 0 && o.sends[n-1].Large {
		s := o.sends[n-1]
		o.large, o.wanted, o.granted, o.offset = &s, false, false, 0
		o.sends = o.sends[:n-1]
	}
}

// fillLarge asks for room, and once it is granted sends a few fragments at a time.
func (o *out) fillLarge(dst []byte) []byte {
	s := o.large
	if !o.wanted {
		o.wanted = true
		return wire.AppendWant(dst, wire.Want{Seq: s.Seq, Bytes: uint64(len(s.Record))})
	}
	if !o.granted {
		return dst
	}
	run := wire.Run{Redelivered: s.Redelivered, Base: s.Base, Attempt: s.Attempt, Age: s.Age}
	for o.offset < len(s.Record) && len(dst) < o.pipe.piece {
		part := s.Record[o.offset:min(len(s.Record), o.offset+wire.MaxFragment)]
		dst = wire.AppendFragment(dst, wire.Fragment{Run: run, Total: uint64(len(s.Record)), Offset: uint64(o.offset), Part: part})
		o.offset += len(part)
	}
	if o.offset == len(s.Record) {
		o.large = nil
	}
	return dst
}

// ageStep is how much the ages of one run may differ; the run tells the least, so
// that nothing expires early.
const ageStep = 10 * time.Millisecond

// appendSends groups messages into DATA frames: those of one block and one kind of
// delivery share a header.
func appendSends(dst []byte, sends []ledger.Send) []byte {
	for len(sends) > 0 {
		first := sends[0]
		n, size, age := 0, 0, first.Age
		for n < len(sends) {
			s := sends[n]
			if s.Base != first.Base || s.Attempt != first.Attempt || s.Redelivered != first.Redelivered ||
				(first.Age-s.Age).Abs() > ageStep || n > 0 && size+len(s.Record) > wire.MaxRun {
				break
			}
			age = min(age, s.Age)
			size += len(s.Record)
			n++
		}
		run := wire.Run{Redelivered: first.Redelivered, Base: first.Base, Attempt: first.Attempt, Age: age}
		w := wire.BeginData(dst, run)
		for _, s := range sends[:n] {
			w.Add(s.Record)
		}
		dst = w.End()
		sends = sends[n:]
	}
	return dst
}

func (o *out) receive(t wire.Type, payload []byte) error {
	if t == wire.TypeRejected {
		r, err := wire.ParseRejected(payload)
		if err != nil {
			return err
		}
		return refusalOf(r)
	}
	if t == wire.TypeReply {
		r, err := wire.ParseReply(payload)
		if err != nil {
			return err
		}
		if o.replies = append(o.replies, r); len(o.replies) < lockedBatch {
			return nil // until settle
		}
	}
	o.box.mu.Lock()
	defer o.box.mu.Unlock()
	if err := o.takeReplies(); err != nil || t == wire.TypeReply {
		return err // what they make room for comes with settle
	}
	if err := o.hears(t); err != nil {
		return err
	}
	if err := o.answer(t, payload, time.Now()); err != nil {
		return err
	}
	o.box.answered()
	return nil
}

// hears reports why a frame of that type cannot come now. The outbox's mutex must be held.
func (o *out) hears(t wire.Type) error {
	if o.box.pipes[o.con] != o {
		return errReplaced // what it still says is older than what the newer pipe's ATTACHED told
	}
	if (t == wire.TypeAttached) == o.attached {
		return fmt.Errorf("%w: type 0x%02x", errUnexpected, byte(t))
	}
	return nil
}

// takeReplies handles the replies that came since it was called last. The outbox's mutex must be held.
func (o *out) takeReplies() error {
	if len(o.replies) == 0 {
		return nil
	}
	o.answered = max(o.answered, len(o.replies))
	if err := o.hears(wire.TypeReply); err != nil {
		return err
	}
	for _, r := range o.replies {
		if err := o.reply(r); err != nil {
			return err
		}
	}
	o.replies = o.replies[:0]
	return nil
}

// settle handles the replies at hand, and does once for all of them what is done for every other frame. It reports
// whether there were several: those who asked may ask again.
func (o *out) settle() (several bool, err error) {
	if len(o.replies) == 0 && o.answered == 0 {
		return false, nil
	}
	o.box.mu.Lock()
	defer o.box.mu.Unlock()
	if err := o.takeReplies(); err != nil {
		return false, err
	}
	several = o.answered > 1
	o.answered = 0
	o.box.answered()
	return several, nil
}

// gather takes in what was left to the pipe's reader.
func (o *out) gather() {
	o.box.mu.Lock()
	defer o.box.mu.Unlock()
	if o.box.cfg.Gather() {
		o.box.dispatch(o)
	}
}

// answer handles one frame of the receiver. The outbox's mutex must be held.
func (o *out) answer(t wire.Type, payload []byte, now time.Time) error {
	led := o.box.led
	switch t {
	case wire.TypeAttached:
		a, err := wire.ParseAttached(payload)
		if err != nil {
			return err
		}
		return o.greeted(a, now)
	case wire.TypeDone:
		d, err := wire.ParseRanges(payload)
		if err != nil {
			return err
		}
		for _, r := range d.Ranges {
			o.confirm(int(min(r.Len(), confirmAfter)))
		}
		return led.Done(o.con, d)
	case wire.TypeNack:
		n, err := wire.ParseNack(payload)
		if err != nil {
			return err
		}
		if err := led.Nack(o.con, n, now); err != nil {
			return err
		}
		for _, r := range n.Ranges {
			o.declined(r.From, r.To)
		}
		if due := led.Due(); !due.IsZero() {
			o.box.cfg.Wind(due)
		}
	case wire.TypeCredit:
		c, err := wire.ParseCredit(payload)
		if err != nil {
			return err
		}
		led.Credit(o.con, c)
	case wire.TypeRenew:
		n, err := wire.ParseNumber(payload)
		if err != nil {
			return err
		}
		if led.Renew(o.con, now) {
			o.renewed = n
			o.pipe.kick()
		}
	case wire.TypeGrant:
		seq, err := wire.ParseNumber(payload)
		if err != nil {
			return err
		}
		if o.large == nil || o.large.Seq != seq || o.granted {
			return fmt.Errorf("%w: GRANT %d", errUnexpected, seq)
		}
		o.granted = true
		o.pipe.kick()
	case wire.TypeSubscribe:
		s, err := wire.ParseSubscribe(payload)
		if err != nil {
			return err
		}
		return o.subscribe(s.Version, s.Patterns)
	case wire.TypeUnsubscribe:
		if err := wire.ParseEmpty(payload); err != nil {
			return err
		}
		if o.box.cfg.OnUnsubscribe == nil {
			return fmt.Errorf("%w: UNSUBSCRIBE", errUnexpected)
		}
		o.dismissed = !o.box.cfg.OnUnsubscribe(o.con.Who)
		o.pipe.kick()
	case wire.TypePause, wire.TypeResume:
		if err := wire.ParseEmpty(payload); err != nil {
			return err
		}
		if t == wire.TypePause {
			led.Pause(o.con)
		} else {
			led.Resume(o.con)
		}
		o.box.cfg.Changed.Fire()
	case wire.TypeLeave:
		l, err := wire.ParseLeave(payload)
		if err != nil {
			return err
		}
		if err := led.Left(o.con, o.number, l.Begun); err != nil {
			return err
		}
		o.left = true
		o.pipe.kick()
	default:
		return fmt.Errorf("%w: type 0x%02x", errUnexpected, byte(t))
	}
	return nil
}

// greeted makes the pipe count: the two memories were compared.
func (o *out) greeted(a wire.Attached, now time.Time) error {
	if a.Nonce != o.peer.Nonce {
		return fmt.Errorf("%w: ATTACHED and HELLO name different processes", errUnexpected)
	}
	ok, err := o.box.led.Attached(o.con, a, now)
	if err != nil {
		return err
	}
	if !ok {
		return errReplaced
	}
	o.attached = true
	o.pipe.kick()
	o.box.cfg.Changed.Fire()
	return o.subscribe(a.Version, a.Patterns)
}

// subscribe hands a version of the patterns to the publisher, who tells from which
// message on it takes effect.
func (o *out) subscribe(version uint64, patterns []string) error {
	if o.box.cfg.OnPatterns == nil {
		return nil
	}
	first, err := o.box.cfg.OnPatterns(version, patterns)
	if err != nil {
		return err
	}
	if o.asked = version; first > 0 {
		o.box.Subscribed(first)
	}
	return nil
}

// declined: the receiver does not want the large message that it was asked room for.
// The outbox's mutex must be held.
func (o *out) declined(from, to uint64) {
	if o.large != nil && !o.granted && from <= o.large.Seq && o.large.Seq <= to {
		o.large = nil
		o.pipe.kick()
	}
}

// reply assembles an answer and settles its request. The outbox's mutex must be held.
func (o *out) reply(r wire.Reply) error {
	if err := o.expects(r); err != nil {
		return err
	}
	o.replyGot += uint64(len(r.Part))
	if o.replyCredit < o.replyGot+o.box.cfg.ReplyCredit/2 {
		o.creditDue = true
		o.pipe.kick()
	}
	body, whole := o.assemble(r)
	if !whole {
		return nil
	}
	o.declined(r.Seq, r.Seq)
	state := ledger.Done
	if r.Outcome == wire.Indeterminate {
		state = ledger.Indeterminate
	}
	waited, err := o.box.led.Reply(o.con, r.Edition, r.Seq, state)
	if err != nil {
		return err
	}
	if waited {
		o.box.cfg.OnReply(r.Seq, r.Outcome, body, o.con.Who)
	}
	o.confirm(1 + len(body)/confirmBytes)
	return nil
}

// assemble returns the body of a reply once all of it is there, as memory of its own.
func (o *out) assemble(r wire.Reply) (body []byte, whole bool) {
	if o.part == nil && uint64(len(r.Part)) == r.Total {
		return append(make([]byte, 0, len(r.Part)), r.Part...), true
	}
	if o.part == nil {
		o.part = &partial{seq: r.Seq, outcome: r.Outcome, total: r.Total, buf: make([]byte, 0, min(r.Total, wire.MaxFragment))}
	}
	p := o.part
	p.buf = append(p.buf, r.Part...)
	if uint64(len(p.buf)) < p.total {
		return nil, false
	}
	o.part = nil
	return p.buf, true
}

// expects holds a part of a reply against what there may be: parts of one reply after
// the other, within the limits, and for a request that was made.
func (o *out) expects(r wire.Reply) error {
	cfg := &o.box.cfg
	p := o.part
	switch {
	case cfg.OnReply == nil:
		return fmt.Errorf("%w: REPLY %d", errUnexpected, r.Seq)
	case r.Total > uint64(cfg.Local.MaxMessage):
		return fmt.Errorf("%w: reply of %d bytes, at most %d", ErrTooLarge, r.Total, cfg.Local.MaxMessage)
	case r.Edition == cfg.Local.Edition && r.Seq >= o.box.led.Next():
		return ledger.ErrForged{Seq: r.Seq}
	case o.replyGot >= o.replyCredit && len(r.Part) > 0:
		return fmt.Errorf("%w: REPLY %d beyond its credit", errUnexpected, r.Seq)
	case p == nil && r.Offset == 0:
		return nil
	case p == nil || r.Seq != p.seq || r.Offset != uint64(len(p.buf)) || r.Total != p.total || r.Outcome != p.outcome:
		return fmt.Errorf("%w: part of reply %d", errUnexpected, r.Seq)
	}
	return nil
}
