package tracing

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// traced is a node and what it records.
type traced struct {
	*node.Node
	*Tracer
	spans    *tracetest.SpanRecorder
	provider trace.TracerProvider
}

func openTraced(t *testing.T, cfg Config, peers ...*traced) *traced {
	t.Helper()
	home := t.TempDir()
	if len(peers) == 0 {
		for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "AppData"} {
			t.Setenv(name, home)
		}
	}
	c := node.Config{Name: "test", Listen: "127.0.0.1:0", NoMDNS: true}
	for _, p := range peers {
		c.Peers = append(c.Peers, p.Addr().String())
	}
	n, err := node.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	spans := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
	return &traced{n, NewWith(n, provider, cfg), spans, provider}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// root starts a span of the test's own.
func (n *traced) root(t *testing.T) (context.Context, trace.Span) {
	return n.provider.Tracer("test").Start(within(t), "root")
}

// span waits for the one ended span of that name.
func (n *traced) span(t *testing.T, name string) sdk.ReadOnlySpan {
	t.Helper()
	ctx := within(t)
	for {
		for _, s := range n.spans.Ended() {
			if s.Name() == name {
				return s
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no span %q", name)
		case <-time.After(time.Millisecond): // the recorder has no event to wait for
		}
	}
}

// wantBelow checks that spans are a chain of one trace, each the parent of the next.
func wantBelow(t *testing.T, chain ...sdk.ReadOnlySpan) {
	t.Helper()
	for i, s := range chain[1:] {
		above := chain[i].SpanContext()
		if s.SpanContext().TraceID() != above.TraceID() {
			t.Errorf("%q is in trace %v, %q above it in %v", s.Name(), s.SpanContext().TraceID(), chain[i].Name(), above.TraceID())
		}
		if s.Parent().SpanID() != above.SpanID() {
			t.Errorf("the parent of %q is %v, not %q", s.Name(), s.Parent().SpanID(), chain[i].Name())
		}
	}
}

func values(s sdk.ReadOnlySpan) map[attribute.Key]any {
	out := map[attribute.Key]any{}
	for _, kv := range s.Attributes() {
		out[kv.Key] = kv.Value.AsInterface()
	}
	return out
}

func wantValues(t *testing.T, s sdk.ReadOnlySpan, want map[attribute.Key]any) {
	t.Helper()
	got := values(s)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %s is %v, want %v", s.Name(), k, got[k], v)
		}
	}
}

func TestARequestAcrossThreeNodesIsOneTrace(t *testing.T) {
	a := openTraced(t, Config{})
	b := openTraced(t, Config{}, a)
	c := openTraced(t, Config{}, a)

	back := must[*patterns.Rep](t)(c.Rep("back"))
	ctx := within(t)
	go back.ServeRequests(ctx, c.Reply(back, func(_ context.Context, m *socket.Message) ([]byte, error) {
		return append([]byte("back of "), m.Body...), nil
	}))
	front := must[*patterns.Rep](t)(b.Rep("front"))
	behind := b.Tracer.Req(must[*patterns.Req](t)(b.Node.Req("back")))
	go front.ServeRequests(ctx, b.Reply(front, func(ctx context.Context, m *socket.Message) ([]byte, error) {
		return behind.Request(ctx, m.Body)
	}))

	req := a.Tracer.Req(must[*patterns.Req](t)(a.Node.Req("front")))
	rootCtx, root := a.root(t)
	if got := must[[]byte](t)(req.Request(rootCtx, []byte("it"))); string(got) != "back of it" {
		t.Fatalf("got %q", got)
	}
	root.End()

	asked, served := a.span(t, "request front"), b.span(t, "process front")
	askedOn, servedOn := b.span(t, "request back"), c.span(t, "process back")
	wantBelow(t, a.span(t, "root"), asked, served, askedOn, servedOn)
	for s, kind := range map[sdk.ReadOnlySpan]trace.SpanKind{
		asked: trace.SpanKindClient, served: trace.SpanKindServer, askedOn: trace.SpanKindClient, servedOn: trace.SpanKindServer,
	} {
		if s.SpanKind() != kind {
			t.Errorf("%s: kind %v, want %v", s.Name(), s.SpanKind(), kind)
		}
	}
	if !served.Parent().IsRemote() || askedOn.Parent().IsRemote() {
		t.Error("which parents are remote is wrong")
	}
	wantValues(t, asked, map[attribute.Key]any{
		"messaging.system": "peermesh", "messaging.operation.name": "request", "messaging.operation.type": "send",
		"messaging.destination.name": "front", "messaging.client.id": a.ID().String(), "messaging.message.body.size": int64(2),
		"peermesh.socket.kind": "req", "peermesh.request.outcome": "ok", "peermesh.request.by": b.ID().String(),
	})
	wantValues(t, servedOn, map[attribute.Key]any{
		"messaging.operation.name": "process", "messaging.operation.type": "process", "messaging.client.id": c.ID().String(),
		"peermesh.socket.kind": "rep", "peermesh.message.attempt": int64(1), "peermesh.message.redelivered": false,
	})
}

