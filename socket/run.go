package socket

import (
	"math/bits"
	"sync/atomic"
	"time"

	"peermesh/internal/ticks"
	"peermesh/internal/wire"
)

// Most messages are told apart by seq and body alone. Those that come in a row are one run, in the queue as in the marks,
// and cost there what one message does. When they are begun slabs of Messages are cut out of it:
//
//	queue           hand                  begun                      marks
//	run ----------> slab ---------------> acked, not collected ----> done
//	     deal: lock       take: no lock    Ack: no lock      collect: lock
//	 <-------------
//	     reclaim
//
// What lies in the hand counts as begun, so it lies there for moments only (see pace), is not taken when its lease is over, and whoever looks
// for what is not begun reclaims it first. An ack is noted in the slab without the lock while that is open: then a fill
// of the pipe is due, which collects it.

const (
	// cutSize is how many messages are cut at once, at most: a slab has bits for one more.
	cutSize = 62
	// handTime is how long what is cut may take to be begun: if it took longer, one is cut the next time.
	handTime = time.Millisecond
)

// run is messages of one frame in a row without key, headers or TTL, of one topic, and no longer than they may be.
type run struct {
	delivery
	first   uint64
	n       int
	topic   string
	records []byte // of all, checked
}

func (r *run) last() uint64 { return r.first + uint64(r.n) - 1 }

// one cuts off the first message.
func (r *run) one() *Message {
	m := &Message{delivery: &r.delivery}
	r.next(m)
	return m
}

// cut cuts off the first n messages. It writes nothing twice, and no pointer that is nil anyway: where there are many small
// messages a good part of the receiver's time goes by here.
func (r *run) cut(n int) *slab {
	s := newSlab(n)
	s.delivery, s.first = r.delivery, r.first
	s.slab = s
	records, bytes := r.records, uint32(0)
	for i := range s.ms {
		body, rest := wire.NextChecked(records)
		size := len(records) - len(rest)
		bytes += uint32(size)
		s.ends[i] = bytes
		m := &s.ms[i]
		m.Body, m.delivery, m.seq, m.size, m.state = body, &s.delivery, s.first+uint64(i), int32(size), msgBegun
		if r.topic != "" {
			m.Topic = r.topic
		}
		records = rest
	}
	s.bytes, r.records = bytes, records
	r.first += uint64(n)
	r.n -= n
	return s
}

// next makes m the first message, and takes that off.
func (r *run) next(m *Message) {
	body, rest := wire.NextChecked(r.records)
	m.Body, m.Topic, m.seq, m.size = body, r.topic, r.first, int32(len(r.records)-len(rest))
	r.records = rest
	r.first++
	r.n--
}

// slab is messages that were cut out of a run together. What becomes of them is noted here, not in the messages, which
// are their receivers'.
type slab struct {
	delivery
	first uint64
	until time.Duration // nothing of the hand is taken later, by the inbox's clock: the leases are over, as far as it was known
	timed bool          // at is known
	at    uint64        // the ticks when that clock was read last, and it was not so late: no later than it was
	bytes uint32
	ends  [cutSize]uint32 // bytes up to the end of each
	ms    []Message
	next  atomic.Int32  // of the hand: the first that nobody has taken
	acks  atomic.Uint64 // by place in ms, and slabOpen

	// Guarded by the inbox's mutex.
	settled uint64 // by place in ms: answered, and that was noted
	listed  bool   // in the stream's open
}

// newSlab makes a slab of so many messages, a full one together with them.
func newSlab(n int) *slab {
	if n < cutSize {
		return &slab{ms: make([]Message, n)}
	}
	whole := &struct {
		slab
		ms [cutSize]Message
	}{}
	whole.slab.ms = whole.ms[:]
	return &whole.slab
}

// slabOpen says that acks need no lock: somebody will collect them.
const slabOpen = 1 << 63

// bit is the place of a message.
func (s *slab) bit(seq uint64) uint64 { return 1 << (seq - s.first) }

// full is all places.
func (s *slab) full() uint64 { return 1<<len(s.ms) - 1 }

// ack notes an ack. It reports false if that has to be done with the lock: whether it was noted besides does not matter. It
// is two steps, for one that tells what was there before takes longer; who closes s between them has collected it.
func (s *slab) ack(seq uint64) bool {
	if s.acks.Load()&slabOpen == 0 {
		return false
	}
	s.acks.Or(s.bit(seq))
	acks := s.acks.Load()
	return acks&slabOpen != 0 && acks&^slabOpen != s.full()
}

// freshTicks is how long the clock that was read for the hand is taken for the present one: less than a millisecond,
// and mostly some 20 us.
const freshTicks = 1 << 16

// dated reports whether the clock has to be read again: it costs a good part of what there is to do for a small message.
func (s *slab) dated() bool { return !s.timed || ticks.Count()-s.at > freshTicks }

// collect closes s and makes done marks of what was acked without the lock. It returns how many those are. The inbox's
// mutex must be held.
func (s *slab) collect() (n int) {
	acked := s.acks.And(^uint64(slabOpen)) &^ (slabOpen | s.settled)
	for acked != 0 {
		at := bits.TrailingZeros64(acked)
		k := bits.TrailingZeros64(^(acked >> at))
		s.done(at, k)
		acked &^= (1<<k - 1) << at
		n += k
	}
	return n
}

