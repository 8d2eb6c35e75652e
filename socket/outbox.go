package socket

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/internal/wire"
)

// Settlement is a message's fate at its sender.
type Settlement = ledger.Settlement

// Who names a consumer: a node, and for subscriptions which of its sockets.
type Who = ledger.Who

// OutboxConfig describes the sending half of a socket, or of one of its views.
type OutboxConfig struct {
	Local Local
	Kind  Kind // Push, Pub or Req
	Name  string
	Level Level
	Mode  ledger.Mode // Edition, BestEffort, Number and OnDone are filled in

	// Linger is for how long after a small write what comes up waits for company; 0: not at all.
	Linger time.Duration

	// ReplyCredit is how many bytes of reply bodies may be on their way (Req).
	ReplyCredit uint64

	// Changed is fired when room comes free, a consumer comes or goes, or a message is
	// settled.
	Changed *Event

	// The callbacks run with the lock held: they note, and act when it is released.

	// Wind asks for a call of Tick at that time or before; nil: the owner calls it often
	// enough by itself.
	Wind func(at time.Time)
	// OnSettled tells each message's fate, in order.
	OnSettled func(Settlement)
	// OnDone, if there is one, tells in its place of neighbours that a consumer has done at their first attempt.
	OnDone func(from, to uint64, by Who)
	// OnReply hands over a request's answer; body is the callee's.
	OnReply func(seq uint64, o Outcome, body []byte, by Who)
	// Gather takes in what the owner has left for the pipe's reader, see Leave; it reports whether there was something.
	Gather func() bool
	// OnPatterns tells what a subscriber asked for; it returns from which seq on that
	// takes effect, or 0 to tell that later by Subscribed.
	OnPatterns func(version uint64, patterns []string) (first uint64, err error)
	// OnUnsubscribe tells that a consumer wants a durable subscription to end for good. It
	// reports whether it will, and Retire will be called; otherwise that one pipe ends.
	OnUnsubscribe func(Who) bool
}

// Outbox is a ledger and the pipes that drain it. The lock is its owner's, who may
// share it between several outboxes; methods marked "locked" need it held.
type Outbox struct {
	cfg OutboxConfig
	mu  sync.Locker
	led *ledger.Ledger

	pipes   map[*ledger.Consumer]*out
	lost    map[*ledger.Consumer]time.Time // detached since
	left    bool                           // the last consumer to go left for good
	told    bool                           // a pipe has ended in good order
	closing bool

	copying  atomic.Int32         // pipes that read records without the lock
	unread   uint64               // see Unread
	only     atomic.Pointer[pipe] // nil: there is none, or several
	wrote    atomic.Int64         // when one of the pipes did, by the package's clock
	expected bool                 // a pipe was called by DispatchHere and has not filled since
}

// Event wakes whoever waits for a change. Guarded by its owner's mutex; the zero
// value is ready.
type Event struct{ ch chan struct{} }

// Wait returns a channel that is closed at the next Fire.
func (e *Event) Wait() <-chan struct{} {
	if e.ch == nil {
		e.ch = make(chan struct{})
	}
	return e.ch
}

// Fire wakes all who wait.
func (e *Event) Fire() {
	if e.ch != nil {
		close(e.ch)
		e.ch = nil
	}
}

// NewOutbox makes an outbox guarded by mu whose first message will be seq first.
func NewOutbox(cfg OutboxConfig, mu sync.Locker, first uint64) *Outbox {
	b := &Outbox{cfg: cfg, mu: mu, pipes: map[*ledger.Consumer]*out{}, lost: map[*ledger.Consumer]time.Time{}}
	if b.cfg.Wind == nil {
		b.cfg.Wind = func(time.Time) {}
	}
	mode := cfg.Mode
	mode.Edition, mode.BestEffort, mode.Number = cfg.Local.Edition, cfg.Level == BestEffort, cfg.Local.Numbers
	if cfg.OnDone != nil {
		mode.OnDone = func(from, to uint64, by Who) {
			cfg.Changed.Fire()
			cfg.OnDone(from, to, by)
		}
	}
	b.led = ledger.New(mode, first, time.Now(), func(s Settlement) {
		cfg.Changed.Fire()
		cfg.OnSettled(s)
	})
	return b
}

// Ledger is the outbox's memory. Locked.
func (b *Outbox) Ledger() *ledger.Ledger { return b.led }

// Unread is a seq below which no record is read any more, neither by the ledger nor by a pipe. Locked.
func (b *Outbox) Unread() uint64 {
	if b.copying.Load() == 0 {
		b.unread = b.led.Lowest() // what is copied from now on is owed
	}
	return b.unread
}

// Dispatch leases what can be leased and wakes the pipes concerned. Locked; called
// after whatever may have made a message or a consumer ready.
func (b *Outbox) Dispatch() { b.dispatch(nil) }

// dispatch is Dispatch on behalf of one of the pipes, which needs no waking. Locked.
func (b *Outbox) dispatch(by *out) {
	b.expected = false
	var last *ledger.Consumer // woken already
	if by != nil {
		last = by.con
	}
	b.led.Dispatch(func(c *ledger.Consumer) {
		if c == last {
			return
		}
		last = c
		if o := b.pipes[c]; o != nil && o != by {
			o.pipe.kick()
		}
	})
}

