package node

import (
	"sync"

	"github.com/quic-go/quic-go"
)

// What a peer may have on its way to this node and not read here is bounded by the window of
// its connection. That begins small, and QUIC asks for more when it was used up within a few
// round trips: so it grows with the distance and the speed of the path. All windows grow
// against one budget.
const (
	streamWindow   = 512 << 10
	mostStream     = 6 << 20
	connWindow     = 1 << 20
	mostConnection = 15 << 20 // 1 Gbit/s over 120 ms
	// windowBudget is what the windows of all links may have beyond what they begin with.
	windowBudget = 64 << 20
)

// windows divides the budget. Safe for concurrent use; under its lock nothing waits.
type windows struct {
	mu   sync.Mutex
	left uint64
	held map[*quic.Conn]uint64 // by link, beyond what it began with
}

func newWindows(budget uint64) *windows {
	return &windows{left: budget, held: map[*quic.Conn]uint64{}}
}

// open lets a link's window grow from now on.
func (w *windows) open(c *quic.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held[c] = 0
}

// grow reports whether a window may grow by so many bytes: within half of what is left, so
// that something is left for who comes later. Only a link's may.
func (w *windows) grow(c *quic.Conn, bytes uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	held, ok := w.held[c]
	if !ok || bytes > w.left/2 {
		return false
	}
	w.left -= bytes
	w.held[c] = held + bytes
	return true
}

// close gives back what a link's window has grown.
func (w *windows) close(c *quic.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left += w.held[c]
	delete(w.held, c)
}
