package identity

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"slices"
)

// errNoPurpose: without a purpose a statement could pass for a certificate.
var errNoPurpose = errors.New("identity: a statement needs a purpose")

// Public returns the key that the mesh's signatures are checked with; its hash is the mesh's id. The caller owns it.
func (m *Mesh) Public() ed25519.PublicKey {
	return slices.Clone(m.private.Public().(ed25519.PublicKey))
}

// Sign makes a statement of the mesh for a purpose of 1 to 255 bytes. A signature holds for no other purpose, nor is it
// ever that of a certificate (RFC 8032, Ed25519ctx).
func (m *Mesh) Sign(purpose string, statement []byte) ([]byte, error) {
	if purpose == "" {
		return nil, errNoPurpose
	}
	return m.private.Sign(nil, statement, &ed25519.Options{Hash: crypto.Hash(0), Context: purpose})
}
