package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"
)

// sender is a socket that opens pipes.
type sender interface {
	Kind() socket.Kind
	Name() string
	Meet(context.Context, socket.Peer, wire.Offer, socket.Conn) error
	Stats() patterns.SenderStats
	Shutdown(context.Context) error
	Close() error
}

// receiver is a socket that pipes are opened to.
type receiver interface {
	Kind() socket.Kind
	Name() string
	Label() string
	Offer(number uint64) wire.Offer
	Serve(context.Context, socket.Peer, wire.Attach, socket.Conn) error
	LetGo(denied func(sender ID) bool)
	Stats() socket.InboxStats
	Shutdown(context.Context) error
	Close() error
}

// socketKey is what a node may have one of.
type socketKey struct {
	kind  socket.Kind
	name  string
	label string
}

// ErrNameInUse is a second socket of one kind and name on a node: share the first,
// it is safe for concurrent use. Several Subs of one channel are allowed.
var ErrNameInUse = errors.New("node: a socket of that kind and name is open already")

// Push opens the sending end of a queue. Each message goes to one puller.
func (n *Node) Push(name string, opts ...patterns.Option) (*patterns.Push, error) {
	return openSender(n, wire.Push, name, func(e patterns.Env) (*patterns.Push, error) { return patterns.NewPush(e, name, opts...) })
}

// Pub opens the sending end of a channel. Each message goes to every subscription
// whose patterns match its topic.
func (n *Node) Pub(name string, opts ...patterns.Option) (*patterns.Pub, error) {
	return openSender(n, wire.Pub, name, func(e patterns.Env) (*patterns.Pub, error) { return patterns.NewPub(e, name, opts...) })
}

// Req opens the asking end of a service. Each request goes to one replier.
func (n *Node) Req(name string, opts ...patterns.Option) (*patterns.Req, error) {
	return openSender(n, wire.Req, name, func(e patterns.Env) (*patterns.Req, error) { return patterns.NewReq(e, name, opts...) })
}

// Pull opens the receiving end of a queue.
func (n *Node) Pull(name string, opts ...patterns.Option) (*patterns.Pull, error) {
	return openReceiver(n, wire.Pull, name, func(e patterns.Env) (*patterns.Pull, error) { return patterns.NewPull(e, name, opts...) })
}

// Sub opens a subscription of a channel; a node may have several.
func (n *Node) Sub(name string, opts ...patterns.Option) (*patterns.Sub, error) {
	return openReceiver(n, wire.Sub, name, func(e patterns.Env) (*patterns.Sub, error) { return patterns.NewSub(e, name, opts...) })
}

// Rep opens the answering end of a service.
func (n *Node) Rep(name string, opts ...patterns.Option) (*patterns.Rep, error) {
	return openReceiver(n, wire.Rep, name, func(e patterns.Env) (*patterns.Rep, error) { return patterns.NewRep(e, name, opts...) })
}

func openSender[S sender](n *Node, kind socket.Kind, name string, make func(patterns.Env) (S, error)) (s S, err error) {
	if err := n.mayOpen(kind, name); err != nil {
		return s, err
	}
	key := socketKey{kind: kind, name: name}
	n.mu.Lock()
	_, used := n.senders[key]
	closing := n.closing
	if !used && !closing {
		n.senders[key] = nil // held until it is made
	}
	n.mu.Unlock()
	switch {
	case closing:
		return s, errClosing
	case used:
		return s, fmt.Errorf("%w: %v %q", ErrNameInUse, kind, name)
	}
	s, err = make(patterns.Env{Local: n.local, Seqs: n.seqs, Store: n.store, Note: n.memory.note, Closed: func() { n.dropSender(key) }})
	if err != nil {
		n.dropSender(key)
		return s, err
	}
	if !n.addSender(key, s) {
		var none S
		return none, errors.Join(errClosing, s.Close())
	}
	return s, nil
}

// addSender brings a new socket and its business together, unless the node closed
// meanwhile.
func (n *Node) addSender(key socketKey, s sender) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return false
	}
	n.senders[key] = s
	for _, l := range n.links {
		l.matchSender(s)
	}
	for number, r := range n.receivers {
		n.matchLocal(s, number, r)
	}
	return true
}

func (n *Node) dropSender(key socketKey) {
	n.mu.Lock()
	delete(n.senders, key)
	n.mu.Unlock()
}

