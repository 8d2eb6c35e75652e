package zmtp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"

	"peermesh/socket"
)

// Reasons of Stats.Dropped.
const (
	DropPeerGone    = "peer-gone"      // the peer left before its message, or the answer to it, was dealt with
	DropQueueFull   = "queue-full"     // a queue that must not make anyone wait
	DropUnasked     = "unasked"        // sent by a peer that may not send, or an answer to nothing
	DropMalformed   = "malformed"      // without the envelope that its type needs
	DropUnmatched   = "unmatched"      // published, and no peer had subscribed
	DropRefused     = "refused"        // not accepted by the mesh: too large, or by its overflow policy
	DropLate        = "late"           // the answer to a request that was over
	DropRequestFail = "request-failed" // a request that the mesh did not answer
	DropShutdown    = "shutdown"       // waited in the bridge when it closed
)

// Stats tells what an endpoint has done.
type Stats struct {
	Type    Type
	Profile Profile
	Name    string
	Addr    string // bound or connected to

	Peers    int    // connected now
	Accepted uint64 // handshakes that ended well
	Refused  uint64 // handshakes that did not
	Lost     uint64 // connections that ended

	Received  uint64 // messages from peers
	Sent      uint64 // messages written to peers
	Confirmed uint64 // of those: read by the peer's library, or where it does not tell, written
	Waiting   int    // for peers, now
	Owed      int    // written, and not confirmed, now
	Incoming  int    // from peers, not yet given to the mesh, now

	Dropped map[string]uint64 // by reason
	Stalled uint64            // times that the mesh had no room on its disk, and peers had to wait
	Err     error             // why the endpoint has stopped; nil while it runs
}

type counts struct {
	accepted, refused, lost   uint64
	received, sent, confirmed uint64
	stalled                   uint64
	dropped                   map[string]uint64
	err                       error
}

var errStopped = fmt.Errorf("zmtp: the endpoint has stopped: %w", net.ErrClosed)

// A hub is what the peers of one endpoint share: their lanes, and whose turn it is.
type hub struct {
	end  Endpoint
	addr string

	// onSubscribe is told of each first subscription and last cancellation of a lane, with the mutex held; nil: not PUB.
	onSubscribe func(l *lane, on bool, prefix string)
	// onPeers is told when the number of connected peers changes, with the mutex held. It must not block.
	onPeers func(connected int)
	// settle is told what became of messages of the mesh that all met the same fate, with no lock held. It must not block.
	settle func(ms []*socket.Message, f fate)
	// greet is what a new connection says first; with the mutex held.
	greet func(c *conn) []byte

	mu      sync.Mutex
	lanes   []*lane // in the order of their coming
	turn    int     // whose turn it is to be sent to
	ready   []*lane // those with something in
	inTurn  int     // whose turn it is to be taken from
	taken   int     // by the last take, and perhaps not dealt with
	more    socket.Event
	changed socket.Event // room in some lane, or other lanes
	stats   counts
	names   uint64 // identities made up
	peers   int    // connected
	closed  bool
}

func newHub(e Endpoint) *hub {
	return &hub{end: e, stats: counts{dropped: make(map[string]uint64)}}
}

// standing makes the lane of a connecting endpoint.
func (h *hub) standing() *lane {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &lane{id: h.invent(), standing: true}
	h.lanes = append(h.lanes, l)
	h.changed.Fire() // at profile classic it takes messages from now on
	return l
}

// invent makes up an identity. Peers cannot take one that begins with zero.
func (h *hub) invent() string {
	h.names++
	return "\x00" + strconv.FormatUint(h.names, 10)
}

// attach gives a connection its lane: the one that stands, or a new one.
func (h *hub) attach(nc net.Conn, peer hello, l *lane) (*conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errStopped
	}
	if l == nil {
		l = &lane{id: h.invent()}
		h.lanes = append(h.lanes, l)
	}
	if id := peer.identity; id != "" && !slices.ContainsFunc(h.lanes, func(o *lane) bool { return o.id == id }) {
		l.id = id
	}
	c := newConn(nc, h, l, peer)
	l.conn = c
	h.stats.accepted++
	h.peers++
	if h.greet != nil {
		c.say(h.greet(c))
	}
	if h.onPeers != nil {
		h.onPeers(h.peers)
	}
	h.changed.Fire()
	return c, nil
}

// detach ends what a connection leaves behind.
func (h *hub) detach(c *conn) {
	h.mu.Lock()
	l := c.lane
	l.conn = nil
	h.stats.lost++
	h.peers--
	settled := l.giveUp(l.standing && h.end.Profile == Classic)
	if !l.standing {
		h.lanes = slices.DeleteFunc(h.lanes, func(o *lane) bool { return o == l })
		if h.end.Profile == Classic {
			h.drop(DropPeerGone, l.in.len())
			l.in, l.inBytes = fifo[message]{}, 0
			h.ready = slices.DeleteFunc(h.ready, func(o *lane) bool { return o == l })
		}
	}
	for _, prefix := range l.subs.all() {
		if h.onSubscribe != nil {
			h.onSubscribe(l, false, prefix)
		}
	}
	l.subs = prefixes{}
	if h.onPeers != nil {
		h.onPeers(h.peers)
	}
	h.changed.Fire()
	h.mu.Unlock()
	h.tell(settled)
}

