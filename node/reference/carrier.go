package reference

import (
	"context"
	"fmt"
	"io"

	"peermesh/internal/identity"
)

// Carrier is what streams run over.
type Carrier string

// The carriers.
const (
	QUIC Carrier = "quic" // a stream of a connection that all streams share
	TLS  Carrier = "tls"  // a TCP connection of its own
)

// alpn tells a reference from a node.
const alpn = "peermesh-reference/1"

// stream is a stream of any carrier. Close ends both directions at once.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// link is the way from a client to one server.
type link interface {
	open(ctx context.Context) (stream, error)
	close() error
}

// dial makes a link to each server.
func (c Carrier) dial(ctx context.Context, creds *identity.Credentials, addresses []string) (links []link, free func() error, err error) {
	switch c {
	case QUIC:
		return dialQUIC(ctx, creds, addresses)
	case TLS:
		for _, a := range addresses {
			links = append(links, tlsLink{creds, a})
		}
		return links, func() error { return nil }, nil
	}
	return nil, nil, fmt.Errorf("reference: no such carrier: %q", c)
}
