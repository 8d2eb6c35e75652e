package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/quic-go/quic-go"
)

const (
	heartbeatEvery = 2 * time.Second
	// beatAlong is how long after a heartbeat of ours the next one may go, along with the answer to the peer's.
	beatAlong = heartbeatEvery / 2
	// beatGrace is how much later than due a heartbeat is sent to a peer that dialled, whose own is due first.
	beatGrace = heartbeatEvery / 8
	// maxControl bounds what waits to be written on a control stream; a peer that does
	// not read it is cut off.
	maxControl = 1 << 20
	// maxOffers bounds the sockets one peer may offer.
	maxOffers = 4096
	// attachRetry is the first pause after a pipe ended while its offer stands.
	attachRetry    = 200 * time.Millisecond
	maxAttachRetry = 5 * time.Second
	policyRetry    = 5 * time.Second // a denial may be lifted
	// byeWait bounds how long a closing node waits for its peers' BYE.
	byeWait = time.Second
	// deafAfter cuts off a peer that has answered no heartbeat for that long: its
	// kernel and its QUIC live, its node does not.
	deafAfter = 30 * time.Second
	// maxControlFrame bounds one frame of a control stream; the longest is a full PEERS.
	maxControlFrame = 64 << 10
	// controlRead is for how much there is room at least when a control stream is read: a
	// heartbeat takes a few bytes.
	controlRead = 256
)

// link is the connection to a peer, from its WELCOME to its end.
type link struct {
	n      *Node
	conn   *quic.Conn
	ctl    *quic.Stream
	rest   []byte // of the control stream, read with the last frame of the handshake
	peer   socket.Peer
	ident  identity.Peer
	hello  wire.Hello
	number uint64
	dialed bool
	since  time.Time

	ctx    context.Context
	cancel context.CancelCauseFunc

	parts sync.WaitGroup // goroutines that read and write control frames, see join

	mu      sync.Mutex
	out     []byte // control frames to write
	writing bool   // somebody writes them
	started bool   // what waits is written
	over    bool   // parts has an end
	offers  map[uint64]*offered
	names   map[wire.Offer]bool // of offers, without their numbers
	beatAt  int64               // of beats, guarded by it
	beat    uint64
	beaten  time.Time        // when the last one was sent that was due
	pings   map[uint64]*ping // heartbeats not answered yet
	echoed  time.Time        // when the last answer came
	rtt     time.Duration
	left    bool // GOAWAY was sent
	leaving bool // GOAWAY came: no new pipes
	pipes   int
	quiet   socket.Event // fired when pipes falls to zero
	bye     chan struct{}
	told    bucket // refusals
	has     uint64 // version of the newest policy that the peer is known to have or was sent

	greeted wire.Near   // in the HELLO that the peer got
	near    bool        // the peer has a door that can be reached from here
	reached atomic.Bool // a stream was opened there
	farther atomic.Bool // the last one could not be

	most    int // connections that a pipe may be spread over; 1: it is not
	stripes stripes
}

// offered is a peer's socket.
type offered struct {
	wire.Offer
	ctx    context.Context // ends when the socket is gone
	cancel context.CancelCauseFunc
}

type ping struct {
	sent time.Time
	done chan time.Duration // nil: nobody waits
}

func (n *Node) newLink(conn *quic.Conn, ctl *quic.Stream, who identity.Peer, h wire.Hello, greeted wire.Near, dialed bool, rest []byte) *link {
	l := &link{n: n, conn: conn, ctl: ctl, rest: rest, ident: who, hello: h, number: h.Link, dialed: dialed, since: time.Now(),
		peer:   socket.Peer{ID: who.ID, Name: who.Name, Nonce: h.Nonce, Incarnation: h.Incarnation, MaxMessage: int(h.MaxMessage)},
		offers: map[uint64]*offered{}, names: map[wire.Offer]bool{}, pings: map[uint64]*ping{},
		echoed: time.Now(), bye: make(chan struct{}), told: bucket{burst: toldRefusals, perSecond: refusalsPerSecond},
		has: max(h.Policy, 1) - 1, greeted: greeted, near: n.door.leads(h.Near)}
	l.ctx, l.cancel = context.WithCancelCause(n.ctx)
	l.most = max(1, min(n.cfg.Stripes, int(min(h.Stripes, wire.MaxStripes))))
	l.stripes = stripes{l: l, came: map[part]*arrival{}}
	return l
}

