package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/insight"
	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// said is what a person is told who asks.
type said struct{ verb, code, cause, cure string }

// fault is something that goes wrong, put there on purpose.
type fault struct {
	name   string
	inject func(t *testing.T) said // and asks
	code   string
	cause  []string // parts of what must be said
	cure   string   // likewise
}

// patience is how long an answer may take.
const patience = 10 * time.Second

// why asks a node, and fails the test if the answer takes too long.
func why(t *testing.T, n *node.Node, question string) said {
	t.Helper()
	began := time.Now()
	a := n.Why(t.Context(), question)
	if took := time.Since(began); took > patience {
		t.Errorf("why %s took %v, at most %v", question, took, patience)
	}
	t.Logf("why %s at %s: %s\n%s\nseen: %s\ncure: %s", question, n.Name(), a.Code, a.Cause, strings.Join(a.Evidence, "\n      "), a.Cure)
	if len(a.Evidence) == 0 {
		t.Errorf("why %s: no evidence for %q", question, a.Cause)
	}
	return said{"why " + question, a.Code, a.Cause, a.Cure}
}

// simulated runs a fault in a bubble with a mesh.
func simulated(f func(t *testing.T, m *meshtest.Mesh) said) func(*testing.T) said {
	return func(t *testing.T) (s said) {
		synctest.Test(t, func(t *testing.T) {
			s = f(t, meshtest.New(t, meshtest.Config{Seed: 1, Link: meshtest.Link{Delay: time.Millisecond}}))
		})
		return s
	}
}

// attacked runs a fault in a bubble with a rogue.
func attacked(f func(t *testing.T, s *scene, r *rogue) said) func(*testing.T) said {
	return func(t *testing.T) (out said) {
		attack(t, func(t *testing.T, s *scene) { out = f(t, s, s.rogue("r", anyhow)) })
		return out
	}
}

