package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Version is the protocol version spoken here; it is part of the ALPN name too.
const Version = 1

// ALPN is the application protocol of a link.
const ALPN = "peermesh/1"

// Limits. Every length read from the network is held against one of these
// before anything is allocated for it.
const (
	MaxFrame     = 4 << 20   // the worst ATTACHED fits: 2^18 lone done marks at any distance, and patterns
	MaxRun       = 64 << 10  // records in one DATA frame, unless it is a single one
	MaxRecord    = 256 << 10 // a larger record travels in fragments
	MaxFragment  = 32 << 10  // part of a record or reply in one frame
	MaxMessage   = 64 << 20  // no node may announce a larger limit
	MaxName      = 255       // names of nodes, namespaces, sockets, labels, topics, keys
	MaxReason    = 512       // human sentences
	MaxHeaders   = 64 << 10  // bytes of all headers of a message
	MaxPeers     = 256       // addresses in one PEERS
	MaxAddr      = 128       // an address with its zone
	MaxPatterns  = 512       // patterns of one subscription: all of the longest fit a frame
	MaxPattern   = 1027      // text of a pattern, a raw prefix with every byte escaped included
	MaxPolicy    = 48 << 10  // text of a policy: with its frame below what a control stream takes
	MaxTold      = 1 << 20   // what one TOLD says
	MaxEditions  = 4096      // earlier editions in an ATTACH, editions of each list of an ATTACHED
	MaxStripes   = 4         // connections that one pipe is spread over
	minHeartbeat = 100       // bytes, see HEARTBEAT
)

// Type tells what a frame is.
type Type uint8

// The frame types; see the package comment for their layouts.
const (
	TypeHello     Type = 0x01
	TypeWelcome   Type = 0x02
	TypeRefused   Type = 0x03
	TypeOffer     Type = 0x04
	TypeWithdraw  Type = 0x05
	TypePeers     Type = 0x06
	TypeHeartbeat Type = 0x07
	TypeGoAway    Type = 0x08
	TypeBye       Type = 0x09
	TypePolicy    Type = 0x0a

	TypeAttach      Type = 0x10
	TypeData        Type = 0x11
	TypeFragment    Type = 0x12
	TypeWant        Type = 0x13
	TypeGap         Type = 0x14
	TypeConfirm     Type = 0x15
	TypeRenewed     Type = 0x16
	TypeRevoke      Type = 0x17
	TypeSubscribed  Type = 0x18
	TypeReplyCredit Type = 0x19
	TypeDetach      Type = 0x1a
	TypeSpread      Type = 0x1b

	TypeAttached  Type = 0x20
	TypeRejected  Type = 0x21
	TypeDone      Type = 0x22
	TypeNack      Type = 0x23
	TypeCredit    Type = 0x24
	TypeRenew     Type = 0x25
	TypeGrant     Type = 0x26
	TypeSubscribe Type = 0x27
	TypeReply     Type = 0x28
	TypeLeave     Type = 0x29

	TypeUnsubscribe Type = 0x2a
	TypePause       Type = 0x2b
	TypeResume      Type = 0x2c

	TypeAsk  Type = 0x30
	TypeTold Type = 0x31

	TypeJoin   Type = 0x40
	TypeStripe Type = 0x41
)

var (
	// ErrShort says that more bytes are needed before the frame can be read.
	ErrShort = errors.New("wire: frame not complete")
	// ErrTooLong is a length above its limit.
	ErrTooLong = errors.New("wire: length above its limit")
	// ErrMalformed is anything else that no honest peer sends.
	ErrMalformed = errors.New("wire: malformed frame")
	// ErrChecksum is a record whose bytes do not match its crc32c.
	ErrChecksum = errors.New("wire: record checksum mismatch")
)

// Next reads the frame at the start of b. payload and rest alias b. It returns
// ErrShort when b holds only a part of it, with need = the bytes the whole frame
// takes as far as that is known (at least len(b)+1).
func Next(b []byte) (t Type, payload, rest []byte, need int, err error) {
	if len(b) < 2 {
		return 0, nil, nil, 2, ErrShort
	}
	n, w, err := uvarint(b[1:])
	if errors.Is(err, ErrShort) {
		return 0, nil, nil, len(b) + 1, ErrShort
	}
	if err != nil {
		return 0, nil, nil, 0, err
	}
	if n > MaxFrame {
		return 0, nil, nil, 0, fmt.Errorf("%w: frame of %d bytes", ErrTooLong, n)
	}
	end := 1 + w + int(n)
	if len(b) < end {
		return 0, nil, nil, end, ErrShort
	}
	return Type(b[0]), b[1+w : end : end], b[end:], end, nil
}

