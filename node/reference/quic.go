package reference

import (
	"context"
	"errors"
	"fmt"
	"net"

	"peermesh/internal/identity"

	"github.com/quic-go/quic-go"
)

// quicStream is a stream of quic-go.
type quicStream struct{ *quic.Stream }

func (s quicStream) CloseWrite() error { return s.Stream.Close() }

func (s quicStream) Close() error {
	s.CancelRead(1)
	s.CancelWrite(1)
	return nil
}

// quicLink is a connection to a server.
type quicLink struct{ conn *quic.Conn }

func (l quicLink) open(ctx context.Context) (stream, error) {
	st, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{st}, nil
}

func (l quicLink) close() error { return l.conn.CloseWithError(0, "") }

// dialQUIC connects to all servers from one UDP socket.
func dialQUIC(ctx context.Context, creds *identity.Credentials, addresses []string) (links []link, free func() error, err error) {
	end, err := bind("127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	for _, address := range addresses {
		to, err := net.ResolveUDPAddr("udp", address)
		if err != nil {
			return links, end.close, err
		}
		conn, err := end.transport.Dial(ctx, to, creds.TLS(alpn), nil)
		if err != nil {
			return links, end.close, fmt.Errorf("dial %s: %w", address, err)
		}
		links = append(links, quicLink{conn})
		if _, err := creds.Verify(conn.ConnectionState().TLS); err != nil {
			return links, end.close, err
		}
	}
	return links, end.close, nil
}

// quicDoor accepts connections and their streams.
type quicDoor struct {
	creds *identity.Credentials
	ln    *quic.Listener
	end   endpoint
}

func listenQUIC(creds *identity.Credentials, address string) (door, error) {
	end, err := bind(address)
	if err != nil {
		return nil, err
	}
	ln, err := end.transport.Listen(creds.TLS(alpn), nil)
	if err != nil {
		return nil, errors.Join(err, end.close())
	}
	return quicDoor{creds, ln, end}, nil
}

func (d quicDoor) Addr() net.Addr { return d.ln.Addr() }

func (d quicDoor) accept(s *Server) error {
	conn, err := d.ln.Accept(s.ctx)
	if err != nil {
		return err
	}
	s.wg.Go(func() { d.streams(s, conn) })
	return nil
}

// streams answers the streams of one connection until it ends.
func (d quicDoor) streams(s *Server, conn *quic.Conn) {
	if _, err := d.creds.Verify(conn.ConnectionState().TLS); err != nil {
		_ = conn.CloseWithError(1, err.Error()) // it may have gone by itself
		return
	}
	for {
		st, err := conn.AcceptStream(s.ctx)
		if err != nil {
			_ = conn.CloseWithError(0, "") // likewise
			return
		}
		s.wg.Go(func() { s.serve(quicStream{st}) })
	}
}

func (d quicDoor) shut() error { return d.ln.Close() }

func (d quicDoor) free() error { return d.end.close() }

// endpoint is a UDP socket and QUIC on it.
type endpoint struct {
	conn      *net.UDPConn
	transport *quic.Transport
}

func bind(address string) (endpoint, error) {
	addr, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return endpoint{}, err
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return endpoint{}, err
	}
	return endpoint{conn, &quic.Transport{Conn: conn}}, nil
}

func (e endpoint) close() error { return errors.Join(e.transport.Close(), e.conn.Close()) }