// Turn is a pipe that has something to say; the zero value is none.
type Turn struct{ pipe *pipe }

// Take lets the pipe speak, at once on the caller's goroutine if it is quiet. It does
// not block. No lock may be held.
func (t Turn) Take() {
	if t.pipe != nil {
		t.pipe.flush()
	}
}

// Pass leaves it to the pipe's own goroutine to speak. It does not block, and a lock may
// be held.
func (t Turn) Pass() {
	if t.pipe != nil {
		t.pipe.kick()
	}
}

// Pressed reports whether more comes up than is taken: a pipe is expected, or those there are have no room for what came up
// before. Locked.
func (b *Outbox) Pressed() bool { return b.expected || len(b.pipes) > 0 && b.led.Behind() }

// DispatchHere is Dispatch for a caller who takes the Turn it returns once the lock is
// released, or passes it. While a pipe is expected it does nothing: that one will dispatch, and what came up meanwhile goes
// together. Locked.
func (b *Outbox) DispatchHere() (t Turn) {
	if b.expected {
		return t
	}
	b.led.Dispatch(func(c *ledger.Consumer) {
		switch o := b.pipes[c]; {
		case o == nil:
		case t.pipe == nil:
			t.pipe = o.pipe
		case t.pipe != o.pipe:
			o.pipe.kick()
		}
	})
	// The only pipe may be in the middle of a write; of several, others must not wait for one that is.
	b.expected = t.pipe != nil && (len(b.pipes) == 1 || t.pipe.parked.Load())
	return t
}

// Leave leaves it to the only pipe's reader to call Gather and to have all of it written, if he will do so at once: he has
// frames at hand, whose handling may bring up more. It does not block, and needs no lock.
func (b *Outbox) Leave() bool {
	p := b.only.Load()
	return p != nil && p.leave()
}

// count notes that a pipe has come or gone. Locked.
func (b *Outbox) count() {
	b.only.Store(nil)
	for _, o := range b.pipes {
		if len(b.pipes) == 1 {
			b.only.Store(o.pipe)
		}
	}
}

// answered is Dispatch after an answer, by which others may have something to drop. Locked.
func (b *Outbox) answered() {
	b.Dispatch()
	if b.led.TakeRevoked() {
		b.wakePending()
	}
}

// wakePending wakes pipes that have something to say that should not wait. Locked.
func (b *Outbox) wakePending() {
	for c, o := range b.pipes {
		if c.Urgent() {
			o.pipe.kick()
		}
	}
}

// Release says that what the ledger sealed with n or less is durable, and wakes the pipes
// that have much to confirm, or messages that waited for it. Locked.
func (b *Outbox) Release(n uint64) {
	b.led.Release(n)
	for c, o := range b.pipes {
		if c.Urgent() || c.Confirmable() >= confirmAfter {
			o.pipe.kick()
		}
	}
}

// Kick wakes every pipe. Locked.
func (b *Outbox) Kick() {
	for _, o := range b.pipes {
		o.pipe.kick()
	}
}

// Tick does what time demands and returns when it must be called next; zero if
// nothing waits for time. Locked.
func (b *Outbox) Tick(now time.Time) time.Time {
	next := b.led.Tick(now)
	for c, o := range b.pipes {
		if c.Stale() {
			o.pipe.abort(errStale)
		}
	}
	for c, since := range b.lost {
		over := since.Add(Grace)
		switch {
		case over.After(now):
			if next.IsZero() || over.Before(next) {
				next = over
			}
		case b.led.Part(c):
			delete(b.lost, c)
		default: // it may still hold something: look again after another lease
			b.lost[c] = now.Add(DefaultLease - Grace)
		}
	}
	b.Dispatch()
	b.wakePending()
	if look := now.Add(RenewEvery); len(b.pipes)+len(b.lost) > 0 && (next.IsZero() || look.Before(next)) {
		next = look // leases begin with any message; they may end a little late
	}
	return next
}

// Gone reports whether there were consumers and every one has been away for at least
// d. Locked.
func (b *Outbox) Gone(now time.Time, d time.Duration) bool {
	for _, c := range b.led.Consumers() {
		since, lost := b.lost[c]
		if !lost || now.Sub(since) < d {
			return false
		}
	}
	return len(b.led.Consumers()) > 0
}

// Subscribed tells those who changed their patterns from which seq on that takes effect.
// Locked.
func (b *Outbox) Subscribed(first uint64) {
	for _, o := range b.pipes {
		if o.asked > 0 {
			o.subscribed = &wire.Subscribed{Version: o.asked, First: first}
			o.asked = 0
			o.pipe.kick()
		}
	}
}

// Retire ends the pipes in good order and lets no new ones begin; it does not wait. Locked.
func (b *Outbox) Retire() {
	b.closing = true
	b.Kick()
}

