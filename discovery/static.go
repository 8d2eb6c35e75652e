package discovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How often a name is looked up: calmly while that works, so that a Kubernetes headless service is
// followed, and with growing pauses up to the same while it does not.
const (
	lookupPace    = 30 * time.Second // after a success, give or take a fifth
	lookupRetry   = 1 * time.Second  // after the first failure; doubles with each further one up to lookupPace
	lookupTimeout = 5 * time.Second  // for one lookup
)

// maxPerName bounds the addresses taken from one name; those beyond it are ignored.
const maxPerName = 256

// lookupFunc has the shape of net.Resolver.LookupNetIP.
type lookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Static reports addresses that somebody wrote down: host:port, where host is an IP address or a DNS name, of
// which all A and AAAA records count. Names are looked up again and again; literal addresses need no
// DNS. Create it with NewStatic.
type Static struct {
	literals []netip.AddrPort
	targets  []target
	handle   func(Event)
	lookup   lookupFunc
	random   func() float64
	running  atomic.Bool
}

// target is a name to look up.
type target struct {
	host string
	port uint16
}

func (t target) String() string { return net.JoinHostPort(t.host, strconv.Itoa(int(t.port))) }

// StaticOption changes how a Static works.
type StaticOption func(*Static)

// StaticLookup makes a Static resolve names with lookup, which has the shape of net.Resolver.LookupNetIP,
// instead of the default resolver. It is called by several goroutines at once and must end with its ctx.
func StaticLookup(lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)) StaticOption {
	return func(s *Static) { s.lookup = lookup }
}

// NewStatic returns a Static for addrs that reports to handle, and does nothing until Run. An entry that is not
// host:port is an error that says so. Entries that repeat count once. handle is called from the goroutine
// of Run, in order, and must not block for long; nil drops the news.
func NewStatic(addrs []string, handle func(Event), opts ...StaticOption) (*Static, error) {
	if handle == nil {
		handle = func(Event) {}
	}
	s := &Static{handle: handle, lookup: net.DefaultResolver.LookupNetIP, random: rand.Float64}
	for _, entry := range addrs {
		literal, name, err := parseStatic(entry)
		switch {
		case err != nil:
			return nil, fmt.Errorf("discovery: static peer %q: %w", entry, err)
		case literal.IsValid() && !slices.Contains(s.literals, literal):
			s.literals = append(s.literals, literal)
		case name.host != "" && !slices.Contains(s.targets, name):
			s.targets = append(s.targets, name)
		}
	}
	for _, opt := range opts {
		opt(s)
	}
	return s, nil
}

// parseStatic reads host:port. It returns either a literal address or a name to look up.
func parseStatic(entry string) (netip.AddrPort, target, error) {
	host, portText, err := net.SplitHostPort(entry)
	if err != nil {
		return netip.AddrPort{}, target{}, errors.New("want host:port, as in 10.0.0.7:4477, [fd00::7]:4477 or node.example:4477")
	}
	port, err := parsePositive(portText)
	if err != nil {
		return netip.AddrPort{}, target{}, fmt.Errorf("port %q: want a number from 1 to 65535", portText)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		if !reachable(addr) {
			return netip.AddrPort{}, target{}, fmt.Errorf("%s is not the address of a host", addr)
		}
		if addr.Is6() && addr.IsLinkLocalUnicast() && addr.Zone() == "" {
			return netip.AddrPort{}, target{}, fmt.Errorf("link-local address without an interface, want [%s%%eth0]:%d", addr, port)
		}
		return netip.AddrPortFrom(addr, port), target{}, nil
	}
	name := target{host: strings.ToLower(host), port: port}
	return netip.AddrPort{}, name, checkName(name.host)
}

// checkName returns an error unless host can be a DNS name.
func checkName(host string) error {
	const longest = 253
	if host == "" || len(host) > longest {
		return fmt.Errorf("host name of %d characters, want 1 to %d", len(host), longest)
	}
	for _, r := range host {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_.", r) {
			return fmt.Errorf("%q in a host name", r)
		}
	}
	last := host[strings.LastIndexByte(strings.TrimSuffix(host, "."), '.')+1:]
	if strings.Trim(last, "0123456789.") == "" {
		return fmt.Errorf("%s is neither an IP address nor a host name", host)
	}
	return nil
}

