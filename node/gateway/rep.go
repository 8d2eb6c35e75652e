package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/coder/websocket"
)

// A client answers a service by taking requests one by one and bringing the replies, over a WebSocket or by polling. The
// gateway begins a request only when a client waits for one. A request that a client has is its own: if that dies, the
// request may have been executed, so nobody else gets it, and its requester is told that the outcome is not known, at
// once if the client's WebSocket has ended, otherwise at the deadline.
//
//	client waits --> a worker of the Rep --> request --> jobs --> client --> reply --> requester
//	                                            |                    '-- it is gone, or the deadline: indeterminate
//	                                            '-- no client has seen it: it goes back

// asked is a request on its way to a client, or in its hands.
type asked struct {
	id       string
	m        *socket.Message
	deadline time.Time
	again    chan struct{} // told when its client went before it saw it
	lost     chan struct{} // told when its client went later
	over     chan struct{} // closed when it was answered, or its deadline has passed
}

// replied is what a client says to a request.
type replied struct {
	body []byte
	err  error
}

// worker begins one request of a service.
type worker struct{ stop context.CancelFunc }

// take waits for a request, and returns nil if there is none before ctx ends. While it waits there is one more worker.
// Each worker begins one request, which goes to any client that waits, and ends when that is answered.
func (g *Gateway) take(ctx context.Context, room *room, rep *patterns.Rep) *asked {
	room.join()
	ended, stop := context.WithCancel(g.ended)
	w := &worker{stop}
	room.wait()
	room.employ(w)
	defer room.busy()
	g.wg.Go(func() {
		defer room.exit()
		defer stop()
		_ = rep.ServeRequests(ended, func(_ context.Context, m *socket.Message) ([]byte, error) {
			room.begun(w)
			return g.ask(room, m)
		})
	})
	select {
	case job := <-room.jobs:
		return job
	case <-ctx.Done():
		return nil
	}
}

// deadlineSlack lets the requester's clock decide first.
const deadlineSlack = 20 * time.Millisecond

// errUnheard is a request whose client may have executed it.
var errUnheard = fmt.Errorf("gateway: the client did not answer: %w", patterns.ErrIndeterminate)

// ask hands a request to a client that waits, and waits for the reply. A request that no client has seen goes back.
func (g *Gateway) ask(room *room, m *socket.Message) ([]byte, error) {
	limits := g.config.Load().Limits
	if !g.leases.reserve(limits.Leases) {
		return nil, patterns.NotExecuted(errors.New("too many requests are in the hands of clients of this gateway"))
	}
	l := g.leases.grant(room, m, 0, nil)
	reply := make(chan replied, 1)
	g.leases.expectReply(l, reply)
	job := &asked{id: l.id, m: m, again: make(chan struct{}, 1), lost: make(chan struct{}, 1), over: make(chan struct{})}
	defer close(job.over)
	var known bool
	if job.deadline, known = m.Deadline(); !known {
		job.deadline = time.Now().Add(limits.Deadline)
	}
	late := time.NewTimer(time.Until(job.deadline) + deadlineSlack)
	defer late.Stop()
	select {
	case room.jobs <- job:
	case <-late.C:
		return nil, g.unseen(l)
	case <-g.ctx.Done():
		return nil, g.unseen(l)
	}
	select {
	case r := <-reply:
		return r.body, r.err
	case <-job.again:
		return nil, g.unseen(l)
	case <-job.lost:
	case <-late.C:
	case <-g.ended.Done():
	}
	if g.leases.take(l.id, room.place) == l {
		l.free()
		return nil, errUnheard
	}
	select {
	case r := <-reply: // it came at this moment
		return r.body, r.err
	case <-g.ended.Done():
		return nil, errUnheard
	}
}

// unseen gives a request back that no client has seen.
func (g *Gateway) unseen(l *lease) error {
	if g.leases.take(l.id, l.room.place) == l {
		l.free()
	}
	return l.m.Release()
}

