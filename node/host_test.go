package node

import (
	"net"
	"testing"
)

func TestZonesAndLoopbackAreSeenWhateverTheAddressIs(t *testing.T) {
	for _, c := range []struct {
		addr           net.Addr
		loopback, zone bool
	}{
		{&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, true, false},
		{&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 1}, true, false},
		{&net.UDPAddr{IP: net.IPv6loopback, Port: 1}, true, false},
		{&net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, false, false},
		{&net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}, false, true},
		{&net.UDPAddr{}, false, false},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 1}, true, false},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}, false, true},
		{&net.UnixAddr{Name: "/a", Net: "unix"}, false, false},
	} {
		if loopback, zone := isLoopback(c.addr), hasZone(c.addr); loopback != c.loopback || zone != c.zone {
			t.Errorf("%T %v: loopback %t, zone %t, want %t, %t", c.addr, c.addr, loopback, zone, c.loopback, c.zone)
		}
	}
}
