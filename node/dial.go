package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"peermesh/discovery"
	"peermesh/internal/identity"
	"peermesh/internal/wire"
)

const (
	firstRedial  = 200 * time.Millisecond
	staticRedial = time.Second     // the longest pause for a static peer
	foundRedial  = 2 * time.Second // while discovery still shows the peer
	// stagger is the head start of one address of a node over the next (RFC 8305).
	stagger = 150 * time.Millisecond
	// courtesy lets the node with the lower id dial first, so that dials seldom cross.
	courtesy = 300 * time.Millisecond
	// gossipTries bounds the dials of a node known only by hearsay, provenTries of one
	// that has been linked: some ten minutes.
	gossipTries = 10
	provenTries = 150
	// maxRumours bounds the nodes known only by hearsay, hearsayDials how many of them
	// are dialled at a time: a peer that lies makes this node send little.
	maxRumours   = 1024
	hearsayDials = 64
	// maxTargets bounds the nodes that are kept linked.
	maxTargets = 4096
	// dialTurns bounds the handshakes that were begun here within dialTurn and are not over: what many at a time leave behind
	// lies between what stays of them, and the first of so many is over late. One that takes longer waits for the
	// network, and keeps nobody. Nobody waits longer than dialPatience, however many addresses are dead.
	dialTurns    = 4
	dialTurn     = 10 * time.Millisecond
	dialPatience = 200 * time.Millisecond
	// maxVerdicts bounds the addresses of which the last verdict is kept.
	maxVerdicts = 8192
	// maxHearsay and maxPlaces bound the addresses of one node, hearsay and all.
	maxHearsay = 8
	maxPlaces  = 64
	// refusedRedial is how long a peer's refusal for identity keeps it from being dialled
	// while discovery still shows it.
	refusedRedial = 5 * time.Second
	// steady tells a link that worked from one that is redialled like a failed dial.
	steady = 5 * time.Second
)

// sourcePeers is the source of addresses that peers told.
const sourcePeers = "peers"

// target is a node, or while its id is not known an address, that is kept linked.
type target struct {
	key    string
	id     ID // zero: not known yet
	static bool
	byAddr bool // known by address: another node may take its place
	cancel context.CancelFunc
	wake   chan struct{}

	// Guarded by Node.mu, as is id.
	tries  int  // left, for hearsay; <0: no bound
	rumour bool // hearsay, and never linked
	addrs  map[string]place
	unheed func() bool // while it is linked: the end of the link is of no interest any more
}

type place struct {
	addr   net.Addr
	source string
	iface  string
}

// Candidate is an address where a node may be, and what came of trying it.
type Candidate struct {
	Node      string // its id, "" while unknown
	Addr      string
	Source    string // mdns, static or peers
	Interface string
	Verdict   string // linked, or why not; "" before the first try
	Code      identity.Code
	At        time.Time // of the verdict
}

type verdictKey struct{ addr, source, iface string }

// Candidates lists every address known, with its last verdict, by address.
func (n *Node) Candidates() []Candidate {
	n.mu.Lock()
	out := slices.Collect(maps.Values(n.verdicts))
	n.mu.Unlock()
	slices.SortFunc(out, func(a, b Candidate) int {
		return strings.Compare(a.Addr+a.Source+a.Interface, b.Addr+b.Source+b.Interface)
	})
	return out
}

// Problem is why discovery works less well than it could. It never stops a node.
type Problem struct {
	Source    string
	Interface string // "" when it concerns all
	Err       error
}

// Problems lists what stands in the way of discovery now.
func (n *Node) Problems() []Problem {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.problems))
}

// discover starts the sources of addresses.
func (n *Node) discover() error {
	var err error
	if n.static, err = discovery.NewStatic(n.cfg.Peers, n.discovered); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	run := func(source string, f func(context.Context) error) {
		n.wg.Go(func() {
			if err := f(n.ctx); err != nil && n.ctx.Err() == nil {
				n.problem(source, "", err)
			}
		})
	}
	if len(n.cfg.Peers) > 0 {
		run(discovery.SourceStatic, n.static.Run)
	}
	if n.cfg.NoMDNS || n.cfg.PacketConn != nil {
		return nil
	}
	n.mdns = discovery.NewMDNS(discovery.MDNSConfig{Advert: n.advert, Linked: n.linkedTo, Handle: n.discovered, Logger: n.log,
		Allow: n.cfg.MDNSAllow, Deny: n.cfg.MDNSDeny})
	run(discovery.SourceMDNS, n.mdns.Run)
	return nil
}

