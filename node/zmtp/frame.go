package zmtp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Flags of a frame, see RFC 37 "Framing".
const (
	flagMore    = 1 << 0
	flagLong    = 1 << 1
	flagCommand = 1 << 2

	maxShort = 255 // bytes in the body of a short frame
	maxHead  = 9   // bytes before the body of a long one
)

var (
	errReserved    = errors.New("zmtp: reserved bits in the flags of a frame")
	errMoreCommand = errors.New("zmtp: a command in several frames")
	errTooLarge    = errors.New("zmtp: message too large")
)

// A frame is one frame of ZMTP 3.
//
//	flags  size               body
//	  1    1, or 8 with LONG  size
type frame struct {
	more, command bool
	body          []byte
}

// appendHead appends what stands before a body of that size.
func appendHead(dst []byte, flags byte, size int) []byte {
	if size <= maxShort {
		return append(dst, flags, byte(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, flags|flagLong), uint64(size))
}

func appendFrame(dst []byte, flags byte, body []byte) []byte {
	return append(appendHead(dst, flags, len(body)), body...)
}

// appendMessage appends the frames of one message. There is at least one.
func appendMessage(dst []byte, frames [][]byte) []byte {
	for i, f := range frames {
		dst = appendFrame(dst, moreFlag(i, len(frames)), f)
	}
	return dst
}

func moreFlag(i, n int) byte {
	if i < n-1 {
		return flagMore
	}
	return 0
}

// parseHead reads what stands before a body: how long that is, and how long itself. Without enough bytes for it, head is
// 0. A body above limit is errTooLarge, before anyone allocates for it.
func parseHead(b []byte, limit int) (flags byte, head, size int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, nil
	}
	flags = b[0]
	switch {
	case flags&^(flagMore|flagLong|flagCommand) != 0:
		return 0, 0, 0, fmt.Errorf("%w: %#02x", errReserved, flags)
	case flags&flagCommand != 0 && flags&flagMore != 0:
		return 0, 0, 0, errMoreCommand
	}
	var length uint64
	switch {
	case flags&flagLong == 0 && len(b) >= 2:
		head, length = 2, uint64(b[1])
	case flags&flagLong != 0 && len(b) >= maxHead:
		head, length = maxHead, binary.BigEndian.Uint64(b[1:])
	default:
		return 0, 0, 0, nil
	}
	if length > uint64(max(limit, 0)) {
		return 0, 0, 0, fmt.Errorf("%w: a frame of %d bytes, at most %d", errTooLarge, length, limit)
	}
	return flags, head, int(length), nil
}

// parseFrame reads the frame that b begins with; its body aliases b. n is how many bytes it takes, 0 while b does not
// hold all of it.
func parseFrame(b []byte, limit int) (f frame, n int, err error) {
	flags, head, size, err := parseHead(b, limit)
	if err != nil || head == 0 || len(b)-head < size {
		return frame{}, 0, err
	}
	n = head + size
	return frame{more: flags&flagMore != 0, command: flags&flagCommand != 0, body: b[head:n:n]}, n, nil
}
