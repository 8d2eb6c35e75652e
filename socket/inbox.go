package socket

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/internal/marks"
	"peermesh/internal/ranges"
	"peermesh/internal/slots"
	"peermesh/internal/ticks"
	"peermesh/internal/wire"
)

const (
	// streamsPerPeer bounds what one peer's ever new stores may cost here.
	streamsPerPeer = 64
	// Grace is how long a stream without a link and without anything in hand is
	// remembered.
	Grace = 2 * time.Minute
	// maxNacks bounds the NACKs kept until the sender is known to have read them; at it
	// no credit is granted.
	maxNacks = 1 << 16
)

// InboxConfig describes a receiving socket.
type InboxConfig struct {
	Local         Local
	Kind          Kind // Pull, Sub or Rep
	Name          string
	Prefetch      int // messages; 0: adaptive from DefaultPrefetch
	PrefetchBytes int // 0: DefaultPrefetchBytes
	Patterns      []string

	// Journal keeps the done marks of durable streams, under names that begin with
	// NoteName; nil: they live as long as the process.
	Journal  Journal
	NoteName string
	// Replies keeps what must be known of requests that may be executed only once in all
	// lives of the replier, under NoteName likewise; nil: such requests are refused.
	Replies ReplyStore

	// Callbacks run on the reading goroutine or the one that answers, with no lock
	// held. They must not block.
	OnGap  func(Gap)
	OnDone func(m *Message) // the answer "done" is final
	OnNack func(m *Message)
}

// Inbox is the receiving half of a socket: the messages that pipes brought, and the
// memory of every stream they came by. Safe for concurrent use.
type Inbox struct {
	cfg   InboxConfig
	epoch time.Time // where the clock begins
	timed bool      // ticks tell when the clock need not be read

	mu       sync.Mutex
	streams  map[streamKey]*stream
	queue    fifo
	hand     atomic.Pointer[slab] // begun but for their receiver, see run
	dealt    int                  // messages cut last
	dealtAt  time.Duration
	stalled  int           // messages that wait for their lease, see stall
	waiting  int           // goroutines in Recv that wait
	resting  bool          // see worked
	restAt   time.Duration // when that began
	rested   time.Duration // how long it was so before
	ready    chan struct{}
	crew     crew
	begun    int
	settled  Event // fired when begun or unsaved falls to zero
	version  uint64
	patterns []string
	draining bool
	paused   bool // see Pause
	closed   bool

	unsubscribing bool          // publishers are told to forget the subscription
	done          chan struct{} // closed with closed
	pipes         map[*in]struct{}
	ended         chan struct{} // closed and renewed when a pipe has ended
	stats         InboxStats

	confirms map[confirmedOf]*ranges.Set // since Confirmed was called last; nil: it never was

	dirty   []*stream     // whose notes are to be written
	saving  bool          // notes are on their way to the journal
	unsaved int           // acked, and not known to be on disk
	failed  error         // the journal's
	broken  chan struct{} // closed when it failed

	records map[streamKey]*record // of streams that are on disk
	erased  map[string]struct{}   // notes to be erased with the next that are written
	cached  int                   // bytes of replies of all streams, in memory and on disk
}

// InboxStats counts what a receiving socket has seen.
type InboxStats struct {
	Delivered   uint64 // handed to the user
	Done        uint64
	Nacked      uint64
	Returned    uint64 // given back unbegun
	Released    uint64 // given back begun, see Message.Release
	Expired     uint64 // TTL ran out here, before it was begun
	Duplicates  uint64 // dropped: held or done here already
	Redelivered uint64 // delivered with the flag
	Gaps        uint64 // seqs in gaps
	Bytes       uint64 // of bodies delivered
	Queued      int    // now
	Begun       int    // now
	Pipes       int    // now
	Paused      bool   // now
}

