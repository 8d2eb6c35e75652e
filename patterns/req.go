package patterns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/internal/slots"
	"peermesh/internal/wire"
	"peermesh/socket"
)

// Req asks a service; many requests may be outstanding on one socket. Safe for
// concurrent use.
type Req struct {
	*sender
	box     *socket.Outbox
	staged  atomic.Pointer[call]       // see stage
	waiting slots.Map[*call]           // by seq, of one edition
	crowds  map[<-chan struct{}]*crowd // of the contexts that many calls share
	common  atomic.Pointer[crowd]      // the newest of them, unless that is over
	recent  <-chan struct{}            // the last call's
	inRow   int                        // calls that had that one
	calls   sync.Pool                  // *call: no request takes memory of its own but for its bytes and its answer
}

// call is a request, from when it is made until its caller has its outcome.
type call struct {
	done     chan struct{} // one word when it has ended
	asked    socket.Message
	prepared socket.Prepared // of asked
	ttl      time.Duration   // as asked for; 0: none
	deadline time.Time       // its context's, if it has one, until it is accepted
	over     <-chan struct{} // its context's
	seq      uint64          // once it is accepted
	refused  bool            // it was not accepted, see stage
	outcome  socket.Outcome
	body     []byte
	by       identity.ID
	expired  bool   // the deadline ended it
	watched  bool   // a crowd looks to its context, not its caller
	crowd    *crowd // that one, once it is accepted
	next     *call
}

// calls is a list of calls that have ended.
type calls struct{ first, last *call }

func (l *calls) none() bool { return l.first == nil }

func (l *calls) add(c *call) {
	if l.first == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
}

// wake wakes their callers, to whom they belong from then on.
func (l *calls) wake() {
	for c := l.first; c != nil; {
		next := c.next
		c.done <- struct{}{} // there is room: it ends once
		c = next
	}
}

// call returns one to ask with, which free takes back.
func (r *Req) call() *call {
	if c, ok := r.calls.Get().(*call); ok {
		return c
	}
	return &call{done: make(chan struct{}, 1)}
}

// free takes a call back that has ended.
func (r *Req) free(c *call) {
	*c = call{done: c.done}
	r.calls.Put(c)
}

// ErrIndeterminate is a request that may or may not have been executed: its replier
// or the link to it was lost, its deadline passed while it was there, or its handler could not
// tell. One that is idempotent may be asked again.
var ErrIndeterminate = errors.New("patterns: outcome indeterminate: the request may have been executed")

// ErrNotExecuted is a request that certainly was not executed.
var ErrNotExecuted = errors.New("patterns: request not executed")

// RemoteError is the error a handler returned. The request was executed once.
type RemoteError struct {
	By      identity.ID // the replier's node
	Message string
}

func (e *RemoteError) Error() string { return fmt.Sprintf("patterns: replier %v: %s", e.By, e.Message) }

// replyWindow is how many bytes of replies may be on their way to a Req from one
// replier.
const replyWindow = 1 << 20

// NewReq makes a Req; users get one from a node.
func NewReq(env Env, name string, opts ...Option) (*Req, error) {
	s, _, err := newSender(env, wire.Req, name, opts) // a lost request has no reader to tell
	if err != nil {
		return nil, err
	}
	r := &Req{sender: s, crowds: map[<-chan struct{}]*crowd{}}
	cfg := r.outboxConfig()
	cfg.Mode.Requests, cfg.Mode.AtMostOnce, cfg.Mode.MaxDeliver = true, s.set.execution != Idempotent, 0
	if s.set.execution == OnceDurable { // its repliers' business alone: a requester that has ended waits for nothing
		cfg.Level, cfg.Mode.PerStore = socket.Durable, true
	}
	cfg.ReplyCredit = replyWindow
	cfg.OnSettled, cfg.OnReply, cfg.Gather = r.settledOne, r.replied, r.acceptStaged
	r.box = socket.NewOutbox(cfg, &r.mu, r.next)
	r.framer.Recycle(r.box.Unread, r.set.queueBytes)
	r.release = r.box.Ledger().Lowest
	r.tick = r.box.Tick
	r.startClock()
	return r, nil
}

// Reply is an answer and who gave it.
type Reply struct {
	Body []byte
	By   identity.ID
}

