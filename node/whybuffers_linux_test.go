package node_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"peermesh/internal/insight"
	"peermesh/internal/probe"

	"golang.org/x/sys/unix"
)

// smallBuffers asks for more than the kernel grants to whoever may not force it.
func smallBuffers(t *testing.T) said {
	text, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		t.Skip(err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	checks := make(chan insight.Check)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and takes its rights along
		if err := giveUpForce(); err != nil {
			t.Error(err)
		}
		checks <- probe.Buffers(max(insight.WantedBuffer, 2*most))
	}()
	return worst(t, <-checks)
}

// giveUpForce takes CAP_NET_ADMIN from this thread.
func giveUpForce() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	return unix.Capset(&head, &data[0])
}
