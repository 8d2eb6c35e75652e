package reference

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"peermesh/internal/wire"
)

const (
	// datagram is how many bytes of records go in one: a packet of any network that QUIC
	// runs on, as QUIC fills it.
	datagram = 1400
	// MaxDatagram is the longest body of a message over UDP.
	MaxDatagram = 60 << 10
	// askAgain is how long to wait for an answer before it is taken for lost.
	askAgain = 100 * time.Millisecond
	// askAtMost is how often to ask for it.
	askAtMost = 50
)

// What a datagram is for: its first byte. In questions and requests a number follows,
// which the answer repeats.
const (
	recordDatagram   = 'd' // a DATA frame
	questionDatagram = 'q' // how many records have come? answered with that behind the number
	echoDatagram     = 'e' // a request's body, sent back
)

// numbered is the length of what stands before what is asked or answered.
const numbered = 1 + 8

// UDPServer is the receiving side over bare UDP. It trusts everyone.
type UDPServer struct {
	conn *net.UDPConn
	wg   sync.WaitGroup
}

// ListenUDP serves on the address until Close.
func ListenUDP(address string) (*UDPServer, error) {
	addr, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	if err := largeBuffers(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s := &UDPServer{conn: conn}
	s.wg.Go(s.serve)
	return s, nil
}

// largeBuffers asks for buffers as QUIC does; the system may give less.
func largeBuffers(conn *net.UDPConn) error {
	const size = 7 << 20
	return errors.Join(conn.SetReadBuffer(size), conn.SetWriteBuffer(size))
}

// Addr is the address that clients send to.
func (s *UDPServer) Addr() net.Addr { return s.conn.LocalAddr() }

// Close ends it. It may be called once.
func (s *UDPServer) Close() error {
	err := s.conn.Close()
	s.wg.Wait()
	return err
}

// serve counts records and answers until the socket is closed. Damage is not counted.
func (s *UDPServer) serve() {
	records := uint64(0)
	count := func(wire.Run, wire.Record) error { records++; return nil }
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil || n < numbered: // an answer that nobody took, or nothing of ours
		case buf[0] == recordDatagram:
			_, _ = parse(buf[1:n], count) // what is damaged is lost
		case buf[0] == questionDatagram:
			s.answer(binary.BigEndian.AppendUint64(buf[:numbered], records), from)
		case buf[0] == echoDatagram:
			s.answer(buf[:n], from)
		}
	}
}

func (s *UDPServer) answer(b []byte, to netip.AddrPort) {
	_, _ = s.conn.WriteToUDPAddrPort(b, to) // lost as any datagram may be
}

// UDPClient is the sending side over bare UDP. Its methods are for one goroutine.
type UDPClient struct {
	conn   *net.UDPConn
	number uint64 // of the last question or request
	buf    []byte
}

// DialUDP makes a client of the server at the address, which need not be there yet.
func DialUDP(address string) (*UDPClient, error) {
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	conn, err := net.DialUDP("udp", nil, to)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	c := &UDPClient{conn: conn, buf: make([]byte, 1<<16)}
	if err := largeBuffers(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// Close ends the client. It may be called once.
func (c *UDPClient) Close() error { return c.conn.Close() }

// Push is that of Client, but nothing is sent again, and the result is how many messages
// have arrived. A body may have MaxDatagram bytes.
func (c *UDPClient) Push(ctx context.Context, body []byte, more func(sent int) (most int)) (arrived int, err error) {
	if len(body) > MaxDatagram {
		return 0, fmt.Errorf("reference: body of %d bytes, at most %d", len(body), MaxDatagram)
	}
	before, err := c.records(ctx)
	if err != nil {
		return 0, err
	}
	var run, buf []byte
	sent := 0
	for most := more(0); most > 0 && ctx.Err() == nil; most = more(sent) {
		var n int
		run, n = appendRun(run[:0], body, most, datagram)
		buf = wire.AppendData(append(buf[:0], recordDatagram), wire.Run{Base: uint64(sent) + 1, Attempt: 1}, run)
		if _, err := c.conn.Write(buf); err != nil {
			return 0, fmt.Errorf("reference: push: %w", err)
		}
		sent += n
	}
	after, err := c.records(ctx)
	return int(after - before), err
}

// records asks the server how many have come.
func (c *UDPClient) records(ctx context.Context) (uint64, error) {
	answer, err := c.ask(ctx, questionDatagram, nil)
	if err == nil && len(answer) != 8 {
		err = fmt.Errorf("reference: answer of %d bytes to a question", len(answer))
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(answer), nil
}

// ask sends something and waits for its answer, again and again if need be.
func (c *UDPClient) ask(ctx context.Context, kind byte, request []byte) ([]byte, error) {
	c.number++
	question := binary.BigEndian.AppendUint64([]byte{kind}, c.number)
	for range askAtMost {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if _, err := c.conn.Write(append(question[:numbered], request...)); err != nil {
			return nil, fmt.Errorf("reference: %w", err)
		}
		if err := c.conn.SetReadDeadline(time.Now().Add(askAgain)); err != nil {
			return nil, fmt.Errorf("reference: %w", err)
		}
		for {
			n, err := c.conn.Read(c.buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("reference: %w", err)
			}
			if n >= numbered && bytes.Equal(c.buf[:numbered], question[:numbered]) {
				return c.buf[numbered:n], nil
			}
		}
	}
	return nil, errors.New("reference: the server does not answer")
}

// Do sends a request, of at most MaxDatagram bytes, and blocks until it has come back.
func (c *UDPClient) Do(ctx context.Context, request []byte) error {
	if len(request) > MaxDatagram {
		return fmt.Errorf("reference: request of %d bytes, at most %d", len(request), MaxDatagram)
	}
	answer, err := c.ask(ctx, echoDatagram, request)
	if err == nil && !bytes.Equal(answer, request) {
		err = errors.New("reference: the echo differs from the request")
	}
	return err
}