func (l *link) standing() standing {
	return standing{nonce: l.peer.Nonce, incarnation: l.peer.Incarnation, number: l.number}
}

func (l *link) event(s PeerState, code identity.Code, reason string) PeerEvent {
	return PeerEvent{State: s, ID: l.peer.ID, Name: l.peer.Name, Addr: l.conn.RemoteAddr().String(), Incarnation: l.peer.Incarnation,
		Code: code, Reason: reason}
}

// refused tells of a pipe that was denied.
func (l *link) refused(r *socket.Rejection) {
	if !l.told.take() {
		return
	}
	e := l.event(Refused, r.Code, clean(r.Reason))
	e.Remote = r.Remote
	l.n.hub.emit(e)
}

// deny tells both ends of a pipe that was denied here.
func (l *link) deny(r *socket.Rejection) {
	l.refused(r)
	l.send(wire.AppendRefused(nil, wire.Refused{Code: string(r.Code), Reason: r.Reason}))
}

// start begins the link's goroutines. n.mu must be held and the node not closed.
func (l *link) start() {
	n := l.n
	n.windows.open(l.conn)
	if l.near || l.most > 1 {
		n.tickets.expect(l)
	}
	release := context.AfterFunc(l.conn.Context(), func() { l.cancel(explain(context.Cause(l.conn.Context()))) })
	for number, r := range n.receivers {
		l.send(wire.AppendOffer(nil, offerOf(number, r)))
	}
	l.mu.Lock()
	l.started = true
	l.wind()
	l.mu.Unlock()
	l.send(nil) // what waits is written from now on
	n.wg.Go(func() {
		l.parts.Go(func() { l.end(l.readControl()) })
		l.acceptStreams()
		n.unlink(l)
		l.close()
		l.awaitParts()
		l.awaitPipes()
		n.windows.close(l.conn)
		l.stripes.close()
		n.tickets.forget(l)
		release()
	})
}

// join adds to the parts; it reports false when the link has ended. l.mu must be held.
func (l *link) join() bool {
	if l.over {
		return false
	}
	l.parts.Add(1)
	return true
}

// awaitParts blocks until nobody reads or writes control frames, and nobody will.
func (l *link) awaitParts() {
	l.mu.Lock()
	l.over = true
	l.n.beats.forget(l)
	l.mu.Unlock()
	l.parts.Wait()
}

// begin counts a new pipe; it reports false when there shall be none any more.
func (l *link) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.pipes++
	return true
}

func (l *link) ended() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pipes--; l.pipes == 0 {
		l.quiet.Fire()
	}
}

// awaitPipes blocks until no pipe is left.
func (l *link) awaitPipes() {
	for {
		l.mu.Lock()
		n, quiet := l.pipes, l.quiet.Wait()
		l.mu.Unlock()
		if n == 0 {
			return
		}
		<-quiet
	}
}

// end ends the link for a cause; nil is none.
func (l *link) end(err error) {
	if err != nil {
		l.cancel(explain(err))
	}
}

// close closes the connection with what the cause says to the other side.
func (l *link) close() {
	cause := context.Cause(l.ctx)
	code, text := closeProtocol, cause.Error()
	switch r := refusal(cause); {
	case r != nil:
		code, text = closeCode(r.Code), r.Reason
	case errors.Is(cause, errBye) || errors.Is(cause, errClosing):
		code, text = closeBye, "" // nothing else may look like leaving in good order
	}
	_ = l.conn.CloseWithError(code, text) // it may have ended already, and that is as good
}

// protocolError is what no honest peer does.
type protocolError struct{ err error }

func (e *protocolError) Error() string { return "protocol: " + e.err.Error() }
func (e *protocolError) Unwrap() error { return e.err }

