package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Mesh is a mesh credential: the Ed25519 key and the self-signed certificate of the mesh's certificate authority.
// Whoever holds it can make nodes of the mesh. A Mesh is immutable, safe for concurrent use, and prints as its id.
type Mesh struct {
	id      MeshID
	private ed25519.PrivateKey
	cert    *x509.Certificate
}

// clockSkew is how far back a certificate's first date lies, for peers whose clocks are slow.
const clockSkew = time.Hour

// maxIntermediates is how many authorities may stand between a node and the mesh: one, for a user's own.
const maxIntermediates = 1

// endless is the last date of a CA certificate: "no well-defined expiration" (RFC 5280, 4.1.2.5). A mesh ends when
// its key is given up, not on a day.
var endless = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// NewMesh makes a new mesh, born at now. It exists in memory only; see [CreateMesh] and [Mesh.Marshal].
func NewMesh(now time.Time) (*Mesh, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: new mesh: %w", err)
	}
	mesh, err := meshOf(private, now)
	if err != nil {
		return nil, fmt.Errorf("identity: new mesh: %w", err)
	}
	return mesh, nil
}

// meshOf signs the CA certificate that goes with private.
func meshOf(private ed25519.PrivateKey, now time.Time) (*Mesh, error) {
	public := private.Public().(ed25519.PublicKey)
	id := MeshID(keyHash(public))
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "peermesh " + id.String()},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              endless,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            maxIntermediates,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Mesh{id: id, private: private, cert: cert}, nil
}

// ParseMesh reads what Marshal writes: one CERTIFICATE and one PRIVATE KEY block, in either order, that belong together.
func ParseMesh(data []byte) (*Mesh, error) {
	mesh, err := parseMesh(data)
	if err != nil {
		return nil, fmt.Errorf("identity: mesh credential: %w", err)
	}
	return mesh, nil
}

func parseMesh(data []byte) (*Mesh, error) {
	blocks, err := readPEM(data, pemCertificate, pemPrivate)
	if err != nil {
		return nil, err
	}
	private, err := parsePrivate(blocks[pemPrivate])
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(blocks[pemCertificate])
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	public := private.Public().(ed25519.PublicKey)
	if !public.Equal(cert.PublicKey) {
		return nil, errors.New("the private key is not the certificate's")
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("the certificate is not a certificate authority's")
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return nil, fmt.Errorf("the certificate is not signed by its own key: %w", err)
	}
	return &Mesh{id: keyHash(public), private: private, cert: cert}, nil
}

// ID returns the mesh's id.
func (m *Mesh) ID() MeshID { return m.id }

// Marshal returns the credential as PEM: the CA certificate, then the private key. Whoever reads it owns the mesh.
func (m *Mesh) Marshal() ([]byte, error) {
	private, err := marshalPrivate(m.private)
	if err != nil {
		return nil, fmt.Errorf("identity: mesh credential: %w", err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: m.cert.Raw})
	return append(cert, private...), nil
}

// String returns the mesh id, never the key.
func (m *Mesh) String() string { return m.id.String() }

// Format writes the mesh id under every verb, so that no way of printing shows the key.
func (m *Mesh) Format(f fmt.State, _ rune) { formatAs(f, m.String()) }

// roots returns the one authority that a certificate of this mesh must lead to.
func (m *Mesh) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(dateless(m.cert))
	return pool
}
