package ledger

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// State is where a message stands.
type State uint8

// The states. Queued, Delayed, Parked, Waiting and Leased are owed; the rest are final.
const (
	Queued        State = iota // may be dispatched now
	Delayed                    // waits for the end of its delay or back-off
	Parked                     // waits for an earlier message of its key, or its consumer's credit
	Waiting                    // dispatched in an earlier life, for those who may have it since
	Leased                     // dispatched to a consumer
	Done                       // handled
	Dead                       // MaxDeliver used up, or unreadable
	Expired                    // its TTL ran out while it was queued, or a request failed unexecuted
	Dropped                    // by a named policy, see Settlement.Reason
	Handed                     // BestEffort: given to the link, outside the ledger
	Indeterminate              // a request that may or may not have been executed
)

var stateNames = [...]string{"queued", "queued", "queued", "queued", "leased", "done", "dead", "expired", "dropped", "handed", "indeterminate"}

// String is the state's name in events.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

func (s State) settled() bool { return s >= Done }

// Reasons for Dropped, as they are counted.
const (
	ReasonOverflow      = "overflow"      // the queue's bound, by DropOldest or DropNewest
	ReasonShutdown      = "shutdown"      // memory-level messages given up at Close or Shutdown
	ReasonGone          = "gone"          // the subscriber they were kept for left
	ReasonNoSubscriber  = "no-subscriber" // no subscription matched
	ReasonCancelled     = "cancelled"     // the requester gave up
	ReasonIndeterminate = "indeterminate"
	ReasonDamaged       = "damaged" // accepted in an earlier life, and unreadable on disk now
)

// Mode tells the few things in which streams differ.
type Mode struct {
	// Edition owns the seqs from First on; Editions are those of earlier lives of the
	// sender that own something owed, ascending by First, each up to the next one.
	Edition  uint64
	First    uint64
	Editions []wire.EditionSpan

	// Given is above all seqs of Edition that were given out before this ledger began.
	Given uint64

	// Holders are the nodes to which an earlier life may have dispatched messages that
	// are Unknown.
	Holders []identity.ID
	Marked  bool // nothing above the dispatch mark is dispatched, see SetMark
	Staged  bool // what consumers may forget must be released, see Seal

	BestEffort bool          // no answers: a message is settled as Handed when it is taken
	AtMostOnce bool          // Req at level once: never dispatched again while somebody may have begun it
	PerStore   bool          // AtMostOnce: what a consumer has not begun it has not begun in any life of its store
	Requests   bool          // Expires is a deadline that holds for dispatched messages too
	MaxDeliver int           // deliveries before a message is dead; 0: no limit
	Lease      time.Duration // how long a lease outlives the last RENEW
	Backoff    time.Duration // first delay after a NACK; doubles up to MaxBackoff
	MaxBackoff time.Duration
	Number     func() uint64 // the next ATTACH's number; nil: counted per consumer

	// OnDone, if there is one, is told of neighbours that one consumer has done at their first attempt, in place of settle.
	OnDone func(from, to uint64, by Who)
	// OnTry, if there is one, is called for each message whose Deliveries rose without
	// settling it, in the course of whatever call that happens in.
	OnTry func(Try)
	// OnNack, if there is one, is called for each message that a handler gave back and that
	// is tried again.
	OnNack func(Nacked)
}

// Nacked is a message that a handler gave back.
type Nacked struct {
	Seq  uint64
	By   Who
	Text string // the handler's error
}

// Try is what has to outlive the sender about a message that is still owed.
type Try struct {
	Seq        uint64
	Attempt    uint32 // leases so far
	Deliveries uint32 // of MaxDeliver
}