func TestAMessageIsSentProcessedAndAckedInOneTrace(t *testing.T) {
	a := openTraced(t, Config{})
	b := openTraced(t, Config{}, a)
	push := a.Tracer.Push(must[*patterns.Push](t)(a.Node.Push("jobs")))
	pull := must[*patterns.Pull](t)(b.Pull("jobs"))
	rootCtx, root := a.root(t)
	own := socket.Headers{"mine": "1"}
	receipt := must[*patterns.Receipt](t)(push.Post(rootCtx, &socket.Message{Body: []byte("body"), Key: "key", Headers: own}))
	root.End()
	if len(own) != 1 {
		t.Errorf("the caller's headers were changed: %v", own)
	}

	ctx, stop := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() {
		ended <- pull.Handle(ctx, 1, b.Process(pull, func(ctx context.Context, m *socket.Message) error {
			if m.Headers["mine"] != "1" || len(m.Headers) != 2 {
				t.Errorf("got headers %v", m.Headers)
			}
			_, inner := b.provider.Tracer("test").Start(ctx, "inner")
			inner.End()
			return nil
		}))
	}()
	if got := must[patterns.Settled](t)(receipt.Wait(within(t))); got.State != "done" {
		t.Errorf("got %+v", got)
	}
	sent, processed := a.span(t, "send jobs"), b.span(t, "process jobs")
	stop()
	<-ended
	wantBelow(t, a.span(t, "root"), sent, processed, b.span(t, "ack jobs"))
	wantBelow(t, processed, b.span(t, "inner"))
	wantValues(t, sent, map[attribute.Key]any{
		"messaging.message.id": receipt.ID(), "messaging.operation.type": "send", "peermesh.message.key": "key", "peermesh.socket.kind": "push",
	})
	wantValues(t, processed, map[attribute.Key]any{"messaging.message.id": receipt.ID(), "peermesh.socket.kind": "pull"})
	wantValues(t, b.span(t, "ack jobs"), map[attribute.Key]any{"messaging.operation.type": "settle", "messaging.message.id": receipt.ID()})
	if sent.SpanKind() != trace.SpanKindProducer || processed.SpanKind() != trace.SpanKindConsumer {
		t.Errorf("got kinds %v and %v", sent.SpanKind(), processed.SpanKind())
	}
}

func TestAFailureIsInItsSpan(t *testing.T) {
	n := openTraced(t, Config{})
	push := n.Tracer.Push(must[*patterns.Push](t)(n.Node.Push("jobs", patterns.MaxDeliver(1))))
	pull := must[*patterns.Pull](t)(n.Pull("jobs"))
	receipt := must[*patterns.Receipt](t)(push.Post(within(t), &socket.Message{}))
	ctx, stop := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() {
		ended <- pull.Handle(ctx, 1, n.Process(pull, func(context.Context, *socket.Message) error { return errors.New("bad lamp") }))
	}()
	if got := must[patterns.Settled](t)(receipt.Wait(within(t))); got.State != "dead" || got.Text != "bad lamp" {
		t.Errorf("got %+v", got)
	}
	s := n.span(t, "process jobs")
	stop()
	<-ended
	if s.Status().Code != codes.Error || s.Status().Description != "bad lamp" {
		t.Errorf("got status %+v", s.Status())
	}
	wantValues(t, s, map[attribute.Key]any{"error.type": "_OTHER"})
	wantBelow(t, s, n.span(t, "nack jobs"))

	if err := push.Close(); err != nil {
		t.Fatal(err)
	}
	n.spans.Reset()
	if err := push.Send(within(t), nil); !errors.Is(err, socket.ErrClosed) {
		t.Errorf("got %v", err)
	}
	wantValues(t, n.span(t, "send jobs"), map[attribute.Key]any{"error.type": "closed", "messaging.message.id": nil})
}

