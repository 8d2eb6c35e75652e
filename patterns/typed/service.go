package typed

import (
	"context"
	"errors"
	"fmt"

	"peermesh/internal/identity"
	"peermesh/patterns"
	"peermesh/socket"
)

// Req asks a service a question Q and gets an answer A.
type Req[Q, A any] struct {
	Socket   *patterns.Req
	Question Codec[Q] // nil: JSON
	Answer   Codec[A] // nil: JSON
}

// AnswerError is an answer that does not decode. The request was executed once, so the
// error matches a *patterns.RemoteError besides its cause.
type AnswerError struct {
	By  identity.ID // the replier's node
	Err error
}

func (e *AnswerError) Error() string { return fmt.Sprintf("typed: answer of %v: %v", e.By, e.Err) }

// Unwrap gives the cause, and what patterns.OutcomeOf should take the error for.
func (e *AnswerError) Unwrap() []error {
	return []error{e.Err, &patterns.RemoteError{By: e.By, Message: e.Err.Error()}}
}

// Request asks and waits for the answer; deadline and errors are those of
// patterns.Req.Request. A question that does not encode is patterns.ErrNotExecuted with
// the codec's error, an answer that does not decode an *AnswerError.
func (r Req[Q, A]) Request(ctx context.Context, question Q) (A, error) {
	return r.RequestMessage(ctx, question, socket.Message{})
}

// RequestMessage is Request with the headers or TTL of m, whose Body is ignored.
func (r Req[Q, A]) RequestMessage(ctx context.Context, question Q, m socket.Message) (answer A, err error) {
	var reply patterns.Reply
	asked := false
	err = withBody(r.Question, question, func(body []byte) error {
		asked = true
		m.Body = body
		reply, err = r.Socket.RequestMessage(ctx, &m)
		return err
	})
	switch {
	case err != nil && !asked:
		return answer, errors.Join(patterns.ErrNotExecuted, err)
	case err != nil:
		return answer, err
	}
	if answer, err = decode(r.Answer, reply.Body); err != nil {
		return answer, &AnswerError{reply.By, err}
	}
	return answer, nil
}

// Rep answers questions Q with answers A.
type Rep[Q, A any] struct {
	Socket   *patterns.Rep
	Question Codec[Q] // nil: JSON
	Answer   Codec[A] // nil: JSON
}

// ServeRequests runs handler for as many requests at a time as the socket's
// Concurrency says, and blocks like patterns.Rep.ServeRequests. The requester gets a
// *patterns.RemoteError for an error of the handler, for a question that does not
// decode, which handler never sees, and for an answer that does not encode.
func (r Rep[Q, A]) ServeRequests(ctx context.Context, handler func(context.Context, Message[Q]) (A, error)) error {
	return r.Socket.ServeRequests(ctx, func(ctx context.Context, m *socket.Message) ([]byte, error) {
		question, err := decode(r.Question, m.Body)
		if err != nil {
			return nil, err
		}
		answer, err := handler(ctx, Message[Q]{m, question})
		if err != nil {
			return nil, err
		}
		body, err := orJSON(r.Answer).Append(nil, answer)
		if err != nil {
			return nil, fmt.Errorf("typed: encode %T: %w", answer, err)
		}
		return body, nil
	})
}
