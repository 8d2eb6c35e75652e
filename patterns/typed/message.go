package typed

import (
	"context"
	"iter"

	"peermesh/socket"
)

// Message is a received message and the value that its body stands for. It is answered
// like a plain one, with Ack or Nack.
type Message[T any] struct {
	*socket.Message
	Value T
}

// receiver is what Pull and Sub have in common.
type receiver[T any] struct {
	codec       Codec[T]
	undecodable func(*socket.Message, error)
}

// read decodes a message. One that does not decode was given back when it returns.
func (r receiver[T]) read(m *socket.Message) (Message[T], error) {
	v, err := decode(r.codec, m.Body)
	if err == nil {
		return Message[T]{m, v}, nil
	}
	_ = m.Nack(err) // closed meanwhile: the message goes elsewhere without our word
	if r.undecodable != nil {
		r.undecodable(m, err)
	}
	return Message[T]{}, err
}

// next receives until a message decodes.
func (r receiver[T]) next(ctx context.Context, recv func(context.Context) (*socket.Message, error)) (Message[T], error) {
	for {
		m, err := recv(ctx)
		if err != nil {
			return Message[T]{}, err
		}
		if t, err := r.read(m); err == nil {
			return t, nil
		}
	}
}

// each passes on what decodes.
func (r receiver[T]) each(plain iter.Seq[*socket.Message]) iter.Seq[Message[T]] {
	return func(yield func(Message[T]) bool) {
		for m := range plain {
			if t, err := r.read(m); err == nil && !yield(t) {
				return
			}
		}
	}
}

// handler decodes for a typed handler.
func (r receiver[T]) handler(handle func(context.Context, Message[T]) error) func(context.Context, *socket.Message) error {
	return func(ctx context.Context, m *socket.Message) error {
		t, err := r.read(m)
		if err != nil {
			return err
		}
		return handle(ctx, t)
	}
}
