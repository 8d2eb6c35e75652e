package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
)

// ID names a node: the first 16 bytes of the SHA-256 of its Ed25519 public key. The zero ID names nobody.
type ID [16]byte

// MeshID names a mesh: the first 16 bytes of the SHA-256 of its CA's Ed25519 public key. The zero MeshID names none.
type MeshID [16]byte

// idLength is how many characters 16 bytes take in base32 without padding.
const idLength = 26

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// IDOf returns the id of the node that holds the private half of key.
func IDOf(key ed25519.PublicKey) ID { return keyHash(key) }

// ParseID reads an id in the one form String writes. Any other spelling (upper case, padding, spaces, set bits
// beyond the 128th) is an error, so that equal ids are equal strings.
func ParseID(s string) (ID, error) {
	id, err := parseHash(s)
	if err != nil {
		return ID{}, fmt.Errorf("identity: node id %w", err)
	}
	return id, nil
}

// String returns the id as 26 characters of lower-case base32.
func (id ID) String() string { return idEncoding.EncodeToString(id[:]) }

// Compare orders ids by their bytes: -1, 0 or +1. Both ends of a link use it to agree which of two links stays.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// IsZero reports whether id names nobody.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns what String returns.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText accepts what ParseID accepts.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// ParseMeshID reads a mesh id in the one form String writes, as strictly as ParseID.
func ParseMeshID(s string) (MeshID, error) {
	id, err := parseHash(s)
	if err != nil {
		return MeshID{}, fmt.Errorf("identity: mesh id %w", err)
	}
	return id, nil
}

// String returns the id as 26 characters of lower-case base32.
func (id MeshID) String() string { return idEncoding.EncodeToString(id[:]) }

// IsZero reports whether id names no mesh.
func (id MeshID) IsZero() bool { return id == MeshID{} }

// Hash8 returns the first 8 bytes of the SHA-256 of the id: enough to tell meshes apart in an announcement that
// strangers can read, without telling them the id.
func (id MeshID) Hash8() [8]byte {
	sum := sha256.Sum256(id[:])
	return [8]byte(sum[:8])
}

// MarshalText returns what String returns.
func (id MeshID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText accepts what ParseMeshID accepts.
func (id *MeshID) UnmarshalText(text []byte) error {
	parsed, err := ParseMeshID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// keyHash is how a public key becomes an id, for nodes and meshes alike.
func keyHash(key ed25519.PublicKey) [16]byte {
	sum := sha256.Sum256(key)
	return [16]byte(sum[:16])
}

// parseHash reads the base32 form of 16 bytes. Its errors go on where the caller's "node id" or "mesh id" ends.
func parseHash(s string) ([16]byte, error) {
	if len(s) != idLength {
		return [16]byte{}, fmt.Errorf("has %d characters, want %d", len(s), idLength)
	}
	raw, err := idEncoding.DecodeString(s)
	if err != nil {
		return [16]byte{}, fmt.Errorf("%q is not lower-case base32", s)
	}
	// The decoder skips line breaks and ignores the last two bits; only the spelling String writes is the id's.
	if len(raw) != 16 || idEncoding.EncodeToString(raw) != s {
		return [16]byte{}, fmt.Errorf("%q is not in its canonical form", s)
	}
	return [16]byte(raw), nil
}
