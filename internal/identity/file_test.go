package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// noLinks is a file system without hard links.
func noLinks(from, to string) error {
	return &os.LinkError{Op: "link", Old: from, New: to, Err: errors.ErrUnsupported}
}

func TestOneFileWinsHoweverManyPublishIt(t *testing.T) {
	for name, link := range map[string]linker{"links": os.Link, "no links": noLinks} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(privateDir(t), "new", "file")
			var wg sync.WaitGroup
			got := make([]string, 16)
			for i := range got {
				wg.Go(func() {
					fresh := func() ([]byte, error) { return fmt.Appendf(nil, "made by %d", i), nil }
					data, err := loadOrCreate(path, fresh, link)
					if err != nil {
						t.Error(err)
					}
					got[i] = string(data)
				})
			}
			wg.Wait()
			for i := range got {
				if got[i] != got[0] || got[i] == "" {
					t.Errorf("caller %d has %q, caller 0 has %q", i, got[i], got[0])
				}
			}
			wantOnly(t, path)
		})
	}
}

func TestProcessesThatStartTogetherAgreeOnOneKey(t *testing.T) {
	path := filepath.Join(privateDir(t), "state", "node.key")
	race(t, path, privateDir(t))
	wantOnly(t, path)
}

// race starts 8 processes that make or load what at the same moment, with home as their empty HOME, checks that all
// have the same id and returns it.
func race(t *testing.T, what, home string) string {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	children := make([]*exec.Cmd, 8)
	for i := range children {
		cmd := exec.Command(binary)
		cmd.Env = append(os.Environ(), childEnv+"="+what, "HOME="+home, "XDG_CONFIG_HOME=", "AppData="+home)
		cmd.Stdin = start
		cmd.Stdout, cmd.Stderr = new(bytes.Buffer), new(bytes.Buffer)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children[i] = cmd
	}
	if err := errors.Join(start.Close(), release.Close()); err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for i, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v: %s", i, err, cmd.Stderr)
		}
		ids[fmt.Sprint(cmd.Stdout)] = true
	}
	if len(ids) != 1 {
		t.Fatalf("%d processes have %d ids: %v", len(children), len(ids), ids)
	}
	for id := range ids {
		return strings.TrimSpace(id)
	}
	panic("unreachable: one id")
}

// wantOnly checks that the file at path is private and has no neighbours left over from its making.
func wantOnly(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("%s holds %v, want only %s", filepath.Dir(path), entries, filepath.Base(path))
	}
	wantMode(t, path, 0o600)
	wantMode(t, filepath.Dir(path), 0o700)
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); runtime.GOOS != "windows" && got != want {
		t.Errorf("%s has mode %04o, want %04o", path, got, want)
	}
}

func TestPublishLeavesATakenNameAlone(t *testing.T) {
	for name, link := range map[string]linker{"links": os.Link, "no links": noLinks} {
		path := filepath.Join(privateDir(t), "file")
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := publish(path, []byte("new"), link); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: error %v, want fs.ErrExist", name, err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "old" {
			t.Errorf("%s: the file now holds %q (%v)", name, data, err)
		}
		wantNeighbours(t, path, 1)
	}
}

func wantNeighbours(t *testing.T, path string, want int) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != want {
		t.Errorf("%s holds %v (%v), want %d files", filepath.Dir(path), entries, err, want)
	}
}

func TestAnEmptyFileIsWaitedForAndThenReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(privateDir(t), "file")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		fresh := func() ([]byte, error) { return []byte("mine"), nil }

		start := time.Now()
		_, err := loadOrCreate(path, fresh, noLinks)
		if err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("error %v, want one that says to remove %s", err, path)
		}
		if waited := time.Since(start); waited < emptyWait {
			t.Errorf("gave up after %v, want %v", waited, emptyWait)
		}

		filled := time.AfterFunc(emptyWait/2, func() {
			if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
				t.Error(err)
			}
		})
		defer filled.Stop()
		if data, err := loadOrCreate(path, fresh, noLinks); err != nil || string(data) != "theirs" {
			t.Errorf("got %q (%v), want what the other process wrote", data, err)
		}
	})
}

func TestAFreshKeyThatCannotBeMadeLeavesNoFile(t *testing.T) {
	path := filepath.Join(privateDir(t), "file")
	broken := errors.New("no randomness")
	_, err := loadOrCreate(path, func() ([]byte, error) { return nil, broken }, os.Link)
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	wantNeighbours(t, path, 0)
}
