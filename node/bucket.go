package node

import (
	"sync"
	"time"
)

// bucket lets burst things happen at once and so many a second in the long run: what
// strangers cause here must not cost more, however many there are. Safe for
// concurrent use.
type bucket struct {
	burst, perSecond float64

	mu   sync.Mutex
	used float64 // of burst
	at   time.Time
}

// take reports whether one more may happen now.
func (b *bucket) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*b.perSecond)
	b.at = now
	if b.used+1 > b.burst {
		return false
	}
	b.used++
	return true
}