func TestARemoteErrorIsTheRequestsAndTheHandlers(t *testing.T) {
	n := openTraced(t, Config{})
	rep := must[*patterns.Rep](t)(n.Rep("upper"))
	go rep.ServeRequests(within(t), n.Reply(rep, func(context.Context, *socket.Message) ([]byte, error) { return nil, errors.New("no") }))
	req := n.Tracer.Req(must[*patterns.Req](t)(n.Node.Req("upper")))
	if _, err := req.Request(within(t), nil); err == nil {
		t.Fatal("answered")
	}
	wantValues(t, n.span(t, "request upper"), map[attribute.Key]any{"error.type": "remote", "peermesh.request.outcome": "error"})
	wantValues(t, n.span(t, "process upper"), map[attribute.Key]any{"error.type": "_OTHER"})
}

func TestAReceivedMessageIsLinkedAndProcessedUntilItIsAnswered(t *testing.T) {
	a := openTraced(t, Config{})
	b := openTraced(t, Config{}, a)
	pub := a.Tracer.Pub(must[*patterns.Pub](t)(a.Node.Pub("news")))
	sub := must[*patterns.Sub](t)(b.Sub("news"))
	if err := pub.WaitReady(within(t), 1); err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish(within(t), "topic", nil); err != nil {
		t.Fatal(err)
	}
	rootCtx, root := b.root(t)
	d := must[*Delivery](t)(b.Receive(rootCtx, sub))
	root.End()
	if len(b.spans.Ended()) != 2 {
		t.Errorf("%d spans have ended before the answer, want that of Receive and of the test", len(b.spans.Ended()))
	}
	if trace.SpanContextFromContext(d.Context()).TraceID() != a.span(t, "publish news").SpanContext().TraceID() {
		t.Error("the context of the delivery is in another trace")
	}
	if err := d.Nack(errors.New("later")); err != nil {
		t.Fatal(err)
	}
	published, received, processed := a.span(t, "publish news"), b.span(t, "receive news"), b.span(t, "process news")
	wantBelow(t, b.span(t, "root"), received)
	wantBelow(t, published, processed, b.span(t, "nack news"))
	if l := received.Links(); len(l) != 1 || l[0].SpanContext.SpanID() != published.SpanContext().SpanID() {
		t.Errorf("got links %v", l)
	}
	wantValues(t, received, map[attribute.Key]any{"messaging.operation.type": "receive", "peermesh.message.topic": "topic"})
	if processed.Status().Description != "later" {
		t.Errorf("got status %+v", processed.Status())
	}
	d = must[*Delivery](t)(b.Receive(within(t), sub)) // it comes again
	b.spans.Reset()
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
	wantValues(t, b.span(t, "process news"), map[attribute.Key]any{"peermesh.message.attempt": int64(2), "peermesh.message.redelivered": true})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.spans.Reset()
	if _, err := b.Receive(ctx, sub); !errors.Is(err, context.Canceled) || len(b.spans.Ended()) != 0 {
		t.Errorf("got %v and %d spans, want none of waiting alone", err, len(b.spans.Ended()))
	}
}

func TestWithLinksProcessingIsATraceOfItsOwn(t *testing.T) {
	n := openTraced(t, Config{Links: true})
	push := n.Tracer.Push(must[*patterns.Push](t)(n.Node.Push("jobs")))
	pull := must[*patterns.Pull](t)(n.Pull("jobs"))
	if err := push.Send(within(t), nil); err != nil {
		t.Fatal(err)
	}
	m := must[*socket.Message](t)(pull.Recv(within(t)))
	if err := n.Process(pull, func(context.Context, *socket.Message) error { return nil })(within(t), m); err != nil {
		t.Fatal(err)
	}
	sent, processed := n.span(t, "send jobs"), n.span(t, "process jobs")
	if processed.SpanContext().TraceID() == sent.SpanContext().TraceID() {
		t.Error("it is in the message's trace")
	}
	if l := processed.Links(); len(l) != 1 || l[0].SpanContext.SpanID() != sent.SpanContext().SpanID() {
		t.Errorf("got links %v", l)
	}
}