// came queues what a peer has sent. While there is no room it blocks: then the peer is not read, and its own queue fills.
// Only at profile classic, a SUB or XSUB drops.
func (h *hub) came(c *conn, ms []message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.received += uint64(len(ms))
	switch h.end.Type {
	case PUSH:
		h.drop(DropUnasked, len(ms))
		return nil
	case SUB, XSUB:
		if h.end.Profile == Classic && c.lane.brimming(&h.end) {
			h.drop(DropQueueFull, len(ms))
			return nil
		}
	}
	if err := h.wait(c); err != nil {
		h.drop(DropPeerGone, len(ms))
		return err
	}
	if h.end.Type == PUB || h.end.Type == XPUB {
		return h.upstream(c, ms)
	}
	h.give(c.lane, ms)
	return nil
}

// wait waits until there is room for what a peer sends. The mutex must be held; it is given up meanwhile.
func (h *hub) wait(c *conn) error {
	for c.lane.brimming(&h.end) {
		wait := h.changed.Wait()
		h.mu.Unlock()
		select {
		case <-wait:
		case <-c.done:
		}
		h.mu.Lock()
		select {
		case <-c.done:
			return net.ErrClosed
		default:
		}
	}
	return nil
}

// give queues what has come for take. The mutex must be held.
func (h *hub) give(l *lane, ms []message) {
	if l.in.len() == 0 {
		h.ready = append(h.ready, l)
	}
	l.give(ms)
	h.more.Fire()
}

// upstream hears what a subscriber sends: subscriptions, as peers of version 3.0 write them, and what else there is, which is
// queued only where somebody hears it. The mutex must be held.
func (h *hub) upstream(c *conn, ms []message) error {
	for _, m := range ms {
		switch {
		case len(m) == 1 && len(m[0]) > 0 && m[0][0] <= 1:
			if err := h.subscribed(c, m[0][0] == 1, string(m[0][1:])); err != nil {
				return err
			}
		case h.end.Type == PUB || h.end.Upstream == "":
			h.drop(DropUnasked, 1)
		default:
			h.give(c.lane, []message{m})
		}
	}
	return nil
}

// subscribe hears a SUBSCRIBE or CANCEL.
func (h *hub) subscribe(c *conn, on bool, prefix string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end.Type != PUB && h.end.Type != XPUB {
		h.drop(DropUnasked, 1)
		return nil
	}
	if err := h.wait(c); err != nil {
		return err
	}
	return h.subscribed(c, on, prefix)
}

func (h *hub) subscribed(c *conn, on bool, prefix string) error {
	var changed bool
	if on {
		var err error
		if changed, err = c.lane.subs.add(prefix); err != nil {
			return err
		}
	} else {
		changed = c.lane.subs.remove(prefix)
	}
	if changed && h.onSubscribe != nil {
		h.onSubscribe(c.lane, on, prefix)
	}
	return nil
}

// An arrival is a message and the lane it came by.
type arrival struct {
	from *lane
	message
}

// take waits for messages and appends up to n of them, one from each lane in turn. It blocks until there is one or ctx
// ends. What was taken before is dealt with.
func (h *hub) take(ctx context.Context, dst []arrival, n int) ([]arrival, error) {
	h.mu.Lock()
	if h.taken = 0; len(h.ready) == 0 {
		h.changed.Fire() // see drained
	}
	for len(h.ready) == 0 {
		wait := h.more.Wait()
		h.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return dst, context.Cause(ctx)
		}
		h.mu.Lock()
	}
	defer h.mu.Unlock()
	room := false
	for len(dst) < n && len(h.ready) > 0 {
		if h.inTurn >= len(h.ready) {
			h.inTurn = 0
		}
		l := h.ready[h.inTurn]
		before := l.brimming(&h.end)
		dst = append(dst, arrival{l, l.take()})
		room = room || before && !l.brimming(&h.end)
		if l.in.len() == 0 {
			h.ready = slices.Delete(h.ready, h.inTurn, h.inTurn+1)
		} else {
			h.inTurn++
		}
	}
	h.taken = len(dst)
	if room {
		h.changed.Fire()
	}
	return dst, nil
}

// serves reports whether a lane takes messages: its peer is connected, or may be later and RFC 30 has them wait for it.
func (h *hub) serves(l *lane) bool {
	return l.conn != nil || l.standing && h.end.Profile == Classic
}

