// Package tracing makes OpenTelemetry spans of what sockets do: send, receive, process and settle.
// Traces cross the mesh in the headers traceparent and tracestate (W3C Trace Context).
//
//	t := tracing.New(n, provider)                    // a trace.TracerProvider, say of the OpenTelemetry SDK
//	err := t.Push(jobs).Send(ctx, body)              // "send jobs", below the span of ctx
//	work.Handle(ctx, 8, t.Process(work, handle))     // "process jobs" below that, and "ack jobs" or "nack jobs"
//	answer, err := t.Req(upper).Request(ctx, body)   // "request upper"
//	rep.ServeRequests(ctx, t.Reply(rep, reply))      // "process upper" below that
//
// Only what goes through a Tracer is traced, and costs something; sockets know nothing of it. A
// message that was sent untraced is processed in a trace of its own. Without a provider nothing is
// recorded, but the trace of a context still travels on.
//
//	node a                    node b                          node c
//	span of ctx
//	  request front  ------>    process front
//	                              request back  ------>         process back
//
// Names and attributes follow the semantic conventions for messaging, and stand in semconv.go
// alone. What is in a body is never recorded.
package tracing
