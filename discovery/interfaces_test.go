package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"
)

const usual = net.FlagUp | net.FlagMulticast | net.FlagBroadcast | net.FlagRunning

// iface returns an interface with the addresses.
func iface(index int, name string, flags net.Flags, prefixes ...string) Interface {
	i := Interface{Index: index, Name: name, Flags: flags}
	for _, p := range prefixes {
		i.Addrs = append(i.Addrs, netip.MustParsePrefix(p))
	}
	return i
}

func eth0(prefixes ...string) Interface { return iface(2, "eth0", usual, prefixes...) }

func equalGroups(a, b [][]netip.Addr) bool {
	return slices.EqualFunc(a, b, func(x, y []netip.Addr) bool { return slices.Equal(x, y) })
}

func TestInterfacesAreChosenByTheirUse(t *testing.T) {
	var (
		lo     = iface(1, "lo", net.FlagUp|net.FlagLoopback, "127.0.0.1/8", "::1/128")
		eth    = eth0("10.0.0.7/24", "fe80::7/64")
		direct = iface(3, "eth1", usual, "fe80::8/64")
		docker = iface(4, "docker0", usual, "172.17.0.1/16")
		down   = iface(5, "eth2", net.FlagMulticast, "10.0.1.7/24")
		bare   = iface(6, "eth3", usual)
		tunnel = iface(7, "tun0", usual|net.FlagPointToPoint, "10.8.0.1/24")
		deaf   = iface(8, "eth4", net.FlagUp, "10.0.2.7/24")
		all    = []Interface{lo, direct, eth, docker, down, bare, tunnel, deaf}
	)
	for _, c := range []struct {
		name   string
		filter filter
		ifaces []Interface
		want   string
		err    error
	}{
		{"the good ones, those with a routed address first", filter{}, all, "eth0 docker0 eth1", nil},
		{"denied by name", filter{deny: []string{"docker*", "br-*"}}, all, "eth0 eth1", nil},
		{"only those allowed", filter{allow: []string{"eth*"}}, all, "eth0 eth1", nil},
		{"deny wins", filter{allow: []string{"eth*"}, deny: []string{"eth1"}}, all, "eth0", nil},
		{"a tunnel that is named", filter{allow: []string{"tun0", "eth0"}}, all, "eth0 tun0", nil},
		{"loopback when there is nothing else", filter{}, []Interface{lo, down}, "lo", nil},
		{"loopback when nothing else is allowed", filter{allow: []string{"lo"}}, all, "lo", nil},
		{"nothing", filter{deny: []string{"*"}}, all, "", errNoInterface},
		{"no interfaces", filter{}, nil, "", errNoInterface},
		{"a broken allow", filter{allow: []string{"["}}, all, "", path.ErrBadPattern},
		{"a broken deny", filter{deny: []string{"docker0", "["}}, all, "", path.ErrBadPattern},
	} {
		got, err := c.filter.choose(c.ifaces)
		var names []string
		for _, i := range got {
			names = append(names, i.Name)
		}
		if strings.Join(names, " ") != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v; want %q, %v", c.name, names, err, c.want, c.err)
		}
	}
}

func TestTooManyInterfacesAreCutAndReported(t *testing.T) {
	var many []Interface
	for n := range 40 {
		many = append(many, iface(n+1, fmt.Sprintf("veth%d", n), usual, fmt.Sprintf("fe80::%d/64", n+1)))
	}
	many = append(many, iface(99, "eth0", usual, "10.0.0.7/24"))
	got, err := filter{}.choose(many)
	if len(got) != maxInterfaces || got[0].Name != "eth0" || err == nil {
		t.Errorf("got %d, first %s, %v; want %d, first eth0, and an error", len(got), got[0].Name, err, maxInterfaces)
	}
}

func TestPickKeepsWhatLeadsSomewhereFromHere(t *testing.T) {
	here := eth0("10.0.0.7/24", "fd00::7/64", "fe80::7/64")
	for _, c := range []struct {
		name   string
		iface  Interface
		groups [][]netip.Addr
		want   string
	}{
		{"the group on this link", here, [][]netip.Addr{addrs("172.17.0.1", "fe80::a"), addrs("10.0.0.9", "fe80::9")}, "10.0.0.9 fe80::9%eth0"},
		{"both groups on this link", here, [][]netip.Addr{addrs("10.0.0.8"), addrs("fd00::9")}, "10.0.0.8 fd00::9"},
		{"all if none is on this link", here, [][]netip.Addr{addrs("192.168.3.4"), addrs("fe80::9")}, "192.168.3.4 fe80::9%eth0"},
		{"link-local alone is no proof", iface(2, "eth0", usual, "fe80::7/64"), [][]netip.Addr{addrs("fe80::8"), addrs("fe80::9")}, "fe80::8%eth0 fe80::9%eth0"},
		{"no loopback from elsewhere", here, [][]netip.Addr{addrs("127.0.0.1", "::1", "10.0.0.9")}, "10.0.0.9"},
		{"loopback on loopback", iface(1, "lo", net.FlagLoopback, "127.0.0.1/8"), [][]netip.Addr{addrs("127.0.0.1", "::1")}, "127.0.0.1 ::1"},
	} {
		if got := strings.Trim(fmt.Sprint(c.iface.pick(c.groups)), "[]"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestAddressesAreOrderedByPromise(t *testing.T) {
	i := eth0("fe80::7/64", "169.254.1.1/16", "fd00::7/64", "::ffff:10.0.0.7/120")
	if got, want := i.addrs(), addrs("10.0.0.7", "fd00::7", "fe80::7", "169.254.1.1"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFamiliesAreThoseOfTheAddresses(t *testing.T) {
	for _, c := range []struct {
		iface Interface
		want  []family
	}{
		{eth0("10.0.0.7/24", "fe80::7/64"), []family{ipv4, ipv6}},
		{eth0("10.0.0.7/24"), []family{ipv4}},
		{eth0("fe80::7/64"), []family{ipv6}},
		{iface(1, "lo", net.FlagLoopback, "127.0.0.1/8", "::1/128"), []family{ipv4}},
	} {
		if got := c.iface.families(); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %v, want %v", c.iface.Addrs, got, c.want)
		}
	}
}

func TestSystemInterfacesAreUpAndKnown(t *testing.T) {
	list, err := systemInterfaces()
	if err != nil {
		t.Skipf("this machine does not tell its interfaces: %v", err)
	}
	for _, i := range list {
		ni, err := net.InterfaceByName(i.Name)
		if err != nil || ni.Index != i.Index || i.Flags&net.FlagUp == 0 {
			t.Errorf("%+v: the system says %+v, %v", i, ni, err)
		}
	}
}