func openReceiver[R receiver](n *Node, kind socket.Kind, name string, make func(patterns.Env) (R, error)) (r R, err error) {
	if err := n.mayOpen(kind, name); err != nil {
		return r, err
	}
	n.mu.Lock()
	if n.closing {
		n.mu.Unlock()
		return r, errClosing
	}
	key, err := n.name(kind, name)
	number := n.sockets
	n.mu.Unlock()
	if err != nil {
		return r, err
	}
	r, err = make(patterns.Env{Local: n.local, Store: n.store, Label: key.label, Closed: func() { n.dropReceiver(number, key) }})
	if err != nil {
		n.dropReceiver(number, key)
		return r, err
	}
	if err := n.addReceiver(number, r); err != nil {
		var none R
		return none, errors.Join(err, r.Close())
	}
	return r, nil
}

// addReceiver offers a new socket to everybody, unless the node closed meanwhile or has that
// durable subscription open already.
func (n *Node) addReceiver(number uint64, r receiver) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return errClosing
	}
	name := nameOf(r.Offer(0))
	for _, other := range n.receivers {
		if name.Durable && nameOf(other.Offer(0)) == name {
			return fmt.Errorf("%w: %v %q %q", ErrNameInUse, name.Kind, name.Name, name.Label)
		}
	}
	n.receivers[number] = r
	for _, l := range n.links {
		l.send(wire.AppendOffer(nil, offerOf(number, r)))
	}
	for _, s := range n.senders {
		if s != nil {
			n.matchLocal(s, number, r)
		}
	}
	return nil
}

// name reserves a receiving socket's name and counts it. A further Sub of a channel
// gets a label; everything else may be open once. n.mu must be held.
func (n *Node) name(kind socket.Kind, name string) (socketKey, error) {
	key := socketKey{kind: kind, name: name}
	n.sockets++
	if n.names[key] {
		if kind != wire.Sub {
			return key, fmt.Errorf("%w: %v %q", ErrNameInUse, kind, name)
		}
		// A label is never given twice in a process's life: a publisher must not take a new
		// subscription for an old one.
		key.label = strconv.FormatUint(n.sockets, 10)
	}
	n.names[key] = true
	return key, nil
}

func (n *Node) dropReceiver(number uint64, key socketKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.names, key)
	if _, known := n.receivers[number]; !known {
		return // it was never offered
	}
	delete(n.receivers, number)
	for _, l := range n.links {
		l.send(wire.AppendNumber(nil, wire.TypeWithdraw, number))
	}
}

func offerOf(number uint64, r receiver) wire.Offer {
	return r.Offer(number)
}

// matches reports whether a sender has business with an offer.
func matches(s sender, o wire.Offer) bool {
	return s.Kind() == o.Kind.Opposite() && s.Name() == o.Name
}

// matchLocal lets two sockets of this node meet in memory. n.mu must be held.
func (n *Node) matchLocal(s sender, number uint64, r receiver) {
	o := offerOf(number, r)
	if n.closing || !matches(s, o) {
		return
	}
	n.wg.Go(func() { n.keepLocal(s, o) })
}

// keepLocal runs the pipe between two sockets of this node; when the policy cuts it, it waits for one that allows it.
func (n *Node) keepLocal(s sender, o wire.Offer) {
	for {
		news := n.gate.news()
		ctx, leave, denied := n.permit(n.ctx, nil, o.Kind, o.Name)
		if denied == nil {
			denied = n.meetLocal(ctx, s, o)
			leave()
		}
		if !n.has(s) {
			return
		}
		if denied == nil {
			select {
			case <-news: // it may have cut the serving half first, whose end says nothing of it: it is asked
				continue
			default:
				return
			}
		}
		n.log.Warn("local pipe denied", "kind", s.Kind(), "name", s.Name(), "reason", denied.Reason)
		n.hub.emit(PeerEvent{State: Refused, ID: n.ID(), Name: n.cfg.Name, Addr: n.Addr().String(), Code: denied.Code, Reason: clean(denied.Reason)})
		select {
		case <-news:
		case <-n.ctx.Done():
			return
		}
	}
}

// meetLocal blocks until the pipe has ended, and says whether the policy was the cause.
func (n *Node) meetLocal(ctx context.Context, s sender, o wire.Offer) *socket.Rejection {
	a, b := socket.Duplex()
	var serving sync.WaitGroup
	serving.Go(func() { n.serve(n.ctx, n.self, nil, b) })
	err := s.Meet(ctx, n.self, o, a)
	serving.Wait()
	if err != nil {
		n.log.Debug("local pipe ended", "kind", s.Kind(), "name", s.Name(), "err", err)
	}
	if r := cutBy(ctx); r != nil {
		return r
	}
	if r := refusalToTell(err); r != nil && r.Code == identity.CodePolicy {
		return r
	}
	return nil
}

