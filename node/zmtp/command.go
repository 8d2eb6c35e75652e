package zmtp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Names of commands, see RFC 37 "Commands".
const (
	cmdReady     = "READY"
	cmdError     = "ERROR"
	cmdPing      = "PING"
	cmdPong      = "PONG"
	cmdSubscribe = "SUBSCRIBE"
	cmdCancel    = "CANCEL"

	maxContext  = 16  // bytes of a PING's context
	maxIdentity = 255 // bytes of an identity
)

var errCommand = errors.New("zmtp: malformed command")

// A command is a name and what it says.
type command struct {
	name string
	data []byte
}

// parseCommand reads the body of a command's frame; data aliases it.
func parseCommand(body []byte) (command, error) {
	if len(body) == 0 || body[0] == 0 || len(body)-1 < int(body[0]) {
		return command{}, fmt.Errorf("%w: no name", errCommand)
	}
	name := body[1 : 1+int(body[0])]
	for _, c := range name {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return command{}, fmt.Errorf("%w: a name that is not letters", errCommand)
		}
	}
	return command{string(name), body[1+len(name):]}, nil
}

// appendCommand appends a command in a frame.
func appendCommand(dst []byte, name string, data []byte) []byte {
	dst = appendHead(dst, flagCommand, 1+len(name)+len(data))
	return append(append(append(dst, byte(len(name))), name...), data...)
}

// appendPing appends a PING. ttl is in tenths of a second, 0 for none.
func appendPing(dst []byte, ttl uint16, context []byte) []byte {
	return appendCommand(dst, cmdPing, append(binary.BigEndian.AppendUint16(nil, ttl), context...))
}

// parsePing reads what a PING says. A context that is too long is cut off, as libzmq does.
func parsePing(data []byte) (ttl uint16, context []byte, err error) {
	if len(data) < 2 {
		return 0, nil, fmt.Errorf("%w: PING of %d bytes", errCommand, len(data))
	}
	context = data[2:]
	return binary.BigEndian.Uint16(data), context[:min(len(context), maxContext)], nil
}

// A property is a name and a value of a READY's metadata.
type property struct{ name, value string }

func appendProperty(dst []byte, p property) []byte {
	dst = append(append(dst, byte(len(p.name))), p.name...)
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(p.value))), p.value...)
}

// parseMetadata reads the properties of a READY, by lower-case name: their case means nothing. The first of two with one
// name counts.
func parseMetadata(b []byte) (map[string]string, error) {
	found := make(map[string]string)
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 || len(b) < 1+n+4 {
			return nil, fmt.Errorf("%w: metadata cut off", errCommand)
		}
		name := strings.ToLower(string(b[1 : 1+n]))
		size := binary.BigEndian.Uint32(b[1+n:])
		b = b[1+n+4:]
		if uint64(size) > uint64(len(b)) {
			return nil, fmt.Errorf("%w: a property of %d bytes in %d", errCommand, size, len(b))
		}
		if _, ok := found[name]; !ok {
			found[name] = string(b[:size])
		}
		b = b[size:]
	}
	return found, nil
}
