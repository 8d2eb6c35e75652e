package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/discovery"
	"peermesh/internal/enroll"
	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"

	"github.com/quic-go/quic-go"
)

const (
	maxMaxMessage = wire.MaxMessage
	largeOverhead = wire.MaxHeaders + 4*wire.MaxName

	// maxShaking bounds handshakes that are under way from outside: one more ends the
	// oldest.
	maxShaking = 256
	// maxLinks bounds peers; more are refused.
	maxLinks = 4096
	// Above freeDials at once and a second, a dialer must prove its address: a flood of
	// forged ones costs it, not us. Above maxDials at once and dialsPerSecond, dialers
	// are refused before the costly part of a handshake.
	freeDials      = 64
	maxDials       = 1024
	dialsPerSecond = 256
	// Above toldRefusals at once and refusalsPerSecond, refusals that others cause, at
	// one link or before there is one, make no events: they would push out those of
	// others.
	toldRefusals      = 128
	refusalsPerSecond = 2
)

// Node is a member of a mesh. Safe for concurrent use.
type Node struct {
	cfg   Config
	log   *slog.Logger
	creds *identity.Credentials
	mesh  identity.MeshID
	local socket.Local
	self  socket.Peer
	store *spool.Store // nil without a state directory
	seqs  patterns.Seqs
	txs   *patterns.Txs

	gate       gate
	authority  ed25519.PublicKey // the mesh's
	user       ID                // of the user credential, on a machine that joined
	renewer    *enroll.Renewer   // elsewhere
	policyFile string            // "": none is watched
	adopting   sync.Mutex        // held while a policy is compared with the one in force and takes its place

	conn   net.PacketConn
	door   *door // nil: there is none
	heat   heat  // what it takes to spread a pipe
	tr     *quic.Transport
	ln     *quic.Listener
	qc     *quic.Config
	mdns   *discovery.MDNS
	static *discovery.Static

	ctx       context.Context
	cancel    context.CancelCauseFunc
	wg        sync.WaitGroup
	done      chan struct{}
	closeErr  error // of the first Close; set before done is closed
	hub       hub
	windows   *windows
	tickets   tickets
	memory    memory        // for those who ask why
	answering chan struct{} // a place for each question of a peer
	raised    sync.Once     // the incarnation, see rolledBack
	free      bucket        // dials that need no proof of their address
	dials     bucket        // from outside
	refused   bucket        // refusals of dials from outside that are told
	hearsay   chan struct{} // a place for each dial by hearsay
	turns     chan struct{} // a place for each dial that is new
	beats     *beats

	mu        sync.Mutex
	closing   bool // takes no new links and sockets
	links     map[ID]*link
	past      map[ID]past // of nodes linked or dialled before
	senders   map[socketKey]sender
	receivers map[uint64]receiver
	names     map[socketKey]bool // of receivers, those that are being made included
	sockets   uint64             // number of the last receiving socket
	targets   map[string]*target
	rumours   int // targets that are hearsay
	verdicts  map[verdictKey]Candidate
	problems  map[string]Problem
}

// Open makes a node and returns when its address is bound; peers come by and by. ctx
// bounds the opening only. A Dir in use by another process is spool.ErrLocked; one that
// SpoolKeyFile does not fit is spool.ErrNoKey, ErrWrongKey or ErrNotEncrypted and is left as it is.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	cfg, err := cfg.complete()
	n := &Node{cfg: cfg, conn: cfg.PacketConn, done: make(chan struct{}), links: map[ID]*link{},
		past: map[ID]past{}, senders: map[socketKey]sender{}, receivers: map[uint64]receiver{}, names: map[socketKey]bool{},
		targets: map[string]*target{}, verdicts: map[verdictKey]Candidate{}, problems: map[string]Problem{},
		free: bucket{burst: freeDials, perSecond: freeDials}, dials: bucket{burst: maxDials, perSecond: dialsPerSecond},
		refused: bucket{burst: toldRefusals, perSecond: refusalsPerSecond}, hearsay: make(chan struct{}, hearsayDials), turns: make(chan struct{}, dialTurns), beats: newBeats(),
		answering: make(chan struct{}, maxAnswering), windows: newWindows(windowBudget), tickets: tickets{links: map[[16]byte]*link{}}, heat: hot}
	n.log = slog.New(keepLog(n.cfg.Logger.Handler(), &n.memory.logs))
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	switch {
	case err != nil:
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = n.start()
	}
	if err != nil {
		n.cancel(err)
		return nil, errors.Join(err, n.end())
	}
	return n, nil
}

func (n *Node) start() error {
	key, err := n.identify()
	if err != nil {
		return err
	}
	if err := n.bind(key); err != nil {
		return err
	}
	n.wg.Go(n.acceptLinks)
	if n.door != nil {
		n.wg.Go(n.acceptNear)
	}
	if n.policyFile != "" {
		n.wg.Go(n.watchPolicy)
	}
	n.wg.Go(n.watchWork)
	return n.discover()
}

