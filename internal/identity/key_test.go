package identity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAKeyStaysTheSameAcrossRuns(t *testing.T) {
	path := filepath.Join(privateDir(t), "state", "node.key")
	first, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID() != second.ID() || first.ID().IsZero() {
		t.Errorf("ids %s and then %s, want the same", first, second)
	}
	if other := newKey(t); other.ID() == first.ID() {
		t.Errorf("two keys have the id %s", other)
	}
}

func TestDerivedSecretsDependOnKeyAndLabel(t *testing.T) {
	got := fixedKey(1).Derive("quic stateless reset")
	// Computed apart from this code: a changed derivation would make peers miss a restart.
	const want = "8d3ad5a894867bcbfd26613271257182361cb7ed5049c726f0880dfc3af27046"
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("Derive = %x, want %s", got, want)
	}
	if fixedKey(1).Derive("another use") == got {
		t.Error("two labels give the same secret")
	}
	if fixedKey(2).Derive("quic stateless reset") == got {
		t.Error("two keys give the same secret")
	}
}

func TestABadKeyFileIsAnErrorAndStaysAsItIs(t *testing.T) {
	mesh, err := fixedMesh(t, 1).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good, err := marshalPrivate(fixedPrivate(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"garbage":                  "not a key\n",
		"a mesh credential":        string(mesh),
		"cut short":                string(good[:len(good)/2]),
		"two keys":                 string(good) + string(good),
		"something after the key":  string(good) + "tail",
		"an RSA key":               rsaKeyPEM(t),
		"a PKCS #8 that is broken": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"too large":                strings.Repeat("#\n", maxFileBytes),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(privateDir(t), "node.key")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			key, err := LoadOrCreateKey(path)
			if err == nil {
				t.Fatalf("LoadOrCreateKey = %s, want an error", key)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name the file %s", err, path)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != content {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestADirectoryIsNoKey(t *testing.T) {
	_, err := LoadOrCreateKey(privateDir(t))
	if err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("error %v, want one that says it is a directory", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v matches fs.ErrNotExist", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	key, mesh := fixedKey(7), fixedMesh(t, 7)
	credentials, err := NewCredentials(mesh, key, Claims{}, func() time.Time { return birth })
	if err != nil {
		t.Fatal(err)
	}
	// The seed is the byte 7 over and over: these are the ways fmt would write a run of it.
	traces := []string{"7 7 7 7", "0x7, 0x7", "07070707", "\a\a\a\a", `\a\a\a\a`}
	for _, secret := range []any{key, &key, mesh, credentials, struct{ K Key }{key}} {
		var printed strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
			fmt.Fprintf(&printed, verb+"\n", secret)
		}
		slog.New(slog.NewTextHandler(&printed, nil)).Info("secret", "it", secret)
		slog.New(slog.NewJSONHandler(&printed, nil)).Info("secret", "it", secret)
		for _, trace := range traces {
			if strings.Contains(printed.String(), trace) {
				t.Errorf("%T shows its key as %q:\n%s", secret, trace, &printed)
			}
		}
	}
	if got, want := key.String(), key.ID().String(); got != want {
		t.Errorf("String = %s, want the id %s", got, want)
	}
}

func FuzzParseKey(f *testing.F) {
	good, err := marshalPrivate(fixedPrivate(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := parseKey(data)
		if err != nil {
			return
		}
		again, err := marshalPrivate(key.private)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseKey(again); err != nil || back.ID() != key.ID() {
			t.Errorf("key %s came back as %s (%v)", key, back, err)
		}
	})
}