func (n *Node) advert() discovery.Advert {
	a := discovery.Advert{Node: n.ID().String(), Mesh: n.mesh.Hash8(), Incarnation: n.local.Incarnation, Nonce: [4]byte(n.local.Nonce[:4])}
	if ap, err := netip.ParseAddrPort(n.Addr().String()); err == nil {
		a.Port = ap.Port()
		if ip := ap.Addr(); !ip.IsUnspecified() {
			a.Addrs = []netip.Addr{ip.Unmap()}
		}
	}
	return a
}

func (n *Node) linkedTo(node string) bool {
	id, err := identity.ParseID(node)
	if err != nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[id] != nil
}

// discovered takes the news of a discovery source.
func (n *Node) discovered(e discovery.Event) {
	c := e.Candidate
	switch e.Kind {
	case discovery.Problem:
		n.problem(c.Source, e.Interface, e.Err)
	case discovery.Solved:
		n.mu.Lock()
		delete(n.problems, c.Source+" "+e.Interface)
		n.mu.Unlock()
	case discovery.Found:
		n.found(c)
	case discovery.Lost:
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.verdicts, verdictKey{c.Addr.String(), c.Source, c.Interface}) // of other interfaces too
		for _, t := range n.targets {
			if p, ok := t.addrs[c.Addr.String()]; ok && p.source == c.Source && (t.key == keyOf(c) || c.Node == "") {
				n.forsake(t, p)
			}
		}
	}
}

// forsake takes from a target an address that discovery does not show any more, or
// where another node was found. n.mu must be held.
func (n *Node) forsake(t *target, p place) {
	delete(n.verdicts, p.key())
	delete(t.addrs, p.addr.String())
	for _, p := range t.addrs {
		if p.found() {
			return
		}
	}
	switch {
	case len(t.addrs) == 0:
		n.dropTarget(t)
	case t.tries < 0:
		t.tries = provenTries // only hearsay is left
	}
}

// dropTarget ends a target. n.mu must be held.
func (n *Node) dropTarget(t *target) {
	if n.targets[t.key] != t {
		return
	}
	delete(n.targets, t.key)
	n.unrumour(t)
	for _, p := range t.addrs {
		delete(n.verdicts, p.key())
	}
	t.cancel()
	if t.unheed != nil && t.unheed() {
		n.wg.Done()
	}
}

// unrumour: a target was linked, or discovery shows it, or it is gone. n.mu must be
// held.
func (n *Node) unrumour(t *target) {
	if t.rumour {
		t.rumour = false
		n.rumours--
	}
}

// found reports whether a discovery source of this node shows the place.
func (p place) found() bool { return p.source != sourcePeers }

func (p place) key() verdictKey { return verdictKey{p.addr.String(), p.source, p.iface} }

func (n *Node) problem(source, iface string, err error) {
	n.log.Warn("discovery", "source", source, "interface", iface, "err", err)
	n.mu.Lock()
	n.problems[source+" "+iface] = Problem{source, iface, err}
	n.mu.Unlock()
	var dup *discovery.DuplicateError
	if errors.As(err, &dup) {
		n.hub.emit(PeerEvent{State: Refused, ID: n.ID(), Addr: dup.Other.Addr.String(), Code: identity.CodeDuplicate, Reason: clean(err.Error())})
	}
}

func keyOf(c discovery.Candidate) string {
	if c.Node != "" {
		return c.Node
	}
	return c.Addr.String()
}

// found notes a candidate and keeps its node linked.
func (n *Node) found(c discovery.Candidate) {
	var id ID
	if c.Node != "" {
		var err error
		if id, err = identity.ParseID(c.Node); err != nil || id == n.ID() {
			return
		}
	}
	p := place{net.UDPAddrFromAddrPort(c.Addr), c.Source, c.Interface}
	switch {
	case c.Source == discovery.SourceMDNS && c.Mesh != n.mesh.Hash8():
		n.verdict(p, c.Node, &identity.Refusal{Code: identity.CodeMesh, Reason: "it advertises another mesh"})
		return
	case c.Source == discovery.SourceMDNS && c.Version != 0 && c.Version != wire.Version:
		n.verdict(p, c.Node, &identity.Refusal{Code: identity.CodeVersion, Reason: fmt.Sprintf("it advertises version %d", c.Version)})
		return
	}
	n.aim(keyOf(c), id, p)
}