// Item is a message to be accepted.
type Item struct {
	Seq     uint64 // greater than every earlier one
	Base    uint64 // first seq of the block Record was framed in
	Record  []byte // immutable from now on; where those of neighbours follow each other in memory they are handed over together
	Key     string // ordering key; empty: none
	Expires time.Time

	// NotBefore is the end of its delay: it is not dispatched before. Zero: none.
	NotBefore time.Time
	// Absent: Record is nil, and stays with the owner until the delay is over, see TakeDue.
	// The message was never dispatched.
	Absent bool
	// Accepted is when the message was accepted, for its age; zero: now.
	Accepted time.Time
	// Unknown: an earlier life of the sender dispatched it, or may have, to a process
	// that is not known any more. It is flagged whenever it is delivered, and waits
	// until all Holders were attached once or the lease time is over.
	Unknown bool
	// Attempt and Deliveries are what the earlier life counted.
	Attempt, Deliveries uint32
}

// Settlement is a message's fate.
type Settlement struct {
	Seq    uint64
	State  State
	Reason string // of Dropped
	By     Who    // of Done and Dead: the consumer
	Text   string // of Dead: the last handler error

	Replied bool // of a request: it was answered, whatever the answer says

	Base                uint64 // as in Item
	Record              []byte // of Dead: the message; nil otherwise
	Attempt, Deliveries uint32
}

// Who names a consumer: a node, and for subscriptions which of its sockets.
type Who struct {
	Node  identity.ID
	Label string
}

// Counts is a snapshot; Carried + Accepted = Queued + Leased + Done + Dead + Expired + Handed +
// the sum of Dropped, always (I13). Handed is zero but for BestEffort. LateDone counts
// messages that were reported done after another fate, at most once each.
type Counts struct {
	Carried                                       uint64 // accepted in an earlier life: below Mode.First
	Accepted, Queued, Leased, Done, Dead, Expired uint64
	Dropped                                       map[string]uint64
	Handed, LateDone, Redelivered                 uint64
	Bytes                                         uint64 // of the records of Queued and Leased
}

type entry struct {
	seq        uint64
	base       uint64
	record     []byte
	accepted   int64 // ns since epoch
	expires    int64 // ns since epoch; 0: never
	key        uint64
	holder     *Consumer
	suspects   []process // where it may have been begun; shared, never written in place
	attempt    uint32
	deliveries uint32
	lost       uint8 // leases that ended with a lost link
	state      State
	taken      bool // under the present lease it was handed to the writer
	begun      bool // somewhere, for certain or for all that can ever be known
	unknown    bool // dispatched in an earlier life, nobody knows where
	overdue    bool // its TTL ran out while it was leased, or may have been
	early      bool // its delay is not over: it is among the delayed, whatever its state
	absent     bool // its record is with the owner
}

// doubt reports whether some process may have begun e.
func (e *entry) doubt() bool { return e.begun || len(e.suspects) > 0 }

// sentTo reports whether e may lie, or have lain, at c, in whatever life of it.
func (e *entry) sentTo(c *Consumer) bool {
	for _, p := range e.suspects {
		if p.who == c {
			return true
		}
	}
	return false
}

// at is the index of c's present process among the suspects, -1 if it is none.
func (e *entry) at(c *Consumer) int {
	for i, p := range e.suspects {
		if p.who == c && p.nonce == c.nonce {
			return i
		}
	}
	return -1
}

// mayHold reports whether e may lie at c now, or c's answer be under way.
func (e *entry) mayHold(c *Consumer) bool {
	i := e.at(c)
	return i >= 0 && e.suspects[i].nack != read
}

// process is one life of a consumer to which a message was sent.
type process struct {
	who   *Consumer
	nonce [16]byte
	nack  nack
}

// nack is what is known of a suspect's NACK. One that was read need not be known to
// have been read: then the message still counts as held there, and with the next
// pipe the NACK comes once more.
type nack uint8

const (
	none  nack = iota
	read       // it has no more than the memory of its NACK
	again      // it said that it has that, so the NACK comes again
)

