package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Kill the demo itself while its worker process runs: that one must not stay behind.
func TestDemoWorkerDiesWithTheDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("runs processes")
	}
	t.Parallel()
	cmd := exec.Command("peermesh", "demo", "--no-mdns")
	cmd.Env = append(os.Environ(), "HOME=")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first, err := bufio.NewReader(stderr).ReadString('\n')
	found := regexp.MustCompile(`carl is process (\d+)`).FindStringSubmatch(first)
	if err != nil || found == nil {
		t.Fatalf("it said %q, %v", first, err)
	}
	pid, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	carl, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("carl is not there: %v", err)
	}
	defer func() {
		if err := unix.Close(carl); err != nil {
			t.Error(err)
		}
	}()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed

	// The file descriptor of a process can be read from once it has ended.
	n, err := 0, error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(carl), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	}
	if err != nil || n != 1 {
		t.Errorf("carl lives on %v after the demo: %v", patience, err)
	}
}
