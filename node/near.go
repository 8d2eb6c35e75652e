package node

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// How pipes travel, see Peer.Via.
const (
	ViaUDP  = "udp"
	ViaUnix = "unix"
)

const (
	// knockWithin bounds what the kernel and the peer's process take to open a stream at
	// its door; then it goes over UDP. A process that is only busy would not be faster there.
	knockWithin = 5 * time.Second
	// doorBuffer is what the kernel may hold of a stream that its reader has not read, as
	// far as the host allows; a pipe writes at most as much at a time.
	doorBuffer = 256 << 10
	// nowMost is what a Unix socket takes at once or not at all: one buffer of the kernel.
	nowMost = 16 << 10
)

// errGone: the kernel knows the peer's door no more, and a node keeps its own until it has
// closed.
var errGone = errors.New("its process is gone")

// door is where the peers of a node that run on the same host come in: a Unix socket in
// the kernel's own name space ("abstract", see unix(7)), which needs no file and nobody
// outside the host's network namespace can reach. Streams of pipes go through it, all
// else stays on the QUIC connection, and so does what a peer is: the HELLO of each link
// carries a ticket, which nobody but the authenticated peer can have read, and whoever
// knocks shows the one it was given and is shown the one it gave.
//
//	who opens          ticket of the HELLO it got ->
//	                   <- ticket of the HELLO it sent          the door
//	                   ATTACH ... ->
//
// What goes through is not encrypted: it does not leave the kernel. A link that ends ends
// its streams. Machines that were copied while they ran may take each other for one host;
// they do not find the door, and stay with UDP.
type door struct {
	ln    *net.UnixListener
	host  [16]byte
	name  [16]byte
	under underway
}

// openDoor makes one for a node of a mesh; nil where the system has none.
func openDoor(mesh [16]byte) (*door, error) {
	host, err := hostOfNodes(mesh)
	if err != nil {
		return nil, err
	}
	d := &door{host: host}
	if _, err := io.ReadFull(rand.Reader, d.name[:]); err != nil {
		return nil, err
	}
	if d.ln, err = net.ListenUnix("unix", doorAddr(d.name)); err != nil {
		return nil, err
	}
	return d, nil
}

func doorAddr(name [16]byte) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@peermesh/%x", name)}
}

// greeting is what a HELLO says of the door, with a new ticket; of none it says nothing, and the ticket is for stripes
// alone.
func (n *Node) greeting() (g wire.Near, err error) {
	if n.door == nil && n.cfg.Stripes == 0 {
		return g, nil
	}
	if n.door != nil {
		g.Host, g.Door = n.door.host, n.door.name
	}
	_, err = io.ReadFull(rand.Reader, g.Ticket[:])
	return g, err
}

// leads reports whether a peer that greets so can be reached from here.
func (d *door) leads(to wire.Near) bool { return d != nil && to.Host == d.host }

// tickets knows the links by what their peers were given to show, at the door or on a further connection. Safe for
// concurrent use.
type tickets struct {
	mu    sync.Mutex
	links map[[16]byte]*link
}

// expect lets the peer of a link in, with the ticket it was given.
func (t *tickets) expect(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.links[l.greeted.Ticket] = l
}

func (t *tickets) forget(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.links, l.greeted.Ticket)
}

func (t *tickets) linkOf(ticket [16]byte) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.links[ticket]
}

// acceptNear takes streams at the door until it closes.
func (n *Node) acceptNear() {
	for {
		c, err := n.door.ln.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptors, most likely
			n.log.Warn("door", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-n.ctx.Done():
				return
			}
		}
		ctx, over := n.door.under.begin(n.ctx, knockWithin)
		n.wg.Go(func() { n.letIn(ctx, over, c) })
	}
}

// letIn serves a stream if whoever opened it has the ticket of a link. ctx bounds how
// long it may take to show that; over is called then.
func (n *Node) letIn(ctx context.Context, over func(), c *net.UnixConn) {
	release := context.AfterFunc(ctx, func() { c.Close() })
	var ticket [16]byte
	_, err := io.ReadFull(c, ticket[:])
	l := n.tickets.linkOf(ticket)
	if err == nil && l != nil {
		_, err = c.Write(l.hello.Near.Ticket[:])
	}
	inTime := release()
	over()
	if !inTime || err != nil || l == nil || !l.begin() {
		c.Close()
		return
	}
	defer l.ended()
	s, err := newNearStream(c, n.cfg.Poll)
	if err != nil {
		c.Close()
		return
	}
	n.serve(l.ctx, l.peer, l, s)
}

