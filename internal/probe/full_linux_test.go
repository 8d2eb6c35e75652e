package probe

import (
	"os"
	"path/filepath"
	"testing"

	"peermesh/internal/insight"

	"golang.org/x/sys/unix"
)

func TestAFullFileSystemIsToldAsFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	c := insight.CheckDisk(Disk(dir))
	if c.Verdict != insight.Fail || c.Code != insight.CodeDiskFull || c.Cure == "" {
		t.Errorf("%+v", c)
	}
}
