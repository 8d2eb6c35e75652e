package arch

import (
	"fmt"
	"slices"
	"strings"
)

const module = "peermesh"

// In all tables "x/..." is x and everything below it, as for the go command.

// floors says on which floor a package of ours stands. No two patterns overlap.
var floors = map[string]int{
	"cmd/peermesh/...": 4,
	"examples/...":     4,
	"internal/prove":   4,

	"node":           3,
	"node/gateway":   3,
	"node/meshtest":  3,
	"node/metrics":   3,
	"node/reference": 3,
	"node/zmtp/...":  3,
	"node/tracing":   3,

	"patterns":       2,
	"patterns/typed": 2,

	"socket": 1,

	"discovery":         0,
	"internal/arch":     0,
	"internal/enroll":   0,
	"internal/history":  0,
	"internal/identity": 0,
	"internal/insight":  0,
	"internal/lab":      0,
	"internal/ledger":   0,
	"internal/marks":    0,
	"internal/mutants":  0,
	"internal/policy":   0,
	"internal/probe":    0,
	"internal/ranges":   0,
	"internal/slots":    0,
	"internal/ticks":    0,
	"internal/topic":    0,
	"internal/wire":     0,
	"spool":             0,
	"spool/reference":   0,
}

// neighbours says which packages of its own floor a package may import.
var neighbours = map[string][]string{
	"cmd/peermesh/...":  {"cmd/peermesh/..."},
	"examples/...":      {"examples/..."},
	"node/gateway":      {"node"},
	"node/meshtest":     {"node"},
	"node/metrics":      {"node"},
	"node/tracing":      {"node"},
	"node/zmtp":         {"node"},
	"node/zmtp/interop": {"node", "node/zmtp"},
	"patterns/typed":    {"patterns"},
	"internal/enroll":   {"internal/identity"},
	"internal/history":  {"internal/ranges"},
	"internal/ledger":   {"internal/identity", "internal/ranges", "internal/wire"},
	"internal/marks":    {"internal/ranges", "internal/wire"},
	"internal/policy":   {"internal/identity", "internal/topic", "internal/wire"},
	"internal/wire":     {"internal/identity", "internal/ranges"},
	"internal/probe":    {"internal/insight"},
}

// testNeighbours says the same of test files only.
var testNeighbours = map[string][]string{
	"node/...":        {"node/meshtest"},
	"internal/ledger": {"internal/marks"}, // the two memories are tried against each other
}

// strangers says which packages a package must not import although they stand below it.
var strangers = map[string][]string{
	"socket":       {"spool", "discovery"},               // it joins two ends, and neither keeps nor finds anything
	"patterns/...": {"discovery"},                        // whom to send to, never where to look
	"examples/...": {"internal/...", "cmd/peermesh/..."}, // a user who copies one cannot import these
}

// A home is where a foreign library may be imported.
type home struct {
	library  string // the module's path
	in       []string
	testOnly bool // in test files anywhere; in may do so without
}

var homes = []home{
	{library: "github.com/coder/websocket", in: []string{"node/gateway"}},
	{library: "github.com/dgraph-io/badger/v4", in: []string{"spool"}},
	{library: "github.com/dgraph-io/ristretto/v2", in: []string{"spool"}},
	{library: "github.com/go-zeromq/zmq4", in: []string{"node/zmtp"}},
	{library: "github.com/goccy/go-yaml", in: []string{"cmd/peermesh/...", "node/metrics"}}, // there a test reads the alert rules
	{library: "github.com/hashicorp/mdns", in: []string{"discovery"}},
	{library: "github.com/miekg/dns", in: []string{"discovery"}},
	{library: "github.com/prometheus/client_golang", in: []string{"node/metrics"}},
	{library: "github.com/prometheus/client_model", testOnly: true},
	{library: "github.com/prometheus/common", testOnly: true},
	{library: "github.com/quic-go/quic-go", in: []string{"node/..."}},
	{library: "github.com/rogpeppe/go-internal", testOnly: true, in: []string{"node/meshtest"}},
	{library: "github.com/spf13/cobra", in: []string{"cmd/peermesh/..."}},
	{library: "github.com/spf13/pflag", in: []string{"cmd/peermesh/..."}},
	{library: "go.opentelemetry.io/otel/sdk", testOnly: true},
	{library: "go.opentelemetry.io/otel", in: []string{"node/tracing"}}, // its API; whoever records brings the SDK
	{library: "go.uber.org/goleak", testOnly: true, in: []string{"node/meshtest"}},
	{library: "golang.org/x/net", in: []string{"node"}}, // the type of a batch of packets, which quic-go's is
	{library: "golang.org/x/sys", in: []string{"..."}},  // system calls that package syscall has frozen without
	{library: "golang.org/x/term", in: []string{"cmd/peermesh/..."}},
	{library: "pgregory.net/rapid", testOnly: true, in: []string{"node/meshtest"}},
}