// Request asks and waits for the answer, which is the caller's. The deadline is
// ctx's, or 30 s from now without one; it travels, and an expired request is
// discarded before execution. The error is a *RemoteError when the handler returned
// one; it matches ErrNotExecuted when the request certainly was not executed and
// ErrIndeterminate when that is not known; a context's error is matched besides when
// that is what ended the wait. After Close it matches net.ErrClosed.
func (r *Req) Request(ctx context.Context, body []byte) ([]byte, error) {
	c := r.call()
	c.asked.Body = body
	a, err := r.request(ctx, c)
	return a.Body, err
}

// RequestMessage is Request for a message with headers; it also tells who answered.
func (r *Req) RequestMessage(ctx context.Context, m *socket.Message) (Reply, error) {
	c := r.call()
	c.asked = *m
	return r.request(ctx, c)
}

// request asks what the call says and waits for the answer. The call is used up.
func (r *Req) request(ctx context.Context, c *call) (Reply, error) {
	defer r.free(c)
	if err := r.ready(ctx, c); err != nil {
		return Reply{}, err
	}
	r.stage(c)
	r.wait(c)
	if c.refused {
		if err := r.insist(ctx, c); err != nil {
			return Reply{}, errors.Join(ErrNotExecuted, r.refused(err))
		}
		r.wait(c)
	}
	return c.result(ctx)
}

// ready checks and encodes what the call asks. It needs no lock.
func (r *Req) ready(ctx context.Context, c *call) (err error) {
	c.over = ctx.Done()
	c.deadline, _ = ctx.Deadline()
	c.ttl, c.asked.TTL = c.asked.TTL, 0
	if c.prepared, err = r.prepare(&c.asked); err != nil {
		return err
	}
	if ctx.Err() != nil { // or it might be executed for nobody
		return errors.Join(ErrNotExecuted, context.Cause(ctx))
	}
	return nil
}

// wait blocks until the call has ended, to which the end of its context leads.
func (r *Req) wait(c *call) {
	if c.over == nil || c.watched {
		<-c.done
		return
	}
	select {
	case <-c.done:
	case <-c.over:
		r.mu.Lock()
		turn := r.gather()
		r.giveUp(c.seq, c)
		r.mu.Unlock()
		turn.Take()
		<-c.done
	}
}

// insist makes a request owed once there is room for it.
func (r *Req) insist(ctx context.Context, c *call) error {
	now := r.now()
	r.mu.Lock()
	c.refused = false
	if err := r.room(ctx, c.prepared.Size()); err != nil {
		r.mu.Unlock()
		return err
	}
	if err := r.reserve(); err != nil {
		r.mu.Unlock()
		return err
	}
	r.accept(c, now)
	turn := r.box.DispatchHere()
	r.mu.Unlock()
	turn.Take()
	return nil
}

// accept makes a request owed, for which there is room. r.mu must be held.
func (r *Req) accept(c *call, now time.Time) {
	if c.deadline.IsZero() {
		c.deadline = now.Add(DefaultDeadline)
	}
	if c.ttl > 0 {
		c.deadline = minTime(c.deadline, now.Add(c.ttl))
	}
	c.asked.TTL = max((c.deadline.Sub(now) + time.Millisecond - 1).Truncate(time.Millisecond), time.Millisecond)
	c.seq = r.next
	r.next++
	r.waiting.Put(slots.Key{Seq: c.seq}, c)
	r.attend(c)
	base, record := r.framer.Frame(c.prepared, c.seq)
	r.box.Ledger().Append(ledger.Item{Seq: c.seq, Base: base, Record: record, Expires: c.deadline}, now)
	r.wind(c.deadline)
}

func (r *Req) room(ctx context.Context, size int) error {
	fits := func() bool {
		messages, bytes := r.box.Ledger().Owed()
		return r.closing || !r.full(messages, bytes, size)
	}
	if r.set.overflow == Refuse && !fits() {
		return socket.ErrQueueFull
	}
	if err := r.await(ctx, fits); err != nil {
		return err
	}
	if r.closing {
		return socket.ErrClosed
	}
	return nil
}

// giveUp ends a call whose requester no longer waits, with the truth about what is
// known. r.mu must be held.
func (r *Req) giveUp(seq uint64, c *call) {
	if _, waits := r.waiting.Get(slots.Key{Seq: seq}); !waits {
		return // answered meanwhile
	}
	c.outcome = wire.Indeterminate
	if !r.box.Ledger().Begun(seq) {
		c.outcome = wire.Failed
	}
	r.box.Ledger().Cancel(seq)
	r.box.Kick() // tells whoever has it
}

