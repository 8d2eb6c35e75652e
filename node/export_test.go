package node

import (
	"errors"
	"net"
	"time"

	"peermesh/discovery"
	"peermesh/internal/enroll"
	"peermesh/internal/wire"

	"github.com/quic-go/quic-go"
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

// SpreadAt has pipes spread that carry so many bytes in a window, however easily, and gathered when they carried less than
// a quarter of that in three in a row. It must be called before there are sockets.
func (n *Node) SpreadAt(window time.Duration, bytes int) {
	n.heat = heat{window: window, bytes: bytes, cold: bytes / 4, calm: 3}
}

// StripeBytes tells how many bytes went to a node over each further connection that was dialled, by its number.
func (n *Node) StripeBytes(id ID) (sent [wire.MaxStripes]uint64) {
	for i, conn := range n.dialedStripes(id) {
		if conn != nil {
			sent[i] = conn.ConnectionStats().BytesSent
		}
	}
	return sent
}

// CutStripe ends a further connection that was dialled to a node.
func (n *Node) CutStripe(id ID, number int) error {
	conn := n.dialedStripes(id)[number]
	if conn == nil {
		return errors.New("not there")
	}
	return conn.CloseWithError(closeProtocol, "cut")
}

func (n *Node) dialedStripes(id ID) (conns [wire.MaxStripes]*quic.Conn) {
	l := n.linkTo(id)
	if l == nil {
		return conns
	}
	l.stripes.mu.Lock()
	defer l.stripes.mu.Unlock()
	for i, s := range l.stripes.dialed {
		if s != nil {
			conns[i] = s.conn
		}
	}
	return conns
}

// WindowsHeld is how many connections share the budget of windows.
func (n *Node) WindowsHeld() int {
	n.windows.mu.Lock()
	defer n.windows.mu.Unlock()
	return len(n.windows.held)
}
