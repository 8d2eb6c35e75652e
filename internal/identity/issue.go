package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// DefaultLife is how long a node's certificate is valid. [Credentials] replaces it at half of that.
const DefaultLife = 30 * 24 * time.Hour

// Issue signs a certificate for the node that holds the private half of key, valid from an hour before now (for
// peers with slow clocks) until life after it; a life of 0 means DefaultLife. The chain is what the node presents,
// its own certificate first, in DER; the caller owns it. Claims that a certificate cannot carry are an error, and so are
// those beyond the limits of a user credential, which matches ErrLimits. What a user credential signs lasts no longer than
// that one.
func (m *Mesh) Issue(key ed25519.PublicKey, c Claims, now time.Time, life time.Duration) (chain [][]byte, err error) {
	der, err := m.issue(key, c, now, life)
	if err != nil {
		return nil, fmt.Errorf("identity: issue certificate: %w", err)
	}
	if m.user != nil {
		return [][]byte{der, slices.Clone(m.user.Raw)}, nil
	}
	return [][]byte{der}, nil
}

func (m *Mesh) issue(key ed25519.PublicKey, c Claims, now time.Time, life time.Duration) ([]byte, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("public key has %d bytes, want %d", len(key), ed25519.PublicKeySize)
	}
	if life < 0 {
		return nil, fmt.Errorf("life of %v", life)
	}
	if life == 0 {
		life = DefaultLife
	}
	claims, err := c.normal()
	if err != nil {
		return nil, err
	}
	uri, err := spiffeID{mesh: m.id, node: IDOf(key), claims: claims}.url()
	if err != nil {
		return nil, err
	}
	template := leafTemplate(key, uri, now, life)
	if m.user == nil {
		return x509.CreateCertificate(rand.Reader, template, m.cert, key, m.private)
	}
	if err := m.limits.Check(claims); err != nil {
		return nil, err
	}
	if m.user.NotAfter.Before(template.NotAfter) {
		template.NotAfter = m.user.NotAfter
	}
	return x509.CreateCertificate(rand.Reader, template, m.user, key, m.private)
}

// leafTemplate is what a node's certificate says, but for the issuer's part.
func leafTemplate(key ed25519.PublicKey, uri *url.URL, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: IDOf(key).String()},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{uri},
	}
}

// url returns the id as a certificate holds it, if it fits.
func (s spiffeID) url() (*url.URL, error) {
	uri := s.String()
	if len(uri) > maxSPIFFEBytes {
		return nil, errors.New("namespace, name and roles are too long together")
	}
	return url.Parse(uri)
}
