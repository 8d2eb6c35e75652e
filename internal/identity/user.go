package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// User is what a user credential says of itself.
type User struct {
	ID                  ID // of its key; a policy can revoke it like a node's
	Limits              Limits
	NotBefore, NotAfter time.Time
}

// User tells of a user credential, that of a machine that joined; false: this one holds the mesh's own key.
func (m *Mesh) User() (u User, ok bool) {
	if m.user == nil {
		return User{}, false
	}
	return User{ID: m.userID(), Limits: m.limits, NotBefore: m.user.NotBefore, NotAfter: m.user.NotAfter}, true
}

func (m *Mesh) userID() ID { return IDOf(m.private.Public().(ed25519.PublicKey)) }

// Certificate returns the mesh's own certificate in DER. The caller owns it.
func (m *Mesh) Certificate() []byte { return slices.Clone(m.cert.Raw) }

// NewUser makes a user credential: key, the certificate that [Mesh.IssueUser] gave it, and that of the mesh, in DER. They
// are checked against each other; dates are not.
func NewUser(key Key, user, mesh []byte) (*Mesh, error) {
	m, err := newUser(key.private, user, mesh)
	if err != nil {
		return nil, fmt.Errorf("identity: user credential: %w", err)
	}
	return m, nil
}

func newUser(private ed25519.PrivateKey, user, mesh []byte) (*Mesh, error) {
	if len(private) != ed25519.PrivateKeySize {
		return nil, errors.New("no key")
	}
	authority, err := parseAuthority(mesh)
	if err != nil {
		return nil, fmt.Errorf("the mesh's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(user)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	public := private.Public().(ed25519.PublicKey)
	if !public.Equal(cert.PublicKey) {
		return nil, errors.New("the private key is not the certificate's")
	}
	m := &Mesh{id: keyHash(authority.PublicKey.(ed25519.PublicKey)), private: private, cert: authority, user: cert}
	if m.limits, err = userLimits(cert, authority); err != nil {
		return nil, err
	}
	return m, nil
}

// userLimits checks that the mesh made the certificate for a user, whenever that was.
func userLimits(cert, mesh *x509.Certificate) (Limits, error) {
	if len(cert.Raw) > maxCertBytes {
		return Limits{}, fmt.Errorf("a certificate of %d bytes, at most %d are possible", len(cert.Raw), maxCertBytes)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || !cert.MaxPathLenZero {
		return Limits{}, errors.New("the certificate is not that of a user's authority")
	}
	if err := cert.CheckSignatureFrom(mesh); err != nil {
		return Limits{}, fmt.Errorf("the certificate is not signed by the mesh: %w", err)
	}
	limits, limited, err := limitsIn(cert, keyHash(mesh.PublicKey.(ed25519.PublicKey)))
	if err != nil {
		return Limits{}, fmt.Errorf("certificate: %w", err)
	}
	if !limited {
		return Limits{}, errors.New("the certificate does not say what it may sign")
	}
	return limits, nil
}

// RenewUser signs the certificate of a user's authority anew, for another year and with the limits that it has: old is one
// that this mesh has signed for the key, in DER, whether it has run out or not. Who was revoked is for the caller to know.
func (m *Mesh) RenewUser(key ed25519.PublicKey, old []byte, now time.Time) ([]byte, error) {
	cert, err := x509.ParseCertificate(old)
	if err != nil {
		return nil, fmt.Errorf("identity: renew a user's certificate: %w", err)
	}
	limits, err := userLimits(cert, m.cert)
	if err != nil {
		return nil, fmt.Errorf("identity: renew a user's certificate: %w", err)
	}
	if !key.Equal(cert.PublicKey) {
		return nil, errors.New("identity: renew a user's certificate: it is another key's")
	}
	return m.IssueUser(key, limits, now, 0)
}

// parseAuthority reads a mesh's own certificate, and checks that it is one.
func parseAuthority(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if _, ok := cert.PublicKey.(ed25519.PublicKey); !ok {
		return nil, fmt.Errorf("the certificate has a key of type %s, want Ed25519", cert.PublicKeyAlgorithm)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("the certificate is not a certificate authority's")
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return nil, fmt.Errorf("the certificate is not signed by its own key: %w", err)
	}
	return cert, nil
}

// Authority is a mesh as its certificate alone shows it: what a machine that is about to join knows.
type Authority struct {
	ID     MeshID
	Public ed25519.PublicKey
}

// ParseAuthority reads a mesh's own certificate in DER, as [Mesh.Certificate] returns it. It is believed by nothing but
// its key: compare the id.
func ParseAuthority(der []byte) (Authority, error) {
	if len(der) > maxCertBytes {
		return Authority{}, fmt.Errorf("identity: a mesh's certificate of %d bytes, at most %d are possible", len(der), maxCertBytes)
	}
	cert, err := parseAuthority(der)
	if err != nil {
		return Authority{}, fmt.Errorf("identity: a mesh's certificate: %w", err)
	}
	public := cert.PublicKey.(ed25519.PublicKey)
	return Authority{keyHash(public), public}, nil
}

// Write puts the credential into a new file at path, mode 0600, on disk when it returns. Missing directories are made
// with mode 0700. If path is taken the error matches fs.ErrExist and the file is untouched.
func (m *Mesh) Write(path string) error {
	data, err := m.Marshal()
	if err != nil {
		return err
	}
	if err := publish(path, data, os.Link); err != nil {
		return fmt.Errorf("identity: mesh credential: %w", err)
	}
	return nil
}

// Replace puts the credential in the place of the file at path, mode 0600 and on disk when it returns: readers see the old
// one or this one, whole.
func (m *Mesh) Replace(path string) error {
	data, err := m.Marshal()
	if err != nil {
		return err
	}
	if err := replace(path, data); err != nil {
		return fmt.Errorf("identity: mesh credential: %w", err)
	}
	return nil
}

// UserKey returns the key of a user credential and its certificate in DER, with which it is renewed; false as for User.
func (m *Mesh) UserKey() (k Key, cert []byte, ok bool) {
	if m.user == nil {
		return Key{}, nil, false
	}
	return Key{m.private}, slices.Clone(m.user.Raw), true
}
