package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"peermesh/internal/enroll"
	"peermesh/internal/identity"

	"github.com/quic-go/quic-go"
)

// renews renews the credential of a machine that has joined, on a connection that came for that.
func (n *Node) renews(ctx context.Context, conn *quic.Conn) {
	id, err := serveEnrolling(ctx, conn, n.renewer.Serve)
	var r *enroll.Refusal
	switch {
	case err == nil:
		n.log.Info("credential renewed", "id", id, "addr", conn.RemoteAddr())
	case errors.As(err, &r) && n.refused.take():
		n.log.Warn("credential not renewed", "id", id, "addr", conn.RemoteAddr(), "code", r.Code, "reason", clean(r.Reason))
	default:
		n.log.Debug("credential not renewed", "addr", conn.RemoteAddr(), "err", clean(err.Error()))
	}
}

// ErrNotJoined is a credential that needs no renewal: the mesh's own has no end.
var ErrNotJoined = errors.New("node: this credential holds the mesh's own key and has no end")

// RenewConfig says which credential to renew, and who may do it.
type RenewConfig struct {
	Mesh string // the file; empty: the user's default mesh

	// Addrs is asked before each try for the addresses (host:port) of nodes of the mesh. Those of them that hold the mesh's
	// own key renew.
	Addrs func() []string

	Logger *slog.Logger // nil: none
}

// maxRenewers bounds the addresses that are asked at a time.
const maxRenewers = 16

// Renew renews the credential of a machine that has joined: a running node that holds the mesh's key signs it for another year,
// with the limits that it has, also when it ran out long ago, but not when it is revoked. The new file takes the place of the
// old one, whole and on disk, before Renew returns nil; nodes that run with the old one have the new one when they are opened
// again. Renew tries until ctx ends; then the error matches ErrNoAnswer. A refusal is an *Enrolled.
func Renew(ctx context.Context, cfg RenewConfig) (Joined, error) {
	old, path, err := loadMesh(Config{Mesh: cfg.Mesh})
	if err != nil {
		return Joined{}, fmt.Errorf("node: mesh credential: %w", err)
	}
	key, cert, joined := old.UserKey()
	if !joined {
		return Joined{}, ErrNotJoined
	}
	addrs := func() []string {
		all := slices.Clone(cfg.Addrs())
		slices.Sort(all)
		all = slices.Compact(all)
		return all[:min(len(all), maxRenewers)]
	}
	made, err := enlist(ctx, cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), old.ID(), addrs, func(s *enroll.Side) (*identity.Mesh, error) {
		m, err := s.Renew(key, cert)
		if err == nil {
			err = written(m.Replace(path))
		}
		return m, err
	})
	if err != nil {
		return Joined{}, err
	}
	return joinedOf(made, path), nil
}
