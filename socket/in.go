package socket

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"peermesh/internal/marks"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// in is the receiving end of a pipe. Its fields are guarded by the inbox's mutex,
// but for those of the reading goroutine.
type in struct {
	box       *Inbox
	st        *stream
	id        marks.Pipe
	attach    wire.Attach // tells which edition owns a seq
	pipe      *pipe
	forgotten bool
	jumped    ranges.Set // what was missed while there was no pipe
	greeted   bool
	greetAt   time.Duration // by the inbox's clock
	met       bool          // the sender has read ATTACHED

	done     editionSets // to be told
	toldAt   time.Duration
	returned [wire.NackCorrupt + 1]editionSets // unbegun, by reason

	received  wire.Credit
	announced wire.Credit
	renew     uint64           // number of the last RENEW
	renewAt   time.Duration    // by the inbox's clock
	renewTime [8]time.Duration // by number, for those that may still be answered

	wants   map[uint64]*claim // room asked for
	granted map[uint64]*claim // room given, fragments not all here

	replyCredit uint64
	replySent   uint64
	replies     []requestID // to be sent, from replyAt on
	replyAt     int
	replyOffset int // of the first one's body

	flow  flow
	proof uint64 // while pausing: the RENEW whose answer proves that PAUSE was read
	read  bool   // that answer came

	version      uint64 // of the patterns last told
	unsubscribed bool   // UNSUBSCRIBE was sent
	leaving      bool
	said         bool // LEAVE was sent
	detached     bool // DETACH came

	// Of the reading goroutine.
	slab  []Message
	batch []item
	run   run // not yet in the batch
	topic string
	large *assembly
}

