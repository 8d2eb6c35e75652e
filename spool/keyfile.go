package spool

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// KeySize is the length of Options.Key.
const KeySize = 32

// maxKeyFile bounds what is read of a key file: one line of 64 digits.
const maxKeyFile = 128

// ReadKeyFile reads a key for Options.Key: KeySize random bytes on one line, in hexadecimal or in
// base64, as they come from
//
//	(umask 077; openssl rand -hex 32 > spool.key)
//	(umask 077; head -c 32 /dev/urandom | base64 > spool.key)
//
// Where files have modes, only their owner may be allowed to read or write it. Every error names
// path and matches ErrKeyFile.
func ReadKeyFile(path string) ([]byte, error) {
	key, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("spool: %w %s: %w", ErrKeyFile, path, err)
	}
	return key, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	err = checkKeyMode(f)
	var line []byte
	if err == nil {
		line, err = io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, reason(err)
	}
	return parseKey(line)
}

// reason leaves out the path, which the caller names.
func reason(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

var errNoKey = fmt.Errorf("want one line of %d random bytes, as openssl rand -hex %d writes it", KeySize, KeySize)

// parseKey reads the line of a key file. Its errors do not show what it says.
func parseKey(line []byte) ([]byte, error) {
	if len(line) > maxKeyFile {
		return nil, errNoKey
	}
	text := string(bytes.TrimSpace(line))
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
	} {
		if key, err := decode(text); err == nil && len(key) == KeySize {
			return key, nil
		}
	}
	return nil, errNoKey
}
