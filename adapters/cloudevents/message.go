package cloudevents

import (
	"bytes"
	"context"
	"strings"

	"peermesh/socket"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/protocol"
)

// Headers of messages that carry events.
const (
	HeaderPrefix      = "ce-"
	HeaderContentType = "content-type"
)

// specs knows the attributes by their headers.
var specs = spec.WithPrefixMatchExact(header, HeaderPrefix)

// header is the header of an attribute.
func header(attribute string) string {
	if attribute == "datacontenttype" {
		return HeaderContentType
	}
	return HeaderPrefix + attribute
}

// Message is a message of the mesh as the SDK reads it. It may be read any number of times, by
// one goroutine at a time.
type Message struct {
	of      *socket.Message
	finish  func(error) error
	format  format.Format // structured mode; else nil
	version spec.Version  // binary mode; else nil
}

var (
	_ binding.Message               = (*Message)(nil)
	_ binding.MessageMetadataReader = (*Message)(nil)
)

// NewMessage lets the SDK read m, which is not copied and must not change. Finish does nothing:
// whoever received m answers it. A message that carries no event has binding.EncodingUnknown.
func NewMessage(m *socket.Message) *Message {
	return newMessage(m, func(error) error { return nil })
}

func newMessage(m *socket.Message, finish func(error) error) *Message {
	out := &Message{of: m, finish: finish}
	if out.format = format.Lookup(m.Headers[HeaderContentType]); out.format == nil {
		out.version = specs.Version(m.Headers[specs.PrefixedSpecVersionName()])
	}
	return out
}

// received is a message that Finish answers.
func received(m *socket.Message) *Message {
	return newMessage(m, func(err error) error {
		if protocol.IsACK(err) {
			return m.Ack()
		}
		return m.Nack(err)
	})
}

// Unwrap is the message itself.
func (m *Message) Unwrap() *socket.Message { return m.of }

// ReadEncoding tells the mode.
func (m *Message) ReadEncoding() binding.Encoding {
	switch {
	case m.format == format.JSONBatch:
		return binding.EncodingBatch
	case m.format != nil:
		return binding.EncodingStructured
	case m.version != nil:
		return binding.EncodingBinary
	}
	return binding.EncodingUnknown
}

// ReadStructured hands over the event of structured mode.
func (m *Message) ReadStructured(ctx context.Context, w binding.StructuredWriter) error {
	if m.format == nil {
		return binding.ErrNotStructured
	}
	return w.SetStructuredEvent(ctx, m.format, bytes.NewReader(m.of.Body))
}

// ReadBinary hands over the attributes and the data of binary mode.
func (m *Message) ReadBinary(_ context.Context, w binding.BinaryWriter) error {
	if m.version == nil {
		return binding.ErrNotBinary
	}
	for name, value := range m.of.Headers {
		var err error
		if attribute := m.version.Attribute(name); attribute != nil {
			err = w.SetAttribute(attribute, value)
		} else if extension, ok := strings.CutPrefix(name, HeaderPrefix); ok {
			err = w.SetExtension(extension, value)
		}
		if err != nil {
			return err
		}
	}
	if len(m.of.Body) == 0 {
		return nil
	}
	return w.SetData(bytes.NewReader(m.of.Body))
}

// GetAttribute returns an attribute of binary mode and its text, nil if it has none.
func (m *Message) GetAttribute(kind spec.Kind) (spec.Attribute, any) {
	if m.version == nil {
		return nil, nil
	}
	attribute := m.version.AttributeFromKind(kind)
	if attribute == nil {
		return nil, nil
	}
	if value, ok := m.of.Headers[header(attribute.Name())]; ok {
		return attribute, value
	}
	return attribute, nil
}

// GetExtension returns the text of an extension of binary mode, nil if it has none.
func (m *Message) GetExtension(name string) any {
	if value, ok := m.of.Headers[HeaderPrefix+name]; ok && m.version != nil {
		return value
	}
	return nil
}

// Finish answers a message that a Receiver received, see the package comment. It does not block.
func (m *Message) Finish(err error) error { return m.finish(err) }
