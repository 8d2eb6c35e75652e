package cloudevents

import (
	"bytes"
	"context"
	"testing"

	"peermesh/patterns"
	"peermesh/socket"

	"github.com/cloudevents/sdk-go/v2/binding"
	bindingtest "github.com/cloudevents/sdk-go/v2/binding/test"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/protocol"
	protocoltest "github.com/cloudevents/sdk-go/v2/protocol/test"
	"github.com/cloudevents/sdk-go/v2/test"
)

// modes are how an event can come to the sender, and in which mode it must go out then.
var modes = []struct {
	name string
	ctx  func(context.Context) context.Context
	in   func(testing.TB, event.Event) binding.Message
	out  binding.Encoding
}{
	{"event", plain, asEvent, binding.EncodingBinary},
	{"event, structured preferred", preferStructured, asEvent, binding.EncodingStructured},
	{"binary", plain, asBinary, binding.EncodingBinary},
	{"structured", plain, asStructured, binding.EncodingStructured},
	{"binary, structured forced", binding.WithForceStructured, asBinary, binding.EncodingStructured},
	{"structured, binary forced", binding.WithForceBinary, asStructured, binding.EncodingBinary},
}

func plain(ctx context.Context) context.Context { return ctx }

func preferStructured(ctx context.Context) context.Context {
	return binding.WithPreferredEventEncoding(ctx, binding.EncodingStructured)
}

func asEvent(_ testing.TB, e event.Event) binding.Message { return binding.ToMessage(&e) }

func asBinary(_ testing.TB, e event.Event) binding.Message {
	return bindingtest.MustCreateMockBinaryMessage(e)
}

func asStructured(t testing.TB, e event.Event) binding.Message {
	return bindingtest.MustCreateMockStructuredMessage(t, e)
}

// TestEveryEventArrivesInEveryMode sends the SDK's own test events, of both versions, between
// two nodes with the SDK's own procedure.
func TestEveryEventArrivesInEveryMode(t *testing.T) {
	ownMesh(t)
	from := openNode(t)
	to := openNode(t, from)
	for _, pair := range []struct {
		name string
		make func(t *testing.T, name string) (protocol.Sender, protocol.Receiver)
	}{
		{"Push and Pull", func(t *testing.T, name string) (protocol.Sender, protocol.Receiver) {
			push, pull := queue(t, from, to, name)
			return Push(push), Pull(pull)
		}},
		{"Pub and Sub", func(t *testing.T, name string) (protocol.Sender, protocol.Receiver) {
			pub, err := from.Pub(name)
			if err != nil {
				t.Fatal(err)
			}
			sub, err := to.Sub(name, patterns.Topics("com.example.*"))
			if err != nil {
				t.Fatal(err)
			}
			if err := pub.WaitReady(within(t), 1); err != nil {
				t.Fatal(err)
			}
			return Pub(pub), Sub(sub)
		}},
	} {
		// A group, so that the nodes stay open until the parallel ones have ended.
		t.Run(pair.name, func(t *testing.T) {
			for _, mode := range modes {
				t.Run(mode.name, func(t *testing.T) {
					test.EachEvent(t, test.Events(), func(t *testing.T, in event.Event) {
						t.Parallel()
						in = test.ConvertEventExtensionsToString(t, in)
						s, r := pair.make(t, mode.name+" "+in.ID())
						protocoltest.SendReceive(t, mode.ctx(within(t)), mode.in(t, in), s, r, func(out binding.Message) {
							if got := out.ReadEncoding(); got != mode.out {
								t.Errorf("received in mode %v, want %v", got, mode.out)
							}
							test.AssertEventEquals(t, in, test.MustToEvent(t, t.Context(), out))
						})
					})
				})
			}
		})
	}
}

