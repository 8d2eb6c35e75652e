package patterns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
	"peermesh/socket"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test in fake time; when it ends, nothing it started is left.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// within is a context that ends after d of fake time.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// long is more fake time than anything takes.
func long(t testing.TB) context.Context { return within(t, time.Hour) }

// node is one process of a test's mesh.
type node struct {
	testing.TB
	local  socket.Local
	seqs   MemorySeqs
	closed int // sockets

	mu      sync.Mutex
	numbers uint64
	labels  int
}

func newNode(t testing.TB, id byte) *node {
	n := &node{TB: t, local: socket.Local{Node: identity.ID{id}, Store: [16]byte{id, 1}, Edition: uint64(id), Nonce: [16]byte{id, 1},
		Incarnation: 1, Namespace: "test", MaxMessage: 8 << 20, Budget: socket.NewBudget(64 << 20)}}
	n.local.Numbers = func() uint64 {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.numbers++
		return n.numbers
	}
	return n
}

// again is the node after a restart without a state directory.
func (n *node) again() *node {
	m := newNode(n.TB, n.local.Node[0])
	m.local.Nonce[1] = n.local.Nonce[1] + 1
	m.local.Store = m.local.Nonce
	return m
}

func (n *node) env() Env {
	return Env{Local: n.local, Seqs: &n.seqs, Closed: func() { n.mu.Lock(); n.closed++; n.mu.Unlock() }}
}

func (n *node) peer() socket.Peer {
	return socket.Peer{ID: n.local.Node, Name: "node", Nonce: n.local.Nonce, Incarnation: n.local.Incarnation, MaxMessage: n.local.MaxMessage}
}

type closer interface {
	Shutdown(context.Context) error
	Close() error
}

// made fails the test if a socket could not be made, and closes it at its end.
func made[S closer](t testing.TB, s S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func (n *node) push(opts ...Option) *Push {
	n.Helper()
	s, err := NewPush(n.env(), "x", opts...)
	return made(n.TB, s, err)
}

func (n *node) pull(opts ...Option) *Pull {
	n.Helper()
	s, err := NewPull(n.env(), "x", opts...)
	return made(n.TB, s, err)
}

func (n *node) pub(opts ...Option) *Pub {
	n.Helper()
	s, err := NewPub(n.env(), "x", opts...)
	return made(n.TB, s, err)
}

func (n *node) sub(opts ...Option) *Sub {
	n.Helper()
	env := n.env()
	if n.labels++; n.labels > 1 {
		env.Label = fmt.Sprint(n.labels)
	}
	s, err := NewSub(env, "x", opts...)
	return made(n.TB, s, err)
}

func (n *node) req(opts ...Option) *Req {
	n.Helper()
	s, err := NewReq(n.env(), "x", opts...)
	return made(n.TB, s, err)
}

func (n *node) rep(opts ...Option) *Rep {
	n.Helper()
	s, err := NewRep(n.env(), "x", opts...)
	return made(n.TB, s, err)
}

type meeter interface {
	Meet(context.Context, socket.Peer, wire.Offer, socket.Conn) error
}

type server interface {
	Kind() socket.Kind
	Name() string
	Offer(number uint64) wire.Offer
	Serve(context.Context, socket.Peer, wire.Attach, socket.Conn) error
}

// link keeps a pipe between a sender and a receiver, as a node does: when it is lost,
// it is opened again after a moment.
type link struct {
	testing.TB
	from, to *node
	s        meeter
	r        server
	wrap     func(socket.Conn) socket.Conn // the sender's end of the next pipe
	direct   bool                          // pipes have TryWrite, as over the network

	mu     sync.Mutex
	conns  []socket.Conn
	down   bool
	ended  bool // in good order, or for good
	errs   []error
	healed socket.Event
	over   chan struct{}
	stop   chan struct{}
}

const redial = 200 * time.Millisecond

// direct is a connection with TryWrite, which refuses now and then.
type direct struct {
	socket.Conn
	n int
}

func (d *direct) TryWrite(b []byte) (bool, error) {
	if d.n++; d.n%4 == 0 || len(b) > 1024 {
		return false, nil
	}
	_, err := d.Write(b) // the other end always reads
	return err == nil, err
}

// connect joins two sockets until the test ends.
func connect(from *node, s meeter, to *node, r server) *link {
	l := newLink(from, s, to, r)
	l.start()
	return l
}

func newLink(from *node, s meeter, to *node, r server) *link {
	return &link{TB: from.TB, from: from, to: to, s: s, r: r, over: make(chan struct{}), stop: make(chan struct{})}
}

func (l *link) start() {
	go l.keep()
	l.Cleanup(func() {
		l.cut()
		close(l.stop)
		<-l.over
	})
}

func (l *link) keep() {
	defer close(l.over)
	for {
		l.mu.Lock()
		down, healed := l.down, l.healed.Wait()
		l.mu.Unlock()
		if down {
			select {
			case <-healed:
			case <-l.stop:
				return
			}
			continue
		}
		err := l.once()
		l.mu.Lock()
		l.errs = append(l.errs, err)
		l.ended = err == nil || errors.Is(err, socket.ErrClosed)
		l.mu.Unlock()
		if l.ended {
			return
		}
		select {
		case <-time.After(redial):
		case <-l.stop:
			return
		}
	}
}

// once runs one pipe and returns how it ended for the sender.
func (l *link) once() error {
	a, b := socket.Duplex()
	l.mu.Lock()
	if l.wrap != nil {
		a = l.wrap(a)
	}
	if l.direct {
		a, b = &direct{Conn: a}, &direct{Conn: b}
	}
	l.conns = []socket.Conn{a, b}
	l.mu.Unlock()
	served := make(chan struct{})
	go func() {
		defer close(served)
		l.serve(b)
	}()
	err := l.s.Meet(context.Background(), l.to.peer(), l.r.Offer(1), a)
	b.Close()
	<-served
	return err
}

func (l *link) serve(c socket.Conn) {
	_, payload, err := socket.ReadFrame(c, 1<<10)
	if err != nil {
		c.Close()
		return
	}
	a, err := wire.ParseAttach(payload)
	if err != nil {
		l.Error(err)
		c.Close()
		return
	}
	l.r.Serve(context.Background(), l.from.peer(), a, c)
}

// cut ends the pipe that is there without a word; a new one follows.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
}