// Ledger is the memory of one stream for one consumer group. Not safe for
// concurrent use.
type Ledger struct {
	mode     Mode
	earlier  map[uint64]span // the seqs of each earlier edition
	epoch    time.Time
	now      int64 // when the ledger was told of time last, since epoch
	ring     ring
	fresh    uint64 // nothing from this seq on was ever dispatched in this life
	unsure   uint64 // nothing from this seq on is unknown
	mark     uint64 // see SetMark
	volatile uint64 // see Volatile
	ahead    uint64 // see passDelayed
	next     uint64 // above the last accepted seq
	retry    heap[uint64]
	delayed  heap[timed]
	expiry   heap[timed]
	oldest   uint64 // nothing below is owed and not leased
	lanes    map[uint64]*lane
	spare    []*lane // empty ones, to be used again
	parked   int
	waiting  int
	early    int           // messages whose delay is not over
	absent   int           // messages without their record
	due      heap[uint64]  // absent ones whose delay is over
	away     []identity.ID // holders not attached yet in this life
	aside    []uint64      // of Dispatch
	late     ranges.Set    // settled otherwise than done, although somebody may have begun them

	consumers []*Consumer
	up        int  // of them, those that are attached
	revoked   bool // something is to be revoked that TakeRevoked did not tell of yet
	told      []wire.Gap
	stage     stage
	turn      int       // where the next round robin starts
	favoured  *Consumer // who is to get some neighbours, see following
	left      int       // how many
	shared    int       // how many the last one got who was chosen

	counts  Counts
	dropped map[string]uint64
	settled int // settled entries still in the ring
	onSettl func(Settlement)
}

// lane keeps the messages of one key in order: one at a time.
type lane struct {
	head    uint64 // the one that may be dispatched, or is
	waiting fifo   // parked, ascending
}

// maxSpare bounds the empty lanes kept.
const maxSpare = 256

// maxLate bounds the ranges kept to count late answers; beyond it the oldest go.
const maxLate = 4096

// New makes an empty ledger. settle is called for every message that reaches its
// fate, in the course of whatever call settles it.
func New(mode Mode, first uint64, now time.Time, settle func(Settlement)) *Ledger {
	return &Ledger{mode: mode, earlier: spansOf(mode), away: slices.Clone(mode.Holders), epoch: now, fresh: first, volatile: math.MaxUint64, next: first, retry: newSeqHeap(), delayed: newTimedHeap(),
		due: newSeqHeap(), expiry: newTimedHeap(), lanes: map[uint64]*lane{}, dropped: map[string]uint64{}, onSettl: settle}
}

func (l *Ledger) at(now time.Time) int64 { return int64(now.Sub(l.epoch)) }

// tell notes what time it is.
func (l *Ledger) tell(now time.Time) int64 {
	l.now = l.at(now)
	return l.now
}

// laneOf is the lane of a key: FNV-1a, the same in every process, so that a key
// finds its consumer again. Keys that collide share a lane, which costs them only
// time.
func laneOf(key string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return h | 1
}

// Append accepts a message; seqs rise from one to the next, but need not follow each other.
// What earlier lives left may be appended piece by piece while consumers come and go; what
// is unknown, before any of them attaches. Dispatch leases it out.
func (l *Ledger) Append(it Item, now time.Time) {
	l.accept(it.Seq, 1, len(it.Record))
	accepted := l.at(now)
	if !it.Accepted.IsZero() {
		accepted = l.at(it.Accepted)
	}
	if it.plain() && l.toRow(it.Seq, it.Base, it.Record, accepted) {
		return
	}
	e := l.entry(it.Seq, it.Base, it.Record, accepted)
	if it.Key != "" {
		e.key = laneOf(it.Key)
	}
	if !it.Expires.IsZero() {
		e.expires = max(l.at(it.Expires), 1)
		l.expiry.push(timed{e.expires, e.seq})
	}
	e.attempt, e.deliveries = it.Attempt, it.Deliveries
	l.delay(e, it)
	if it.Unknown {
		l.appendUnknown(e)
	}
}

// AppendPlain is Append of a message that has nothing but its record, and was accepted about then.
func (l *Ledger) AppendPlain(seq, base uint64, record []byte, accepted time.Time) {
	l.accept(seq, 1, len(record))
	if at := l.at(accepted); !l.toRow(seq, base, record, at) {
		l.entry(seq, base, record, at)
	}
}

