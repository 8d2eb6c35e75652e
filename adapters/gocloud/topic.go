package gocloud

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"peermesh/patterns"
	"peermesh/socket"

	"gocloud.dev/gcerrors"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/batcher"
	"gocloud.dev/pubsub/driver"
)

// Matter is the mesh topic of messages that are published to a channel, unless BeforeSend sets
// another.
const Matter = "message"

// ID names a sent message for good, see socket.Message.Stream.
type ID struct {
	Stream string
	Seq    uint64
}

// sendBatches: what comes together shares its wait for the disk, and while one batch waits
// others may be on their way.
var sendBatches = batcher.Options{MaxBatchSize: 100, MaxHandlers: 10}

// PubTopic makes a topic of a channel. The Pub stays the caller's: Shutdown of the topic waits
// for the Sends under way and leaves the Pub open, since it may still owe messages.
//
// Topic.As takes a **patterns.Pub; Message.BeforeSend a **socket.Message, to set its Topic or
// TTL; AfterSend an *ID; ErrorAs an *error, the mesh's own. Messages that are sent at the same
// time may pass each other.
func PubTopic(p *patterns.Pub) *pubsub.Topic {
	return pubsub.NewTopic(pubTopic(p), &sendBatches)
}

func pubTopic(p *patterns.Pub) *topic {
	return &topic{
		stream: p.Stream(),
		send:   func(ctx context.Context, ms []*socket.Message) ([]uint64, error) { return publish(ctx, p, ms) },
		as:     func(target any) bool { return assign(target, p) },
	}
}

// PushTopic makes a topic of a queue, whose messages each go to one Pull. The Push stays the
// caller's, as the Pub of PubTopic does. As is as there, with a **patterns.Push; BeforeSend may
// set Key, TTL and Delay. Within one Sender's order messages keep theirs if each Send returns
// before the next begins.
func PushTopic(p *patterns.Push) *pubsub.Topic {
	return pubsub.NewTopic(pushTopic(p), &sendBatches)
}

func pushTopic(p *patterns.Push) *topic {
	return &topic{
		stream: p.Stream(),
		send:   p.SendBatch,
		as:     func(target any) bool { return assign(target, p) },
	}
}

// topic is a driver.Topic.
type topic struct {
	stream string
	send   func(context.Context, []*socket.Message) (seqs []uint64, err error)
	as     func(target any) bool
}

var _ driver.Topic = (*topic)(nil)

// SendBatch returns when all messages are as safe as the socket's level says. On an error some
// of them may have been sent.
func (t *topic) SendBatch(ctx context.Context, batch []*driver.Message) error {
	ms := make([]*socket.Message, len(batch))
	for i, dm := range batch {
		ms[i] = &socket.Message{Topic: Matter, Headers: dm.Metadata, Body: dm.Body}
		if dm.BeforeSend == nil {
			continue
		}
		if err := dm.BeforeSend(func(target any) bool { return assign(target, ms[i]) }); err != nil {
			return err
		}
	}
	seqs, err := t.send(ctx, ms)
	if err != nil {
		return err
	}
	for i, dm := range batch {
		if dm.AfterSend == nil {
			continue
		}
		if err := dm.AfterSend(func(target any) bool { return assignValue(target, ID{t.stream, seqs[i]}) }); err != nil {
			return err
		}
	}
	return nil
}

// publish publishes messages side by side, so that they share the wait for the disk.
func publish(ctx context.Context, p *patterns.Pub, ms []*socket.Message) ([]uint64, error) {
	seqs := make([]uint64, len(ms))
	errs := make([]error, len(ms))
	var wg sync.WaitGroup
	for i := range ms[1:] {
		wg.Go(func() { seqs[i+1], errs[i+1] = p.PublishMessage(ctx, ms[i+1]) })
	}
	seqs[0], errs[0] = p.PublishMessage(ctx, ms[0])
	wg.Wait()
	return seqs, errors.Join(errs...)
}

// IsRetryable is never true: what a socket refuses it would refuse again, and what has an
// unknown outcome might be sent twice.
func (t *topic) IsRetryable(error) bool { return false }

func (t *topic) As(target any) bool                     { return t.as(target) }
func (t *topic) ErrorAs(err error, target any) bool     { return assignValue(target, err) }
func (t *topic) ErrorCode(err error) gcerrors.ErrorCode { return code(err) }
func (t *topic) Close() error                           { return nil }

// assign sets the pointer that target points to, if it is of that type.
func assign[T any](target any, value *T) bool {
	p, ok := target.(**T)
	if ok {
		*p = value
	}
	return ok
}

// assignValue sets what target points to, if it is of that type.
func assignValue[T any](target any, value T) bool {
	p, ok := target.(*T)
	if ok {
		*p = value
	}
	return ok
}

func loggable(m *socket.Message) string { return fmt.Sprintf("%s/%d", m.Stream(), m.Seq()) }
