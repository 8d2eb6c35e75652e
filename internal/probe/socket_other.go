//go:build !linux

package probe

import (
	"errors"
	"net"

	"peermesh/internal/insight"
)

func keepWhole(net.Conn) {}

func askBuffers(c *net.UDPConn, asked int) (receive, send int, err error) {
	if err := errors.Join(c.SetReadBuffer(asked), c.SetWriteBuffer(asked)); err != nil {
		return 0, 0, err
	}
	return asked, asked, nil // the system takes it or says no
}

func askOffload(*net.UDPConn) insight.Offload {
	err := errors.New("not on this system")
	return insight.Offload{GSO: err, GRO: err}
}

// ClockUnsynced reports whether the kernel knows that nothing keeps the clock right.
func ClockUnsynced() bool { return false }
