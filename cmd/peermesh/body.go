package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// hashOf is how events name a body: the first 8 bytes of its SHA-256 in hex.
func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}

// bodies generates the bodies of --count and recognises them for --verify-seed. Not
// safe for concurrent use.
type bodies struct {
	seed    uint64
	chacha  rand.ChaCha8
	scratch []byte
}

// append appends body n of that size to dst: n as 8 bytes big-endian, then bytes of
// ChaCha8 keyed by seed and n. Less than 8 bytes are the last ones of n.
func (b *bodies) append(dst []byte, n uint64, size int) []byte {
	if size < 8 {
		var head [8]byte
		binary.BigEndian.PutUint64(head[:], n)
		return append(dst, head[8-size:]...)
	}
	var key [32]byte
	binary.BigEndian.PutUint64(key[0:], b.seed)
	binary.BigEndian.PutUint64(key[8:], n)
	b.chacha.Seed(key)
	dst = binary.BigEndian.AppendUint64(dst, n)
	at := len(dst)
	dst = append(dst, make([]byte, size-8)...)
	_, _ = b.chacha.Read(dst[at:]) // it returns no error, ever
	return dst
}

// recognises reports whether body is one that append makes. Bodies of less than 8
// bytes hold nothing to check.
func (b *bodies) recognises(body []byte) bool {
	if len(body) < 8 {
		return true
	}
	b.scratch = b.append(b.scratch[:0], binary.BigEndian.Uint64(body), len(body))
	return bytes.Equal(b.scratch, body)
}