// done makes done marks of the k messages from place at on. The inbox's mutex must be held.
func (s *slab) done(at, k int) {
	st := s.in
	from := s.first + uint64(at)
	to := from + uint64(k) - 1
	bytes := s.ends[at+k-1]
	if at > 0 {
		bytes -= s.ends[at-1]
	}
	s.settled |= (1<<k - 1) << at
	st.box.stats.Done += uint64(k)
	st.box.finished(st, from, to, int(bytes))
	if st.durable() {
		st.keepRun(s.edition, from, to, int(bytes))
		return
	}
	st.memory.DoneRun(s.edition, from, to)
	if st.cur != nil {
		st.cur.markDone(s.edition, from, to)
	}
}

// open lets s take acks without the lock, if there is somebody to collect them and the sender can wait for those: at level
// durable who saves next, if a save is under way. For others the caller makes sure that the pipe fills soon. The inbox's mutex
// must be held.
func (s *slab) open() {
	st := s.in
	step, stepBytes := st.window.steps()
	if st.cur == nil || st.level == BestEffort || st.box.cfg.OnDone != nil ||
		step < uint64(len(s.ms)) || stepBytes < uint64(s.bytes) || s.settled == s.full() {
		return
	}
	if st.durable() {
		st.box.list(st) // a save is under way: that of the ack
	}
	s.acks.Or(slabOpen)
	if !s.listed {
		s.listed = true
		st.open = append(st.open, s)
	}
}

// collect collects what was acked without the lock. The inbox's mutex must be held.
func (st *stream) collect() {
	for i, s := range st.open {
		s.listed = false
		s.collect()
		st.open[i] = nil
	}
	st.open = st.open[:0]
}

// over reports whether m was answered. The inbox's mutex must be held.
func (m *Message) over() bool {
	if s := m.slab; s != nil {
		return s.settled&s.bit(m.seq) != 0
	}
	return m.state == msgSettled
}

// settle notes that m was answered, or let go. The inbox's mutex must be held.
func (m *Message) settle() {
	if s := m.slab; s != nil {
		s.settled |= s.bit(m.seq)
		return
	}
	m.state = msgSettled
}

// take begins the next message of the hand, if there is one. It needs no lock.
func (b *Inbox) take() *Message {
	s := b.hand.Load()
	if s == nil || s.dated() && b.clock() > s.until { // the process may have stood still
		return nil
	}
	if i := int(s.next.Add(1)) - 1; i < len(s.ms) {
		return &s.ms[i]
	}
	return nil
}

// inHand are the messages in the hand, which others may take meanwhile.
func (b *Inbox) inHand() []Message {
	s := b.hand.Load()
	if s == nil {
		return nil
	}
	return s.ms[min(int(s.next.Load()), len(s.ms)):]
}

// deal begins the first message of the run at the front of the queue, and puts those behind it into the hand that will
// be taken at once. at are the ticks before now. b.mu must be held.
func (b *Inbox) deal(r *run, now time.Duration, at uint64) *Message {
	step, _ := r.in.window.steps()
	n := min(b.pace(now), r.n, max(int(step), 1))
	if r.in.cur == nil {
		n = 1
	}
	b.queue.n -= n
	var m *Message
	if n == 1 {
		m = r.one()
		m.state = msgBegun
		b.began(1, len(m.Body), m.redelivered)
	} else {
		s := r.cut(n)
		s.until, s.timed, s.at = r.in.until, b.timed, at
		b.began(n, bodyBytes(s.ms), s.redelivered)
		m = &s.ms[0]
		s.next.Store(1)
		if st := r.in; !st.durable() && st.cur.pipe.nudged() { // under the lock: that fill is yet to come
			s.open()
		}
		b.hand.Store(s)
	}
	if r.n == 0 {
		b.queue.pop()
	}
	return m
}

// pace tells how many messages to cut at this time: twice as many as before as long as those were begun at once, for a
// message in the hand is one that nobody can give back to its sender. b.mu must be held.
func (b *Inbox) pace(now time.Duration) int {
	if now-b.dealtAt > handTime {
		b.dealt = 0
	}
	b.dealtAt = now
	b.dealt = min(max(2*b.dealt, 1), cutSize)
	return b.dealt
}

// began counts n messages as begun, or no longer so if n is negative. b.mu must be held.
func (b *Inbox) began(n, bytes int, redelivered bool) {
	b.begun += n
	b.look()
	b.stats.Delivered += uint64(n)
	b.stats.Bytes += uint64(bytes)
	if redelivered {
		b.stats.Redelivered += uint64(n)
	}
}

func bodyBytes(ms []Message) (bytes int) {
	for i := range ms {
		bytes += len(ms[i].Body)
	}
	return bytes
}

// reclaim puts what lies in the hand back into the queue. b.mu must be held.
func (b *Inbox) reclaim() {
	s := b.hand.Swap(nil)
	if s == nil {
		return
	}
	from := min(int(s.next.Swap(int32(len(s.ms)))), len(s.ms))
	ms := s.ms[from:]
	if len(ms) == 0 {
		return
	}
	b.began(-len(ms), -bodyBytes(ms), s.redelivered)
	back := make([]item, len(ms))
	for i := range ms {
		ms[i].state = msgQueued
		back[i].m = &ms[i]
	}
	b.queue.unpop(back)
	if b.begun == 0 {
		b.settled.Fire()
	}
}
