package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Credentials are what a node presents to others and holds them against: its key, a current certificate for it, and
// the mesh. When a certificate has lived half its life the next handshake gets a new one; the key, and so the node
// id, stays. There is no goroutine and nothing to close. Safe for concurrent use; prints as the node id.
type Credentials struct {
	key    Key
	mesh   MeshID
	claims Claims
	roots  *x509.CertPool
	now    func() time.Time
	issue  func(now time.Time) (chain [][]byte, err error)

	mu    sync.Mutex
	cert  *tls.Certificate // presented from its NotBefore until renew
	renew time.Time        // when cert has lived half its life
}

// NewCredentials returns the credentials of the node that holds k, with certificates that m issues for claims c.
// The clock now dates certificates and judges those of others; nil means time.Now. Claims that a certificate cannot
// carry, and the zero Key, are errors.
func NewCredentials(m *Mesh, k Key, c Claims, now func() time.Time) (*Credentials, error) {
	if k.private == nil {
		return nil, errors.New("identity: credentials without a node key")
	}
	if now == nil {
		now = time.Now
	}
	claims, err := c.normal()
	if err != nil {
		return nil, fmt.Errorf("identity: credentials: %w", err)
	}
	credentials := &Credentials{
		key:    k,
		mesh:   m.ID(),
		claims: claims,
		roots:  m.roots(),
		now:    now,
		issue: func(now time.Time) ([][]byte, error) {
			return m.Issue(k.Public(), claims, now, DefaultLife)
		},
	}
	if _, err := credentials.current(); err != nil {
		return nil, err // now, rather than at the first handshake
	}
	return credentials, nil
}

// ID returns the node's id.
func (c *Credentials) ID() ID { return c.key.ID() }

// MeshID returns the id of the mesh the node belongs to.
func (c *Credentials) MeshID() MeshID { return c.mesh }

// Claims returns what the node's certificates say about it, roles sorted and each once. The caller owns the result.
func (c *Credentials) Claims() Claims {
	claims := c.claims
	claims.Roles = slices.Clone(claims.Roles)
	return claims
}

// Verify decides who is at the other end of a finished handshake. The caller must ask it, in both roles, before it
// reads or writes the first byte of any stream, and when it refuses close the connection with the refusal's code:
// the handshake itself lets everyone in (see the package comment). The error is a *Refusal. It does not block.
func (c *Credentials) Verify(cs tls.ConnectionState) (Peer, error) {
	v := verifier{mesh: c.mesh, roots: c.roots, now: c.now()}
	peer, refusal := v.verify(cs.PeerCertificates)
	if refusal != nil {
		return Peer{}, refusal
	}
	return peer, nil
}

// String returns the node id, never the key.
func (c *Credentials) String() string { return c.ID().String() }

// Format writes the node id under every verb, so that no way of printing shows the key.
func (c *Credentials) Format(f fmt.State, _ rune) { formatAs(f, c.String()) }

// NotAfter is when the certificate that is presented now runs out. The error is that of making one.
func (c *Credentials) NotAfter() (time.Time, error) {
	cert, err := c.current()
	if err != nil {
		return time.Time{}, err
	}
	return cert.Leaf.NotAfter, nil
}

// current returns the certificate to present now, and makes a new one when its time has come. A clock that has been
// set back behind the certificate's first date is such a time too.
func (c *Credentials) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.cert != nil && !now.Before(c.cert.Leaf.NotBefore) && now.Before(c.renew) {
		return c.cert, nil
	}
	chain, err := c.issue(now)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("identity: certificate issued: %w", err)
	}
	c.cert = &tls.Certificate{Certificate: chain, PrivateKey: c.key.private, Leaf: leaf}
	c.renew = leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	return c.cert, nil
}
