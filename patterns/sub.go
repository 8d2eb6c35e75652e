package patterns

import (
	"context"
	"errors"
	"iter"

	"peermesh/internal/topic"
	"peermesh/internal/wire"
	"peermesh/socket"
)

// Sub gets the messages of a channel whose topics match its patterns, from every
// publisher of that name. Safe for concurrent use.
type Sub struct{ *receiver }

// NewSub makes a Sub; users get one from a node.
func NewSub(env Env, name string, opts ...Option) (*Sub, error) {
	r, err := newReceiver(env, wire.Sub, name, opts)
	if err != nil {
		return nil, err
	}
	return &Sub{r}, nil
}

func texts(patterns []topic.Pattern) (out []string) {
	for _, p := range patterns {
		out = append(out, p.String())
	}
	return out
}

// Recv returns the next message, which the caller must Ack. It blocks until there is
// one, ctx ends (then its cause is returned) or the socket closes.
func (s *Sub) Recv(ctx context.Context) (*socket.Message, error) { return s.recv(ctx) }

// Messages iterates over messages until ctx ends or the socket closes. A message the
// loop's body did not answer is acknowledged when the body is done with it.
func (s *Sub) Messages(ctx context.Context) iter.Seq[*socket.Message] {
	return s.messages(ctx, func(m *socket.Message) { _ = m.Ack() }) // closed: nobody waits for it
}

// Handle runs handler for n messages at a time: nil is Ack, an error is Nack. With n
// over 1 messages are begun in order but may overtake each other. See Pull.Handle.
func (s *Sub) Handle(ctx context.Context, n int, handler func(context.Context, *socket.Message) error) error {
	return s.handle(ctx, n, handler)
}

// Subscribe replaces the patterns, see Topics. Each publisher changes over at some
// message of its own, never backwards: what it had queued for this Sub still comes.
func (s *Sub) Subscribe(patterns ...string) error {
	if len(patterns) > wire.MaxPatterns {
		return errors.New("patterns: too many topics for one subscription")
	}
	parsed, err := topic.ParseAll(patterns)
	if err != nil {
		return err
	}
	s.box.Subscribe(texts(parsed))
	return nil
}

// Unsubscribe ends a durable subscription for good, and the socket: every publisher that is
// attached forgets it, and what it is owed is dropped (gone), unless other nodes share it.
// It waits until that is on the publishers' disks, or ctx ends; either way the socket is
// closed then. A publisher that cannot be reached now keeps the subscription until somebody
// unsubscribes there.
func (s *Sub) Unsubscribe(ctx context.Context) error {
	if s.set.durable == "" {
		return errors.New("patterns: only a subscription with DurableName can be unsubscribed")
	}
	err := s.box.Unsubscribe(ctx)
	return errors.Join(err, s.Close())
}
