package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"peermesh/socket"
)

// lineChunk is how much of stdin is read at a time.
const lineChunk = 64 << 10

// lineSource takes messages from a stream, one a line: the separator is cut off and
// nothing else, an empty line is an empty message, and a last line without separator
// counts. A line longer than limit is an error for this line only.
//
// A goroutine reads, because a read of a terminal or a pipe cannot be interrupted
// and the end of ctx must be. It hands over whole lines in pieces of up to 64 KiB,
// one ahead of what is being sent, so memory stays bounded by the longest line. When
// the source is left early it ends with its next read.
type lineSource struct {
	separator byte
	chunks    chan lineBatch
	spare     chan []byte
	left      chan struct{} // closed when nobody takes chunks any more
	current   []byte        // lines not yet handed out
	whole     []byte        // the piece that current is part of
	end       error
}

// lineBatch is some lines, each with its separator but perhaps for the last of the
// stream. One of tooLong is a single line cut at the limit.
type lineBatch struct {
	lines   []byte
	tooLong bool
	err     error
}

func newLineSource(r io.Reader, separator byte, limit int) *lineSource {
	s := &lineSource{separator: separator, chunks: make(chan lineBatch), spare: make(chan []byte, 2), left: make(chan struct{})}
	s.spare <- nil
	s.spare <- nil
	l := lineReader{r: r, separator: separator, limit: limit}
	go s.read(&l)
	return s
}

// read hands over what the reader finds until it ends or the source is left.
func (s *lineSource) read(l *lineReader) {
	for {
		var b lineBatch
		select {
		case buf := <-s.spare:
			b = l.batch(buf[:0])
		case <-s.left:
			return
		}
		select {
		case s.chunks <- b:
		case <-s.left:
			return
		}
		if b.err != nil {
			return
		}
	}
}

// close lets the reading goroutine go, at the latest after its next read.
func (s *lineSource) close() { close(s.left) }

func (s *lineSource) next(ctx context.Context) ([]byte, error) {
	if len(s.current) > 0 && ctx.Err() == nil {
		return s.cut(), nil
	}
	if s.end != nil {
		return nil, s.end
	}
	if s.whole != nil {
		s.spare <- s.whole // there is room: two go round
		s.whole = nil
	}
	select {
	case b := <-s.chunks:
		s.current, s.whole, s.end = b.lines, b.lines, b.err
		switch {
		case b.tooLong:
			s.current = nil
			return nil, fmt.Errorf("%w: a line of more than %d bytes", socket.ErrTooLarge, len(b.lines)-1)
		case len(b.lines) == 0:
			return nil, s.end // a batch is empty only at the end
		}
		return s.cut(), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// cut takes the next line.
func (s *lineSource) cut() []byte {
	line := s.current
	if i := bytes.IndexByte(line, s.separator); i >= 0 {
		line, s.current = line[:i], line[i+1:]
		return line
	}
	s.current = nil
	return line
}

// lineReader cuts a stream into batches of whole lines.
type lineReader struct {
	r         io.Reader
	separator byte
	limit     int
	rest      []byte // the beginning of a line of which the end has not been read
	skipping  bool   // the rest of a line that was too long is to be thrown away
	err       error
}

// batch reads until there is at least one whole line, into buf as far as it fits.
func (l *lineReader) batch(buf []byte) lineBatch {
	buf = append(buf, l.rest...)
	l.rest = l.rest[:0]
	for {
		if errors.Is(l.err, io.EOF) {
			return lineBatch{lines: buf, err: l.err}
		}
		if l.err != nil { // half a line is no message
			return lineBatch{err: l.err}
		}
		at := len(buf)
		buf = append(buf, make([]byte, max(lineChunk-at, lineChunk/2))...)
		n, err := l.r.Read(buf[at:])
		buf = buf[:at+n]
		l.err = failedRead(err)
		fresh := l.skip(buf[at:])
		buf = buf[:at+copy(buf[at:], fresh)]
		end := bytes.LastIndexByte(buf[at:], l.separator) + 1 // none before at
		switch {
		case end > 0:
			l.rest = append(l.rest, buf[at+end:]...)
			return lineBatch{lines: buf[:at+end]}
		case len(buf) > l.limit:
			l.skipping = true
			return lineBatch{lines: buf[:l.limit+1], tooLong: true}
		}
	}
}

// skip throws away what belongs to a line that was too long.
func (l *lineReader) skip(read []byte) []byte {
	if !l.skipping {
		return read
	}
	i := bytes.IndexByte(read, l.separator)
	if i < 0 {
		return nil
	}
	l.skipping = false
	return read[i+1:]
}

func failedRead(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("stdin: %w", err)
}