// part is sever once what was on its way has arrived.
func (l *link) part() {
	synctest.Wait()
	l.sever()
}

// sever cuts, whatever is on its way, and no new pipe follows until heal.
func (l *link) sever() {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.cut()
	synctest.Wait()
}

func (l *link) heal() {
	l.mu.Lock()
	l.down = false
	l.healed.Fire()
	l.mu.Unlock()
}

// inOrder demands that no pipe ended otherwise than in good order.
func (l *link) inOrder() {
	l.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.errs {
		if err != nil && !errors.Is(err, socket.ErrClosed) {
			l.Errorf("a pipe ended with %v", err)
		}
	}
}

type waiter interface {
	WaitReady(context.Context, int) error
}

func ready(t testing.TB, s waiter, n int) {
	t.Helper()
	if err := s.WaitReady(long(t), n); err != nil {
		t.Fatalf("WaitReady(%d): %v", n, err)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// same compares what two values print as.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func matches(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want an error that matches %v", what, err, want)
	}
}

type stater interface{ Stats() SenderStats }

// balanced returns a ledger, which must be in balance.
func balanced(t testing.TB, s stater) Ledger {
	t.Helper()
	l := s.Stats().Ledger
	if !l.Balanced() {
		t.Fatalf("out of balance: %+v", l)
	}
	return l
}

type receives interface {
	Recv(context.Context) (*socket.Message, error)
}

// recv takes the next message, which must have that body.
func recv(t testing.TB, r receives, body string) *socket.Message {
	t.Helper()
	m, err := r.Recv(long(t))
	if err != nil {
		t.Fatalf("Recv: %v, want %q", err, body)
	}
	if string(m.Body) != body {
		t.Fatalf("message %d is %.40q, want %q", m.Seq(), m.Body, body)
	}
	return m
}

// acked is recv and Ack.
func acked(t testing.TB, r receives, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := recv(t, r, b).Ack(); err != nil {
			t.Fatal(err)
		}
	}
}

// none demands that nothing comes for some time.
func none(t testing.TB, r receives) {
	t.Helper()
	if m, err := r.Recv(within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Recv: %+v, %v; want nothing", m, err)
	}
}

func send(t testing.TB, p *Push, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := p.Send(long(t), []byte(b)); err != nil {
			t.Fatalf("Send of %q: %v", b, err)
		}
	}
}

func publish(t testing.TB, p *Pub, topic string, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := p.Publish(long(t), topic, []byte(b)); err != nil {
			t.Fatalf("Publish of %q: %v", b, err)
		}
	}
}

// fates notes what OnSettled says.
type fates struct {
	mu  sync.Mutex
	all []Settled
}

func (f *fates) note(s Settled) {
	f.mu.Lock()
	f.all = append(f.all, s)
	f.mu.Unlock()
}

// told is all of it, as seq, state and reason, when nothing goes on any more: what is told comes after what it tells of.
func (f *fates) told() (out []string) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.all {
		text := fmt.Sprint(s.Seq, " ", s.State)
		if s.Reason != "" {
			text += " " + s.Reason
		}
		out = append(out, text)
	}
	return out
}

// counted is how many there are of each kind.
func (f *fates) counted(kind func(Settled) string) map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := map[string]int{}
	for _, s := range f.all {
		n[kind(s)]++
	}
	return n
}

// gaps notes what OnGap says.
type gaps struct {
	mu  sync.Mutex
	all []socket.Gap
}

func (g *gaps) note(x socket.Gap) {
	g.mu.Lock()
	g.all = append(g.all, x)
	g.mu.Unlock()
}

// list is all of it.
func (g *gaps) list() []socket.Gap {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.all)
}

// told is all of it. How a hole is cut into pieces says nothing.
func (g *gaps) told() (out []string) {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := 0; i < len(g.all); {
		x := g.all[i]
		for i++; i < len(g.all) && g.all[i].From == x.To+1 && g.all[i].Reason == x.Reason; i++ {
			x.To = g.all[i].To
		}
		out = append(out, fmt.Sprintf("%d-%d %s", x.From, x.To, x.Reason))
	}
	return out
}

// set is what lies in them.
func (g *gaps) set() (s ranges.Set) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range g.all {
		s.Add(x.From, x.To)
	}
	return s
}