// AppendRun is AppendPlain for several in a row, all of this life, whose records stand one behind the other and end there.
func (l *Ledger) AppendRun(seq, base uint64, records []byte, ends []uint32, accepted time.Time) {
	start := uint32(0)
	for len(ends) > 0 {
		l.AppendPlain(seq, base, records[start:ends[0]], accepted)
		n := l.ring.extend(ends)
		l.accept(seq+1, n-1, int(ends[n-1]-ends[0]))
		start = ends[n-1]
		seq += uint64(n)
		ends = ends[n:]
	}
}

// accept counts n messages from seq on, with records of so many bytes. All are of this life or none is.
func (l *Ledger) accept(seq uint64, n, size int) {
	if seq < l.mode.First {
		l.counts.Carried += uint64(n)
	} else {
		l.counts.Accepted += uint64(n)
	}
	l.next = seq + uint64(n)
	l.counts.Queued += uint64(n)
	l.counts.Bytes += uint64(size)
}

// entry makes a message an entry of its own.
func (l *Ledger) entry(seq, base uint64, record []byte, accepted int64) *entry {
	e := l.ring.push()
	e.seq, e.base, e.record, e.accepted = seq, base, slices.Clip(record), accepted
	return e
}

// Refuse counts a message that is dropped the moment it is accepted; its seq
// becomes a gap.
func (l *Ledger) Refuse(seq uint64, reason string) {
	l.next = seq + 1
	if l.ring.n == 0 {
		l.fresh = l.next
	}
	l.counts.Accepted++
	l.drop(seq, reason)
}

func (l *Ledger) drop(seq uint64, reason string) {
	l.dropped[reason]++
	l.fate(seq, wire.GapDropped)
	l.onSettl(Settlement{Seq: seq, State: Dropped, Reason: reason})
}

// Owed is the number of messages not settled, and the bytes of their records.
func (l *Ledger) Owed() (messages int, bytes uint64) {
	return int(l.counts.Queued + l.counts.Leased), l.counts.Bytes
}

// Lowest is the first seq not settled, or the next one to be accepted.
func (l *Ledger) Lowest() uint64 {
	for i := range l.ring.n {
		if !l.ring.stateAt(i).settled() {
			return l.ring.seqAt(i)
		}
	}
	return l.next
}

// Behind reports whether there is a message that was never dispatched, but for those that are delayed.
func (l *Ledger) Behind() bool { return l.fresh < l.next }

// Next is the seq above the last accepted one.
func (l *Ledger) Next() uint64 { return l.next }

// Counts returns a snapshot.
func (l *Ledger) Counts() Counts {
	c := l.counts
	c.Dropped = make(map[string]uint64, len(l.dropped))
	for k, v := range l.dropped {
		c.Dropped[k] = v
	}
	return c
}

// set moves an unsettled entry between the owed states and keeps the counts.
func (l *Ledger) set(e *entry, s State) {
	switch {
	case e.state == Leased && s != Leased:
		l.counts.Leased--
		l.counts.Queued++
		e.holder.leased--
		if !e.taken {
			e.holder.refund(e)
		}
		e.holder, e.taken = nil, false
	case e.state != Leased && s == Leased:
		l.counts.Queued--
		l.counts.Leased++
	}
	if e.overdue && s != Leased && s != Waiting {
		l.expiry.push(timed{e.expires, e.seq})
	}
	switch e.state {
	case Parked:
		l.parked--
	case Waiting:
		l.waiting--
	}
	switch s {
	case Parked:
		l.parked++
	case Waiting:
		l.waiting++
	}
	if e.lost >= aloneAfter {
		l.free(e.seq)
	}
	e.state = s
}