func push(t *testing.T, n *node.Node, name string, opts ...patterns.Option) *patterns.Push {
	t.Helper()
	p, err := n.Push(name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pull(t *testing.T, n *node.Node, name string, opts ...patterns.Option) *patterns.Pull {
	t.Helper()
	p, err := n.Pull(name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func send(t *testing.T, p *patterns.Push, ms ...socket.Message) {
	t.Helper()
	for _, m := range ms {
		if _, err := p.SendMessage(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	}
}

var body = socket.Message{Body: []byte("x")}

// dated has a stranger show a certificate that was issued at another time, and asks about it.
func dated(at time.Duration) func(*testing.T) said {
	return attacked(func(t *testing.T, s *scene, r *rogue) said {
		pub, key := newKey(t)
		chain, err := meshOf(t, s.pem).Issue(pub, identity.Claims{Namespace: "default", Name: "old"}, time.Now().Add(at), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		r.chain, r.key = chain, key
		r.dial()
		settle()
		for _, e := range s.told() {
			if e.State == node.Refused {
				a := why(t, s.n, e.Addr)
				a.verb = "why ADDRESS"
				return a
			}
		}
		t.Fatal("nobody was refused")
		return said{}
	})
}

var faults = []fault{
	{"wrong mesh", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a := m.Node("a")
		m.Node("b", func(c *node.Config) { c.MeshPEM = newMesh(t) })
		send(t, push(t, a, "jobs"), body)
		time.Sleep(3 * time.Second)
		return why(t, a, "jobs")
	}), "mesh", []string{"no puller", "another mesh"}, "--mesh"},

	{"other namespace", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a, b := m.Node("a"), m.Node("b", func(c *node.Config) { c.Namespace = "blue" })
		pull(t, b, "jobs")
		m.AwaitLinks(a, b)
		send(t, push(t, a, "jobs"), body)
		settle()
		return why(t, a, "jobs")
	}), insight.CodeNamespace, []string{`namespace "blue"`, `"default"`}, "--namespace"},

	{"expired certificate", dated(-48 * time.Hour), "expired", []string{"has run out"}, "renew"},
	{"clock off", dated(48 * time.Hour), insight.CodeClock, []string{"clocks", "differ"}, "set both clocks right"},

	{"UDP blocked", func(t *testing.T) said { return doctor(t, silence(t)) }, "udp-blocked", []string{"UDP is blocked"}, "firewalls"},
	{"small buffers", smallBuffers, "buffers", []string{"asked for"}, "sysctl"},
	{"path MTU", func(t *testing.T) said {
		n := open(t, newMesh(t), "n")
		return doctor(t, narrow(t, n.Addr().String(), 1300))
	}, "mtu", []string{"1280", "vanish"}, "MTU"},

	{"no multicast", func(t *testing.T) said {
		n, err := node.Open(t.Context(), node.Config{Name: "a", MeshPEM: newMesh(t), Listen: "127.0.0.1:0", MDNSDeny: []string{"*"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		push(t, n, "jobs")
		for len(n.Problems()) == 0 {
			time.Sleep(time.Millisecond) // there is no event for it
		}
		return why(t, n, "jobs")
	}, insight.CodeMulticast, []string{"no puller", "multicast does not work"}, "--peer"},

	{"policy denial", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a := m.Node("a", func(c *node.Config) {
			c.Authorize = func(_ context.Context, a node.Access) error { return errors.New("rule 7: no strangers") }
		})
		b := m.Node("b")
		pull(t, b, "jobs")
		m.AwaitLinks(a, b)
		send(t, push(t, a, "jobs"), body)
		settle()
		if far := why(t, b, "jobs"); far.code != "policy" {
			t.Errorf("the puller's node says %+v", far)
		}
		return why(t, a, "jobs")
	}), "policy", []string{"the policy denies it to b", "rule 7"}, "rule that allows"},

	{"no puller", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a, b := m.Node("a"), m.Node("b")
		m.AwaitLinks(a, b)
		send(t, push(t, a, "jobs"), body)
		return why(t, a, "jobs/1")
	}), insight.CodeNobody, []string{"no puller"}, "peermesh pull jobs"},

	{"puller without credit", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a, b := m.Node("a"), m.Node("b")
		pull(t, b, "jobs", patterns.Prefetch(1)) // and nobody receives from it
		send(t, push(t, a, "jobs"), body, body, body)
		settle()
		return why(t, a, "jobs/2")
	}), insight.CodeNoCredit, []string{"b has 1 message", "all that its prefetch allows", "receives none"}, "does not call Recv"},

	{"stuck handler", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a, b := m.Node("a"), m.Node("b")
		work := pull(t, b, "jobs", patterns.Prefetch(1))
		go work.Handle(t.Context(), 1, func(ctx context.Context, _ *socket.Message) error { <-ctx.Done(); return ctx.Err() })
		send(t, push(t, a, "jobs"), body, body)
		time.Sleep(9 * time.Second)
		return why(t, a, "jobs/1")
	}), insight.CodeStuck, []string{"the handler of b is stuck"}, "HandlerTimeout"},

	{"poison message", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a, b := m.Node("a", func(c *node.Config) { c.Dir = m.Dir("a") }), m.Node("b")
		work := pull(t, b, "jobs")
		go work.Handle(t.Context(), 1, func(context.Context, *socket.Message) error { return errors.New("no such cat") })
		send(t, push(t, a, "jobs", patterns.MaxDeliver(3)), body)
		time.Sleep(150 * time.Millisecond)
		if mid := why(t, a, "jobs/1"); mid.code != insight.CodePoison || !strings.Contains(mid.cause, "no such cat") {
			t.Errorf("between two tries: %+v", mid)
		}
		time.Sleep(10 * time.Second)
		return why(t, a, "jobs/1")
	}), insight.CodeDead, []string{"dead", "no such cat"}, "dlq replay"},

	{"full queue", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a := m.Node("a")
		jobs := push(t, a, "jobs", patterns.Queue(2, 1<<20), patterns.OnOverflow(patterns.Refuse))
		send(t, jobs, body, body)
		if err := jobs.Send(t.Context(), body.Body); !errors.Is(err, socket.ErrQueueFull) {
			t.Fatal(err)
		}
		return why(t, a, "jobs")
	}), insight.CodeQueueFull, []string{"full: 2 of 2"}, "bound"},

	{"full disk", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a := m.Node("a", func(c *node.Config) { c.Dir, c.Quota = m.Dir("a"), 64<<10 })
		jobs := push(t, a, "jobs")
		for err := error(nil); err == nil; {
			err = jobs.Send(t.Context(), make([]byte, 16<<10))
		}
		return why(t, a, "jobs")
	}), insight.CodeDiskFull, []string{"no room on disk"}, "free disk space"},

	{"expired TTL", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a, b := m.Node("a"), m.Node("b")
		send(t, push(t, a, "jobs"), socket.Message{Body: []byte("x"), TTL: time.Second})
		time.Sleep(2 * time.Second)
		pull(t, b, "jobs")
		settle()
		return why(t, a, "jobs/1")
	}), insight.CodeExpiredTTL, []string{"TTL", "ran out"}, "longer TTL"},

	{"duplicate identity", duplicated, "duplicate", []string{"another process runs with the identity"}, "end one"},

	{"version mismatch", attacked(func(t *testing.T, s *scene, r *rogue) said {
		r.try("r", func(h *wire.Hello) { h.Version++ })
		time.Sleep(node.DefaultHandshakeTimeout) // the node waits for the other side to hang up
		return why(t, s.n, "r")
	}), "version", []string{"another version of the protocol"}, "update"},

	{"misspelt name", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a, b := m.Node("a"), m.Node("b")
		pull(t, b, "order")
		m.AwaitLinks(a, b)
		send(t, push(t, a, "orders"), body)
		settle()
		return why(t, a, "orders")
	}), insight.CodeMisspelt, []string{`"orders"`, `b pulls from "order"`}, "correct the name"},

	{"peer down", simulated(func(t *testing.T, m *meshtest.Mesh) said {
		a, b := m.Node("a"), m.Node("b")
		pull(t, b, "jobs")
		jobs := push(t, a, "jobs")
		if err := jobs.WaitReady(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		m.Kill(b)
		time.Sleep(15 * time.Second)
		send(t, jobs, body)
		if it := why(t, a, "b"); it.code != insight.CodeDown {
			t.Errorf("about the node: %+v", it)
		}
		return why(t, a, "jobs/1")
	}), insight.CodeDown, []string{"b was linked until", "no sign of life"}, "start it again"},
}

