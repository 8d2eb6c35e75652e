package cloudevents

import (
	"context"
	"io"

	"peermesh/socket"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// WriteMessage puts an event into out: its Body and, beside those that are there, its Headers.
// What was received in one mode goes out in it; an event in the one that ctx prefers, binary by
// default.
func WriteMessage(ctx context.Context, in binding.Message, out *socket.Message, with ...binding.Transformer) error {
	if out.Headers == nil {
		out.Headers = socket.Headers{}
	}
	w := (*writer)(out)
	_, err := binding.Write(ctx, in, w, w, with...)
	return err
}

// writer makes a message of what the SDK tells.
type writer socket.Message

var (
	_ binding.StructuredWriter = (*writer)(nil)
	_ binding.BinaryWriter     = (*writer)(nil)
)

func (w *writer) SetStructuredEvent(_ context.Context, f format.Format, event io.Reader) error {
	w.Headers[HeaderContentType] = f.MediaType()
	return w.SetData(event)
}

func (w *writer) Start(context.Context) error { return nil }

func (w *writer) SetAttribute(attribute spec.Attribute, value any) error {
	return w.set(header(attribute.Name()), value)
}

func (w *writer) SetExtension(name string, value any) error {
	return w.set(HeaderPrefix+name, value)
}

// set sets a header to the canonical text of value; nil takes it away.
func (w *writer) set(name string, value any) error {
	if value == nil {
		delete(w.Headers, name)
		return nil
	}
	text, err := types.Format(value)
	if err != nil {
		return err
	}
	w.Headers[name] = text
	return nil
}

func (w *writer) SetData(data io.Reader) (err error) {
	w.Body, err = io.ReadAll(data)
	return err
}

func (w *writer) End(context.Context) error { return nil }

// partitionKey is the extension that says which events belong together
// (https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/partitioning.md).
const partitionKey = "partitionkey"

// about reads an event's type and partition key from the message that carries it.
func about(ctx context.Context, m *socket.Message) (kind, key string, err error) {
	in := NewMessage(m)
	if in.version != nil {
		_, named := in.GetAttribute(spec.Type)
		kind, _ = named.(string)
		key, _ = in.GetExtension(partitionKey).(string)
		return kind, key, nil
	}
	var e *event.Event
	if e, err = binding.ToEvent(ctx, in); err != nil {
		return "", "", err
	}
	if key, err = extension(e, partitionKey); err != nil {
		return "", "", err
	}
	return e.Type(), key, nil
}

// extension is the text of an event's extension, empty if it has none.
func extension(e *event.Event, name string) (string, error) {
	value, ok := e.Extensions()[name]
	if !ok {
		return "", nil
	}
	return types.Format(value)
}
