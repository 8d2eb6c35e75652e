package spool

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
)

// Badger encrypts with a data key of its own, which lies in KEYREGISTRY under the key it is given:
//
//	iv (16) | "Hello Badger", encrypted if there is a key | data keys
//	data key: its length (4) | crc32c (4) | protobuf: id, iv, the encrypted key, when it was made
//
// Badger makes a new data key when the last one is ten days old by the wall clock, and takes the
// lack of one for a young one while the clock stands near 1970: then it writes plain text. So the
// one data key of a store is made here, with the store, and never replaced.
const (
	registryName  = "KEYREGISTRY"
	registryText  = "Hello Badger"
	registryHead  = aes.BlockSize + len(registryText)
	registrySlot  = 8
	maxRegistry   = 64 << 10
	neverReplaced = math.MaxInt64 // nanoseconds
	alwaysNew     = math.MinInt64
)

// badgerKey is the key that Badger is given; nil without a key.
func badgerKey(key []byte) ([]byte, error) {
	if key == nil {
		return nil, nil
	}
	derived, err := hkdf.Key(sha256.New, key, nil, "peermesh spool badger", KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return derived, nil
}

// startKey checks the key, before anything in the directory is touched.
func (s *Store) startKey(p *place) error {
	derived, err := badgerKey(s.key)
	if err != nil {
		return err
	}
	s.badgerKey = derived
	return checkKey(p, s.key, derived)
}

// completeRegistry makes the registry if it is not there yet: the mark of a new store comes first.
func (s *Store) completeRegistry() error {
	if s.badgerKey == nil {
		return nil
	}
	_, err := os.Stat(filepath.Join(s.dir, registryName))
	if errors.Is(err, fs.ErrNotExist) {
		return makeRegistry(s.dir, s.badgerKey)
	}
	return err
}

// checkKey says whether the store in dir is opened with the key that it was made with, nil for none.
// It reads the mark and Badger's registry, and writes nothing. When one of them says that the key
// fits, the other is damaged; when neither can say so, it is the key that is wrong: that is no
// reason ever to give the directory up.
func checkKey(p *place, key, derived []byte) error {
	byMark := checkMarkHead(p.dir, key)
	byRegistry := checkRegistry(p.dir, derived)
	switch {
	case isKeyError(byMark) || errors.Is(byMark, ErrVersion):
		return byMark
	case byMark == nil && isKeyError(byRegistry):
		return fmt.Errorf("%w: %s does not go with the key that fits the mark file", ErrDamaged, registryName)
	case errors.Is(byRegistry, fs.ErrNotExist) && p.manifest && key != nil:
		return fmt.Errorf("%w: %s is missing", ErrDamaged, registryName)
	case errors.Is(byRegistry, fs.ErrNotExist):
		return nil
	}
	return byRegistry
}

// isKeyError tells the want of the right key from everything else.
func isKeyError(err error) bool {
	return errors.Is(err, ErrNoKey) || errors.Is(err, ErrWrongKey) || errors.Is(err, ErrNotEncrypted)
}

// checkMarkHead reads the head of the mark file alone.
func checkMarkHead(dir string, key []byte) error {
	b, err := readStart(filepath.Join(dir, markName), sealedFileHead)
	if err != nil {
		return err
	}
	_, _, err = markFiles.parse(b, key)
	return err
}

func checkRegistry(dir string, derived []byte) error {
	b, err := readStart(filepath.Join(dir, registryName), maxRegistry+1)
	if err != nil {
		return err
	}
	if err := parseRegistry(b, derived); err != nil {
		return fmt.Errorf("%s: %w", registryName, err)
	}
	return nil
}

// parseRegistry checks what Badger takes on trust: that the key fits, and all lengths.
func parseRegistry(b, derived []byte) error {
	if len(b) < registryHead || len(b) > maxRegistry {
		return fmt.Errorf("%w: %d bytes", ErrDamaged, len(b))
	}
	text := b[aes.BlockSize:registryHead]
	plain := string(text) == registryText
	switch {
	case plain && derived != nil:
		return ErrNotEncrypted
	case !plain && derived == nil:
		return ErrNoKey
	case derived != nil:
		block, err := aes.NewCipher(derived)
		if err != nil {
			return err
		}
		text = make([]byte, len(registryText))
		cipher.NewCTR(block, b[:aes.BlockSize]).XORKeyStream(text, b[aes.BlockSize:registryHead])
		if string(text) != registryText {
			return ErrWrongKey
		}
	}
	keys := 0
	for rest := b[registryHead:]; len(rest) > 0; keys++ {
		if len(rest) < registrySlot || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-registrySlot) {
			return fmt.Errorf("%w: a data key is cut short", ErrDamaged)
		}
		rest = rest[registrySlot+int(binary.BigEndian.Uint32(rest)):]
	}
	if keys == 0 && derived != nil {
		return fmt.Errorf("%w: no data key", ErrDamaged)
	}
	return nil
}

// makeRegistry makes the registry of a new encrypted store, with its data key. It is there whole or
// not at all.
func makeRegistry(dir string, derived []byte) error {
	opt := badger.KeyRegistryOptions{Dir: dir, EncryptionKey: derived, EncryptionKeyRotationDuration: alwaysNew, InMemory: true}
	r, err := badger.OpenKeyRegistry(opt)
	if err != nil {
		return fmt.Errorf("badger: %w", err)
	}
	if _, err := r.LatestDataKey(); err != nil {
		return fmt.Errorf("badger: %w", err)
	}
	if err := badger.WriteKeyRegistry(r, opt); err != nil {
		return fmt.Errorf("badger: %w", err)
	}
	return nil
}

// dataKeys reads the registry; nil without a key. It must have been checked.
func dataKeys(dir string, derived []byte) (func(id uint64) (*pb.DataKey, error), error) {
	if derived == nil {
		return func(uint64) (*pb.DataKey, error) { return nil, nil }, nil
	}
	r, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: derived})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", registryName, explain(err))
	}
	return r.DataKey, nil
}

// readStart reads a file up to a bound.
func readStart(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return b, errors.Join(err, f.Close())
}
