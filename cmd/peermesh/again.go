package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
)

// again is this executable once more, as a process that ctx ends. Its stdout is for this process, so it takes neither a
// configuration file nor --json from the environment.
func (a *app) again(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Args[0] = os.Args[0]
	if e := emulator(self); e != "" {
		cmd = exec.CommandContext(ctx, e, append([]string{self}, args...)...)
	}
	cmd.Env = append(os.Environ(), environmentPrefix+"CONFIG=", environmentPrefix+"JSON=false")
	cmd.Stderr = a.stderr
	return cmd, nil
}

// emulator is the program that runs self for the kernel, which cannot: that of qemu-user. It shows self as the executable of
// the process, but not as that of a thread. Empty: none.
func emulator(self string) string {
	seen, err := os.Readlink("/proc/thread-self/exe")
	if err != nil || strings.TrimSuffix(seen, " (deleted)") == self {
		return ""
	}
	return seen
}