// settle states the fate of an owed entry. The entry may be gone afterwards.
func (l *Ledger) settle(e *entry, st Settlement) {
	e.overdue = false
	l.set(e, Queued)
	l.present(e)
	l.counts.Queued--
	l.counts.Bytes -= uint64(len(e.record))
	if st.State != Done && e.doubt() {
		l.late.Add(e.seq, e.seq)
		if l.late.Len() > maxLate {
			first := l.late.Ranges()[0]
			l.late.Remove(first.From, first.To)
		}
	}
	st.Seq, st.Base, st.Attempt, st.Deliveries = e.seq, e.base, e.attempt, e.deliveries
	if st.State == Dead {
		st.Record = e.record
	}
	e.state, e.record, e.suspects = st.State, nil, nil
	l.settled++
	switch st.State {
	case Done:
		l.counts.Done++
	case Dead:
		l.counts.Dead++
	case Expired:
		l.counts.Expired++
	case Dropped:
		l.dropped[st.Reason]++
	case Indeterminate:
		l.dropped[ReasonIndeterminate]++
	case Handed:
		l.counts.Handed++
	}
	l.fate(e.seq, gapReasons[st.State])
	key, seq := e.key, e.seq
	l.trim()
	if key != 0 {
		l.leave(key, seq)
	}
	l.onSettl(st)
}

// trim lets settled entries go, and what still names them.
func (l *Ledger) trim() {
	for l.ring.n > 0 && l.ring.stateAt(0).settled() {
		if n := l.ring.popDone(); n > 0 {
			l.settled -= n
			continue
		}
		l.ring.popFront()
		l.settled--
	}
	if l.settled > keepRing && l.settled > l.ring.n*3/4 {
		l.ring.compact()
		l.settled = 0
	}
	l.tidy()
}

// tidy throws out of the heaps what has been settled, or moved on otherwise.
func (l *Ledger) tidy() {
	owed := l.ring.n - l.settled
	l.retry.tidy(owed, func(seq uint64) bool { return l.is(seq, Queued) })
	l.delayed.tidy(owed, func(t timed) bool {
		e := l.ring.find(t.seq)
		return e != nil && (e.state == Delayed || e.early)
	})
	l.due.tidy(owed, func(seq uint64) bool {
		e := l.ring.find(seq)
		return e != nil && e.absent
	})
	l.expiry.tidy(owed, func(t timed) bool {
		e := l.ring.find(t.seq)
		return e != nil && !e.state.settled()
	})
}

// is reports whether the message of that seq is in that state.
func (l *Ledger) is(seq uint64, s State) bool {
	e := l.ring.find(seq)
	return e != nil && e.state == s
}

// leave frees the lane of a settled message and lets the next one of its key go.
func (l *Ledger) leave(key, seq uint64) {
	ln := l.lanes[key]
	if ln == nil {
		return
	}
	if ln.head != seq {
		ln.waiting.remove(seq)
		return
	}
	if ln.waiting.len() == 0 {
		delete(l.lanes, key)
		if len(l.spare) < maxSpare && cap(ln.waiting.s) <= keepRing {
			l.spare = append(l.spare, ln)
		}
		return
	}
	ln.head = ln.waiting.peek()
	ln.waiting.pop()
	if e := l.ring.find(ln.head); e.state == Parked {
		l.requeue(e)
	}
}

// requeue makes an owed entry that was dispatched, delayed or parked ready again, or
// leaves it to those who may have it since an earlier life.
func (l *Ledger) requeue(e *entry) {
	if e.unknown && l.waitsForPast(e) {
		return
	}
	l.oldest = min(l.oldest, e.seq)
	if e.early {
		l.set(e, Delayed)
		return
	}
	l.set(e, Queued)
	l.retry.push(e.seq)
	l.tidy()
}

// gapReasons are the fates that leave a hole.
var gapReasons = [...]wire.GapReason{Dead: wire.GapDead, Expired: wire.GapExpired, Dropped: wire.GapDropped, Indeterminate: 0}

// fate notes that a message has met its fate.
func (l *Ledger) fate(seq uint64, reason wire.GapReason) {
	l.fates(ranges.Range{From: seq, To: seq}, reason)
}