// Expel ends the pipes at once; new ones may begin. Locked.
func (b *Outbox) Expel(cause error) {
	for _, o := range b.pipes {
		o.pipe.abort(cause)
	}
}

// Left reports whether the last consumer went in good order, for good. Locked.
func (b *Outbox) Left() bool { return b.left && len(b.pipes) == 0 }

// Told reports whether a pipe has ended in good order: its receiver has read all that it was told. It says so
// no later than Finish returns, when the pipe's Meet may not have returned yet. Locked.
func (b *Outbox) Told() bool { return b.told }

// Pipes is how many consumers are attached. Locked.
func (b *Outbox) Pipes() int { return len(b.pipes) }

// Consumers lists who is attached. Locked.
func (b *Outbox) Consumers() (out []ConsumerStats) {
	for _, c := range b.led.Consumers() {
		s := ConsumerStats{Who: c.Who, Attached: c.Attached(), Paused: c.Paused(), Leased: c.Leased(), Room: c.Room()}
		if o := b.pipes[c]; o != nil {
			s.Name = o.peer.Name
		}
		out = append(out, s)
	}
	return out
}

// ConsumerStats describes a consumer to the command.
type ConsumerStats struct {
	Who      Who
	Name     string // of its node
	Attached bool
	Paused   bool
	Leased   int
	Room     uint64 // messages it would take now
}

// Meet runs a pipe to the socket a peer offered, over c. It blocks until the pipe
// has ended; nil means in good order, and that the receiver was told of every hole
// known so far, ErrClosed that this side closed before that. start is the first seq
// that is its business if it is new here.
func (b *Outbox) Meet(ctx context.Context, peer Peer, offer wire.Offer, start uint64, c Conn) error {
	o, old := b.begin(peer, offer, start, c)
	if o == nil {
		c.Close()
		return ErrClosed
	}
	if old != nil {
		old.pipe.abort(errReplaced)
	}
	return b.end(o, o.pipe.run(ctx))
}

// begin makes a new pipe the one to its consumer and returns the one it replaces. It
// returns none when the outbox is closing.
func (b *Outbox) begin(peer Peer, offer wire.Offer, start uint64, c Conn) (o, old *out) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return nil, nil
	}
	con := b.led.Join(Who{Node: peer.ID, Label: offer.Label}, start)
	number, last := b.led.Attach(con)
	o = &out{box: b, con: con, peer: peer, number: number, replyCredit: b.cfg.ReplyCredit}
	o.pipe = newPipe(c, o, false)
	o.pipe.company = b.cfg.Linger
	o.pipe.busy = &b.wrote
	o.pipe.rest = o.settle
	if b.cfg.Gather != nil {
		o.pipe.due = o.gather
	}
	local := b.cfg.Local
	o.attach = wire.Attach{Socket: offer.Socket, Kind: b.cfg.Kind, Level: b.cfg.Level, Store: local.Store, Edition: local.Edition,
		Editions: b.led.Editions(), First: b.cfg.Mode.First,
		Nonce: local.Nonce, Incarnation: local.Incarnation, Number: number, LastStore: last, Start: min(start, b.led.StartOf(con)),
		ReplyCredit: b.cfg.ReplyCredit, Name: b.cfg.Name}
	old = b.pipes[con]
	b.pipes[con] = o
	b.count()
	delete(b.lost, con)
	b.cfg.Wind(time.Now().Add(RenewEvery))
	return o, old
}

// end notes that a pipe has ended for a cause, and says what Meet returns.
func (b *Outbox) end(o *out, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && !o.spoke {
		err = ErrClosed
	}
	b.left = o.left || errors.Is(err, ErrGone)
	b.told = b.told || err == nil
	b.led.Detached(o.con, o.number, b.left)
	if b.pipes[o.con] == o {
		delete(b.pipes, o.con)
		b.count()
		b.lost[o.con] = time.Now()
	}
	b.Dispatch()
	b.wakePending()
	b.cfg.Changed.Fire()
	return err
}

// ErrGone is the cause of a pipe's end when the other node said that the socket, or
// the node itself, is leaving: what it held is free at once.
var ErrGone = errors.New("socket: the other side left")

var errReplaced = errors.New("replaced by a newer pipe")

// Finish ends the pipes in good order and waits until they are gone or ctx ends; no
// new ones begin.
func (b *Outbox) Finish(ctx context.Context) error {
	b.mu.Lock()
	b.closing = true
	b.mu.Unlock()
	for {
		b.mu.Lock()
		b.Kick()
		n, changed := len(b.pipes), b.cfg.Changed.Wait()
		b.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Abort ends the pipes at once and waits until they are gone.
func (b *Outbox) Abort() {
	b.mu.Lock()
	b.closing = true
	for _, o := range b.pipes {
		o.pipe.abort(ErrClosed)
	}
	b.mu.Unlock()
	_ = b.Finish(context.Background()) // aborted pipes end by themselves
}

// refusalOf makes a Rejection of what a REJECTED frame says.
func refusalOf(r wire.Rejected) error {
	return &Rejection{Code: identity.Code(r.Code), Reason: r.Reason, Remote: true}
}
