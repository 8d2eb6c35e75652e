package identity

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
)

// errNoPurpose: without a purpose a statement could pass for a certificate.
var errNoPurpose = errors.New("identity: a statement needs a purpose")

// ErrNoMeshKey is what only the mesh's own key can do, asked of a user credential.
var ErrNoMeshKey = errors.New("this machine joined the mesh and does not hold its key; do it where the mesh was made")

// Public returns the key that the mesh's signatures are checked with; its hash is the mesh's id. The caller owns it.
func (m *Mesh) Public() ed25519.PublicKey {
	return slices.Clone(m.cert.PublicKey.(ed25519.PublicKey))
}

// Sign makes a statement of the mesh for a purpose of 1 to 255 bytes. A signature holds for no other purpose, nor is it
// ever that of a certificate (RFC 8032, Ed25519ctx). The error of a user credential matches ErrNoMeshKey.
func (m *Mesh) Sign(purpose string, statement []byte) ([]byte, error) {
	if m.user != nil {
		return nil, fmt.Errorf("identity: sign for mesh %v: %w", m.id, ErrNoMeshKey)
	}
	return signFor(m.private, purpose, statement)
}

func signFor(private ed25519.PrivateKey, purpose string, statement []byte) ([]byte, error) {
	if purpose == "" {
		return nil, errNoPurpose
	}
	return private.Sign(nil, statement, &ed25519.Options{Hash: crypto.Hash(0), Context: purpose})
}

// Signed reports whether the holder of key made the statement for the purpose. It never panics, whatever the lengths.
func Signed(key ed25519.PublicKey, purpose string, statement, signature []byte) bool {
	return len(key) == ed25519.PublicKeySize &&
		ed25519.VerifyWithOptions(key, statement, signature, &ed25519.Options{Context: purpose}) == nil
}