// gossiped takes addresses that a peer told. They are hearsay: tried a few times.
func (n *Node) gossiped(from *link, peers []wire.Peer) {
	if n.cfg.NoHearsay {
		return
	}
	near := isLoopback(from.conn.RemoteAddr())
	for _, p := range peers {
		addr, err := netip.ParseAddrPort(p.Addr)
		id := ID(p.Node)
		if err != nil || id == n.ID() || !plausible(addr, near) {
			continue
		}
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		n.aim(id.String(), id, place{net.UDPAddrFromAddrPort(addr), sourcePeers, ""})
	}
}

// plausible reports whether a peer, on this host or another, can have reached a node
// there. Nobody makes this node send to a whole network, or to services of its own
// host.
func plausible(ap netip.AddrPort, near bool) bool {
	a := ap.Addr().Unmap()
	return ap.Port() != 0 && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && (near || !a.IsLoopback())
}

// aim makes sure that somebody dials the target, at p among other places.
func (n *Node) aim(key string, id ID, p place) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.targets[key]
	switch {
	case t != nil:
		if !n.addPlace(t, p) {
			return
		}
	case n.closing || len(n.targets) >= maxTargets || !p.found() && n.rumours >= maxRumours:
		return
	default:
		n.newTarget(key, id, p)
	}
	if _, known := n.verdicts[p.key()]; !known && len(n.verdicts) < maxVerdicts {
		c := Candidate{Addr: p.addr.String(), Source: p.source, Interface: p.iface}
		if id != (ID{}) {
			c.Node = id.String()
		}
		n.verdicts[p.key()] = c
	}
}

// addPlace notes a further address of a target, within bounds. What a peer told takes
// the place of nothing. n.mu must be held.
func (n *Node) addPlace(t *target, p place) bool {
	old, known := t.addrs[p.addr.String()]
	room := maxHearsay
	if p.found() {
		t.tries = -1
		n.unrumour(t)
		room = maxPlaces
	}
	switch {
	case known && !p.found(), !known && len(t.addrs) >= room:
		return false
	case known && !old.found():
		delete(n.verdicts, old.key())
	}
	t.addrs[p.addr.String()] = p
	t.kick()
	return true
}

// newTarget begins to keep a node linked. n.mu must be held and the node not closing.
func (n *Node) newTarget(key string, id ID, p place) {
	ctx, cancel := context.WithCancel(n.ctx)
	t := &target{key: key, id: id, static: p.source == discovery.SourceStatic, byAddr: id == ID{}, cancel: cancel,
		wake: make(chan struct{}, 1), tries: -1, addrs: map[string]place{p.addr.String(): p}}
	if !p.found() {
		t.tries, t.rumour = gossipTries, true
		n.rumours++
	}
	n.targets[key] = t
	pause := time.Duration(0)
	if id != (ID{}) && n.ID().Compare(id) > 0 {
		pause = courtesy
	}
	n.wg.Go(func() { n.keepLinked(ctx, t, pause) })
}

func (t *target) kick() {
	select {
	case t.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// verdict notes what came of a place.
func (n *Node) verdict(p place, node string, err error) {
	c := Candidate{Node: node, Addr: p.addr.String(), Source: p.source, Interface: p.iface, Verdict: "linked", At: time.Now()}
	if err != nil {
		c.Verdict = clean(err.Error())
	}
	if r := refusal(err); r != nil {
		c.Code, c.Verdict = r.Code, clean(r.Reason)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if old, known := n.verdicts[p.key()]; known && c.Node == "" {
		c.Node = old.Node
	} else if !known && len(n.verdicts) >= maxVerdicts {
		return
	}
	n.verdicts[p.key()] = c
}

// keepLinked dials a target after a pause, again and again until there is a link to it. The end of
// that one begins it anew, until the target is forgotten; in between no goroutine waits.
func (n *Node) keepLinked(ctx context.Context, t *target, pause time.Duration) {
	l, pause := n.findLink(ctx, t, pause)
	if l == nil {
		t.cancel()
		return
	}
	n.proven(t)
	n.mu.Lock()
	defer n.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	n.wg.Add(1)
	t.unheed = context.AfterFunc(l.ctx, func() {
		defer n.wg.Done()
		if time.Since(l.since) > steady {
			pause = firstRedial
		}
		n.keepLinked(ctx, t, pause)
	})
}

// findLink dials a target until there is a link to it and returns that, with the pause to make
// when it ends soon. There is none when ctx has ended, the target is this node itself, or all of
// it was hearsay.
func (n *Node) findLink(ctx context.Context, t *target, pause time.Duration) (*link, time.Duration) {
	longest := foundRedial
	if t.static {
		longest = staticRedial
	}
	for t.rest(ctx, jitter(pause)) {
		l, err := n.linkTo(n.idOf(t)), error(nil)
		if l == nil {
			l, err = n.dialPlaces(ctx, t)
		}
		pause = min(max(2*pause, firstRedial), longest)
		switch {
		case isSelf(err) || ctx.Err() != nil:
			return nil, 0
		case l != nil:
			return l, pause
		case refusal(err) != nil && !t.static && !superseded(err):
			pause = refusedRedial
		}
		if n.hearsayOver(t) {
			return nil, 0
		}
	}
	return nil, 0
}

// proven: a target was linked, so what was hearsay was true.
func (n *Node) proven(t *target) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unrumour(t)
	if t.tries >= 0 {
		t.tries = provenTries
	}
}

// hearsayOver counts down the tries of a target that only peers told of.
func (n *Node) hearsayOver(t *target) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.tries < 0 {
		return false
	}
	if t.tries--; t.tries > 0 {
		return false
	}
	n.dropTarget(t)
	return true
}

// isSelf reports whether this node found that it dialled itself. The other side's
// word for it is not enough: it would make us give up somebody else.
func isSelf(err error) bool {
	r := refusal(err)
	return r != nil && r.Code == codeSelf && !r.Remote
}

func superseded(err error) bool {
	return errors.Is(err, &identity.Refusal{Code: identity.CodeSuperseded})
}

// rest waits for a pause to pass, or a new address of the target.
func (t *target) rest(ctx context.Context, pause time.Duration) bool {
	if pause == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// jitter spreads d by a quarter either way, so that peers do not move in step.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(rand.Int64N(int64(d)/2+1))
}

func (n *Node) idOf(t *target) ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return t.id
}