// fates notes that neighbours have met their fate, and states the hole that they leave, if they
// do, to every consumer: before its next message, or when the fate is durable.
func (l *Ledger) fates(r ranges.Range, reason wire.GapReason) {
	if l.mode.BestEffort || l.mode.Requests {
		reason = 0
	}
	if l.mode.Staged && l.kept(r.From) {
		kept := r
		kept.To = min(r.To, l.volatile-1)
		l.stage.fate(kept, reason)
		r.From = kept.To + 1
	}
	if reason != 0 && r.From <= r.To {
		l.gap(wire.Gap{From: r.From, To: r.To, Reason: reason})
	}
}

// gap states a hole to every consumer, before its next message.
func (l *Ledger) gap(g wire.Gap) {
	for _, c := range l.consumers {
		l.hole(c, g)
	}
}

// Tell states a hole that is older than this ledger (seqs an earlier life of the
// sender gave out and lost) to every consumer, present and future.
func (l *Ledger) Tell(from, to uint64, reason wire.GapReason) {
	if from > to {
		return
	}
	g := wire.Gap{From: from, To: to, Reason: reason}
	l.told = append(l.told, g)
	l.gap(g)
}

// TellOne is Tell for one consumer, once.
func (l *Ledger) TellOne(c *Consumer, g wire.Gap) { l.hole(c, g) }

// Oldest is when the message that DropOldest would give up was accepted; false if there
// is none.
func (l *Ledger) Oldest() (accepted time.Time, ok bool) {
	e := l.oldestFree()
	if e == nil {
		return time.Time{}, false
	}
	return l.epoch.Add(time.Duration(e.accepted)), true
}

// DropOldest gives up the oldest message that is queued. It reports false when all
// owed ones are leased.
func (l *Ledger) DropOldest(reason string) bool {
	e := l.oldestFree()
	if e == nil {
		return false
	}
	l.giveUp(e, reason)
	return true
}

// oldestFree is the oldest owed entry that nobody holds, or nil. What it has looked at it
// does not look at again before that comes back: it is asked after every step of the owner.
func (l *Ledger) oldestFree() *entry {
	for i := l.ring.index(l.oldest); i < l.ring.n; i++ {
		if s := l.ring.stateAt(i); !s.settled() && s != Leased && s != Waiting {
			l.oldest = l.ring.seqAt(i)
			return l.ring.at(i)
		}
	}
	l.oldest = l.next
	return nil
}

// giveUp drops e, whoever has it. A request that may have been begun is not simply
// dropped: that would say that it was not executed.
func (l *Ledger) giveUp(e *entry, reason string) {
	l.revoke(e, nil)
	if l.mode.Requests && e.doubt() {
		l.settle(e, Settlement{State: Indeterminate})
		return
	}
	l.settle(e, Settlement{State: Dropped, Reason: reason})
}

// firstFresh is where the oldest entry that was never dispatched stands; false if there is none.
func (l *Ledger) firstFresh() (i int, ok bool) {
	for i = l.ring.index(l.fresh); i < l.ring.n; i++ {
		seq := l.ring.seqAt(i)
		l.fresh = seq
		if l.mode.Marked && seq > l.mark && l.kept(seq) {
			return 0, false
		}
		if l.ring.stateAt(i) == Queued {
			return i, true
		}
	}
	l.fresh = l.next
	return 0, false
}

// Cancel settles a message whose sender gave up waiting. It reports whether it was
// still owed.
func (l *Ledger) Cancel(seq uint64) bool {
	e := l.ring.find(seq)
	if e == nil || e.state.settled() {
		return false
	}
	l.revoke(e, nil)
	l.settle(e, Settlement{State: Dropped, Reason: ReasonCancelled})
	return true
}

// DropAll settles everything owed as dropped, at Close; requests that may have been
// begun as indeterminate.
func (l *Ledger) DropAll(reason string) {
	for l.ring.n > 0 {
		l.giveUp(l.ring.at(0), reason) // the first one is owed: trim sees to that
	}
}

