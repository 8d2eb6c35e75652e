package spool

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The files that are ours, not Badger's, begin with a head, and go on with entries:
//
//	magic (8) | version (2) | crc32c of the two (4) | entries
//
// Those of an encrypted store have bit 15 of the version set, and more of a head:
//
//	... | salt (16) | check (16) | crc32c of the two (4) | entries
//
// HKDF-SHA256 of key and salt gives an AES-256 key for this file alone, and the check, by which a
// wrong key is told. The fields of an entry are sealed with AES-GCM, whose tag follows them; the
// nonce is a number that no two entries of a file have in common.
const (
	fileSealed = 1 << 15

	sealSaltSize   = 16
	sealCheckSize  = 16
	sealedFileHead = fileHead + sealSaltSize + sealCheckSize + sumSize
)

// fileKind is a kind of such files.
type fileKind struct {
	magic string
	label string // for the derivation of keys
}

var (
	markFiles = fileKind{markMagic, "peermesh spool mark"}
	walFiles  = fileKind{walMagic, "peermesh spool wal"}
)

// fileCipher seals the entries of one file. nil: they are plain.
type fileCipher struct {
	salt  [sealSaltSize]byte
	check [sealCheckSize]byte
	aead  cipher.AEAD
}

// newFileCipher is for a new file; without a key it is nil.
func newFileCipher(kind fileKind, key []byte) (*fileCipher, error) {
	if key == nil {
		return nil, nil
	}
	var salt [sealSaltSize]byte
	if _, err := rand.Read(salt[:]); err != nil { // not Options.Rand: a salt must never come again
		return nil, fmt.Errorf("random bits: %w", err)
	}
	return kind.derive(key, salt)
}

func (kind fileKind) derive(key []byte, salt [sealSaltSize]byte) (*fileCipher, error) {
	derived, err := hkdf.Key(sha256.New, key, salt[:], kind.label, KeySize+sealCheckSize)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	block, err := aes.NewCipher(derived[:KeySize])
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return &fileCipher{salt, [sealCheckSize]byte(derived[KeySize:]), aead}, nil
}

// seal is the head of a file.
func (kind fileKind) seal(c *fileCipher) []byte {
	version := uint16(formatVersion)
	if c != nil {
		version |= fileSealed
	}
	b := append(make([]byte, 0, sealedFileHead), kind.magic...)
	b = binary.BigEndian.AppendUint16(b, version)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if c == nil {
		return b
	}
	b = append(append(b, c.salt[:]...), c.check[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[fileHead:], castagnoli))
}

// parse returns the cipher of the entries, and where they begin. Whether the key fits is
// looked at when the head is whole, and before anything else is.
func (kind fileKind) parse(b, key []byte) (c *fileCipher, size int, err error) {
	if len(b) < fileHead || string(b[:len(kind.magic)]) != kind.magic {
		return nil, 0, fmt.Errorf("%w: not such a file", ErrDamaged)
	}
	version := binary.BigEndian.Uint16(b[8:])
	sealed := version&fileSealed != 0
	if version &^= fileSealed; version != formatVersion && version != 0 {
		return nil, 0, fmt.Errorf("%w: format %d, known is %d", ErrVersion, version, formatVersion)
	}
	if crc32.Checksum(b[:10], castagnoli) != binary.BigEndian.Uint32(b[10:]) {
		return nil, 0, fmt.Errorf("%w: the checksum does not match", ErrDamaged)
	}
	switch {
	case !sealed && key == nil:
		return nil, fileHead, nil
	case !sealed:
		return nil, 0, ErrNotEncrypted
	case key == nil:
		return nil, 0, ErrNoKey
	case len(b) < sealedFileHead || crc32.Checksum(b[fileHead:sealedFileHead-sumSize], castagnoli) != binary.BigEndian.Uint32(b[sealedFileHead-sumSize:]):
		return nil, 0, fmt.Errorf("%w: the checksum of the salt does not match", ErrDamaged)
	}
	if c, err = kind.derive(key, [sealSaltSize]byte(b[fileHead:])); err != nil {
		return nil, 0, err
	}
	if subtle.ConstantTimeCompare(c.check[:], b[fileHead+sealSaltSize:fileHead+sealSaltSize+sealCheckSize]) != 1 {
		return nil, 0, ErrWrongKey
	}
	return c, sealedFileHead, nil
}

// nonce is that of the entry with a number.
func (c *fileCipher) nonce(at int64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, c.aead.NonceSize()-8, c.aead.NonceSize()), uint64(at))
}

// seal seals the fields that b ends with, for the entry with a number.
func (c *fileCipher) seal(b []byte, fields int, at int64) []byte {
	if c == nil {
		return b
	}
	return c.aead.Seal(b[:fields], c.nonce(at), b[fields:], nil)
}

// open undoes seal.
func (c *fileCipher) open(fields []byte, at int64) ([]byte, error) {
	if c == nil {
		return fields, nil
	}
	plain, err := c.aead.Open(nil, c.nonce(at), fields, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: an entry was not sealed with this key", ErrDamaged)
	}
	return plain, nil
}
