package zmtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

const patience = 30 * time.Second // bounds waits for what must come

// quiet is how long nothing is waited for, where nothing may come. Too short, it makes a test weaker, not wrong.
const quiet = 50 * time.Millisecond

var testMesh = sync.OnceValue(func() []byte {
	m, err := identity.NewMesh(time.Now())
	if err != nil {
		panic(err)
	}
	pem, err := m.Marshal()
	if err != nil {
		panic(err)
	}
	return pem
})

// A lab is a bridge with one endpoint, and the node below it.
type lab struct {
	*testing.T
	n  *node.Node
	b  *Bridge
	ln net.Listener // of peers, where the endpoint connects
}

func openNode(t *testing.T) *node.Node {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{MeshPEM: testMesh(), NoMDNS: true, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// folder is one with a short name, for sockets.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "zmtp") //nolint:usetesting // the path of a Unix socket has a hundred bytes, and TempDir's a test's whole name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// begin opens an endpoint that binds; connecting opens one that connects to the lab.
func begin(t *testing.T, e Endpoint) *lab {
	t.Helper()
	e.Bind = "ipc://" + filepath.Join(folder(t), "b")
	return beginAt(t, e)
}

func connecting(t *testing.T, e Endpoint) *lab {
	t.Helper()
	e.Connect = "ipc://" + filepath.Join(folder(t), "c")
	l := beginAt(t, e)
	l.listen()
	return l
}

func beginAt(t *testing.T, e Endpoint) *lab {
	t.Helper()
	l := &lab{T: t, n: openNode(t)}
	e.Name = "name"
	b, err := New(l.n, Config{Endpoints: []Endpoint{e}})
	if err != nil {
		t.Fatal(err)
	}
	l.b = b
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *lab) listen() {
	l.Helper()
	ln, err := net.Listen("unix", strings.TrimPrefix(l.b.Addr(0), "ipc://"))
	if err != nil {
		l.Fatal(err)
	}
	l.ln = ln
	l.Cleanup(func() { _ = ln.Close() }) // a test may have done so
}

func (l *lab) stats() Stats { return l.b.Stats()[0] }

func (l *lab) await(what string, happened func(Stats) bool) {
	l.Helper()
	for until := time.Now().Add(patience); !happened(l.stats()); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			l.Fatalf("never: %s; %+v", what, l.stats())
		}
	}
}

// A peer is a ZeroMQ socket of the test: the other end of one connection.
type peer struct {
	*lab
	net   net.Conn
	r     *reader
	got   []message
	heard []command
	deaf  bool // does not answer PINGs
}

// peer connects, or is connected to.
func (l *lab) peer(kind Type, identity string) *peer {
	l.Helper()
	before := l.stats().Accepted
	var nc net.Conn
	var err error
	if l.ln != nil {
		nc, err = l.ln.Accept()
	} else {
		nc, err = net.Dial("unix", strings.TrimPrefix(l.b.Addr(0), "ipc://"))
	}
	if err != nil {
		l.Fatal(err)
	}
	if _, err := open(nc, kind, identity, l.ln != nil, patience); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = nc.Close() }) // a test may have done so
	l.await("the peer is there", func(s Stats) bool { return s.Accepted > before })
	return &peer{lab: l, net: nc, r: newReader(nc, 1<<26, 1<<16)}
}

func (p *peer) write(b []byte) {
	p.Helper()
	if err := p.net.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		p.Fatal(err)
	}
	if _, err := p.net.Write(b); err != nil {
		p.Fatal(err)
	}
}

func (p *peer) send(parts ...string) {
	p.Helper()
	p.write(appendMessage(nil, raw(parts)))
}

func (p *peer) leave() {
	p.Helper()
	lost := p.stats().Lost
	if err := p.net.Close(); err != nil {
		p.Fatal(err)
	}
	p.await("the peer has left", func(s Stats) bool { return s.Lost > lost })
}

// poll reads until something comes or the wait is over.
func (p *peer) poll(wait time.Duration) error {
	if err := p.net.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	return p.r.read(func(ms []message) error {
		for _, m := range ms {
			p.got = append(p.got, slices.Clone(m))
		}
		return nil
	}, func(c command) error {
		if c.name != cmdPing {
			p.heard = append(p.heard, c)
			return nil
		}
		_, context, err := parsePing(c.data)
		if err == nil && !p.deaf {
			_, err = p.net.Write(appendCommand(nil, cmdPong, context))
		}
		return err
	})
}

// recv waits for the next message.
func (p *peer) recv() []string {
	p.Helper()
	for until := time.Now().Add(patience); len(p.got) == 0; {
		if err := p.poll(time.Until(until)); err != nil {
			p.Fatalf("%v; %+v", err, p.stats())
		}
	}
	m := p.got[0]
	p.got = p.got[1:]
	return texts(m)
}

