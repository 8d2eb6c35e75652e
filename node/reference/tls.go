package reference

import (
	"context"
	"crypto/tls"
	"net"

	"peermesh/internal/identity"
)

// tlsLink is the address of a server: each stream is a connection.
type tlsLink struct {
	creds   *identity.Credentials
	address string
}

func (l tlsLink) open(ctx context.Context) (stream, error) {
	dialer := tls.Dialer{Config: l.creds.TLS(alpn)}
	c, err := dialer.DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, err
	}
	conn := c.(*tls.Conn) // as DialContext promises
	if _, err := l.creds.Verify(conn.ConnectionState()); err != nil {
		_ = conn.Close() // nothing was said yet
		return nil, err
	}
	return conn, nil
}

func (l tlsLink) close() error { return nil }

// tlsDoor accepts connections, of which each is a stream.
type tlsDoor struct {
	creds *identity.Credentials
	net.Listener
}

func listenTLS(creds *identity.Credentials, address string) (door, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return tlsDoor{creds, ln}, nil
}

func (d tlsDoor) accept(s *Server) error {
	c, err := d.Accept()
	if err != nil {
		return err
	}
	s.wg.Go(func() {
		conn := tls.Server(c, d.creds.TLS(alpn))
		if err := conn.HandshakeContext(s.ctx); err == nil {
			if _, err = d.creds.Verify(conn.ConnectionState()); err == nil {
				stop := context.AfterFunc(s.ctx, func() { _ = c.Close() }) // which is all there is to do
				s.serve(conn)
				stop()
			}
		}
		_ = conn.Close() // its other end has gone, or is not wanted
	})
	return nil
}

func (d tlsDoor) shut() error { return d.Close() }

func (d tlsDoor) free() error { return nil }