// stream is the memory of one sender's stream, across its pipes.
type stream struct {
	box    *Inbox
	key    streamKey
	peer   Peer
	label  string
	memory marks.Stream
	cur    *in
	level  Level

	window   window
	inMsgs   int // in hand: queued or begun
	inBytes  int
	until    time.Duration // nothing is begun later, by the inbox's clock
	stalled  []item        // unbegun when that time had come, older than what is in the queue
	open     []*slab       // may have acks that are not collected
	doubtful ranges.Set    // begun, and perhaps leased to somebody else since
	unsaid   bool          // the sender may not know that this memory began later than its own
	nacks    map[uint64]*nacked
	kept     keeping
	tasks    *task      // handlers at work, in no order
	away     time.Time  // when its last pipe ended
	top      uint64     // highest seq that came or was in a gap
	gone     ranges.Set // what was in a gap, here or not: a sender tells again what it told on a pipe that broke
	back     ranges.Set // Sub: what was given back unbegun and did not come again, see jump
	begin    uint64     // Sub: the seq that the subscription began with; 0: not told yet

	replies  slots.Map[reply]
	lost     map[requestID]struct{} // begun in an earlier life, which has left no reply
	cached   int                    // bytes of replies
	storing  int                    // notes on their way to the disk, but for STARTED
	recorded bool                   // on disk
	mortal   bool                   // the requester has no state directory: the stream ends with it
}

// nacked is a message whose handler failed. It counts as held until the sender is
// known to have read the NACK: were it "not here" too early, its next delivery
// would not be flagged.
type nacked struct {
	edition uint64
	reason  wire.NackReason
	delay   time.Duration
	text    string
	renew   uint64 // the RENEW whose answer proves that the NACK was read; 0: not sent yet
}

// NewInbox makes the receiving half of a socket.
func NewInbox(cfg InboxConfig) *Inbox {
	b := &Inbox{cfg: cfg, streams: map[streamKey]*stream{}, ready: make(chan struct{}, 1), epoch: time.Now(), timed: ticks.Usable(),
		done: make(chan struct{}), broken: make(chan struct{}), pipes: map[*in]struct{}{}, ended: make(chan struct{}), version: 1, patterns: cfg.Patterns,
		records: map[streamKey]*record{}, erased: map[string]struct{}{}}
	if cfg.Replies != nil {
		b.loadRecords()
	}
	return b
}

// clock is the monotonic time since the inbox was made: it is read for every message,
// and this is the cheapest way to do so.
func (b *Inbox) clock() time.Duration { return time.Since(b.epoch) }

// Recv returns the next message, which the caller must answer. It blocks until
// there is one, ctx ends (then its cause is returned) or the socket closes.
func (b *Inbox) Recv(ctx context.Context) (*Message, error) {
	if m := b.take(); m != nil {
		return m, nil
	}
	return b.recv(ctx, nil)
}

// RecvBatch is Recv that takes what is there: it fills ms, until the bodies come to so many bytes, and returns how many
// messages those are, at least one unless ms has no room. The caller must answer each.
func (b *Inbox) RecvBatch(ctx context.Context, ms []*Message, bytes int) (n int, err error) {
	if len(ms) == 0 {
		return 0, nil
	}
	return b.recvAll(ctx, ms, bytes, nil)
}

// recv is Recv for a task, if it is one: a handler is begun in no context that has ended, for it would only fail, and a
// failure counts.
func (b *Inbox) recv(ctx context.Context, t *task) (*Message, error) {
	if t != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var one [1]*Message
	_, err := b.recvAll(ctx, one[:], 0, t)
	return one[0], err
}

