package patterns

import (
	"context"
	"errors"
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
// the requester gives up. An error becomes the requester's *RemoteError: the request was
// executed once. A handler that cannot tell, say because the program that it has handed the
// request to is lost, returns an error that matches ErrIndeterminate, and one that has
// done nothing and will not returns NotExecuted; the requester's error matches the same. Of any of
// them the text is all that travels; one that is longer than a message may be is replaced.
type ReplyFunc func(ctx context.Context, m *socket.Message) ([]byte, error)

// deadlineSlack lets the requester's clock decide first: what it calls indeterminate
// should not come back as an error of the handler a moment before.
const deadlineSlack = 10 * time.Millisecond

// ServeRequests runs handler for Concurrency requests at a time. It blocks until ctx
// ends or the socket closes and every handler has returned, and tells which. A
// request whose deadline has passed is discarded before it is begun. Where the handlers before were quick, a request
// may wait up to 200 us for one that is not, though there is room for both. One that may be
// executed only once (OnceDurable) is begun, and its reply sent, when that is on disk; if
// the disk fails nothing more is executed, and the error matches socket.ErrStorage.
func (r *Rep) ServeRequests(ctx context.Context, handler ReplyFunc) error {
	return workers(r.set.concurrency, func() error {
		return r.box.Requests(ctx, deadlineSlack, func(ctx context.Context, m *socket.Message) (socket.Outcome, []byte) {
			body, err := handler(ctx, m)
			if err != nil {
				return verdict(err), []byte(err.Error())
			}
			return wire.OK, body
		})
	})
}

// NotExecuted makes of a cause the error of a ReplyFunc for a request of which nothing was
// executed, nor will be: the requester's matches ErrNotExecuted, and it may ask again, here or
// elsewhere. To have the mesh do that, Release the message instead. ErrNotExecuted itself does not say so: in a handler that makes requests
// of its own it is the outcome of one of those.
func NotExecuted(cause error) error {
	if cause == nil {
		cause = ErrNotExecuted
	}
	return &notExecuted{cause}
}

type notExecuted struct{ cause error }

func (e *notExecuted) Error() string { return e.cause.Error() }

func (e *notExecuted) Unwrap() []error { return []error{ErrNotExecuted, e.cause} }

// verdict is what a handler's error says of its request. What says the least counts.
func verdict(err error) socket.Outcome {
	switch not := (*notExecuted)(nil); {
	case errors.Is(err, ErrIndeterminate):
		return wire.Indeterminate
	case errors.As(err, &not):
		return wire.Failed
	}
	return wire.Error
}
