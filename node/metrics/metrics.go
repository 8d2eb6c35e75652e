package metrics

import (
	"net/http"
	"slices"
	"sync"

	"peermesh/internal/identity"
	"peermesh/node"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config bounds how much is shown, and says what else is. The zero value works.
type Config struct {
	MaxNames         int // pairs of kind and name, and endpoints; default 200
	MaxSubscriptions int // durable subscriptions; default 200
	MaxPeers         int // default 100

	// Gateway and Endpoints tell of what the program has around the node; nil: nothing. They are asked in each scrape, one
	// after the other, and must not wait for anything.
	Gateway   func() Gateway
	Endpoints func() []Endpoint
}

// maxScrapes bounds the scrapes under way: each builds an answer in memory.
const maxScrapes = 4

// Metrics is a prometheus.Collector of a node and an http.Handler that serves it, together with
// what the Go runtime and the process say. Safe for concurrent use.
type Metrics struct {
	node    *node.Node
	config  Config
	handler http.Handler

	ages, requests *observed

	mu            sync.Mutex
	names         slots
	subscriptions slots
	peers         slots
	rising        rising
}

var (
	_ prometheus.Collector = (*Metrics)(nil)
	_ http.Handler         = (*Metrics)(nil)
)

// New shows a node, within the default bounds. The node stays the caller's; once it is closed
// only its name is shown.
func New(n *node.Node) *Metrics { return NewWith(n, Config{}) }

// NewWith is New with bounds.
func NewWith(n *node.Node, cfg Config) *Metrics {
	m := &Metrics{
		node:          n,
		config:        cfg,
		ages:          newAges(bound(cfg.MaxNames, 200)),
		requests:      newRequests(bound(cfg.MaxNames, 200)),
		names:         newSlots(bound(cfg.MaxNames, 200)),
		subscriptions: newSlots(bound(cfg.MaxSubscriptions, 200)),
		peers:         newSlots(bound(cfg.MaxPeers, 100)),
		rising:        newRising(),
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
	return m
}

func bound(given, otherwise int) int {
	if given <= 0 {
		return otherwise
	}
	return given
}

// ServeHTTP answers a scrape, in whichever format it asks for; of more than four at a time it
// refuses those that came last (503).
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// Describe sends the description of every metric.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descriptions() {
		ch <- d
	}
	m.ages.vec.Describe(ch)
	m.requests.vec.Describe(ch)
}

// Collect reads the node and sends what it says. It takes each socket's lock for a moment, and
// looks at the state directory.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.collect(ch)
	m.ages.vec.Collect(ch)
	m.requests.vec.Collect(ch)
}

func (m *Metrics) collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := newSheet(&m.rising)
	m.self(s)
	m.sockets(s)
	m.links(s)
	m.disk(s, ch)
	m.around(s)
	for what, slots := range map[string]*slots{"names": &m.names, "subscriptions": &m.subscriptions, "peers": &m.peers} {
		s.add(folded, float64(slots.folded()), what)
	}
	s.send(ch)
	m.rising.sweep()
}

var (
	nodeInfo         = gauge("node_info", "1; its labels say who the node is.", "node_id", "node", "namespace", "mesh")
	nodeIncarnation  = gauge("node_incarnation", "How often the state directory was opened; 1 without one.")
	nodeProblems     = gauge("node_problems", "What stands in the way of discovery now.")
	nodeEventsMissed = counter("node_events_missed_total", "Events that slow readers of Node.Events have missed.")
	nodeCandidates   = gauge("node_candidates", "Addresses where a node may be, by the code of the last refusal there.", "code")
	folded           = gauge("folded", "Names, subscriptions, peers and endpoints that are folded into the label other.", "what")
)

// self says who the node is.
func (m *Metrics) self(s *sheet) {
	n := m.node
	s.add(nodeInfo, 1, n.ID().String(), n.Name(), n.Namespace(), n.Mesh())
	s.add(nodeIncarnation, float64(n.Incarnation()))
	s.add(nodeProblems, float64(len(n.Problems())))
	s.add(nodeEventsMissed, float64(n.EventsDropped()))
	for _, c := range n.Candidates() {
		s.add(nodeCandidates, 1, codeLabel(c.Code))
	}
}

// codes are those of a refused link.
var codes = []identity.Code{identity.CodeMesh, identity.CodeCertificate, identity.CodeExpired, identity.CodeIdentity, identity.CodeVersion,
	identity.CodePolicy, identity.CodeDuplicate, identity.CodeIncarnation, identity.CodeSuperseded, "self"}

// codeLabel keeps to the codes that there are: some are told by other nodes.
func codeLabel(code identity.Code) string {
	switch {
	case code == "":
		return "none"
	case slices.Contains(codes, code):
		return string(code)
	}
	return other
}
