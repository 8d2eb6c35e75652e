package socket

import (
	"fmt"
	"iter"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ranges"
	"peermesh/internal/slots"
	"peermesh/internal/wire"
)

// ReplyStore is a Journal that can be read through: what a replier knows of requests that
// may be executed only once must outlive it. The spool is one.
type ReplyStore interface {
	Journal
	// Notes ranges over the values under keys with that prefix, in ascending order of keys.
	Notes(prefix string) iter.Seq2[string, []byte]
}

const (
	// maxReplyCache bounds the replies of one stream that are kept until they are
	// confirmed, maxReplies those of all of a socket's; at either no credit for new requests
	// is granted. A reply counts as its body; how many there are is marks.MaxUnconfirmed.
	maxReplyCache = 16 << 20
	maxReplies    = 16 * maxReplyCache
)

// requestID tells a request from all others of its stream.
type requestID = slots.Key

// reply is an answer kept until the requester confirms that it has it.
type reply struct {
	outcome Outcome
	body    []byte
}

// storesReplies reports whether requests of st are executed at most once in all lives of
// this replier. Such a request comes to the disk twice, and the next life says of it:
//
//	     Start             Reply           CONFIRM
//	held -----> STARTED -> handler -> reply -----> forgotten
//
//	not here  | lost: it was begun  | done: the reply again
func (st *stream) storesReplies() bool { return st.level == Durable && st.box.cfg.Replies != nil }

// Start says that the handler is about to run. Of a request that may be executed only once
// in all lives of this replier it blocks until that is on disk; if it cannot be, the error
// is ErrStorage or ErrClosed, and the request must not be executed.
func (b *Inbox) Start(m *Message) error {
	if b.cfg.Replies == nil {
		return nil
	}
	b.mu.Lock()
	st := m.in
	err := b.failed
	if b.closed {
		err = ErrClosed
	}
	if !st.storesReplies() || err != nil {
		b.mu.Unlock()
		return err
	}
	stored := make(chan error, 1)
	values := map[string][]byte{st.requestKey(requestID{Edition: m.edition, Seq: m.seq}): {started}}
	b.touch(st, values)
	b.store(values, func(err error) { stored <- err })
	b.mu.Unlock()
	return <-stored
}

// Reply answers a request. It does not block; the answer is sent, once it is on disk if
// it has to be, and kept until the requester confirms that it has it.
func (b *Inbox) Reply(m *Message, outcome Outcome, body []byte) error {
	b.mu.Lock()
	turn, ok, err := b.reply(m, outcome, body)
	b.mu.Unlock()
	b.replied(m, turn, ok)
	return err
}

// reply is Reply but for what is done without the lock: replied. It reports whether the
// answer counts already. b.mu must be held.
func (b *Inbox) reply(m *Message, outcome Outcome, body []byte) (turn Turn, ok bool, err error) {
	st := m.in
	if most := st.maxReply(); len(body) > most {
		body = fmt.Appendf(nil, "reply of %d bytes, at most %d", len(body), most)
		if outcome == wire.OK {
			outcome = wire.Error
		}
	}
	ok, err = b.answerable(m)
	if ok && st.storesReplies() {
		err = b.failed
	}
	if !ok || err != nil {
		return Turn{}, false, err
	}
	b.stats.Done++
	b.finish(m)
	st.cache(len(body))
	id, r := requestID{Edition: m.edition, Seq: m.seq}, reply{outcome, body}
	if st.storesReplies() {
		st.storing++
		b.unsaved++
		b.store(st.replyNotes(id, r), func(err error) { b.replyStored(m, r, err) })
		return Turn{}, false, nil
	}
	return b.keepReply(st, id, r), true, nil
}

// replied ends Reply.
func (b *Inbox) replied(m *Message, turn Turn, ok bool) {
	turn.Take()
	if ok && b.cfg.OnDone != nil {
		b.cfg.OnDone(m)
	}
}

// handBack gives back a request that was begun and of which nothing was executed. Should the process die
// before its STARTED is erased, the next life takes it for begun: less than is known now, and no lie.
func (b *Inbox) handBack(m *Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ok, err := b.answerable(m)
	if !ok || err != nil {
		return err
	}
	st := m.in
	b.stats.Released++
	b.finish(m)
	st.letGo(m)
	st.erase(requestID{Edition: m.edition, Seq: m.seq}, 0)
	if st.cur != nil {
		st.cur.giveBack(m.edition, m.seq, wire.NackReturned)
		st.cur.pipe.kick()
	}
	return nil
}