// identify loads or makes the mesh credential, the node's key and its state.
func (n *Node) identify() (key identity.Key, err error) {
	mesh, credential, err := loadMesh(n.cfg)
	if err != nil {
		return key, fmt.Errorf("node: mesh credential: %w", err)
	}
	var nonce [16]byte
	if _, err := io.ReadFull(rand.Reader, nonce[:]); err != nil {
		return key, err
	}
	n.local = socket.Local{Store: nonce, Edition: binary.BigEndian.Uint64(nonce[:8]), Nonce: nonce, Incarnation: 1}
	if n.cfg.Dir == "" {
		if key, err = identity.NewKey(); err != nil {
			return key, err
		}
		n.seqs = &patterns.MemorySeqs{}
	} else {
		secret, err := readSpoolKey(n.cfg.SpoolKeyFile)
		if err != nil {
			return key, err
		}
		if err := os.MkdirAll(n.cfg.Dir, 0o700); err != nil {
			return key, fmt.Errorf("node: state directory: %w", err)
		}
		if n.store, err = spool.Open(filepath.Join(n.cfg.Dir, "spool"), spool.Options{Logger: n.log, Quota: n.cfg.Quota, Key: secret, Profile: n.cfg.SpoolProfile}); err != nil {
			return key, fmt.Errorf("node: %w", err)
		}
		if key, err = identity.LoadOrCreateKey(filepath.Join(n.cfg.Dir, "node.key")); err != nil {
			return key, fmt.Errorf("node: %w", err)
		}
		n.seqs = n.store
		n.local.Store, n.local.Edition, n.local.Incarnation = n.store.ID(), n.store.Edition(), n.store.Incarnation()
	}
	n.mesh = mesh.ID()
	if u, joined := mesh.User(); joined && len(n.cfg.Roles) == 0 {
		n.cfg.Roles = u.Limits.Given()
	}
	n.creds, err = identity.NewCredentials(mesh, key, identity.Claims{Namespace: n.cfg.Namespace, Name: n.cfg.Name, Roles: n.cfg.Roles}, time.Now)
	if err != nil {
		return key, fmt.Errorf("node: %w", err)
	}
	numbers := new(atomic.Uint64)
	n.local.Node, n.local.Namespace = key.ID(), n.cfg.Namespace
	if err := n.loadPolicy(mesh, credential); err != nil {
		return key, err
	}
	n.local.MaxMessage, n.local.Budget = n.cfg.MaxMessage, socket.NewBudget(n.cfg.LargeBudget)
	n.local.Numbers = func() uint64 { return numbers.Add(1) }
	n.txs = patterns.NewTxs(patterns.Env{Local: n.local, Store: n.store})
	n.self = socket.Peer{ID: key.ID(), Name: n.cfg.Name, Nonce: nonce, Incarnation: n.local.Incarnation, MaxMessage: n.cfg.MaxMessage}
	return key, nil
}

// loadMesh also returns where the credential lies; "" if it is in no file.
func loadMesh(cfg Config) (m *identity.Mesh, path string, err error) {
	switch {
	case len(cfg.MeshPEM) > 0:
		m, err = identity.ParseMesh(cfg.MeshPEM)
		return m, "", err
	case cfg.Mesh != "":
		m, err = identity.LoadMesh(cfg.Mesh)
		return m, cfg.Mesh, err
	}
	return identity.DefaultMesh()
}

// bind opens the UDP socket and the QUIC transport on it.
func (n *Node) bind(key identity.Key) error {
	if n.conn == nil {
		addr, err := net.ResolveUDPAddr("udp", n.cfg.Listen)
		if err != nil {
			return fmt.Errorf("node: listen address: %w", err)
		}
		conn, err := net.ListenUDP("udp", addr)
		if err != nil {
			return fmt.Errorf("node: %w", err)
		}
		n.conn = readTrains(conn, n.cfg.Poll)
		if !n.cfg.UDPOnly {
			if n.door, err = openDoor(n.mesh); err != nil {
				n.log.Debug("no door for peers on this host", "err", err)
			}
		}
	}
	reset := quic.StatelessResetKey(key.Derive("quic stateless reset"))
	token := quic.TokenGeneratorKey(key.Derive("quic token"))
	n.tr = &quic.Transport{Conn: n.conn, ConnectionIDLength: 8, StatelessResetKey: &reset, TokenGeneratorKey: &token,
		VerifySourceAddress: func(net.Addr) bool { return !n.free.take() }, ConnContext: n.admit}
	n.qc = &quic.Config{
		HandshakeIdleTimeout:           n.cfg.HandshakeTimeout,
		MaxIdleTimeout:                 10 * time.Second,
		KeepAlivePeriod:                3 * time.Second,
		MaxIncomingStreams:             4096, // the default of 100 stops the 101st socket pair
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              1200, // paths of less than 1320 bytes exist
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         mostStream,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     mostConnection,
		AllowConnectionWindowIncrease:  n.windows.grow,
	}
	conf, err := n.accepts()
	if err != nil {
		return err
	}
	ln, err := n.tr.Listen(conf, n.qc)
	if err != nil {
		return fmt.Errorf("node: listen: %w", err)
	}
	n.ln = ln
	return nil
}

