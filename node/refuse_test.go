package node_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/quic-go/quic-go"
)

// await returns the first event that matches.
func await(t *testing.T, n *node.Node, what string, match func(node.PeerEvent) bool) node.PeerEvent {
	t.Helper()
	return expect(t, n, what, match)()
}

// expect listens from now on; what it returns waits for the first event that matches.
func expect(t *testing.T, n *node.Node, what string, match func(node.PeerEvent) bool) func() node.PeerEvent {
	t.Helper()
	events := n.Events(within(t, time.Minute))
	return func() node.PeerEvent {
		t.Helper()
		for e := range events {
			if match(e) {
				return e
			}
		}
		t.Fatalf("%s: no event: %s", n.Name(), what)
		return node.PeerEvent{}
	}
}

func refusedAs(code identity.Code) func(node.PeerEvent) bool {
	return func(e node.PeerEvent) bool { return e.State == node.Refused && e.Code == code }
}

// bothRefuse waits until both nodes tell of a refusal with the code, with a reason,
// and one of them as the other's doing.
func bothRefuse(t *testing.T, a, b *node.Node, code identity.Code) {
	t.Helper()
	toldA, toldB := expect(t, a, string(code), refusedAs(code)), expect(t, b, string(code), refusedAs(code)) // at one of b's dials
	for _, e := range []node.PeerEvent{toldA(), toldB()} {
		if e.Reason == "" {
			t.Errorf("refusal without a reason: %+v", e)
		}
	}
	for _, n := range []*node.Node{a, b} {
		if p := n.Peers(); len(p) != 0 {
			t.Errorf("%s is linked to %+v", n.Name(), p)
		}
	}
}

func TestNodeOfAnotherMeshIsRefusedAtBothSides(t *testing.T) {
	a := open(t, newMesh(t), "a")
	b := open(t, newMesh(t), "b", a)
	bothRefuse(t, a, b, identity.CodeMesh)
	for _, c := range b.Candidates() {
		if c.Code != identity.CodeMesh || c.Verdict == "" {
			t.Errorf("verdict on %s: %q %q, want code mesh", c.Addr, c.Code, c.Verdict)
		}
	}
}

// stranger is a bare QUIC client with a certificate of our choice.
type stranger struct {
	conn   *quic.Conn
	closed *quic.ApplicationError // before Dial returned; then there is no conn
	tr     *quic.Transport
}

// dialBare connects to n showing the chain, or no certificate. The node may have closed the connection by the time it returns,
// for the handshake comes first: that is no error.
func dialBare(t *testing.T, n *node.Node, chain [][]byte, key ed25519.PrivateKey, alpn string) (*stranger, error) {
	t.Helper()
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &stranger{tr: &quic.Transport{Conn: pc}}
	t.Cleanup(func() {
		s.tr.Close()
		pc.Close()
	})
	conf := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{alpn}, ServerName: "peermesh"}
	if chain != nil {
		conf.Certificates = []tls.Certificate{{Certificate: chain, PrivateKey: key}}
	}
	s.conn, err = s.tr.Dial(within(t, time.Minute), n.Addr(), conf, nil)
	if errors.As(err, &s.closed) {
		err = nil
	}
	return s, err
}

// says opens a stream and writes on it, if the node has not closed the connection yet.
func (s *stranger) says(b []byte) *quic.Stream {
	if s.conn == nil {
		return nil
	}
	st, err := s.conn.OpenStream()
	if err != nil {
		return nil
	}
	st.Write(b)
	return st
}

// closedWith waits for the connection's end and returns its application code.
func (s *stranger) closedWith(t *testing.T) *quic.ApplicationError {
	t.Helper()
	if s.closed != nil {
		return s.closed
	}
	select {
	case <-s.conn.Context().Done():
	case <-time.After(time.Minute):
		t.Fatal("the node did not close the connection")
	}
	var app *quic.ApplicationError
	if !errors.As(context.Cause(s.conn.Context()), &app) {
		t.Fatalf("closed with %v, want an application error", context.Cause(s.conn.Context()))
	}
	return app
}