// replyStored: the reply is on disk and may be sent, or never will be.
func (b *Inbox) replyStored(m *Message, r reply, err error) {
	if err != nil {
		return // the socket has failed
	}
	b.mu.Lock()
	m.in.storing--
	turn := b.keepReply(m.in, requestID{Edition: m.edition, Seq: m.seq}, r)
	if b.unsaved--; b.unsaved == 0 {
		b.settled.Fire()
	}
	b.mu.Unlock()
	turn.Pass()
	if b.cfg.OnDone != nil {
		b.cfg.OnDone(m)
	}
}

// maxReply is the longest body that both sides can take. The inbox's mutex must be
// held.
func (st *stream) maxReply() int {
	return min(st.box.cfg.Local.MaxMessage, st.peer.MaxMessage)
}

// keepReply sends a reply, which was counted, when the turn it returns is taken and on every later pipe,
// until it is confirmed. b.mu must be held.
func (b *Inbox) keepReply(st *stream, id requestID, r reply) Turn {
	st.memory.Done(id.Edition, id.Seq)
	st.replies.Put(id, r)
	if st.cur == nil {
		return Turn{}
	}
	st.cur.queueReply(id)
	return st.cur.replying()
}

// cache counts bytes of replies. The inbox's mutex must be held.
func (st *stream) cache(bytes int) {
	b := st.box
	full := b.cached > maxReplies
	st.cached += bytes
	b.cached += bytes
	if full && b.cached <= maxReplies {
		b.kickAll() // every requester waits for credit
	}
}

// settledReplies forgets the replies that match, which their requester has settled, and
// what was begun and lost likewise. The inbox's mutex must be held.
func (st *stream) settledReplies(match func(requestID) bool) {
	for id := range st.replies.All() {
		if match(id) {
			st.settledReply(id)
		}
	}
	for id := range st.lost {
		if match(id) {
			st.settledReply(id)
		}
	}
}

// settledReply is settledReplies for one request. The inbox's mutex must be held.
func (st *stream) settledReply(id requestID) {
	if r, ok := st.replies.Take(id); ok {
		st.cache(-len(r.body))
		st.erase(id, len(r.body))
	}
	if _, ok := st.lost[id]; ok {
		delete(st.lost, id)
		st.erase(id, 0)
	}
}

// confirmedReplies is settledReplies for what a CONFIRM names. It takes no longer than it
// takes to go through what is known, whatever the ranges claim.
func (st *stream) confirmedReplies(c wire.EditionRanges) {
	known, named := uint64(st.replies.Len()+len(st.lost)), uint64(0)
	if known == 0 {
		return
	}
	for _, r := range c.Ranges {
		named += min(r.Len(), known+1)
	}
	if named > known {
		var gone ranges.Set
		for _, r := range c.Ranges {
			gone.Add(r.From, r.To)
		}
		st.settledReplies(func(id requestID) bool { return id.Edition == c.Edition && gone.Contains(id.Seq) })
		return
	}
	for _, r := range c.Ranges {
		for i := range r.Len() {
			st.settledReply(requestID{Edition: c.Edition, Seq: r.From + i})
		}
	}
}

// replaced forgets streams of requesters without a state directory whose process is known to
// be over: another one attaches. Nobody waits for their replies. b.mu must be held.
func (b *Inbox) replaced(node identity.ID, nonce [16]byte) {
	for k, st := range b.streams {
		if k.node != node || !st.mortal || k.store == nonce || st.cur != nil {
			continue
		}
		for _, m := range b.unbegun(st, all) {
			b.giveBack(m, wire.NackReturned)
		}
		st.cancelTasks(ErrRevoked, all)
		if st.inMsgs == 0 && st.storing == 0 { // otherwise later
			b.drop(st)
		}
	}
	for k, r := range b.records {
		if k.node == node && r.mortal && k.store != nonce && b.streams[k] == nil {
			b.eraseStream(k)
		}
	}
}

