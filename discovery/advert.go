package discovery

import (
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
)

// Advert is what a node says of itself; read anew at each question.
type Advert struct {
	Node        string       // node id: 16 bytes in lower-case base32 without padding; "" says nothing
	Mesh        [8]byte      // hash of the mesh id
	Port        uint16       // UDP port of the node; 0 says nothing
	Incarnation uint64       // rises with each start of the node
	Nonce       [4]byte      // differs between two processes with the same node id
	Addrs       []netip.Addr // where to find it, at most 16; nil: the interfaces' own
}

// speaks says whether there is anything to tell the network.
func (a Advert) speaks() bool { return a.Port != 0 && checkNode(a.Node) == nil }

// The bounds that keep an answer within 1200 bytes, which no link splits: 16 addresses of 39 bytes and
// the fixed part of some 400 bytes. groupAddrs keeps a TXT string within 255 bytes, the limit of DNS;
// a longer one would make the library send no answer at all.
const (
	maxAddrs   = 16
	groupAddrs = 6
	maxAnswer  = 1200
	maxString  = 255
)

// nodeLength is the length of a node id: 16 bytes in base32.
const nodeLength = 26

var nodeEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// checkNode returns an error unless id is a node id in its one right spelling.
func checkNode(id string) error {
	if len(id) != nodeLength {
		return fmt.Errorf("node id has %d characters, want %d", len(id), nodeLength)
	}
	raw, err := nodeEncoding.DecodeString(id)
	if err != nil {
		return fmt.Errorf("node id: %w", err)
	}
	if nodeEncoding.EncodeToString(raw) != id {
		return fmt.Errorf("node id %q has stray bits at its end", id)
	}
	return nil
}

// groups returns the addresses to advertise, those of one interface together. Addresses that the owner
// of the advert wrote down win over those of the interfaces.
func (a Advert) groups(ifaces []Interface) [][]netip.Addr {
	if a.Addrs != nil {
		return boundGroups(slices.Collect(slices.Chunk(hostAddrs(a.Addrs), groupAddrs)))
	}
	var groups [][]netip.Addr
	for _, i := range ifaces {
		groups = append(groups, hostAddrs(i.addrs()))
	}
	return boundGroups(groups)
}

// hostAddrs returns those of addrs that a host can be reached at, in their plainest form.
func hostAddrs(addrs []netip.Addr) []netip.Addr {
	var good []netip.Addr
	for _, addr := range addrs {
		addr = addr.Unmap().WithZone("")
		if reachable(addr) && !slices.Contains(good, addr) {
			good = append(good, addr)
		}
	}
	return good
}

// reachable says whether addr can be the address of one host; multicast, broadcast and :: cannot.
func reachable(addr netip.Addr) bool {
	return addr.IsGlobalUnicast() || addr.IsLinkLocalUnicast() || addr.IsLoopback()
}

// boundGroups cuts groups to groupAddrs addresses each and maxAddrs together, and leaves out empty ones.
func boundGroups(groups [][]netip.Addr) [][]netip.Addr {
	var kept [][]netip.Addr
	left := maxAddrs
	for _, g := range groups {
		g = g[:min(len(g), groupAddrs, left)]
		if len(g) == 0 {
			continue
		}
		kept = append(kept, g)
		left -= len(g)
	}
	return kept
}
