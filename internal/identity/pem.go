package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

const (
	pemCertificate = "CERTIFICATE"
	pemPrivate     = "PRIVATE KEY" // PKCS #8
)

// maxFileBytes bounds a credential file. Ours are under 1 KiB; the rest is room for comments and longer names.
const maxFileBytes = 64 << 10

// readPEM returns the content of the blocks in data by their type. It wants exactly one of each wanted type, and
// none of another; text before a block is a comment, text after the last one is an error.
func readPEM(data []byte, want ...string) (map[string][]byte, error) {
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("over %d bytes, too large for a credential", maxFileBytes)
	}
	blocks := make(map[string][]byte, len(want))
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		switch {
		case block == nil:
			return nil, errors.New("not PEM, or something follows the last PEM block")
		case !slices.Contains(want, block.Type):
			return nil, fmt.Errorf("PEM block %q does not belong here, want %q", block.Type, want)
		case blocks[block.Type] != nil:
			return nil, fmt.Errorf("more than one PEM block %q", block.Type)
		}
		blocks[block.Type] = block.Bytes
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
