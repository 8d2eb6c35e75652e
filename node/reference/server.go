package reference

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
)

// What a stream carries: its first byte.
const (
	pushStream = 'p'
	echoStream = 'e'
	muxStream  = 'm'
)

// readSize is the receiver's buffer; it holds more than the longest frame of a push.
const readSize = 256 << 10

// Server is the receiving side.
type Server struct {
	door door

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// door is the listening side of a carrier.
type door interface {
	Addr() net.Addr
	accept(*Server) error // waits for a client and has its streams served
	shut() error          // ends accept
	free() error          // once nobody is served any more
}

// Listen serves on the address until Close. Who cannot prove to be of the credentials'
// mesh is turned away.
func Listen(carrier Carrier, creds *identity.Credentials, address string) (*Server, error) {
	var d door
	err := fmt.Errorf("no such carrier: %q", carrier)
	switch carrier {
	case QUIC:
		d, err = listenQUIC(creds, address)
	case TLS:
		d, err = listenTLS(creds, address)
	}
	if err != nil {
		return nil, fmt.Errorf("reference: listen: %w", err)
	}
	s := &Server{door: d}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.wg.Go(func() {
		for d.accept(s) == nil { // until it is shut
		}
	})
	return s, nil
}

// Addr is the address that clients dial.
func (s *Server) Addr() net.Addr { return s.door.Addr() }

// Close ends every connection and waits until nothing of the server is left. It may
// be called once.
func (s *Server) Close() error {
	s.stop()
	err := s.door.shut()
	s.wg.Wait()
	return errors.Join(err, s.door.free())
}

// serve does what a stream's first byte asks for.
func (s *Server) serve(st stream) {
	buf := make([]byte, readSize)
	_, err := io.ReadFull(st, buf[:1])
	if err == nil {
		switch buf[0] {
		case pushStream:
			err = receive(st, buf)
		case echoStream:
			err = echo(st, buf)
		case muxStream:
			err = answer(st, buf)
		default:
			err = fmt.Errorf("stream of unknown kind 0x%02x", buf[0])
		}
	}
	if err != nil {
		_ = st.Close() // all that can be told
	}
}

// echo sends back whatever comes.
func echo(st stream, buf []byte) error {
	for {
		n, err := st.Read(buf)
		if n > 0 {
			if _, err := st.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return st.CloseWrite()
		}
		if err != nil {
			return err
		}
	}
}

// receive reads frames to the end of the stream and tells how many records they held.
func receive(st stream, buf []byte) error {
	var records uint64
	err := frames(st, buf, func(_ wire.Run, _ wire.Record) error { records++; return nil }, nil)
	if err != nil {
		return err
	}
	if _, err := st.Write(binary.BigEndian.AppendUint64(nil, records)); err != nil {
		return err
	}
	return st.CloseWrite()
}

// answer sends each request's body back; one write answers all that one read brought.
func answer(st stream, buf []byte) error {
	var out []byte
	err := frames(st, buf, func(run wire.Run, r wire.Record) error {
		out = wire.AppendReply(out, wire.Reply{Seq: run.Base + r.Delta, Outcome: wire.OK, Total: uint64(len(r.Body)), Part: r.Body})
		return nil
	}, func() error {
		_, err := st.Write(out)
		out = out[:0]
		return err
	})
	if err != nil {
		return err
	}
	return st.CloseWrite()
}

// frames reads DATA frames to the end of the stream and hands over each record; after
// each read that brought some, it calls batch.
func frames(st io.Reader, buf []byte, each func(wire.Run, wire.Record) error, batch func() error) error {
	have := 0
	for {
		n, err := st.Read(buf[have:])
		have += n
		rest, perr := parse(buf[:have], each)
		if perr != nil {
			return perr
		}
		if batch != nil && len(rest) < have {
			if err := batch(); err != nil {
				return err
			}
		}
		have = copy(buf, rest)
		switch {
		case errors.Is(err, io.EOF) && have == 0:
			return nil
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case have == len(buf):
			return fmt.Errorf("frame of more than %d bytes", len(buf))
		}
	}
}

// parse checks the records of every whole frame in b, hands them over, and returns what
// follows.
func parse(b []byte, each func(wire.Run, wire.Record) error) (rest []byte, err error) {
	for {
		t, payload, rest, _, err := wire.Next(b)
		if errors.Is(err, wire.ErrShort) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if t != wire.TypeData {
			return nil, fmt.Errorf("frame 0x%02x where only DATA is expected", byte(t))
		}
		run, records, err := wire.ParseData(payload)
		if err != nil {
			return nil, err
		}
		for len(records) > 0 {
			var r wire.Record
			if r, records, err = wire.NextRecord(records); err != nil {
				return nil, err
			}
			if err := each(run, r); err != nil {
				return nil, err
			}
		}
		b = rest
	}
}