// folders are the top-level folders that there may be; bin is where make build puts what git ignores.
var folders = []string{
	".ci", ".git", "adapters", "bin", "cmd", "discovery", "docs", "examples", "internal", "node", "patterns", "socket", "spool",
}

// strays picks the folders that are not planned.
func strays(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(folders, name) })
}

// An edge is one import line.
type edge struct {
	file string // for the message; one that ends in _test.go is a test file
	from string // the importing package, below the module: "node/zmtp"; "." is the root
	to   string // as the line has it
}

func (e edge) inTest() bool { return strings.HasSuffix(e.file, "_test.go") }

// violations says what is wrong with a set of packages (below the module) and their imports, each as one line.
func violations(packages []string, edges []edge) []string {
	var found []string
	for _, p := range packages {
		if _, ok := floorOf(p); !ok {
			found = append(found, fmt.Sprintf("%s: name a floor for it in internal/arch", p))
		}
	}
	for _, e := range edges {
		if why := e.judge(); why != "" {
			found = append(found, fmt.Sprintf("%s: imports %s: %s", e.file, e.to, why))
		}
	}
	return found
}

// judge says why an import is not as it should be, or nothing.
func (e edge) judge() string {
	first, _, _ := strings.Cut(e.to, "/")
	switch {
	case e.to == "C":
		return "no cgo, the binary stays pure Go"
	case first == module:
		to := strings.TrimPrefix(strings.TrimPrefix(e.to, module), "/")
		return e.judgeOurs(to)
	case strings.Contains(first, "."):
		return e.judgeForeign()
	}
	return "" // the standard library
}

func (e edge) judgeOurs(to string) string {
	if to == e.from {
		return "" // its external tests
	}
	low, ok := floorOf(to)
	if !ok {
		return "no floor is named for it in internal/arch"
	}
	high, ok := floorOf(e.from)
	switch {
	case !ok:
		return "" // reported once, for the package
	case low > high:
		return fmt.Sprintf("an arrow up, from floor %d to %d", high, low)
	case in(to, listed(strangers, e.from)):
		return fmt.Sprintf("%s must not know it", e.from)
	case low < high, in(to, listed(neighbours, e.from)), e.inTest() && in(to, listed(testNeighbours, e.from)):
		return ""
	}
	return fmt.Sprintf("%s may not import this one of its own floor %d", e.from, high)
}

func (e edge) judgeForeign() string {
	i := slices.IndexFunc(homes, func(h home) bool { return in(e.to, []string{h.library + "/..."}) })
	if i < 0 {
		return "name a home for this library in internal/arch"
	}
	h := homes[i]
	if in(e.from, h.in) || h.testOnly && e.inTest() {
		return ""
	}
	if h.testOnly {
		return "a library for tests only"
	}
	return "only " + strings.Join(h.in, ", ") + " may"
}

func floorOf(pkg string) (floor int, ok bool) {
	for pattern, floor := range floors {
		if in(pkg, []string{pattern}) {
			return floor, true
		}
	}
	return 0, false
}

// listed collects what a table says about a package under all patterns that fit it.
func listed(table map[string][]string, pkg string) (all []string) {
	for pattern, pkgs := range table {
		if in(pkg, []string{pattern}) {
			all = append(all, pkgs...)
		}
	}
	return all
}

// in reports whether one of the patterns fits a package.
func in(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if pattern == "..." {
			return true
		}
		base, below := strings.CutSuffix(pattern, "/...")
		return pkg == base || below && strings.HasPrefix(pkg, base+"/")
	})
}
