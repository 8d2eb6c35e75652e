package main

import (
	"os"
	"slices"
	"testing"
)

func TestAgainIsThisExecutableWithoutAnEmulator(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := &app{stderr: os.Stderr}
	cmd, err := a.again(t.Context(), "demo", "worker")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{os.Args[0], "demo", "worker"}; cmd.Path != self || !slices.Equal(cmd.Args, want) {
		t.Errorf("got %s %q, want %s %q", cmd.Path, cmd.Args, self, want)
	}
}

func TestWhatTheKernelRunsForAnotherExecutableIsItsEmulator(t *testing.T) {
	seen, err := os.Readlink("/proc/thread-self/exe")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	if got := emulator("/elsewhere/peermesh"); got != seen {
		t.Errorf("got %q, want %q", got, seen)
	}
}