// settledOne notes the fate of a request that no reply settled. r.mu must be held.
func (r *Req) settledOne(st ledger.Settlement) {
	if st.Replied { // OnReply follows, in the same critical section
		return
	}
	c, waits := r.waiting.Take(slots.Key{Seq: st.Seq})
	if !waits {
		return
	}
	switch st.State {
	case ledger.Expired:
		c.outcome, c.expired = wire.Failed, true
	case ledger.Indeterminate:
		c.outcome, c.expired = wire.Indeterminate, !time.Now().Before(c.deadline)
	case ledger.Dropped:
		if c.outcome == 0 { // at Close
			c.outcome = wire.Indeterminate
		}
	}
	r.end(c)
}

// replied hands an answer over. r.mu must be held.
func (r *Req) replied(seq uint64, o socket.Outcome, body []byte, by socket.Who) {
	if c, waits := r.waiting.Take(slots.Key{Seq: seq}); waits {
		c.outcome, c.body, c.by = o, body, by.Node
		r.end(c)
	}
}

// end has the caller of a call that waits no more woken once r.mu, which must be held, is released.
func (r *Req) end(c *call) {
	r.part(c)
	r.mu.ended.add(c)
}

// result makes of a call's outcome what Request returns.
func (c *call) result(ctx context.Context) (Reply, error) {
	switch c.outcome {
	case wire.OK:
		return Reply{c.body, c.by}, nil
	case wire.Error:
		return Reply{By: c.by}, &RemoteError{By: c.by, Message: string(c.body)}
	}
	err := ErrIndeterminate
	if c.outcome == wire.Failed {
		err = ErrNotExecuted
	}
	if len(c.body) > 0 {
		err = fmt.Errorf("%w: replier %v: %s", err, c.by, c.body)
	}
	if cause := context.Cause(ctx); cause != nil {
		return Reply{}, fmt.Errorf("%w: %w", err, cause)
	}
	if c.expired {
		return Reply{}, fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
	}
	return Reply{}, err
}

// OutcomeOf names what Request returned: ok, error, failed or indeterminate.
func OutcomeOf(err error) socket.Outcome {
	var remote *RemoteError
	switch {
	case err == nil:
		return wire.OK
	case errors.As(err, &remote):
		return wire.Error
	case errors.Is(err, ErrIndeterminate):
		return wire.Indeterminate
	}
	return wire.Failed
}

// WaitReady blocks until n repliers are attached, or ctx ends.
func (r *Req) WaitReady(ctx context.Context, n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.await(ctx, func() bool { return r.box.Ledger().Ready() >= n })
}

// Stats returns a snapshot.
func (r *Req) Stats() SenderStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := statsOf(r.box.Ledger().Counts(), false)
	s.Bound, s.BoundBytes = r.set.queue, r.set.queueBytes
	s.Consumers = r.box.Consumers()
	return s
}

// Meet runs a pipe to a replier; the node calls it.
func (r *Req) Meet(ctx context.Context, peer socket.Peer, o wire.Offer, c socket.Conn) error {
	r.mu.Lock()
	start := r.box.Ledger().Lowest() // of an earlier life, nobody waits for anything
	r.mu.Unlock()
	return r.box.Meet(ctx, peer, o, start, c)
}

// Shutdown takes no new requests, waits for the outstanding ones or until ctx ends,
// and closes; requests that still waited end as ErrIndeterminate or ErrNotExecuted.
func (r *Req) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.closing = true
	r.changed.Fire()
	err := r.await(ctx, func() bool { return r.waiting.Len() == 0 })
	r.mu.Unlock()
	return r.close(err)
}

// Close ends the socket now; requests that wait end as ErrIndeterminate or
// ErrNotExecuted. It may be called twice.
func (r *Req) Close() error { return r.close(nil) }

func (r *Req) close(cause error) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closing, r.closed = true, true
	n := r.waiting.Len()
	for k, c := range r.waiting.All() {
		r.giveUp(k.Seq, c)
	}
	r.changed.Fire()
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	if r.box.Finish(ctx) != nil {
		r.box.Abort()
	}
	r.stopClock()
	r.told = true // a lost request has no reader to tell
	err := r.putBack(r.next)
	r.env.Closed()
	if n > 0 && cause != nil {
		return giveUp(n, cause)
	}
	return err
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
