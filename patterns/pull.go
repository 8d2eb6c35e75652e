package patterns

import (
	"context"
	"iter"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// Pull takes messages of a queue, each of which goes to one puller. Safe for
// concurrent use.
type Pull struct{ *receiver }

// NewPull makes a Pull; users get one from a node.
func NewPull(env Env, name string, opts ...Option) (*Pull, error) {
	r, err := newReceiver(env, wire.Pull, name, opts)
	if err != nil {
		return nil, err
	}
	return &Pull{r}, nil
}

// Recv returns the next message, which the caller must Ack or Nack. It blocks until
// there is one, ctx ends (then its cause is returned) or the socket closes.
func (p *Pull) Recv(ctx context.Context) (*socket.Message, error) { return p.recv(ctx) }

// Messages iterates over messages until ctx ends or the socket closes. The body of
// the loop must Ack or Nack each; what it leaves unanswered stays in hand and counts
// against Prefetch until the socket closes, and then goes elsewhere.
func (p *Pull) Messages(ctx context.Context) iter.Seq[*socket.Message] {
	return p.messages(ctx, func(*socket.Message) {})
}

// Handle runs handler for n messages at a time: nil is Ack, an error is Nack with
// the sender's back-off. It blocks until ctx ends or the socket closes and every
// handler has returned, and tells which. A handler's context ends when ctx does, when
// HandlerTimeout passes, or when the sender revokes the message.
func (p *Pull) Handle(ctx context.Context, n int, handler func(context.Context, *socket.Message) error) error {
	return p.handle(ctx, n, handler)
}
