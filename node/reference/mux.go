package reference

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"peermesh/internal/wire"
)

// Mux is a stream for the requests of many callers at a time. What is asked while a
// write is under way goes out with the next one.
type Mux struct {
	st   stream
	stop func() bool
	wg   sync.WaitGroup
	wake chan struct{}
	over chan struct{} // closed when the stream has ended and err is set

	waits []chan []byte // of each caller, for its answer

	mu     sync.Mutex
	run    []byte // records that are in no frame yet
	out    []byte // frames to write
	closed bool

	end sync.Once
	err error
}

// Mux opens a stream to the first server for so many callers. ctx bounds all requests.
func (c *Client) Mux(ctx context.Context, callers int) (*Mux, error) {
	st, stop, err := open(ctx, c.links[0], muxStream)
	if err != nil {
		return nil, err
	}
	m := &Mux{st: st, stop: stop, wake: make(chan struct{}, 1), over: make(chan struct{}), waits: make([]chan []byte, callers)}
	for i := range m.waits {
		m.waits[i] = make(chan []byte, 1)
	}
	m.wg.Go(func() { m.finish(m.writeAll()) })
	m.wg.Go(func() { m.finish(m.readAll()) })
	return m, nil
}

// Do sends a request of a caller, of at most MaxBody bytes, and blocks until its answer
// has come, which is valid until that caller's next one. Callers are numbered from 0, and
// each may have one request at a time.
func (m *Mux) Do(caller int, request []byte) ([]byte, error) {
	if len(request) > MaxBody {
		return nil, fmt.Errorf("reference: request of %d bytes, at most %d", len(request), MaxBody)
	}
	m.mu.Lock()
	m.run = wire.AppendRecord(m.run, wire.Record{Delta: uint64(caller), Body: request})
	if len(m.run) >= wire.MaxRun/2 {
		m.seal()
	}
	m.mu.Unlock()
	m.kick()
	select {
	case answer := <-m.waits[caller]:
		return answer, nil
	case <-m.over:
		return nil, fmt.Errorf("reference: mux: %w", m.err)
	}
}

func (m *Mux) kick() {
	select {
	case m.wake <- struct{}{}:
	default: // it is about to look
	}
}

// seal makes a frame of the records. m.mu must be held.
func (m *Mux) seal() {
	if len(m.run) > 0 {
		m.out = wire.AppendData(m.out, wire.Run{Base: 1, Attempt: 1}, m.run)
		m.run = m.run[:0]
	}
}

func (m *Mux) writeAll() error {
	var buf []byte
	for range m.wake {
		m.mu.Lock()
		m.seal()
		buf, m.out = m.out, buf[:0]
		closed := m.closed
		m.mu.Unlock()
		if len(buf) > 0 {
			if _, err := m.st.Write(buf); err != nil {
				return err
			}
		}
		if closed {
			return m.st.CloseWrite()
		}
	}
	return nil
}

// readAll hands out the answers until the server ends the stream.
func (m *Mux) readAll() error {
	buf := make([]byte, readSize)
	bodies := make([][]byte, len(m.waits))
	have := 0
	for {
		n, err := m.st.Read(buf[have:])
		have += n
		rest := buf[:have]
		for {
			t, payload, after, _, err := wire.Next(rest)
			if errors.Is(err, wire.ErrShort) {
				break
			}
			if err != nil {
				return err
			}
			if t != wire.TypeReply {
				return fmt.Errorf("frame 0x%02x where only REPLY is expected", byte(t))
			}
			r, err := wire.ParseReply(payload)
			if err != nil {
				return err
			}
			if r.Seq < 1 || r.Seq > uint64(len(m.waits)) {
				return fmt.Errorf("an answer to request %d", r.Seq)
			}
			i := r.Seq - 1
			bodies[i] = append(bodies[i][:0], r.Part...)
			select {
			case m.waits[i] <- bodies[i]:
			default:
				return fmt.Errorf("two answers to request %d", r.Seq)
			}
			rest = after
		}
		have = copy(buf, rest)
		if err != nil {
			return err
		}
		if have == len(buf) {
			return fmt.Errorf("frame of more than %d bytes", len(buf))
		}
	}
}

// finish notes why the stream is over, if it is.
func (m *Mux) finish(err error) {
	if err == nil {
		return // the writer has said all
	}
	m.end.Do(func() {
		m.err = err
		close(m.over)
		m.mu.Lock()
		m.closed = true
		m.mu.Unlock()
		m.kick()
	})
}

// Close ends the stream and waits until nothing of it is left. Requests under way fail.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.kick()
	m.wg.Wait()
	m.stop()
	return m.st.Close()
}
