package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"

	"github.com/coder/websocket"
)

// A stream brings messages one after the other, as server-sent events or over a WebSocket. An ephemeral subscription's
// are done when they are written. Those of a queue or a durable subscription are leased: the client acks each, over the
// WebSocket or with POST, and has at most window of them at a time. What it has not answered when the stream ends goes
// elsewhere at once.

// defaultWindow is how many messages a client of a stream may have unanswered.
const defaultWindow = 16

// sink is where a stream's events go. Its methods may be called concurrently.
type sink interface {
	send(ctx context.Context, kind string, v any) error
	beat(ctx context.Context) error // a sign of life
}

// stream is one of them.
type stream struct {
	g     *Gateway
	room  *room
	out   sink
	time  time.Duration // of each lease; 0: nothing is leased
	slots chan struct{} // one for each message in the client's hands

	mu   sync.Mutex
	held map[string]bool
}

func (g *Gateway) serveSub(c *call) *Problem {
	name, p := c.name(wire.Sub)
	if p != nil {
		return p
	}
	durable, topics, opts, p := subscriptionOf(c.r.URL.Query())
	if p != nil {
		return p
	}
	return g.serveStream(c, durable != "", func() (*room, error) { return g.subTo(name, durable, topics, opts) })
}

// subscriptionOf reads what a subscription asks for.
func subscriptionOf(q url.Values) (durable string, topics []string, opts []patterns.Option, p *Problem) {
	durable, topics = q.Get("durable"), q["topic"]
	if len(topics) == 0 {
		topics = []string{">"}
	}
	switch from := q.Get("from"); from {
	case "", "new":
	case "earliest":
		opts = append(opts, patterns.From(patterns.Earliest))
	case "last":
		opts = append(opts, patterns.From(patterns.LastValue))
	default:
		return "", nil, nil, invalid("from=%q: write new, earliest or last", from)
	}
	slices.Sort(topics)
	return durable, slices.Compact(topics), opts, nil
}

func (g *Gateway) servePullStream(c *call) *Problem {
	name, p := c.name(wire.Pull)
	if p != nil {
		return p
	}
	return g.serveStream(c, true, func() (*room, error) { return g.pullFrom(name) })
}

func (g *Gateway) serveStream(c *call, leased bool, open func() (*room, error)) *Problem {
	window, p := c.number("window", defaultWindow, 1, maxBatch)
	if p != nil {
		return p
	}
	lease, p := c.duration("lease", c.cfg.Lease, time.Second, c.cfg.Limits.MaxLease)
	if p != nil {
		return p
	}
	socket := strings.EqualFold(c.r.Header.Get("Upgrade"), "websocket")
	if !socket && !strings.Contains(c.r.Header.Get("Accept"), "text/event-stream") {
		return problem(http.StatusNotAcceptable, "stream", "this is a stream", "", "send Accept: text/event-stream (curl -N -H), or open a WebSocket")
	}
	if p := g.beginStream(); p != nil {
		return p
	}
	defer g.endStream()
	room, err := open()
	if err != nil {
		return problemOf(err)
	}
	defer room.leave()
	s := &stream{g: g, room: room, slots: make(chan struct{}, window), held: map[string]bool{}}
	if leased {
		s.time = lease
	}
	defer s.end()
	ctx, stop := context.WithCancelCause(c.r.Context())
	defer stop(nil)
	defer context.AfterFunc(g.ctx, func() { stop(errLeaving) })()
	if !socket {
		s.out = newEvents(c)
		_ = s.run(ctx) // the client is gone, or will come back
		return nil
	}
	ws := g.accept(c)
	if ws == nil {
		return nil
	}
	s.out = &socketSink{ws, g.ended, c.cfg.Limits.WriteTime}
	var reading sync.WaitGroup
	reading.Go(func() { stop(s.read(ws)) })
	stop(s.run(ctx))
	closeSocket(ws, context.Cause(ctx))
	reading.Wait()
	return nil
}

