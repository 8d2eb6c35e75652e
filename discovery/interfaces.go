package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
)

// Interface is a network interface as discovery sees it.
type Interface struct {
	Index int
	Name  string
	Flags net.Flags
	Addrs []netip.Prefix // its addresses (not masked) with the lengths of their networks
}

// maxInterfaces bounds how many interfaces are used: each costs two listening sockets all the time and
// four more while a question is open.
const maxInterfaces = 16

// family is a version of IP. The library asks over one at a time: with both, the zone of a link-local
// address is random.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

// addrs returns the addresses of i, those first that are most likely to work: IPv4, IPv6, link-local.
func (i Interface) addrs() []netip.Addr {
	addrs := make([]netip.Addr, len(i.Addrs))
	for n, p := range i.Addrs {
		addrs[n] = p.Addr().Unmap()
	}
	rank := func(a netip.Addr) int {
		switch {
		case a.IsLinkLocalUnicast():
			return 3
		case a.Is6():
			return 2
		}
		return 1
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return cmp.Compare(rank(a), rank(b)) })
	return addrs
}

// families returns the versions of IP to ask over on i. On loopback that is IPv4 alone, because IPv6 has
// no route for multicast there.
func (i Interface) families() []family {
	var fams []family
	is4 := func(p netip.Prefix) bool { return p.Addr().Unmap().Is4() }
	if slices.ContainsFunc(i.Addrs, is4) {
		fams = append(fams, ipv4)
	}
	is6 := func(p netip.Prefix) bool { return !is4(p) }
	if slices.ContainsFunc(i.Addrs, is6) && !i.loopback() {
		fams = append(fams, ipv6)
	}
	return fams
}

func (i Interface) loopback() bool { return i.Flags&net.FlagLoopback != 0 }

// routed says whether i has an address that is more than link-local.
func (i Interface) routed() bool {
	return slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() })
}

// equal says whether i and j are the same interface in the same state.
func (i Interface) equal(j Interface) bool {
	return i.Index == j.Index && i.Name == j.Name && i.Flags == j.Flags && slices.Equal(i.Addrs, j.Addrs)
}

// onLink says whether addr lies in one of i's networks. Link-local addresses do not count: every link
// has the same ones.
func (i Interface) onLink(addr netip.Addr) bool {
	return !addr.IsLinkLocalUnicast() && slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Contains(addr)
	})
}

// pick returns the addresses worth dialling of a node that answered on i. A node tells the addresses of
// all its interfaces; if some group has an address on this link, that is the interface it was heard on, and
// the other groups are for other links (everybody's docker0 has the same address). If no group has,
// the node may be behind a router, or only link-local, and all are worth a try. Link-local addresses get
// i as their zone. A loopback address is only of use when it was heard on loopback: from elsewhere it
// would lead to ourselves.
func (i Interface) pick(groups [][]netip.Addr) []netip.Addr {
	here := func(g []netip.Addr) bool { return slices.ContainsFunc(g, i.onLink) }
	some := slices.ContainsFunc(groups, here)
	var picked []netip.Addr
	for _, g := range groups {
		if some && !here(g) {
			continue
		}
		for _, addr := range g {
			if addr.IsLoopback() && !i.loopback() {
				continue
			}
			if addr.Is6() && addr.IsLinkLocalUnicast() {
				addr = addr.WithZone(i.Name)
			}
			picked = append(picked, addr)
		}
	}
	return picked
}

// filter decides which interfaces are used.
type filter struct {
	allow, deny []string // globs; an empty allow allows all
}

// errNoInterface is the problem of a machine without a network.
var errNoInterface = errors.New("no usable network interface (up, with an address and multicast)")

// choose returns those of ifaces to use, the most promising first, and what is wrong with the choice.
// Loopback is used only when there is nothing else, so that two processes on a machine without a network can
// still meet; the multicast flag is not asked of it, since Linux never sets it and yet delivers.
func (f filter) choose(ifaces []Interface) ([]Interface, error) {
	var good, loops []Interface
	for _, i := range ifaces {
		ok, err := f.passes(i)
		if err != nil {
			return nil, err
		}
		switch {
		case !ok || i.Flags&net.FlagUp == 0 || len(i.Addrs) == 0:
		case i.loopback():
			loops = append(loops, i)
		case i.Flags&net.FlagMulticast != 0:
			good = append(good, i)
		}
	}
	if len(good) == 0 {
		good = loops
	}
	if len(good) == 0 {
		return nil, errNoInterface
	}
	slices.SortStableFunc(good, func(a, b Interface) int {
		if a.routed() != b.routed() {
			if a.routed() {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Index, b.Index)
	})
	if len(good) > maxInterfaces {
		err := fmt.Errorf("%d usable network interfaces, only %d are used; choose with the interface filters", len(good), maxInterfaces)
		return good[:maxInterfaces], err
	}
	return good, nil
}

// passes says whether the name filters let i through. Point-to-point interfaces (tunnels) need to be
// allowed by name. A broken pattern is an error, and nothing passes: rather no discovery than discovery on
// an interface that was meant to be denied.
func (f filter) passes(i Interface) (bool, error) {
	denied, err := matchAny(f.deny, i.Name)
	if err != nil || denied {
		return false, err
	}
	allowed, err := matchAny(f.allow, i.Name)
	if err != nil {
		return false, err
	}
	if i.Flags&net.FlagPointToPoint != 0 {
		return allowed, nil
	}
	return allowed || len(f.allow) == 0, nil
}

// matchAny says whether one of the globs matches name.
func matchAny(globs []string, name string) (bool, error) {
	matched := false
	for _, g := range globs {
		ok, err := path.Match(g, name)
		if err != nil {
			return false, fmt.Errorf("interface filter %q: %w", g, err)
		}
		matched = matched || ok
	}
	return matched, nil
}

// systemInterfaces returns the interfaces of this machine that are up. An interface that goes away while
// it is looked at is left out.
func systemInterfaces() ([]Interface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var ifaces []Interface
	for _, ni := range list {
		if ni.Flags&net.FlagUp == 0 || bridgePort(ni.Name) {
			continue
		}
		addrs, err := ni.Addrs()
		if err != nil {
			continue
		}
		i := Interface{Index: ni.Index, Name: ni.Name, Flags: ni.Flags}
		for _, a := range addrs {
			if p, ok := prefixOf(a); ok {
				i.Addrs = append(i.Addrs, p)
			}
		}
		ifaces = append(ifaces, i)
	}
	return ifaces, nil
}

// bridgePort says whether a Linux interface is plugged into a bridge, as the host's end of a container's
// cable is. Such a port has a link-local address and claims multicast, but the bridge is what talks.
func bridgePort(name string) bool {
	_, err := os.Stat("/sys/class/net/" + name + "/brport")
	return err == nil
}

// prefixOf turns what the net package says into a prefix.
func prefixOf(a net.Addr) (netip.Prefix, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), true
}
