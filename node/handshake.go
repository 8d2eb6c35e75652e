package node

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/spool"

	"github.com/quic-go/quic-go"
)

// acceptLinks takes connections until the listener closes. It only hands them off:
// quic-go's accept queue holds 32.
func (n *Node) acceptLinks() {
	var under underway
	for {
		conn, err := n.ln.Accept(n.ctx)
		if err != nil {
			return
		}
		ctx, over := under.begin(n.ctx, 2*n.cfg.HandshakeTimeout)
		switch conn.ConnectionState().TLS.NegotiatedProtocol {
		case enrollALPN:
			n.wg.Go(func() {
				defer over()
				n.renews(ctx, conn)
			})
		case wire.StripeALPN:
			n.wg.Go(func() { n.turnAway(conn, n.joined(ctx, over, conn)) })
		default:
			n.wg.Go(func() {
				defer over()
				_, err := n.shake(ctx, conn, false, ID{})
				n.turnAway(conn, err)
			})
		}
	}
}

// turnAway ends a connection from outside that was not taken, if err says so, and tells.
func (n *Node) turnAway(conn *quic.Conn, err error) {
	if err == nil {
		return
	}
	who := n.noLink(conn, err)
	if tells(err) && n.refused.take() {
		n.tell(conn.RemoteAddr(), who, refusal(err))
	}
}

// underway are the handshakes from outside that have not ended, oldest first. An
// honest one takes a few round trips: when there are too many, the oldest is idle.
type underway struct {
	mu   sync.Mutex
	list list.List // of context.CancelCauseFunc
}

// begin adds a handshake and ends the oldest if there are too many. over must be
// called when it has ended.
func (u *underway) begin(ctx context.Context, limit time.Duration) (_ context.Context, over func()) {
	ctx, stop := context.WithTimeout(ctx, limit)
	ctx, end := context.WithCancelCause(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	self := u.list.PushBack(end)
	if u.list.Len() > maxShaking {
		u.list.Remove(u.list.Front()).(context.CancelCauseFunc)(errCrowded)
	}
	return ctx, func() {
		stop()
		u.mu.Lock()
		defer u.mu.Unlock()
		u.list.Remove(self) // nothing if it was ended above
	}
}

// dial connects to addr, where want is expected (zero: whoever is there). It returns
// who was there if that was proved, link or not.
func (n *Node) dial(ctx context.Context, addr net.Addr, want ID) (*link, identity.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*n.cfg.HandshakeTimeout)
	defer cancel()
	conn, err := n.tr.Dial(ctx, addr, n.creds.TLS(wire.ALPN), n.qc)
	if err != nil {
		return nil, identity.Peer{}, explain(err)
	}
	l, err := n.shake(ctx, conn, true, want)
	if err != nil {
		return nil, n.noLink(conn, err), err
	}
	return l, l.ident, nil
}

// noLink ends a connection that became no link and returns who was there, if that
// was proved.
func (n *Node) noLink(conn *quic.Conn, err error) identity.Peer {
	code, text := closeProtocol, "handshake: "+err.Error()
	switch r := refusal(err); {
	case r != nil:
		code, text = closeCode(r.Code), r.Reason
	case errors.Is(err, errCrowded):
		code, text = closeOverloaded, err.Error()
	case errors.Is(err, errClosing) || errors.Is(err, context.Canceled):
		code, text = closeBye, ""
	}
	_ = conn.CloseWithError(code, text) // it may have ended already, and that is as good
	n.log.Debug("no link", "addr", conn.RemoteAddr(), "err", clean(err.Error()))
	who, verr := n.creds.Verify(conn.ConnectionState().TLS)
	if verr != nil {
		return identity.Peer{}
	}
	return who
}

// tells reports whether err is a refusal that people should know of. Which of two
// links stays, and that a node has met itself, is nobody's business.
func tells(err error) bool {
	r := refusal(err)
	return r != nil && r.Code != identity.CodeSuperseded && r.Code != codeSelf
}

// tell makes the event of a refused link.
func (n *Node) tell(addr net.Addr, who identity.Peer, r *identity.Refusal) {
	e := PeerEvent{State: Refused, ID: who.ID, Name: who.Name, Addr: addr.String(), Code: r.Code, Reason: clean(r.Reason), Remote: r.Remote}
	n.log.Warn("link refused", "addr", e.Addr, "code", e.Code, "reason", e.Reason, "remote", e.Remote)
	n.hub.emit(e)
}

