package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// watchEvery is how often the interfaces are looked at. There is no portable way to be told.
const watchEvery = 3 * time.Second

// MDNSConfig says how a node meets others on the local network. Its zero value works, for a node that only
// listens and keeps what it hears to itself.
type MDNSConfig struct {
	// Advert returns what this node says of itself. It is called at each question, by several goroutines
	// at once, and must return at once. While it has no Node or Port, questions stay unanswered.
	// Nil: the node never answers.
	Advert func() Advert

	// Linked says whether there is a link to a node; a linked candidate is not forgotten. It is called from
	// the goroutine of Run and must return at once. Nil: no node is linked.
	Linked func(node string) bool

	// Handle is told the news, from the goroutine of Run, in order, and with no lock held. Nothing is found
	// while it blocks, so it must not block for long. Nil: the news are dropped.
	Handle func(Event)

	// Logger gets details at debug level. Nil: none.
	Logger *slog.Logger

	// Interfaces returns the network interfaces of the machine. It may be called by several goroutines at
	// once. Nil: the system's.
	Interfaces func() ([]Interface, error)

	// Allow and Deny are globs (path.Match) on the names of interfaces; Deny wins, an empty Allow allows
	// all. Of what passes, those are used that are up, can multicast and are not point-to-point, unless
	// Allow names them; and loopback if there is no other.
	Allow, Deny []string
}

// MDNS finds nodes on the local network and is found by them. Create it with NewMDNS; its methods are safe
// for concurrent use.
type MDNS struct {
	config  MDNSConfig
	lan     lan
	random  func() float64 // from 0 up to 1
	refresh chan struct{}  // holds one wish; more would mean the same
	running atomic.Bool

	questions, malformed, refused atomic.Uint64
}