func newIn(b *Inbox, st *stream, id marks.Pipe, a wire.Attach, forgotten bool) *in {
	e := &in{box: b, st: st, id: id, attach: a, forgotten: forgotten, replyCredit: a.ReplyCredit,
		wants: map[uint64]*claim{}, granted: map[uint64]*claim{}}
	e.pipe = newPipe(nil, e, true)
	e.pipe.ticks = true // for RENEW
	if b.paused {
		e.ask()
	}
	for id := range st.replies.All() {
		e.replies = append(e.replies, id)
	}
	slices.SortFunc(e.replies, func(a, b requestID) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, n := range st.nacks {
		n.renew = 0 // told again: the older pipe may have taken it along
	}
	return e
}

func (e *in) finished() bool {
	e.box.mu.Lock()
	defer e.box.mu.Unlock()
	return e.detached || e.said
}

// markDone: tell the sender. The inbox's mutex must be held.
func (e *in) markDone(edition, from, to uint64) { e.done.add(edition, from, to) }

func (e *in) giveBack(edition, seq uint64, reason wire.NackReason) {
	e.returned[reason].add(edition, seq, seq)
}

func (e *in) queueReply(id requestID) {
	if len(e.replies) == cap(e.replies) && e.replyAt > len(e.replies)/2 {
		e.replies, e.replyAt = append(e.replies[:0], e.replies[e.replyAt:]...), 0
	}
	e.replies = append(e.replies, id)
}

// owesReplies reports whether there are replies to be sent.
func (e *in) owesReplies() bool { return e.replyAt < len(e.replies) }

// nextReply goes on to the reply after the first one.
func (e *in) nextReply() { e.replyAt, e.replyOffset = e.replyAt+1, 0 }

// fill says what there is to say: answers first, then room, then reply bodies.
func (e *in) fill(dst []byte) ([]byte, bool) {
	b := e.box
	b.mu.Lock()
	defer b.mu.Unlock()
	if !e.st.memory.Current(e.id) {
		return dst, false // fenced: the newer pipe's owner aborts this one
	}
	now := b.clock()
	e.st.collect()
	if !e.greeted && e.st.awaitsRecord() {
		return dst, false // kicked when it is there
	}
	if !e.greeted {
		e.pipe.kick() // for the rest
		return e.greet(dst, now), false
	}
	dst = e.fillFlow(dst)
	dst = e.fillAnswers(dst, now)
	if e.st.level != BestEffort && !e.said && (e.renew == 0 || now-e.renewAt >= RenewEvery-RenewEvery/8 || e.unproven()) {
		e.renew++
		e.renewAt = now
		e.renewTime[e.renew%uint64(len(e.renewTime))] = now
		dst = wire.AppendNumber(dst, wire.TypeRenew, e.renew)
	}
	for seq, c := range e.wants {
		if b.cfg.Local.Budget.isGiven(c) {
			delete(e.wants, seq)
			e.granted[seq] = c
			dst = wire.AppendNumber(dst, wire.TypeGrant, seq)
		}
	}
	if w := e.allowed(); e.creditDue(w) {
		e.announced = w
		dst = wire.AppendCredit(dst, w)
	}
	if e.version != b.version {
		e.version = b.version
		dst = wire.AppendSubscribe(dst, wire.Subscription{Version: b.version, Patterns: b.patterns})
	}
	if b.unsubscribing && !e.unsubscribed {
		e.unsubscribed = true
		dst = wire.AppendEmpty(dst, wire.TypeUnsubscribe)
	}
	dst = e.fillReplies(dst)
	if e.owesReplies() && e.replySent < e.replyCredit {
		e.pipe.kick() // there is more than fits one write
	}
	if e.leaving || e.detached {
		if e.owesReplies() && !e.detached {
			return dst, false // wait for the requester's credit
		}
		if e.leaving && !e.detached {
			dst = wire.AppendLeave(dst, wire.Leave{Reason: "the socket closes", Begun: e.st.memory.Begun()})
		}
		e.said = true
		return dst, true
	}
	return dst, false
}

// greet answers the ATTACH.
func (e *in) greet(dst []byte, now time.Duration) []byte {
	e.greeted = true
	e.toldAt = now - nudgeDelay
	b, st := e.box, e.st
	a := wire.Attached{Number: e.number(), Forgotten: e.forgotten, Store: b.cfg.Local.Store, Nonce: b.cfg.Local.Nonce}
	st.memory.Attached(&a)
	e.announced = e.allowed()
	a.Messages, a.Bytes = e.announced.Messages, e.announced.Bytes
	if b.cfg.Kind == wire.Sub {
		a.Version, a.Patterns = b.version, b.patterns
	}
	e.version = b.version
	e.greetAt = now
	e.done.clear() // all of it is in ATTACHED
	return wire.AppendAttached(dst, a)
}

// errLeasesOver ends a pipe whose ATTACHED told too late what is held here.
var errLeasesOver = errors.New("the leases were over before ATTACHED was known to be read")

// heard: what comes on this pipe, but for DETACH, proves that the sender has read
// ATTACHED. Only then does that renew the leases: one that was lost did not keep the
// sender from leasing elsewhere. If they are over by then, the sender may have done so
// before it read ATTACHED, and what is not begun must not be: it is not here for the next
// pipe, which leaves the order alone, as giving it back on this one would not. The inbox's
// mutex must be held.
func (e *in) heard() error {
	if e.met {
		return nil
	}
	if e.box.letGoIfOver(e.st) > 0 {
		return errLeasesOver
	}
	e.met, e.st.unsaid = true, false
	e.st.doubt()
	e.box.renewed(e.st, e.greetAt+BeginWithin)
	return nil
}

func (e *in) number() uint64 { return e.id.Number() }

func (e *in) fillAnswers(dst []byte, now time.Duration) []byte {
	if !e.done.empty() {
		e.toldAt = now
		e.done.take(func(d wire.EditionRanges) { dst = wire.AppendRanges(dst, wire.TypeDone, d) })
	}
	for reason := range e.returned {
		e.returned[reason].take(func(d wire.EditionRanges) {
			dst = wire.AppendNack(dst, wire.Nack{Reason: wire.NackReason(reason), Edition: d.Edition, Ranges: d.Ranges})
		})
	}
	for seq, n := range e.st.nacks {
		if n.renew == 0 {
			n.renew = e.renew + 1
			dst = wire.AppendNack(dst, wire.Nack{Reason: n.reason, Delay: n.delay, Edition: n.edition,
				Ranges: []ranges.Range{{From: seq, To: seq}}, Text: n.text})
		}
	}
	return dst
}

// allowed is the window as totals since ATTACHED.
func (e *in) allowed() wire.Credit {
	st := e.st
	w := e.announced
	if st.memory.Unconfirmed() >= marks.MaxUnconfirmed || len(st.nacks) >= maxNacks || st.cached > maxReplyCache || e.box.cached > maxReplies ||
		st.kept.crowded() || e.box.draining || e.flow != running {
		return w
	}
	w.Messages = max(w.Messages, e.received.Messages+uint64(max(st.window.messages-st.inMsgs, 0)))
	w.Bytes = max(w.Bytes, e.received.Bytes+uint64(max(st.window.bytes-st.inBytes, 0)))
	return w
}

// creditDue: say so when an eighth of the window came free, or the sender has
// little left.
func (e *in) creditDue(w wire.Credit) bool {
	if w == e.announced {
		return false
	}
	step, stepBytes := e.st.window.steps()
	return e.creditUrgent(w) ||
		e.announced.Messages-e.received.Messages <= step || e.announced.Bytes-e.received.Bytes <= max(stepBytes, wire.MaxRecord)
}

// creditUrgent: an eighth of the window came free.
func (e *in) creditUrgent(w wire.Credit) bool {
	step, stepBytes := e.st.window.steps()
	return w.Messages-e.announced.Messages >= max(step, 1) || w.Bytes-e.announced.Bytes >= stepBytes
}

// answered: there is an answer to tell. It waits for others when one was told just now
// and there is more to handle, but not while the sender may run out of credit.
// Otherwise the caller takes the turn. The inbox's mutex must be held.
func (e *in) answered() Turn {
	switch {
	case e.box.unbegunHere() == 0 || e.creditUrgent(e.allowed()):
		return Turn{e.pipe}
	case e.pipe.nudged():
	case e.box.clock()-e.toldAt >= nudgeDelay:
		return Turn{e.pipe}
	default:
		e.pipe.nudge(nudgeDelay)
	}
	return Turn{}
}

// replying: there is a reply to send. It waits for others while there are requests to begin,
// and with them for those under way. Otherwise the caller takes the turn. The inbox's mutex
// must be held.
func (e *in) replying() Turn {
	others := e.box.queue.len() > 0 || e.box.begun > 0 && (e.pipe.nudged() || !e.pipe.quiet(lingerDelay))
	if !others {
		return Turn{e.pipe}
	}
	e.pipe.nudge(lingerDelay)
	return Turn{}
}

// fillReplies sends reply bodies as far as the requester has room, in parts.
func (e *in) fillReplies(dst []byte) []byte {
	began := e.replyAt
	for e.owesReplies() && e.replySent < e.replyCredit && len(dst) < e.pipe.piece {
		id := e.replies[e.replyAt]
		r, ok := e.st.replies.Get(id)
		if !ok { // confirmed meanwhile
			e.nextReply()
			continue
		}
		part := r.body[e.replyOffset:min(len(r.body), e.replyOffset+wire.MaxFragment)]
		dst = wire.AppendReply(dst, wire.Reply{Edition: id.Edition, Seq: id.Seq, Outcome: r.outcome,
			Total: uint64(len(r.body)), Offset: uint64(e.replyOffset), Part: part})
		e.replySent += uint64(len(part))
		if e.replyOffset += len(part); e.replyOffset == len(r.body) {
			e.nextReply()
		}
	}
	if !e.owesReplies() {
		n := e.replyAt - began
		if e.replies, e.replyAt = e.replies[:0], 0; e.pipe.spares(n, cap(e.replies)) {
			e.replies = nil
		}
	}
	return dst
}

var errUnexpected = errors.New("frame not expected here")

func (e *in) receive(t wire.Type, payload []byte) error {
	switch t {
	case wire.TypeData:
		return e.data(payload)
	case wire.TypeFragment:
		return e.fragment(payload)
	case wire.TypeGap:
		return e.gap(payload)
	}
	e.box.mu.Lock()
	defer e.box.mu.Unlock()
	if !e.st.memory.Current(e.id) {
		return marks.ErrFenced
	}
	if t != wire.TypeDetach {
		if err := e.heard(); err != nil {
			return err
		}
	}
	switch t {
	case wire.TypeWant:
		w, err := wire.ParseWant(payload)
		if err != nil {
			return err
		}
		return e.want(w)
	case wire.TypeConfirm:
		c, err := wire.ParseRanges(payload)
		if err != nil {
			return err
		}
		e.st.confirmed(c)
		e.starved()
	case wire.TypeRenewed:
		n, err := wire.ParseNumber(payload)
		if err != nil {
			return err
		}
		return e.renewAnswered(n)
	case wire.TypeRevoke:
		rs, err := wire.ParseRevoke(payload)
		if err != nil {
			return err
		}
		e.revoked(rs)
	case wire.TypeReplyCredit:
		n, err := wire.ParseNumber(payload)
		if err != nil {
			return err
		}
		e.replyCredit = max(e.replyCredit, n)
		e.pipe.kick()
	case wire.TypeSubscribed:
		s, err := wire.ParseSubscribed(payload)
		if err != nil {
			return err
		}
		if e.st.begin == 0 && e.attach.Level != Durable { // a durable one had others before
			e.st.begin = s.First
		}
	case wire.TypeDetach:
		if _, err := wire.ParseText(payload); err != nil {
			return err
		}
		e.detached = true
		e.pipe.kick()
	default:
		return fmt.Errorf("%w: type 0x%02x", errUnexpected, byte(t))
	}
	return nil
}

// starved makes the pipe look whether there is credit again that waited for what just
// came. The inbox's mutex must be held.
func (e *in) starved() {
	if e.announced.Messages == e.received.Messages {
		e.pipe.kick()
	}
}

// renewAnswered: the leases are ours for BeginWithin from when that RENEW was sent,
// and every NACK before it was read.
func (e *in) renewAnswered(n uint64) error {
	if n > e.renew || n == 0 {
		return fmt.Errorf("RENEWED %d, but %d were sent", n, e.renew)
	}
	e.proven(n)
	if n+uint64(len(e.renewTime)) <= e.renew {
		return nil // too late to mean anything
	}
	e.box.renewed(e.st, e.renewTime[n%uint64(len(e.renewTime))]+BeginWithin)
	for seq, k := range e.st.nacks {
		if k.renew != 0 && k.renew <= n {
			e.st.memory.Return(k.edition, seq)
			delete(e.st.nacks, seq)
		}
	}
	e.starved()
	return nil
}

// revoked: drop what is not begun, cancel what is. Nobody waits for an answer.
func (e *in) revoked(rs []ranges.Range) {
	var set ranges.Set
	for _, r := range rs {
		set.Add(r.From, r.To)
	}
	st, b := e.st, e.box
	for _, m := range b.unbegun(st, func(m *Message) bool {
		return m.edition == e.attach.EditionOf(m.seq) && set.Contains(m.seq)
	}) {
		m.settle()
		st.letGo(m)
		b.release(m)
		e.pipe.kick() // there is room
	}
	st.cancelTasks(ErrRevoked, func(m *Message) bool { return set.Contains(m.seq) })
}

func (e *in) gap(payload []byte) error {
	g, err := wire.ParseGap(payload)
	if err != nil {
		return err
	}
	e.box.mu.Lock()
	if !e.st.memory.Current(e.id) {
		e.box.mu.Unlock()
		return marks.ErrFenced
	}
	if err := e.heard(); err != nil {
		e.box.mu.Unlock()
		return err
	}
	told := e.news(g)
	for _, g := range told {
		e.box.stats.Gaps += g.To - g.From + 1
	}
	e.st.noteGone(g.From, g.To) // with what is here all the same: the marks go, and a gap may be told again
	e.st.top = max(e.st.top, g.To)
	e.box.mu.Unlock()
	if e.box.cfg.OnGap != nil {
		for _, g := range told {
			e.box.cfg.OnGap(g)
		}
	}
	return nil
}

// maxGone bounds the ranges of holes remembered so that none is reported twice; beyond it
// the oldest go. No sender keeps more to tell again.
const maxGone = 1 << 15

// noteGone remembers a hole that was stated. The inbox's mutex must be held.
func (st *stream) noteGone(from, to uint64) {
	st.gone.Add(from, to)
	if st.gone.Len() > maxGone {
		first := st.gone.Ranges()[0]
		st.gone.Remove(first.From, first.To)
	}
	st.back.Remove(from, to)
}

// noteBack remembers a message that was given back. Of more ranges than maxGone the oldest two become one: then more is
// told as missed than is, and nothing less. The inbox's mutex must be held.
func (st *stream) noteBack(seq uint64) {
	st.back.Add(seq, seq)
	if st.back.Len() > maxGone {
		rs := st.back.Ranges()
		st.back.Add(rs[0].From, rs[1].To)
	}
}

// letGo notes that m is not in hand any more; it was not handled. If it was in a gap it is a
// hole now. The inbox's mutex must be held.
func (st *stream) letGo(m *Message) {
	st.memory.Return(m.edition, m.seq)
	st.gone.Remove(m.seq, m.seq)
}

// news is what of a gap was not stated already, when this pipe began or before, is not here
// all the same, and is not older than the subscription.
func (e *in) news(g wire.Gap) (out []Gap) {
	from := max(g.From, e.st.begin)
	if from > g.To {
		return nil
	}
	var gone ranges.Set
	for missed := range e.jumped.Missing(from, g.To) {
		for unsaid := range e.st.gone.Missing(missed.From, missed.To) {
			for r := range e.st.memory.Missing(unsaid.From, unsaid.To) {
				gone.Add(r.From, r.To)
			}
		}
	}
	for seq := range e.st.nacks { // nothing is here but the memory of a NACK, in whatever life it was for
		if from <= seq && seq <= g.To && !e.jumped.Contains(seq) && !e.st.gone.Contains(seq) {
			gone.Add(seq, seq)
		}
	}
	for _, r := range gone.Ranges() {
		out = append(out, Gap{Stream: e.st.label, From: r.From, To: r.To, Reason: g.Reason.String()})
	}
	return out
}