func (p *peer) expect(parts ...string) {
	p.Helper()
	if got := p.recv(); !slices.Equal(got, parts) {
		p.Fatalf("got %.60q, want %.60q", got, parts)
	}
}

// confirmed reads on, and so answers PINGs, until the bridge knows of so many messages that they were read.
func (p *peer) confirmed(n uint64) {
	p.Helper()
	for until := time.Now().Add(patience); p.stats().Confirmed < n; {
		if time.Now().After(until) {
			p.Fatalf("never: %d messages are confirmed; %+v", n, p.stats())
		}
		if err := p.poll(time.Millisecond); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			p.Fatal(err)
		}
	}
}

// silent checks that no message comes.
func (p *peer) silent() {
	p.Helper()
	for until := time.Now().Add(quiet); time.Now().Before(until); {
		if err := p.poll(quiet); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			p.Fatal(err)
		}
		if len(p.got) > 0 {
			p.Fatalf("got %.60q, want nothing", texts(p.got[0]))
		}
	}
}

func raw(parts []string) (m [][]byte) {
	for _, p := range parts {
		m = append(m, []byte(p))
	}
	return m
}

func texts(m message) (parts []string) {
	for _, p := range m {
		parts = append(parts, string(p))
	}
	return parts
}

// The sockets of the mesh that the bridge is joined to.

func (l *lab) push(opts ...patterns.Option) *patterns.Push { return must(l.n.Push("name", opts...)) }
func (l *lab) pull(opts ...patterns.Option) *patterns.Pull { return must(l.n.Pull("name", opts...)) }

func must[S any](s S, err error) S {
	if err != nil {
		panic(err)
	}
	return s
}

func (l *lab) sendTo(p *patterns.Push, bodies ...string) {
	l.Helper()
	for _, b := range bodies {
		if err := p.Send(l.Context(), []byte(b)); err != nil {
			l.Fatal(err)
		}
	}
}

// received takes n messages from a receiver of the mesh.
func (l *lab) received(recv func(context.Context) (*socket.Message, error), n int) (all []*socket.Message) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	for range n {
		m, err := recv(ctx)
		if err != nil {
			l.Fatalf("after %d of %d: %v; %+v", len(all), n, err, l.stats())
		}
		if err := m.Ack(); err != nil {
			l.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func bodies(ms []*socket.Message) (all []string) {
	for _, m := range ms {
		all = append(all, string(m.Body))
	}
	return all
}

// nothing checks that a receiver of the mesh gets nothing.
func (l *lab) nothing(recv func(context.Context) (*socket.Message, error)) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), quiet)
	defer cancel()
	if m, err := recv(ctx); err == nil {
		l.Fatalf("got %.60q, want nothing", m.Body)
	}
}

func numbered(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// A rule is one SHALL of an RFC about the behaviour of a socket.
type rule struct {
	rfc    int
	socket Type
	text   string
	test   func(t *testing.T, p Profile)
	// deviates is why profile durable does otherwise; then test shows at durable what it does instead.
	deviates string
}

func TestRFCs28And29And30(t *testing.T) {
	rules := slices.Concat(pipelineRules, pubsubRules, reqrepRules)
	verdicts := make([]string, 0, 2*len(rules))
	for _, p := range []Profile{Classic, Durable} {
		for _, r := range rules {
			ok := t.Run(fmt.Sprintf("%s/RFC %d/%s/%s", p, r.rfc, r.socket, r.text), func(t *testing.T) {
				r.test(t, p)
			})
			verdict := "holds"
			switch {
			case !ok:
				verdict = "FAILS"
			case p == Durable && r.deviates != "":
				verdict = "deviates: " + r.deviates
			}
			verdicts = append(verdicts, fmt.Sprintf("%-8s %d %-7s %-98s %s", p, r.rfc, r.socket, r.text, verdict))
		}
	}
	t.Log("profile, rule, verdict\n" + strings.Join(verdicts, "\n"))
}

// The table of deviations in docs/ZEROMQ.md is the one of the tests.
func TestTheDeviationsInTheDocsAreThoseOfTheTests(t *testing.T) {
	b, err := os.ReadFile("../../docs/ZEROMQ.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, r := range slices.Concat(pipelineRules, pubsubRules, reqrepRules) {
		if r.deviates != "" {
			want = append(want, fmt.Sprintf("| %d %s | %s | %s |", r.rfc, r.socket, r.text, r.deviates))
		}
	}
	for _, line := range want {
		if !strings.Contains(string(b), line+"\n") {
			t.Errorf("not in docs/ZEROMQ.md: %s", line)
		}
	}
	if got := strings.Count(string(b), "\n| 2") + strings.Count(string(b), "\n| 3"); got != len(want) {
		t.Errorf("docs/ZEROMQ.md has %d deviations, the tests have %d", got, len(want))
	}
}