// accepts is how a node meets those who dial it: as a peer, for a further connection of one, or, if it holds the mesh's
// key, as who renews credentials.
func (n *Node) accepts() (*tls.Config, error) {
	conf := n.creds.TLS(wire.ALPN)
	others := map[string]*tls.Config{}
	if n.cfg.Stripes > 0 {
		others[wire.StripeALPN] = n.creds.TLS(wire.StripeALPN)
	}
	if n.renewer != nil {
		renewal, err := identity.Unproved(enrollALPN)
		if err != nil {
			return nil, fmt.Errorf("node: %w", err)
		}
		others[enrollALPN] = renewal
	}
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(hello.SupportedProtos) != 1 {
			return nil, nil // the one it is asked of
		}
		return others[hello.SupportedProtos[0]], nil
	}
	return conf, nil
}

// admit is asked before a handshake begins.
func (n *Node) admit(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if !n.dials.take() {
		return nil, errCrowded
	}
	return ctx, nil
}

// ID is the node's id.
func (n *Node) ID() ID { return n.local.Node }

// Name is the node's label.
func (n *Node) Name() string { return n.cfg.Name }

// Namespace is the node's namespace.
func (n *Node) Namespace() string { return n.cfg.Namespace }

// Mesh is the id of the node's mesh.
func (n *Node) Mesh() string { return n.mesh.String() }

// Addr is the UDP address the node listens on.
func (n *Node) Addr() net.Addr { return n.conn.LocalAddr() }

// Incarnation rises each time a state directory is opened; without one it is 1.
func (n *Node) Incarnation() uint64 { return n.local.Incarnation }

// Peer is a node that is linked.
type Peer struct {
	ID          ID
	Name        string
	Namespace   string
	Addr        string
	Incarnation uint64
	Since       time.Time
	RTT         time.Duration // of the last heartbeat; 0: none yet
	Via         string        // how messages travel: ViaUnix to a node on this host, otherwise ViaUDP
	Stripes     int           // connections that messages to or from there are spread over now; 0: they are not
	Offers      []Offer       // what can be sent to there
}

// Offer is a receiving socket of a peer.
type Offer struct {
	Kind socket.Kind
	Name string
}

// Peers lists the linked nodes.
func (n *Node) Peers() []Peer {
	n.mu.Lock()
	links := make([]*link, 0, len(n.links))
	for _, l := range n.links {
		links = append(links, l)
	}
	n.mu.Unlock()
	out := make([]Peer, 0, len(links))
	for _, l := range links {
		out = append(out, l.describe())
	}
	return out
}

// Ping measures one round trip over the link to a peer, through both processes.
func (n *Node) Ping(ctx context.Context, id ID) (time.Duration, error) {
	n.mu.Lock()
	l := n.links[id]
	n.mu.Unlock()
	if l == nil {
		return 0, fmt.Errorf("node: no link to %v", id)
	}
	return l.ping(ctx)
}

// Shutdown finishes what is owed: receiving sockets answer what was begun, sending
// ones wait until everything is settled, or nobody has anything in hand of what stays in the
// state directory; then peers are told and the node closes.
// When ctx ends first, the rest is given up: counted, and in the error.
func (n *Node) Shutdown(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	receivers, senders := n.openSockets()
	wg.Go(func() { errs <- each(receivers, func(r receiver) error { return r.Shutdown(ctx) }) })
	wg.Go(func() { errs <- each(senders, func(s sender) error { return s.Shutdown(ctx) }) })
	wg.Wait()
	return errors.Join(<-errs, <-errs, n.Close())
}

// Close ends the node now. What is owed at level Memory is dropped (shutdown) and
// counted, but for what a Push can leave in the state directory; what was begun elsewhere
// goes on. It waits for every goroutine and may be
// called twice; then it returns what the first call returned.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closing {
		n.mu.Unlock()
		<-n.done
		return n.closeErr
	}
	n.closing = true
	n.mu.Unlock()
	receivers, senders := n.openSockets()
	err := errors.Join(
		each(receivers, func(r receiver) error { return r.Close() }),
		each(senders, func(s sender) error { return s.Close() }))
	n.leaveLinks()
	n.cancel(errClosing)
	n.closeErr = errors.Join(err, n.end()) // read only after done
	close(n.done)
	return n.closeErr
}

// end waits for every goroutine, which the node's context has ended, and frees what
// Open took. The transport goes last: without it nobody could be told, and a peer in
// the middle of a handshake would take the link for up until it times out.
func (n *Node) end() error {
	var errs []error
	if n.ln != nil {
		errs = append(errs, n.ln.Close())
	}
	if n.door != nil {
		errs = append(errs, n.door.ln.Close())
	}
	n.wg.Wait()
	n.beats.end()
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if n.tr != nil {
		errs = append(errs, n.tr.Close())
	}
	if n.conn != nil {
		if err := n.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// each calls f for all at once and joins the errors.
func each[T any](all []T, f func(T) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, v := range all {
		wg.Go(func() { errs[i] = f(v) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
