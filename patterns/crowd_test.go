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

// askMany asks n times at once and returns what came of it, once all have their answer.
func askMany(ctx context.Context, q *Req, n int) func() []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = q.Request(ctx, fmt.Append(nil, i)) })
	}
	return func() []error { wg.Wait(); return errs }
}

func (r *Req) watched() (crowds, calls int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.crowds {
		calls += w.calls
	}
	return len(r.crowds), calls
}

func TestAllWhoAskInOneContextAreEndedWithIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n, begun = 100, 60
		q, rs, _ := service(t, 1, nil, []Option{Concurrency(begun), Prefetch(begun)})
		causes := make(chan error, n)
		serving(t, rs[0], func(ctx context.Context, _ *socket.Message) ([]byte, error) {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil, nil
		})
		cause := errors.New("enough")
		ctx, stop := context.WithCancelCause(t.Context())
		wait := askMany(ctx, q, n)
		synctest.Wait()
		if crowds, calls := q.watched(); crowds != 1 || calls < n/2 {
			t.Errorf("%d of %d calls in %d crowds", calls, n, crowds)
		}
		stop(cause)
		got := map[socket.Outcome]int{}
		for i, err := range wait() {
			matches(t, fmt.Sprint("request ", i), err, cause)
			got[OutcomeOf(err)]++
		}
		if got[wire.Indeterminate] != begun || got[wire.Failed] != n-begun {
			t.Errorf("outcomes %v, and %d of %d were begun", got, begun, n)
		}
		for range begun {
			matches(t, "a handler's context", <-causes, socket.ErrRevoked)
		}
		if crowds, _ := q.watched(); crowds != 0 {
			t.Errorf("%d crowds are left", crowds)
		}
		_, err := q.Request(ctx, nil)
		outcome(t, "asked afterwards", err, wire.Failed)
		balanced(t, q)
	})
}

// endless is a context that could end, and never does.
type endless struct {
	context.Context
	done chan struct{}
}

func (e endless) Done() <-chan struct{} { return e.done }

func TestACrowdEndsWithItsCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, rs, _ := service(t, 1, nil, []Option{Concurrency(4)})
		serving(t, rs[0], func(_ context.Context, m *socket.Message) ([]byte, error) { return m.Body, nil })
		for range 3 {
			var waits []func() []error
			for range 2 {
				waits = append(waits, askMany(endless{context.Background(), make(chan struct{})}, q, 50), askMany(context.Background(), q, 50))
			}
			for _, wait := range waits {
				for i, err := range wait() {
					outcome(t, fmt.Sprint("request ", i), err, wire.OK)
				}
			}
			if crowds, _ := q.watched(); crowds != 0 {
				t.Errorf("%d crowds are left", crowds)
			}
		}
	})
}

func TestClosingARequesterEndsACrowd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newNode(t, 'a').req()
		wait := askMany(long(t), q, 50)
		synctest.Wait()
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		for i, err := range wait() {
			outcome(t, fmt.Sprint("request ", i), err, wire.Failed)
		}
		if crowds, _ := q.watched(); crowds != 0 {
			t.Errorf("%d crowds are left", crowds)
		}
	})
}
