package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"peermesh/internal/enroll"
	"peermesh/internal/identity"

	"github.com/quic-go/quic-go"
)

// enrollALPN is the protocol of those who are not in the mesh yet, or whose credential ran out.
const enrollALPN = "peermesh-enroll/1"

// Defaults of InviteConfig.
const (
	DefaultInviteTTL  = 10 * time.Minute
	DefaultInviteUses = 1
	// MaxInviteTTL bounds how long a token is good for.
	MaxInviteTTL = 30 * 24 * time.Hour
	// MaxInviteUses bounds how many machines may join with one.
	MaxInviteUses = enroll.MaxUses
)

const (
	// enrollWithin bounds one exchange, and enrollLinger how long its connection stays so that the last word arrives.
	enrollWithin = 15 * time.Second
	enrollLinger = 2 * time.Second
	// Above enrollBurst at once and enrollPerSecond those who come are refused, whoever they are: so nobody tries more
	// secrets, and none costs more.
	enrollBurst     = 64
	enrollPerSecond = 16
)

var (
	// ErrInvitationOver is an invitation that ended by time.
	ErrInvitationOver = errors.New("node: the invitation is over")
	// ErrNoMeshKey is what only a machine with the mesh's own key can do, asked of one that joined.
	ErrNoMeshKey = identity.ErrNoMeshKey
	// ErrLimits is a node that this machine was not invited to have; the text says which it was.
	ErrLimits = identity.ErrLimits
)

// Enrolled is the refusal of somebody who wants to join or to renew; both sides report the same code: version, secret, used,
// expired, mesh, renew, revoked, failed.
type Enrolled = enroll.Refusal

// InviteConfig says whom to invite. The zero value invites one machine for ten minutes, for nodes of namespace "default" of
// any name and without roles. In Namespace, Name and Roles a * stands for any run of characters.
type InviteConfig struct {
	Mesh    string // as in Config
	MeshPEM []byte
	Listen  string   // UDP address; default ":0"
	Addrs   []string // host:port, at most 8, that the token names in place of this machine's own

	TTL  time.Duration // default 10 minutes, at most 30 days
	Uses int           // how many machines; default 1, at most 1,000

	Namespace string   // of their nodes; default "default"
	Name      string   // likewise; default "*"
	Roles     []string // that their nodes may have

	Logger *slog.Logger // nil: none
}

// JoinEvent is a machine that came with an invitation's token.
type JoinEvent struct {
	Addr   string
	ID     ID   // of the key of its credential; zero if it was refused
	Joined bool // its credential is on its disk
	Code   string
	Reason string // why it did not join
}

// Invitation lets new machines into a mesh, without giving them its key. Safe for concurrent use.
type Invitation struct {
	inv     *enroll.Invitation
	token   enroll.Token
	expires time.Time
	log     *slog.Logger
	tr      *quic.Transport
	ln      *quic.Listener
	dials   bucket
	told    bucket

	mu sync.Mutex // held while tell is called
}

// Invite makes an invitation; its address is bound when it returns, and nobody is answered before Serve. The caller closes
// it. The error matches ErrNoMeshKey on a machine that was invited itself.
func Invite(cfg InviteConfig) (*Invitation, error) {
	cfg.Listen, cfg.Namespace, cfg.Name = cmp.Or(cfg.Listen, DefaultListen), cmp.Or(cfg.Namespace, DefaultNamespace), cmp.Or(cfg.Name, "*")
	cfg.TTL, cfg.Uses = cmp.Or(cfg.TTL, DefaultInviteTTL), cmp.Or(cfg.Uses, DefaultInviteUses)
	if cfg.TTL < 0 || cfg.TTL > MaxInviteTTL {
		return nil, fmt.Errorf("node: TTL of %v: at most %v", cfg.TTL, MaxInviteTTL)
	}
	mesh, _, err := loadMesh(Config{Mesh: cfg.Mesh, MeshPEM: cfg.MeshPEM})
	if err != nil {
		return nil, fmt.Errorf("node: mesh credential: %w", err)
	}
	i := &Invitation{expires: time.Now().Add(cfg.TTL), log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		dials: bucket{burst: enrollBurst, perSecond: enrollPerSecond}, told: bucket{burst: toldRefusals, perSecond: refusalsPerSecond}}
	if err := i.bind(cfg.Listen); err != nil {
		return nil, err
	}
	limits := identity.Limits{Namespace: identity.Glob(cfg.Namespace), Name: identity.Glob(cfg.Name)}
	for _, role := range cfg.Roles {
		limits.Roles = append(limits.Roles, identity.Glob(role))
	}
	addrs := cfg.Addrs
	if len(addrs) == 0 {
		addrs, err = ownAddrs(i.ln.Addr().(*net.UDPAddr).AddrPort())
	}
	if err == nil {
		i.token, err = enroll.NewToken(mesh.ID(), i.expires, addrs)
	}
	if err == nil {
		i.inv, err = enroll.NewInvitation(mesh, i.token, limits, cfg.Uses, i.expires, time.Now)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("node: invite: %w", err), i.Close())
	}
	return i, nil
}

