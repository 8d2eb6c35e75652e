package node

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// hostOfNodes returns what two nodes of a mesh have in common if they can meet at a door:
// the boot of the kernel and the network namespace that this process is in. Outside the
// mesh it says nothing, being a hash with its id.
func hostOfNodes(mesh [16]byte) (host [16]byte, err error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return host, err
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &ns); err != nil {
		return host, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "peermesh host %s %d %d %x", boot, ns.Dev, ns.Ino, mesh))
	copy(host[:], sum[:])
	return host, nil
}

// writeNow writes to a socket that does not block, readNow reads from one.
func writeNow(fd uintptr, b []byte) (int, error) { return uninterrupted(unix.Write, fd, b) }
func readNow(fd uintptr, b []byte) (int, error)  { return uninterrupted(unix.Read, fd, b) }

func uninterrupted(call func(fd int, b []byte) (int, error), fd uintptr, b []byte) (n int, err error) {
	for {
		if n, err = call(int(fd), b); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
