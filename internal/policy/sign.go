package policy

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"peermesh/internal/identity"
)

// purpose keeps the signature apart from all others that a mesh makes (RFC 8032, Ed25519ctx).
const purpose = "peermesh policy 1"

// Why a text that can be read is not taken.
var (
	ErrUnsigned = errors.New("policy: not signed; peermesh policy apply FILE signs it")
	ErrForeign  = errors.New("policy: made for another mesh")
	ErrForged   = errors.New("policy: the signature is not this mesh's, or the text was changed after it was signed")
	ErrOlder    = errors.New("policy: older than the one in force")
)

// Verify checks that the mesh with that key has signed the text. The error matches ErrUnsigned, ErrForeign or ErrForged.
func (p *Policy) Verify(authority ed25519.PublicKey) error {
	mesh := identity.MeshID(identity.IDOf(authority))
	switch {
	case p.signature == nil:
		return ErrUnsigned
	case p.mesh != mesh:
		return fmt.Errorf("%w: %v, and this is %v", ErrForeign, p.mesh, mesh)
	case !identity.Signed(authority, purpose, p.signed, p.signature):
		return ErrForged
	}
	return nil
}

// Sign makes a policy of the mesh of a draft: it writes mesh, version and signature, in place of those that are there.
// The error is a *SyntaxError in the lines of the draft, or says that the result is too long.
func Sign(draft []byte, m *identity.Mesh, version uint64) (*Policy, error) {
	if _, err := Parse(draft); err != nil {
		return nil, err
	}
	signed, err := compose(draft, m.ID(), version)
	if err != nil {
		return nil, err
	}
	signature, err := m.Sign(purpose, signed)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	text := append(signed, "signature "+base64.RawStdEncoding.EncodeToString(signature)+"\n"...)
	p, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("policy: signed, with mesh and version: line %w", err)
	}
	return p, p.Verify(m.Public())
}

// compose is the draft with the mesh and the version behind its first statement, and no others.
func compose(draft []byte, mesh identity.MeshID, version uint64) ([]byte, error) {
	var out bytes.Buffer
	begun := false
	for line := range strings.Lines(string(draft)) {
		words, err := split(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		if len(words) > 0 && (words[0].text == "mesh" || words[0].text == "version" || words[0].text == "signature") {
			continue
		}
		out.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		if len(words) > 0 && !begun {
			begun = true
			fmt.Fprintf(&out, "mesh %v\nversion %d\n", mesh, version)
		}
	}
	return out.Bytes(), nil
}

// Empty is the draft of a policy that changes nothing.
func Empty() []byte { return []byte(header + "\ndefault allow\n") }

// Revoke adds a node to a text, which then has to be signed again. The error is a *SyntaxError.
func Revoke(text []byte, id identity.ID, reason string) ([]byte, error) {
	p, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if p.signature != nil {
		text = p.signed
	}
	line := "revoke " + id.String()
	if reason != "" {
		line += fmt.Sprintf(" reason=%q", reason)
	}
	out := append(bytes.TrimRight(bytes.Clone(text), "\n"), "\n"+line+"\n"...)
	_, err = Parse(out)
	return out, err
}
