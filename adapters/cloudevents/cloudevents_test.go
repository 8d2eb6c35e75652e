package cloudevents

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/client"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/protocol"
)

func newClient(t *testing.T, of any, opts ...client.Option) client.Client {
	t.Helper()
	c, err := client.New(of, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start runs fn for what c receives until the test ends.
func start(t *testing.T, c client.Client, fn any) {
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.StartReceiver(ctx, fn) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func await[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-within(t).Done():
		t.Fatal("nothing came")
	}
	return v
}

func TestTheWireIsAsTheDocSays(t *testing.T) {
	e := newEvent(t, "com.example.order.made", 4711)
	e.SetExtension("partitionkey", "basel")
	var binary, structured socket.Message
	if err := WriteMessage(t.Context(), asEvent(t, e), &binary); err != nil {
		t.Fatal(err)
	}
	want := socket.Headers{
		"ce-specversion": "1.0", "ce-type": "com.example.order.made", "ce-source": "/test", "ce-id": "4711",
		"ce-partitionkey": "basel", "content-type": "application/json",
	}
	for k, v := range want {
		if binary.Headers[k] != v {
			t.Errorf("%s: got %q, want %q", k, binary.Headers[k], v)
		}
	}
	if len(binary.Headers) != len(want) || string(binary.Body) != `{"n":4711}` {
		t.Errorf("got %v %s", binary.Headers, binary.Body)
	}
	if err := WriteMessage(preferStructured(t.Context()), asEvent(t, e), &structured); err != nil {
		t.Fatal(err)
	}
	if got := structured.Headers; len(got) != 1 || got["content-type"] != "application/cloudevents+json" {
		t.Errorf("got %v", got)
	}
	if !strings.Contains(string(structured.Body), `"data":{"n":4711}`) {
		t.Errorf("got %s", structured.Body)
	}
}

func TestTypeIsTheTopicAndPartitionKeyTheKeyInBothModes(t *testing.T) {
	ownMesh(t)
	n := openNode(t)
	pub, err := n.Pub("news")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := n.Sub("news", patterns.Topics("com.example.>"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pub.WaitReady(within(t), 1); err != nil {
		t.Fatal(err)
	}
	push, pull := queue(t, n, n, "jobs")
	for _, opts := range [][]client.Option{{client.WithForceBinary()}, {client.WithForceStructured()}} {
		news, jobs := newClient(t, Pub(pub), opts...), newClient(t, Push(push), opts...)
		e := newEvent(t, "com.example.order.made", 1)
		e.SetExtension("partitionkey", "basel")
		for _, err := range []error{
			news.Send(within(t), newEvent(t, "org.example", 1)), news.Send(within(t), e), jobs.Send(within(t), e),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		m, err := sub.Recv(within(t))
		if err != nil {
			t.Fatal(err)
		}
		m.Ack()
		if m.Topic != e.Type() {
			t.Errorf("got topic %q, want %q", m.Topic, e.Type())
		}
		if m, err = pull.Recv(within(t)); err != nil {
			t.Fatal(err)
		}
		m.Ack()
		if m.Key != "basel" {
			t.Errorf("got key %q", m.Key)
		}
		if err := news.Send(within(t), newEvent(t, "a type", 1)); err != nil {
			t.Errorf("a type with a space: %v", err)
		}
		if err := news.Send(within(t), newEvent(t, "a..b", 1)); err == nil || !strings.Contains(err.Error(), "topic") {
			t.Errorf("a type that is no topic: got %v", err)
		}
	}
}

func TestWhatAHandlerReturnsAnswersTheMessage(t *testing.T) {
	ownMesh(t)
	from := openNode(t)
	to := openNode(t, from)
	settled := make(chan patterns.Settled, 10)
	push, err := from.Push("jobs", patterns.MaxDeliver(2), patterns.OnSettled(func(s patterns.Settled) { settled <- s }))
	if err != nil {
		t.Fatal(err)
	}
	pull, err := to.Pull("jobs")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("out of lamps")
	start(t, newClient(t, Pull(pull)), func(_ context.Context, e event.Event) protocol.Result {
		switch e.Type() {
		case "nil":
			return nil
		case "ack":
			return protocol.ResultACK
		}
		return broken
	})
	c := newClient(t, Push(push))
	for _, kind := range []string{"nil", "ack"} {
		if err := c.Send(within(t), newEvent(t, kind, 1)); err != nil {
			t.Fatal(err)
		}
		if got := await(t, settled); got.State != "done" {
			t.Errorf("%s: got %+v", kind, got)
		}
	}
	if err := c.Send(within(t), newEvent(t, "error", 1)); err != nil {
		t.Fatal(err)
	}
	if got := await(t, settled); got.State != "dead" || !strings.Contains(got.Text, broken.Error()) {
		t.Errorf("an error: got %+v", got)
	}
	if err := push.Send(within(t), []byte("no event")); err != nil {
		t.Fatal(err)
	}
	if got := await(t, settled); got.State != "dead" {
		t.Errorf("no event: got %+v", got)
	}
}

func service(t *testing.T, from, to *node.Node) (client.Client, *patterns.Rep) {
	t.Helper()
	req, err := from.Req("lamps")
	if err != nil {
		t.Fatal(err)
	}
	rep, err := to.Rep("lamps")
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, Req(req)), rep
}

func TestRequestsAreAnsweredWithEvents(t *testing.T) {
	ownMesh(t)
	from := openNode(t)
	c, rep := service(t, from, openNode(t, from))
	start(t, newClient(t, Rep(rep)), func(e event.Event) (*event.Event, protocol.Result) {
		switch e.Type() {
		case "event":
			answer := e.Clone()
			answer.SetType("answer")
			return &answer, nil
		case "nothing":
			return nil, protocol.ResultACK
		}
		return nil, errors.New("no such lamp")
	})
	got, err := c.Request(within(t), newEvent(t, "event", 7))
	if err != nil || got == nil || got.Type() != "answer" || string(got.Data()) != `{"n":7}` {
		t.Errorf("got %v %v", got, err)
	}
	if got, err = c.Request(within(t), newEvent(t, "nothing", 7)); err != nil || got != nil {
		t.Errorf("no answer: got %v %v", got, err)
	}
	_, err = c.Request(within(t), newEvent(t, "error", 7))
	var remote *patterns.RemoteError
	if !protocol.IsNACK(err) || !errors.As(err, &remote) || !strings.Contains(remote.Message, "no such lamp") {
		t.Errorf("an error: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Request(ctx, newEvent(t, "event", 7)); !protocol.IsUndelivered(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request: got %v", err)
	}
}

func TestAClosedServiceEndsItsReceiver(t *testing.T) {
	ownMesh(t)
	n := openNode(t)
	_, rep := service(t, n, n)
	if err := rep.Close(); err != nil {
		t.Fatal(err)
	}
	err := newClient(t, Rep(rep)).StartReceiver(within(t), func(e event.Event) (*event.Event, protocol.Result) { return &e, nil })
	if !errors.Is(err, socket.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestReceiveEndsWithItsContextAndItsSocket(t *testing.T) {
	ownMesh(t)
	n := openNode(t)
	_, pull := queue(t, n, n, "jobs")
	r := Pull(pull)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Receive(ctx); err != io.EOF {
		t.Errorf("a context that ended: got %v", err)
	}
	if err := pull.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Receive(within(t)); err != io.EOF {
		t.Errorf("a closed socket: got %v", err)
	}
	broken := errors.New("disk")
	r = &Receiver{recv: func(context.Context) (*socket.Message, error) { return nil, broken }}
	if _, err := r.Receive(within(t)); err != broken {
		t.Errorf("a broken socket: got %v", err)
	}
	if _, err := r.Receive(within(t)); err != io.EOF {
		t.Errorf("again: got %v", err)
	}
}

func TestWhatIsSentIsFinishedOnce(t *testing.T) {
	ownMesh(t)
	n := openNode(t)
	push, _ := queue(t, n, n, "jobs")
	var with []error
	in := binding.WithFinish(asBinary(t, newEvent(t, "kind", 1)), func(err error) { with = append(with, err) })
	if err := Push(push).Send(within(t), in); err != nil || len(with) != 1 || with[0] != nil {
		t.Errorf("sent: got %v, finished with %v", err, with)
	}
	if err := push.Close(); err != nil {
		t.Fatal(err)
	}
	with = nil
	err := Push(push).Send(within(t), in)
	if !errors.Is(err, socket.ErrClosed) || !protocol.IsUndelivered(err) || len(with) != 1 || !errors.Is(with[0], socket.ErrClosed) {
		t.Errorf("refused: got %v, finished with %v", err, with)
	}
}