// revoke tells whoever may hold e, except one consumer, to drop it.
func (l *Ledger) revoke(e *entry, except *Consumer) {
	for _, p := range e.suspects {
		if p.who != except && p.nonce == p.who.nonce && p.nack == none {
			p.who.revoke.Add(e.seq, e.seq)
			l.revoked = true
		}
	}
}

// Tick does what time demands and returns when it must be called next, zero if
// nothing waits for time.
func (l *Ledger) Tick(now time.Time) time.Time {
	t := l.tell(now)
	for l.delayed.len() > 0 && l.delayed.min().at <= t {
		if e := l.ring.find(l.delayed.pop().seq); e != nil && !e.state.settled() {
			l.timeCame(e)
		}
	}
	for l.expiry.len() > 0 && l.expiry.min().at <= t {
		if e := l.ring.find(l.expiry.pop().seq); e != nil && !e.state.settled() {
			l.expire(e)
		}
	}
	if l.pastEnd() <= t {
		l.endPast()
	}
	for _, c := range l.consumers {
		if l.leaseEnd(c) <= t {
			c.stale = c.attached
			l.detach(c)
			l.endLeases(c, true)
		}
	}
	l.ring.calm()
	return l.Due()
}

// leaseEnd is when c's leases end unless a RENEW comes; never, if it has none that do.
func (l *Ledger) leaseEnd(c *Consumer) int64 {
	if c.leased == 0 || l.mode.AtMostOnce || l.mode.BestEffort {
		return math.MaxInt64
	}
	return c.renewed + int64(l.mode.Lease)
}

// Due is when Tick must be called next, zero if nothing waits for time.
func (l *Ledger) Due() time.Time {
	soonest := int64(math.MaxInt64)
	sooner := func(at int64) { soonest = min(soonest, at) }
	for _, c := range l.consumers {
		sooner(l.leaseEnd(c))
	}
	sooner(l.pastEnd())
	if l.delayed.len() > 0 {
		sooner(l.delayed.min().at)
	}
	if l.expiry.len() > 0 {
		sooner(l.expiry.min().at)
	}
	if soonest == math.MaxInt64 {
		return time.Time{}
	}
	return l.epoch.Add(time.Duration(soonest))
}

// expire: a TTL ends a message that nobody holds; a deadline ends a request
// whoever holds it, with the truth about what is known.
func (l *Ledger) expire(e *entry) {
	switch {
	case l.mode.Requests && e.doubt():
		l.revoke(e, nil)
		l.settle(e, Settlement{State: Indeterminate})
	case (e.state == Leased || e.state == Waiting) && !l.mode.Requests:
		e.overdue = true
	default:
		l.settle(e, Settlement{State: Expired})
	}
}

// ErrForged is an answer for a message that was never sent to who answers.
type ErrForged struct{ Seq uint64 }

func (e ErrForged) Error() string {
	return fmt.Sprintf("ledger: answer for seq %d, which was never sent there", e.Seq)
}

var (
	errNoReply = errors.New("ledger: DONE for a request, which only its reply settles")
	errHoards  = errors.New("ledger: the consumer holds or remembers more than it may")
	errUnread  = errors.New("ledger: the consumer answers without end and reads no confirmation")
)

// check holds c's answer against what it can know: seqs that were accepted, and of
// those that are owed only such as were ever sent to it, or may have been in an earlier
// life. All of them are of editions that own them.
func (l *Ledger) check(c *Consumer, edition uint64, rs []ranges.Range) error {
	for _, r := range rs {
		if r.From == 0 || r.From > r.To || edition == l.mode.Edition && r.To >= max(l.next, l.mode.Given) {
			return ErrForged{r.To}
		}
		for i := l.ring.index(r.From); i < l.ring.n && l.ring.seqAt(i) <= r.To; i++ {
			if u, slot := l.ring.rowAt(i); u != nil && u.holder == c && slot < u.taken {
				i += u.taken - slot - 1 // all these were
				continue
			}
			if e := l.ring.at(i); !e.state.settled() && !e.unknown && !e.sentTo(c) {
				return ErrForged{e.seq}
			}
		}
	}
	return nil
}
