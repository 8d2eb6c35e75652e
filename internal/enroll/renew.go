package enroll

import (
	"fmt"
	"io"
	"time"

	"peermesh/internal/identity"
)

// Renewer is a node that holds the mesh's key, as those see it whose credential runs out. Safe for concurrent use.
type Renewer struct {
	Mesh    *identity.Mesh
	Revoked func(identity.ID) (reason string, revoked bool) // by the policy in force
	Now     func() time.Time
}

// Serve speaks with one machine over a stream as [Invitation.Serve] does, and renews what it shows.
func (r *Renewer) Serve(stream io.ReadWriter, binding []byte) (identity.ID, error) {
	return serve(stream, binding, r.Mesh, func(t frameType, payload []byte) (identity.ID, []byte, error) {
		if t != typeRenew {
			return identity.ID{}, nil, refuse(CodeSecret, "this is a node, not an invitation; its process may have ended")
		}
		return r.renew(payload, binding)
	}, func(identity.ID) {})
}

func (r *Renewer) renew(payload, binding []byte) (identity.ID, []byte, error) {
	key, old, ok := takeKey(payload, purposeRenewal, binding)
	if !ok {
		return identity.ID{}, nil, fmt.Errorf("%w: RENEW", ErrProtocol)
	}
	id := identity.IDOf(key)
	if reason, revoked := r.Revoked(id); revoked {
		return id, nil, refuse(CodeRevoked, "%v is revoked by the policy: %s", id, reason)
	}
	cert, err := r.Mesh.RenewUser(key, old, r.Now())
	if err != nil {
		return id, nil, refuse(CodeRenew, "%v", err)
	}
	return id, cert, nil
}
