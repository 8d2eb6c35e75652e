package typed

import (
	"context"
	"iter"

	"peermesh/patterns"
	"peermesh/socket"
)

// Pub publishes values of T on a channel.
type Pub[T any] struct {
	Socket *patterns.Pub
	Codec  Codec[T] // nil: JSON
}

// Publish takes responsibility for v as patterns.Pub.Publish does for a body. A value
// that does not encode is the codec's error, and nothing was accepted.
func (p Pub[T]) Publish(ctx context.Context, topic string, v T) error {
	_, err := p.PublishMessage(ctx, v, socket.Message{Topic: topic})
	return err
}

// PublishMessage is Publish with the topic, headers or TTL of m, whose Body is
// ignored; it returns the message's seq.
func (p Pub[T]) PublishMessage(ctx context.Context, v T, m socket.Message) (seq uint64, err error) {
	err = withBody(p.Codec, v, func(body []byte) error {
		m.Body = body
		seq, err = p.Socket.PublishMessage(ctx, &m)
		return err
	})
	return seq, err
}

// Sub gets values of T from a channel.
type Sub[T any] struct {
	Socket *patterns.Sub
	Codec  Codec[T] // nil: JSON

	// Undecodable is told of messages that were given back because they do not decode.
	// Nil: only their publisher is.
	Undecodable func(m *socket.Message, err error)
}

func (s Sub[T]) receiver() receiver[T] { return receiver[T]{s.Codec, s.Undecodable} }

// Recv returns the next message that decodes, which the caller must Ack. It blocks
// until there is one, ctx ends (then its cause is returned) or the socket closes.
func (s Sub[T]) Recv(ctx context.Context) (Message[T], error) {
	return s.receiver().next(ctx, s.Socket.Recv)
}

// Messages iterates over what decodes until ctx ends or the socket closes. A message
// the loop's body did not answer is acknowledged when the body is done with it.
func (s Sub[T]) Messages(ctx context.Context) iter.Seq[Message[T]] {
	return s.receiver().each(s.Socket.Messages(ctx))
}

// Handle runs handler for n messages at a time: nil is Ack, an error is Nack. It
// blocks like patterns.Sub.Handle.
func (s Sub[T]) Handle(ctx context.Context, n int, handler func(context.Context, Message[T]) error) error {
	return s.Socket.Handle(ctx, n, s.receiver().handler(handler))
}
