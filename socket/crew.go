package socket

import (
	"context"
	"slices"
	"time"
)

// crew is the workers of a replier: each executes one request after the other, and sleeps while there is none. Who begins one
// wakes the next worker if there are more, so that a slow handler holds up nobody. Where handlers are quick that costs more
// than they do: many would be woken for nothing. So while the last ones have all been quick, a worker more is woken only where
// many requests wait for those at work, or after crewDelay: then one of them may have got stuck. Guarded by the inbox's mutex.
type crew struct {
	size   int       // workers, at work or asleep
	asleep []*worker // who fell asleep last is woken first
	called *worker   // was woken, and has not looked yet

	between bool // a worker that has just answered is about to begin the next request: meanwhile it does not rest, see look

	quick    int           // requests in a row whose handlers were
	begun    time.Duration // when the last one was begun, by the inbox's clock; 0: unknown
	answered uint64        // requests
	looks    bool          // the timer is set
	seen     uint64        // answered then
	timer    *time.Timer   // nil: never set
}

const (
	quickHandler = 3 * time.Microsecond
	quickEnough  = 64 // quick ones in a row that it takes
	crewShare    = 16 // requests for each worker at work that need no other
	crewDelay    = lingerDelay
)

// worker is one of the crew.
type worker struct {
	tasks
	wake chan struct{} // has room for one word
}

// rouse wakes w, if it sleeps.
func (w *worker) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// join makes a worker whose handlers run in ctx; leave undoes it.
func (b *Inbox) join(ctx context.Context, slack time.Duration) (w *worker, leave func()) {
	w = &worker{tasks: tasks{box: b, parent: ctx, slack: slack}, wake: make(chan struct{}, 1)}
	b.mu.Lock()
	b.crew.size++
	b.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.crew.asleep = slices.DeleteFunc(b.crew.asleep, func(o *worker) bool { return o == w })
		w.rouse()
	})
	return w, func() {
		stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.crew.size--
	}
}

// await begins the next request for a task of w. It blocks until there is one, the socket closes or w's context ends; then it
// returns the cause, or that of the closed socket if both have come to pass.
func (b *Inbox) await(w *worker, t *task) (*Message, error) {
	for {
		m, err := b.seek(w, t)
		if m != nil || err != nil {
			return m, err
		}
		<-w.wake
	}
}

// seek is await that does not block: w is asleep if there is no request.
func (b *Inbox) seek(w *worker, t *task) (m *Message, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.crew
	if c.called == w {
		c.called = nil
	}
	if w.parent.Err() == nil {
		m = b.begin()
	}
	switch {
	case m != nil:
		t.enter(m)
		t.begun = c.begun
	case b.failed != nil:
		err = b.failed
	case b.closed || b.draining:
		err = ErrClosed
	case w.parent.Err() != nil:
		err = context.Cause(w.parent)
	default:
		c.asleep = append(c.asleep, w)
		b.look()
	}
	b.callWaiting()
	return m, err
}

// note notes how long it took to execute a request that was begun then, if another one has been begun since. b.mu must be held.
func (c *crew) note(begun time.Duration, next *Message) {
	c.answered++
	switch {
	case next == nil:
	case begun > 0 && c.begun-begun < quickHandler:
		c.quick++
	default:
		c.quick = 0
	}
}

// callCrew wakes a worker if those at work may not do with n requests that wait. b.mu must be held.
func (b *Inbox) callCrew(n int) {
	c := &b.crew
	if len(c.asleep) == 0 || c.called != nil {
		return
	}
	if atWork := c.size - len(c.asleep); c.quick >= quickEnough && atWork > 0 && n <= crewShare*atWork {
		b.watchCrew()
		return
	}
	c.call()
}

// call wakes a worker of those that sleep.
func (c *crew) call() {
	last := len(c.asleep) - 1
	c.called, c.asleep[last], c.asleep = c.asleep[last], nil, c.asleep[:last]
	c.called.rouse()
}

// watchCrew has the crew looked after in a while. b.mu must be held.
func (b *Inbox) watchCrew() {
	c := &b.crew
	if c.looks {
		return
	}
	c.looks, c.seen = true, c.answered
	if c.timer == nil {
		c.timer = time.AfterFunc(crewDelay, b.lookAfter)
	} else {
		c.timer.Reset(crewDelay)
	}
}

// lookAfter wakes a worker if there is something left for it.
func (b *Inbox) lookAfter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.crew
	c.looks = false
	if c.answered == c.seen { // they are not quick any more
		c.quick = 0
	}
	if len(c.asleep) > 0 && c.called == nil && b.unbegunHere() > 0 && !b.paused {
		c.call()
	}
}

// dismiss wakes all workers: the socket takes no more requests. b.mu must be held.
func (b *Inbox) dismiss() {
	for _, w := range b.crew.asleep {
		w.rouse()
	}
	b.crew.asleep = nil
	if b.crew.timer != nil {
		b.crew.timer.Stop()
	}
}
