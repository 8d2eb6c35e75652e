package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
)

const (
	pemCertificate = "CERTIFICATE"
	pemPrivate     = "PRIVATE KEY" // PKCS #8
)

// maxFileBytes bounds a credential file. Ours are under 1 KiB; the rest is room for comments and longer names.
const maxFileBytes = 64 << 10

// readPEM returns the content of the blocks in data by their type, in their order. It wants at least one of each type that
// is named and at most as many as is said, and none of another; text before a block is a comment, text after the last one
// is an error.
func readPEM(data []byte, most map[string]int) (map[string][][]byte, error) {
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("over %d bytes, too large for a credential", maxFileBytes)
	}
	want := slices.Sorted(maps.Keys(most))
	blocks := make(map[string][][]byte, len(want))
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		switch {
		case block == nil:
			return nil, errors.New("not PEM, or something follows the last PEM block")
		case most[block.Type] == 0:
			return nil, fmt.Errorf("PEM block %q does not belong here, want %q", block.Type, want)
		case len(blocks[block.Type]) == most[block.Type]:
			return nil, fmt.Errorf("more than %d PEM blocks %q", most[block.Type], block.Type)
		}
		blocks[block.Type] = append(blocks[block.Type], block.Bytes)
		data = rest
	}
	for _, kind := range want {
		if blocks[kind] == nil {
			return nil, fmt.Errorf("no PEM block %q", kind)
		}
	}
	return blocks, nil
}

func marshalPrivate(private ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
}

func parsePrivate(der []byte) (ed25519.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key is a %T, want Ed25519", parsed)
	}
	return private, nil
}
