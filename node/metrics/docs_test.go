package metrics

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"peermesh/node"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
)

const docs = "../../docs/monitoring/"

// described is what a Desc tells only as text.
type described struct {
	help   string
	labels []string
}

var descText = regexp.MustCompile(`fqName: "([^"]*)", help: "([^"]*)", unit: "", constLabels: \{\}, variableLabels: \{([^}]*)\}`)

// all describes every metric by name.
func all(t *testing.T) map[string]described {
	t.Helper()
	ch := make(chan *prometheus.Desc)
	go func() {
		New(new(node.Node)).Describe(ch)
		close(ch)
	}()
	out := map[string]described{}
	for d := range ch {
		m := descText.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %v", d)
		}
		var labels []string
		if m[3] != "" {
			labels = strings.Split(m[3], ",")
		}
		out[m[1]] = described{m[2], labels}
	}
	return out
}

func TestEveryFigureIsDescribed(t *testing.T) {
	metrics := all(t)
	ownMesh(t)
	a, b := busyPair(t)
	for _, n := range []*node.Node{a, b} {
		for name := range get(t, New(n)).families {
			if _, known := metrics[name]; !known && strings.HasPrefix(name, namespace) {
				t.Errorf("%s is shown and not described", name)
			}
		}
	}
}

func TestTheReadmeListsEveryMetric(t *testing.T) {
	text, err := os.ReadFile(docs + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	metrics := all(t)
	for name, d := range metrics {
		if want := "| `" + name + "` | " + strings.Join(d.labels, ", ") + " | " + d.help + " |"; !slices.Contains(lines, want) {
			t.Errorf("not there: %s", want)
		}
	}
	for _, line := range lines {
		name, ok := strings.CutPrefix(line, "| `")
		if name, _, _ = strings.Cut(name, "`"); ok && metrics[name].help == "" {
			t.Errorf("%s is there and no metric", name)
		}
	}
}

func TestAlertsUseMetricsThatThereAre(t *testing.T) {
	text, err := os.ReadFile(docs + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || seen[r.Alert] {
				t.Errorf("%q: no name of its own", r.Alert)
			}
			seen[r.Alert] = true
			for _, fault := range faults(all(t), r.Expr) {
				t.Errorf("%s: %s", r.Alert, fault)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%s: summary, description and severity are wanted", r.Alert)
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d alerts were read", len(seen))
	}
}

func TestTheDashboardUsesMetricsThatThereAre(t *testing.T) {
	text, err := os.ReadFile(docs + "grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	metrics, ids := all(t), map[int]bool{}
	used := map[string]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("%s: its id is another panel's", p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s: shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			for _, fault := range faults(metrics, target.Expr) {
				t.Errorf("%s: %s", p.Title, fault)
			}
			for _, m := range metricText.FindAllStringSubmatch(target.Expr, -1) {
				used[base(metrics, m[1])] = true
			}
		}
	}
	for _, v := range board.Templating.List {
		for _, fault := range faults(metrics, v.Query) {
			t.Errorf("variable %s: %s", v.Name, fault)
		}
	}
	if len(used) < 30 {
		t.Errorf("only %d metrics are on the dashboard", len(used))
	}
}

var (
	metricText   = regexp.MustCompile(`\b(peermesh_[a-z_]+)(?:\{([^}]*)\})?`)
	selectorText = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	byText       = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// base takes what a histogram adds to its name away.
func base(metrics map[string]described, name string) string {
	if _, known := metrics[name]; known {
		return name
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if short, ok := strings.CutSuffix(name, suffix); ok {
			return short
		}
	}
	return name
}

// faults says which metrics and labels of an expression there are not. Prometheus adds instance
// and job, a histogram le.
func faults(metrics map[string]described, expr string) (out []string) {
	found := metricText.FindAllStringSubmatch(expr, -1)
	if len(found) == 0 && strings.Contains(expr, namespace) {
		out = append(out, "no metric in "+expr)
	}
	grouped := []string{"instance", "job", "le"}
	for _, m := range found {
		d, known := metrics[base(metrics, m[1])]
		if !known {
			out = append(out, "no metric "+m[1])
			continue
		}
		grouped = append(grouped, d.labels...)
		for _, l := range selectorText.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(append([]string{"instance", "job", "le"}, d.labels...), l[1]) {
				out = append(out, m[1]+" has no label "+l[1])
			}
		}
	}
	for _, m := range byText.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			if label = strings.TrimSpace(label); !slices.Contains(grouped, label) {
				out = append(out, "no metric of "+expr+" has a label "+label)
			}
		}
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "{") != strings.Count(expr, "}") {
		out = append(out, "brackets do not match in "+expr)
	}
	return out
}

func TestFaultsOfExpressionsAreFound(t *testing.T) {
	metrics := all(t)
	for expr, says := range map[string]string{
		"rate(peermesh_nothing_total[5m])":                                     "no metric peermesh_nothing_total",
		`peermesh_peers{kind="push"}`:                                          "has no label kind",
		"sum by (peer, reason) (peermesh_link_up)":                             "no metric peermesh_link_up",
		"sum by (reason) (peermesh_peers)":                                     "has a label reason",
		"sum(peermesh_peers":                                                   "brackets",
		"sum by (le, instance) (rate(peermesh_spool_sync_seconds_bucket[5m]))": "",
		`peermesh_sender_settled_messages_total{fate="dead", instance="x"}`:    "",
	} {
		got := strings.Join(faults(metrics, expr), "; ")
		if says == "" && got != "" || !strings.Contains(got, says) {
			t.Errorf("%s: got %q, want %q", expr, got, says)
		}
	}
}
