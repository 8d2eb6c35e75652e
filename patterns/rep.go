package patterns

import (
	"context"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// Rep answers requests to a service. Several repliers of one name share them. Safe
// for concurrent use.
type Rep struct{ *receiver }

// NewRep makes a Rep; users get one from a node.
func NewRep(env Env, name string, opts ...Option) (*Rep, error) {
	r, err := newReceiver(env, wire.Rep, name, opts)
	if err != nil {
		return nil, err
	}
	return &Rep{r}, nil
}

// ReplyFunc answers a request. Its context ends at the request's deadline and when
// the requester gives up. An error becomes the requester's *RemoteError; its text,
// cut to the message limit, is all that travels.
type ReplyFunc func(ctx context.Context, m *socket.Message) ([]byte, error)

// deadlineSlack lets the requester's clock decide first: what it calls indeterminate
// should not come back as an error of the handler a moment before.
const deadlineSlack = 10 * time.Millisecond

// ServeRequests runs handler for Concurrency requests at a time. It blocks until ctx
// ends or the socket closes and every handler has returned, and tells which. A
// request whose deadline has passed is discarded before it is begun. One that may be
// executed only once (OnceDurable) is begun, and its reply sent, when that is on disk; if
// the disk fails nothing more is executed, and the error matches socket.ErrStorage.
func (r *Rep) ServeRequests(ctx context.Context, handler ReplyFunc) error {
	return workers(r.set.concurrency, func() error {
		return r.box.Requests(ctx, deadlineSlack, func(ctx context.Context, m *socket.Message) (socket.Outcome, []byte) {
			body, err := handler(ctx, m)
			if err != nil {
				return wire.Error, []byte(err.Error())
			}
			return wire.OK, body
		})
	})
}
