package gateway

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Serve answers who connects to l, over TLS if secure is not nil, until Close, with the limits of connections, headers and idle time that a handler
// cannot keep by itself. It blocks, closes l, and may be called for several listeners, one after the other or at the same
// time. After Close it returns nil.
//
// At the bound of connections the one goes that has been idle for the longest time, so that idle ones keep nobody out;
// if all are busy the new one is told 503 and closed.
func (g *Gateway) Serve(l net.Listener, secure *tls.Config) error {
	g.serving.Lock()
	if g.ended.Err() != nil {
		g.serving.Unlock()
		return l.Close()
	}
	if g.server == nil {
		g.server = g.newServer()
	}
	server := g.server
	g.serving.Unlock()
	limits := g.config.Load().Limits
	var front net.Listener = &door{Listener: l, most: limits.Conns}
	if secure != nil {
		front = tls.NewListener(front, secure)
	}
	err := server.Serve(front)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (g *Gateway) newServer() *http.Server {
	limits := g.config.Load().Limits
	s := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       limits.Idle,
		MaxHeaderBytes:    limits.Header,
		ErrorLog:          slog.NewLogLogger(g.config.Load().Logger.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		ConnState: func(c net.Conn, state http.ConnState) {
			if v := visitorOf(c); v != nil {
				v.door.note(v, state)
			}
		},
	}
	s.Protocols.SetHTTP1(true) // a stream of HTTP/2 would be one more thing to bound
	return s
}

// stopServing closes the listeners and all connections.
func (g *Gateway) stopServing() error {
	g.serving.Lock()
	server := g.server
	g.serving.Unlock()
	if server == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), endWithin)
	defer stop()
	if err := server.Shutdown(ctx); err == nil {
		return nil
	}
	return server.Close()
}

// door is a listener that lets in so many at a time.
type door struct {
	net.Listener
	most int

	mu     sync.Mutex
	inside int
	idle   list.List // of visitors: those without a request, the one that has been so for the longest time first
}

// visitor is a connection.
type visitor struct {
	net.Conn
	door *door

	// Guarded by the door's mutex.
	inside bool
	idle   *list.Element // nil: it has a request, or is not inside
}

// netConn is how a TLS connection shows what it runs on.
type netConn interface{ NetConn() net.Conn }

func visitorOf(c net.Conn) *visitor {
	if t, ok := c.(netConn); ok {
		c = t.NetConn()
	}
	v, _ := c.(*visitor)
	return v
}

// full is what one is told who does not get in.
const full = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n" +
	`{"type":"urn:peermesh:connections","title":"too many connections","status":503,"next":"try again in a second"}` + "\n"

// Accept waits for a connection that may come in.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		v := &visitor{Conn: c, door: d}
		if d.admit(v) {
			return v, nil
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte(full)) // it fits the buffer of a new connection
		_ = c.Close()
	}
}

func (d *door) admit(v *visitor) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inside >= d.most {
		oldest := d.idle.Front()
		if oldest == nil {
			return false
		}
		other := oldest.Value.(*visitor)
		d.leave(other)
		_ = other.Conn.Close() // its goroutine learns it from its read
	}
	d.inside++
	v.inside, v.idle = true, d.idle.PushBack(v)
	return true
}

// note follows a connection's state.
func (d *door) note(v *visitor, state http.ConnState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch state {
	case http.StateIdle:
		if v.inside {
			d.busy(v)
			v.idle = d.idle.PushBack(v)
		}
	case http.StateActive, http.StateHijacked:
		d.busy(v)
	}
}

// busy notes that a visitor is not idle. The mutex must be held.
func (d *door) busy(v *visitor) {
	if v.idle != nil {
		d.idle.Remove(v.idle)
		v.idle = nil
	}
}

// leave makes room for another visitor, once. The mutex must be held.
func (d *door) leave(v *visitor) {
	if v.inside {
		v.inside = false
		d.inside--
		d.busy(v)
	}
}

// Close closes the connection and makes room for another.
func (v *visitor) Close() error {
	v.door.mu.Lock()
	v.door.leave(v)
	v.door.mu.Unlock()
	return v.Conn.Close()
}