// send writes a control frame, or queues it for a goroutine that writes and ends when there are no
// more: one that waits would cost more memory than all else of a link at rest here.
func (l *link) send(frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.out)+len(frame) > maxControl {
		l.cancel(errors.New("it does not read its control stream"))
		return
	}
	l.out = append(l.out, frame...)
	switch {
	case !l.started || l.writing || len(l.out) == 0:
	case len(l.out) <= tryMost && l.ctl.TryWriteAll(l.out) == nil:
		l.out = nil
	case l.join():
		l.writing = true
		go func() {
			defer l.parts.Done()
			l.end(l.writeControl())
		}()
	}
}

// writeControl writes control frames until there are none. After an error nobody does any more.
func (l *link) writeControl() error {
	for {
		l.mu.Lock()
		out := l.out
		l.out = nil
		l.writing = len(out) > 0
		l.mu.Unlock()
		if len(out) == 0 {
			return nil
		}
		if _, err := l.ctl.Write(out); err != nil {
			return err
		}
	}
}

// tick sends a heartbeat, unless those before were not answered, and has the next one sent in time.
func (l *link) tick() {
	l.mu.Lock()
	goes, err := l.join(), l.deaf()
	l.mu.Unlock()
	if !goes {
		return
	}
	defer l.parts.Done()
	if err != nil {
		l.end(err)
		return
	}
	l.heartbeat(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wind()
}

// wind has the next heartbeat sent in time. l.mu must be held.
func (l *link) wind() {
	l.beaten = time.Now()
	every := heartbeatEvery
	if !l.dialed {
		every += beatGrace
	}
	if !l.over {
		l.n.beats.wind(l, every)
	}
}

// deaf returns an error when no heartbeat has been answered for too long. l.mu must be held.
func (l *link) deaf() error {
	if since := time.Since(l.echoed); since > deafAfter {
		return fmt.Errorf("no heartbeat answered for %v", since.Truncate(time.Second))
	}
	return nil
}

// heartbeat sends one and returns its number; done, if not nil, is told the round
// trip.
func (l *link) heartbeat(done chan time.Duration) uint64 {
	l.mu.Lock()
	n := l.newPing(done)
	l.mu.Unlock()
	l.send(wire.AppendHeartbeat(nil, wire.Heartbeat{Number: n}))
	return n
}

// newPing notes a heartbeat that is sent now. l.mu must be held.
func (l *link) newPing(done chan time.Duration) (number uint64) {
	l.beat++
	l.pings[l.beat] = &ping{time.Now(), done}
	return l.beat
}

// echo answers a heartbeat. If ours is due soon it goes along: three packets tell both ends what would take four, and each is
// woken up less often.
func (l *link) echo(number uint64) {
	out := wire.AppendHeartbeat(nil, wire.Heartbeat{Number: number, Echo: true})
	var err error
	l.mu.Lock()
	if time.Since(l.beaten) > beatAlong {
		err = l.deaf()
		out = wire.AppendHeartbeat(out, wire.Heartbeat{Number: l.newPing(nil)})
		l.wind()
	}
	l.mu.Unlock()
	l.end(err)
	l.send(out)
}

func (l *link) ping(ctx context.Context) (time.Duration, error) {
	done := make(chan time.Duration, 1)
	n := l.heartbeat(done)
	defer func() {
		l.mu.Lock()
		delete(l.pings, n)
		l.mu.Unlock()
	}()
	select {
	case d := <-done:
		return d, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-l.ctx.Done():
		return 0, fmt.Errorf("node: link to %v: %w", l.peer.ID, context.Cause(l.ctx))
	}
}

// readControl handles control frames until the stream ends.
func (l *link) readControl() error {
	r := frames{r: l.ctl, buf: l.rest}
	for {
		t, payload, err := r.next()
		if err != nil {
			return err
		}
		if err := l.control(t, payload); err != nil {
			return &protocolError{err}
		}
	}
}

// frames reads frames one by one into memory of its own.
type frames struct {
	r   io.Reader
	buf []byte
	at  int
}

// next returns a frame whose payload is valid until the next call.
func (f *frames) next() (wire.Type, []byte, error) {
	for {
		t, payload, rest, need, err := wire.Next(f.buf[f.at:])
		if err == nil {
			f.at = len(f.buf) - len(rest)
			return t, payload, nil
		}
		if !errors.Is(err, wire.ErrShort) {
			return 0, nil, &protocolError{err}
		}
		if need > maxControlFrame {
			return 0, nil, &protocolError{fmt.Errorf("%w: control frame of %d bytes, at most %d", wire.ErrTooLong, need, maxControlFrame)}
		}
		f.buf = append(f.buf[:0], f.buf[f.at:]...)
		f.at = 0
		have := len(f.buf)
		f.buf = append(f.buf, make([]byte, max(need-have, controlRead))...)
		n, err := io.ReadAtLeast(f.r, f.buf[have:], 1)
		f.buf = f.buf[:have+n]
		if err != nil {
			return 0, nil, err
		}
	}
}

// unread is what was read beyond the last frame.
func (f *frames) unread() []byte { return append([]byte(nil), f.buf[f.at:]...) }

func (l *link) control(t wire.Type, payload []byte) error {
	switch t {
	case wire.TypeOffer:
		o, err := wire.ParseOffer(payload)
		if err != nil {
			return err
		}
		return l.offer(o)
	case wire.TypeWithdraw:
		number, err := wire.ParseNumber(payload)
		if err != nil {
			return err
		}
		l.withdraw(number)
	case wire.TypeHeartbeat:
		h, err := wire.ParseHeartbeat(payload)
		if err != nil {
			return err
		}
		l.heard(h)
	case wire.TypePeers:
		peers, err := wire.ParsePeers(payload)
		if err != nil {
			return err
		}
		l.n.gossiped(l, peers)
	case wire.TypePolicy:
		text, err := wire.ParsePolicy(payload)
		if err != nil {
			return err
		}
		l.policyCame(text)
	case wire.TypeRefused:
		r, err := wire.ParseRefused(payload)
		if err != nil {
			return err
		}
		if identity.Code(r.Code) == identity.CodeIncarnation {
			l.n.rolledBack(r.Seen)
		}
		l.refused(&socket.Rejection{Code: identity.Code(clean(r.Code)), Reason: r.Reason, Remote: true})
	case wire.TypeGoAway:
		if _, err := wire.ParseText(payload); err != nil {
			return err
		}
		l.goAway()
	case wire.TypeBye:
		if err := wire.ParseEmpty(payload); err != nil {
			return err
		}
		return l.byeCame()
	default:
		return fmt.Errorf("frame 0x%02x on the control stream", byte(t))
	}
	return nil
}

// byeCame: the peer owes nothing any more.
func (l *link) byeCame() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.left {
		return errors.New("BYE without GOAWAY")
	}
	select {
	case <-l.bye:
		return errors.New("BYE twice")
	default:
		close(l.bye)
	}
	return nil
}