func meshOf(t *testing.T, pem []byte) *identity.Mesh {
	t.Helper()
	m, err := identity.ParseMesh(pem)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newKey(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pub, key
}

func selfSigned(t *testing.T) ([][]byte, ed25519.PrivateKey) {
	t.Helper()
	pub, key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{der}, key
}

func TestBadCertificatesAreRefusedWithTheirReasonAtBothSides(t *testing.T) {
	pem := newMesh(t)
	mesh := meshOf(t, pem)
	issue := func(now time.Time) ([][]byte, ed25519.PrivateKey) {
		pub, key := newKey(t)
		chain, err := mesh.Issue(pub, identity.Claims{Namespace: "default", Name: "old"}, now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return chain, key
	}
	for _, c := range []struct {
		name string
		code identity.Code
		show func() ([][]byte, ed25519.PrivateKey)
	}{
		{"none", identity.CodeCertificate, func() ([][]byte, ed25519.PrivateKey) { return nil, nil }},
		{"self-signed", identity.CodeCertificate, func() ([][]byte, ed25519.PrivateKey) { return selfSigned(t) }},
		{"expired", identity.CodeExpired, func() ([][]byte, ed25519.PrivateKey) { return issue(time.Now().Add(-48 * time.Hour)) }},
		{"not yet valid", identity.CodeExpired, func() ([][]byte, ed25519.PrivateKey) { return issue(time.Now().Add(48 * time.Hour)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := open(t, pem, "n")
			work, err := n.Pull("jobs")
			if err != nil {
				t.Fatal(err)
			}
			told := expect(t, n, string(c.code), refusedAs(c.code))
			chain, key := c.show()
			s, err := dialBare(t, n, chain, key, wire.ALPN)
			if err != nil {
				t.Fatal(err)
			}
			// Whatever it sends at once must not reach the application.
			s.says(wire.AppendAttach(nil, wire.Attach{Socket: 1, Kind: wire.Push, Level: wire.Memory, Number: 1, Name: "jobs"}))
			if app := s.closedWith(t); app.ErrorMessage == "" || app.ErrorCode < 16 {
				t.Errorf("closed with %v, want a refusal's code and a reason", app)
			}
			if e := told(); e.Reason == "" || e.Remote {
				t.Errorf("event %+v, want a reason of our own", e)
			}
			if st := work.Stats(); st.Pipes != 0 || st.Delivered != 0 {
				t.Errorf("the stranger reached the application: %+v", st)
			}
		})
	}
}

func TestHelloWithAnotherNodesIDIsRefusedAtBothSides(t *testing.T) {
	pem := newMesh(t)
	mesh := meshOf(t, pem)
	n := open(t, pem, "n")
	victim := open(t, pem, "victim")
	told := expect(t, n, "identity", refusedAs(identity.CodeIdentity))
	pub, key := newKey(t)
	chain, err := mesh.Issue(pub, identity.Claims{Namespace: "default", Name: "thief"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dialBare(t, n, chain, key, wire.ALPN)
	if err != nil {
		t.Fatal(err)
	}
	ctl, err := s.conn.OpenStreamSync(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	hello := wire.Hello{Version: wire.Version, Node: victim.ID(), Mesh: mesh.ID(), Incarnation: 1, Nonce: [16]byte{1}, Link: 1,
		MaxMessage: 1 << 20, Namespace: "default", Name: "thief"}
	if _, err := ctl.Write(wire.AppendHello(nil, hello)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := socket.ReadFrame(ctl, 1<<10); err != nil { // its HELLO
		t.Fatal(err)
	}
	typ, payload, err := socket.ReadFrame(ctl, 1<<10)
	if err != nil || typ != wire.TypeRefused {
		t.Fatalf("got frame %#x, %v, want REFUSED", typ, err)
	}
	if r, err := wire.ParseRefused(payload); err != nil || r.Code != string(identity.CodeIdentity) || r.Reason == "" {
		t.Errorf("refused with %+v, %v, want code identity and a reason", r, err)
	}
	if e := told(); e.Reason == "" {
		t.Errorf("event %+v without a reason", e)
	}
	s.conn.CloseWithError(0, "")
}

func TestUnknownProtocolVersionIsRefused(t *testing.T) {
	n := open(t, newMesh(t), "n")
	chain, key := selfSigned(t)
	if s, err := dialBare(t, n, chain, key, "peermesh/99"); err == nil {
		t.Errorf("connected with another protocol: %v", s.conn.ConnectionState().TLS.NegotiatedProtocol)
	}
}

func TestCopiedStateDirectoryIsRefusedAndTheFirstLinkStays(t *testing.T) {
	mesh := newMesh(t)
	dir := filepath.Join(t.TempDir(), "state")
	cfg := node.Config{Name: "original", MeshPEM: mesh, Listen: "127.0.0.1:0", NoMDNS: true, Dir: dir}
	first, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	if err := os.CopyFS(clone, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(clone, 0o700); err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(clone, func(p string, d os.DirEntry, _ error) error {
		if d.Type().IsRegular() {
			return os.Chmod(p, 0o600)
		}
		return nil
	})
	hub := open(t, mesh, "hub")
	cfg.Peers = []string{hub.Addr().String()}
	first, err = node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	await(t, hub, "original up", func(e node.PeerEvent) bool { return e.State == node.Up && e.Name == "original" })
	told := expect(t, hub, "duplicate", refusedAs(identity.CodeDuplicate))
	cfg.Dir, cfg.Name = clone, "clone"
	second, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if e := told(); e.ID != first.ID() {
		t.Errorf("refused %v, want %v", e.ID, first.ID())
	}
	if e := await(t, second, "duplicate", refusedAs(identity.CodeDuplicate)); !e.Remote {
		t.Errorf("the clone's event %+v, want a remote refusal", e)
	}
	if p := hub.Peers(); len(p) != 1 || p[0].Name != "original" {
		t.Errorf("hub is linked to %+v, want the original", p)
	}
}

func TestPolicyDenialIsTypedAtBothEnds(t *testing.T) {
	mesh := newMesh(t)
	a, err := node.Open(t.Context(), node.Config{Name: "a", MeshPEM: mesh, Listen: "127.0.0.1:0", NoMDNS: true,
		Authorize: func(_ context.Context, acc node.Access) error {
			if acc.Verb == wire.Push && acc.Name == "jobs" {
				return errors.New("not on my watch")
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b := open(t, mesh, "b", a)
	told := map[*node.Node]func() node.PeerEvent{}
	for _, n := range []*node.Node{a, b} {
		told[n] = expect(t, n, "policy", refusedAs(identity.CodePolicy))
	}
	if _, err := a.Pull("jobs"); err != nil {
		t.Fatal(err)
	}
	jobs, err := b.Push("jobs")
	if err != nil {
		t.Fatal(err)
	}
	if err := jobs.Send(within(t, 20*time.Second), []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node.Node{a, b} {
		if e := told[n](); e.Reason == "" || e.Remote != (n == b) {
			t.Errorf("%s: %+v", n.Name(), e)
		}
	}
	if l := jobs.Stats().Ledger; l.Queued != 1 {
		t.Errorf("ledger %+v, want the message still queued", l)
	}
}

func TestNamespacesAreSeparateWorlds(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b, err := node.Open(t.Context(), node.Config{Name: "b", Namespace: "other", MeshPEM: mesh, Listen: "127.0.0.1:0", NoMDNS: true,
		Peers: []string{a.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := a.Pull("jobs"); err != nil {
		t.Fatal(err)
	}
	same := open(t, mesh, "same", a)
	sees := func(n *node.Node) *patterns.Push {
		p, err := n.Push("jobs")
		if err != nil {
			t.Fatal(err)
		}
		await(t, n, "a up", func(e node.PeerEvent) bool { return e.State == node.Up && e.Name == "a" })
		return p
	}
	here, there := sees(same), sees(b)
	if err := here.WaitReady(within(t, 10*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	if err := there.WaitReady(within(t, 500*time.Millisecond), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a puller of another namespace: %v, want none", err)
	}
}

// A node answers HELLO with nothing of its own before it has judged the certificate.
func TestStrangerReadsNothing(t *testing.T) {
	n := open(t, newMesh(t), "n")
	s, err := dialBare(t, n, nil, nil, wire.ALPN)
	if err != nil {
		t.Fatal(err)
	}
	if st := s.says([]byte{1}); st != nil {
		b, _ := io.ReadAll(st)
		if len(b) > 0 {
			t.Errorf("a stranger read %d bytes", len(b))
		}
	}
	s.closedWith(t)
}
