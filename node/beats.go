package node

import (
	"sync"
	"time"

	"peermesh/socket"
)

// beats has the heartbeats of a node's links sent: those that are due about the same time one after the other by one goroutine,
// for a hundred that began at once would each leave the memory of a stack behind. Links call it with their lock held.
type beats struct {
	base time.Time // a point of the grid of socket.Aligned

	mu    sync.Mutex
	due   map[int64][]*link // by points of the grid since base; with links that were wound again since, or have ended
	next  int64             // of those the first, for which timer is set; 0: there is none
	timer *time.Timer
	over  bool
	parts sync.WaitGroup // calls of run
}

func newBeats() *beats {
	now := time.Now()
	return &beats{base: now.Add(socket.Aligned(0)), due: map[int64][]*link{}}
}

// wind has l.tick called after d, or up to one step of the grid earlier, instead of when it was wound for before.
func (b *beats) wind(l *link, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	at := int64((time.Since(b.base) + d) / socket.Grid)
	if l.beatAt == at {
		return
	}
	l.beatAt = at
	b.due[at] = append(b.due[at], l)
	if b.next == 0 || at < b.next {
		b.set(at)
	}
}

// forget has l.tick not called any more.
func (b *beats) forget(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.beatAt = 0
}

// set sets the timer. b.mu must be held.
func (b *beats) set(at int64) {
	b.next = at
	d := time.Until(b.base.Add(time.Duration(at) * socket.Grid))
	if b.timer == nil {
		b.timer = time.AfterFunc(d, b.run)
		return
	}
	b.timer.Reset(d)
}

// run calls tick for all links that are due.
func (b *beats) run() {
	b.mu.Lock()
	if b.over {
		b.mu.Unlock()
		return
	}
	b.parts.Add(1)
	defer b.parts.Done()
	links := b.take(int64(time.Since(b.base) / socket.Grid))
	b.mu.Unlock()
	for _, l := range links {
		l.tick()
	}
}

// take returns the links that are due at a point of the grid or before, and sets the timer for the others. b.mu must be held.
func (b *beats) take(now int64) (links []*link) {
	b.next = 0
	var next int64
	for at, some := range b.due {
		if at > now {
			if next == 0 || at < next {
				next = at
			}
			continue
		}
		delete(b.due, at)
		for _, l := range some {
			if l.beatAt == at {
				l.beatAt = 0
				links = append(links, l)
			}
		}
	}
	if next != 0 {
		b.set(next)
	}
	return links
}

// end blocks until run is not under way, and will not be.
func (b *beats) end() {
	b.mu.Lock()
	b.over = true
	if b.timer != nil {
		b.timer.Stop()
	}
	b.mu.Unlock()
	b.parts.Wait()
}
