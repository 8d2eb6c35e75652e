package cloudevents

import (
	"context"
	"errors"
	"fmt"
	"io"

	"peermesh/patterns"
	"peermesh/socket"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/protocol"
)

// Requester asks a service with events. Safe for concurrent use.
type Requester struct{ req *patterns.Req }

var _ protocol.Requester = (*Requester)(nil)

// Req asks a service. The Req stays the caller's, who closes it.
func Req(r *patterns.Req) *Requester { return &Requester{r} }

// Request sends an event as a request, finishes in, and waits for the answer: an event, or nil
// if the service answered without one. The deadline is that of ctx, else 30 s from now. An error
// that the service returned is a NACK and a *patterns.RemoteError; the others are neither ACK nor
// NACK and as those of patterns.Req.Request.
func (r *Requester) Request(ctx context.Context, in binding.Message, with ...binding.Transformer) (binding.Message, error) {
	m := new(socket.Message)
	err := WriteMessage(ctx, in, m, with...)
	var reply patterns.Reply
	if err == nil {
		reply, err = r.req.RequestMessage(ctx, m)
	}
	if remote := (*patterns.RemoteError)(nil); errors.As(err, &remote) {
		err = protocol.NewReceipt(false, "%w", err)
	}
	if err := errors.Join(err, in.Finish(err)); err != nil || len(reply.Body) == 0 {
		return nil, err
	}
	return NewMessage(&socket.Message{Body: reply.Body, Headers: socket.Headers{HeaderContentType: format.JSON.MediaType()}}), nil
}

// Send is Request without the answer.
func (r *Requester) Send(ctx context.Context, in binding.Message, with ...binding.Transformer) error {
	_, err := r.Request(ctx, in, with...)
	return err
}

// Responder answers a service's requests with events. Safe for concurrent use.
type Responder struct {
	rep *patterns.Rep
	in  chan *exchange
}

// exchange is a request that waits for its answer.
type exchange struct {
	m        *socket.Message
	answered chan answer // has room for one
}

type answer struct {
	body []byte
	err  error
}

var (
	_ protocol.Responder = (*Responder)(nil)
	_ protocol.Opener    = (*Responder)(nil)
)

// Rep answers the requests of a service, for OpenInbound to be called; the SDK's client calls it.
// The Rep stays the caller's, who closes it. patterns.Concurrency bounds the requests in hand.
func Rep(r *patterns.Rep) *Responder { return &Responder{rep: r, in: make(chan *exchange)} }

// OpenInbound takes requests until ctx ends, and returns nil then, or the Rep closes.
func (r *Responder) OpenInbound(ctx context.Context) error {
	if err := r.rep.ServeRequests(ctx, r.handle); ctx.Err() == nil {
		return err
	}
	return nil
}

// handle passes a request to Respond, and waits for what the function says that Respond returns.
func (r *Responder) handle(ctx context.Context, m *socket.Message) ([]byte, error) {
	x := &exchange{m: m, answered: make(chan answer, 1)}
	select {
	case r.in <- x:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case a := <-x.answered:
		return a.body, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Respond returns the next request, and the function to answer it with, which must be called. A
// result that is no ACK becomes the requester's *patterns.RemoteError; otherwise the answer is
// the event in JSON, or empty without one. Respond blocks until there is a request, and is io.EOF
// when ctx ends.
func (r *Responder) Respond(ctx context.Context) (binding.Message, protocol.ResponseFn, error) {
	select {
	case x := <-r.in:
		return NewMessage(x.m), x.respond, nil
	case <-ctx.Done():
		return nil, nil, io.EOF
	}
}

// respond answers; a second answer is without effect.
func (x *exchange) respond(ctx context.Context, m binding.Message, r protocol.Result, with ...binding.Transformer) error {
	a := answer{err: r}
	if protocol.IsACK(r) {
		a.body, a.err = encode(ctx, m, with)
	} else if m != nil {
		a.err = errors.Join(r, m.Finish(r))
	}
	select {
	case x.answered <- a:
	default:
	}
	return a.err
}

// encode makes a body of an answer.
func encode(ctx context.Context, m binding.Message, with []binding.Transformer) ([]byte, error) {
	if m == nil {
		return nil, nil
	}
	e, err := binding.ToEvent(ctx, m, with...)
	if err = errors.Join(err, m.Finish(err)); err != nil {
		return nil, fmt.Errorf("cloudevents: answer: %w", err)
	}
	return format.JSON.Marshal(e)
}
