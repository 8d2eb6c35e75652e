package meshtest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// maxBody is the most that UDP over IPv4 carries in one packet.
const maxBody = 65507

var (
	errTooLong    = errors.New("message too long")
	errBadAddress = errors.New("not a UDP address with an IP")
)

// conn is a socket of a Net, a net.PacketConn.
type conn struct {
	network *Net
	local   netip.AddrPort
	addr    *net.UDPAddr // local, as everyone is shown it

	mu            sync.Mutex
	wake          sync.Cond // something below changed that ends a wait in ReadFrom
	in            []*packet // newest arrivals
	out           []*packet // oldest arrivals; out[:read] are gone
	read          int
	expired       bool // the read deadline has passed
	expiry        *time.Timer
	deadlines     int // read deadlines ever set: tells expiry from the timers before it
	writeDeadline time.Time
	closed        bool
}

func newConn(network *Net, local netip.AddrPort) *conn {
	c := &conn{network: network, local: local, addr: net.UDPAddrFromAddrPort(local)}
	c.wake.L = &c.mu
	return c
}

// ReadFrom waits for a packet, the read deadline or Close. A packet longer than b is cut off, as with UDP. The address
// is a *net.UDPAddr that is shared: do not change it.
func (c *conn) ReadFrom(b []byte) (int, net.Addr, error) {
	p, err := c.next()
	if err != nil {
		return 0, nil, c.fail("read", err)
	}
	n, from := copy(b, p.body), p.from
	p.free()
	return n, from, nil
}

// next takes the oldest packet off the queue. As with UDP, a passed deadline hides what is queued.
func (c *conn) next() (*packet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return nil, net.ErrClosed
		case c.expired:
			return nil, os.ErrDeadlineExceeded
		case c.queued() > 0:
			return c.pop(), nil
		}
		c.wake.Wait()
	}
}

// queued is the length of the receive queue. c.mu must be held.
func (c *conn) queued() int { return len(c.in) + len(c.out) - c.read }

// pop takes the head of the queue, which must not be empty. c.mu must be held.
func (c *conn) pop() *packet {
	if c.read == len(c.out) {
		c.in, c.out, c.read = c.out[:0], c.in, 0
	}
	p := c.out[c.read]
	c.out[c.read] = nil
	c.read++
	return p
}

// push queues p for ReadFrom and takes it over, or reports false when the queue holds limit packets already.
func (c *conn) push(p *packet, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued() >= limit {
		return false
	}
	c.in = append(c.in, p)
	c.wake.Signal()
	return true
}

// WriteTo hands a copy of b to the network and does not block. Like UDP it reports no loss of any kind.
func (c *conn) WriteTo(b []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, c.fail("write", errBadAddress)
	}
	to := unmap(udp.AddrPort())
	if !to.IsValid() {
		return 0, c.fail("write", errBadAddress)
	}
	if len(b) > maxBody {
		return 0, c.fail("write", errTooLong)
	}
	if err := c.writable(); err != nil {
		return 0, c.fail("write", err)
	}
	c.network.send(c, b, to)
	return len(b), nil
}

// writable says why nothing can be written now, or nil.
func (c *conn) writable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if !c.writeDeadline.IsZero() && !time.Now().Before(c.writeDeadline) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// LocalAddr is the *net.UDPAddr the socket was made with. It is shared: do not change it.
func (c *conn) LocalAddr() net.Addr { return c.addr }

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline also ends or prolongs reads that wait already.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	c.stopExpiry()
	wait := time.Until(t)
	c.expired = !t.IsZero() && wait <= 0
	switch {
	case c.expired:
		c.wake.Broadcast()
	case !t.IsZero():
		nth := c.deadlines
		c.expiry = time.AfterFunc(wait, func() { c.expire(nth) })
	}
	return nil
}

// expire is what the timer of the nth read deadline does. If it was replaced while the timer fired, that is nothing.
func (c *conn) expire(nth int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadlines == nth {
		c.expired = true
		c.wake.Broadcast()
	}
}

// stopExpiry forgets the read deadline. c.mu must be held.
func (c *conn) stopExpiry() {
	c.deadlines++
	if c.expiry != nil {
		c.expiry.Stop()
		c.expiry = nil
	}
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	c.writeDeadline = t
	return nil
}

// SetReadBuffer changes nothing: NetConfig.Queue bounds the receive queue. quic-go logs a warning when it is missing.
func (c *conn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer changes nothing: writes are never buffered. quic-go logs a warning when it is missing.
func (c *conn) SetWriteBuffer(int) error { return nil }

// Close ends waiting reads with an error that matches net.ErrClosed and frees the address. A second call does nothing.
func (c *conn) Close() error {
	c.network.release(c)
	c.end()
	return nil
}

// end is the part of Close that needs no Net.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.in, c.out, c.read = nil, nil, 0
	c.stopExpiry()
	c.wake.Broadcast()
}

// fail wraps err the way package net does, so that it is a net.Error.
func (c *conn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: c.addr, Err: err}
}

// unmap writes an IPv4 address inside IPv6 as plain IPv4, so that each host has one name.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
