package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAMeshRoundTripsThroughItsCredential(t *testing.T) {
	mesh := newMesh(t, time.Now())
	data, err := mesh.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseMesh(data)
	if err != nil {
		t.Fatal(err)
	}
	if back.ID() != mesh.ID() || mesh.ID().IsZero() {
		t.Errorf("mesh %s came back as %s", mesh, back)
	}
	if again, err := back.Marshal(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("marshalled again it is (%v)\n%s\nwant\n%s", err, again, data)
	}
	cert, key, _ := bytes.Cut(data, []byte("-----BEGIN PRIVATE"))
	swapped := "# our mesh\n-----BEGIN PRIVATE" + string(key) + string(cert) + "\n"
	if back, err := ParseMesh([]byte(swapped)); err != nil || back.ID() != mesh.ID() {
		t.Errorf("with the blocks swapped and a comment: %v, %v", back, err)
	}
}

func TestABadMeshCredentialIsAnError(t *testing.T) {
	mesh := fixedMesh(t, 1)
	cert := pemBlock(pemCertificate, mesh.cert.Raw)
	key := privatePEM(t, fixedPrivate(1))
	forged := bytes.Clone(mesh.cert.Raw)
	forged[len(forged)-1] ^= 1
	leaf, err := mesh.Issue(fixedKey(2).Public(), Claims{}, birth, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want string }{
		{"nothing", "", "no PEM block"},
		{"garbage", "not PEM", "not PEM"},
		{"no key", cert, `no PEM block "PRIVATE KEY"`},
		{"no certificate", key, `no PEM block "CERTIFICATE"`},
		{"two certificates", cert + cert + key, "not that of a user's authority"},
		{"three certificates", cert + cert + cert + key, "more than 2"},
		{"a tail", cert + key + "tail", "follows the last"},
		{"an encrypted key", cert + pemBlock("ENCRYPTED PRIVATE KEY", []byte{1}), "does not belong"},
		{"a broken key", cert + pemBlock(pemPrivate, []byte{1}), "private key"},
		{"a broken certificate", pemBlock(pemCertificate, []byte{1}) + key, "certificate"},
		{"an RSA key", cert + rsaKeyPEM(t), "want Ed25519"},
		{"another's key", cert + privatePEM(t, fixedPrivate(2)), "not the certificate's"},
		{"a node's certificate", pemBlock(pemCertificate, leaf[0]) + privatePEM(t, fixedPrivate(2)), "not a certificate authority's"},
		{"a forged certificate", pemBlock(pemCertificate, forged) + key, "not signed by its own key"},
		{"a flood", strings.Repeat(cert, 1000), "too large"},
	} {
		mesh, err := ParseMesh([]byte(c.content))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: ParseMesh = %v, %v, want an error with %q", c.name, mesh, err, c.want)
		}
	}
}

func TestCreateMeshNeverOverwrites(t *testing.T) {
	path := filepath.Join(privateDir(t), "blue.pem")
	if _, err := LoadMesh(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadMesh of nothing: %v, want fs.ErrNotExist", err)
	}
	mesh, err := CreateMesh(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateMesh(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second CreateMesh: %v, want fs.ErrExist", err)
	}
	loaded, err := LoadMesh(path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.ID() != mesh.ID() {
		t.Errorf("loaded mesh %s, want %s", loaded, mesh)
	}
	wantMode(t, path, 0o600)
}

func TestLoadMeshNamesTheBadFile(t *testing.T) {
	path := filepath.Join(privateDir(t), "mesh.pem")
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadMesh(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names %s", err, path)
	}
}

func TestGoroutinesThatStartTogetherAgreeOnOneDefaultMesh(t *testing.T) {
	setHome(t, privateDir(t))
	var wg sync.WaitGroup
	ids, paths := make([]MeshID, 16), make([]string, 16)
	for i := range ids {
		wg.Go(func() {
			mesh, path, err := DefaultMesh()
			if err != nil {
				t.Error(err)
				return
			}
			ids[i], paths[i] = mesh.ID(), path
		})
	}
	wg.Wait()
	for i := range ids {
		if ids[i] != ids[0] || ids[i].IsZero() || paths[i] != paths[0] {
			t.Errorf("caller %d has mesh %s at %s, caller 0 has %s at %s", i, ids[i], paths[i], ids[0], paths[0])
		}
	}
	wantOnly(t, paths[0])
}

func TestProcessesThatStartTogetherAgreeOnOneDefaultMesh(t *testing.T) {
	home := privateDir(t)
	want := race(t, "mesh", home)
	setHome(t, home)
	mesh, path, err := DefaultMesh()
	if err != nil {
		t.Fatal(err)
	}
	if mesh.ID().String() != want {
		t.Errorf("the parent has mesh %s, its children %s", mesh, want)
	}
	if !strings.HasPrefix(path, home) {
		t.Errorf("the mesh lies at %s, outside HOME %s", path, home)
	}
	wantOnly(t, path)
}

func TestWithoutAHomeTheErrorSaysWhatToSet(t *testing.T) {
	blocked := filepath.Join(privateDir(t), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, home := range map[string]string{"unset": "", "relative": "somewhere", "not a directory": blocked} {
		setHome(t, home)
		_, _, err := DefaultMesh()
		if err == nil || !strings.Contains(err.Error(), "set HOME") {
			t.Errorf("%s: error %v, want one that says to set HOME", name, err)
		}
	}
}

func TestAnOpenDefaultMeshIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permission bits say nothing there")
	}
	setHome(t, privateDir(t))
	_, path, err := DefaultMesh()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := DefaultMesh(); err == nil || !strings.Contains(err.Error(), "chmod 600 '"+path+"'") {
		t.Errorf("error %v, want one that says chmod 600", err)
	}
}

// setHome points every variable that os.UserConfigDir reads at home.
func setHome(t *testing.T, home string) {
	t.Helper()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("AppData", home)
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func privatePEM(t testing.TB, private ed25519.PrivateKey) string {
	t.Helper()
	data, err := marshalPrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaKeyPEM(t testing.TB) string {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemBlock(pemPrivate, der)
}

func FuzzParseMesh(f *testing.F) {
	good, err := fixedMesh(f, 1).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	user, err := newUserOf(f, fixedMesh(f, 1), fixedKey(2), sensorLimits, birth, 0).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(user)
	f.Fuzz(func(t *testing.T, data []byte) {
		mesh, err := ParseMesh(data)
		if err != nil {
			return
		}
		again, err := mesh.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseMesh(again); err != nil || back.ID() != mesh.ID() {
			t.Errorf("mesh %s came back as %v (%v)", mesh, back, err)
		}
	})
}
