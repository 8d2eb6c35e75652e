package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// UserLife is how long a user credential is valid.
const UserLife = 365 * 24 * time.Hour

// Limits say for which nodes a user credential may sign. Each is a [Glob]; a * alone allows all. They are bounded as
// [Claims] are.
type Limits struct {
	Namespace Glob
	Name      Glob
	Roles     []Glob // a node has any of the roles that fit one of them, or none; empty: none
}

// ErrLimits is a node that a user credential is not good for; the text says what it is good for.
var ErrLimits = errors.New("the mesh did not invite it for that")

// Check is an error that matches ErrLimits if a node with those claims is not within the limits.
func (l Limits) Check(c Claims) error {
	switch {
	case !l.Namespace.Match(c.Namespace):
		return fmt.Errorf("%w: namespace %q, it may sign for %q", ErrLimits, c.Namespace, l.Namespace)
	case !l.Name.Match(c.Name):
		return fmt.Errorf("%w: name %q, it may sign for %q", ErrLimits, c.Name, l.Name)
	}
	for _, role := range c.Roles {
		if !slices.ContainsFunc(l.Roles, func(g Glob) bool { return g.Match(role) }) {
			return fmt.Errorf("%w: role %q, it may sign for %q", ErrLimits, role, l.Roles)
		}
	}
	return nil
}

// Given are the roles among the limits that are no patterns: what a node has that is not told its roles.
func (l Limits) Given() (roles []string) {
	for _, g := range l.Roles {
		if !strings.Contains(string(g), "*") {
			roles = append(roles, string(g))
		}
	}
	return roles
}

// claims are the limits as a certificate carries them.
func (l Limits) claims() Claims {
	c := Claims{Namespace: string(l.Namespace), Name: string(l.Name)}
	for _, g := range l.Roles {
		c.Roles = append(c.Roles, string(g))
	}
	return c
}

func limitsOf(c Claims) Limits {
	l := Limits{Namespace: Glob(c.Namespace), Name: Glob(c.Name)}
	for _, role := range c.Roles {
		l.Roles = append(l.Roles, Glob(role))
	}
	return l
}

// IssueUser signs the certificate of a user's authority, in DER: whoever holds the private half of key can sign nodes
// within the limits from an hour before now until life after it (0: UserLife), and no further authorities. The error of
// a credential that is a user's itself matches ErrNoMeshKey.
func (m *Mesh) IssueUser(key ed25519.PublicKey, l Limits, now time.Time, life time.Duration) ([]byte, error) {
	der, err := m.issueUser(key, l, now, life)
	if err != nil {
		return nil, fmt.Errorf("identity: issue a user's certificate: %w", err)
	}
	return der, nil
}

func (m *Mesh) issueUser(key ed25519.PublicKey, l Limits, now time.Time, life time.Duration) ([]byte, error) {
	if m.user != nil {
		return nil, ErrNoMeshKey
	}
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("public key has %d bytes, want %d", len(key), ed25519.PublicKeySize)
	}
	if life == 0 {
		life = UserLife
	}
	claims, err := l.claims().normal()
	if err != nil {
		return nil, err
	}
	uri, err := spiffeID{mesh: m.id, user: true, node: IDOf(key), claims: claims}.url()
	if err != nil {
		return nil, err
	}
	template := leafTemplate(key, uri, now, life)
	template.Subject = pkix.Name{CommonName: "user " + IDOf(key).String()}
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	template.IsCA, template.MaxPathLenZero = true, true
	template.PermittedDNSDomainsCritical, template.PermittedURIDomains = true, []string{m.id.String()}
	return x509.CreateCertificate(rand.Reader, template, m.cert, key, m.private)
}

// limitsIn reads for what an authority below the mesh may sign. One without a URI, or with that of the mesh alone, is of
// others' making (SPIRE, step-ca), and bounded by nothing but its name constraints.
func limitsIn(authority *x509.Certificate, mesh MeshID) (l Limits, limited bool, err error) {
	switch {
	case len(authority.URIs) == 0:
		return Limits{}, false, nil
	case len(authority.URIs) > 1:
		return Limits{}, false, fmt.Errorf("%d URIs, want one", len(authority.URIs))
	case authority.URIs[0].String() == spiffeScheme+mesh.String():
		return Limits{}, false, nil
	}
	id, err := parseSPIFFE(authority.URIs[0].String())
	if err != nil {
		return Limits{}, false, err
	}
	key, ok := authority.PublicKey.(ed25519.PublicKey)
	if !id.user || id.mesh != mesh || !ok || id.node != IDOf(key) {
		return Limits{}, false, fmt.Errorf("the URI %q is not its own", authority.URIs[0])
	}
	return limitsOf(id.claims), true, nil
}
