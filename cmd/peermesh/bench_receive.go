package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/node/reference"
	"peermesh/patterns"
	"peermesh/socket"
)

// benchReceiver is the receiving child: nodes with a socket each, or servers.
type benchReceiver struct {
	addrs  []string
	closes []func() error
	work   sync.WaitGroup

	mu   sync.Mutex
	seen *histogram
}

func (r benchRole) openReceiver(ctx context.Context) (benchSide, error) {
	p := &benchReceiver{seen: &histogram{}}
	for i := range r.Nodes {
		n, err := r.openNode(ctx, fmt.Sprintf("bench-%s-%d", r.Role, i))
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.closes = append(p.closes, n.Close)
		p.addrs = append(p.addrs, n.Addr().String())
		if err := p.openSocket(ctx, r.Role, n); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	return p, nil
}

// openNode opens a node on loopback that knows whom to dial, and dials nobody else: 256 receivers of one sender would
// link to each other too.
func (r benchRole) openNode(ctx context.Context, name string) (*node.Node, error) {
	c := node.Config{Name: name, Namespace: benchName, MeshPEM: []byte(r.Mesh), Listen: "127.0.0.1:0", NoMDNS: true, NoHearsay: true,
		UDPOnly: r.UDPOnly, Stripes: r.Stripes, Poll: r.Poll, Peers: r.To, Dir: r.Dir, SpoolKeyFile: r.SpoolKey, SpoolProfile: r.Spool, MaxMessage: max(r.Size, node.DefaultMaxMessage)}
	if r.PlainSocket {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		c.PacketConn = conn
	}
	return node.Open(ctx, c)
}

// openSocket opens the receiving socket of one node and handles what it gets.
func (p *benchReceiver) openSocket(ctx context.Context, role string, n *node.Node) error {
	switch role {
	case rolePull:
		s, err := n.Pull(benchName)
		if err != nil {
			return err
		}
		p.work.Go(func() { p.take(ctx, s.Recv) })
	case roleSub:
		s, err := n.Sub(benchName, patterns.Topics(benchName))
		if err != nil {
			return err
		}
		p.work.Go(func() { p.take(ctx, s.Recv) })
	default:
		s, err := n.Rep(benchName)
		if err != nil {
			return err
		}
		p.work.Go(func() {
			_ = s.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) { return m.Body, nil })
		})
	}
	return nil
}

// take acknowledges messages until ctx ends or the socket closes.
func (p *benchReceiver) take(ctx context.Context, recv func(context.Context) (*socket.Message, error)) {
	clock := newHostClock()
	for {
		m, err := recv(ctx)
		if err != nil {
			return
		}
		if len(m.Body) >= stampSize {
			if sent := binary.BigEndian.Uint64(m.Body); sent != 0 {
				took := time.Duration(clock.now() - int64(sent))
				p.mu.Lock()
				p.seen.record(took)
				p.mu.Unlock()
			}
		}
		if m.Ack() != nil {
			return // closed
		}
	}
}

// hostClock reads the host's monotonic clock, which both sides share, without a system
// call each time.
type hostClock struct {
	began time.Time
	at    int64
}

func newHostClock() hostClock { return hostClock{time.Now(), monotonic()} }

func (c hostClock) now() int64 { return c.at + int64(time.Since(c.began)) }

// stampSize is the head of a body: when it was sent, by the host's monotonic clock;
// zero in messages whose latency is not measured.
const stampSize = 8

func (p *benchReceiver) report() benchReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := benchReport{Addrs: p.addrs, Latency: p.seen}
	p.seen = &histogram{}
	return r
}

// close closes what is open, which ends what is done with it.
func (p *benchReceiver) close() error {
	var errs []error
	for _, f := range p.closes {
		errs = append(errs, f())
	}
	p.work.Wait()
	return errors.Join(errs...)
}

// carriers are what the roles of references run over.
var carriers = map[string]reference.Carrier{
	roleQUIC: reference.QUIC, roleQUICSpread: reference.QUIC, roleQUICServer: reference.QUIC, roleTLS: reference.TLS, roleTLSServer: reference.TLS,
}

func (r benchRole) openServers() (benchSide, error) {
	p := &benchReceiver{seen: &histogram{}}
	var creds *identity.Credentials
	if r.Role != roleUDPServer {
		var err error
		if creds, err = r.credentials(); err != nil {
			return nil, err
		}
	}
	for range r.Nodes {
		s, err := r.openServer(creds)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.closes = append(p.closes, s.Close)
		p.addrs = append(p.addrs, s.Addr().String())
	}
	return p, nil
}

// server is any of the reference.
type server interface {
	Addr() net.Addr
	Close() error
}

func (r benchRole) openServer(creds *identity.Credentials) (server, error) {
	const address = "127.0.0.1:0"
	if r.Role == roleUDPServer {
		return reference.ListenUDP(address)
	}
	return reference.Listen(carriers[r.Role], creds, address)
}

// credentials makes a member of the bench's mesh.
func (r benchRole) credentials() (*identity.Credentials, error) {
	m, err := identity.ParseMesh([]byte(r.Mesh))
	if err != nil {
		return nil, err
	}
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	return identity.NewCredentials(m, key, identity.Claims{Namespace: benchName, Name: r.Role}, nil)
}
