package probe

import (
	"net"
	"syscall"

	"peermesh/internal/insight"

	"golang.org/x/sys/unix"
)

// onSocket calls f with the descriptor of a UDP socket.
func onSocket(c net.Conn, f func(fd int) error) error {
	s, ok := c.(syscall.Conn)
	if !ok {
		return syscall.EINVAL
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// keepWhole sends packets with "don't fragment", whatever the kernel believes of the path. Without that the probe
// measures too much, which is no harm.
func keepWhole(c net.Conn) {
	_ = onSocket(c, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	})
	_ = onSocket(c, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	})
}

// askBuffers asks as QUIC does: by force where the process may, which the sysctls do not bound.
func askBuffers(c *net.UDPConn, asked int) (receive, send int, err error) {
	err = onSocket(c, func(fd int) error {
		for _, o := range []struct {
			plain, force int
			got          *int
		}{{unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, &receive}, {unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, &send}} {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.plain, asked); err != nil {
				return err
			}
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.force, asked) // what came of either is read below
			n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.plain)
			if err != nil {
				return err
			}
			*o.got = n / 2 // the kernel tells twice of what it was asked for, see socket(7)
		}
		return nil
	})
	return receive, send, err
}

func askOffload(c *net.UDPConn) (o insight.Offload) {
	o.GSO = onSocket(c, func(fd int) error { _, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT); return err })
	o.GRO = onSocket(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
	o.ECN = onSocket(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1) })
	return o
}

// ClockUnsynced reports whether the kernel knows that nothing keeps the clock right.
func ClockUnsynced() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state == unix.TIME_ERROR
}
