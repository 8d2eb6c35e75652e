package discovery

import (
	"cmp"
	"fmt"
	"net/netip"
)

// The values of Candidate.Source.
const (
	SourceMDNS   = "mdns"
	SourceStatic = "static"
)

// Candidate is an address where a node may be found. Discovery says where to look, never whom to trust.
// One node usually has several candidates. Candidates can be compared with ==.
type Candidate struct {
	Node        string         // node id in lower-case base32, "" when unknown (static peers)
	Addr        netip.AddrPort // with zone for link-local
	Source      string         // SourceMDNS or SourceStatic
	Interface   string         // where it was seen, "" for static
	Version     uint16         // version of the advert as advertised (mdns), 0 for static
	Mesh        [8]byte        // hash of the mesh id as advertised (mdns)
	Incarnation uint64         // as advertised (mdns)
	Nonce       [4]byte        // as advertised (mdns)
}

// spot is what makes a candidate the same one when it is heard of again; the rest of it may change.
type spot struct {
	node  string
	addr  netip.AddrPort
	iface string
}

func (c Candidate) spot() spot { return spot{c.Node, c.Addr, c.Interface} }

// compareCandidates orders candidates by node, address and interface, so that events come in an order
// that does not depend on the order of a map.
func compareCandidates(a, b Candidate) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), a.Addr.Compare(b.Addr), cmp.Compare(a.Interface, b.Interface))
}

// Kind says what an Event tells.
type Kind uint8

// The kinds of events.
const (
	Found   Kind = iota + 1 // a candidate is new, or something about it changed other than where it is
	Lost                    // a candidate was not seen for long
	Problem                 // discovery works less well on an interface; replaces an earlier Problem of it
	Solved                  // the Problem of an interface is over
)

// String returns the kind in lower case, for logs.
func (k Kind) String() string {
	switch k {
	case Found:
		return "found"
	case Lost:
		return "lost"
	case Problem:
		return "problem"
	case Solved:
		return "solved"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Event is one piece of news. Candidate.Source is set in every event.
type Event struct {
	Kind      Kind
	Candidate Candidate // Found, Lost; of a Problem or Solved only the Source is set
	Interface string    // Problem, Solved: where; "" when it concerns all interfaces, or the network as such
	Err       error     // Problem: why discovery works less well; never fatal
}

// DuplicateError is the cause of a Problem: another process advertises our own node id, so two processes
// run with one identity (a copied state directory, for example). Find it with errors.As. It is over when the
// other was not heard of for ten minutes.
type DuplicateError struct {
	Other Candidate // one of the addresses of the other process
}

// Error tells where the other process is.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("another process at %s uses our node id %s", e.Other.Addr, e.Other.Node)
}
