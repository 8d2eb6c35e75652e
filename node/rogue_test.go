package node_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/quic-go/quic-go"
)

// scene is a node under attack, and an honest peer that asks it for something all the
// while. It lives in a synctest bubble.
type scene struct {
	*testing.T
	mesh   *meshtest.Mesh
	pem    []byte
	n      *node.Node
	honest *node.Node
	echo   *patterns.Req
	since  time.Time // when the honest link came up
	logged bytes.Buffer

	mu     sync.Mutex
	events []node.PeerEvent
}

// attack runs f in a bubble with a scene. edit may change the node's configuration.
func attack(t *testing.T, f func(*testing.T, *scene), edit ...func(*node.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{T: t, mesh: meshtest.New(t, meshtest.Config{Seed: 1, Link: meshtest.Link{Delay: time.Millisecond}})}
		s.n = s.mesh.Node("n", append([]func(*node.Config){func(c *node.Config) {
			s.pem = c.MeshPEM
			c.Logger = slog.New(slog.NewTextHandler(&rawLog{s: s}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: s.raw}))
		}}, edit...)...)
		rep, err := s.n.Rep("echo")
		if err != nil {
			t.Fatal(err)
		}
		go rep.ServeRequests(context.Background(), func(_ context.Context, m *socket.Message) ([]byte, error) { return m.Body, nil })
		s.honest = s.mesh.Node("honest")
		if s.echo, err = s.honest.Req("echo"); err != nil {
			t.Fatal(err)
		}
		s.works()
		for _, p := range s.n.Peers() {
			s.since = p.Since
		}
		go func() {
			for e := range s.n.Events(t.Context()) {
				s.mu.Lock()
				s.events = append(s.events, e)
				s.mu.Unlock()
			}
		}()
		synctest.Wait()
		f(t, s)
		s.works()
		s.unharmed()
	})
}

// raw sees what is logged before a handler makes it safe.
func (s *scene) raw(_ []string, a slog.Attr) slog.Attr {
	if text := a.Value.String(); !printable(text) {
		s.Errorf("logged raw: %s=%q", a.Key, text)
	}
	return a
}

type rawLog struct{ s *scene }

func (l *rawLog) Write(b []byte) (int, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.logged.Write(b)
}

// printable reports whether s may go to a terminal.
func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\uFFFD' {
			return false
		}
	}
	return true
}

// settle lets everything on its way arrive.
func settle() {
	time.Sleep(200 * time.Millisecond)
	synctest.Wait()
}

// works asserts that the honest peer is served.
func (s *scene) works() {
	s.Helper()
	got, err := s.echo.Request(within(s, 10*time.Second), []byte("still there?"))
	if err != nil || string(got) != "still there?" {
		s.Fatalf("the honest peer's request: %q, %v", got, err)
	}
}

// unharmed asserts that the honest peer's link never ended.
func (s *scene) unharmed() {
	s.Helper()
	for _, p := range s.n.Peers() {
		if p.ID == s.honest.ID() && p.Since.Equal(s.since) {
			return
		}
	}
	s.Errorf("the honest peer's link since %v is gone: %+v", s.since, s.n.Peers())
}

// told returns the events so far.
func (s *scene) told() []node.PeerEvent {
	settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]node.PeerEvent(nil), s.events...)
}

// last returns the newest event about an id, whose texts are fit for a terminal.
func (s *scene) last(id node.ID) (last node.PeerEvent) {
	s.Helper()
	for _, e := range s.told() {
		if !printable(e.Name) || !printable(e.Reason) || !printable(string(e.Code)) {
			s.Errorf("raw event %+v", e)
		}
		if e.ID == id {
			last = e
		}
	}
	return last
}

// rogue is a member of the mesh with a good certificate that keeps to no rule.
type rogue struct {
	s     *scene
	id    node.ID
	nonce [16]byte
	chain [][]byte
	key   ed25519.PrivateKey
	tr    *quic.Transport
	conn  *quic.Conn
	ctl   *quic.Stream
	hello wire.Hello // the node's
}

// order is how a rogue's id compares with the node's.
type order int

const (
	anyhow order = iota
	lower
	higher
)

// rogue makes one, which has its own host.
func (s *scene) rogue(name string, as order) *rogue {
	s.Helper()
	r := &rogue{s: s}
	rand.Read(r.nonce[:])
	for {
		pub, key := newKey(s.T)
		r.id, r.key = identity.IDOf(pub), key
		if c := r.id.Compare(s.n.ID()); as == anyhow || as == lower && c < 0 || as == higher && c > 0 {
			var err error
			if r.chain, err = meshOf(s.T, s.pem).Issue(pub, identity.Claims{Namespace: "default", Name: name}, time.Now(), time.Hour); err != nil {
				s.Fatal(err)
			}
			break
		}
	}
	pc, err := s.mesh.Net().Listen(netip.MustParseAddrPort(s.mesh.Addr(name)))
	if err != nil {
		s.Fatal(err)
	}
	r.tr = &quic.Transport{Conn: pc}
	s.Cleanup(func() { r.leave() })
	return r
}

// leave ends the rogue and all it runs.
func (r *rogue) leave() {
	r.tr.Close()
	r.tr.Conn.Close()
}

func (r *rogue) tls() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{wire.ALPN}, ServerName: "peermesh",
		ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{{Certificate: r.chain, PrivateKey: r.key}}}
}

// dial connects, and says nothing.
func (r *rogue) dial() *rogue {
	r.s.Helper()
	var err error
	r.conn, err = r.tr.Dial(within(r.s, 10*time.Second), r.s.n.Addr(), r.tls(), &quic.Config{KeepAlivePeriod: time.Second, MaxIncomingStreams: 8192})
	if err != nil {
		r.s.Fatal(err)
	}
	return r
}