// recvAll is RecvBatch for a task, if it is one.
func (b *Inbox) recvAll(ctx context.Context, ms []*Message, bytes int, t *task) (n int, err error) {
	for {
		b.mu.Lock()
		n := b.beginAll(ms, bytes)
		if n > 0 && t != nil {
			t.enter(ms[0])
		}
		if n == 0 {
			b.waiting++
			b.look()
		}
		b.callWaiting()
		closed, err := b.closed || b.draining, b.failed
		b.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		switch {
		case err != nil:
		case closed:
			err = ErrClosed
		default:
			select {
			case <-b.ready:
			case <-b.done:
			case <-b.broken:
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		b.mu.Lock()
		b.waiting--
		b.look()
		b.mu.Unlock()
		if err != nil {
			return 0, err
		}
	}
}

// beginAll fills ms with what may be begun, until the bodies come to so many bytes. b.mu must be held.
func (b *Inbox) beginAll(ms []*Message, bytes int) (n int) {
	for size := 0; n < len(ms) && (n == 0 || size < bytes); n++ {
		m := b.begin()
		if m == nil {
			break
		}
		ms[n] = m
		size += len(m.Body)
	}
	return n
}

// callWaiting wakes one who waits in Recv if there is something for it. b.mu must be
// held.
func (b *Inbox) callWaiting() {
	n := b.unbegunHere()
	if n == 0 || b.paused {
		return
	}
	b.callCrew(n)
	if b.waiting == 0 {
		return
	}
	select {
	case b.ready <- struct{}{}:
	default: // a wake-up is pending; who takes it passes it on
	}
}

// begin hands out the next message that may be begun. b.mu must be held.
func (b *Inbox) begin() *Message {
	if b.closed || b.draining || b.paused || b.failed != nil {
		return nil
	}
	b.crew.begun = 0
	if m := b.take(); m != nil {
		return m
	}
	b.reclaim()
	for b.queue.len() > 0 {
		at := ticks.Count() // before the clock: the process may stand still between them
		now, it := b.clock(), b.queue.front()
		switch st, m := it.stream(), it.m; {
		case m != nil && m.TTL > 0 && now-m.born >= m.TTL:
			b.queue.pop()
			b.stats.Expired++
			b.giveBack(m, wire.NackExpired)
		case st.level != BestEffort && now > st.until:
			b.stall(b.queue.pop())
		case m == nil:
			return b.deal(it.r, now, at)
		default:
			b.queue.pop()
			m.state = msgBegun
			b.crew.begun = now
			b.began(1, len(m.Body), m.redelivered)
			return m
		}
	}
	return nil
}

// unbegunHere is how many messages there are that may be begun. b.mu must be held.
func (b *Inbox) unbegunHere() int { return b.queue.len() + len(b.inHand()) }

// stall: the lease of it may have gone elsewhere. While there is a pipe that is not
// known: it waits, as does all that came after it, until the sender has answered a RENEW
// or ended the pipe. Given back it would be overtaken by what is on its way. b.mu must
// be held.
func (b *Inbox) stall(it item) {
	st := it.stream()
	if st.cur == nil {
		it.each(func(m *Message) { b.giveBack(m, wire.NackReturned) })
		return
	}
	st.stalled = append(st.stalled, it)
	b.stalled += it.count()
}

// renewed: the leases of st go on. b.mu must be held.
func (b *Inbox) renewed(st *stream, until time.Duration) {
	st.until = max(st.until, until)
	b.unstall(st)
	b.callWaiting()
}

// unstall puts what waited back where it was. b.mu must be held.
func (b *Inbox) unstall(st *stream) {
	had := b.queue.len()
	b.queue.unpop(st.stalled)
	b.stalled -= b.queue.len() - had
	st.stalled = nil
}

// letGoIfOver gives back what of st is not begun if its leases are over: the sender may
// have leased it elsewhere. It returns how many messages that are. b.mu must be held.
func (b *Inbox) letGoIfOver(st *stream) int {
	if st.level == BestEffort || b.clock() <= st.until {
		return 0
	}
	ms := b.unbegun(st, all)
	for _, m := range ms {
		b.giveBack(m, wire.NackReturned)
	}
	return len(ms)
}

// unbegun takes out what of st was not begun and matches, oldest first. b.mu must be
// held.
func (b *Inbox) unbegun(st *stream, match func(*Message) bool) []*Message {
	b.unstall(st)
	b.reclaim() // what is in the hand is older
	return b.queue.take(st, match)
}

// giveBackAll lets go of all that was not begun. b.mu must be held.
func (b *Inbox) giveBackAll() {
	for _, st := range b.streams {
		b.unstall(st)
	}
	b.reclaim()
	for _, m := range b.queue.take(nil, all) {
		b.giveBack(m, wire.NackReturned)
	}
}

func all(*Message) bool { return true }

// giveBack lets go of a message that was not begun. If its pipe is gone, the next
// ATTACHED tells that it is not here. b.mu must be held.
func (b *Inbox) giveBack(m *Message, reason wire.NackReason) {
	m.settle()
	b.release(m)
	if m.in.level == BestEffort {
		return
	}
	if reason == wire.NackReturned {
		b.stats.Returned++
	}
	m.in.letGo(m)
	if b.cfg.Kind == wire.Sub {
		m.in.noteBack(m.seq)
	}
	if c := m.in.cur; c != nil {
		c.giveBack(m.edition, m.seq, reason)
		c.pipe.kick()
	}
}

// release gives a message's share of window and budget back. b.mu must be held.
func (b *Inbox) release(m *Message) {
	m.in.left(1, int(m.size))
	b.dropLarge(m)
}

// dropLarge gives a message's share of the budget back. b.mu must be held.
func (b *Inbox) dropLarge(m *Message) {
	if m.large != nil {
		b.cfg.Local.Budget.drop(m.large)
		m.large = nil
	}
}

// left gives back what n messages took of the window. The inbox's mutex must be held.
func (st *stream) left(n, bytes int) {
	st.inMsgs -= n
	st.inBytes -= bytes
	st.window.answered(n, st.box.worked)
}

// finish notes that a begun message was answered. b.mu must be held.
func (b *Inbox) finish(m *Message) {
	m.settle()
	b.dropLarge(m)
	b.finished(m.in, m.seq, m.seq, int(m.size))
}

// finished: the begun messages from..to of st, which take so many bytes of the window, were answered. b.mu must be held.
func (b *Inbox) finished(st *stream, from, to uint64, bytes int) {
	if st.doubtful.Count() > 0 {
		st.doubtful.Remove(from, to)
	}
	n := int(to - from + 1)
	st.left(n, bytes)
	if b.begun -= n; b.begun == 0 {
		b.settled.Fire()
	}
	b.look()
}

// Subscribe replaces the patterns. Each publisher tells from which message on they
// take effect; nothing changes backwards.
func (b *Inbox) Subscribe(patterns []string) {
	b.mu.Lock()
	b.version++
	b.patterns = patterns
	b.kickAll()
	b.mu.Unlock()
}

// kickAll wakes every pipe. b.mu must be held.
func (b *Inbox) kickAll() {
	for c := range b.pipes {
		c.pipe.kick()
	}
}

// Stats returns a snapshot.
func (b *Inbox) Stats() InboxStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, st := range b.streams {
		st.collect()
	}
	b.reclaim()
	s := b.stats
	s.Queued, s.Begun, s.Pipes = b.queue.len()+b.stalled, b.begun, len(b.pipes)
	s.Paused = b.paused
	for _, st := range b.streams {
		s.Duplicates += st.memory.Duplicates()
	}
	return s
}

// Drain takes nothing new, gives back what was not begun, waits until every begun
// message is answered or ctx ends, and then leaves: when it returns nil every
// answer has been read by its sender.
func (b *Inbox) Drain(ctx context.Context) error {
	b.mu.Lock()
	b.draining = true
	b.giveBackAll()
	b.mu.Unlock()
	for {
		b.mu.Lock()
		busy, settled := b.begun+b.unsaved, b.settled.Wait()
		err := b.failed
		b.mu.Unlock()
		switch {
		case err != nil:
			return err
		case busy == 0:
			return b.leave(ctx)
		}
		select {
		case <-settled:
		case <-b.broken:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave ends every pipe in good order.
func (b *Inbox) leave(ctx context.Context) error {
	for {
		b.mu.Lock()
		for c := range b.pipes {
			c.leaving = true
			c.pipe.kick()
		}
		n, ended := len(b.pipes), b.ended
		b.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// closeWait bounds how long Close waits for pipes to end in good order.
const closeWait = time.Second

// Close ends the socket now: what is begun and not answered will be delivered
// elsewhere, flagged. It waits, briefly, for its pipes to say so.
func (b *Inbox) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	close(b.done)
	b.dismiss()
	b.draining = true
	b.giveBackAll()
	b.flush()
	for _, st := range b.streams {
		st.cancelTasks(ErrClosed, all) // and so no ack is taken without the lock any more
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	b.awaitSaved(ctx)
	if b.leave(ctx) == nil {
		return nil
	}
	b.mu.Lock()
	for c := range b.pipes {
		c.pipe.abort(ErrClosed)
	}
	b.mu.Unlock()
	return b.leave(context.Background()) // aborted pipes end by themselves
}

// Reject answers an ATTACH with a refusal and waits until the other end has read
// it or lingerLimit has passed. It returns the refusal.
func Reject(ctx context.Context, c Conn, r *Rejection) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	t := time.AfterFunc(lingerLimit, func() { c.Close() })
	defer t.Stop()
	defer c.Close()
	if _, err := c.Write(wire.AppendRejected(nil, wire.Rejected{Code: string(r.Code), Reason: r.Reason})); err != nil {
		return errors.Join(r, err)
	}
	if err := c.CloseWrite(); err != nil {
		return errors.Join(r, err)
	}
	var b [1]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return r
		}
	}
}
