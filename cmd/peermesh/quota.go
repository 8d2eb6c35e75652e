package main

import (
	"context"
	"sync"
)

// quota says when one more message may be taken in hand: never more than most at a
// time, and never more than are still wanted. Safe for concurrent use.
type quota struct {
	most int    // in hand at a time
	want uint64 // done at the end; 0: no end

	mu      sync.Mutex
	changed chan struct{} // closed and renewed at each change
	inHand  int
	done    uint64
}

func newQuota(most int, want uint64) *quota {
	return &quota{most: most, want: want, changed: make(chan struct{})}
}

// take blocks until one more message may be taken in hand. It returns false once all
// are done, and ctx's cause when that ends first.
func (q *quota) take(ctx context.Context) (bool, error) {
	for {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		q.mu.Lock()
		left := q.want == 0 || q.done+uint64(q.inHand) < q.want
		if q.want > 0 && q.done >= q.want {
			q.mu.Unlock()
			return false, nil
		}
		if left && q.inHand < q.most {
			q.inHand++
			q.mu.Unlock()
			return true, nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// put says that a message is no longer in hand, and whether it is done.
func (q *quota) put(done bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inHand--
	if done {
		q.done++
	}
	close(q.changed)
	q.changed = make(chan struct{})
}
