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

// Mesh is a mesh credential, what makes nodes of a mesh. It is one of two: the Ed25519 key and the self-signed certificate
// of the mesh's certificate authority, which can do everything; or a user credential, that of a machine that joined: a key
// of its own, and a certificate by which the mesh lets it sign nodes within [Limits], see [Mesh.User].
// A Mesh is immutable, safe for concurrent use, and prints as the mesh's id.
type Mesh struct {
	id      MeshID
	private ed25519.PrivateKey // of the mesh, or of user
	cert    *x509.Certificate  // the mesh's own
	user    *x509.Certificate  // nil: private is the mesh's
	limits  Limits             // of user
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

// ParseMesh reads what Marshal writes: a PRIVATE KEY block and its CERTIFICATE, in either order, that belong together; of a
// user credential the mesh's CERTIFICATE follows the user's.
func ParseMesh(data []byte) (*Mesh, error) {
	mesh, err := parseMesh(data)
	if err != nil {
		return nil, fmt.Errorf("identity: mesh credential: %w", err)
	}
	return mesh, nil
}

func parseMesh(data []byte) (*Mesh, error) {
	blocks, err := readPEM(data, map[string]int{pemCertificate: 2, pemPrivate: 1})
	if err != nil {
		return nil, err
	}
	private, err := parsePrivate(blocks[pemPrivate][0])
	if err != nil {
		return nil, err
	}
	certs := blocks[pemCertificate]
	if len(certs) == 2 {
		return newUser(private, certs[0], certs[1])
	}
	cert, err := parseAuthority(certs[0])
	if err != nil {
		return nil, err
	}
	public := private.Public().(ed25519.PublicKey)
	if !public.Equal(cert.PublicKey) {
		return nil, errors.New("the private key is not the certificate's")
	}
	return &Mesh{id: keyHash(public), private: private, cert: cert}, nil
}

// ID returns the mesh's id.
func (m *Mesh) ID() MeshID { return m.id }

// Marshal returns the credential as PEM: the certificates, the mesh's last, then the private key. Whoever reads it can do
// what the credential can.
func (m *Mesh) Marshal() ([]byte, error) {
	private, err := marshalPrivate(m.private)
	if err != nil {
		return nil, fmt.Errorf("identity: mesh credential: %w", err)
	}
	var out []byte
	if m.user != nil {
		out = pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: m.user.Raw})
	}
	out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: m.cert.Raw})...)
	return append(out, private...), nil
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
