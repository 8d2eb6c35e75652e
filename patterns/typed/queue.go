package typed

import (
	"context"
	"iter"

	"peermesh/patterns"
	"peermesh/socket"
)

// Push sends values of T to a queue.
type Push[T any] struct {
	Socket *patterns.Push
	Codec  Codec[T] // nil: JSON
}

// Send takes responsibility for v as patterns.Push.Send does for a body: it blocks
// while the queue is full, until ctx ends. A value that does not encode is the codec's
// error, and nothing was accepted.
func (p Push[T]) Send(ctx context.Context, v T) error {
	_, err := p.SendMessage(ctx, v, socket.Message{})
	return err
}

// SendMessage is Send with the headers, key or TTL of m, whose Body is ignored; it
// returns the message's seq.
func (p Push[T]) SendMessage(ctx context.Context, v T, m socket.Message) (seq uint64, err error) {
	err = withBody(p.Codec, v, func(body []byte) error {
		m.Body = body
		seq, err = p.Socket.SendMessage(ctx, &m)
		return err
	})
	return seq, err
}

// Post is SendMessage with a receipt that tells what becomes of the message.
func (p Push[T]) Post(ctx context.Context, v T, m socket.Message) (r *patterns.Receipt, err error) {
	err = withBody(p.Codec, v, func(body []byte) error {
		m.Body = body
		r, err = p.Socket.Post(ctx, &m)
		return err
	})
	return r, err
}

// Pull takes values of T from a queue.
type Pull[T any] struct {
	Socket *patterns.Pull
	Codec  Codec[T] // nil: JSON

	// Undecodable is told of messages that were given back because they do not decode.
	// Nil: only their sender is.
	Undecodable func(m *socket.Message, err error)
}

func (p Pull[T]) receiver() receiver[T] { return receiver[T]{p.Codec, p.Undecodable} }

// Recv returns the next message that decodes, which the caller must Ack or Nack. It
// blocks until there is one, ctx ends (then its cause is returned) or the socket
// closes.
func (p Pull[T]) Recv(ctx context.Context) (Message[T], error) {
	return p.receiver().next(ctx, p.Socket.Recv)
}

// Messages iterates over what decodes until ctx ends or the socket closes. The body of
// the loop must Ack or Nack each, see patterns.Pull.Messages.
func (p Pull[T]) Messages(ctx context.Context) iter.Seq[Message[T]] {
	return p.receiver().each(p.Socket.Messages(ctx))
}

// Handle runs handler for n messages at a time: nil is Ack, an error is Nack. It
// blocks like patterns.Pull.Handle.
func (p Pull[T]) Handle(ctx context.Context, n int, handler func(context.Context, Message[T]) error) error {
	return p.Socket.Handle(ctx, n, p.receiver().handler(handler))
}
