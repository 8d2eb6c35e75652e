package enroll

import (
	"crypto/ed25519"
	"fmt"
	"io"

	"peermesh/internal/identity"
)

// Side is the other side of a connection after it has proved that it holds the mesh's key.
type Side struct {
	stream  io.ReadWriter
	binding []byte
	mesh    []byte // its certificate
}

// Meet says HELLO and has the other side prove that it holds the key of the mesh; binding is what TLS exported. Without
// the proof nothing more is said, and the error is a *Refusal with CodeMesh.
func Meet(stream io.ReadWriter, binding []byte, mesh identity.MeshID) (*Side, error) {
	if err := say(stream, typeHello, []byte{protocol}); err != nil {
		return nil, err
	}
	proof, err := expect(stream, typeProof)
	if err != nil {
		return nil, err
	}
	if len(proof) < ed25519.SignatureSize {
		return nil, fmt.Errorf("%w: PROOF", ErrProtocol)
	}
	signature, cert := proof[:ed25519.SignatureSize], proof[ed25519.SignatureSize:]
	authority, err := identity.ParseAuthority(cert)
	switch {
	case err != nil:
		return nil, refuse(CodeMesh, "what answers shows no mesh: %v", err)
	case authority.ID != mesh:
		return nil, refuse(CodeMesh, "what answers is of mesh %v, not of mesh %v", authority.ID, mesh)
	case !identity.Signed(authority.Public, purposeInviter, binding, signature):
		return nil, refuse(CodeMesh, "what answers does not hold the key of mesh %v: something stands in between", mesh)
	}
	return &Side{stream: stream, binding: binding, mesh: cert}, nil
}

// Ask proves the secret and returns the credential of key, which is on no disk yet: call Stored when it is. The error may
// be a *Refusal; after any other one the same key may ask again.
func (s *Side) Ask(key identity.Key, secret Secret) (*identity.Mesh, error) {
	return s.ask(typeAsk, purposeJoiner, key, prove(secret, s.binding, key.Public()))
}

// Renew returns a credential like the old one of key, with a year before it. The error may be a *Refusal.
func (s *Side) Renew(key identity.Key, old []byte) (*identity.Mesh, error) {
	return s.ask(typeRenew, purposeRenewal, key, old)
}

func (s *Side) ask(t frameType, purpose string, key identity.Key, proof []byte) (*identity.Mesh, error) {
	signature, err := key.Sign(purpose, s.binding)
	if err != nil {
		return nil, err
	}
	if err := say(s.stream, t, key.Public(), signature, proof); err != nil {
		return nil, err
	}
	cert, err := expect(s.stream, typeGrant)
	if err != nil {
		return nil, err
	}
	return identity.NewUser(key, cert, s.mesh)
}

// Stored says that the credential is on disk, and waits until that was heard. It is on disk whatever the error is; the
// invitation counts this machine either way.
func (s *Side) Stored() error {
	if err := say(s.stream, typeStored); err != nil {
		return err
	}
	_, err := expect(s.stream, typeDone)
	return err
}
