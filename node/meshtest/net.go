package meshtest

import (
	"container/heap"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// defaultQueue holds about as much as the 7 MB that quic-go asks of a kernel socket.
	defaultQueue = 5000
	// maxFlying bounds the packets under way on one link; 10 Gbit/s with 50 ms of delay keeps fewer in the air.
	maxFlying = 1 << 16
	// firstPort to lastPort are given to sockets that ask for port 0.
	firstPort, lastPort = 49152, 65535
)

// NetConfig describes a network. The zero NetConfig is a perfect one.
type NetConfig struct {
	Seed    uint64 // decides all that is left to chance
	Default Link   // every link without one of its own
	Queue   int    // packets that wait in a socket for ReadFrom; more are dropped. 0 means 5000
}

// Net is a simulated network. It runs one goroutine, until Close. All methods may be called concurrently, and none
// blocks. Made inside a synctest bubble, it must be used and closed in that bubble.
type Net struct {
	seed  uint64
	queue int

	timer *time.Timer // fires when the first of flying is due
	done  chan struct{}
	wg    sync.WaitGroup

	mu       sync.Mutex
	fallback Link
	conns    map[netip.AddrPort]*conn
	paths    map[hosts]*path
	flows    map[sockets]*flow
	isolated map[netip.Addr]bool
	flying   flight
	launched uint64    // packets ever put into flying
	armed    time.Time // what timer is set to; zero if it is not
	closed   bool
}

// hosts is a direction between hosts, sockets one between sockets.
type (
	hosts   struct{ from, to netip.Addr }
	sockets struct{ from, to netip.AddrPort }
)

// path is the state of one link.
type path struct {
	hosts
	own    *Link     // set by SetLink; nil means the default
	cut    bool      // by Partition
	free   time.Time // when the last packet accepted under Link.Rate has left
	last   time.Time // latest arrival so far of packets that keep their order
	counts Stats
}

// flow is one socket's packets to another: the sequence that chance is drawn along.
type flow struct {
	path *path
	key  uint64
	sent uint64
}

// packet is a datagram under way, or waiting in a socket.
type packet struct {
	body []byte
	from *net.UDPAddr
	to   netip.AddrPort
	path *path

	at    time.Time // when it arrives
	order uint64    // decides between equal times
}

// packets keeps bodies for reuse: a busy simulation moves hundreds of thousands a second.
var packets = sync.Pool{New: func() any { return new(packet) }}

func (p *packet) free() {
	*p = packet{body: p.body[:0]}
	packets.Put(p)
}

// NewNet makes a network and starts its goroutine. It panics if a field of cfg is out of range.
func NewNet(cfg NetConfig) *Net {
	if cfg.Queue < 0 {
		panic(fmt.Sprintf("meshtest: NetConfig.Queue is %d", cfg.Queue))
	}
	if cfg.Queue == 0 {
		cfg.Queue = defaultQueue
	}
	mustBeValid(cfg.Default)
	n := &Net{
		seed:     cfg.Seed,
		queue:    cfg.Queue,
		timer:    time.NewTimer(time.Hour),
		done:     make(chan struct{}),
		fallback: cfg.Default,
		conns:    make(map[netip.AddrPort]*conn),
		paths:    make(map[hosts]*path),
		flows:    make(map[sockets]*flow),
		isolated: make(map[netip.Addr]bool),
	}
	n.timer.Stop()
	n.wg.Go(n.run)
	return n
}

// Listen opens the socket addr, a host's address and a port. Port 0 picks a free one from 49152 up. The error matches
// syscall.EADDRINUSE when the address is taken and net.ErrClosed after Close. The socket works in both directions and
// is safe for concurrent use; its addresses are *net.UDPAddr. Closing it frees the address.
func (n *Net) Listen(addr netip.AddrPort) (net.PacketConn, error) {
	c, err := n.listen(unmap(addr))
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Source: net.UDPAddrFromAddrPort(addr), Err: err}
	}
	return c, nil
}