// heard answers a heartbeat, or takes the answer to ours.
func (l *link) heard(h wire.Heartbeat) {
	if !h.Echo {
		l.echo(h.Number)
		return
	}
	l.mu.Lock()
	p := l.pings[h.Number]
	delete(l.pings, h.Number)
	if p == nil {
		l.mu.Unlock()
		return
	}
	l.echoed = time.Now()
	l.rtt = l.echoed.Sub(p.sent)
	rtt := l.rtt
	l.mu.Unlock()
	if p.done != nil {
		p.done <- rtt
	}
}

// goAway: the peer is leaving. It ends its pipes by itself; when the last one is
// gone, nothing is owed on this side any more.
func (l *link) goAway() {
	l.mu.Lock()
	again := l.leaving
	l.leaving = true
	l.mu.Unlock()
	if again {
		return
	}
	l.n.wg.Go(func() {
		l.awaitPipes()
		l.send(wire.AppendEmpty(nil, wire.TypeBye))
	})
}

// offer notes a peer's socket and attaches the local ones that want it.
func (l *link) offer(o wire.Offer) error {
	if err := patterns.CheckName(o.Kind, o.Name); err != nil {
		return err
	}
	if clean(o.Label) != o.Label {
		return fmt.Errorf("socket %d offered with the label %q", o.Socket, o.Label)
	}
	n := l.n
	n.mu.Lock()
	defer n.mu.Unlock()
	of, err := l.addOffer(o)
	if err != nil {
		return err
	}
	for _, s := range n.senders {
		if s != nil {
			l.match(s, of)
		}
	}
	return nil
}

