package patterns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// listed puts calls on the list whose owner, who has them gathered, is the test.
func listed(t *testing.T, q *Req, n int) (cs []*call) {
	t.Helper()
	synctest.Wait() // the pipe's reader, if there is one, would have it gathered when he is done
	for i := range n {
		c := q.call()
		c.asked.Body = fmt.Append(nil, i)
		if err := q.ready(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if c.next = q.staged.Load(); !q.staged.CompareAndSwap(c.next, c) {
			t.Fatal("somebody else is at the list")
		}
		cs = append(cs, c)
	}
	return cs
}

func (r *Req) gathered() (accepted uint64) {
	r.mu.Lock()
	turn := r.gather()
	accepted = r.box.Ledger().Counts().Accepted
	r.mu.Unlock()
	turn.Take()
	return accepted
}

func TestCallsOnTheListAreAcceptedInOrderWithTheFirstOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, _ := service(t, 1, nil, []Option{Concurrency(1)})
		var mu sync.Mutex
		var order []string
		serving(t, rs[0], func(_ context.Context, m *socket.Message) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, string(m.Body))
			return m.Body, nil
		})
		cs := listed(t, q, 3)
		wait := askMany(t.Context(), q, 1) // somebody sees to it already: this one waits for that
		synctest.Wait()
		equal(t, "accepted before", q.Stats().Ledger.Accepted, 0)
		equal(t, "accepted", q.gathered(), 4)
		for i, c := range cs {
			q.wait(c)
			a, err := c.result(t.Context())
			equal(t, fmt.Sprint("answer ", i), string(a.Body), fmt.Sprint(i))
			outcome(t, fmt.Sprint("call ", i), err, wire.OK)
		}
		outcome(t, "the one behind them", wait()[0], wire.OK)
		equal(t, "order", fmt.Sprint(order), "[0 1 2 0]")
		equal(t, "accepted with nothing on the list", q.gathered(), 4)
	})
}

func TestWhatHasNoRoomIsRefusedAndItsCallerInsists(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newNode(t, 'a').req(Queue(2, 1<<20), OnOverflow(Refuse))
		cs := listed(t, q, 3)
		wait := askMany(t.Context(), q, 1)
		synctest.Wait()
		equal(t, "accepted", q.gathered(), 2)
		equal(t, "refused", fmt.Sprint(cs[0].refused, cs[1].refused, cs[2].refused), "false false true")
		<-cs[2].done
		err := wait()[0]
		matches(t, "who insists", err, socket.ErrQueueFull)
		outcome(t, "who insists", err, wire.Failed)
	})
}

func TestAContextThatEndsWhileItsCallIsOnTheListEndsTheCall(t *testing.T) {
	for _, crowd := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			q := newNode(t, 'a').req()
			cause := errors.New("enough")
			ctx, stop := context.WithCancelCause(t.Context())
			before := func() []error { return nil }
			if crowd {
				before = askMany(ctx, q, 2*crowded+2)
				synctest.Wait()
				if crowds, _ := q.watched(); crowds != 1 {
					t.Fatalf("%d crowds", crowds)
				}
			}
			accepted := q.Stats().Ledger.Accepted
			listed(t, q, 1)
			wait := askMany(ctx, q, 2)
			synctest.Wait()
			stop(cause)
			for _, err := range append(before(), wait()...) {
				outcome(t, fmt.Sprint("in a crowd ", crowd), err, wire.Failed)
				matches(t, fmt.Sprint("in a crowd ", crowd), err, cause)
			}
			equal(t, "accepted", q.Stats().Ledger.Accepted, accepted+3)
		})
	}
}

func TestClosingRefusesWhatIsOnTheList(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newNode(t, 'a').req()
		cs := listed(t, q, 1)
		wait := askMany(t.Context(), q, 1)
		synctest.Wait()
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		equal(t, "accepted", q.gathered(), 0)
		equal(t, "refused", cs[0].refused, true)
		err := wait()[0]
		matches(t, "who insists", err, socket.ErrClosed)
		outcome(t, "who insists", err, wire.Failed)
	})
}