// shake makes a link of a connection: certificates, HELLO both ways, WELCOME by the
// node with the lower id. Nothing is read from or written to a stream before the
// certificate was judged.
func (n *Node) shake(ctx context.Context, conn *quic.Conn, dialed bool, want ID) (*link, error) {
	who, err := n.vouch(conn, want)
	if err != nil {
		return nil, err
	}
	if who.ID == n.ID() && dialed {
		return nil, &identity.Refusal{Code: codeSelf, Reason: "this is the node itself"}
	}
	ctl, err := n.controlStream(ctx, conn, dialed)
	if err != nil {
		return nil, n.lost(ctx, conn, err)
	}
	release := context.AfterFunc(ctx, func() { ctl.CancelRead(0) })
	defer release()
	ctl.SetPriority(0, false)
	s := shaking{n: n, conn: conn, ctl: ctl, in: frames{r: ctl}, who: who, dialed: dialed}
	l, err := s.run()
	if err != nil {
		return nil, n.lost(ctx, conn, err)
	}
	return l, nil
}

// vouch says who is at the other end of a connection, or why nothing is to be said to it. want is who is expected there;
// zero: anybody of the mesh.
func (n *Node) vouch(conn *quic.Conn, want ID) (identity.Peer, error) {
	who, err := n.creds.Verify(conn.ConnectionState().TLS)
	if err != nil {
		return who, err
	}
	if r := n.gate.revoked(who.ID, who.Authority); r != nil {
		return who, r
	}
	if want != (ID{}) && who.ID != want {
		return who, &identity.Refusal{Code: identity.CodeIdentity, Reason: fmt.Sprintf("expected node %v here, found %v", want, who.ID)}
	}
	return who, nil
}

// lost prefers what the handshake's end and the connection say to what a stream says.
func (n *Node) lost(ctx context.Context, conn *quic.Conn, err error) error {
	if refusal(err) != nil {
		return err
	}
	var protocol *protocolError
	if errors.As(err, &protocol) {
		return err
	}
	if ctx.Err() != nil {
		return explain(context.Cause(ctx))
	}
	// The stream may notice first that the connection is closing.
	select {
	case <-conn.Context().Done():
	case <-time.After(50 * time.Millisecond):
	}
	if cause := context.Cause(conn.Context()); cause != nil {
		return explain(cause)
	}
	return explain(err)
}

func (n *Node) controlStream(ctx context.Context, conn *quic.Conn, dialed bool) (*quic.Stream, error) {
	if dialed {
		return conn.OpenStreamSync(ctx)
	}
	return conn.AcceptStream(ctx)
}

// shaking is a handshake under way.
type shaking struct {
	n      *Node
	conn   *quic.Conn
	ctl    *quic.Stream
	in     frames
	who    identity.Peer
	dialed bool

	greeted wire.Near // in the HELLO that was sent
}

func (s *shaking) run() (*link, error) {
	n := s.n
	var number uint64
	if s.dialed {
		number = n.number(s.who.ID)
		if err := s.hello(number); err != nil {
			return nil, err
		}
	}
	h, err := s.read()
	if err != nil {
		return nil, err
	}
	if !s.dialed {
		number = h.Link
		if err := s.hello(number); err != nil {
			return nil, err
		}
	}
	h.Link = number
	defer n.noteNumber(s.who.ID, number)
	if err := s.check(h); err != nil {
		return nil, s.refuse(err)
	}
	if n.ID().Compare(s.who.ID) > 0 {
		if err := s.awaitWelcome(); err != nil {
			return nil, err
		}
	}
	l := n.newLink(s.conn, s.ctl, s.who, h, s.greeted, s.dialed, s.in.unread())
	if err := n.install(l); err != nil {
		l.cancel(err) // or the node's context would know it for ever
		return nil, s.refuse(err)
	}
	return l, nil
}

// number says which number a dial to id has: the next one after those of which the
// handshake is over, so that of several under way at once, from both sides or to
// several addresses, the one heard first stays. While a link is up here, its own:
// only who has lost that one, or is another process, will take this for it.
func (n *Node) number(id ID) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.links[id]; l != nil {
		return l.number
	}
	return n.past[id].number + 1
}

// past is what is remembered of a node while this process lives.
type past struct {
	number      uint64   // of the last handshake that is over
	incarnation uint64   // of the last link
	nonce       [16]byte // of the last link
}

// noteNumber keeps the number of a handshake that is over, whatever came of it.
func (n *Node) noteNumber(id ID, number uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.past[id]
	p.number = max(p.number, number)
	n.remember(id, p)
}

// remember keeps p, and makes room first if there is much. n.mu must be held.
func (n *Node) remember(id ID, p past) {
	if len(n.past) > 4*maxLinks { // mostly of nodes long gone
		maps.DeleteFunc(n.past, func(id ID, _ past) bool { return n.links[id] == nil })
	}
	n.past[id] = p
}

