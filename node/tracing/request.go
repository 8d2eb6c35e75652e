package tracing

import (
	"context"

	"peermesh/patterns"
	"peermesh/socket"

	"go.opentelemetry.io/otel/trace"
)

// Req asks by a patterns.Req, traced. Its methods are those of the Req.
type Req struct {
	*patterns.Req
	t *Tracer
}

// Req traces what is asked by r, which stays the caller's.
func (t *Tracer) Req(r *patterns.Req) *Req { return &Req{r, t} }

// Request is patterns.Req.Request in a span.
func (r *Req) Request(ctx context.Context, body []byte) ([]byte, error) {
	reply, err := r.RequestMessage(ctx, &socket.Message{Body: body})
	return reply.Body, err
}

// RequestMessage is patterns.Req.RequestMessage in a span. m may be used again at once.
func (r *Req) RequestMessage(ctx context.Context, m *socket.Message) (patterns.Reply, error) {
	ctx, span := r.t.start(r.t.before(ctx, m), requesting(r.Req, m))
	defer span.End()
	reply, err := r.Req.RequestMessage(ctx, r.t.carry(ctx, m))
	span.SetAttributes(keyOutcome.String(patterns.OutcomeOf(err).String()))
	if err == nil {
		span.SetAttributes(keyReplier.String(reply.By.String()))
	}
	fail(span, err)
	return reply, err
}

// Reply makes a handler for patterns.Rep.ServeRequests that runs reply in a span below that of
// the request. An error of reply is the span's, too.
func (t *Tracer) Reply(r *patterns.Rep, reply patterns.ReplyFunc) patterns.ReplyFunc {
	return func(ctx context.Context, m *socket.Message) ([]byte, error) {
		ctx, span := t.process(ctx, processing(r, m, trace.SpanKindServer))
		defer span.End()
		body, err := reply(ctx, m)
		fail(span, err)
		return body, err
	}
}