func (n *Node) linkTo(id ID) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[id]
}

// dialPlaces tries a target's addresses, each with a head start over the next, and
// returns the first link.
func (n *Node) dialPlaces(ctx context.Context, t *target) (*link, error) {
	n.mu.Lock()
	places, id := slices.Collect(maps.Values(t.addrs)), t.id
	n.mu.Unlock()
	slices.SortFunc(places, byTrust)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	links, errs := make([]*link, len(places)), make([]error, len(places))
	var wg sync.WaitGroup
	for i, p := range places {
		wg.Go(func() {
			links[i], errs[i] = n.dialPlace(ctx, t, p, time.Duration(i)*stagger)
			if links[i] != nil || n.linkTo(id) != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	var failed error
	for i, l := range links {
		if l != nil {
			return l, nil
		}
		if failed == nil || refusal(errs[i]) != nil {
			failed = errs[i]
		}
	}
	return nil, failed
}

// byTrust orders the places that this node's discovery shows before hearsay.
func byTrust(a, b place) int {
	switch {
	case a.found() && !b.found():
		return -1
	case b.found() && !a.found():
		return 1
	}
	return strings.Compare(a.addr.String(), b.addr.String())
}

// dialPlace dials p after a while, for hearsay when there is room, and tells what came
// of it.
func (n *Node) dialPlace(ctx context.Context, t *target, p place, after time.Duration) (*link, error) {
	if after > 0 {
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if !p.found() {
		select {
		case n.hearsay <- struct{}{}:
			defer func() { <-n.hearsay }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	over, err := n.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer over()
	want := n.idOf(t)
	if t.byAddr {
		want = ID{} // whoever listens there now
	}
	l, who, err := n.dial(ctx, p.addr, want)
	n.judged(ctx, t, p, who.ID, l, err)
	if tells(err) && (p.found() || n.refused.take()) {
		n.tell(p.addr, who, refusal(err))
	}
	return l, err
}

// turn waits until few of the handshakes that this node began are new, or long enough. over must be called once this one is over.
func (n *Node) turn(ctx context.Context) (over func(), err error) {
	patience := time.NewTimer(dialPatience)
	defer patience.Stop()
	select {
	case n.turns <- struct{}{}:
	case <-patience.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	next := func() { <-n.turns }
	late := time.AfterFunc(dialTurn, next)
	return func() {
		if late.Stop() {
			next()
		}
	}, nil
}

// judged notes what came of dialling p, where who was.
func (n *Node) judged(ctx context.Context, t *target, p place, who ID, l *link, err error) {
	switch {
	case l != nil || superseded(err) && who != ID{}: // another link to the same node stays
		n.mu.Lock()
		t.id = who
		n.mu.Unlock()
		n.verdict(p, who.String(), nil)
	case !p.found() && who != ID{} && who != n.idOf(t): // it was not true
		n.mu.Lock()
		n.forsake(t, p)
		n.mu.Unlock()
	case isSelf(err) || ctx.Err() == nil:
		n.verdict(p, "", err)
	}
}
