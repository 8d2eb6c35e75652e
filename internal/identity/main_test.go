package identity

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

// childEnv makes the test binary act as a process of its own: see child.
const childEnv = "IDENTITY_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		os.Exit(child(what))
	}
	os.Exit(m.Run())
}

// child waits until its stdin ends, so that many can start as one, then makes or loads what its parent asks for and
// prints its id.
func child(what string) int {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var id fmt.Stringer
	var err error
	if what == "mesh" {
		id, _, err = DefaultMesh()
	} else {
		id, err = LoadOrCreateKey(what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(id)
	return 0
}

// privateDir is t.TempDir without what a liberal umask lets others do in it.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// birth is the moment at which fixed test meshes and certificates are made.
var birth = time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)

// fixedPrivate returns the private key whose seed is n over and over: the same on every run.
func fixedPrivate(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func fixedKey(n byte) Key { return Key{fixedPrivate(n)} }

// fixedMesh returns a mesh with a fixed key and so a fixed id.
func fixedMesh(t testing.TB, n byte) *Mesh {
	t.Helper()
	mesh, err := meshOf(fixedPrivate(n), birth)
	if err != nil {
		t.Fatal(err)
	}
	return mesh
}

func newMesh(t testing.TB, now time.Time) *Mesh {
	t.Helper()
	mesh, err := NewMesh(now)
	if err != nil {
		t.Fatal(err)
	}
	return mesh
}

func newKey(t testing.TB) Key {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCredentials(t testing.TB, m *Mesh, k Key, c Claims) *Credentials {
	t.Helper()
	credentials, err := NewCredentials(m, k, c, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return credentials
}
