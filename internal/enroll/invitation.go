package enroll

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"peermesh/internal/identity"
)

// MaxUses bounds the machines that one invitation lets in: each is remembered.
const MaxUses = 1000

// What is signed, and for what; each signature holds for one of them.
const (
	purposeInviter = "peermesh join 1 inviter"
	purposeJoiner  = "peermesh join 1 joiner"
	purposeRenewal = "peermesh join 1 renewal"
)

// Invitation is the inviting side: it lets in as many machines as it has uses. Safe for concurrent use.
type Invitation struct {
	mesh    *identity.Mesh
	limits  identity.Limits
	secret  Secret
	expires time.Time
	uses    int
	now     func() time.Time

	mu    sync.Mutex
	given map[identity.ID]bool // to whom; true: it has the credential on disk
	full  chan struct{}        // closed when all have
}

// NewInvitation makes what the token invites to: uses machines, that may sign nodes within the limits. It ends when
// expires has come by the clock now. The mesh must hold its own key, else the error matches [identity.ErrNoMeshKey].
func NewInvitation(m *identity.Mesh, t Token, l identity.Limits, uses int, expires time.Time, now func() time.Time) (*Invitation, error) {
	if uses < 1 || uses > MaxUses {
		return nil, fmt.Errorf("enroll: %d uses: 1 to %d", uses, MaxUses)
	}
	probe, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	if _, err := m.IssueUser(probe.Public(), l, now(), 0); err != nil {
		return nil, err // now, rather than when somebody comes
	}
	return &Invitation{mesh: m, limits: l, secret: t.Secret, expires: expires, uses: uses, now: now,
		given: map[identity.ID]bool{}, full: make(chan struct{})}, nil
}

// Full is closed when as many machines as were invited have said that their credential is on disk.
func (i *Invitation) Full() <-chan struct{} { return i.full }

// Given counts the machines that were given a certificate, and those of them that have said that it is on their disk.
func (i *Invitation) Given() (given, stored int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count()
}

// count is Given. i.mu must be held.
func (i *Invitation) count() (given, stored int) {
	for _, kept := range i.given {
		if kept {
			stored++
		}
	}
	return len(i.given), stored
}

// Serve speaks with one machine over a stream, to its end, and returns whom it let in: the id of the new credential's key.
// binding is what TLS exported. With an error and an id the machine was given a certificate and has not said that it is on
// disk; it may come again. A *Refusal was told to the other side. The caller bounds the time by closing the stream.
func (i *Invitation) Serve(stream io.ReadWriter, binding []byte) (identity.ID, error) {
	return serve(stream, binding, i.mesh, func(t frameType, payload []byte) (identity.ID, []byte, error) {
		if t != typeAsk {
			return identity.ID{}, nil, refuse(CodeRenew, "this is an invitation; a running node that holds the mesh's key renews")
		}
		return i.admit(payload, binding)
	}, i.stored)
}

// admit answers ASK with a certificate.
func (i *Invitation) admit(payload, binding []byte) (identity.ID, []byte, error) {
	key, mac, ok := takeKey(payload, purposeJoiner, binding)
	if !ok {
		return identity.ID{}, nil, fmt.Errorf("%w: ASK", ErrProtocol)
	}
	if !hmac.Equal(mac, prove(i.secret, binding, key)) {
		return identity.ID{}, nil, refuse(CodeSecret, "the token is not of this invitation")
	}
	id := identity.IDOf(key)
	if err := i.reserve(id); err != nil {
		return identity.ID{}, nil, err
	}
	cert, err := i.mesh.IssueUser(key, i.limits, i.now(), 0)
	return id, cert, err
}

// reserve gives a use to a key that has none yet.
func (i *Invitation) reserve(id identity.ID) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, again := i.given[id]
	switch {
	case !i.now().Before(i.expires):
		return refuse(CodeExpired, "the invitation was over at %s by the clock of the inviting machine", i.expires.UTC().Format(time.RFC3339))
	case !again && len(i.given) >= i.uses:
		return refuse(CodeUsed, "the invitation was for %d machines, and they have come", i.uses)
	case !again:
		i.given[id] = false
	}
	return nil
}

// stored: that machine has its credential on disk.
func (i *Invitation) stored(id identity.ID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.given[id] {
		return
	}
	i.given[id] = true
	if _, stored := i.count(); stored == i.uses {
		close(i.full)
	}
}

// serve is the inviting or renewing side of the exchange; answer makes a certificate of what was asked.
func serve(s io.ReadWriter, binding []byte, m *identity.Mesh, answer func(frameType, []byte) (identity.ID, []byte, error), stored func(identity.ID)) (identity.ID, error) {
	hello, err := expect(s, typeHello)
	switch {
	case err != nil:
		return identity.ID{}, err
	case len(hello) < 1:
		return identity.ID{}, fmt.Errorf("%w: an empty HELLO", ErrProtocol)
	case hello[0] != protocol:
		return identity.ID{}, tell(s, refuse(CodeVersion, "protocol version %d, this side speaks %d", hello[0], protocol))
	}
	signature, err := m.Sign(purposeInviter, binding)
	if err != nil {
		return identity.ID{}, err
	}
	if err := say(s, typeProof, signature, m.Certificate()); err != nil {
		return identity.ID{}, err
	}
	t, payload, err := hear(s)
	if err != nil {
		return identity.ID{}, err
	}
	if t != typeAsk && t != typeRenew {
		return identity.ID{}, fmt.Errorf("%w: frame %d, expected a question", ErrProtocol, t)
	}
	id, cert, err := answer(t, payload)
	if err != nil {
		return identity.ID{}, tell(s, err)
	}
	if err := say(s, typeGrant, cert); err != nil {
		return id, err
	}
	if _, err := expect(s, typeStored); err != nil {
		return id, err
	}
	stored(id)
	_ = say(s, typeDone) // that the other side did not wait for it changes nothing
	return id, nil
}

// tell says to the other side why it is not let in, and returns it.
func tell(s io.Writer, err error) error {
	if errors.Is(err, ErrProtocol) {
		return err // it will not listen either
	}
	var r *Refusal
	if !errors.As(err, &r) {
		r = refuse(CodeFailed, "the other side could not do it; see there")
	}
	return errors.Join(err, sayRefused(s, r))
}

// prove is what only who knows the secret can say on this connection for this key.
func prove(secret Secret, binding []byte, key ed25519.PublicKey) []byte {
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte(purposeJoiner))
	h.Write(binding) // of one length
	h.Write(key)
	return h.Sum(nil)
}

// takeKey reads a public key and the proof that the other side holds its private half.
func takeKey(b []byte, purpose string, binding []byte) (key ed25519.PublicKey, rest []byte, ok bool) {
	const head = ed25519.PublicKeySize + ed25519.SignatureSize
	if len(b) < head {
		return nil, nil, false
	}
	key = b[:ed25519.PublicKeySize]
	return key, b[head:], identity.Signed(key, purpose, binding, b[ed25519.PublicKeySize:head])
}
