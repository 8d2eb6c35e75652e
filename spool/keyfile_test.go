package spool

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestKeyFileIsOneLineOfHexOrBase64(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	for name, text := range map[string]string{
		"hex":            hex.EncodeToString(testKey) + "\n",
		"upper case hex": strings.ToUpper(hex.EncodeToString(testKey)),
		"base64":         base64.StdEncoding.EncodeToString(testKey) + "\r\n",
		"base64 bare":    base64.RawStdEncoding.EncodeToString(testKey) + "\n",
	} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if key, err := ReadKeyFile(path); err != nil || !bytes.Equal(key, testKey) {
			t.Errorf("%s: %x, %v", name, key, err)
		}
	}
}

func TestBadKeyFileIsRefusedAndNotShown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for name, text := range map[string]string{
		"empty":      "",
		"raw bytes":  string(testKey),
		"too short":  hex.EncodeToString(testKey[1:]),
		"too long":   hex.EncodeToString(testKey) + "00",
		"two lines":  hex.EncodeToString(testKey) + "\n" + hex.EncodeToString(testKey) + "\n",
		"passphrase": "correct horse battery staple",
		"large":      strings.Repeat(" ", 1<<20) + hex.EncodeToString(testKey),
	} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := ReadKeyFile(path)
		if !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "openssl rand") {
			t.Errorf("%s: %v", name, err)
		}
		if text != "" && strings.Contains(err.Error(), strings.TrimSpace(text)[:8]) {
			t.Errorf("%s: the error shows what the file says: %v", name, err)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir()} {
		if _, err := ReadKeyFile(path); !errors.Is(err, ErrKeyFile) || strings.Count(err.Error(), path) != 1 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestKeyFileOthersCanReadIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode there")
	}
	path := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(path, []byte(hex.EncodeToString(testKey)), 0o600))
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602} {
		must(t, os.Chmod(path, mode))
		if _, err := ReadKeyFile(path); !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), "chmod 0600") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	must(t, os.Chmod(path, 0o400))
	if _, err := ReadKeyFile(path); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte(hex.EncodeToString(testKey) + "\n"))
	f.Add([]byte(base64.StdEncoding.EncodeToString(testKey)))
	f.Fuzz(func(t *testing.T, line []byte) {
		if key, err := parseKey(line); err == nil && len(key) != KeySize {
			t.Errorf("%q: %d bytes", line, len(key))
		}
	})
}