// offer puts a message into the queue of the next lane that is available, in turns. It reports whether there was one, and
// whether there is any peer that could have room later. The mutex must be held.
func (h *hub) offer(o outgoing) (put *lane, any bool) {
	for i := range h.lanes {
		at := (h.turn + i) % len(h.lanes)
		l := h.lanes[at]
		if !h.serves(l) {
			continue
		}
		any = true
		if l.full(&h.end, o.bytes) {
			continue
		}
		h.turn = at + 1
		l.put(o)
		return l, true
	}
	return nil, any
}

var errNoPeer = errors.New("zmtp: no ZeroMQ peer is connected")

// assign puts messages into queues of peers, each in that of one, in turns among those with room, and returns how many it
// has put. It blocks until there is room for all; without any peer it waits for one, or if now is set the error is
// errNoPeer. Otherwise only ctx ends the wait.
func (h *hub) assign(ctx context.Context, os []outgoing, now bool) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n < len(os) {
		l, any := h.offer(os[n])
		switch {
		case l != nil:
			n++
			continue
		case !any && now:
			return n, errNoPeer
		}
		if err := h.await(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}

// assignTo is assign for one message, and sets to, which the mutex guards, in the same step.
func (h *hub) assignTo(ctx context.Context, o outgoing, now bool, to **lane) (*lane, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		l, any := h.offer(o)
		switch {
		case l != nil:
			*to = l
			return l, nil
		case !any && now:
			return nil, errNoPeer
		}
		if err := h.await(ctx); err != nil {
			return nil, err
		}
	}
}

// await waits until something has changed, or ctx ends. The mutex must be held; it is given up meanwhile.
func (h *hub) await(ctx context.Context) error {
	wait := h.changed.Wait()
	h.mu.Unlock()
	defer h.mu.Lock()
	select {
	case <-wait:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// room is how many messages, and of how many bytes, assign would put at once: at least one.
func (h *hub) room() (messages, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.lanes {
		if h.serves(l) {
			messages += max(h.end.Queue-l.out.len(), 0)
			bytes += max(h.end.QueueBytes-l.outBytes, 0)
		}
	}
	return max(messages, 1), max(bytes, 1)
}

// put queues a message for one lane, without waiting. If that has no room or is gone the message is dropped and counted.
// The mutex must be held.
func (h *hub) put(l *lane, o outgoing) bool {
	switch {
	case !h.serves(l):
		h.drop(DropPeerGone, 1)
	case l.full(&h.end, o.bytes):
		h.drop(DropQueueFull, 1)
	default:
		l.put(o)
		return true
	}
	return false
}

// read settles what a lane was owed, and appends that to dst. The mutex must be held.
func (h *hub) read(dst []settlement, l *lane, n int) []settlement {
	h.stats.confirmed += uint64(n)
	h.changed.Fire()
	return l.read(dst, n)
}

// drop counts. The mutex must be held.
func (h *hub) drop(reason string, n int) {
	if n > 0 {
		h.stats.dropped[reason] += uint64(n)
	}
}

// count is drop for those who do not hold the mutex.
func (h *hub) count(reason string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(reason, n)
}

// fail says why the endpoint has stopped.
func (h *hub) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stats.err == nil {
		h.stats.err = err
	}
}

// close ends all connections; no new ones begin.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	lanes := slices.Clone(h.lanes)
	var conns []*conn
	for _, l := range lanes {
		if l.conn != nil {
			conns = append(conns, l.conn)
		}
	}
	h.mu.Unlock()
	for _, c := range conns {
		c.end(errStopped)
	}
}

// clear counts and settles what nobody will take any more, when everything has stopped.
func (h *hub) clear() {
	h.mu.Lock()
	var settled []settlement
	for _, l := range h.lanes {
		settled = append(settled, l.giveUp(false)...)
	}
	for _, l := range h.ready {
		h.drop(DropShutdown, l.in.len())
	}
	h.lanes, h.ready = nil, nil
	h.mu.Unlock()
	h.tell(settled)
}

// drained waits until nothing waits for a connected peer and nothing is owed by one, or ctx ends.
func (h *hub) drained(ctx context.Context) error {
	for {
		h.mu.Lock()
		busy := len(h.ready)+h.taken > 0 || slices.ContainsFunc(h.lanes, func(l *lane) bool {
			return l.conn != nil && l.out.len() > 0
		})
		wait := h.changed.Wait()
		h.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (h *hub) snapshot() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Stats{
		Type: h.end.Type, Profile: h.end.Profile, Name: h.end.Name, Addr: h.addr, Peers: h.peers,
		Accepted: h.stats.accepted, Refused: h.stats.refused, Lost: h.stats.lost,
		Received: h.stats.received, Sent: h.stats.sent, Confirmed: h.stats.confirmed,
		Stalled: h.stats.stalled, Dropped: maps.Clone(h.stats.dropped), Err: h.stats.err,
	}
	for _, l := range h.lanes {
		s.Waiting += l.waiting()
		s.Owed += l.owed
	}
	for _, l := range h.ready {
		s.Incoming += l.in.len()
	}
	return s
}