// drop forgets a stream with nothing in hand: its marks, and its replies unless they are on
// disk. b.mu must be held.
func (b *Inbox) drop(st *stream) {
	delete(b.streams, st.key)
	r := b.records[st.key]
	switch {
	case r == nil:
		b.cached -= st.cached
	case st.mortal:
		r.bytes = st.cached
		b.eraseStream(st.key)
	default:
		r.bytes = st.cached
		b.flush() // or what it erased would come back with it
	}
}

// recordsPerPeer bounds what one peer's ever new stores may cost on disk.
const recordsPerPeer = 4 * streamsPerPeer

func (b *Inbox) countRecords(node identity.ID) (n int) {
	for k := range b.records {
		if k.node == node {
			n++
		}
	}
	return n
}

// A stream's record is kept for recordAge after it was last heard of: by then a requester
// that waits for an answer has ended or will be told that nobody knows.
const recordAge = 30 * 24 * time.Hour

// forgetRecords erases what is on disk of streams that are too old, or of requesters that
// cannot come back. Not before Grace: those that are still there attach by then, however
// wrong the clock is. b.mu must be held.
func (b *Inbox) forgetRecords(now time.Time) {
	if b.clock() <= Grace {
		return
	}
	for k, r := range b.records {
		if b.streams[k] == nil && (r.mortal || now.Round(0).Sub(r.seen) > recordAge) {
			b.eraseStream(k)
		}
	}
}

// awaitsRecord reports whether ATTACHED must wait: what it says of a stream holds for the
// next life only if that finds the stream's record. The inbox's mutex must be held.
func (st *stream) awaitsRecord() bool { return st.storesReplies() && !st.recorded }

// record puts the stream's record on disk if it is not there, or old. b.mu must be held.
func (b *Inbox) record(st *stream) {
	if !st.storesReplies() {
		return
	}
	if b.records[st.key] == nil {
		b.records[st.key] = &record{mortal: st.mortal}
	}
	values := map[string][]byte{}
	if b.touch(st, values); len(values) == 0 {
		return
	}
	st.storing++
	b.store(values, func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		st.storing--
		st.recorded = err == nil
		switch {
		case st.cur == nil:
		case err != nil:
			st.cur.pipe.abort(err)
		default:
			st.cur.pipe.kick()
		}
	})
}

// touchEvery is how old a record's time may be when something new comes to the disk.
const touchEvery = 24 * time.Hour

// touch adds the stream's record to values if it is old. b.mu must be held.
func (b *Inbox) touch(st *stream, values map[string][]byte) {
	r, now := b.records[st.key], time.Now().Round(0)
	if r == nil || now.Sub(r.seen).Abs() < touchEvery {
		return
	}
	r.seen = now
	values[b.streamKey(st.key)] = r.value()
}

// store hands values to the disk, and with them what was to be erased. b.mu must be held;
// then is called without.
func (b *Inbox) store(values map[string][]byte, then func(error)) {
	for key := range b.erased {
		if _, again := values[key]; !again {
			values[key] = nil
		}
	}
	clear(b.erased)
	b.cfg.Replies.Save(values, func(err error) {
		if err != nil {
			b.mu.Lock()
			b.fail(err)
			err = b.failed
			b.mu.Unlock()
		}
		then(err)
	})
}

// maxErased is how much may wait to be erased together with something else.
const maxErased = 1024

// erase forgets on disk what there may be of a request whose reply has so many bytes. The
// inbox's mutex must be held.
func (st *stream) erase(id requestID, bytes int) {
	b := st.box
	if b.records[st.key] == nil {
		return
	}
	for part := range parts(bytes) {
		b.erased[st.partKey(id, part)] = struct{}{}
	}
	if len(b.erased) >= maxErased {
		b.flush()
	}
}

// flush erases what waits for that. b.mu must be held.
func (b *Inbox) flush() {
	if len(b.erased) > 0 && b.failed == nil {
		b.store(map[string][]byte{}, func(error) {})
	}
}

// eraseStream forgets on disk all there is of a stream. b.mu must be held.
func (b *Inbox) eraseStream(k streamKey) {
	for key := range b.cfg.Replies.Notes(b.streamKey(k)) {
		b.erased[key] = struct{}{}
	}
	b.cached -= b.records[k].bytes
	delete(b.records, k)
	b.flush()
}
