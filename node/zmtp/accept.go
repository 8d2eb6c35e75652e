package zmtp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	maxHandshakes = 64                     // under way at a time, of one endpoint
	firstRetry    = 100 * time.Millisecond // between two tries to connect; then twice as long each time
	lastRetry     = 5 * time.Second
)

// listen binds an address. What a killed process has left of an ipc socket is taken away.
func listen(at string) (net.Listener, error) {
	network, addr, err := address(at)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen(network, addr)
	if network == "unix" && errors.Is(err, syscall.EADDRINUSE) {
		if stale(addr) {
			if err := os.Remove(addr); err != nil {
				return nil, err
			}
			ln, err = net.Listen(network, addr)
		}
	}
	if err != nil {
		return nil, err
	}
	if network == "unix" && addr[0] != '@' {
		if err := os.Chmod(addr, 0o600); err != nil {
			return nil, errors.Join(err, ln.Close())
		}
	}
	return ln, nil
}

// stale reports whether there is a socket file at which nobody listens.
func stale(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = c.Close() // somebody listens, that was all
	return false
}

// A door brings connections to a hub: it accepts or dials until ctx ends.
type door struct {
	hub *hub
	log *slog.Logger
	wg  sync.WaitGroup
}

// accept runs the connections of a bound endpoint. Too many handshakes, or peers, wait in the listener's backlog.
func (d *door) accept(ctx context.Context, ln net.Listener) {
	defer d.wg.Wait()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })() // what can fail is that it is closed already
	handshakes := make(chan struct{}, maxHandshakes)
	peers := make(chan struct{}, d.hub.end.MaxPeers)
	pace := time.NewTicker(time.Second / time.Duration(d.hub.end.HandshakeRate))
	defer pace.Stop()
	for {
		for _, seat := range []chan struct{}{handshakes, peers} {
			select {
			case seat <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			d.log.Warn("zmtp: accept", "at", d.hub.addr, "err", err)
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
		if err != nil {
			<-handshakes
			<-peers
			continue
		}
		d.wg.Go(func() {
			defer func() { <-peers }()
			c, err := d.greet(nc, nil, true)
			<-handshakes
			if err == nil {
				d.serve(ctx, c)
			}
		})
	}
}

// connect keeps a connection to an address up.
func (d *door) connect(ctx context.Context, at string) {
	l := d.hub.standing()
	retry := firstRetry
	for ctx.Err() == nil {
		c, err := d.dial(ctx, at, l)
		if err == nil {
			retry = firstRetry
			d.serve(ctx, c)
		}
		// Not all at once: many may wait for one that restarts.
		wait := retry/2 + rand.N(retry/2)
		retry = min(2*retry, lastRetry)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (d *door) dial(ctx context.Context, at string, l *lane) (*conn, error) {
	network, addr, err := address(at)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: d.hub.end.HandshakeTimeout}
	nc, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return d.greet(nc, l, false)
}

// greet makes a connection of what was accepted or dialled.
func (d *door) greet(nc net.Conn, l *lane, accepted bool) (*conn, error) {
	e := &d.hub.end
	peer, err := open(nc, e.Type, e.Identity, accepted, e.HandshakeTimeout)
	if err == nil {
		var c *conn
		if c, err = d.hub.attach(nc, peer, l); err == nil {
			return c, nil
		}
		err = errors.Join(err, nc.Close())
	}
	d.hub.mu.Lock()
	d.hub.stats.refused++
	d.hub.mu.Unlock()
	d.log.Info("zmtp: no connection", "at", d.hub.addr, "peer", nc.RemoteAddr().String(), "err", err)
	return nil, err
}

func (d *door) serve(ctx context.Context, c *conn) {
	who := fmt.Sprintf("%s %q", c.peer.kind, c.peer.identity)
	d.log.Info("zmtp: peer", "at", d.hub.addr, "peer", who)
	err := c.run(ctx)
	d.hub.detach(c)
	d.log.Info("zmtp: peer left", "at", d.hub.addr, "peer", who, "err", err)
}