// duplicated opens a state directory and a copy of it.
func duplicated(t *testing.T) said {
	mesh, dir := newMesh(t), filepath.Join(t.TempDir(), "one")
	if err := openIn(t, mesh, "original", dir).Close(); err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(t.TempDir(), "two")
	if err := os.CopyFS(clone, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{clone, filepath.Join(clone, "spool")} {
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(clone, "node.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	hub := open(t, mesh, "hub")
	openIn(t, mesh, "original", dir, hub)
	await(t, hub, "original up", func(e node.PeerEvent) bool { return e.State == node.Up })
	second := openIn(t, mesh, "clone", clone, hub)
	push(t, second, "jobs")
	await(t, second, "duplicate", refusedAs(identity.CodeDuplicate))
	return why(t, second, "jobs")
}

// The table of docs/WHY.md: what is said of each fault, put there on purpose.
func TestWhyAndDoctorNameTheCauseOfEachFaultAndACure(t *testing.T) {
	rows := []string{"| fault | asked | what is said | cure |", "|---|---|---|---|"}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			s := f.inject(t)
			if s.code != f.code {
				t.Errorf("code %q, want %q", s.code, f.code)
			}
			for _, part := range f.cause {
				if !strings.Contains(s.cause, part) {
					t.Errorf("said %q, want %q in it", s.cause, part)
				}
			}
			if !strings.Contains(s.cure, f.cure) {
				t.Errorf("cure %q, want %q in it", s.cure, f.cure)
			}
			rows = append(rows, fmt.Sprintf("| %s | `%s` | %s | %s |", f.name, s.verb, steady(s.cause), steady(s.cure)))
		})
	}
	if t.Failed() || len(rows) != 2+len(faults) {
		return // one was chosen with -run, or skipped
	}
	const file = "../docs/WHY.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(doc), rows[0])
	want := head + strings.Join(rows, "\n") + "\n"
	if os.Getenv("PEERMESH_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !found || want != string(doc) {
		t.Errorf("%s is not what is said; PEERMESH_UPDATE=1 go test -run %s ./node writes it:\n%s", file, t.Name(), strings.Join(rows, "\n"))
	}
}

// What differs from run to run.
var unsteady = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`127\.0\.0\.1:[0-9]+`), "ADDRESS"},
	{regexp.MustCompile(`10\.[0-9.]+:[0-9]+`), "ADDRESS"},
	{regexp.MustCompile(`\b[a-z2-7]{26}\b`), "ID"},
	{regexp.MustCompile(`\b([0-9.]+(h|m|s|ms|µs))+\b`), "D"},
	{regexp.MustCompile(`\b[0-9.]+ (KiB|MiB|GiB)`), "SIZE"},
	{regexp.MustCompile(`=[0-9]{5,}`), "=BYTES"},
	{regexp.MustCompile(`[0-9]{5,} bytes`), "BYTES"},
	{regexp.MustCompile(`UDP port [0-9]+`), "UDP port PORT"},
}

func steady(s string) string {
	for _, u := range unsteady {
		s = u.re.ReplaceAllString(s, u.to)
	}
	return strings.ReplaceAll(s, "|", "\\|")
}
