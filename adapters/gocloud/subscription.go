package gocloud

import (
	"context"
	"errors"
	"net"
	"time"

	"peermesh/patterns"
	"peermesh/socket"

	"gocloud.dev/gcerrors"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/batcher"
	"gocloud.dev/pubsub/driver"
)

const (
	// receiveWait is how long ReceiveBatch waits for a first message; the Go CDK asks for a
	// second at most.
	receiveWait = time.Second
	// closeWait bounds how long Close waits until the acks are read by their senders; it uses
	// it up when messages are left unanswered.
	closeWait = 2 * time.Second
)

// errCloseWait is the cause of the context that ends Close.
var errCloseWait = errors.New("gocloud: messages were left unanswered")

// answers do not block, so they need no company and no second handler.
var (
	receiveBatches = batcher.Options{MaxBatchSize: 100, MaxHandlers: 1}
	answerBatches  = batcher.Options{MaxBatchSize: 1000, MaxHandlers: 1}
)

// SubSubscription makes a subscription of a Sub, and owns it: Shutdown closes it, or its part of
// the messages would wait there unread. What was received and not answered by then is delivered
// again to others of its DurableName, or later; acks that were made are told first, for two
// seconds at most.
//
// Subscription.As takes a **patterns.Sub; Message.As a **socket.Message; ErrorAs an *error.
func SubSubscription(s *patterns.Sub) *pubsub.Subscription {
	return pubsub.NewSubscription(subSubscription(s), &receiveBatches, &answerBatches)
}

func subSubscription(s *patterns.Sub) *subscription {
	return &subscription{from: s, as: func(target any) bool { return assign(target, s) }}
}

// PullSubscription makes a subscription of a Pull, and owns it, as SubSubscription does.
// Subscription.As takes a **patterns.Pull.
func PullSubscription(p *patterns.Pull) *pubsub.Subscription {
	return pubsub.NewSubscription(pullSubscription(p), &receiveBatches, &answerBatches)
}

func pullSubscription(p *patterns.Pull) *subscription {
	return &subscription{from: p, as: func(target any) bool { return assign(target, p) }}
}

// subscription is a driver.Subscription. An AckID is the *socket.Message itself.
type subscription struct {
	from interface {
		Recv(context.Context) (*socket.Message, error)
		Shutdown(context.Context) error
	}
	as func(target any) bool
}

var _ driver.Subscription = (*subscription)(nil)

// ReceiveBatch waits for one message, and takes what else is there.
func (s *subscription) ReceiveBatch(ctx context.Context, most int) ([]*driver.Message, error) {
	first, cancel := context.WithTimeout(ctx, receiveWait)
	defer cancel()
	m, err := s.from.Recv(first)
	switch {
	case ctx.Err() == nil && first.Err() != nil && m == nil:
		return nil, nil // none came
	case err != nil:
		return nil, err
	}
	batch := []*driver.Message{received(m)}
	cancel() // from now on Recv takes what is there and does not wait
	for len(batch) < most {
		m, err := s.from.Recv(first)
		if err != nil {
			break // the next call tells, if it was more than that nothing is there
		}
		batch = append(batch, received(m))
	}
	return batch, nil
}

func received(m *socket.Message) *driver.Message {
	return &driver.Message{
		LoggableID: loggable(m),
		Body:       m.Body,
		Metadata:   m.Headers,
		AckID:      m,
		AsFunc:     func(target any) bool { return assign(target, m) },
	}
}

// SendAcks acks messages. It does not wait until their senders know: of those whose ack does not
// get there the messages come again.
func (s *subscription) SendAcks(_ context.Context, ids []driver.AckID) error {
	return answer(ids, (*socket.Message).Ack)
}

func (s *subscription) CanNack() bool { return true }

// errNack is the cause of a Nack, which in the Go CDK has none.
var errNack = errors.New("nack")

// SendNacks gives messages back: they come again, here or elsewhere, after the sender's back-off.
func (s *subscription) SendNacks(_ context.Context, ids []driver.AckID) error {
	return answer(ids, func(m *socket.Message) error { return m.Nack(errNack) })
}

func answer(ids []driver.AckID, with func(*socket.Message) error) error {
	var first error
	for _, id := range ids {
		if err := with(id.(*socket.Message)); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// IsRetryable is never true: Recv goes on by itself while its node does.
func (s *subscription) IsRetryable(error) bool { return false }

func (s *subscription) As(target any) bool                     { return s.as(target) }
func (s *subscription) ErrorAs(err error, target any) bool     { return assignValue(target, err) }
func (s *subscription) ErrorCode(err error) gcerrors.ErrorCode { return code(err) }

// Close closes the socket. That messages were left unanswered is the user's choice and no error.
func (s *subscription) Close() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), closeWait, errCloseWait)
	defer cancel()
	err := s.from.Shutdown(ctx)
	if errors.Is(err, errCloseWait) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
