package enroll

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

type frameType uint8

const (
	typeHello frameType = iota + 1
	typeProof
	typeAsk
	typeRenew
	typeGrant
	typeStored
	typeDone
	typeRefused
)

const (
	protocol  = 1
	maxFrame  = 10 << 10 // a certificate is at most 8 KiB
	maxReason = 512
)

// Code says in one word why somebody was not let in.
type Code string

// The codes of a refusal.
const (
	CodeVersion Code = "version" // no protocol version in common
	CodeSecret  Code = "secret"  // the token is not of this invitation
	CodeUsed    Code = "used"    // as many machines have joined as were invited
	CodeExpired Code = "expired" // the invitation is over
	CodeMesh    Code = "mesh"    // the other side does not hold the key of the mesh that the token names
	CodeRenew   Code = "renew"   // a credential that is not renewed
	CodeRevoked Code = "revoked" // likewise, because the policy revokes it
	CodeFailed  Code = "failed"  // the inviting machine could not do it
)

// Refusal is a machine that was not let in, or an inviter that was not believed. Both sides report the same code.
type Refusal struct {
	Code   Code
	Reason string
	Remote bool // the other side refused
}

// Error names the side that refused, the code and the reason; it is printable.
func (r *Refusal) Error() string {
	who := "refused"
	if r.Remote {
		who = "refused by the other side"
	}
	return fmt.Sprintf("%s (%s): %s", who, r.Code, r.Reason)
}

// Is reports whether target is a Refusal with the same code.
func (r *Refusal) Is(target error) bool {
	other, ok := target.(*Refusal)
	return ok && other.Code == r.Code
}

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// ErrProtocol is what no honest side says.
var ErrProtocol = errors.New("enroll: the other side does not keep to the protocol")

// say writes one frame. The parts are at most maxFrame together.
func say(w io.Writer, t frameType, parts ...[]byte) error {
	b := []byte{byte(t), 0, 0}
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.BigEndian.PutUint16(b[1:], uint16(len(b)-3))
	_, err := w.Write(b)
	return err
}

// hear reads one frame and its type.
func hear(r io.Reader) (frameType, []byte, error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	length := int(binary.BigEndian.Uint16(head[1:]))
	if length > maxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes, at most %d", ErrProtocol, length, maxFrame)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, unexpected(err)
	}
	return frameType(head[0]), payload, nil
}

// unexpected is the end of a stream within a frame.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// expect reads a frame of a type, or the refusal in its place.
func expect(r io.Reader, want frameType) ([]byte, error) {
	t, payload, err := hear(r)
	switch {
	case err != nil:
		return nil, err
	case t == typeRefused:
		return nil, parseRefused(payload)
	case t != want:
		return nil, fmt.Errorf("%w: frame %d, expected %d", ErrProtocol, t, want)
	}
	return payload, nil
}

// sayRefused tells the other side why.
func sayRefused(w io.Writer, r *Refusal) error {
	code, reason := []byte(r.Code), []byte(r.Reason)
	return say(w, typeRefused, []byte{byte(len(code))}, code, reason[:min(len(reason), maxReason)])
}

func parseRefused(b []byte) error {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return fmt.Errorf("%w: half a refusal", ErrProtocol)
	}
	size := int(b[0])
	code, reason := b[1:1+size], b[1+size:]
	return &Refusal{Code: Code(printable(code)), Reason: printable(reason[:min(len(reason), maxReason)]), Remote: true}
}

// printable replaces what a terminal could take for a command.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, string(b))
}
