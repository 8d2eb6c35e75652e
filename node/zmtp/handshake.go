package zmtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"
)

const (
	greetingSize = 64
	minorAt      = 11 // where the greeting has the minor version
	minorOurs    = 1  // ZMTP 3.1: heartbeats, and subscriptions as commands

	maxReady = 4 << 10 // bytes of a READY: an identity of 255, the type, and what libraries say of themselves
)

var errHandshake = errors.New("zmtp: handshake")

// hello is what a peer has said of itself.
type hello struct {
	minor    byte
	kind     Type
	identity string
}

// open does the handshake of a connection: the library's, behind a guard that has read and judged each byte before. It
// blocks for at most the timeout. On an error the connection is closed.
func open(nc net.Conn, ours Type, identity string, binds bool, timeout time.Duration) (hello, error) {
	g := &guard{Conn: nc, ours: ours}
	err := nc.SetDeadline(time.Now().Add(timeout))
	if err == nil {
		_, err = zmq4.Open(g, null.Security(), zmq4.SocketType(ours), zmq4.SocketIdentity(identity), binds, nil)
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if g.refused != nil {
		err = g.refused // says more than what the library makes of it
	}
	if err != nil {
		return hello{}, errors.Join(fmt.Errorf("%w: %w", errHandshake, err), nc.Close())
	}
	return g.peer, nil
}

// A guard stands between a peer and the library, which takes a connection on trust: it would allocate what a length
// claims, and panic on metadata that is cut off or a type that it does not know. The guard reads the greeting and the
// first command, judges them, and hands on what is in order; of the metadata only the type and the identity. It also
// says 3.1 where the library says 3.0.
type guard struct {
	net.Conn
	ours    Type
	written int // bytes of our greeting
	greeted bool
	ready   bool
	judged  bytes.Reader // what the library may read
	peer    hello
	refused error
}

// Write hands on what the library says, but for the minor version.
func (g *guard) Write(b []byte) (int, error) {
	at := minorAt - g.written
	g.written += len(b)
	if at < 0 || at >= len(b) {
		return g.Conn.Write(b)
	}
	patched := slices.Clone(b)
	patched[at] = minorOurs
	return g.Conn.Write(patched)
}

// Read hands on what was judged.
func (g *guard) Read(b []byte) (int, error) {
	if g.judged.Len() == 0 {
		if err := g.next(); err != nil {
			g.refused = err
			return 0, err
		}
	}
	return g.judged.Read(b)
}

func (g *guard) next() error {
	switch {
	case !g.greeted:
		g.greeted = true
		return g.greeting()
	case !g.ready:
		g.ready = true
		return g.command()
	}
	return errors.New("the library reads on after READY")
}

func (g *guard) greeting() error {
	b := make([]byte, greetingSize)
	// A peer of an older version says less, and waits. Its version tells it from one that is slow.
	if _, err := io.ReadFull(g.Conn, b[:minorAt]); err != nil {
		return err
	}
	switch {
	case b[0] != 0xff || b[9] != 0x7f:
		return errors.New("not ZMTP")
	case b[10] < 3:
		return errors.New("a version of ZMTP before 3")
	}
	if _, err := io.ReadFull(g.Conn, b[minorAt:]); err != nil {
		return err
	}
	if mechanism := string(bytes.TrimRight(b[12:32], "\x00")); mechanism != "NULL" {
		return fmt.Errorf("security mechanism %q, and only NULL is spoken here", mechanism)
	}
	g.peer.minor = b[minorAt]
	if b[10] > 3 {
		g.peer.minor = minorOurs
	}
	b[32] = 0 // as-server means nothing with NULL
	g.judged.Reset(b)
	return nil
}

func (g *guard) command() error {
	body, err := g.frame()
	if err != nil {
		return err
	}
	c, err := parseCommand(body)
	if err != nil {
		return err
	}
	switch c.name {
	case cmdReady:
	case cmdError:
		return fmt.Errorf("the peer refused: %.255q", c.data)
	default:
		return fmt.Errorf("%s before READY", c.name)
	}
	metadata, err := parseMetadata(c.data)
	if err != nil {
		return err
	}
	g.peer.kind, g.peer.identity = Type(metadata["socket-type"]), metadata["identity"]
	if why := g.judge(); why != nil {
		reason := why.Error()
		_, err := g.Conn.Write(appendCommand(nil, cmdError, append([]byte{byte(len(reason))}, reason...)))
		return errors.Join(why, err)
	}
	clean := appendProperty(nil, property{"Socket-Type", string(g.peer.kind)})
	clean = appendProperty(clean, property{"Identity", g.peer.identity})
	g.judged.Reset(appendCommand(nil, cmdReady, clean))
	return nil
}

// judge holds what the peer has said of itself against the rules. The reason fits an ERROR.
func (g *guard) judge() error {
	switch {
	case !slices.Contains(peersOf[g.ours], g.peer.kind):
		return fmt.Errorf("a %.16q socket cannot speak to a %s", string(g.peer.kind), g.ours)
	case len(g.peer.identity) > maxIdentity:
		return fmt.Errorf("an identity of %d bytes", len(g.peer.identity))
	case len(g.peer.identity) > 0 && g.peer.identity[0] == 0:
		return errors.New("an identity that begins with zero")
	}
	return nil
}

// frame reads one frame of a command, and not a byte more.
func (g *guard) frame() ([]byte, error) {
	b := make([]byte, 2, maxHead)
	if _, err := io.ReadFull(g.Conn, b); err != nil {
		return nil, err
	}
	flags, head, size, err := parseHead(b, maxReady)
	if err == nil && head == 0 {
		b = b[:maxHead]
		if _, err := io.ReadFull(g.Conn, b[2:]); err != nil {
			return nil, err
		}
		flags, head, size, err = parseHead(b, maxReady)
	}
	switch {
	case err != nil:
		return nil, err
	case head == 0 || flags&flagCommand == 0:
		return nil, errors.New("a message before READY")
	}
	body := make([]byte, size)
	_, err = io.ReadFull(g.Conn, body)
	return body, err
}
