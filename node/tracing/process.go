package tracing

import (
	"context"
	"errors"
	"time"

	"peermesh/socket"

	"go.opentelemetry.io/otel/trace"
)

// Process makes a handler for Handle of a *patterns.Pull or *patterns.Sub, of, that runs handle in
// a span below that of the message, and answers: nil acks, an error nacks with the sender's
// back-off, each in a span of its own. What handle answers itself stays; the span says what it
// returned.
func (t *Tracer) Process(of Receiver, handle func(context.Context, *socket.Message) error) func(context.Context, *socket.Message) error {
	return func(ctx context.Context, m *socket.Message) error {
		ctx, span := t.process(ctx, processing(of, m, trace.SpanKindConsumer))
		defer span.End()
		err := handle(ctx, m)
		fail(span, err)
		// Handle answers once more, without effect.
		if err != nil {
			return errors.Join(err, t.settle(ctx, "nack", of, m, func() error { return m.Nack(err) }))
		}
		return t.settle(ctx, "ack", of, m, m.Ack)
	}
}

// process starts the span of a handler: below that of the message, or with a link to it.
func (t *Tracer) process(ctx context.Context, o operation) (context.Context, trace.Span) {
	sent := t.from(ctx, o.m)
	if !t.cfg.Links {
		return t.start(sent, o)
	}
	return t.start(ctx, o, links(sent)...)
}

// links is a link to the span of a context, if it has one.
func links(ctx context.Context) []trace.SpanStartOption {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	return []trace.SpanStartOption{trace.WithLinks(trace.LinkFromContext(ctx))}
}

// settle answers a message in a span.
func (t *Tracer) settle(ctx context.Context, name string, of named, m *socket.Message, answer func() error) error {
	_, span := t.start(ctx, settling(name, of, m))
	defer span.End()
	err := answer()
	fail(span, err)
	return err
}

// Receiver is a *patterns.Pull or *patterns.Sub.
type Receiver interface {
	named
	Label() string
	Recv(context.Context) (*socket.Message, error)
}

// Delivery is a message that is being processed, in a span that ends with its answer. One that is
// never answered is in no trace. Safe for concurrent use.
type Delivery struct {
	*socket.Message
	ctx  context.Context
	span trace.Span
	t    *Tracer
	of   Receiver
}

// Receive is of.Recv in a span, below that of ctx, with a link to that of the message. Waiting
// that ends without a message makes no span. The caller must answer the Delivery.
func (t *Tracer) Receive(ctx context.Context, of Receiver) (*Delivery, error) {
	began := time.Now()
	m, err := of.Recv(ctx)
	if err != nil {
		return nil, err
	}
	_, span := t.start(ctx, receiving(of, m), append(links(t.from(context.Background(), m)), trace.WithTimestamp(began))...)
	span.End()
	ctx, span = t.process(ctx, processing(of, m, trace.SpanKindConsumer))
	return &Delivery{Message: m, ctx: ctx, span: span, t: t, of: of}, nil
}

// Context is that of Receive with the span of the processing, for what the handler does.
func (d *Delivery) Context() context.Context { return d.ctx }

// Ack is socket.Message.Ack in a span, and ends the processing.
func (d *Delivery) Ack() error {
	defer d.span.End()
	return d.t.settle(d.ctx, "ack", d.of, d.Message, d.Message.Ack)
}

// Nack is socket.Message.Nack in a span, and ends the processing; cause is its error.
func (d *Delivery) Nack(cause error) error { return d.NackAfter(cause, 0) }

// NackAfter is socket.Message.NackAfter in a span, and ends the processing.
func (d *Delivery) NackAfter(cause error, delay time.Duration) error {
	defer d.span.End()
	fail(d.span, cause)
	return d.t.settle(d.ctx, "nack", d.of, d.Message, func() error { return d.Message.NackAfter(cause, delay) })
}