// open opens the control stream and writes b on it.
func (r *rogue) open(b []byte) *rogue {
	r.s.Helper()
	var err error
	if r.ctl, err = r.conn.OpenStream(); err != nil {
		r.s.Fatal(err)
	}
	r.say(b)
	return r
}

// say writes on the control stream. That the node may have closed it is no matter.
func (r *rogue) say(b []byte) { r.ctl.Write(b) }

// myHello is an honest HELLO.
func (r *rogue) myHello(name string) wire.Hello {
	return wire.Hello{Version: wire.Version, Node: r.id, Mesh: meshOf(r.s.T, r.s.pem).ID(), Incarnation: 1, Nonce: r.nonce, Link: 1,
		MaxMessage: 1 << 20, Namespace: "default", Name: name}
}

// link connects and does what it takes to be linked, with the HELLO as edited.
func (r *rogue) link(name string, edit ...func(*wire.Hello)) *rogue {
	r.s.Helper()
	h := r.myHello(name)
	for _, f := range edit {
		f(&h)
	}
	r.dial().open(wire.AppendHello(nil, h))
	t, payload := r.hear()
	hello, err := wire.ParseHello(payload)
	if t != wire.TypeHello || err != nil {
		r.s.Fatalf("frame %#x, %v, want HELLO", t, err)
	}
	r.hello = hello
	if r.id.Compare(r.s.n.ID()) < 0 {
		r.say(wire.AppendWelcome(nil, wire.Welcome{}))
	} else if t, _ := r.hear(); t != wire.TypeWelcome {
		r.s.Fatalf("frame %#x, want WELCOME", t)
	}
	settle()
	return r
}

// hear reads the next control frame.
func (r *rogue) hear() (wire.Type, []byte) {
	r.s.Helper()
	t, payload, err := socket.ReadFrame(r.ctl, 64<<10)
	if err != nil {
		r.s.Fatalf("control stream: %v", err)
	}
	return t, payload
}

// hearOffer skips control frames up to the OFFER of a name.
func (r *rogue) hearOffer(name string) wire.Offer {
	r.s.Helper()
	for {
		if t, payload := r.hear(); t == wire.TypeOffer {
			if o, err := wire.ParseOffer(payload); err == nil && o.Name == name {
				return o
			}
		}
	}
}

// echoes reads the control stream from now on and answers heartbeats.
func (r *rogue) echoes() *rogue {
	go func() {
		for {
			t, payload, err := socket.ReadFrame(r.ctl, 64<<10)
			if err != nil {
				return
			}
			if h, err := wire.ParseHeartbeat(payload); t == wire.TypeHeartbeat && err == nil && !h.Echo {
				r.say(wire.AppendHeartbeat(nil, wire.Heartbeat{Number: h.Number, Echo: true}))
			}
		}
	}()
	return r
}

// ended waits for the connection's end and returns its application code and text.
func (r *rogue) ended() (quic.ApplicationErrorCode, string) {
	r.s.Helper()
	select {
	case <-r.conn.Context().Done():
	case <-time.After(5 * time.Minute):
		r.s.Fatal("the node did not close the connection")
	}
	var app *quic.ApplicationError
	if err := context.Cause(r.conn.Context()); !errors.As(err, &app) {
		r.s.Fatalf("closed with %v, want an application error", err)
	}
	return app.ErrorCode, app.ErrorMessage
}

// linked reports whether the node has a link to the rogue.
func (r *rogue) linked() bool {
	settle()
	for _, p := range r.s.n.Peers() {
		if p.ID == r.id {
			return true
		}
	}
	return false
}

// attach is an honest ATTACH to the offer.
func (r *rogue) attach(o wire.Offer) wire.Attach {
	return wire.Attach{Socket: o.Socket, Kind: o.Kind.Opposite(), Level: wire.Memory, Store: r.nonce, Edition: 1, Nonce: r.nonce,
		Incarnation: 1, Number: 1, Start: 1, ReplyCredit: 1 << 20, Name: o.Name}
}

// stream opens a stream and writes b on it.
func (r *rogue) stream(b []byte) *quic.Stream {
	r.s.Helper()
	st, err := r.conn.OpenStream()
	if err != nil {
		r.s.Fatal(err)
	}
	if _, err := st.Write(b); err != nil {
		r.s.Fatal(err)
	}
	return st
}

// pipe attaches to the node's socket of that name and returns the stream and what
// ATTACHED said.
func (r *rogue) pipe(name string) (*quic.Stream, wire.Attached) {
	r.s.Helper()
	st := r.stream(wire.AppendAttach(nil, r.attach(r.hearOffer(name))))
	t, payload, err := socket.ReadFrame(st, wire.MaxFrame)
	if err != nil || t != wire.TypeAttached {
		r.s.Fatalf("frame %#x, %v, want ATTACHED", t, err)
	}
	a, err := wire.ParseAttached(payload)
	if err != nil {
		r.s.Fatal(err)
	}
	return st, a
}

// cut waits until the node has reset the stream, and returns what it had said before.
func (r *rogue) cut(st *quic.Stream) []byte {
	r.s.Helper()
	st.SetReadDeadline(time.Now().Add(5 * time.Minute))
	said, err := io.ReadAll(st)
	var reset *quic.StreamError
	if !errors.As(err, &reset) || !reset.Remote {
		r.s.Errorf("the stream ended with %v, want a reset", err)
	}
	return said
}
