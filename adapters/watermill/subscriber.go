package watermill

import (
	"context"
	"errors"
	"sync"
	"time"

	"peermesh/patterns"
	"peermesh/socket"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Subscriber subscribes for a consumer group. Safe for concurrent use.
type Subscriber struct {
	mesh  *Mesh
	group string
	ctx   context.Context // ends with Close
	stop  context.CancelFunc

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // subscriptions
}

var _ message.Subscriber = (*Subscriber)(nil)

// Subscriber makes a Subscriber of a group; "" is DefaultGroup.
func (m *Mesh) Subscriber(group string) *Subscriber {
	if group == "" {
		group = DefaultGroup
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Subscriber{mesh: m, group: group, ctx: ctx, stop: stop}
}

// Subscribe returns a channel of messages, one at a time: the next one comes when the one
// before was acked, and a nacked one comes again. The channel is closed when ctx ends, the
// Subscriber closes or the node does; a message that is not answered by then comes again, here
// or elsewhere. The context of a message ends with its answer.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	of := membership{topic, s.group}
	sub, err := s.mesh.join(of)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(s.ctx, cancel)
	out := make(chan *message.Message)
	s.wg.Go(func() {
		defer close(out)
		defer s.mesh.leave(of)
		defer cancel()
		defer release()
		s.deliver(ctx, sub, out)
	})
	return out, nil
}

// deliver hands messages out until ctx ends or the socket closes.
func (s *Subscriber) deliver(ctx context.Context, sub *patterns.Sub, out chan<- *message.Message) {
	for {
		m, err := sub.Recv(ctx)
		if err != nil {
			return
		}
		// An answer to a socket that closed meanwhile has no effect: the message comes again.
		if s.handOut(ctx, m, out) {
			_ = m.Ack()
		} else {
			_ = m.NackAfter(errLeft, time.Millisecond)
		}
	}
}

var errLeft = errors.New("the subscription ended before the message was acked")

// handOut hands a message out until it is acked, and reports whether it was before ctx ended.
func (s *Subscriber) handOut(ctx context.Context, m *socket.Message, out chan<- *message.Message) bool {
	for {
		acked, answered := s.once(ctx, m, out)
		if acked || !answered {
			return acked
		}
		select {
		case <-time.After(s.mesh.cfg.ResendAfter):
		case <-ctx.Done():
			return false
		}
	}
}

// once hands a message out one time.
func (s *Subscriber) once(ctx context.Context, m *socket.Message, out chan<- *message.Message) (acked, answered bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	msg := message.NewMessage(m.Headers[headerUUID], append([]byte(nil), m.Body...))
	for k, v := range m.Headers {
		if k != headerUUID {
			msg.Metadata.Set(k, v)
		}
	}
	msg.SetContext(ctx)
	select {
	case out <- msg:
	case <-ctx.Done():
		return false, false
	}
	select {
	case <-msg.Acked():
		return true, true
	case <-msg.Nacked():
		return false, true
	case <-ctx.Done():
	}
	select {
	case <-msg.Acked(): // at the same time
		return true, true
	default:
		return false, false
	}
}

// Close ends all subscriptions and waits until their channels are closed. It may be called
// twice.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	return nil
}
