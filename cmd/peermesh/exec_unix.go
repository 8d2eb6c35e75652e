//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

func shell(command string) []string { return []string{"sh", "-c", command} }

// ownGroup gives a program a process group of its own: Ctrl-C at the terminal asks
// this process to finish what is in hand, so it must not end what is in hand. Killing
// the program kills the group.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
			return os.ErrProcessDone // ESRCH: it was gone already
		}
		return nil
	}
}
