package socket

import (
	"io"
	"net"
	"sync"
	"time"
)

// Conn is the byte stream below a pipe: a QUIC stream, or memory. Read and Write
// may run at the same time. CloseWrite ends the writing side once what was written
// has arrived. Close ends both at once, unblocks everything and may drop data, but not
// what was written before CloseWrite.
//
// A Conn may have TryWrite too: it takes all of b at once, or nothing and reports
// false, and never blocks. It may be called while nobody writes. With RTT, how long a
// round trip takes, a receiver lets those who are far away have more on its way.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// tryWriter is a Conn that has TryWrite.
type tryWriter interface {
	TryWrite(b []byte) (bool, error)
}

// distant is a Conn that knows how long a round trip to its other end takes.
type distant interface {
	RTT() time.Duration
}

// duplexBuffer bounds what one end of Duplex has written and the other has not
// read: as much as a QUIC stream's first window.
const duplexBuffer = 256 << 10

// Duplex returns the two ends of a byte stream in memory: how two sockets of one
// node meet.
func Duplex() (Conn, Conn) {
	a, b := newHalf(), newHalf()
	return &duplex{in: a, out: b}, &duplex{in: b, out: a}
}

type duplex struct{ in, out *half }

func (d *duplex) Read(b []byte) (int, error)  { return d.in.read(b) }
func (d *duplex) Write(b []byte) (int, error) { return d.out.write(b) }
func (d *duplex) CloseWrite() error           { d.out.finish(); return nil }
func (d *duplex) Close() error {
	d.in.abort()
	d.out.finish() // what was written may still be read
	return nil
}

// half is one direction.
type half struct {
	mu       sync.Mutex
	changed  sync.Cond
	buf      []byte
	finished bool
	aborted  bool
}

func newHalf() *half {
	h := &half{}
	h.changed.L = &h.mu
	return h
}

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.buf) == 0 && !h.finished && !h.aborted {
		h.changed.Wait()
	}
	switch {
	case h.aborted:
		return 0, net.ErrClosed
	case len(h.buf) == 0:
		return 0, io.EOF
	}
	n := copy(b, h.buf)
	h.buf = h.buf[:copy(h.buf, h.buf[n:])]
	h.changed.Broadcast()
	return n, nil
}

func (h *half) write(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if h.aborted || h.finished {
			return n, net.ErrClosed
		}
		take := min(len(b)-n, duplexBuffer-len(h.buf))
		if take > 0 {
			h.buf = append(h.buf, b[n:n+take]...)
			n += take
			h.changed.Broadcast()
		}
		if n == len(b) {
			return n, nil
		}
		h.changed.Wait()
	}
}

func (h *half) finish() { h.end(&h.finished) }
func (h *half) abort()  { h.end(&h.aborted) }

func (h *half) end(flag *bool) {
	h.mu.Lock()
	*flag = true
	h.changed.Broadcast()
	h.mu.Unlock()
}
