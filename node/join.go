package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"peermesh/internal/enroll"
	"peermesh/internal/identity"

	"github.com/quic-go/quic-go"
)

// joinRetry is the pause between two tries.
const joinRetry = 500 * time.Millisecond

// joiningSuffix names the file, beside the credential, of the key of a machine that is joining.
const joiningSuffix = ".joining"

var (
	// ErrToken is a text that is no token of an invitation.
	ErrToken = errors.New("node: token")
	// ErrNoAnswer is that nobody answered who could help: the inviting process has ended, or there is no way to it.
	ErrNoAnswer = errors.New("node: no answer")
	// ErrNotWritten is a credential that was given and could not be put on disk here. It is not lost: see Join.
	ErrNotWritten = errors.New("node: the credential could not be written")
)

// JoinConfig says how to join a mesh.
type JoinConfig struct {
	Token  string       // of an Invitation
	Mesh   string       // where the credential shall lie; empty: where the user's default mesh does. There must be none yet
	Logger *slog.Logger // nil: none
}

// Joined is the credential that a machine has got.
type Joined struct {
	Mesh      identity.MeshID
	ID        ID     // of the credential's key; a policy can revoke it with all nodes that it signs
	Path      string // of its file
	Namespace string // of the nodes that it signs, as are the others
	Name      string
	Roles     []string
	NotAfter  time.Time
}

// Join brings this machine into the mesh that a token invites it to: it makes a key, which never leaves the machine, and gets
// a credential for it, with which Config.Mesh runs nodes within the limits of the invitation. The credential is on disk when
// Join returns nil, in a new file of mode 0600; a file that is there already matches fs.ErrExist and is untouched.
//
// Join blocks until then, and tries again until ctx ends; then the error matches ErrNoAnswer. Whenever it ends early it can be
// called again with the same token and the same path: a key that was made is kept beside the path until the credential is
// there, and an invitation never gives to another machine what it gave to this one. A refusal is an *Enrolled.
func Join(ctx context.Context, cfg JoinConfig) (Joined, error) {
	token, err := enroll.ParseToken(cfg.Token)
	if err != nil {
		return Joined{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	path := cfg.Mesh
	if path == "" {
		if path, err = identity.DefaultPath(); err != nil {
			return Joined{}, err
		}
	}
	log := cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	have, err := begun(path)
	if err != nil {
		return Joined{}, err
	}
	key, err := identity.LoadOrCreateKey(path + joiningSuffix)
	if err != nil {
		return Joined{}, err
	}
	if have != nil { // only the inviter does not know, if it is still there
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, enrollWithin)
		defer cancel()
	}
	made, err := enlist(ctx, log, token.Mesh, func() []string { return token.Addrs }, func(s *enroll.Side) (*identity.Mesh, error) {
		m, err := s.Ask(key, token.Secret)
		if err == nil && have == nil {
			err = written(m.Write(path))
		}
		return m, err
	})
	switch {
	case err == nil:
	case have != nil: // an earlier try has put it there
		log.Warn("the inviting machine was not told that the credential is here", "err", clean(err.Error()))
		made = have
	case errors.Is(err, ErrNoAnswer) && time.Now().After(token.Expires):
		return Joined{}, fmt.Errorf("%w; the token was good until %s", err, token.Expires.UTC().Format(time.RFC3339))
	default:
		return Joined{}, err
	}
	if err := os.Remove(path + joiningSuffix); err != nil {
		log.Warn("the key stays beside the credential that has it too", "err", err)
	}
	return joinedOf(made, path), nil
}

// written tells what the disk said from what the other side did.
func written(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrNotWritten, err)
}

// begun is the credential at path if an earlier Join with the key beside it has put it there; nil: there is none.
func begun(path string) (*identity.Mesh, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	taken := &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	if _, err := os.Lstat(path + joiningSuffix); err != nil {
		return nil, taken
	}
	m, err := identity.LoadMesh(path)
	if err != nil {
		return nil, err
	}
	key, err := identity.LoadOrCreateKey(path + joiningSuffix)
	if err != nil {
		return nil, err
	}
	if u, ok := m.User(); !ok || u.ID != key.ID() {
		return nil, taken
	}
	return m, nil
}

func joinedOf(m *identity.Mesh, path string) Joined {
	u, _ := m.User()
	j := Joined{Mesh: m.ID(), ID: u.ID, Path: path, Namespace: string(u.Limits.Namespace), Name: string(u.Limits.Name), NotAfter: u.NotAfter}
	for _, role := range u.Limits.Roles {
		j.Roles = append(j.Roles, string(role))
	}
	return j
}

