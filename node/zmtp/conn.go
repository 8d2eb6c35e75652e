package zmtp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const (
	writeSize = 64 << 10 // bytes that are written together
	largePart = 16 << 10 // a part from here on is written from where it lies
	maxPongs  = 16       // PONGs that wait to be written; beyond, the peer is not read
)

var errSilent = errors.New("zmtp: the peer is silent")

// A conn is a connection after its handshake, and the lane that it serves. Two goroutines run it: one reads, one writes.
type conn struct {
	net   net.Conn
	hub   *hub
	lane  *lane
	peer  hello
	waken chan struct{} // of size 1: the writer has something to do
	done  chan struct{} // closed when the connection ends
	stop  sync.Once
	cause error // of the end, once done is closed

	receipts bool // the peer answers PINGs, and what that says of messages counts

	settled []settlement // of who settles, to be used again: with receipts the reading goroutine, otherwise the one that writes

	// Of the reading goroutine.
	heard time.Time     // when something was last read
	ttl   time.Duration // the peer wants to be held for dead after so much silence; 0: it has no wish

	// Guarded by the hub's mutex.
	control   []byte        // commands to be written before any message
	pongs     int           // of them
	room      chan struct{} // closed when control was taken; nil: nobody waits
	pings     uint64        // the last PING's number
	pinged    bool          // it has not been answered
	pingedFor int           // how many of the lane's owed messages were written before it
}

func newConn(nc net.Conn, h *hub, l *lane, peer hello) *conn {
	return &conn{
		net: nc, hub: h, lane: l, peer: peer, heard: time.Now(),
		waken: make(chan struct{}, 1), done: make(chan struct{}),
		receipts: peer.minor >= 1 && h.end.Profile == Durable,
	}
}

// wake makes the writer look.
func (c *conn) wake() {
	select {
	case c.waken <- struct{}{}:
	default: // it will look anyway
	}
}

// end ends the connection, once.
func (c *conn) end(cause error) {
	c.stop.Do(func() {
		c.cause = errors.Join(cause, c.net.Close())
		close(c.done)
	})
}

// run speaks with the peer until the connection ends, and says why.
func (c *conn) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { c.end(context.Cause(ctx)) })()
	var wg sync.WaitGroup
	wg.Go(func() { c.end(c.write()) })
	c.end(c.read())
	wg.Wait()
	return c.cause
}

func (c *conn) read() error {
	r := newReader(c.net, c.hub.end.MaxMessage, c.hub.end.MaxParts)
	came := func(ms []message) error { return c.hub.came(c, ms) }
	for {
		if err := c.net.SetReadDeadline(c.deadline()); err != nil {
			return err
		}
		err := r.read(came, c.obey)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = c.silence()
		} else {
			c.heard = time.Now()
		}
		if err != nil {
			return err
		}
	}
}

// deadline is when the silence of the peer must be judged.
func (c *conn) deadline() time.Time {
	wait := c.patience()
	if wait == 0 {
		return time.Time{}
	}
	return time.Now().Add(wait)
}

// patience is how long the peer may be silent before that is looked into; 0: for ever.
func (c *conn) patience() (wait time.Duration) {
	limits := []time.Duration{c.ttl, c.hub.end.OwedTimeout}
	if c.beats() {
		limits = append(limits, c.hub.end.HeartbeatTimeout)
	}
	for _, t := range limits {
		if t > 0 && (wait == 0 || t < wait) {
			wait = t
		}
	}
	return wait
}

// beats reports whether PINGs are sent. Peers of version 3.0 may not know them.
func (c *conn) beats() bool { return c.peer.minor >= 1 && c.hub.end.Heartbeat > 0 }

// silence judges a peer that has said nothing for some time.
func (c *conn) silence() error {
	silent := time.Since(c.heard)
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	limit := c.hub.end.HeartbeatTimeout
	if c.lane.out.len() > 0 {
		limit = c.hub.end.OwedTimeout
	}
	if c.ttl > 0 && silent >= c.ttl || c.pinged && limit > 0 && silent >= limit {
		return fmt.Errorf("%w for %v", errSilent, silent)
	}
	return nil
}