// beginStream takes a place for one more; Close waits until it is over.
func (g *Gateway) beginStream() *Problem {
	if !g.streams.take(1) {
		return busy("streams", "too many streams at a time", "", "close some, or raise the gateway's limit of streams")
	}
	g.serving.Lock()
	defer g.serving.Unlock()
	if g.ctx.Err() != nil {
		g.streams.give(1)
		return problemOf(errLeaving)
	}
	g.wg.Add(1)
	return nil
}

func (g *Gateway) endStream() {
	g.streams.give(1)
	g.wg.Done()
}

// leave is exit, and closes the socket if it is the client's own.
func (r *room) leave() {
	if r.place.kind == wire.Sub && r.place.label == "" {
		_ = r.sock.Close() // an ephemeral subscription keeps nothing
		return
	}
	r.exit()
}

// run brings messages until ctx ends or the client does.
func (s *stream) run(ctx context.Context) error {
	waits := s.room.place.kind != wire.Sub || s.room.place.label != ""
	if err := s.out.send(ctx, "open", map[string]string{"type": "open"}); err != nil {
		return err
	}
	for {
		if s.time > 0 {
			if err := s.slot(ctx); err != nil {
				return err
			}
		}
		if waits {
			s.room.wait()
		}
		err := s.next(ctx)
		if waits {
			s.room.busy()
		}
		if err != nil {
			return err
		}
	}
}

// slot waits until the client may have one more message.
func (s *stream) slot(ctx context.Context) error {
	for {
		select {
		case s.slots <- struct{}{}:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(keepalive):
			if err := s.out.beat(ctx); err != nil {
				return err
			}
		}
	}
}

// next brings what comes next: a message, gaps, or a sign of life.
func (s *stream) next(ctx context.Context) error {
	if s.time > 0 && !s.g.leases.reserve(s.g.config.Load().Limits.Leases) {
		<-s.slots
		return errors.New("too many messages are in the hands of clients")
	}
	waiting, stop := context.WithTimeout(ctx, keepalive)
	m, err := s.room.sock.(source).Recv(waiting)
	stop()
	for _, gap := range gapsOf(s.room) {
		if err := s.out.send(ctx, "gap", gap); err != nil && m == nil {
			return err
		}
	}
	if err != nil {
		if s.time > 0 {
			s.g.leases.unreserve()
			<-s.slots
		}
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return s.out.beat(ctx)
		}
		return err
	}
	if s.time == 0 {
		if err := s.out.send(ctx, "message", deliveryOf(m, "")); err != nil {
			return err
		}
		return m.Ack()
	}
	var l *lease
	l = s.g.leases.grant(s.room, m, s.time, func() {
		s.drop(l.id)
		<-s.slots
	})
	if ctx.Err() != nil && s.g.leases.take(l.id, s.room.place) == l { // the client has gone, and has not seen it
		s.g.leases.release(l)
		return context.Cause(ctx)
	}
	s.mu.Lock()
	s.held[l.id] = true
	s.mu.Unlock()
	return s.out.send(ctx, "message", deliveryOf(m, l.id))
}

func (s *stream) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, id)
}

// end gives back what the client still holds.
func (s *stream) end() {
	s.mu.Lock()
	held := s.held
	s.held = map[string]bool{}
	s.mu.Unlock()
	for id := range held {
		switch l := s.g.leases.take(id, s.room.place); {
		case l == nil:
		case s.g.ctx.Err() != nil: // the gateway has ended it, not the client
			s.g.leases.release(l)
		default:
			s.g.leases.clientGone(l)
		}
	}
}

// order is what a client says over a WebSocket: one of the fields.
type order struct {
	Ack    string `json:"ack"`
	Nack   string `json:"nack"`
	Extend string `json:"extend"`
	Reason string `json:"reason"` // of nack
}

// maxOrder bounds one.
const maxOrder = 4 << 10

// parseOrder reads an order; it has exactly one of its three leases.
func parseOrder(data []byte) (o order, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		return o, err
	}
	n := 0
	for _, id := range []string{o.Ack, o.Nack, o.Extend} {
		if id != "" {
			n++
		}
	}
	if n != 1 {
		return o, errors.New("one of ack, nack and extend")
	}
	return o, nil
}