// maxPrefix is room for a frame's type and length.
const maxPrefix = 1 + 3

// open reserves room for a frame's prefix; seal fills it in. The payload is
// written in place and moved only when the length takes fewer bytes than the
// three that were kept, so that no frame is assembled twice.
func open(dst []byte) ([]byte, int) {
	at := len(dst)
	return append(dst, make([]byte, maxPrefix)...), at
}

func seal(dst []byte, at int, t Type) []byte {
	n := len(dst) - at - maxPrefix
	if n > MaxFrame {
		panic(fmt.Sprintf("wire: frame 0x%02x of %d bytes made here", byte(t), n))
	}
	dst[at] = byte(t)
	if n >= 1<<21 { // its length takes a byte more than was kept
		dst = append(dst, 0)
		copy(dst[at+maxPrefix+1:], dst[at+maxPrefix:])
		binary.PutUvarint(dst[at+1:], uint64(n))
		return dst
	}
	w := binary.PutUvarint(dst[at+1:at+maxPrefix], uint64(n))
	if w < maxPrefix-1 {
		copy(dst[at+1+w:], dst[at+maxPrefix:])
		dst = dst[:len(dst)-(maxPrefix-1-w)]
	}
	return dst
}

// uvarint is binary.Uvarint with ErrShort told from nonsense, and shortest form
// demanded: one value has one encoding.
func uvarint(b []byte) (v uint64, n int, err error) {
	v, n = binary.Uvarint(b)
	switch {
	case n == 0:
		return 0, 0, ErrShort
	case n < 0:
		return 0, 0, fmt.Errorf("%w: integer over 64 bits", ErrMalformed)
	case n > 1 && b[n-1] == 0:
		return 0, 0, fmt.Errorf("%w: integer not in shortest form", ErrMalformed)
	}
	return v, n, nil
}

// parser walks a payload. After the first error every read yields a zero value,
// so that a frame is read top to bottom and the error checked once.
type parser struct {
	b   []byte
	err error
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
		p.b = nil
	}
}

func (p *parser) uvarint() uint64 {
	v, n, err := uvarint(p.b)
	if err != nil {
		if errors.Is(err, ErrShort) {
			err = fmt.Errorf("%w: ends inside an integer", ErrMalformed)
		}
		p.fail(err)
		return 0
	}
	p.b = p.b[n:]
	return v
}

// max reads an integer that must not exceed limit.
func (p *parser) max(limit uint64) uint64 {
	v := p.uvarint()
	if v > limit {
		p.fail(fmt.Errorf("%w: %d, at most %d", ErrTooLong, v, limit))
		return 0
	}
	return v
}

func (p *parser) bytes(n int) []byte {
	if len(p.b) < n {
		p.fail(fmt.Errorf("%w: ends inside a field", ErrMalformed))
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

func (p *parser) u8() uint8 {
	if v := p.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (p *parser) u64() uint64 {
	if v := p.bytes(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (p *parser) id() (id [16]byte) {
	copy(id[:], p.bytes(16))
	return id
}

// raw reads a length of at most limit and so many bytes.
func (p *parser) raw(limit uint64) []byte { return p.bytes(int(p.max(limit))) }

// str reads a string of at most limit bytes of valid UTF-8.
func (p *parser) str(limit uint64) string {
	v := p.raw(limit)
	if !utf8.Valid(v) {
		p.fail(fmt.Errorf("%w: string is not UTF-8", ErrMalformed))
		return ""
	}
	return string(v)
}

// count reads a number of items of at least size bytes each.
func (p *parser) count(limit, size uint64) int {
	n := p.max(limit)
	if n*size > uint64(len(p.b)) {
		p.fail(fmt.Errorf("%w: %d items in %d bytes", ErrMalformed, n, len(p.b)))
		return 0
	}
	return int(n)
}

// end demands that the payload is used up.
func (p *parser) end() error {
	if p.err == nil && len(p.b) != 0 {
		p.fail(fmt.Errorf("%w: %d bytes left over", ErrMalformed, len(p.b)))
	}
	return p.err
}

// open ends a frame that newer versions may lengthen.
func (p *parser) open() error { return p.err }

func appendStr(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// Clip shortens s to at most n bytes at a character's edge and replaces invalid
// UTF-8, so that any text can travel as a str of that limit.
func Clip(s string, n int) string {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
