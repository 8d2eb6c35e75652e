package reference

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
)

// MaxBody is the longest body of a message: the receiver's buffer holds it twice.
const MaxBody = readSize / 2

const (
	maxOverhead = 16        // of a record without headers and the like
	maxDelta    = 1<<14 - 1 // a record's place in its block takes two bytes at most, as a socket has it
)

// Client is the sending side of one Server or of several.
type Client struct {
	links []link
	free  func() error
}

// Dial connects to Servers of the same mesh and carrier. ctx bounds the handshakes.
func Dial(ctx context.Context, carrier Carrier, creds *identity.Credentials, addresses ...string) (*Client, error) {
	links, free, err := carrier.dial(ctx, creds, addresses)
	if free == nil {
		free = func() error { return nil }
	}
	c := &Client{links, free}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reference: %w", err), c.Close())
	}
	return c, nil
}

// Close ends the connections. It may be called once.
func (c *Client) Close() error {
	var errs []error
	for _, l := range c.links {
		errs = append(errs, l.close())
	}
	return errors.Join(append(errs, c.free())...)
}

// open opens a stream of a kind. When ctx ends, the stream does; stop undoes that.
func open(ctx context.Context, l link, kind byte) (st stream, stop func() bool, err error) {
	if st, err = l.open(ctx); err != nil {
		return nil, nil, fmt.Errorf("reference: %w", err)
	}
	stop = context.AfterFunc(ctx, func() { _ = st.Close() }) // whoever uses it is told
	if _, err := st.Write([]byte{kind}); err != nil {
		stop()
		return nil, nil, fmt.Errorf("reference: %w", err)
	}
	return st, stop, nil
}

// Push sends messages of that body, of at most MaxBody bytes, to every server, until
// more says that those sent are enough, which it is asked before every write of some
// 64 KiB; at most as many as it says are sent before it is asked again. It blocks until
// the servers have told that they parsed them all, and returns how many messages that is,
// each counted once.
func (c *Client) Push(ctx context.Context, body []byte, more func(sent int) (most int)) (sent int, err error) {
	if len(body) > MaxBody {
		return 0, fmt.Errorf("reference: body of %d bytes, at most %d", len(body), MaxBody)
	}
	pushes := make([]*push, len(c.links))
	for i, l := range c.links {
		if pushes[i], err = newPush(ctx, l); err != nil {
			return 0, err
		}
		defer pushes[i].close()
	}
	if len(pushes) == 1 {
		sent, err = runs(body, more, pushes[0].write)
	} else {
		f := newFan(pushes)
		sent, err = runs(body, more, f.write)
		err = errors.Join(err, f.end())
	}
	if err != nil {
		return 0, err
	}
	for _, p := range pushes {
		if err := p.finish(sent); err != nil {
			return 0, err
		}
	}
	return sent, nil
}

// runs frames messages and writes them in pieces of some 64 KiB. What was written is
// write's to keep only until it returns.
func runs(body []byte, more func(sent int) (most int), write func([]byte) error) (sent int, err error) {
	var run, buf []byte
	for most := more(0); most > 0; most = more(sent) {
		var n int
		run, n = appendRun(run[:0], body, most, wire.MaxRun)
		buf = wire.AppendData(buf[:0], wire.Run{Base: uint64(sent) + 1, Attempt: 1}, run)
		if err := write(buf); err != nil {
			return 0, err
		}
		sent += n
	}
	return sent, nil
}

// appendRun appends at most so many records, no more than so many bytes of them, but
// one at least. It tells how many.
func appendRun(dst, body []byte, most, bytes int) (run []byte, n int) {
	for n < min(most, maxDelta) && (n == 0 || len(dst)+len(body)+maxOverhead <= bytes) {
		dst = wire.AppendRecord(dst, wire.Record{Delta: uint64(n), Body: body})
		n++
	}
	return dst, n
}

// push is one stream of a Push.
type push struct {
	st   stream
	stop func() bool
}

func newPush(ctx context.Context, l link) (*push, error) {
	st, stop, err := open(ctx, l, pushStream)
	if err != nil {
		return nil, err
	}
	return &push{st, stop}, nil
}

func (p *push) write(b []byte) error {
	if _, err := p.st.Write(b); err != nil {
		return fmt.Errorf("reference: push: %w", err)
	}
	return nil
}

// finish waits for the server's word that it has parsed so many.
func (p *push) finish(sent int) error {
	if err := p.st.CloseWrite(); err != nil {
		return fmt.Errorf("reference: push: %w", err)
	}
	var told [8]byte
	if _, err := io.ReadFull(p.st, told[:]); err != nil {
		return fmt.Errorf("reference: push: %w", err)
	}
	if got := binary.BigEndian.Uint64(told[:]); got != uint64(sent) {
		return fmt.Errorf("reference: the server parsed %d records of %d", got, sent)
	}
	return nil
}

func (p *push) close() {
	p.stop()
	_ = p.st.Close() // all was read, or an error told
}