// seen is the highest incarnation known of a node.
func (n *Node) seen(id ID) uint64 {
	n.mu.Lock()
	seen := n.past[id].incarnation
	n.mu.Unlock()
	if n.store != nil {
		seen = max(seen, n.store.Seen(id))
	}
	return seen
}

// repeats reports whether h has the incarnation of another process that was linked
// and is not any more. Each opening of a state directory makes a new incarnation, so
// one of the two has an old copy.
func (n *Node) repeats(id ID, h wire.Hello) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.past[id]
	return n.links[id] == nil && p.incarnation > 0 && p.incarnation == h.Incarnation && p.nonce != h.Nonce
}

func (s *shaking) hello(number uint64) error {
	n := s.n
	greeting, err := n.greeting()
	if err != nil {
		return err
	}
	s.greeted = greeting
	_, err = s.ctl.Write(wire.AppendHello(nil, wire.Hello{Version: wire.Version, Node: n.ID(), Mesh: n.mesh,
		Incarnation: n.local.Incarnation, Nonce: n.local.Nonce, Link: number, MaxMessage: uint64(n.cfg.MaxMessage),
		Namespace: n.cfg.Namespace, Name: n.cfg.Name, Policy: announced(n.gate.current()), Near: greeting,
		Stripes: uint64(n.cfg.Stripes)}))
	return err
}

// read returns the other side's HELLO, or its refusal.
func (s *shaking) read() (wire.Hello, error) {
	t, payload, err := s.in.next()
	if err != nil {
		return wire.Hello{}, err
	}
	if t != wire.TypeHello {
		return wire.Hello{}, s.instead(t, payload, "HELLO")
	}
	h, err := wire.ParseHello(payload)
	if err != nil {
		return h, &protocolError{err}
	}
	return h, nil
}

// awaitWelcome waits for the word of the node with the lower id.
func (s *shaking) awaitWelcome() error {
	t, payload, err := s.in.next()
	if err != nil {
		return err
	}
	if t != wire.TypeWelcome {
		return s.instead(t, payload, "WELCOME")
	}
	if _, err := wire.ParseWelcome(payload); err != nil {
		return &protocolError{err}
	}
	return nil
}

// instead reads what came in place of the frame that was expected.
func (s *shaking) instead(t wire.Type, payload []byte, expected string) error {
	if t != wire.TypeRefused {
		return &protocolError{fmt.Errorf("frame 0x%02x, expected %s", byte(t), expected)}
	}
	r, err := wire.ParseRefused(payload)
	if err != nil {
		return &protocolError{err}
	}
	code := identity.Code(clean(r.Code))
	if code == identity.CodeIncarnation {
		s.n.rolledBack(r.Seen)
	}
	return &identity.Refusal{Code: code, Reason: clean(r.Reason), Remote: true}
}

// maxRollback is how many lives a state directory is believed to have lost.
const maxRollback = 1 << 32

// rolledBack: a peer remembers a later life of this node, so the state directory was
// restored from a backup or copied. The incarnation is raised above it, durably, so
// that the next opening is in order; this one stays refused. Once is enough, and a
// peer that lies cannot use up the numbers.
func (n *Node) rolledBack(seen uint64) {
	if n.store == nil || seen < n.local.Incarnation || seen-n.local.Incarnation > maxRollback {
		return
	}
	n.raised.Do(func() {
		raised, err := n.store.RaiseAbove(seen)
		n.log.Error("the state directory is older than what a peer remembers of it: restored from a backup, or copied; restart the node",
			"dir", n.cfg.Dir, "incarnation", n.local.Incarnation, "seen", seen, "raised", raised, "err", err)
	})
}