func (t *leases) expectReply(l *lease, reply chan replied) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.reply = reply
}

// serveNext brings the next request to a client that polls.
func (g *Gateway) serveNext(c *call) *Problem {
	name, p := c.name(wire.Rep)
	if p != nil {
		return p
	}
	wait, p := c.duration("wait", c.cfg.Limits.Wait/2, 0, c.cfg.Limits.Wait)
	if p != nil {
		return p
	}
	room, rep, err := g.repFor(name)
	if err != nil {
		return problemOf(err)
	}
	defer room.exit()
	ctx, stop := g.until(c.r.Context(), wait)
	defer stop()
	job := g.take(ctx, room, rep)
	switch {
	case job != nil && c.r.Context().Err() != nil:
		job.again <- struct{}{}
		return nil
	case job == nil && g.ctx.Err() != nil:
		return problemOf(errLeaving)
	}
	g.patience(c.w)
	if job == nil {
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	h := c.w.Header()
	putMessage(h, job.m)
	h.Set(headerLease, job.id)
	h.Set("Peermesh-Reply", "/v1/rep/"+pathOf(name)+"/"+job.id)
	h.Set(headerDeadline, strconv.FormatInt(time.Until(job.deadline).Milliseconds(), 10))
	if _, err := c.w.Write(job.m.Body); err != nil {
		job.lost <- struct{}{} // it may have it all the same
	}
	return nil
}

// serveReply takes the reply to a request; failed is that it could not be executed well.
func (g *Gateway) serveReply(failed bool) func(*call) *Problem {
	return func(c *call) *Problem {
		outcome := c.r.URL.Query().Get("outcome")
		body, free, p := g.body(c)
		defer free()
		if p != nil {
			return p
		}
		r := replied{body: bytes.Clone(body)}
		if failed {
			if r = (replied{err: failureOf(outcome, string(body))}); r.err == nil {
				return invalid("outcome=%q: %s", outcome, wantOutcome)
			}
		}
		if !g.reply(c.r.PathValue("lease"), c.r.PathValue("name"), r) {
			return problem(http.StatusGone, "lease-over", "nobody waits for this reply, or not any more",
				"it was given, or the request's deadline has passed", "take the next request")
		}
		g.patience(c.w)
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

func (g *Gateway) reply(id, name string, r replied) bool {
	l := g.leases.take(id, place{kind: wire.Rep, name: name})
	if l == nil {
		return false
	}
	l.reply <- r
	l.free()
	return true
}

// wantOutcome is what a service may say.
const wantOutcome = "write error, failed (not executed) or indeterminate"

// failureOf is a service's error; nil if there is no such outcome.
func failureOf(outcome, text string) error {
	if text == "" {
		text = "the service failed"
	}
	err := errors.New(strings.ToValidUTF8(text, "?"))
	switch outcome {
	case "", wire.Error.String():
		return err
	case wire.Failed.String():
		return patterns.NotExecuted(err)
	case wire.Indeterminate.String():
		return fmt.Errorf("%w: %w", err, patterns.ErrIndeterminate)
	}
	return nil
}

// request is one as JSON.
type request struct {
	Type       string         `json:"type"` // request
	ID         string         `json:"id"`
	From       string         `json:"from"`
	Headers    socket.Headers `json:"headers,omitempty"`
	DeadlineMs int64          `json:"deadline_ms"` // what is left
	Text       *string        `json:"text,omitempty"`
	Body       []byte         `json:"body,omitempty"`
}

// answer is a client's reply over a WebSocket: a text, a body in base64, or an error.
type answer struct {
	ID      string  `json:"id"`
	Text    *string `json:"text"`
	Body    []byte  `json:"body"`
	Error   *string `json:"error"`
	Outcome string  `json:"outcome"` // of an error: error, failed or indeterminate
}

// parseAnswer reads one.
func parseAnswer(data []byte) (id string, r replied, err error) {
	var a answer
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return "", r, err
	}
	switch {
	case a.ID == "":
		return "", r, errors.New("no id")
	case a.Outcome != "" && a.Error == nil:
		return "", r, errors.New("an outcome without an error")
	case a.Error != nil:
		if r.err = failureOf(a.Outcome, *a.Error); r.err == nil {
			return "", r, errors.New("outcome: " + wantOutcome)
		}
		return a.ID, r, nil
	case a.Text != nil:
		return a.ID, replied{body: []byte(*a.Text)}, nil
	}
	return a.ID, replied{body: a.Body}, nil
}

// maxConcurrency bounds how many requests one WebSocket may work on.
const maxConcurrency = 64

// serveService has a client answer over a WebSocket, concurrency requests at a time.
func (g *Gateway) serveService(c *call) *Problem {
	name, p := c.name(wire.Rep)
	if p != nil {
		return p
	}
	n, p := c.number("concurrency", 1, 1, maxConcurrency)
	if p != nil {
		return p
	}
	if !strings.EqualFold(c.r.Header.Get("Upgrade"), "websocket") {
		return problem(http.StatusUpgradeRequired, "websocket", "this is a WebSocket", "", "open a WebSocket, or poll with POST /v1/rep/NAME")
	}
	if p := g.beginStream(); p != nil {
		return p
	}
	defer g.endStream()
	room, rep, err := g.repFor(name)
	if err != nil {
		return problemOf(err)
	}
	defer room.exit()
	ws := g.accept(c)
	if ws == nil {
		return nil
	}
	ctx, stop := context.WithCancelCause(c.r.Context())
	defer stop(nil)
	defer context.AfterFunc(g.ctx, func() { stop(errLeaving) })()
	out := &socketSink{ws, g.ended, c.cfg.Limits.WriteTime}
	var wg sync.WaitGroup
	wg.Go(func() { stop(g.readAnswers(ws, name, c.cfg.Limits.Body, out)) })
	for range n {
		wg.Go(func() { stop(g.bring(ctx, room, rep, out)) })
	}
	wg.Go(func() { stop(beatOften(ctx, out)) })
	<-ctx.Done()
	closeSocket(ws, context.Cause(ctx))
	wg.Wait()
	return nil
}

// beatOften gives signs of life until there is no answer.
func beatOften(ctx context.Context, out sink) error {
	tick := time.NewTicker(keepalive)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := out.beat(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// bring sends requests to the client, one after the other.
func (g *Gateway) bring(ctx context.Context, room *room, rep *patterns.Rep, out sink) error {
	for {
		job := g.take(ctx, room, rep)
		if ctx.Err() != nil {
			if job != nil {
				job.again <- struct{}{}
			}
			return context.Cause(ctx)
		}
		r := request{Type: "request", ID: job.id, From: job.m.From().String(), Headers: job.m.Headers,
			DeadlineMs: time.Until(job.deadline).Milliseconds()}
		r.Text, r.Body = asText(job.m.Body)
		if err := out.send(ctx, "request", r); err != nil {
			job.lost <- struct{}{} // it may have it all the same
			return err
		}
		select {
		case <-job.over:
		case <-ctx.Done():
			if g.ctx.Err() == nil { // a client that was sent away may bring its answer by POST
				job.lost <- struct{}{}
			}
			return context.Cause(ctx)
		}
	}
}

// readAnswers takes the client's answers until the WebSocket ends.
func (g *Gateway) readAnswers(ws *websocket.Conn, name string, most int64, out sink) error {
	ctx := g.ended                       // a read that is cut short ends the connection
	ws.SetReadLimit(most/3*4 + maxOrder) // in base64
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		id, r, err := parseAnswer(data)
		if err != nil {
			err = fmt.Errorf(`send {"id": ID, "text": REPLY}, or "body" in base64, or "error": %w`, err)
			return websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: err.Error()}
		}
		if !g.reply(id, name, r) {
			if err := out.send(ctx, "gone", map[string]string{"type": "gone", "id": id}); err != nil {
				return err
			}
		}
	}
}