// answered is what one lookup of a target brought.
type answered struct {
	target target
	addrs  []netip.Addr
	err    error
}

// errStaticRunning is returned by a Run beside another.
var errStaticRunning = errors.New("discovery: static peers are already running")

// Run reports the literal addresses, then looks up the names again and again until ctx ends, and returns
// its cause when every goroutine it started is gone. A name that cannot be resolved is a Problem; what it
// resolved to before stays, since a name server that is down takes no node away. Run may be called again
// after it returned, and starts anew then; a second Run at the same time is an error.
func (s *Static) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errStaticRunning
	}
	defer s.running.Store(false)

	answers := make(chan answered)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, t := range s.targets {
		wg.Go(func() { s.follow(ctx, t, answers) })
	}

	known := roster{literals: s.literals}
	trouble := trouble{source: SourceStatic}
	s.tell(known.news())
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case a := <-answers:
			if a.err == nil {
				known.set(a.target, a.addrs)
			}
			trouble.set("", a.target.String(), a.err)
			s.tell(append(trouble.news(), known.news()...))
		}
	}
}

func (s *Static) tell(events []Event) {
	for _, e := range events {
		s.handle(e)
	}
}

// follow looks up t until ctx ends.
func (s *Static) follow(ctx context.Context, t target, answers chan<- answered) {
	failures := 0
	for {
		a := s.resolve(ctx, t)
		if ctx.Err() != nil { // the lookup may have failed only because the end came
			return
		}
		failures++
		if a.err == nil {
			failures = 0
		}
		select {
		case answers <- a:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(lookupPause(failures, s.random())):
		case <-ctx.Done():
			return
		}
	}
}

// lookupPause returns how long to wait after so many failures in a row.
func lookupPause(failures int, random float64) time.Duration {
	pause := lookupPace
	if failures > 0 && failures <= 5 { // 1 2 4 8 16
		pause = lookupRetry << (failures - 1)
	}
	return spread(pause, random)
}

// resolve looks up t once. An answer without a usable address is a failure.
func (s *Static) resolve(ctx context.Context, t target) answered {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := s.lookup(ctx, "ip", t.host)
	if err == nil {
		addrs = hostAddrs(addrs)
		if len(addrs) == 0 {
			err = errors.New("no address")
		}
	}
	if err != nil {
		return answered{target: t, err: fmt.Errorf("static peer %s: %w", t, plainLookup(err))}
	}
	return answered{target: t, addrs: addrs[:min(len(addrs), maxPerName)]}
}

// plainLookup takes out of a DNS error what differs from try to try, such as our own port, and what is
// said already.
func plainLookup(err error) error {
	dnsErr, ok := errors.AsType[*net.DNSError](err)
	switch {
	case !ok:
		return plain(err)
	case dnsErr.IsNotFound:
		return errors.New("no such host")
	case dnsErr.IsTimeout:
		return errors.New("the name server does not answer")
	}
	return errors.New("the name server cannot be asked")
}

// roster knows to which addresses the entries lead. It is pure; two names may share an address, which is then
// lost with the last of them.
type roster struct {
	literals []netip.AddrPort
	byTarget map[target][]netip.AddrPort
	told     map[netip.AddrPort]bool
}

// set notes to what t resolves now.
func (r *roster) set(t target, addrs []netip.Addr) {
	if r.byTarget == nil {
		r.byTarget = make(map[target][]netip.AddrPort)
	}
	list := make([]netip.AddrPort, len(addrs))
	for i, addr := range addrs {
		list[i] = netip.AddrPortFrom(addr, t.port)
	}
	r.byTarget[t] = list
}

// news returns what changed since the last call: what was found, then what was lost, in order of address.
func (r *roster) news() []Event {
	now := make(map[netip.AddrPort]bool)
	for _, addr := range r.literals {
		now[addr] = true
	}
	for _, list := range r.byTarget {
		for _, addr := range list {
			now[addr] = true
		}
	}
	news := append(events(Found, without(now, r.told)), events(Lost, without(r.told, now))...)
	r.told = now
	return news
}

// without returns the candidates for the addresses in a that are not in b.
func without(a, b map[netip.AddrPort]bool) []Candidate {
	var list []Candidate
	for addr := range a {
		if !b[addr] {
			list = append(list, Candidate{Addr: addr, Source: SourceStatic})
		}
	}
	return list
}
