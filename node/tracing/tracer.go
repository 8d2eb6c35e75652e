package tracing

import (
	"context"
	"maps"

	"peermesh/node"
	"peermesh/socket"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Config says how messages are traced. The zero value works.
type Config struct {
	// Propagator puts a trace into headers and reads it there. Default: W3C Trace Context,
	// without baggage.
	Propagator propagation.TextMapPropagator

	// Links makes processing begin where the handler's context is, in a trace of its own if that
	// has none, with a link to the message's trace; without it processing is a part of the
	// message's trace. It is for messages that are handled long after they were sent.
	Links bool
}

// Tracer makes spans for the sockets of a node. Safe for concurrent use.
type Tracer struct {
	cfg    Config
	tracer trace.Tracer
	client attribute.KeyValue
}

// New makes a Tracer. provider may be nil: then nothing is recorded.
func New(n *node.Node, provider trace.TracerProvider) *Tracer { return NewWith(n, provider, Config{}) }

// NewWith is New with a Config.
func NewWith(n *node.Node, provider trace.TracerProvider, cfg Config) *Tracer {
	if provider == nil {
		provider = noop.NewTracerProvider()
	}
	if cfg.Propagator == nil {
		cfg.Propagator = propagation.TraceContext{}
	}
	return &Tracer{cfg: cfg, client: clientID(n), tracer: provider.Tracer("peermesh/node/tracing", trace.WithSchemaURL(schema))}
}

// start starts a span.
func (t *Tracer) start(ctx context.Context, o operation, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	opts = append(opts, trace.WithSpanKind(o.kind), trace.WithAttributes(t.client), trace.WithAttributes(o.attributes()...))
	return t.tracer.Start(ctx, o.spanName(), opts...)
}

// carry returns m with the trace of ctx in its headers. It copies what it changes: the message is
// the caller's.
func (t *Tracer) carry(ctx context.Context, m *socket.Message) *socket.Message {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return m
	}
	out := *m
	out.Headers = maps.Clone(m.Headers)
	if out.Headers == nil {
		out.Headers = socket.Headers{}
	}
	t.cfg.Propagator.Inject(ctx, propagation.MapCarrier(out.Headers))
	return &out
}

// from returns ctx with the trace that a message brought, if it did.
func (t *Tracer) from(ctx context.Context, m *socket.Message) context.Context {
	return t.cfg.Propagator.Extract(ctx, propagation.MapCarrier(m.Headers))
}

// before is the context in which a message is sent: that of the caller, or, if that has no trace
// and the message does, say because it is passed on, of the message.
func (t *Tracer) before(ctx context.Context, m *socket.Message) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return t.from(ctx, m)
}
