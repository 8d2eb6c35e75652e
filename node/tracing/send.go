package tracing

import (
	"context"
	"errors"

	"peermesh/patterns"
	"peermesh/socket"
)

// Push sends by a patterns.Push, traced. Its methods are those of the Push.
type Push struct {
	*patterns.Push
	t *Tracer
}

// Push traces what is sent by p, which stays the caller's.
func (t *Tracer) Push(p *patterns.Push) *Push { return &Push{p, t} }

// Send is patterns.Push.Send in a span.
func (p *Push) Send(ctx context.Context, body []byte) error {
	_, err := p.SendMessage(ctx, &socket.Message{Body: body})
	return err
}

// SendMessage is patterns.Push.SendMessage in a span. m may be used again at once.
func (p *Push) SendMessage(ctx context.Context, m *socket.Message) (seq uint64, err error) {
	return p.t.send(ctx, "send", p.Push, m, p.Push.SendMessage)
}

// Post is patterns.Push.Post in a span, which ends when Post returns.
func (p *Push) Post(ctx context.Context, m *socket.Message) (r *patterns.Receipt, err error) {
	_, err = p.t.send(ctx, "send", p.Push, m, func(ctx context.Context, m *socket.Message) (uint64, error) {
		if r, err = p.Push.Post(ctx, m); err != nil {
			return 0, err
		}
		return r.Seq, nil
	})
	return r, err
}

// SendBatch is patterns.Push.SendBatch, each message in a span of its own that ends with the
// batch.
func (p *Push) SendBatch(ctx context.Context, ms []*socket.Message) (seqs []uint64, err error) {
	return p.t.batch(ctx, p.Push, ms, p.Push.SendBatch)
}

// PostBatch is patterns.Push.PostBatch, each message in a span of its own that ends with the
// batch.
func (p *Push) PostBatch(ctx context.Context, ms []*socket.Message) (seqs []uint64, err error) {
	return p.t.batch(ctx, p.Push, ms, p.Push.PostBatch)
}

// Pub publishes by a patterns.Pub, traced. Its methods are those of the Pub.
type Pub struct {
	*patterns.Pub
	t *Tracer
}

// Pub traces what is published by p, which stays the caller's.
func (t *Tracer) Pub(p *patterns.Pub) *Pub { return &Pub{p, t} }

// Publish is patterns.Pub.Publish in a span.
func (p *Pub) Publish(ctx context.Context, topic string, body []byte) error {
	_, err := p.PublishMessage(ctx, &socket.Message{Topic: topic, Body: body})
	return err
}

// PublishMessage is patterns.Pub.PublishMessage in a span. m may be used again at once.
func (p *Pub) PublishMessage(ctx context.Context, m *socket.Message) (seq uint64, err error) {
	return p.t.send(ctx, "publish", p.Pub, m, p.Pub.PublishMessage)
}

// PublishRetained is patterns.Pub.PublishRetained in a span.
func (p *Pub) PublishRetained(ctx context.Context, m *socket.Message) (seq uint64, err error) {
	return p.t.send(ctx, "publish", p.Pub, m, p.Pub.PublishRetained)
}

// streamed is a socket that sends.
type streamed interface {
	named
	Stream() string
}

// send sends m with do in a span.
func (t *Tracer) send(ctx context.Context, name string, s streamed, m *socket.Message,
	do func(context.Context, *socket.Message) (uint64, error)) (seq uint64, err error) {
	ctx, span := t.start(t.before(ctx, m), sending(name, s, m))
	defer span.End()
	if seq, err = do(ctx, t.carry(ctx, m)); err == nil {
		span.SetAttributes(messageID(s.Stream(), seq))
	}
	fail(span, err)
	return seq, err
}

// batch sends ms in a span each.
func (t *Tracer) batch(ctx context.Context, p *patterns.Push, ms []*socket.Message,
	send func(context.Context, []*socket.Message) ([]uint64, error),
) ([]uint64, error) {
	carrying := make([]*socket.Message, len(ms))
	ends := make([]func(seqs []uint64, err error), len(ms))
	for i, m := range ms {
		one, span := t.start(t.before(ctx, m), sending("send", p, m))
		carrying[i] = t.carry(one, m)
		ends[i] = func(seqs []uint64, err error) {
			defer span.End()
			if i < len(seqs) {
				span.SetAttributes(messageID(p.Stream(), seqs[i]))
				if !errors.Is(err, socket.ErrUnknown) {
					return
				}
			}
			fail(span, err)
		}
	}
	seqs, err := send(ctx, carrying)
	for _, end := range ends {
		end(seqs, err)
	}
	return seqs, err
}
