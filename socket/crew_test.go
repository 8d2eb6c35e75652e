package socket

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
)

// staffed is a replier with so many workers.
func staffed(t *testing.T, ctx context.Context, n int, execute func(body string)) (b *Inbox, f *far, ended chan error) {
	b = newInbox(t, wire.Rep)
	f, _ = newRequester('s', 1<<20).attach(t, b)
	ended = make(chan error, n)
	for range n {
		go func() {
			ended <- b.Requests(ctx, time.Minute, func(_ context.Context, m *Message) (Outcome, []byte) {
				execute(string(m.Body))
				return wire.OK, nil
			})
		}()
	}
	synctest.Wait()
	return b, f, ended
}

func (b *Inbox) sleepers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.crew.asleep)
}

// mostly says that the last handlers were quick.
func (b *Inbox) mostly() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.crew.quick = quickEnough
}

func TestASlowHandlerHoldsUpNobodyWhereOthersWereQuick(t *testing.T) {
	for _, quick := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			var began atomic.Int64
			b, f, ended := staffed(t, ctx, 4, func(string) {
				began.Add(1)
				time.Sleep(time.Second)
			})
			equal(t, "asleep", b.sleepers(), 4)
			if quick {
				b.mostly()
			}
			f.say(data(1, "a"), data(2, "b"), data(3, "c"), data(4, "d"), data(5, "e"))
			synctest.Wait()
			if quick {
				equal(t, "begun at first", began.Load(), 1)
				time.Sleep(2 * crewDelay)
				synctest.Wait()
			}
			equal(t, "begun", began.Load(), 4)
			time.Sleep(time.Second)
			synctest.Wait()
			equal(t, "begun when they were done", began.Load(), 5)
			stop()
			for range 4 {
				equal(t, "Requests", <-ended, context.Canceled)
			}
		})
	}
}

func TestWhereHandlersAreQuickAWorkerMoreIsWokenForManyRequests(t *testing.T) {
	b := newInbox(t, wire.Rep)
	c := &b.crew
	c.size = 4
	for range 3 {
		c.asleep = append(c.asleep, &worker{wake: make(chan struct{}, 1)})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	called := func(n int) bool {
		b.callCrew(n)
		was := c.called != nil
		c.called = nil
		return was
	}
	equal(t, "nobody knows how long they take", called(1), true)
	c.quick = quickEnough
	equal(t, "few", called(crewShare), false)
	equal(t, "they are looked after", c.looks, true)
	equal(t, "many", called(2*crewShare+1), true)
	equal(t, "asleep", len(c.asleep), 1)
	c.size = 1
	equal(t, "nobody is at work", called(1), true)
	equal(t, "nobody is asleep", called(1000), false)
}

func TestAHandlerIsQuickIfTheNextRequestIsBegunSoon(t *testing.T) {
	c := crew{}
	m := &Message{}
	for range 3 {
		c.begun = 10 * time.Microsecond
		c.note(c.begun-quickHandler+1, m)
	}
	equal(t, "quick ones", c.quick, 3)
	c.note(1, nil)
	equal(t, "of the last one of several nothing is known", c.quick, 3)
	c.note(c.begun-quickHandler, m)
	equal(t, "quick ones after a slow one", c.quick, 0)
	c.quick = 3
	c.note(0, m)
	equal(t, "when it was begun is not known", c.quick, 0)
	equal(t, "answered", c.answered, 6)
}

func TestWorkersThatSleepEndWithTheirContextAndWithTheSocket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		b, _, ended := staffed(t, ctx, 2, func(string) {})
		others := make(chan error, 1)
		go func() {
			others <- b.Requests(t.Context(), 0, func(context.Context, *Message) (Outcome, []byte) { return wire.OK, nil })
		}()
		synctest.Wait()
		equal(t, "asleep", b.sleepers(), 3)
		stop()
		for range 2 {
			equal(t, "of the context", <-ended, context.Canceled)
		}
		equal(t, "asleep", b.sleepers(), 1)
		b.Close()
		equal(t, "of the socket", <-others, ErrClosed)
		equal(t, "workers", b.crew.size, 0)
	})
}

// The worker was roused by the one, and looks after the other.
func TestAWorkerOfAClosedSocketSaysSoThoughItsContextEndedToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		b := newInbox(t, wire.Rep)
		w, leave := b.join(ctx, 0)
		defer leave()
		m, err := b.seek(w, w.next())
		equal(t, "there is none", m == nil && err == nil, true)
		b.Close()
		stop()
		_, err = b.await(w, w.next())
		equal(t, "of the socket", err, ErrClosed)
	})
}
