package main

// What is shown to OpenTelemetry: one trace across the mesh, and nothing done to the user's messages.
var tracing = []mutant{
	{"a message does not carry its trace", "tracing", "node/tracing/send.go",
		"	if seq, err = do(ctx, t.carry(ctx, m)); err == nil {\n", "	if seq, err = do(ctx, m); err == nil {\n", "node/tracing", "TestAMessageIsSentProcessedAndAckedInOneTrace"},
	{"a request does not carry its trace", "tracing", "node/tracing/request.go",
		"r.Req.RequestMessage(ctx, r.t.carry(ctx, m))", "r.Req.RequestMessage(ctx, m)", "node/tracing", "TestARequestAcrossThreeNodesIsOneTrace"},
	{"the caller's headers are changed", "tracing", "node/tracing/tracer.go",
		"	out.Headers = maps.Clone(m.Headers)\n", "	_ = maps.Clone(m.Headers)\n", "node/tracing", "TestAMessageIsSentProcessedAndAckedInOneTrace"},
	{"a failed handler's message is acked", "cause 12", "node/tracing/process.go",
		"return errors.Join(err, t.settle(ctx, \"nack\", of, m, func() error { return m.Nack(err) }))", "return errors.Join(err, t.settle(ctx, \"nack\", of, m, m.Ack))",
		"node/tracing", "TestAFailureIsInItsSpan"},
	{"a message that is passed on leaves its trace", "tracing", "node/tracing/tracer.go",
		"	return t.from(ctx, m)\n}", "	return ctx\n}", "node/tracing", "TestAMessageThatIsPassedOnStaysInItsTrace"},
}
