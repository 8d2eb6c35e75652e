package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
	"unicode/utf8"
)

// Header is one name and value that travel with a message.
type Header struct{ Key, Value string }

// Record is a message as it is encoded: once, for wire, resend and spool alike.
type Record struct {
	Delta   uint64 // from the first seq of its block
	Topic   []byte
	Key     []byte
	TTL     time.Duration // as given by the sender, rounded up to whole ms; 0: none
	Headers []byte        // encoded, see ParseHeaders
	Delay   time.Duration // as given by the sender, rounded up to whole ms; 0: none
	Body    []byte
}

const (
	recTopic = 1 << iota
	recKey
	recTTL
	recHeaders
	recDelay
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fields tells which optional fields r has, and how many bytes they take.
func (r *Record) fields() (flags byte, n int) {
	if len(r.Topic) > 0 {
		flags |= recTopic
		n += uvarintLen(uint64(len(r.Topic))) + len(r.Topic)
	}
	if len(r.Key) > 0 {
		flags |= recKey
		n += uvarintLen(uint64(len(r.Key))) + len(r.Key)
	}
	if r.TTL > 0 {
		flags |= recTTL
		n += uvarintLen(millis(r.TTL))
	}
	if len(r.Headers) > 0 {
		flags |= recHeaders
		n += uvarintLen(uint64(len(r.Headers))) + len(r.Headers)
	}
	if r.Delay > 0 {
		flags |= recDelay
		n += uvarintLen(millis(r.Delay))
	}
	return flags, n
}

// AppendRecord appends r. Topic, Key (both UTF-8) and Headers are held to their
// limits by the caller, who knows how to say what is wrong with them.
func AppendRecord(dst []byte, r Record) []byte { return r.AppendTo(dst) }

// AppendPlain is AppendRecord of a record that has a body alone.
func AppendPlain(dst []byte, delta uint64, body []byte) []byte {
	n := uvarintLen(delta) + 1 + len(body)
	dst = slices.Grow(dst, uvarintLen(uint64(n))+4+n)
	dst = binary.AppendUvarint(dst, uint64(n))
	sum := len(dst)
	dst = append(binary.AppendUvarint(append(dst, 0, 0, 0, 0), delta), 0)
	dst = append(dst, body...)
	binary.LittleEndian.PutUint32(dst[sum:], crc32.Checksum(dst[sum+4:], castagnoli))
	return dst
}

// AppendTo is AppendRecord of r, which it does not change, without a copy of it.
func (r *Record) AppendTo(dst []byte) []byte {
	flags, n := r.fields()
	n += uvarintLen(r.Delta) + 1 + len(r.Body)
	dst = slices.Grow(dst, uvarintLen(uint64(n))+4+n)
	dst = binary.AppendUvarint(dst, uint64(n))
	sum := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.AppendUvarint(dst, r.Delta)
	dst = append(dst, flags)
	if flags&recTopic != 0 {
		dst = append(binary.AppendUvarint(dst, uint64(len(r.Topic))), r.Topic...)
	}
	if flags&recKey != 0 {
		dst = append(binary.AppendUvarint(dst, uint64(len(r.Key))), r.Key...)
	}
	if flags&recTTL != 0 {
		dst = binary.AppendUvarint(dst, millis(r.TTL))
	}
	if flags&recHeaders != 0 {
		dst = append(binary.AppendUvarint(dst, uint64(len(r.Headers))), r.Headers...)
	}
	if flags&recDelay != 0 {
		dst = binary.AppendUvarint(dst, millis(r.Delay))
	}
	dst = append(dst, r.Body...)
	binary.LittleEndian.PutUint32(dst[sum:], crc32.Checksum(dst[sum+4:], castagnoli))
	return dst
}

// NextRecord reads the record at the start of b, which must hold it whole, and
// returns what follows it. The fields alias b. On ErrChecksum nothing of its
// content is to be trusted, but rest still begins where its length says that it
// ends; as the checksum does not cover that length, a record whose length was
// damaged makes what follows it unreadable too.
func NextRecord(b []byte) (r Record, rest []byte, err error) {
	n, w, err := uvarint(b)
	if err != nil {
		if errors.Is(err, ErrShort) {
			err = fmt.Errorf("%w: ends inside a record's length", ErrMalformed)
		}
		return Record{}, nil, err
	}
	if n > MaxLarge {
		return Record{}, nil, fmt.Errorf("%w: record of %d bytes", ErrTooLong, n)
	}
	b = b[w:]
	if uint64(len(b)) < 4+n {
		return Record{}, nil, fmt.Errorf("%w: ends inside a record", ErrMalformed)
	}
	sum, body, rest := binary.LittleEndian.Uint32(b), b[4:4+n:4+n], b[4+n:]
	if crc32.Checksum(body, castagnoli) != sum {
		return Record{}, rest, ErrChecksum
	}
	r, err = parseRecord(body)
	return r, rest, err
}

// parseRecord reads what a record's checksum covers.
func parseRecord(body []byte) (r Record, err error) {
	if delta, w, err := uvarint(body); err == nil && w < len(body) && body[w] == 0 { // no optional field, as is usual
		return Record{Delta: delta, Body: body[w+1:]}, nil
	}
	p := parser{b: body}
	r.Delta = p.uvarint()
	flags := p.u8()
	if flags&recTopic != 0 {
		r.Topic = p.name()
	}
	if flags&recKey != 0 {
		r.Key = p.name()
	}
	if flags&recTTL != 0 {
		r.TTL = time.Duration(p.max(maxAge)) * time.Millisecond
	}
	if flags&recHeaders != 0 {
		r.Headers = p.raw(MaxHeaders)
	}
	if flags&recDelay != 0 {
		r.Delay = time.Duration(p.max(maxAge)) * time.Millisecond
	}
	r.Body = p.b
	if there, _ := r.fields(); p.err == nil && there != flags {
		p.fail(fmt.Errorf("%w: record flags %#x: a field that is empty or unknown", ErrMalformed, flags))
	}
	if p.err != nil {
		return Record{}, p.err
	}
	return r, nil
}

// name reads a topic or key without copying it.
func (p *parser) name() []byte {
	v := p.raw(MaxName)
	if !utf8.Valid(v) {
		p.fail(fmt.Errorf("%w: topic or key is not UTF-8", ErrMalformed))
		return nil
	}
	return v
}

// AppendHeaders appends hs as they stand in a record.
func AppendHeaders(dst []byte, hs []Header) []byte {
	for _, h := range hs {
		dst = appendStr(appendStr(dst, h.Key), h.Value)
	}
	return dst
}

// ParseHeaders reads the headers of a record.
func ParseHeaders(b []byte) ([]Header, error) {
	p := parser{b: b}
	var hs []Header
	for p.err == nil && len(p.b) > 0 {
		hs = append(hs, Header{Key: p.str(MaxHeaders), Value: p.str(MaxHeaders)})
	}
	if p.err != nil {
		return nil, p.err
	}
	return hs, nil
}

func uvarintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}