func (l *link) addOffer(o wire.Offer) (*offered, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := nameOf(o)
	switch {
	case l.offers[o.Socket] != nil:
		return nil, fmt.Errorf("socket %d offered twice", o.Socket)
	case l.names[name]:
		return nil, fmt.Errorf("%v %q %q offered twice", o.Kind, o.Name, o.Label)
	case len(l.offers) >= maxOffers:
		return nil, fmt.Errorf("more than %d sockets offered", maxOffers)
	}
	of := &offered{Offer: o}
	of.ctx, of.cancel = context.WithCancelCause(l.ctx)
	l.offers[o.Socket], l.names[name] = of, true
	return of, nil
}

// nameOf is what a node offers once at a time: pipes of one stream to two sockets of
// the same name would take turns in ending each other.
func nameOf(o wire.Offer) wire.Offer {
	return wire.Offer{Kind: o.Kind, Name: o.Name, Label: o.Label, Durable: o.Durable}
}

func (l *link) withdraw(number uint64) {
	l.mu.Lock()
	of := l.offers[number]
	if of != nil {
		delete(l.offers, number)
		delete(l.names, nameOf(of.Offer))
	}
	l.mu.Unlock()
	if of != nil {
		of.cancel(socket.ErrGone)
	}
}

// matchSender attaches a new local socket to what the peer offers. n.mu must be
// held.
func (l *link) matchSender(s sender) {
	l.mu.Lock()
	offers := make([]*offered, 0, len(l.offers))
	for _, of := range l.offers {
		offers = append(offers, of)
	}
	l.mu.Unlock()
	for _, of := range offers {
		l.match(s, of)
	}
}

// match keeps a pipe between s and an offer, if they have business. It is called once
// for each pair: when the later of the two comes. n.mu must be held.
func (l *link) match(s sender, of *offered) {
	if l.n.closing || !matches(s, of.Offer) || l.foreign() {
		return
	}
	l.mu.Lock()
	leaving := l.leaving
	l.mu.Unlock()
	if leaving || !l.begin() {
		return
	}
	l.n.wg.Go(func() {
		defer l.ended()
		l.keepAttached(s, of)
	})
}

// foreign reports whether the peer lives in another namespace: there are no pipes
// between the two.
func (l *link) foreign() bool { return l.hello.Namespace != l.n.cfg.Namespace }

// keepAttached runs pipes to an offer, one after the other, until the offer, the
// link or the local socket ends, or the peer refuses for good.
func (l *link) keepAttached(s sender, of *offered) {
	pause := attachRetry
	for {
		news := l.n.gate.news()
		began := time.Now()
		err := l.attach(s, of)
		if time.Since(began) > maxAttachRetry {
			pause = attachRetry
		}
		switch r := refusalToTell(err); {
		case of.ctx.Err() != nil || !l.n.has(s), r == nil && (err == nil || errors.Is(err, net.ErrClosed)):
			return // in good order: one of the two sockets is gone
		case r == nil:
		case r.Remote:
			l.n.denied(s.Kind(), s.Name(), l.peer.ID, r)
			l.refused(r)
			pause = policyRetry
		default:
			l.n.denied(s.Kind(), s.Name(), l.peer.ID, r)
			l.deny(r)
			pause = policyRetry
		}
		l.n.log.Debug("pipe lost", "peer", l.peer.ID, "kind", s.Kind(), "name", s.Name(), "err", clean(err.Error()))
		if !l.pauseAttaching(of.ctx, pause, news) {
			return
		}
		pause = min(2*pause, maxAttachRetry)
	}
}

// attach runs one pipe to an offer, if it is allowed and as long as it is.
func (l *link) attach(s sender, of *offered) error {
	ctx, leave, denied := l.n.permit(of.ctx, l, of.Kind, of.Name)
	if denied != nil {
		return denied
	}
	defer leave()
	c, err := l.openStream(ctx)
	if err == nil {
		err = s.Meet(ctx, l.peer, of.Offer, c)
	}
	if cut := cutBy(ctx); cut != nil {
		return cut
	}
	return err
}

