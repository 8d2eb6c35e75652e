package socket

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"peermesh/internal/wire"
)

// task is a handler at work, and its context. Few handlers ask when that ends: what it
// takes to tell them is made when they do. Each message has one, so it is small.
type task struct {
	of *tasks // fixed

	// Guarded by the inbox's mutex.
	m          *Message      // nil: of none now
	next, prev *task         // of the stream's
	begun      time.Duration // by the inbox's clock; 0: unknown

	deadline time.Duration // by the inbox's clock; 0: none. Fixed before the handler runs
	told     atomic.Pointer[telling]
}

// telling is what a handler that asks is told with, or that its context has ended unasked. It does not change.
type telling struct {
	over   error           // the cause; nil: it has not ended, but for what ctx says
	ctx    context.Context // nil: nobody has asked
	cancel context.CancelCauseFunc
	free   context.CancelFunc
}

// answeredUnasked is how most handlers' contexts end.
var answeredUnasked = &telling{over: context.Canceled}

// enter notes that the task handles m from now on. The inbox's mutex must be held.
func (t *task) enter(m *Message) {
	st := m.in
	t.m, t.next = m, st.tasks
	if t.next != nil {
		t.next.prev = t
	}
	st.tasks = t
	if m.TTL > 0 && t.of.slack > 0 {
		t.deadline = m.born + m.TTL + t.of.slack
	}
}

// leave undoes enter, if need be. The inbox's mutex must be held.
func (t *task) leave() {
	if t.m == nil {
		return
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		t.m.in.tasks = t.next
	}
	t.m, t.next, t.prev = nil, nil, nil
}

// cancelTasks tells the handlers of messages that match and were not answered that nobody
// waits for them. The inbox's mutex must be held.
func (st *stream) cancelTasks(cause error, match func(*Message) bool) {
	st.collect()
	for t := st.tasks; t != nil; t = t.next {
		if !t.m.over() && match(t.m) {
			t.end(cause)
		}
	}
}

// end ends the context for a cause.
func (t *task) end(cause error) { t.tell(&telling{over: cause}) }

// close ends the context of a handler that has returned.
func (t *task) close() { t.tell(answeredUnasked) }

// tell ends the context as end says, unless it has ended.
func (t *task) tell(end *telling) {
	if t.told.CompareAndSwap(nil, end) {
		return
	}
	if a := t.told.Load(); a.over == nil {
		a.cancel(end.over)
		a.free()
	}
}

// ask makes what Done, Err and Value need.
func (t *task) ask() context.Context {
	for {
		had := t.told.Load()
		if had != nil && had.ctx != nil {
			return had.ctx
		}
		a := t.telling(had)
		if t.told.CompareAndSwap(had, a) {
			return a.ctx
		}
		a.cancel(context.Canceled) // another one was first
		a.free()
	}
}

// telling makes a context, which has ended if had says so.
func (t *task) telling(had *telling) *telling {
	ctx, cancel := context.WithCancelCause(t.of.parent)
	a := &telling{ctx: ctx, cancel: cancel, free: func() {}}
	if t.deadline > 0 {
		a.ctx, a.free = context.WithDeadline(ctx, t.of.box.epoch.Add(t.deadline))
	}
	if had != nil {
		a.over = had.over
		cancel(a.over)
		a.free()
	}
	return a
}

// Deadline is context.Context's.
func (t *task) Deadline() (time.Time, bool) {
	d, ok := t.of.parent.Deadline()
	if t.deadline > 0 {
		if own := t.of.box.epoch.Add(t.deadline); !ok || own.Before(d) {
			return own, true
		}
	}
	return d, ok
}

// Done is context.Context's.
func (t *task) Done() <-chan struct{} { return t.ask().Done() }

// Err is context.Context's.
func (t *task) Err() error { return t.ask().Err() }

// Value is context.Context's.
func (t *task) Value(key any) any { return t.ask().Value(key) }

// tasks makes the tasks of one worker, several at a time: a handler may keep its context, so none is used twice.
type tasks struct {
	box    *Inbox
	parent context.Context
	slack  time.Duration // a context ends so much later than the message's TTL; 0: not with that
	made   []task
}

// next returns a new task.
func (ts *tasks) next() *task {
	if len(ts.made) == 0 {
		ts.made = make([]task, 32)
	}
	t := &ts.made[0]
	ts.made = ts.made[1:]
	t.of = ts
	return t
}

