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
// gateway begins a request only when a client waits for one. A request that was begun is its client's: if that dies, the
// request may have been executed, so nobody else gets it, and its requester is told at the deadline that the outcome is
// not known.
//
//	client waits --> a worker of the Rep --> request --> jobs --> client --> reply --> requester
//	                                            '-- deadline: indeterminate

// asked is a request on its way to a client, or in its hands.
type asked struct {
	id       string
	m        *socket.Message
	deadline time.Time
	again    chan struct{} // told when its client went before it saw it
	over     chan struct{} // closed when it was answered, or its deadline has passed
}

// replied is what a client says to a request.
type replied struct {
	body []byte
	err  error
}

// take waits for a request, and returns nil if there is none before ctx ends. While it waits there is one more worker;
// whatever a worker has begun goes to any client that waits.
func (g *Gateway) take(ctx context.Context, room *room, rep *patterns.Rep) *asked {
	room.join()
	room.wait()
	defer room.busy()
	worker, stop := context.WithCancel(g.ended)
	defer stop() // it ends when it has answered what it may have begun
	g.wg.Go(func() {
		defer room.exit()
		_ = rep.ServeRequests(worker, func(_ context.Context, m *socket.Message) ([]byte, error) { return g.ask(room, m) })
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

// ask hands a request to a client that waits, and waits for the reply.
func (g *Gateway) ask(room *room, m *socket.Message) ([]byte, error) {
	limits := g.config.Load().Limits
	if !g.leases.reserve(limits.Leases) {
		return nil, errors.New("too many requests are in the hands of clients of this gateway")
	}
	l := g.leases.grant(room, m, 0, nil)
	reply := make(chan replied, 1)
	g.leases.expectReply(l, reply)
	job := &asked{id: l.id, m: m, again: make(chan struct{}, 1), over: make(chan struct{})}
	defer close(job.over)
	var known bool
	if job.deadline, known = m.Deadline(); !known {
		job.deadline = time.Now().Add(limits.Deadline)
	}
	late := time.NewTimer(time.Until(job.deadline) + deadlineSlack)
	defer late.Stop()
	err := context.DeadlineExceeded
	for offer := room.jobs; ; {
		select {
		case offer <- job:
			offer = nil
			continue
		case <-job.again:
			offer = room.jobs
			continue
		case r := <-reply:
			return r.body, r.err
		case <-late.C:
		case <-g.ended.Done():
			err = errLeaving
		}
		if g.leases.take(l.id, room.place) == l {
			l.free()
		}
		if g.ended.Err() != nil {
			<-g.shut.Done() // what is answered before says that it was executed
		}
		return nil, err
	}
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
	_, _ = c.w.Write(job.m.Body) // if the client is gone, the requester learns at the deadline that the outcome is not known
	return nil
}

// serveReply takes the reply to a request; failed is that it could not be executed well.
func (g *Gateway) serveReply(failed bool) func(*call) *Problem {
	return func(c *call) *Problem {
		body, free, p := g.body(c)
		defer free()
		if p != nil {
			return p
		}
		r := replied{body: bytes.Clone(body)}
		if failed {
			r = replied{err: failureOf(string(body))}
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

// failureOf is a service's error.
func failureOf(text string) error {
	if text == "" {
		text = "the service failed"
	}
	return errors.New(strings.ToValidUTF8(text, "?"))
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
	ID    string  `json:"id"`
	Text  *string `json:"text"`
	Body  []byte  `json:"body"`
	Error *string `json:"error"`
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
	case a.Error != nil:
		return a.ID, replied{err: failureOf(*a.Error)}, nil
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
			return err
		}
		select {
		case <-job.over:
		case <-ctx.Done():
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