// refusalToTell is the refusal behind the end of a pipe, if users must know: it does not pass by
// itself, or only when another node leaves.
func refusalToTell(err error) *socket.Rejection {
	var r *socket.Rejection
	switch {
	case errors.As(err, &r) && (r.Code == identity.CodePolicy || r.Code == socket.CodeNoDir):
		return r
	case errors.Is(err, patterns.ErrTaken):
		return &socket.Rejection{Code: socket.CodeTaken, Reason: err.Error()}
	case errors.Is(err, socket.ErrNotDurable):
		return &socket.Rejection{Code: socket.CodeNotDurable, Reason: err.Error()}
	}
	return nil
}

// pauseAttaching waits before the next try, or for a new policy; it reports false when
// there shall be none.
func (l *link) pauseAttaching(ctx context.Context, d time.Duration, news <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-news:
	case <-ctx.Done():
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.leaving
}

// acceptStreams serves the pipes that the peer opens. It blocks until the link has ended.
func (l *link) acceptStreams() {
	for {
		st, err := l.conn.AcceptStream(l.ctx)
		if err != nil {
			l.end(err)
			return
		}
		if !l.begin() {
			return
		}
		l.n.wg.Go(func() {
			defer l.ended()
			l.n.serve(l.ctx, l.peer, l, l.incoming(&stream{Stream: st, conn: l.conn}))
		})
	}
}

func (l *link) describe() Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := Peer{ID: l.peer.ID, Name: l.peer.Name, Namespace: l.hello.Namespace, Addr: l.conn.RemoteAddr().String(),
		Incarnation: l.peer.Incarnation, Since: l.since, RTT: l.rtt, Via: l.via(), Stripes: l.stripes.count()}
	for _, of := range l.offers {
		p.Offers = append(p.Offers, Offer{of.Kind, of.Name})
	}
	return p
}

// unlink takes the link out of the node and tells.
func (n *Node) unlink(l *link) {
	cause := context.Cause(l.ctx)
	e := l.event(Down, "", clean(cause.Error()))
	if r := refusal(cause); r != nil {
		e.Code, e.Remote = r.Code, r.Remote
	}
	n.log.Debug("link down", "peer", l.peer.ID, "name", l.peer.Name, "cause", e.Reason)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links[l.peer.ID] != l {
		return // another link took its place
	}
	delete(n.links, l.peer.ID)
	n.hub.emit(e) // with the lock held: the next link's Up must come after it
	if n.mdns != nil && !n.closing {
		n.mdns.Refresh()
	}
}

// leaveLinks tells every peer that this node goes, and waits until none owes it
// anything, or byeWait.
func (n *Node) leaveLinks() {
	n.mu.Lock()
	links := make([]*link, 0, len(n.links))
	for _, l := range n.links {
		links = append(links, l)
	}
	n.mu.Unlock()
	t := time.NewTimer(byeWait)
	defer t.Stop()
	for _, l := range links {
		l.mu.Lock()
		l.left = true
		l.mu.Unlock()
		l.send(wire.AppendText(nil, wire.TypeGoAway, "the node closes"))
	}
	late := false
	for _, l := range links {
		if late {
			break
		}
		select {
		case <-l.bye:
		case <-l.ctx.Done():
		case <-t.C:
			late = true
		}
	}
	for _, l := range links {
		l.cancel(errBye)
		l.close() // now: once the transport is closed nobody would be told
	}
}

// gossip is what a new peer should know: the addresses of the others, as far as they
// mean anything to it.
func (n *Node) gossip(to *link) []byte {
	near := isLoopback(to.conn.RemoteAddr())
	peers := make([]wire.Peer, 0, min(len(n.links), wire.MaxPeers))
	for id, l := range n.links {
		addr := l.conn.RemoteAddr()
		if id == to.peer.ID || isLoopback(addr) && !near || hasZone(addr) || len(peers) == wire.MaxPeers {
			continue
		}
		peers = append(peers, wire.Peer{Node: id, Addr: addr.String()})
	}
	if len(peers) == 0 {
		return nil
	}
	return wire.AppendPeers(nil, peers)
}

func isLoopback(a net.Addr) bool { return hostOf(a).Unmap().IsLoopback() }

func hasZone(a net.Addr) bool { return hostOf(a).Zone() != "" }

// hostOf is the IP address in a; the zero one if there is none.
func hostOf(a net.Addr) netip.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort().Addr() // without a detour by way of text: a full mesh asks this for each two links
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return ap.Addr()
}
