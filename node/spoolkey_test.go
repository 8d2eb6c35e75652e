package node_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peermesh/node"
	"peermesh/socket"
	"peermesh/spool"
)

// keyFile writes a key file.
func keyFile(t *testing.T, digit string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spool.key")
	if err := os.WriteFile(path, []byte(strings.Repeat(digit, 2*spool.KeySize)+"\n"), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNothingOfAMessageIsLegibleInAnEncryptedSpool(t *testing.T) {
	const needle = "NEEDLE-in-the-haystack"
	dir, mesh, key := t.TempDir(), newMesh(t), keyFile(t, "5", 0o600)
	cfg := node.Config{Name: "a", MeshPEM: mesh, Dir: dir, SpoolKeyFile: key, Listen: "127.0.0.1:0", NoMDNS: true}
	legible := func(when string) {
		t.Helper()
		err := filepath.WalkDir(filepath.Join(dir, "spool"), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if bytes.Contains(b, []byte(needle)) {
				t.Errorf("%s: %s shows the needle", when, e.Name())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	n, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := n.Push(needle)
	if err != nil {
		t.Fatal(err)
	}
	news, err := n.Pub(needle)
	if err != nil {
		t.Fatal(err)
	}
	if err := news.Expect(needle, ">"); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 5000} {
		m := &socket.Message{Body: []byte(strings.Repeat(needle, size)), Key: needle, Headers: socket.Headers{needle: needle}}
		if _, err := jobs.SendMessage(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		m.Key, m.Topic = "", needle+"."+needle
		if _, err := news.PublishRetained(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	legible("open")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	legible("closed")
	s, err := node.OpenSpool(dir, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range s.Queues() {
		if q.Name != needle || q.Info.Unsettled != 2 {
			t.Errorf("queue %q owes %d, want %q and 2", q.Name, q.Info.Unsettled, needle)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	legible("closed again")
}

func TestSpoolKeyThatDoesNotFitIsToldAndNothingIsTouched(t *testing.T) {
	sealed, plain, mesh := t.TempDir(), t.TempDir(), newMesh(t)
	key, other, shown := keyFile(t, "5", 0o600), keyFile(t, "6", 0o600), keyFile(t, "5", 0o644)
	q := node.Queue{Kind: node.QueuePush, Namespace: node.DefaultNamespace, Name: "jobs"}
	for dir, file := range map[string]string{sealed: key, plain: ""} {
		n, err := node.Open(t.Context(), node.Config{MeshPEM: mesh, Dir: dir, SpoolKeyFile: file, Listen: "127.0.0.1:0", NoMDNS: true})
		if err != nil {
			t.Fatal(err)
		}
		fed(t, n.Spool(), q, "one", "two")
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		dir, file string
		want      error
	}{
		"no key":                {sealed, "", spool.ErrNoKey},
		"another key":           {sealed, other, spool.ErrWrongKey},
		"a key others can read": {sealed, shown, spool.ErrKeyFile},
		"no key file":           {sealed, key + ".none", spool.ErrKeyFile},
		"a key for plain text":  {plain, key, spool.ErrNotEncrypted},
	} {
		for range 2 {
			_, err := node.Open(t.Context(), node.Config{MeshPEM: mesh, Dir: c.dir, SpoolKeyFile: c.file, Listen: "127.0.0.1:0", NoMDNS: true})
			_, ierr := node.OpenSpool(c.dir, c.file)
			if !errors.Is(err, c.want) || !errors.Is(ierr, c.want) {
				t.Errorf("%s: node %v, inspection %v, want %v", name, err, ierr, c.want)
			}
		}
	}
	for dir, file := range map[string]string{sealed: key, plain: ""} {
		s, err := node.OpenSpool(dir, file)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Queues(); len(got) != 1 || got[0].Info.Unsettled != 2 || s.Stat().Damage != nil {
			t.Errorf("afterwards: %+v, damage %v", got, s.Stat().Damage)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpoolKeyWithoutADirIsRefused(t *testing.T) {
	_, err := node.Open(t.Context(), node.Config{MeshPEM: newMesh(t), SpoolKeyFile: keyFile(t, "5", 0o600), NoMDNS: true})
	if !errors.Is(err, socket.ErrNoDir) {
		t.Errorf("opened with %v", err)
	}
}
