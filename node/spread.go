package node

import (
	"slices"
	"sync"
)

// eventBuffer bounds what a slow listener may be behind, keptEvents what is kept for those
// who come later.
const (
	eventBuffer = 1024
	keptEvents  = 256
)

// spread gives what happens to whoever listens. Each listener has a bounded queue; at its
// bound the oldest entry is dropped and counted.
type spread[T any] struct {
	mu        sync.Mutex
	listeners map[*listener[T]]struct{}
	dropped   uint64
	kept      []T // the newest keptEvents, oldest first
}

type listener[T any] struct {
	queue []T
	ready chan struct{}
}

func (h *spread[T]) emit(e T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.kept) == keptEvents {
		h.kept = h.kept[:copy(h.kept, h.kept[1:])]
	}
	h.kept = append(h.kept, e)
	for l := range h.listeners {
		if len(l.queue) == eventBuffer {
			l.queue = l.queue[1:]
			h.dropped++
		}
		l.queue = append(l.queue, e)
		select {
		case l.ready <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// listen begins to listen; first, or if past is set what is kept, is in the queue already.
func (h *spread[T]) listen(first []T, past bool) *listener[T] {
	l := &listener[T]{queue: first, ready: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if past {
		l.queue = slices.Clone(h.kept)
	}
	if len(l.queue) > 0 {
		l.ready <- struct{}{}
	}
	if h.listeners == nil {
		h.listeners = map[*listener[T]]struct{}{}
	}
	h.listeners[l] = struct{}{}
	return l
}

func (h *spread[T]) leave(l *listener[T]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, l)
}

func (h *spread[T]) take(l *listener[T]) []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := l.queue
	l.queue = nil
	return q
}

// recent lists what is kept, oldest first.
func (h *spread[T]) recent() []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.kept)
}
