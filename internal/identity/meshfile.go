package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// CreateMesh makes a new mesh and its credential file at path, mode 0600, on disk when it returns. Missing
// directories are made with mode 0700. If path is taken the error matches fs.ErrExist and the file is untouched.
func CreateMesh(path string) (*Mesh, error) {
	mesh, err := NewMesh(time.Now())
	if err != nil {
		return nil, err
	}
	if err := mesh.Write(path); err != nil {
		return nil, err
	}
	return mesh, nil
}

// LoadMesh reads the credential file at path. If there is none the error matches fs.ErrNotExist. A file that other
// users may read, or a directory in which they could replace it, is an error that says which chmod to run (not on
// Windows).
func LoadMesh(path string) (*Mesh, error) {
	data, err := readPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("identity: mesh credential: %w", err)
	}
	return meshFrom(path, data)
}

// DefaultMesh returns the user's own mesh and the path of its credential: peermesh/mesh.pem in the user's
// configuration directory ([os.UserConfigDir]). It makes both on first use, the directory with mode 0700 and the
// file with 0600. Of several processes that start at once all get the same mesh. It refuses what LoadMesh refuses.
func DefaultMesh() (*Mesh, string, error) {
	path, err := defaultMeshPath()
	if err != nil {
		return nil, "", err
	}
	data, err := loadOrCreate(path, freshMesh, os.Link)
	var system *fs.PathError
	if errors.As(err, &system) {
		return nil, "", fmt.Errorf("identity: the user's default mesh: %w; %s", err, homeCure)
	}
	if err != nil {
		return nil, "", fmt.Errorf("identity: the user's default mesh: %w", err)
	}
	mesh, err := meshFrom(path, data)
	if err != nil {
		return nil, "", err
	}
	return mesh, path, nil
}

// homeCure is what helps when the default mesh has no place to be.
const homeCure = "set HOME (or XDG_CONFIG_HOME; on Windows AppData) to a writable directory, or name a mesh credential"

// DefaultPath is where the credential of the user's own mesh lies, if there is one.
func DefaultPath() (string, error) { return defaultMeshPath() }

func defaultMeshPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("identity: no place for the user's default mesh: %w; %s", err, homeCure)
	}
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("identity: no place for the user's default mesh: %q is relative; %s", dir, homeCure)
	}
	return filepath.Join(dir, "peermesh", "mesh.pem"), nil
}

// freshMesh makes the content of a new credential file.
func freshMesh() ([]byte, error) {
	mesh, err := NewMesh(time.Now())
	if err != nil {
		return nil, err
	}
	return mesh.Marshal()
}

func meshFrom(path string, data []byte) (*Mesh, error) {
	mesh, err := parseMesh(data)
	if err != nil {
		return nil, fmt.Errorf("identity: mesh credential %s: %w", path, err)
	}
	return mesh, nil
}
