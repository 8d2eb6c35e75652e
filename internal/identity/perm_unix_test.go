//go:build unix

package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretsOthersCouldReachAreRefusedWithTheCure(t *testing.T) {
	for _, c := range []struct {
		name      string
		file, dir os.FileMode
		cure      string // what the error must say to run; empty: no error
	}{
		{"private", 0o600, 0o700, ""},
		{"read-only", 0o400, 0o500, ""},
		{"a directory others may read", 0o600, 0o755, ""},
		{"a sticky directory", 0o600, 0o777 | os.ModeSticky, ""},
		{"others may read", 0o604, 0o700, "chmod 600 '%f'"},
		{"the group may read", 0o640, 0o700, "chmod 600 '%f'"},
		{"others may write", 0o602, 0o700, "chmod 600 '%f'"},
		{"the group may write the directory", 0o600, 0o770, "chmod go-w '%d'"},
		{"others may write the directory", 0o600, 0o707, "chmod go-w '%d'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(privateDir(t), "my state")
			key, mesh := filepath.Join(dir, "node.key"), filepath.Join(dir, "mesh.pem")
			if _, err := LoadOrCreateKey(key); err != nil {
				t.Fatal(err)
			}
			if _, err := CreateMesh(mesh); err != nil {
				t.Fatal(err)
			}
			chmod(t, key, c.file)
			chmod(t, mesh, c.file)
			chmod(t, dir, c.dir)
			t.Cleanup(func() { chmod(t, dir, 0o700) })

			_, keyErr := LoadOrCreateKey(key)
			_, meshErr := LoadMesh(mesh)
			wantCure(t, keyErr, strings.NewReplacer("%f", key, "%d", dir).Replace(c.cure))
			wantCure(t, meshErr, strings.NewReplacer("%f", mesh, "%d", dir).Replace(c.cure))
		})
	}
}

func TestNoSecretIsMadeWhereOthersCouldReplaceIt(t *testing.T) {
	dir := filepath.Join(privateDir(t), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	chmod(t, dir, 0o777)
	_, err := LoadOrCreateKey(filepath.Join(dir, "node.key"))
	wantCure(t, err, "chmod go-w '"+dir+"'")
	_, err = CreateMesh(filepath.Join(dir, "mesh.pem"))
	wantCure(t, err, "chmod go-w '"+dir+"'")
	wantNeighbours(t, filepath.Join(dir, "mesh.pem"), 0)
}

func TestASecretPlantedInASharedDirectoryIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can read, and so be fooled by, another user's private file")
	}
	dir := filepath.Join(privateDir(t), "tmp")
	planted := filepath.Join(dir, "node.key")
	if _, err := LoadOrCreateKey(planted); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(planted, 65534, 65534); err != nil {
		t.Skip(err)
	}
	chmod(t, dir, 0o777|os.ModeSticky)
	_, err := LoadOrCreateKey(planted)
	wantCure(t, err, "a directory of your own")
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func wantCure(t *testing.T, err error, cure string) {
	t.Helper()
	if cure == "" && err != nil {
		t.Errorf("error %v, want none", err)
	}
	if cure != "" && (err == nil || !strings.Contains(err.Error(), cure)) {
		t.Errorf("error %v, want one that says %q", err, cure)
	}
}
