package zmtp

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"peermesh/internal/topic"
	"peermesh/socket"
)

// HeaderWhole marks a published message whose body has all the parts of the ZeroMQ message, the first one too. Without it
// the topic is the first part, and the body has the others.
const HeaderWhole = "zmtp-whole"

// TopicBinary is the topic of a message whose first part does not begin with anything that a topic of the mesh may begin
// with.
const TopicBinary = "zmtp-binary"

var whole = socket.Headers{HeaderWhole: "1"}

// Publication makes the message to be published in the mesh of the parts of a ZeroMQ message. Several parts of which the
// first is a topic as the mesh has them are that topic, and a body. Of all others the topic is as much of the first part as
// can be one, and the body has all parts, see HeaderWhole. Parts is its inverse. The message aliases the parts.
func Publication(parts ...[]byte) *socket.Message {
	if len(parts) == 0 {
		parts = [][]byte{nil}
	}
	first := parts[0]
	if len(parts) > 1 && len(first) <= topic.MaxBytes && topic.Check(string(first)) == nil {
		return &socket.Message{Topic: string(first), Body: Join(parts[1:]...)}
	}
	return &socket.Message{Topic: topicIn(first), Headers: whole, Body: Join(parts...)}
}

// Parts are the parts of the ZeroMQ message that a published message of the mesh is: the topic and those of its body, or
// those of its body alone. They alias the body.
func Parts(m *socket.Message) [][]byte {
	if _, ok := m.Headers[HeaderWhole]; ok {
		return Split(m.Body)
	}
	return append([][]byte{[]byte(m.Topic)}, Split(m.Body)...)
}

// topicIn is the longest beginning of a part that may be a topic, or TopicBinary.
func topicIn(part []byte) string {
	part = part[:min(len(part), topic.MaxBytes)]
	end := 0
	for end < len(part) {
		r, size := utf8.DecodeRune(part[end:])
		if r == utf8.RuneError && size == 1 || r < ' ' || r >= 0x7f && r < 0xa0 || r == '*' || r == '>' {
			break
		}
		end += size
	}
	part = part[:end]
	if at := bytes.Index(part, []byte("..")); at >= 0 {
		part = part[:at]
	}
	tokens := strings.Split(string(part), ".")
	text := strings.TrimSuffix(strings.Join(tokens[:min(len(tokens), topic.MaxTokens)], "."), ".")
	if topic.Check(text) != nil {
		return TopicBinary
	}
	return text
}
