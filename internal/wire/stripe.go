package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// StripeALPN is the application protocol of a further connection between two nodes.
const StripeALPN = "peermesh-stripe/1"

// StripeBlock is how much of a spread pipe goes over one connection before the next one's turn.
const StripeBlock = 64 << 10

// Join binds a further connection to a link.
type Join struct {
	Ticket [16]byte // of the HELLO that the other side sent on the link
	Number uint8    // which of the link's further connections, from 1
}

// AppendJoin appends a JOIN frame.
func AppendJoin(dst []byte, j Join) []byte {
	dst, at := open(dst)
	return seal(append(append(dst, j.Ticket[:]...), j.Number), at, TypeJoin)
}

// ParseJoin reads the payload of a JOIN.
func ParseJoin(b []byte) (Join, error) {
	p := parser{b: b}
	j := Join{Ticket: p.id(), Number: p.u8()}
	if p.err == nil && (j.Number == 0 || j.Number >= MaxStripes) {
		p.fail(fmt.Errorf("%w: further connection %d", ErrMalformed, j.Number))
	}
	return j, p.end()
}

// Spread says how the stream of a pipe goes on.
type Spread struct {
	Bundle      uint64 // of the streams that carry it
	Connections uint8  // 1: the pipe's own alone
}

// AppendSpread appends a SPREAD frame.
func AppendSpread(dst []byte, s Spread) []byte {
	dst, at := open(dst)
	return seal(append(binary.AppendUvarint(dst, s.Bundle), s.Connections), at, TypeSpread)
}

// ParseSpread reads the payload of a SPREAD.
func ParseSpread(b []byte) (Spread, error) {
	p := parser{b: b}
	s := Spread{Bundle: p.uvarint(), Connections: p.u8()}
	if p.err == nil && (s.Connections == 0 || s.Connections > MaxStripes) {
		p.fail(fmt.Errorf("%w: spread over %d connections", ErrMalformed, s.Connections))
	}
	return s, p.end()
}

// Scanner looks for frames of one type in a stream that comes in pieces. The zero Scanner is at the start of a frame.
type Scanner struct {
	head [maxPrefix + 1]byte // of the frame at hand, as far as it has come; the longest frame's length takes a byte more
	n    int
	skip int // of its payload, what has not come
}

// Until returns how many bytes of b, which continue the stream, come before the next frame of type t; all of them if none
// begins there. A frame that was found has not been passed: the next call begins where the caller says, at the start of
// a frame.
func (s *Scanner) Until(b []byte, t Type) (int, error) {
	for i := 0; i < len(b); {
		switch {
		case s.skip > 0:
			n := min(s.skip, len(b)-i)
			s.skip -= n
			i += n
			continue
		case s.n == 0 && Type(b[i]) == t:
			return i, nil
		}
		s.head[s.n] = b[i]
		s.n++
		i++
		if err := s.measure(); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// measure begins the payload of the frame at hand if its length has come.
func (s *Scanner) measure() error {
	length, _, err := uvarint(s.head[1:s.n])
	switch {
	case errors.Is(err, ErrShort) && s.n < len(s.head):
		return nil
	case err != nil && !errors.Is(err, ErrShort):
		return err
	case err != nil || length > MaxFrame:
		return fmt.Errorf("%w: frame 0x%02x", ErrTooLong, s.head[0])
	}
	s.skip, s.n = int(length), 0
	return nil
}
