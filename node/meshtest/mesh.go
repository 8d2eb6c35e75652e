package meshtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
)

// meshPort is where every node of a Mesh listens, on a host of its own.
const meshPort = 4477

// Config describes a Mesh. The zero Config is a mesh on a perfect network.
type Config struct {
	Seed uint64 // decides all that the network leaves to chance
	Link Link   // every link that was not given settings of its own by Net.SetLink
}

// Mesh is a mesh of nodes that reach each other over a simulated network: whole nodes with real QUIC, certificates
// and sockets, only the packets are imaginary. It lets the test of a service have peers, faults and crashes:
//
//	func TestGreeterSurvivesACutCable(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			mesh := meshtest.New(t, meshtest.Config{Seed: 1, Link: meshtest.Link{Delay: 5 * time.Millisecond, Loss: 0.02}})
//			a, b := mesh.Node("a"), mesh.Node("b")
//			mesh.AwaitLinks(a, b)
//
//			greeter, err := b.Rep("greet")
//			...
//			go greeter.ServeRequests(t.Context(), greet)
//			guest, err := a.Req("greet", patterns.Executed(patterns.Idempotent))
//			...
//			mesh.Partition([]*node.Node{a}, []*node.Node{b})
//			time.AfterFunc(20*time.Second, mesh.Heal) // of the bubble's time
//			answer, err := guest.Request(t.Context(), []byte("ada"))
//			...
//		})
//	}
//
// In a synctest bubble time passes only while every goroutine waits for time or for another goroutine of the bubble,
// so such a test takes milliseconds and does not depend on how fast the machine is. Outside of one a Mesh runs in real
// time. The nodes end after the test by themselves: goroutines of the test that use their sockets must end with
// t.Context(), which ends before that, or when a socket says net.ErrClosed.
//
// The methods may be called concurrently; Node and AwaitLinks, which may end the test, only from its own goroutine.
type Mesh struct {
	t    testing.TB
	net  *Net
	pem  []byte
	dirs string

	mu      sync.Mutex
	hosts   map[string]netip.AddrPort // by node name
	members []*member                 // in order of opening
}

// member is one life of a node.
type member struct {
	name string
	node *node.Node
	conn *conn
	once atomic.Bool   // somebody closes it; a sync.Once would hold up the bubble's time
	done chan struct{} // closed when that is over
	err  error         // of its Close
}

// New makes a mesh with a credential of its own and no nodes. When the test is over it closes the nodes, then the
// network.
func New(t testing.TB, cfg Config) *Mesh {
	t.Helper()
	credential, err := identity.NewMesh(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pem, err := credential.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m := &Mesh{t: t, pem: pem, dirs: t.TempDir(), hosts: map[string]netip.AddrPort{}}
	m.net = NewNet(NetConfig{Seed: cfg.Seed, Default: cfg.Link})
	t.Cleanup(m.close) // runs before the removal of the directory, for it was made first
	return m
}

// Net is the network, for whatever faults the methods here do not offer.
func (m *Mesh) Net() *Net { return m.net }

// Addr is where the node of that name listens, or will: each name has a host of its own for good. It is of the form
// that node.Config.Peers takes.
func (m *Mesh) Addr(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addr(name).String()
}

// Dir is a state directory for the node of that name, to be put into its node.Config: in it the node keeps its
// identity when it is opened again. It is removed when the test is over and the nodes are closed.
func (m *Mesh) Dir(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return filepath.Join(m.dirs, m.addr(name).Addr().String())
}

// addr gives each name the next host. m.mu must be held.
func (m *Mesh) addr(name string) netip.AddrPort {
	addr, ok := m.hosts[name]
	if !ok {
		nth := len(m.hosts) + 1
		addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(nth >> 16), byte(nth >> 8), byte(nth)}), meshPort)
		m.hosts[name] = addr
	}
	return addr
}