// enlist meets somebody at one of the addresses who holds the key of the mesh, has get ask for a credential and put it on disk,
// and says that it is there. It tries until it has one, somebody refuses, or ctx ends.
func enlist(ctx context.Context, log *slog.Logger, mesh identity.MeshID, addrs func() []string, get func(*enroll.Side) (*identity.Mesh, error)) (*identity.Mesh, error) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	tr := &quic.Transport{Conn: conn, ConnectionIDLength: 8}
	defer func() { _, _ = tr.Close(), conn.Close() }() // nothing of theirs is left to lose
	for {
		m, err := enlistOnce(ctx, tr, mesh, addrs(), get)
		var refused *enroll.Refusal
		if err == nil || errors.As(err, &refused) || errors.Is(err, ErrNotWritten) {
			return m, err
		}
		log.Debug("no credential yet", "err", clean(err.Error()))
		select {
		case <-time.After(joinRetry):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
		}
	}
}

func enlistOnce(ctx context.Context, tr *quic.Transport, mesh identity.MeshID, addrs []string, get func(*enroll.Side) (*identity.Mesh, error)) (*identity.Mesh, error) {
	ctx, cancel := context.WithTimeout(ctx, enrollWithin)
	defer cancel()
	met := meetAny(ctx, tr, mesh, addrs)
	if met.err != nil {
		return nil, met.err
	}
	defer func() { _ = met.conn.CloseWithError(closeBye, "") }() // as in serveEnrolling
	release := context.AfterFunc(ctx, func() { _ = met.conn.CloseWithError(closeBye, "") })
	defer release()
	m, err := get(met.side)
	if err != nil {
		return nil, explain(err)
	}
	_ = met.side.Stored() // the other side counts this machine already
	return m, nil
}

// meeting is somebody who proved to hold the mesh's key, or why there is none.
type meeting struct {
	side *enroll.Side
	conn *quic.Conn
	err  error
}

// meetAny dials all addresses at once and takes the first that proves to hold the mesh's key. A refusal is told rather than
// that others did not answer.
func meetAny(ctx context.Context, tr *quic.Transport, mesh identity.MeshID, addrs []string) (met meeting) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan meeting, len(addrs))
	var dials sync.WaitGroup
	for _, addr := range addrs {
		dials.Go(func() { results <- meetAt(ctx, tr, mesh, addr) })
	}
	met.err = errors.New("no address to ask")
	for n := range addrs {
		one := <-results
		var refused *enroll.Refusal
		switch {
		case one.err == nil:
			met = one
		case n == 0 || errors.As(one.err, &refused):
			met.err = one.err
		}
		if one.err == nil {
			break
		}
	}
	cancel()
	dials.Wait()
	close(results)
	for late := range results {
		if late.err == nil {
			_ = late.conn.CloseWithError(closeBye, "")
		}
	}
	return met
}

func meetAt(ctx context.Context, tr *quic.Transport, mesh identity.MeshID, addr string) (m meeting) {
	defer func() {
		if m.err != nil {
			m.err = fmt.Errorf("%s: %w", addr, explain(m.err))
		}
	}()
	to, err := resolve(ctx, addr)
	if err != nil {
		return meeting{err: err}
	}
	conf, err := identity.Unproved(enrollALPN)
	if err != nil {
		return meeting{err: err}
	}
	conn, err := tr.Dial(ctx, to, conf, enrollQUIC())
	if err != nil {
		return meeting{err: err}
	}
	release := context.AfterFunc(ctx, func() { _ = conn.CloseWithError(closeBye, "") })
	side, err := meetOn(ctx, conn, mesh)
	if !release() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.CloseWithError(closeBye, "")
		return meeting{err: err}
	}
	return meeting{side: side, conn: conn}
}

// resolve is the first address of host:port.
func resolve(ctx context.Context, addr string) (*net.UDPAddr, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ips[0].Unmap(), uint16(port))), nil
}

func meetOn(ctx context.Context, conn *quic.Conn, mesh identity.MeshID) (*enroll.Side, error) {
	binding, err := identity.Binding(conn.ConnectionState().TLS)
	if err != nil {
		return nil, err
	}
	st, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return enroll.Meet(st, binding, mesh)
}