// openStream opens a stream to the peer, through its door if there is one.
func (l *link) openStream(ctx context.Context) (socket.Conn, error) {
	if l.near {
		s, err := l.knock(ctx)
		l.farther.Store(err != nil)
		switch {
		case err == nil:
			l.reached.Store(true)
			return s, nil
		case l.reached.Load() && errors.Is(err, syscall.ECONNREFUSED):
			l.end(errGone)
			return nil, errGone
		}
		l.n.log.Debug("no stream through the door", "peer", l.peer.ID, "err", err)
	}
	st, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	if l.most > 1 {
		return newSpreader(l, &stream{Stream: st, conn: l.conn}), nil
	}
	return &stream{Stream: st, conn: l.conn}, nil
}

// knock opens a stream at the peer's door.
func (l *link) knock(ctx context.Context) (*nearStream, error) {
	ctx, stop := context.WithTimeout(ctx, knockWithin)
	defer stop()
	c, err := new(net.Dialer).DialContext(ctx, "unix", doorAddr(l.hello.Near.Door).Name)
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { c.Close() })
	var shown [16]byte
	_, err = c.Write(l.hello.Near.Ticket[:])
	if err == nil {
		_, err = io.ReadFull(c, shown[:])
	}
	if err == nil && subtle.ConstantTimeCompare(shown[:], l.greeted.Ticket[:]) != 1 {
		err = errors.New("somebody else is at the peer's door")
	}
	var s *nearStream
	if err == nil {
		s, err = newNearStream(c.(*net.UnixConn), l.n.cfg.Poll)
	}
	if !release() || err != nil {
		c.Close()
		return nil, errors.Join(err, ctx.Err())
	}
	return s, nil
}

// via says how the next pipe to the peer will travel, as far as it is known.
func (l *link) via() string {
	if l.near && !l.farther.Load() {
		return ViaUnix
	}
	return ViaUDP
}

// nearStream makes a Unix connection a socket.Conn.
type nearStream struct {
	*net.UnixConn
	raw syscall.RawConn

	out, in *attempt // of TryWrite and Read
	poll    time.Duration
}

// attempt is a system call on a socket that does not block.
type attempt struct {
	b   []byte
	n   int
	err error
	do  func(fd uintptr) bool // made once: a function for each call would be garbage
}

// make does it with b, by way of on, which is a Read or Write of a syscall.RawConn.
func (a *attempt) make(on func(func(fd uintptr) bool) error, b []byte) (int, error) {
	a.b = b
	err := on(a.do)
	a.b = nil
	if err == nil {
		err = a.err
	}
	return a.n, err
}

func newAttempt(f func(fd uintptr, b []byte) (int, error)) *attempt {
	a := &attempt{}
	a.do = func(fd uintptr) bool {
		a.n, a.err = f(fd, a.b)
		return true
	}
	return a
}

func newNearStream(c *net.UnixConn, poll time.Duration) (*nearStream, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := c.SetWriteBuffer(doorBuffer); err != nil {
		return nil, err
	}
	return &nearStream{UnixConn: c, raw: raw, out: newAttempt(writeNow), in: newAttempt(readNow), poll: poll}, nil
}

// Read is that of the connection, but looks for Config.Poll before it sleeps.
func (s *nearStream) Read(b []byte) (int, error) {
	if s.poll == 0 || len(b) == 0 {
		return s.UnixConn.Read(b)
	}
	for began := time.Now(); ; runtime.Gosched() {
		n, err := s.in.make(s.raw.Read, b)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			if time.Since(began) >= s.poll {
				return s.UnixConn.Read(b)
			}
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// TryWrite takes all of b at once or nothing, and never blocks.
func (s *nearStream) TryWrite(b []byte) (bool, error) {
	if len(b) > nowMost {
		return false, nil
	}
	n, err := s.out.make(s.raw.Write, b)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false, nil
	case err != nil:
		return false, err
	case n < len(b): // cannot be; and what was written must not be written again
		return false, errors.Join(io.ErrShortWrite, s.Close())
	}
	return true, nil
}
