package cloudevents

import (
	"context"
	"errors"

	"peermesh/patterns"
	"peermesh/socket"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/protocol"
)

// Sender sends events. Safe for concurrent use.
type Sender struct {
	send func(context.Context, *socket.Message) error
}

var _ protocol.Sender = (*Sender)(nil)

// Push sends events to a queue. The Push stays the caller's, who closes it when what it owes is
// settled.
func Push(p *patterns.Push) *Sender {
	return &Sender{send: func(ctx context.Context, m *socket.Message) error {
		_, key, err := about(ctx, m)
		if err != nil {
			return err
		}
		m.Key = key
		_, err = p.SendMessage(ctx, m)
		return err
	}}
}

// Pub publishes events to a channel, each under its type as topic. The Pub stays the caller's.
func Pub(p *patterns.Pub) *Sender {
	return &Sender{send: func(ctx context.Context, m *socket.Message) error {
		kind, _, err := about(ctx, m)
		if err != nil {
			return err
		}
		m.Topic = kind
		_, err = p.PublishMessage(ctx, m)
		return err
	}}
}

// Send sends an event, and finishes in. It blocks as the socket's own Send does, and returns nil
// when the event is as safe as the socket's level says; no error is a NACK, since nobody has been
// asked yet.
func (s *Sender) Send(ctx context.Context, in binding.Message, with ...binding.Transformer) error {
	m := new(socket.Message)
	err := WriteMessage(ctx, in, m, with...)
	if err == nil {
		err = s.send(ctx, m)
	}
	return errors.Join(err, in.Finish(err))
}