// read carries out what the client says until the WebSocket ends.
func (s *stream) read(ws *websocket.Conn) error {
	ctx := s.g.ended // a read that is cut short ends the connection
	ws.SetReadLimit(maxOrder)
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		o, err := parseOrder(data)
		if err == nil && s.time == 0 {
			err = errors.New("nothing is leased on this stream")
		}
		if err != nil {
			err = fmt.Errorf(`send {"ack": LEASE}, {"nack": LEASE, "reason": TEXT} or {"extend": LEASE}: %w`, err)
			return websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: err.Error()}
		}
		if err := s.obey(ctx, o); err != nil {
			return err
		}
	}
}

// obey carries out an order and says what came of it.
func (s *stream) obey(ctx context.Context, o order) error {
	if o.Extend != "" {
		if s.g.leases.extend(o.Extend, s.room.place, s.time) {
			return s.out.send(ctx, "extended", map[string]string{"type": "extended", "lease": o.Extend})
		}
		return s.out.send(ctx, "gone", map[string]string{"type": "gone", "lease": o.Extend})
	}
	id := o.Ack + o.Nack
	l := s.g.leases.take(id, s.room.place)
	switch {
	case l == nil:
		return s.out.send(ctx, "gone", map[string]string{"type": "gone", "lease": id})
	case o.Nack != "":
		s.g.leases.giveBack(l, reasonOf(o.Reason), 0)
		return s.out.send(ctx, "nacked", map[string]string{"type": "nacked", "lease": id})
	}
	final, err := s.g.leases.ack(ctx, l)
	if err != nil {
		return err
	}
	return s.out.send(ctx, "acked", map[string]any{"type": "acked", "lease": id, "final": final})
}

// events are server-sent events, as the HTML standard has them.
type events struct {
	mu sync.Mutex
	c  *call
}

func newEvents(c *call) *events {
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies hold events back otherwise
	return &events{c: c}
}

func (e *events) send(_ context.Context, kind string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	id := ""
	if d, ok := v.(delivery); ok {
		id = fmt.Sprintf("id: %s/%d\n", d.Stream, d.Seq)
	}
	return e.write(fmt.Sprintf("event: %s\n%sdata: %s\n\n", kind, id, data))
}

func (e *events) beat(context.Context) error { return e.write(": alive\n\n") }

func (e *events) write(text string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	control := http.NewResponseController(e.c.w)
	_ = control.SetWriteDeadline(time.Now().Add(e.c.cfg.Limits.WriteTime)) // without it the server's own bound holds
	if _, err := e.c.w.Write([]byte(text)); err != nil {
		return err
	}
	return control.Flush()
}

// socketSink is a WebSocket. A write that is cut short ends the connection, so only the gateway's own end, and its time,
// cut one short.
type socketSink struct {
	ws     *websocket.Conn
	ended  context.Context
	within time.Duration
}

func (s *socketSink) send(_ context.Context, _ string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(s.ended, s.within)
	defer stop()
	return s.ws.Write(ctx, websocket.MessageText, data)
}

func (s *socketSink) beat(context.Context) error {
	ctx, stop := context.WithTimeout(s.ended, s.within)
	defer stop()
	return s.ws.Ping(ctx)
}

// accept makes a WebSocket of a request. Pages of other sites are refused, unless the gateway is open to all.
// It is nil if the client was refused, and told so.
func (g *Gateway) accept(c *call) *websocket.Conn {
	ws, err := websocket.Accept(c.w, c.r, &websocket.AcceptOptions{InsecureSkipVerify: c.cfg.Open})
	if err != nil {
		c.cfg.Logger.Debug("gateway: no websocket", "err", err)
		return nil
	}
	return ws
}

// closeSocket says goodbye with the reason.
func closeSocket(ws *websocket.Conn, cause error) {
	var known websocket.CloseError
	switch {
	case errors.As(cause, &known) && known.Code == websocket.StatusPolicyViolation:
		_ = ws.Close(known.Code, known.Reason[:min(len(known.Reason), 120)]) // the client may be gone
	case errors.Is(cause, errLeaving):
		_ = ws.Close(websocket.StatusGoingAway, "the gateway is leaving; come back")
	default:
		_ = ws.CloseNow()
	}
}
