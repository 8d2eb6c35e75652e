package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// ext4 forgets what is not on disk: EXT4_IOC_SHUTDOWN with NOLOGFLUSH.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// cutPower makes the file system of dir behave as if the power had gone.
func cutPower(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	flags := uint32(noLogFlush)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags)))
	err = f.Close()
	if errno != 0 {
		return errno
	}
	return err
}

// stopAll stops every thread of a process and returns when they have stopped: an fsync under way
// while the power goes may report success for data that is gone.
func stopAll(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		stopped, err := allStopped(pid)
		if err != nil || stopped {
			return err
		}
		runtime.Gosched()
	}
}

func allStopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false, err
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return false, err
		}
		// "pid (name) state ..."
		at := bytes.LastIndexByte(stat, ')')
		if at < 0 || at+2 >= len(stat) || stat[at+2] != 'T' {
			return false, nil
		}
	}
	return len(threads) > 0, nil
}

func TestPowerCutLosesNothingAcknowledged(t *testing.T) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": testKey} {
		t.Run(name, func(t *testing.T) { cutMovers(t, key) })
	}
}

func cutMovers(t *testing.T, key []byte) {
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	must(t, err)
	must(t, errors.Join(f.Truncate(1<<30), f.Close()))
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("an ext4 to cut cannot be had here: %s: %v: %s", args[0], err, out)
		}
	}
	run("mkfs.ext4", "-q", "-F", image)
	cuts := 3
	if os.Getenv("PEERMESH_CUTS") != "" {
		_, err := fmt.Sscan(os.Getenv("PEERMESH_CUTS"), &cuts)
		must(t, err)
	}
	l := &movedLedger{key: key, changes: make(map[int]moved)}
	for i := range cuts + 1 {
		mount := t.TempDir()
		// A copy: who began a mount namespace before the cut still has that file system mounted, dead as it is.
		run("cp", "--sparse=always", image, image+"+")
		must(t, os.Remove(image))
		image += "+"
		run("mount", "-o", "loop", image, mount)
		dir := filepath.Join(mount, "spool")
		ok := func() bool {
			defer func() {
				if out, err := exec.Command("umount", mount).CombinedOutput(); err != nil {
					t.Errorf("umount: %v: %s", err, out)
				}
			}()
			if i > 0 {
				l.check(t, dir)
			}
			return !t.Failed() && i < cuts && l.lifeUntilCut(t, mount, dir)
		}()
		if !ok {
			break
		}
	}
	t.Logf("%d cuts, %d changes acknowledged", cuts, l.acked)
}

// lifeUntilCut runs a child for a while and cuts the power under it. It reports whether that can be
// done here.
func (l *movedLedger) lifeUntilCut(t *testing.T, mount, dir string) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=move", dirVar+"="+dir, keyVar+"="+string(l.key))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var cut error
	timer := time.AfterFunc(time.Duration(100+rand.IntN(500))*time.Millisecond, func() {
		if err := stopAll(cmd.Process.Pid); err != nil {
			t.Errorf("stop: %v", err)
		}
		cut = cutPower(mount)
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("kill: %v", err)
		}
	})
	defer timer.Stop()
	l.hear(t, out, func() {})
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child was not killed: %v", err)
	}
	if cut != nil {
		t.Skipf("the power of a file system cannot be cut here: %v", cut)
	}
	return true
}