// Node opens a node: a member of the mesh, ephemeral, with all nodes opened before it as static peers. edit may change
// that and anything else of its configuration. A name that was used before is the same host restarted: Node waits
// until the former node, which must have been killed or closed, has ended. It ends the test if the node cannot open.
func (m *Mesh) Node(name string, edit ...func(*node.Config)) *node.Node {
	m.t.Helper()
	cfg, addr := m.prepare(name)
	c, err := m.net.listen(addr)
	if err != nil {
		m.t.Fatalf("meshtest: node %s: %v", name, err)
	}
	cfg.PacketConn = c
	for _, f := range edit {
		f(&cfg)
	}
	n, err := node.Open(context.Background(), cfg)
	if err != nil {
		m.t.Fatalf("meshtest: node %s: %v", name, errors.Join(err, c.Close()))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members = append(m.members, &member{name: name, node: n, conn: c, done: make(chan struct{})})
	return n
}

// prepare says how a node of that name begins, once its former life is over.
func (m *Mesh) prepare(name string) (node.Config, netip.AddrPort) {
	cfg := node.Config{Name: name, MeshPEM: m.pem, NoMDNS: true}
	m.mu.Lock()
	addr := m.addr(name)
	var former *member
	known := map[string]bool{name: true}
	for _, o := range m.members {
		if o.name == name {
			former = o
		}
		if !known[o.name] {
			known[o.name] = true
			cfg.Peers = append(cfg.Peers, m.addr(o.name).String())
		}
	}
	m.mu.Unlock()
	if former != nil && m.vacant(former) {
		former.close()
	}
	return cfg, addr
}

// vacant reports whether nobody has the address of a node any more: it was killed or has closed.
func (m *Mesh) vacant(o *member) bool {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	return m.net.conns[o.conn.local] != o.conn
}

// close closes the node and waits until it has ended.
func (o *member) close() {
	if o.once.CompareAndSwap(false, true) {
		o.err = o.node.Close()
		close(o.done)
	}
	<-o.done
}

// Kill ends a node as kill -9 does: no packet leaves or reaches it from now on, and nobody is told. Its sockets are
// closed in the background, so that goroutines of the test that use them get net.ErrClosed. A state directory keeps
// what a clean end leaves: what a crash does to it takes a real process to show.
func (m *Mesh) Kill(n *node.Node) {
	o := m.member(n)
	m.net.release(o.conn)
	go o.close()
}

// Host is the address of a node's host, for Net.SetLink and Net.LinkStats. It panics for a node of another mesh.
func (m *Mesh) Host(n *node.Node) netip.Addr { return m.member(n).conn.local.Addr() }

func (m *Mesh) member(n *node.Node) *member {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.members {
		if o.node == n {
			return o
		}
	}
	panic(fmt.Sprintf("meshtest: node %s is not of this mesh", n.Name()))
}

// Partition cuts the hosts of a from those of b, both ways and silently, until Heal. Partitions add up.
func (m *Mesh) Partition(a, b []*node.Node) { m.net.Partition(m.addrs(a), m.addrs(b)) }

func (m *Mesh) addrs(nodes []*node.Node) []netip.Addr {
	out := make([]netip.Addr, len(nodes))
	for i, n := range nodes {
		out[i] = m.Host(n)
	}
	return out
}

// Isolate cuts a node's host from all others, present and future, until Heal.
func (m *Mesh) Isolate(n *node.Node) { m.net.Isolate(m.Host(n)) }

// Heal ends all partitions and isolations. Links find each other again by themselves, within seconds.
func (m *Mesh) Heal() { m.net.Heal() }

// AwaitLinks waits until each of these nodes has had a link to each other one. Sockets need a moment more: see the
// WaitReady methods. Like any wait it ends when the test does.
func (m *Mesh) AwaitLinks(nodes ...*node.Node) {
	m.t.Helper()
	for _, n := range nodes {
		missing := map[node.ID]string{}
		for _, o := range nodes {
			if o != n {
				missing[o.ID()] = o.Name()
			}
		}
		awaitPeers(m.t.Context(), n, missing)
		if len(missing) > 0 {
			m.t.Fatalf("meshtest: node %s has no link to %v: %v", n.Name(), missing, context.Cause(m.t.Context()))
		}
	}
}

// awaitPeers takes those out of missing that n has a link to, until none is left or ctx ends.
func awaitPeers(ctx context.Context, n *node.Node, missing map[node.ID]string) {
	if len(missing) == 0 {
		return
	}
	for e := range n.Events(ctx) {
		if e.State == node.Up {
			delete(missing, e.ID)
		}
		if len(missing) == 0 {
			return
		}
	}
}

// close ends all nodes at once, as they would at a common power cut but in good order, then the network.
func (m *Mesh) close() {
	m.mu.Lock()
	members := m.members
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, o := range members {
		wg.Go(o.close)
	}
	wg.Wait()
	for _, o := range members {
		if o.err != nil {
			m.t.Errorf("meshtest: close node %s: %v", o.name, o.err)
		}
	}
	if err := m.net.Close(); err != nil {
		m.t.Errorf("meshtest: close the network: %v", err)
	}
}
