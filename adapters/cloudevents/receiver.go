package cloudevents

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"

	"peermesh/patterns"
	"peermesh/socket"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/protocol"
)

// Receiver receives events. Safe for concurrent use.
type Receiver struct {
	recv   func(context.Context) (*socket.Message, error)
	failed atomic.Bool
}

var _ protocol.Receiver = (*Receiver)(nil)

// Pull receives the events of a queue. The Pull stays the caller's, who closes it.
func Pull(p *patterns.Pull) *Receiver { return &Receiver{recv: p.Recv} }

// Sub receives the events of a channel. The Sub stays the caller's, who closes it.
func Sub(s *patterns.Sub) *Receiver { return &Receiver{recv: s.Recv} }

// Receive returns the next message, a *Message, which the caller must Finish. It blocks until
// there is one. When ctx ends or the socket closes it returns io.EOF; an error that will stay is
// returned once, and is io.EOF from then on, since the SDK's client asks again at once.
func (r *Receiver) Receive(ctx context.Context) (binding.Message, error) {
	m, err := r.recv(ctx)
	switch {
	case err == nil:
		return received(m), nil
	case ctx.Err() != nil, errors.Is(err, net.ErrClosed), r.failed.Swap(true):
		return nil, io.EOF
	}
	return nil, err
}
