package tracing

import (
	"context"
	"errors"
	"fmt"
	"net"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// This file is all that names spans and attributes. It follows the semantic conventions for
// messaging spans (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/),
// version 1.43.0:
//
//	operation.name  operation.type  span kind  when
//	send, publish   send            producer   Send, Publish: until the message is as safe as its level says
//	request         send            client     Request: until it is answered
//	receive         receive         client     Receive: from the call until a message was there
//	process         process         consumer   the handler of a Pull or Sub
//	process         process         server     the handler of a Rep
//	ack, nack       settle          client     the answer to the sender
//
// Attributes that the conventions have no name for begin with "peermesh.".

const (
	schema = semconv.SchemaURL
	system = "peermesh"

	keyKind        = attribute.Key("peermesh.socket.kind")         // push, pull, pub, sub, req or rep
	keyTopic       = attribute.Key("peermesh.message.topic")       // pub, sub
	keyOrdering    = attribute.Key("peermesh.message.key")         // push, pull
	keyAttempt     = attribute.Key("peermesh.message.attempt")     // leases of the message, from 1
	keyRedelivered = attribute.Key("peermesh.message.redelivered") // an earlier delivery may have been begun
	keyOutcome     = attribute.Key("peermesh.request.outcome")     // ok, error, failed or indeterminate
	keyReplier     = attribute.Key("peermesh.request.by")          // the node that answered
)

// operation is what a span is of.
type operation struct {
	name  string // of the operation
	class attribute.KeyValue
	kind  trace.SpanKind

	socket named
	m      *socket.Message
	came   bool // m was received
}

// named is a socket, as far as spans tell of it.
type named interface {
	Kind() socket.Kind
	Name() string
}

func sending(name string, s named, m *socket.Message) operation {
	return operation{name: name, class: semconv.MessagingOperationTypeSend, kind: trace.SpanKindProducer, socket: s, m: m}
}

func requesting(s named, m *socket.Message) operation {
	return operation{name: "request", class: semconv.MessagingOperationTypeSend, kind: trace.SpanKindClient, socket: s, m: m}
}

func receiving(s named, m *socket.Message) operation {
	return operation{name: "receive", class: semconv.MessagingOperationTypeReceive, kind: trace.SpanKindClient, socket: s, m: m, came: true}
}

func processing(s named, m *socket.Message, kind trace.SpanKind) operation {
	return operation{name: "process", class: semconv.MessagingOperationTypeProcess, kind: kind, socket: s, m: m, came: true}
}

func settling(name string, s named, m *socket.Message) operation {
	return operation{name: name, class: semconv.MessagingOperationTypeSettle, kind: trace.SpanKindClient, socket: s, m: m, came: true}
}

func (o operation) spanName() string { return o.name + " " + o.socket.Name() }

func (o operation) attributes() []attribute.KeyValue {
	kvs := []attribute.KeyValue{
		semconv.MessagingSystemKey.String(system),
		semconv.MessagingOperationName(o.name),
		o.class,
		semconv.MessagingDestinationName(o.socket.Name()),
		semconv.MessagingMessageBodySize(len(o.m.Body)),
		keyKind.String(o.socket.Kind().String()),
	}
	if s, ok := o.socket.(interface{ Label() string }); ok && s.Label() != "" {
		kvs = append(kvs, semconv.MessagingDestinationSubscriptionName(s.Label()))
	}
	if o.m.Topic != "" {
		kvs = append(kvs, keyTopic.String(o.m.Topic))
	}
	if o.m.Key != "" {
		kvs = append(kvs, keyOrdering.String(o.m.Key))
	}
	if o.came {
		kvs = append(kvs, messageID(o.m.Stream(), o.m.Seq()), keyAttempt.Int64(int64(o.m.Attempt())), keyRedelivered.Bool(o.m.Redelivered()))
	}
	return kvs
}

// messageID is what Receipt.ID is.
func messageID(stream string, seq uint64) attribute.KeyValue {
	return semconv.MessagingMessageID(fmt.Sprintf("%s/%d", stream, seq))
}

func clientID(n *node.Node) attribute.KeyValue { return semconv.MessagingClientID(n.ID().String()) }

// fail says in a span why its operation failed; a nil error leaves it as it is.
func fail(s trace.Span, err error) {
	if err == nil {
		return
	}
	s.SetStatus(codes.Error, err.Error())
	s.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
}

// errorTypes names errors for error.type, which takes few values; the first that matches counts.
var errorTypes = []struct {
	err  error
	name string
}{
	{socket.ErrUnknown, "unknown"},
	{patterns.ErrIndeterminate, "indeterminate"},
	{patterns.ErrNotExecuted, "not-executed"},
	{socket.ErrHandlerTimeout, "timeout"},
	{socket.ErrRevoked, "revoked"},
	{socket.ErrQueueFull, "full"},
	{spool.ErrSpoolFull, "full"},
	{socket.ErrTooLarge, "too-large"},
	{socket.ErrStorage, "storage"},
	{socket.ErrNoDir, "no-dir"},
	{net.ErrClosed, "closed"},
	{context.DeadlineExceeded, "timeout"},
	{context.Canceled, "canceled"},
}

func errorType(err error) string {
	if remote := (*patterns.RemoteError)(nil); errors.As(err, &remote) {
		return "remote"
	}
	for _, t := range errorTypes {
		if errors.Is(err, t.err) {
			return t.name
		}
	}
	return semconv.ErrorTypeOther.Value.AsString()
}