// NewMDNS returns an MDNS that does nothing until Run.
func NewMDNS(config MDNSConfig) *MDNS {
	if config.Advert == nil {
		config.Advert = func() Advert { return Advert{} }
	}
	if config.Linked == nil {
		config.Linked = func(string) bool { return false }
	}
	if config.Handle == nil {
		config.Handle = func(Event) {}
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Interfaces == nil {
		config.Interfaces = systemInterfaces
	}
	return &MDNS{
		config:  config,
		lan:     multicast{log: slog.NewLogLogger(config.Logger.Handler(), slog.LevelDebug)},
		random:  rand.Float64,
		refresh: make(chan struct{}, 1),
	}
}

// Refresh asks fast again: a link was lost, or there are no peers. It returns at once. However often it is
// called, questions go out at most once a second. Before Run it has no effect beyond what Run does anyway.
func (m *MDNS) Refresh() {
	select {
	case m.refresh <- struct{}{}:
	default:
	}
}

// Stats counts what an MDNS did since it was made.
type Stats struct {
	Questions uint64 // rounds of questions; a round asks on all interfaces
	Malformed uint64 // answers in our name that were ignored because they made no sense
	Refused   uint64 // candidates ignored because 4096 were known already
}

// Stats returns the counts so far.
func (m *MDNS) Stats() Stats {
	return Stats{Questions: m.questions.Load(), Malformed: m.malformed.Load(), Refused: m.refused.Load()}
}

// errRunning is returned by a Run beside another.
var errRunning = errors.New("discovery: already running")

// Run asks and answers until ctx ends, and returns its cause, at the latest some 1.2 seconds after: a
// question that is out must wait for its time to be over. Every goroutine it started is gone then, and
// none of the functions of the config is called any more. What goes wrong on the network is a Problem event
// and tried again. Run may be called again after it returned, and knows nothing then; a second Run at the
// same time is an error.
func (m *MDNS) Run(ctx context.Context) error {
	if !m.running.CompareAndSwap(false, true) {
		return errRunning
	}
	defer m.running.Store(false)
	b := newBrowser(m)
	defer b.wg.Wait()
	defer b.zone.close()
	defer b.stopServers()
	return b.loop(ctx)
}

// doublePatience makes a duplicate identity last for 20 questions and 10 minutes after it was last seen. Its
// answer has the same name as our own, the library keeps only the later of the two, and so a double
// is overheard often.
const doublePatience = 5

// browser is the state of one Run. Only the goroutine of Run touches it; the goroutines that ask hand
// their answers to it over a channel.
type browser struct {
	*MDNS
	zone     *zone
	filter   filter
	ifaces   []Interface    // in use
	servers  map[int]server // by index of the interface
	schedule schedule
	others   table // candidates of other nodes
	doubles  table // of other processes with our own node id
	trouble  trouble
	round    *round // the questions that are out, nil between rounds
	wg       sync.WaitGroup
}

// server answers questions on an interface, perhaps with some trouble.
type server struct {
	stop  func()
	limit error // why it answers less well than it should
}

// round is one question to everybody on all interfaces.
type round struct {
	results chan result // has room for all, so that nobody waits for the loop
	pending int
	self    Advert // as it was when the round began
	heard   []Candidate
	doubles []Candidate
	deaf    map[string]bool // interfaces where nothing could be asked so far
}

// maxHeard bounds the sightings of one round. A node is often heard more than once in a round, over IPv4 and
// over IPv6, so there is more room than in the table.
const maxHeard = 4 * maxCandidates

// hear keeps sightings for the end of the round, as far as there is room.
func (r *round) hear(found []Candidate) {
	room := maxHeard - len(r.heard)
	r.heard = append(r.heard, found[:min(len(found), room)]...)
}

// result is what one goroutine heard on one interface over one version of IP.
type result struct {
	iface   Interface
	family  family
	replies []reply
	err     error
}

func newBrowser(m *MDNS) *browser {
	b := &browser{
		MDNS:    m,
		filter:  filter{allow: m.config.Allow, deny: m.config.Deny},
		servers: make(map[int]server),
		doubles: table{patience: doublePatience},
		trouble: trouble{source: SourceMDNS},
	}
	b.zone = &zone{advert: m.config.Advert, interfaces: b.usable}
	return b
}

// loop waits for whatever comes next and does it.
func (b *browser) loop(ctx context.Context) error {
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	due.Stop()

	b.schedule.hurry(time.Now(), b.random())
	b.watch()
	for {
		var results chan result
		if b.round == nil {
			due.Reset(time.Until(b.schedule.next))
		} else {
			results = b.round.results
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-b.refresh:
			b.schedule.hurry(time.Now(), b.random())
		case <-watch.C:
			b.watch()
		case <-due.C:
			b.watch()
			b.ask(ctx)
		case r := <-results:
			if ctx.Err() == nil { // else it may be an error only because the end came
				b.hear(r)
			}
		}
	}
}

// usable reads the interfaces and returns those to use. The zone calls it from other goroutines.
func (b *browser) usable() ([]Interface, error) {
	all, err := b.config.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	return b.filter.choose(all)
}

// The names of the troubles.
const (
	troubleAdvert   = "advert"
	troubleNetwork  = "network"
	troubleServe    = "serve"
	troubleIdentity = "identity"
	troubleAsk      = "ask " // and the version of IP
)

// watch looks at the interfaces, answers on each, and starts the fast questions when they changed.
func (b *browser) watch() {
	list, err := b.usable()
	b.trouble.set("", troubleNetwork, err)
	b.trouble.set("", troubleAdvert, b.checkAdvert())
	if err == nil || len(list) > 0 || errors.Is(err, errNoInterface) { // else they could not be read; keep the last
		b.use(list)
	}
	for _, i := range b.ifaces {
		b.serve(i)
	}
	b.tell(b.trouble.news())
}

// checkAdvert says what is wrong with our own advert. To say nothing is fine.
func (b *browser) checkAdvert() error {
	a := b.config.Advert()
	if a.Node == "" {
		return nil
	}
	if err := checkNode(a.Node); err != nil {
		return fmt.Errorf("own advert: %w", err)
	}
	return nil
}

// use replaces the interfaces in use. What went away or changed stops answering: a change of addresses
// can mean that a version of IP came or went, and the library listens on those there were at its start.
func (b *browser) use(list []Interface) {
	same := len(list) == len(b.ifaces)
	for _, old := range b.ifaces {
		if containsEqual(list, old) {
			continue
		}
		same = false
		b.stopServer(old)
		b.trouble.clear(old.Name)
	}
	b.ifaces = list
	if !same {
		b.config.Logger.Debug("discovery: network interfaces changed", "count", len(list))
		b.schedule.hurry(time.Now(), b.random())
	}
}

func containsEqual(list []Interface, i Interface) bool { return slices.ContainsFunc(list, i.equal) }

// serve sees to it that questions on i are answered, as well as can be: an answering server with a limit
// is replaced only when that limit is gone or another.
func (b *browser) serve(i Interface) {
	old, ok := b.servers[i.Index]
	if ok && old.limit == nil {
		return
	}
	limit := b.lan.check(i)
	if ok && limit != nil && limit.Error() == old.limit.Error() {
		return
	}
	b.stopServer(i)
	stop, err := b.lan.serve(i, b.zone)
	if err != nil {
		if limit == nil {
			limit = err
		}
		b.trouble.set(i.Name, troubleServe, limit)
		return
	}
	b.servers[i.Index] = server{stop: stop, limit: limit}
	b.trouble.set(i.Name, troubleServe, limit)
}

func (b *browser) stopServer(i Interface) {
	if s, ok := b.servers[i.Index]; ok {
		s.stop()
		delete(b.servers, i.Index)
	}
}

func (b *browser) stopServers() {
	for _, s := range b.servers {
		s.stop()
	}
}

// ask starts a round.
func (b *browser) ask(ctx context.Context) {
	b.schedule.ask(time.Now(), b.random())
	b.questions.Add(1)
	r := &round{self: b.config.Advert(), deaf: make(map[string]bool)}
	r.results = make(chan result, 2*len(b.ifaces))
	b.round = r
	for _, i := range b.ifaces {
		for _, f := range i.families() {
			r.pending++
			r.deaf[i.Name] = true
			b.wg.Go(func() {
				replies, err := b.lan.ask(ctx, i, f)
				r.results <- result{iface: i, family: f, replies: replies, err: err}
			})
		}
	}
	if r.pending == 0 {
		b.closeRound()
	}
}

// hear takes in one result, and closes the round with the last.
func (b *browser) hear(res result) {
	r := b.round
	if containsEqual(b.ifaces, res.iface) { // else it went away meanwhile, and so did its troubles
		b.trouble.set(res.iface.Name, troubleAsk+string(res.family), res.err)
	}
	if res.err == nil || len(res.replies) > 0 {
		delete(r.deaf, res.iface.Name)
	}
	for _, rep := range res.replies {
		b.take(rep, res.iface)
	}
	r.pending--
	if r.pending == 0 {
		b.closeRound()
	}
}

// take sorts one reply: not about us, nonsense, ourselves, our double, or another node.
func (b *browser) take(rep reply, i Interface) {
	instance := strings.ToLower(rep.instance)
	if !strings.HasSuffix(instance, instanceTail) {
		return
	}
	l, err := parseTXT(rep.txt)
	if err == nil && l.advert.Node+instanceTail != instance {
		err = fmt.Errorf("id %s is not the name", l.advert.Node)
	}
	if err != nil {
		b.malformed.Add(1)
		b.config.Logger.Debug("discovery: malformed answer", "instance", rep.instance, "interface", i.Name, "error", err)
		return
	}
	found := candidates(l, i)
	switch self := b.round.self; {
	case l.advert.Node != self.Node:
		b.round.hear(found)
	case l.advert.Nonce != self.Nonce && l.advert.Nonce != b.config.Advert().Nonce:
		b.round.doubles = append(b.round.doubles, found...)
	}
}

// candidates returns where a node that answered on i may be.
func candidates(l listing, i Interface) []Candidate {
	var list []Candidate
	for _, addr := range i.pick(l.groups) {
		list = append(list, Candidate{
			Node:        l.advert.Node,
			Addr:        netip.AddrPortFrom(addr, l.advert.Port),
			Source:      SourceMDNS,
			Interface:   i.Name,
			Version:     l.version,
			Mesh:        l.advert.Mesh,
			Incarnation: l.advert.Incarnation,
			Nonce:       l.advert.Nonce,
		})
	}
	return list
}

// closeRound draws the conclusions of a round and tells them.
func (b *browser) closeRound() {
	r := b.round
	b.round = nil
	refused := b.others.refused
	news := b.others.close(time.Now(), r.heard, r.deaf, b.config.Linked)
	b.refused.Add(b.others.refused - refused)
	b.doubles.close(time.Now(), r.doubles, r.deaf, func(string) bool { return false })
	for _, i := range b.ifaces {
		var err error
		if other, ok := b.doubles.first(i.Name); ok {
			err = &DuplicateError{Other: other}
		}
		b.trouble.set(i.Name, troubleIdentity, err)
	}
	b.tell(append(b.trouble.news(), news...))
}

func (b *browser) tell(events []Event) {
	for _, e := range events {
		b.config.Handle(e)
	}
}