// TestBinaryMessagesTellTheirMetadata checks what transformers and observers of the SDK ask.
func TestBinaryMessagesTellTheirMetadata(t *testing.T) {
	test.EachEvent(t, test.Events(), func(t *testing.T, e event.Event) {
		e = test.ConvertEventExtensionsToString(t, e)
		m := new(socket.Message)
		if err := WriteMessage(t.Context(), asBinary(t, e), m); err != nil {
			t.Fatal(err)
		}
		in := NewMessage(m)
		for _, attribute := range in.version.Attributes() {
			_, got := in.GetAttribute(attribute.Kind())
			want := attribute.Get(e.Context)
			if (got == nil) != (want == nil) {
				t.Errorf("%s: got %v, want %v", attribute.Name(), got, want)
			}
		}
		for name, want := range e.Extensions() {
			if got := in.GetExtension(name); got != want {
				t.Errorf("extension %s: got %v, want %v", name, got, want)
			}
		}
		if got := in.GetExtension("none"); got != nil {
			t.Errorf("got %v for an extension that is not there", got)
		}
	})
}

func TestOtherMessagesAreNoEvents(t *testing.T) {
	for name, headers := range map[string]socket.Headers{
		"no headers":           nil,
		"no version":           {"ce-id": "1", "ce-type": "a", "ce-source": "b"},
		"a version of its own": {"ce-specversion": "7", "ce-id": "1", "ce-type": "a", "ce-source": "b"},
		"only a content type":  {"content-type": "application/json"},
		"an unknown format":    {"content-type": "application/cloudevents+xml"},
	} {
		m := NewMessage(&socket.Message{Headers: headers, Body: []byte("{}")})
		if got := m.ReadEncoding(); got != binding.EncodingUnknown {
			t.Errorf("%s: got encoding %v", name, got)
		}
		if e, err := binding.ToEvent(t.Context(), m); err == nil {
			t.Errorf("%s: got event %v", name, e)
		}
		if a, v := m.GetAttribute(0); a != nil || v != nil {
			t.Errorf("%s: got attribute %v %v", name, a, v)
		}
	}
	batch := NewMessage(&socket.Message{Headers: socket.Headers{"content-type": event.ApplicationCloudEventsBatchJSON}})
	if got := batch.ReadEncoding(); got != binding.EncodingBatch {
		t.Errorf("a batch: got encoding %v", got)
	}
}

// FuzzToEvent: what comes from the network is an event or an error, and an event is the same again
// after it was sent in binary mode. (In structured mode the SDK loses an extension called "data".)
func FuzzToEvent(f *testing.F) {
	f.Add("content-type", "application/cloudevents+json", "", "", []byte(`{"specversion":"1.0","id":"1","source":"/a","type":"t","data":3}`))
	f.Add("ce-specversion", "1.0", "ce-time", "2020-03-21T12:34:56Z", []byte("x"))
	f.Add("ce-specversion", "0.3", "ce-schemaurl", "://", []byte(nil))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, body []byte) {
		m := &socket.Message{Headers: socket.Headers{"ce-id": "1", "ce-source": "/a", "ce-type": "t", k2: v2}, Body: body}
		m.Headers[k1] = v1
		e, err := binding.ToEvent(t.Context(), NewMessage(m))
		if err != nil || e.Validate() != nil {
			return
		}
		want := e.Clone()
		again := new(socket.Message)
		if err := WriteMessage(t.Context(), binding.ToMessage(e), again); err != nil {
			return // an extension that has no text
		}
		got, err := binding.ToEvent(t.Context(), NewMessage(again))
		if err != nil {
			t.Fatalf("%v: cannot be read again: %v", again.Headers, err)
		}
		if got.ID() != want.ID() || got.Type() != want.Type() || got.Source() != want.Source() || got.SpecVersion() != want.SpecVersion() {
			t.Fatalf("got\n%v\nwant\n%v", got, want)
		}
		if !bytes.Equal(got.Data(), want.Data()) {
			t.Fatalf("got data %q, want %q", got.Data(), want.Data())
		}
	})
}
