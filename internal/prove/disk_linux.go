package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// needRoot says why a file system cannot be mounted.
func needRoot() error {
	if os.Geteuid() != 0 {
		return errSkip{"mounting file systems needs root"}
	}
	return nil
}

// mountTmpfs mounts a file system of that many bytes on a new folder.
func (b *bed) mountTmpfs(name string, bytes int) (dir string, err error) {
	dir = b.path(name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		return "", errSkip{fmt.Sprintf("mounting a tmpfs: %v", err)}
	}
	b.undo = append(b.undo, func() error { return unmount(dir) })
	return dir, nil
}

// disk is an ext4 in a file, whose power can be cut.
type disk struct {
	image string
	dir   string
}

// newDisk makes and mounts one.
func (b *bed) newDisk(ctx context.Context, name string, bytes int64) (*disk, error) {
	d := &disk{image: b.path(name + ".img"), dir: b.path(name)}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(d.image, bytes); err != nil {
		return nil, err
	}
	if err := tool(ctx, "mkfs.ext4", "-q", "-F", d.image); err != nil {
		return nil, errSkip{err.Error()}
	}
	if err := d.mount(ctx); err != nil {
		return nil, errSkip{err.Error()}
	}
	b.undo = append(b.undo, func() error { return unmount(d.dir) })
	return d, nil
}

func (d *disk) mount(ctx context.Context) error {
	return tool(ctx, "mount", "-o", "loop", d.image, d.dir)
}

// From the kernel's ext4.h: EXT4_IOC_SHUTDOWN is _IOR('X', 125, __u32), and NOLOGFLUSH throws away what is not in the
// journal yet.
const (
	ioctlShutdown    = 0x8004587d
	shutdownNoFlush  = 2
	unmountAttempts  = 100
	betweenAttempts  = 50 * time.Millisecond
	untilItIsStopped = 5 * time.Second
)

// cut makes the disk lose all that has not been synced, and refuse everything from now on.
func (d *disk) cut() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, shutdownNoFlush); err != nil {
		return errSkip{fmt.Sprintf("cutting the power of an ext4: %v", err)}
	}
	return nil
}

// again is the disk after the power is back: its journal is replayed. It is a copy of the image: somebody who began a
// mount namespace meanwhile still has the old one mounted, and with it the file system that refuses everything.
func (d *disk) again(ctx context.Context) error {
	if err := unmount(d.dir); err != nil {
		return err
	}
	old := d.image
	d.image += "+"
	if err := tool(ctx, "cp", "--sparse=always", old, d.image); err != nil {
		return err
	}
	if err := os.Remove(old); err != nil {
		return err
	}
	return d.mount(ctx)
}

// unmount unmounts a folder that processes which have just ended may still hold.
func unmount(dir string) error {
	for attempt := 0; ; attempt++ {
		err := unix.Unmount(dir, 0)
		if !errors.Is(err, unix.EBUSY) || attempt == unmountAttempts {
			return err
		}
		time.Sleep(betweenAttempts)
	}
}

// tool runs one of the system's tools.
func tool(ctx context.Context, name string, args ...string) error {
	if text, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(text)))
	}
	return nil
}

// freeze stops every thread of the process, so that nothing it has printed is younger than what follows.
func (c *child) freeze() error {
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < untilItIsStopped; time.Sleep(time.Millisecond) {
		stopped, err := allStopped(c.cmd.Process.Pid)
		if err != nil || stopped {
			return err
		}
	}
	return fmt.Errorf("%s: still runs %v after SIGSTOP", c.name, untilItIsStopped)
}

// allStopped reports whether every thread of a process is in state T.
func allStopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // this thread has ended
		}
		if err != nil {
			return false, err
		}
		_, rest, _ := strings.Cut(string(stat), ") ") // behind the name, which is in brackets
		if !strings.HasPrefix(rest, "T") {
			return false, nil
		}
	}
	return len(threads) > 0, nil
}

// allocated is how many bytes of disk the files below dir have, ballast apart. What disappears meanwhile counts as
// nothing.
func allocated(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "ballast") {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += s.Blocks * 512
		}
		return nil
	})
	return bytes, err
}