// bind opens the UDP socket and the QUIC transport on it.
func (i *Invitation) bind(listen string) error {
	conn, err := net.ListenPacket("udp", listen)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	conf, err := identity.Unproved(enrollALPN)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	i.tr = &quic.Transport{Conn: conn, ConnectionIDLength: 8, VerifySourceAddress: func(net.Addr) bool { return true },
		ConnContext: func(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
			if !i.dials.take() {
				return nil, errCrowded
			}
			return ctx, nil
		}}
	if i.ln, err = i.tr.Listen(conf, enrollQUIC()); err != nil {
		return errors.Join(fmt.Errorf("node: listen: %w", err), i.tr.Close(), conn.Close())
	}
	return nil
}

// enrollQUIC bounds what one connection of strangers costs.
func enrollQUIC() *quic.Config {
	const window = 32 << 10 // more than all frames of an exchange
	return &quic.Config{
		HandshakeIdleTimeout:           5 * time.Second,
		MaxIdleTimeout:                 10 * time.Second,
		MaxIncomingStreams:             1,
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              1200,
		InitialStreamReceiveWindow:     window,
		MaxStreamReceiveWindow:         window,
		InitialConnectionReceiveWindow: window,
		MaxConnectionReceiveWindow:     window,
	}
}

// ownAddrs are where others can reach a socket of this machine: IPv4 first, loopback only if there is nothing else.
func ownAddrs(bound netip.AddrPort) ([]string, error) {
	if !bound.Addr().IsUnspecified() {
		return []string{netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port()).String()}, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var byKind [3][]string
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		kind := 0
		switch {
		case ip.IsLoopback():
			kind = 2
		case !ip.IsGlobalUnicast():
			continue
		case ip.Is6():
			kind = 1
		}
		byKind[kind] = append(byKind[kind], netip.AddrPortFrom(ip, bound.Port()).String())
	}
	addrs := append(byKind[0], byKind[1]...)
	if len(addrs) == 0 {
		addrs = byKind[2]
	}
	return addrs[:min(len(addrs), enroll.MaxAddrs)], nil
}

// Token is what the new machine is given, by a safe way: whoever has it can join.
func (i *Invitation) Token() string { return i.token.Text() }

// Mesh is the id of the mesh.
func (i *Invitation) Mesh() identity.MeshID { return i.token.Mesh }

// Addrs are the addresses that the token names.
func (i *Invitation) Addrs() []string { return i.token.Addrs }

// Expires is when the invitation ends.
func (i *Invitation) Expires() time.Time { return i.expires }

// Given counts the machines that were given a credential, and those of them that have said that it is on their disk.
func (i *Invitation) Given() (given, stored int) { return i.inv.Given() }

// Serve lets machines in until as many as were invited have joined (nil), the invitation is over (ErrInvitationOver), or ctx
// ends (its cause). tell is called for each that came, one at a time; those that are refused are told of as far as a stranger
// cannot flood it. A use belongs to the first machine that proved the token: only that one can come again. Call it once.
func (i *Invitation) Serve(ctx context.Context, tell func(JoinEvent)) error {
	ctx, cancel := context.WithDeadlineCause(ctx, i.expires, ErrInvitationOver)
	defer cancel()
	accepting, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	var under underway
	parts.Go(func() {
		for {
			conn, err := i.ln.Accept(accepting)
			if err != nil {
				return
			}
			one, over := under.begin(ctx, enrollWithin)
			parts.Go(func() {
				defer over()
				i.welcome(one, conn, tell)
			})
		}
	})
	var err error
	select {
	case <-i.inv.Full():
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	stop()
	late := time.AfterFunc(enrollLinger, cancel) // who is still here has joined, or never will
	defer late.Stop()
	parts.Wait()
	return err
}

// welcome serves one connection.
func (i *Invitation) welcome(ctx context.Context, conn *quic.Conn, tell func(JoinEvent)) {
	id, err := serveEnrolling(ctx, conn, i.inv.Serve)
	e := JoinEvent{Addr: conn.RemoteAddr().String(), ID: id, Joined: err == nil}
	var r *enroll.Refusal
	switch {
	case errors.As(err, &r):
		e.Code, e.Reason = string(r.Code), r.Reason
	case err != nil && !id.IsZero():
		e.Code, e.Reason = "lost", "it was given its credential and did not say that it has it; it can run join again"
	case err != nil: // nobody who has the token
		i.log.Debug("nobody joined", "addr", e.Addr, "err", clean(err.Error()))
		return
	}
	if id.IsZero() && !i.told.take() {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	tell(e)
}

// serveEnrolling gives the connection's one stream to serve, and ends the connection when the other side has, or soon.
func serveEnrolling(ctx context.Context, conn *quic.Conn, serve func(io.ReadWriter, []byte) (ID, error)) (ID, error) {
	defer func() { _ = conn.CloseWithError(closeBye, "") }() // it may have ended already, and that is as good
	binding, err := identity.Binding(conn.ConnectionState().TLS)
	if err != nil {
		return ID{}, err
	}
	st, err := conn.AcceptStream(ctx)
	if err != nil {
		return ID{}, err
	}
	release := context.AfterFunc(ctx, func() { _ = conn.CloseWithError(closeOverloaded, "it took too long") })
	defer release()
	id, err := serve(st, binding)
	_ = st.Close() // an error is that of the connection, which ends
	select {
	case <-conn.Context().Done():
	case <-time.After(enrollLinger):
	case <-ctx.Done():
	}
	return id, err
}

// Close ends the invitation and frees its address.
func (i *Invitation) Close() error {
	return errors.Join(i.ln.Close(), i.tr.Close(), i.tr.Conn.Close())
}