// check holds a HELLO against the certificate and what is remembered.
func (s *shaking) check(h wire.Hello) error {
	n := s.n
	switch {
	case h.Version != wire.Version:
		return &identity.Refusal{Code: identity.CodeVersion, Reason: fmt.Sprintf("protocol version %d, this node speaks %d", h.Version, wire.Version)}
	case ID(h.Node) != s.who.ID:
		return &identity.Refusal{Code: identity.CodeIdentity, Reason: fmt.Sprintf("HELLO of node %v with the certificate of %v", ID(h.Node), s.who.ID)}
	case identity.MeshID(h.Mesh) != n.mesh:
		return &identity.Refusal{Code: identity.CodeMesh, Reason: fmt.Sprintf("HELLO of mesh %v, this is %v", identity.MeshID(h.Mesh), n.mesh)}
	case h.Namespace != s.who.Namespace || h.Name != s.who.Name:
		return &identity.Refusal{Code: identity.CodeIdentity, Reason: fmt.Sprintf("HELLO of %q in namespace %q with the certificate of %q in %q",
			h.Name, h.Namespace, s.who.Name, s.who.Namespace)}
	case h.Nonce == n.local.Nonce:
		return &identity.Refusal{Code: codeSelf, Reason: "this is the node itself"}
	case ID(h.Node) == n.ID():
		return &identity.Refusal{Code: identity.CodeDuplicate, Reason: fmt.Sprintf("another process runs with the identity of node %v", n.ID())}
	}
	switch seen := n.seen(s.who.ID); {
	case h.Incarnation < seen:
		return &identity.Refusal{Code: identity.CodeIncarnation, Reason: fmt.Sprintf("incarnation %d of node %v, but %d was seen", h.Incarnation, s.who.ID, seen)}
	case n.repeats(s.who.ID, h):
		return &identity.Refusal{Code: identity.CodeIncarnation, Reason: fmt.Sprintf("incarnation %d of node %v was another process", seen, s.who.ID)}
	case n.store == nil || h.Incarnation == 1:
		return nil // a first life has none before it: ephemeral nodes are not remembered on disk
	}
	switch err := n.store.See(h.Node, h.Incarnation); {
	case errors.Is(err, spool.ErrFull): // whoever filled it must not keep others out
		n.log.Warn("incarnation not remembered", "peer", s.who.ID, "incarnation", h.Incarnation, "err", err)
	case err != nil:
		n.log.Error("incarnation not remembered", "peer", s.who.ID, "incarnation", h.Incarnation, "err", err)
		return errors.New("this node cannot remember incarnations") // the rest is not the peer's business
	}
	return nil
}

// refuse tells the other side why, in a frame that can carry the incarnation seen;
// the code of the closed connection says it once more.
func (s *shaking) refuse(err error) error {
	r := refusal(err)
	if r == nil {
		return err
	}
	out := wire.Refused{Code: string(r.Code), Reason: r.Reason, Seen: s.n.seen(s.who.ID)}
	if _, werr := s.ctl.Write(wire.AppendRefused(nil, out)); werr != nil {
		return err // the connection is gone, there is nobody to tell
	}
	// The other side closes when it has read it; if it does not, we do.
	select {
	case <-s.conn.Context().Done():
	case <-s.n.ctx.Done():
	case <-time.After(s.n.cfg.HandshakeTimeout / 4):
	}
	return err
}

// install makes l the link to its peer, or says why not.
func (n *Node) install(l *link) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.links[l.peer.ID]
	var up *standing
	if old != nil {
		s := old.standing()
		up = &s
	}
	lower := n.ID().Compare(l.peer.ID) < 0
	revoked := n.gate.revoked(l.peer.ID, l.ident.Authority) // since the handshake began; from here on enforce finds the link
	switch {
	case n.closing:
		return errClosing
	case revoked != nil:
		return revoked
	case old == nil && len(n.links) >= maxLinks:
		return &identity.Refusal{Code: identity.CodePolicy, Reason: fmt.Sprintf("this node has %d peers", maxLinks)}
	case lower || old != nil && old.peer.Nonce != l.peer.Nonce:
		if v := judge(up, l.standing()); !v.keep {
			return &identity.Refusal{Code: v.code, Reason: conflict(v.code, l)}
		}
	case old != nil && l.number < old.number: // welcomed before the one that is up
		return &identity.Refusal{Code: identity.CodeSuperseded, Reason: conflict(identity.CodeSuperseded, l)}
	}
	if lower {
		l.send(wire.AppendWelcome(nil, wire.Welcome{Seen: l.peer.Incarnation}))
	}
	n.links[l.peer.ID] = l
	n.remember(l.peer.ID, past{max(l.number, n.past[l.peer.ID].number), l.peer.Incarnation, l.peer.Nonce})
	if g := n.gossip(l); g != nil {
		l.send(g)
	}
	l.sendPolicy(n.gate.current())
	l.start()
	n.log.Debug("link up", "peer", l.peer.ID, "name", l.peer.Name, "addr", l.conn.RemoteAddr(), "number", l.number, "dialed", l.dialed)
	switch {
	case old == nil:
		n.hub.emit(l.event(Up, "", ""))
	case old.peer.Nonce != l.peer.Nonce:
		n.hub.emit(old.event(Down, identity.CodeSuperseded, "its process was restarted"))
		n.hub.emit(l.event(Up, "", ""))
	}
	if old != nil {
		old.cancel(&identity.Refusal{Code: identity.CodeSuperseded, Reason: "a newer link took its place"})
	}
	return nil
}

func conflict(c identity.Code, l *link) string {
	switch c {
	case identity.CodeDuplicate:
		return fmt.Sprintf("another process with the identity of node %v is linked: was its state directory copied?", l.peer.ID)
	case identity.CodeIncarnation:
		return fmt.Sprintf("a later life of node %v is linked than incarnation %d", l.peer.ID, l.peer.Incarnation)
	}
	return "another link between the same two processes stays"
}