// has reports whether a sending socket is open.
func (n *Node) has(s sender) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.senders[socketKey{kind: s.Kind(), name: s.Name()}] == s
}

// firstFrame bounds an ATTACH: it may name some thousand editions.
const firstFrame = 96 << 10

// serve reads a stream's ATTACH and hands the stream to the socket it names. It
// blocks until the pipe has ended. who is nil for a socket of this node.
func (n *Node) serve(ctx context.Context, peer socket.Peer, who *link, c socket.Conn) {
	patience, stop := context.WithTimeout(ctx, 2*n.cfg.HandshakeTimeout)
	release := context.AfterFunc(patience, func() { c.Close() })
	t, payload, err := socket.ReadFrame(c, firstFrame)
	release()
	stop()
	if err == nil && t == wire.TypeAsk && who != nil {
		n.answer(ctx, who, payload, c)
		return
	}
	if err == nil && t != wire.TypeAttach {
		err = fmt.Errorf("first frame of a stream is 0x%02x", byte(t))
	}
	var a wire.Attach
	if err == nil {
		a, err = wire.ParseAttach(payload)
	}
	if err != nil {
		c.Close()
		if ctx.Err() == nil {
			n.log.Debug("stream refused", "peer", peer.ID, "err", clean(err.Error()))
		}
		return
	}
	n.mu.Lock()
	r := n.receivers[a.Socket]
	n.mu.Unlock()
	if r == nil || who != nil && who.foreign() {
		err = socket.Reject(ctx, c, &socket.Rejection{Code: socket.CodeNoSocket, Reason: fmt.Sprintf("no socket %d", a.Socket)})
	} else {
		err = n.serveAllowed(ctx, r, peer, who, a, c)
	}
	if err != nil {
		n.log.Debug("pipe ended", "peer", peer.ID, "kind", a.Kind.Opposite(), "name", clean(a.Name), "err", clean(err.Error()))
	}
}

// serveAllowed serves the pipe if it is allowed, and as long as it is.
func (n *Node) serveAllowed(ctx context.Context, r receiver, peer socket.Peer, who *link, a wire.Attach, c socket.Conn) error {
	ctx, leave, denied := n.permit(ctx, who, a.Kind, a.Name)
	if denied != nil {
		if who != nil {
			who.refused(denied)
			n.denied(a.Kind, a.Name, who.peer.ID, denied)
		}
		return socket.Reject(ctx, c, denied)
	}
	defer leave()
	err := r.Serve(ctx, peer, a, c)
	if cut := cutBy(ctx); cut != nil {
		r.LetGo(func(sender ID) bool { return sender == peer.ID }) // what came since the cut
		if who != nil {
			who.deny(cut)
			n.denied(a.Kind, a.Name, who.peer.ID, cut)
		}
	}
	return err
}

// authorize asks the service's own check. A local socket may do everything.
func (n *Node) authorize(ctx context.Context, who *link, verb socket.Kind, name string) *socket.Rejection {
	if who == nil || n.cfg.Authorize == nil {
		return nil
	}
	err := n.cfg.Authorize(ctx, Access{Peer: who.peer.ID, PeerName: who.peer.Name, Roles: who.ident.Roles, Verb: verb, Name: name})
	if err == nil {
		return nil
	}
	return &socket.Rejection{Code: identity.CodePolicy, Reason: fmt.Sprintf("%v may not %v %q: %v", who.peer.Name, verb, name, err)}
}

// SocketInfo describes an open socket.
type SocketInfo struct {
	Kind     socket.Kind
	Name     string
	Label    string                // of a further Sub of one channel
	Sender   *patterns.SenderStats // of Push, Pub, Req
	Receiver *socket.InboxStats    // of Pull, Sub, Rep
}

// Sockets describes the open sockets with their counts, by kind and name.
func (n *Node) Sockets() []SocketInfo {
	receivers, senders := n.openSockets()
	var out []SocketInfo
	for _, s := range senders {
		st := s.Stats()
		out = append(out, SocketInfo{Kind: s.Kind(), Name: s.Name(), Sender: &st})
	}
	for _, r := range receivers {
		st := r.Stats()
		out = append(out, SocketInfo{Kind: r.Kind(), Name: r.Name(), Label: r.Label(), Receiver: &st})
	}
	slices.SortFunc(out, func(a, b SocketInfo) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.Name+"\x00"+a.Label, b.Name+"\x00"+b.Label)
	})
	return out
}

func (n *Node) openSockets() (receivers []receiver, senders []sender) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.receivers {
		receivers = append(receivers, r)
	}
	for _, s := range n.senders {
		if s != nil {
			senders = append(senders, s)
		}
	}
	return receivers, senders
}