// obey does what a command says.
func (c *conn) obey(cmd command) error {
	switch cmd.name {
	case cmdPing:
		ttl, context, err := parsePing(cmd.data)
		if err != nil {
			return err
		}
		c.ttl = time.Duration(ttl) * 100 * time.Millisecond
		return c.pong(context)
	case cmdPong:
		c.ponged(cmd.data)
		return nil
	case cmdSubscribe, cmdCancel:
		return c.hub.subscribe(c, cmd.name == cmdSubscribe, string(cmd.data))
	case cmdError:
		return fmt.Errorf("zmtp: the peer says %.255q", cmd.data)
	}
	return nil // commands that are not known are ignored, as libzmq does
}

// pong queues the answer to a PING. It waits while too many wait to be written.
func (c *conn) pong(context []byte) error {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	for c.pongs >= maxPongs {
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.hub.mu.Unlock()
		select {
		case <-room:
		case <-c.done:
		}
		c.hub.mu.Lock()
		select {
		case <-c.done:
			return net.ErrClosed
		default:
		}
	}
	c.pongs++
	c.control = appendCommand(c.control, cmdPong, context)
	c.wake()
	return nil
}

// ponged hears the answer to a PING: what was written before that has been read.
func (c *conn) ponged(context []byte) {
	c.hub.mu.Lock()
	settled := 0
	if c.pinged && len(context) == 8 && binary.BigEndian.Uint64(context) == c.pings {
		c.pinged = false
		if c.receipts {
			settled = c.pingedFor
		}
		c.wake()
	}
	c.settle(settled)
}

// settle settles the oldest n of what the lane is owed, and tells that. The hub's mutex must be held; it is released.
func (c *conn) settle(n int) {
	if n > 0 {
		c.settled = c.hub.read(c.settled[:0], c.lane, n)
	}
	c.hub.mu.Unlock()
	if n > 0 {
		c.hub.tell(c.settled)
		clear(c.settled)
	}
}

// say queues commands or messages that stand outside the lane's queue. The hub's mutex must be held.
func (c *conn) say(wire []byte) {
	c.control = append(c.control, wire...)
	c.wake()
}

func (c *conn) write() error {
	beat := time.NewTimer(0)
	beat.Stop()
	if c.beats() {
		beat.Reset(c.hub.end.Heartbeat)
	}
	defer beat.Stop()
	buf := make([]byte, 0, smallChunk)
	var batch []outgoing
	due := false
	for {
		buf, batch = c.next(buf[:0], batch[:0], due)
		due = false
		if len(buf)+len(batch) == 0 {
			select {
			case <-c.waken:
			case <-beat.C:
				beat.Reset(c.hub.end.Heartbeat)
				due = true
			case <-c.done:
				return nil
			}
			continue
		}
		var err error
		if buf, err = c.put(buf, batch); err != nil {
			return err
		}
		c.wrote(len(batch))
		clear(batch)
	}
}

// next takes what is to be written: commands in wire form behind buf, and messages behind batch, which is empty. beat asks
// for a PING.
func (c *conn) next(buf []byte, batch []outgoing, beat bool) ([]byte, []outgoing) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	buf = append(buf, c.control...)
	c.control, c.pongs = c.control[:0], 0
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
	batch = c.lane.send(batch, writeSize)
	// One PING at a time: the next one when this one is answered, so there is never a storm of PONGs.
	written := c.lane.owed - len(batch)
	if !c.pinged && (beat || c.receipts && written > 0) {
		c.pings++
		c.pinged, c.pingedFor = true, written
		buf = appendPing(buf, 0, binary.BigEndian.AppendUint64(nil, c.pings))
	}
	return buf, batch
}

// put writes commands and messages.
func (c *conn) put(buf []byte, batch []outgoing) ([]byte, error) {
	for _, o := range batch {
		buf = append(buf, o.wire...)
		for i, part := range o.message {
			flags := moreFlag(i, len(o.message))
			if len(part) < largePart {
				buf = appendFrame(buf, flags, part)
				continue
			}
			if err := c.send(appendHead(buf, flags, len(part))); err != nil {
				return buf, err
			}
			buf = buf[:0]
			if err := c.send(part); err != nil {
				return buf, err
			}
		}
	}
	return buf, c.send(buf)
}

func (c *conn) send(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := c.net.Write(b)
	return err
}

// wrote counts messages, and settles them if nothing more will be known of them.
func (c *conn) wrote(n int) {
	c.hub.mu.Lock()
	c.hub.stats.sent += uint64(n)
	if c.receipts {
		n = 0
	}
	c.settle(n)
}