func TestAMessageThatIsPassedOnStaysInItsTrace(t *testing.T) {
	n := openTraced(t, Config{})
	push := n.Tracer.Push(must[*patterns.Push](t)(n.Node.Push("jobs")))
	headers := socket.Headers{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=x"}
	must[uint64](t)(push.SendMessage(within(t), &socket.Message{Headers: headers}))
	s := n.span(t, "send jobs")
	if got := s.Parent(); got.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || got.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("got parent %v", got)
	}
	m := must[*socket.Message](t)(must[*patterns.Pull](t)(n.Pull("jobs")).Recv(within(t)))
	m.Ack()
	want := fmt.Sprintf("00-0af7651916cd43dd8448eb211c80319c-%v-01", s.SpanContext().SpanID())
	if m.Headers["traceparent"] != want || m.Headers["tracestate"] != "vendor=x" {
		t.Errorf("got %v, want %s", m.Headers, want)
	}
}

// Whatever a message brings, it is processed, at worst in a trace of its own.
func FuzzFrom(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=x")
	f.Add("00-00000000000000000000000000000000-b7ad6b7169203331-01", "=")
	f.Add("ff-", ",,,")
	tr := &Tracer{cfg: Config{Propagator: propagation.TraceContext{}}}
	f.Fuzz(func(t *testing.T, parent, state string) {
		headers := socket.Headers{"traceparent": parent, "tracestate": state}
		ctx := tr.from(t.Context(), &socket.Message{Headers: headers})
		sc := trace.SpanContextFromContext(ctx)
		if !sc.IsValid() {
			return
		}
		m := tr.carry(ctx, &socket.Message{Headers: maps.Clone(headers)})
		if again := trace.SpanContextFromContext(tr.from(t.Context(), m)); !again.Equal(sc) {
			t.Fatalf("got %v, want %v", again, sc)
		}
	})
}

func TestWithoutAProviderTheTraceTravelsOn(t *testing.T) {
	n := openTraced(t, Config{})
	off := New(n.Node, nil)
	push := off.Push(must[*patterns.Push](t)(n.Node.Push("jobs")))
	pull := must[*patterns.Pull](t)(n.Pull("jobs"))
	if err := push.Send(within(t), nil); err != nil {
		t.Fatal(err)
	}
	m := must[*socket.Message](t)(pull.Recv(within(t)))
	m.Ack()
	if len(m.Headers) != 0 {
		t.Errorf("a message without a trace has headers %v", m.Headers)
	}
	rootCtx, root := n.root(t)
	defer root.End()
	if err := push.Send(rootCtx, nil); err != nil {
		t.Fatal(err)
	}
	d := must[*Delivery](t)(off.Receive(within(t), pull))
	if got := trace.SpanContextFromContext(d.Context()); got.SpanID() != root.SpanContext().SpanID() || got.TraceID() != root.SpanContext().TraceID() {
		t.Errorf("got %v, want %v", got, root.SpanContext())
	}
	if err := d.Ack(); err != nil {
		t.Error(err)
	}
	if got := len(n.spans.Ended()); got != 0 {
		t.Errorf("%d spans", got)
	}
}

func TestEachMessageOfABatchHasItsSpan(t *testing.T) {
	for name, send := range map[string]func(*Push, context.Context, []*socket.Message) ([]uint64, error){
		"SendBatch": (*Push).SendBatch, "PostBatch": (*Push).PostBatch,
	} {
		t.Run(name, func(t *testing.T) { eachOfABatchHasItsSpan(t, send) })
	}
}

func eachOfABatchHasItsSpan(t *testing.T, send func(*Push, context.Context, []*socket.Message) ([]uint64, error)) {
	t.Helper()
	n := openTraced(t, Config{})
	push := n.Tracer.Push(must[*patterns.Push](t)(n.Node.Push("jobs", patterns.Queue(2, 1<<20), patterns.OnOverflow(patterns.Refuse))))
	rootCtx, root := n.root(t)
	seqs, err := send(push, rootCtx, []*socket.Message{{}, {}, {}})
	root.End()
	if len(seqs) != 2 || !errors.Is(err, socket.ErrQueueFull) {
		t.Fatalf("got %v %v", seqs, err)
	}
	ended := n.spans.Ended()
	if len(ended) != 4 {
		t.Fatalf("got %d spans", len(ended))
	}
	for i, s := range ended[:3] {
		wantBelow(t, n.span(t, "root"), s)
		want := map[attribute.Key]any{"messaging.message.id": fmt.Sprintf("%s/%d", push.Stream(), i+1), "error.type": nil}
		if i == 2 {
			want = map[attribute.Key]any{"messaging.message.id": nil, "error.type": "full"}
		}
		wantValues(t, s, want)
	}
}
