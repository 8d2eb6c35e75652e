package node

import (
	"sync"
	"testing"

	"github.com/quic-go/quic-go"
)

func TestWindowsGrowAgainstOneBudget(t *testing.T) {
	w := newWindows(1000)
	near, far, stranger := new(quic.Conn), new(quic.Conn), new(quic.Conn)
	w.open(near)
	w.open(far)
	for i, s := range []struct {
		conn  *quic.Conn
		bytes uint64
		want  bool
		left  uint64
	}{
		{stranger, 1, false, 1000},
		{near, 501, false, 1000},
		{near, 500, true, 500},
		{near, 251, false, 500},
		{far, 250, true, 250},
		{near, 100, true, 150},
		{far, 1<<64 - 1, false, 150},
	} {
		if got := w.grow(s.conn, s.bytes); got != s.want || w.left != s.left {
			t.Errorf("step %d: %v and %d left, want %v and %d", i, got, w.left, s.want, s.left)
		}
	}
	w.close(near)
	if w.grow(near, 1) || w.left != 750 {
		t.Errorf("after one has ended: %d left, want 750", w.left)
	}
	w.close(near)
	w.close(stranger)
	w.close(far)
	if w.left != 1000 || len(w.held) != 0 {
		t.Errorf("after all have ended: %d left of 1000, %d held", w.left, len(w.held))
	}
}

func TestWindowsAreDividedFromManySides(t *testing.T) {
	w := newWindows(1 << 20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				c := new(quic.Conn)
				w.open(c)
				w.grow(c, 1<<15)
				w.close(c)
			}
		})
	}
	wg.Wait()
	if w.left != 1<<20 {
		t.Errorf("%d left, want %d", w.left, 1<<20)
	}
}
