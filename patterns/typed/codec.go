package typed

import (
	"encoding/json"
	"fmt"
	"sync"
)

// Codec turns values into bodies and back. It must be safe for concurrent use.
type Codec[T any] interface {
	// Append appends the body that stands for v to dst and returns it. It must not
	// keep dst: the memory is used again.
	Append(dst []byte, v T) ([]byte, error)

	// Decode returns the value that body stands for. It must not keep or change body,
	// and must expect any bytes at all.
	Decode(body []byte) (T, error)
}

// JSON is the codec of encoding/json. Fields that T does not have are ignored, so
// that an older receiver reads what a newer sender writes.
type JSON[T any] struct{}

// Append appends v as JSON.
func (JSON[T]) Append(dst []byte, v T) ([]byte, error) {
	b, err := json.Marshal(v)
	return append(dst, b...), err
}

// Decode reads one JSON value and nothing after it.
func (JSON[T]) Decode(body []byte) (v T, err error) {
	err = json.Unmarshal(body, &v)
	return v, err
}

// orJSON is c, or JSON in its absence.
func orJSON[T any](c Codec[T]) Codec[T] {
	if c == nil {
		return JSON[T]{}
	}
	return c
}

// scratch keeps memory for bodies between sends: the sockets copy what they are given.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is the largest body whose memory is kept: one large message must not
// hold on to its memory for good.
const maxScratch = 64 << 10

// withBody encodes v and calls send with the body, which is valid until send returns.
func withBody[T any](c Codec[T], v T, send func(body []byte) error) error {
	buf := scratch.Get().(*[]byte)
	body, err := orJSON(c).Append((*buf)[:0], v)
	if err != nil {
		return fmt.Errorf("typed: encode %T: %w", v, err)
	}
	err = send(body)
	if cap(body) <= maxScratch {
		*buf = body
		scratch.Put(buf)
	}
	return err
}

// decode reads a body, with words that say what was wanted.
func decode[T any](c Codec[T], body []byte) (T, error) {
	v, err := orJSON(c).Decode(body)
	if err != nil {
		return v, fmt.Errorf("typed: decode %T: %w", v, err)
	}
	return v, nil
}