func (n *Net) listen(addr netip.AddrPort) (*conn, error) {
	if !addr.IsValid() || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() {
		return nil, errors.New("a simulated socket needs the address of one host")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, net.ErrClosed
	}
	if addr.Port() == 0 {
		addr = n.freePort(addr.Addr())
	}
	if addr.Port() == 0 || n.conns[addr] != nil {
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	c := newConn(n, addr)
	n.conns[addr] = c
	return c, nil
}

// freePort finds host a port, or port 0 if all are taken. n.mu must be held.
func (n *Net) freePort(host netip.Addr) netip.AddrPort {
	for port := firstPort; port <= lastPort; port++ {
		if addr := netip.AddrPortFrom(host, uint16(port)); n.conns[addr] == nil {
			return addr
		}
	}
	return netip.AddrPortFrom(host, 0)
}

// release frees the address of c.
func (n *Net) release(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns[c.local] == c { // a second Close must not free the address for its next owner
		delete(n.conns, c.local)
	}
}

// SetLink gives the link from one host to another its own settings, that direction only, in place of the default.
// Packets under way keep the arrival they have, so later ones may overtake them. It panics if a field of l is out of
// range.
func (n *Net) SetLink(from, to netip.Addr, l Link) {
	mustBeValid(l)
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.path(hosts{from.Unmap(), to.Unmap()})
	p.own = &l
	p.forget()
}

// SetDefault changes all links that have no settings of their own, like SetLink.
func (n *Net) SetDefault(l Link) {
	mustBeValid(l)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fallback = l
	for _, p := range n.paths {
		if p.own == nil {
			p.forget()
		}
	}
}

// forget starts a link over after a change of settings: nothing queued at the old rate or delay holds up what follows.
func (p *path) forget() { p.free, p.last = time.Time{}, time.Time{} }

// Partition cuts every host in a from every host in b, both ways, until Heal. From its return on nothing crosses; what
// was under way and falls due meanwhile is dropped too. Partitions add up.
func (n *Net) Partition(a, b []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			n.path(hosts{x.Unmap(), y.Unmap()}).cut = true
			n.path(hosts{y.Unmap(), x.Unmap()}).cut = true
		}
	}
}

// Isolate cuts host from all other hosts, present and future, until Heal. Its own sockets still reach each other.
func (n *Net) Isolate(host netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isolated[host.Unmap()] = true
}

// Heal ends all partitions and isolations. It leaves links as they are.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.isolated)
	for _, p := range n.paths {
		p.cut = false
	}
}

// Close stops the network and closes its sockets; packets under way are dropped. A second call does nothing.
func (n *Net) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	close(n.done)
	for _, c := range n.conns {
		c.end()
	}
	clear(n.conns)
	for _, p := range n.flying {
		p.path.counts.Flying--
		p.path.counts.Nobody++
	}
	n.flying = nil
	n.mu.Unlock()
	n.timer.Stop()
	n.wg.Wait()
	return nil
}

// run delivers packets when they are due.
func (n *Net) run() {
	for {
		select {
		case <-n.done:
			return
		case <-n.timer.C:
			n.mu.Lock()
			n.armed = time.Time{}
			n.deliver(time.Now())
			n.mu.Unlock()
		}
	}
}

// send puts a copy of body on its way from c.
func (n *Net) send(c *conn, body []byte, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.conns[c.local] != c { // a killed process sends nothing
		return
	}
	f := n.flow(sockets{c.local, to})
	path, link := f.path, n.link(f.path)
	fate := link.fate(f.key, f.sent)
	f.sent++
	path.counts.Sent++
	path.counts.SentBytes += uint64(len(body))

	now := time.Now()
	size := ipSize(len(body), to.Addr())
	switch {
	case n.severed(path):
		path.counts.Cut++
		return
	case !link.fits(size):
		path.counts.TooBig++
		return
	case path.free.Sub(now) > link.backlog() || path.counts.Flying >= maxFlying:
		path.counts.Backlog++
		return
	}
	left := path.occupy(now, link.sendTime(size)) // a lost packet takes its turn too
	if fate.lost {
		path.counts.Lost++
		return
	}

	p := newPacket(body, c.addr, to, path)
	if fate.corrupted && len(body) > 0 {
		path.counts.Corrupted++
		flipBit(p.body, fate.bit)
	}
	at := left.Add(fate.delay)
	if fate.reordered {
		path.counts.Reordered++
		at = at.Add(link.reorderBy())
	} else {
		at = path.inOrder(at)
	}
	n.launch(p, at)
	if fate.duplicated {
		path.counts.Duplicated++
		n.launch(newPacket(p.body, c.addr, to, path), path.inOrder(left.Add(fate.copyDelay)))
	}
	n.deliver(now) // at once, in this goroutine, if there is no delay
}

func newPacket(body []byte, from *net.UDPAddr, to netip.AddrPort, path *path) *packet {
	p := packets.Get().(*packet)
	p.body = append(p.body, body...)
	p.from, p.to, p.path = from, to, path
	return p
}

// occupy takes the link for d as soon as it is free and tells when that is over.
func (p *path) occupy(now time.Time, d time.Duration) time.Time {
	if d == 0 {
		return now
	}
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(d)
	return p.free
}

// inOrder puts off an arrival until the packets before it are there.
func (p *path) inOrder(at time.Time) time.Time {
	if at.After(p.last) {
		p.last = at
	}
	return p.last
}

