//go:build unix

package identity

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// checkPrivate returns an error if users other than ours could read or change the secret file at path, or put
// another in its place.
func checkPrivate(path string, file fs.FileInfo) error {
	if perm := file.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so other users may get at its key; run: chmod 600 '%s'", path, perm, path)
	}
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	perm := info.Mode().Perm()
	switch {
	case perm&0o022 == 0:
		return nil
	case info.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("directory %s has mode %04o, so other users may replace %s; run: chmod go-w '%s'",
			dir, perm, filepath.Base(path), dir)
	case !oursOrRoots(file):
		return fmt.Errorf("%s lies in a directory all users may write to and belongs to another user; "+
			"keep it in a directory of your own", path)
	}
	// Sticky, as /tmp and mounted Kubernetes secrets are: nobody but its owner may replace the file.
	return nil
}

func oursOrRoots(file fs.FileInfo) bool {
	stat, ok := file.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}
