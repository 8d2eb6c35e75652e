package identity

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
)

// Key is a node's private Ed25519 key: whoever holds it is that node. It is kept for the node's whole life, while its
// certificates come and go. The zero Key is no key; get one from [NewKey] or [LoadOrCreateKey].
// A Key is immutable, safe for concurrent use, and prints as its node id.
type Key struct {
	private ed25519.PrivateKey
}

// NewKey makes a fresh key, for a node that keeps nothing on disk.
func NewKey() (Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("identity: new node key: %w", err)
	}
	return Key{private}, nil
}

// LoadOrCreateKey reads the key at path, or makes one there, in a file of mode 0600, if there is none. Missing
// directories are made with mode 0700. Of several processes that start at once all get the same key. A key that
// other users could read or replace is an error that says which chmod to run (not on Windows).
func LoadOrCreateKey(path string) (Key, error) {
	data, err := loadOrCreate(path, freshKey, os.Link)
	if err != nil {
		return Key{}, fmt.Errorf("identity: node key: %w", err)
	}
	key, err := parseKey(data)
	if err != nil {
		return Key{}, fmt.Errorf("identity: node key %s: %w", path, err)
	}
	return key, nil
}

// ID returns the id of the node that holds this key; the zero ID for the zero Key.
func (k Key) ID() ID {
	if k.private == nil {
		return ID{}
	}
	return IDOf(k.Public())
}

// Public returns a copy of the public half.
func (k Key) Public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// Derive returns 32 bytes that only the holder of this key can compute, the same for the same label on every run and
// unrelated for different labels (HKDF with SHA-256). A QUIC stateless reset key is made this way, so that it
// survives a restart.
func (k Key) Derive(label string) [32]byte {
	secret, err := hkdf.Key(sha256.New, k.private.Seed(), nil, "peermesh/1 "+label, 32)
	if err != nil {
		panic("identity: derive from node key: " + err.Error()) // only for lengths HKDF cannot give; 32 is not one
	}
	return [32]byte(secret)
}

// Sign makes a statement of this key for a purpose, as [Mesh.Sign] does.
func (k Key) Sign(purpose string, statement []byte) ([]byte, error) {
	return signFor(k.private, purpose, statement)
}

// String returns the node id, never the key.
func (k Key) String() string { return k.ID().String() }

// Format writes the node id under every verb, so that no way of printing shows the key.
func (k Key) Format(f fmt.State, _ rune) { formatAs(f, k.String()) }

// freshKey makes the content of a new key file.
func freshKey() ([]byte, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	return marshalPrivate(key.private)
}

// parseKey reads the content of a key file: one PRIVATE KEY block (PKCS #8) and nothing after it.
func parseKey(data []byte) (Key, error) {
	blocks, err := readPEM(data, map[string]int{pemPrivate: 1})
	if err != nil {
		return Key{}, err
	}
	private, err := parsePrivate(blocks[pemPrivate][0])
	if err != nil {
		return Key{}, err
	}
	return Key{private}, nil
}

// formatAs writes what a secret prints as. Like fmt itself it has nobody to tell about a failed write.
func formatAs(f fmt.State, s string) { _, _ = io.WriteString(f, s) }