// launch lets p arrive at the given time, once deliver is called. n.mu must be held.
func (n *Net) launch(p *packet, at time.Time) {
	n.launched++
	p.at, p.order = at, n.launched
	p.path.counts.Flying++
	heap.Push(&n.flying, p)
}

// deliver hands over all that is due, in order, and sets the timer to the next. n.mu must be held.
func (n *Net) deliver(now time.Time) {
	for len(n.flying) > 0 && !n.flying[0].at.After(now) {
		p := heap.Pop(&n.flying).(*packet)
		p.path.counts.Flying--
		n.arrive(p)
	}
	if len(n.flying) > 0 && !n.flying[0].at.Equal(n.armed) {
		n.armed = n.flying[0].at
		n.timer.Reset(n.armed.Sub(now))
	}
}

// arrive queues p in the socket it was sent to. n.mu must be held: so a socket found is still open.
func (n *Net) arrive(p *packet) {
	counts, size := &p.path.counts, uint64(len(p.body))
	to := n.conns[p.to]
	switch {
	case n.severed(p.path):
		counts.Cut++
	case to == nil:
		counts.Nobody++
	case !to.push(p, n.queue):
		counts.Full++
	default:
		counts.Delivered++
		counts.DeliveredBytes += size
		return
	}
	p.free()
}

// severed tells whether a partition or isolation lies across p. n.mu must be held.
func (n *Net) severed(p *path) bool {
	if p.cut {
		return true
	}
	return len(n.isolated) > 0 && p.from != p.to && (n.isolated[p.from] || n.isolated[p.to])
}

// link is the settings of p. n.mu must be held.
func (n *Net) link(p *path) Link {
	if p.own != nil {
		return *p.own
	}
	return n.fallback
}

// path finds or makes the state of a link. n.mu must be held.
func (n *Net) path(key hosts) *path {
	p := n.paths[key]
	if p == nil {
		p = &path{hosts: key}
		n.paths[key] = p
	}
	return p
}

// flow finds or makes the state of a flow. n.mu must be held.
func (n *Net) flow(key sockets) *flow {
	f := n.flows[key]
	if f == nil {
		f = &flow{path: n.path(hosts{key.from.Addr(), key.to.Addr()}), key: flowKey(n.seed, key.from, key.to)}
		n.flows[key] = f
	}
	return f
}

func mustBeValid(l Link) {
	if err := l.check(); err != nil {
		panic(err)
	}
}

// flight is the packets under way, a heap.Interface by arrival.
type flight []*packet

func (f flight) Len() int { return len(f) }

func (f flight) Less(i, j int) bool {
	if c := f[i].at.Compare(f[j].at); c != 0 {
		return c < 0
	}
	return f[i].order < f[j].order
}

func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

func (f *flight) Push(x any) { *f = append(*f, x.(*packet)) }

func (f *flight) Pop() any {
	last := len(*f) - 1
	p := (*f)[last]
	(*f)[last] = nil
	*f = (*f)[:last]
	return p
}

// Stats counts packets by what became of them. At every moment
//
//	Sent + Duplicated = Delivered + Lost + Cut + TooBig + Backlog + Full + Nobody + Flying
type Stats struct {
	Sent, SentBytes           uint64 // accepted by WriteTo; bytes are those of the caller, without headers
	Delivered, DeliveredBytes uint64 // put into a receive queue

	Lost    uint64 // by Link.Loss
	Cut     uint64 // by a partition or isolation
	TooBig  uint64 // beyond Link.MTU
	Backlog uint64 // dropped before the bottleneck of Link.Rate, or because 65536 packets were under way on the link
	Full    uint64 // dropped at a full receive queue
	Nobody  uint64 // arrived where no socket was open
	Flying  uint64 // under way now

	Duplicated uint64 // copies made by Link.Duplicate
	Reordered  uint64 // held back by Link.Reorder
	Corrupted  uint64 // damaged by Link.Corrupt
}

// Stats adds up all links.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum Stats
	for _, p := range n.paths {
		sum.add(p.counts)
	}
	return sum
}

// LinkStats counts the packets from one host to another, that direction only.
func (n *Net) LinkStats(from, to netip.Addr) Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.paths[hosts{from.Unmap(), to.Unmap()}]; p != nil {
		return p.counts
	}
	return Stats{}
}

func (s *Stats) add(o Stats) {
	s.Sent += o.Sent
	s.SentBytes += o.SentBytes
	s.Delivered += o.Delivered
	s.DeliveredBytes += o.DeliveredBytes
	s.Lost += o.Lost
	s.Cut += o.Cut
	s.TooBig += o.TooBig
	s.Backlog += o.Backlog
	s.Full += o.Full
	s.Nobody += o.Nobody
	s.Flying += o.Flying
	s.Duplicated += o.Duplicated
	s.Reordered += o.Reordered
	s.Corrupted += o.Corrupted
}
