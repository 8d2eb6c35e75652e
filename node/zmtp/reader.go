package zmtp

import (
	"errors"
	"fmt"
	"io"
)

const (
	smallChunk = 4 << 10 // what a quiet peer costs
	largeChunk = 64 << 10
)

var errParts = errors.New("zmtp: message of too many parts")

// A message is the parts of one ZeroMQ message. There is at least one.
type message [][]byte

// size is what a message counts against a bound.
func (m message) size() int {
	n := 0
	for _, part := range m {
		n += len(part)
	}
	return n
}

// A reader cuts what a peer writes into messages and commands. The parts of messages alias chunks that are never written
// again, so they may be kept; many small messages share one chunk.
type reader struct {
	from     io.Reader
	maxSize  int // bytes of a message
	maxParts int

	chunk []byte // chunk[at:end] is read and not yet parsed
	at    int
	end   int
	next  int // size of the next chunk

	batch []message // whole, and not delivered

	parts   [][]byte // of the message whose last part has not come; its bytes are partial
	partial int
	slab    [][]byte // room for the parts of messages
}

func newReader(from io.Reader, maxSize, maxParts int) *reader {
	return &reader{from: from, maxSize: maxSize, maxParts: maxParts, next: smallChunk}
}

// read waits for bytes and hands on what they complete, in order: messages to deliver, as many together as there are, and
// each command to obey. deliver must not keep its slice, only what is in it.
func (r *reader) read(deliver func([]message) error, obey func(command) error) error {
	r.room()
	n, err := r.from.Read(r.chunk[r.end:])
	if r.end += n; n > 0 && r.end == len(r.chunk) {
		r.next = min(2*len(r.chunk), largeChunk)
	}
	if n == 0 && err == nil {
		return io.ErrNoProgress
	}
	if n == 0 {
		return err
	}
	defer func() {
		clear(r.batch)
		r.batch = r.batch[:0]
	}()
	bad := r.parse(deliver, obey)
	if len(r.batch) > 0 {
		if err := deliver(r.batch); err != nil {
			return err
		}
	}
	return bad
}

// parse collects messages in the batch, and calls obey for commands behind those before them.
func (r *reader) parse(deliver func([]message) error, obey func(command) error) error {
	for {
		f, n, err := parseFrame(r.chunk[r.at:r.end], r.maxSize-r.partial)
		if err != nil || n == 0 {
			return err
		}
		r.at += n
		if !f.command {
			m, err := r.part(f)
			if err != nil {
				return err
			}
			if m != nil {
				r.batch = append(r.batch, m)
			}
			continue
		}
		if len(r.parts) > 0 {
			return fmt.Errorf("%w: between the parts of a message", errCommand)
		}
		c, err := parseCommand(f.body)
		if err != nil {
			return err
		}
		if len(r.batch) > 0 {
			if err := deliver(r.batch); err != nil {
				return err
			}
			clear(r.batch)
			r.batch = r.batch[:0]
		}
		if err := obey(c); err != nil {
			return err
		}
	}
}

// part adds a part to the message that is coming, and returns that when it is whole.
func (r *reader) part(f frame) (message, error) {
	if len(r.parts) == 0 && !f.more { // most messages
		return r.keep(f.body), nil
	}
	if len(r.parts) == r.maxParts {
		return nil, fmt.Errorf("%w: at most %d", errParts, r.maxParts)
	}
	r.parts = append(r.parts, f.body)
	r.partial += len(f.body)
	if f.more {
		return nil, nil
	}
	m := message(r.parts)
	r.parts, r.partial = nil, 0
	return m, nil
}

// keep makes a message of one part, with one allocation for many.
func (r *reader) keep(body []byte) message {
	if len(r.slab) == cap(r.slab) {
		r.slab = make([][]byte, 0, min(max(16, 2*cap(r.slab)), 512))
	}
	n := len(r.slab)
	r.slab = append(r.slab, body)
	return r.slab[n : n+1 : n+1]
}

// room makes room for at least one byte. A chunk that holds the beginning of a large frame grows as its bytes come, not as
// its length claims.
func (r *reader) room() {
	if r.end < len(r.chunk) {
		return
	}
	rest := r.chunk[r.at:r.end]
	size := r.next
	if len(rest) >= size/2 {
		size = 2 * len(rest)
		if _, head, body, err := parseHead(rest, r.maxSize); err == nil && head > 0 {
			size = max(min(size, head+body), len(rest)+1)
		}
	}
	r.chunk = make([]byte, size)
	r.at, r.end = 0, copy(r.chunk, rest)
}