// Handle has handle do one message after the other until ctx ends or the socket closes, and tells which; several goroutines
// may call it. What handle returns nil for is acked, what it returns an error for is nacked. Its context ends when the
// sender revokes the message, the timeout (0: none) passes, or ctx ends.
func (b *Inbox) Handle(ctx context.Context, timeout time.Duration, handle func(context.Context, *Message) error) error {
	ts := tasks{box: b, parent: ctx}
	t := ts.next()
	m, err := b.recv(ctx, t)
	for err == nil {
		failed := b.run(t, m, timeout, handle)
		done := t
		t = ts.next()
		if m = b.handledBy(m, done, failed, t); m == nil {
			m, err = b.recv(ctx, t)
		}
	}
	return err
}

// handledBy answers m, which a task has handled, and begins the next message for another one, if there is any.
func (b *Inbox) handledBy(m *Message, done *task, failed error, then *task) (next *Message) {
	if failed != nil {
		b.mu.Lock()
		done.leave()
		b.mu.Unlock()
		_ = m.Nack(failed) // closed meanwhile: the message goes elsewhere without our word
		return nil
	}
	one := [1]*Message{m}
	b.mu.Lock()
	done.leave()
	turn, told, _ := b.acked(one[:]) // likewise
	if then.of.parent.Err() == nil {
		next = b.begin()
	}
	if next != nil {
		then.enter(next)
	}
	b.callWaiting()
	b.mu.Unlock()
	b.tell(turn, told)
	return next
}

// run calls handle for m.
func (b *Inbox) run(t *task, m *Message, timeout time.Duration, handle func(context.Context, *Message) error) error {
	defer t.close()
	if timeout <= 0 {
		return handle(t, m)
	}
	bound, stop := context.WithTimeoutCause(t, timeout, ErrHandlerTimeout)
	defer stop()
	ended := make(chan struct{})
	release := context.AfterFunc(bound, func() {
		defer close(ended)
		if errors.Is(context.Cause(bound), ErrHandlerTimeout) {
			_ = b.nack(m, wire.NackTimeout, 0, ErrHandlerTimeout.Error()) // closed: it goes elsewhere anyway
		}
	})
	defer func() {
		if !release() {
			<-ended // what the handler says now comes too late
		}
	}()
	return handle(bound, m)
}

// Requests has execute answer one request after the other until ctx ends or the socket
// closes, and tells which; several goroutines may call it. What execute is called with ends slack
// after the request's deadline, when its requester gives up, or with ctx. A request that may
// be executed only once in all lives of this replier is begun, and its reply sent, when that is on
// disk.
func (b *Inbox) Requests(ctx context.Context, slack time.Duration, execute func(context.Context, *Message) (Outcome, []byte)) error {
	w, leave := b.join(ctx, slack)
	defer leave()
	t := w.next()
	m, err := b.await(w, t)
	for err == nil {
		done := t
		t = w.next()
		if b.Start(m) == nil {
			var outcome Outcome
			var body []byte
			if b.late(m) {
				outcome, body = wire.Failed, []byte("its deadline has passed")
			} else {
				outcome, body = execute(done, m)
			}
			done.close()
			m = b.answer(m, done, outcome, body, t)
		} else { // no more can be begun, says await
			b.mu.Lock()
			done.leave()
			b.mu.Unlock()
			m = nil
		}
		if m == nil {
			m, err = b.await(w, t)
		}
	}
	return err
}

// late reports whether a request's deadline passed in Start.
func (b *Inbox) late(m *Message) bool {
	if b.cfg.Replies == nil {
		return false // which took no time
	}
	d, ok := m.Deadline()
	return ok && !time.Now().Before(d)
}

// answer is Reply for what a task has done, and begins the next request for another one, if
// there is any.
func (b *Inbox) answer(m *Message, done *task, outcome Outcome, body []byte, then *task) (next *Message) {
	b.mu.Lock()
	done.leave()
	b.crew.between = true
	turn, ok, _ := b.reply(m, outcome, body) // the error is await's too
	if then.of.parent.Err() == nil {
		next = b.begin()
	}
	b.crew.between = false
	b.look()
	b.crew.note(done.begun, next)
	if next != nil {
		then.enter(next)
		then.begun = b.crew.begun
	}
	b.callWaiting()
	b.mu.Unlock()
	b.replied(m, turn, ok)
	return next
}
