package node

import (
	"net"
	"time"

	"peermesh/discovery"
	"peermesh/internal/enroll"
)

// LinkTo tells which link to a node is up: its number, and whether this node dialled.
func (n *Node) LinkTo(id ID) (number uint64, dialed, up bool) {
	l := n.linkTo(id)
	if l == nil {
		return 0, false, false
	}
	return l.number, l.dialed, true
}

// Discovered is news of a discovery source.
func (n *Node) Discovered(e discovery.Event) { n.discovered(e) }

// TokenAt is a token that leads elsewhere.
func TokenAt(text string, addrs []string) string {
	t, err := enroll.ParseToken(text)
	if err != nil {
		panic(err)
	}
	t.Addrs = addrs
	return t.Text()
}

// Door is the address of the Unix socket at which the node's peers on this host meet it.
func (n *Node) Door() *net.UnixAddr { return n.door.ln.Addr().(*net.UnixAddr) }

// ShutDoor leaves the peers that are linked with a door that leads nowhere.
func (n *Node) ShutDoor() error { return n.door.ln.Close() }

// LeadTo has the node believe that a peer's door is another's.
func (n *Node) LeadTo(id ID, door [16]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[id].hello.Near.Door = door
}

// DoorAddr is where a door of that name is.
func DoorAddr(door [16]byte) *net.UnixAddr { return doorAddr(door) }

// NearStream is a stream through a door.
type NearStream = nearStream

// NewNearStream makes one of a connection.
func NewNearStream(c *net.UnixConn, poll time.Duration) (*NearStream, error) {
	return newNearStream(c, poll)
}
