package node_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/quic-go/quic-go"
)

// striped is two nodes that spread what is sent from a to b over three connections, and the sockets.
type striped struct {
	t    *testing.T
	mesh *meshtest.Mesh
	a, b *node.Node
	push *patterns.Push
	pull *patterns.Pull
	sent uint64
}

func newStriped(t *testing.T, link meshtest.Link) *striped {
	s := &striped{t: t, mesh: meshtest.New(t, meshtest.Config{Seed: 1, Link: link})}
	three := func(c *node.Config) { c.Stripes = 3 }
	s.a, s.b = s.mesh.Node("a", three), s.mesh.Node("b", three)
	s.a.SpreadAt(100*time.Millisecond, 100<<10)
	s.mesh.AwaitLinks(s.a, s.b)
	var err error
	if s.push, err = s.a.Push("jobs"); err != nil {
		t.Fatal(err)
	}
	if s.pull, err = s.b.Pull("jobs"); err != nil {
		t.Fatal(err)
	}
	return s
}

// send sends n messages of some kilobytes, numbered.
func (s *striped) send(n int) {
	s.t.Helper()
	for range n {
		body := make([]byte, 1000+s.sent*7919%20000)
		binary.BigEndian.PutUint64(body, s.sent)
		s.sent++
		if err := s.push.Send(s.t.Context(), body); err != nil {
			s.t.Fatal(err)
		}
	}
}

// receive returns the numbers of the next n messages as they come.
func (s *striped) receive(n int) []uint64 {
	s.t.Helper()
	var got []uint64
	for len(got) < n {
		m, err := s.pull.Recv(s.t.Context())
		if err != nil {
			s.t.Error(err)
			return got
		}
		number := binary.BigEndian.Uint64(m.Body)
		if want := 1000 + number*7919%20000; uint64(len(m.Body)) != want {
			s.t.Errorf("message %d has %d bytes, want %d", number, len(m.Body), want)
		}
		got = append(got, number)
		m.Ack()
	}
	return got
}

// carry sends and receives n messages and checks their order.
func (s *striped) carry(n int) {
	s.t.Helper()
	first := s.sent
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i, number := range s.receive(n) {
			if number != first+uint64(i) {
				s.t.Errorf("message %d came in the place of %d", number, first+uint64(i))
				return
			}
		}
	}()
	s.send(n)
	<-done
}

// spread carries messages until they go over three connections.
func (s *striped) spread() {
	s.t.Helper()
	for began := time.Now(); s.a.Peers()[0].Stripes != 3; {
		if time.Since(began) > time.Minute {
			s.t.Fatal("not spread within a minute")
		}
		s.carry(100)
		time.Sleep(10 * time.Millisecond)
	}
	s.carry(200) // the pipe takes them
}

var lossy = meshtest.Link{Delay: 2 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.01}

func TestASpreadPipeKeepsTheOrderThoughPacketsAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStriped(t, lossy)
		s.spread()
		before := s.a.StripeBytes(s.b.ID())
		s.carry(1000)
		for i, sent := range s.a.StripeBytes(s.b.ID()) {
			if used := sent-before[i] > 2<<20; used != (i == 1 || i == 2) { // of 11 MB
				t.Errorf("%d bytes went over connection %d", sent-before[i], i)
			}
		}
		if n := s.b.Peers()[0].Stripes; n != 3 {
			t.Errorf("the receiver tells of %d connections, want 3", n)
		}
		if n := s.b.WindowsHeld(); n != 3 {
			t.Errorf("the receiver has %d windows within its budget, want 3", n)
		}
	})
}

func TestAPipeThatCarriesLittleIsGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStriped(t, lossy)
		s.spread()
		time.Sleep(30 * time.Second)
		for _, n := range []*node.Node{s.a, s.b} {
			if k := n.Peers()[0].Stripes; k != 0 {
				t.Errorf("%s: over %d connections after half a minute of rest", n.Name(), k)
			}
		}
		if n := s.b.WindowsHeld(); n != 1 {
			t.Errorf("%d windows within the budget, want 1", n)
		}
		s.carry(1)
		s.spread()
	})
}

func TestAConnectionOfASpreadPipeThatEndsLosesNothing(t *testing.T) {
	for cut := 1; cut <= 2; cut++ {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStriped(t, lossy)
				s.spread()
				first, came := s.sent, make(chan []uint64, 1)
				go func() { came <- s.receive(1000) }()
				s.send(500)
				if err := s.a.CutStripe(s.b.ID(), cut); err != nil {
					t.Fatal(err)
				}
				s.send(500)
				times := map[uint64]int{}
				for _, number := range <-came {
					times[number]++
				}
				for number := first; number < s.sent; number++ {
					if times[number] != 1 {
						t.Errorf("message %d came %d times", number, times[number])
					}
				}
				s.spread() // again
			})
		})
	}
}

func TestNodesThatDoNotBothSpreadDoNot(t *testing.T) {
	for _, k := range [][2]int{{0, 3}, {3, 0}, {2, 4}} {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})
				a := m.Node("a", func(c *node.Config) { c.Stripes = k[0] })
				b := m.Node("b", func(c *node.Config) { c.Stripes = k[1] })
				a.SpreadAt(100*time.Millisecond, 100<<10)
				m.AwaitLinks(a, b)
				s := &striped{t: t, mesh: m, a: a, b: b}
				var err error
				if s.push, err = a.Push("jobs"); err != nil {
					t.Fatal(err)
				}
				if s.pull, err = b.Pull("jobs"); err != nil {
					t.Fatal(err)
				}
				for range 10 {
					s.carry(100)
					time.Sleep(10 * time.Millisecond)
				}
				want := min(k[0], k[1])
				if n := a.Peers()[0].Stripes; n != want {
					t.Errorf("over %d connections, want %d", n, want)
				}
			})
		})
	}
	for _, k := range []int{-1, 1, 5} {
		if _, err := node.Open(t.Context(), node.Config{MeshPEM: newMesh(t), NoMDNS: true, Stripes: k}); err == nil {
			t.Errorf("Stripes of %d are taken", k)
		}
	}
}

// joins dials the node for a further connection and shows a ticket there. It returns the answer, or the code with which
// the connection ended.
func (r *rogue) joins(frame []byte) (wire.Type, quic.ApplicationErrorCode) {
	r.s.Helper()
	conf := r.tls()
	conf.NextProtos = []string{wire.StripeALPN}
	conn, err := r.tr.Dial(within(r.s, 10*time.Second), r.s.n.Addr(), conf, &quic.Config{KeepAlivePeriod: time.Second})
	if err != nil {
		r.s.Fatal(err)
	}
	r.conn = conn
	st := r.stream(frame)
	t, payload, err := socket.ReadFrame(st, 64)
	if err == nil {
		if j, err := wire.ParseJoin(payload); err != nil || j.Ticket != r.ticket() {
			r.s.Errorf("answered with %+v, %v, want the rogue's own ticket", j, err)
		}
		return t, 0
	}
	code, _ := r.ended()
	return 0, code
}

// ticket is what a rogue that has stripes gives the node.
func (r *rogue) ticket() [16]byte { return r.nonce }

func (r *rogue) stripes(k uint64) func(*wire.Hello) {
	return func(h *wire.Hello) { h.Near.Ticket, h.Stripes = r.ticket(), k }
}

func stripedScene(t *testing.T) *scene {
	s := &scene{T: t, mesh: meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})}
	s.n = s.mesh.Node("n", func(c *node.Config) {
		s.pem = c.MeshPEM
		c.Stripes = 3
	})
	return s
}

func TestAFurtherConnectionIsForItsLinkAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stripedScene(t)
		r := s.rogue("r", anyhow)
		r.link("r", r.stripes(3)).echoes()
		first := r.conn
		join := func(ticket [16]byte, number uint8) []byte {
			return wire.AppendJoin(nil, wire.Join{Ticket: ticket, Number: number})
		}
		thief := s.rogue("thief", anyhow)
		for name, c := range map[string]struct {
			who   *rogue
			frame []byte
			code  quic.ApplicationErrorCode
		}{
			"another node's ticket":   {thief, join(r.hello.Near.Ticket, 1), codeRefused + 3},     // identity
			"no link's ticket":        {r.again(), join([16]byte{1}, 1), codeRefused + 8},         // superseded
			"a number over the limit": {r.again(), join(r.hello.Near.Ticket, 3), codeRefused + 5}, // policy
			"no number there is":      {r.again(), []byte("\x40\x11" + string(r.hello.Near.Ticket[:]) + "\x00"), codeProtocol},
			"another frame":           {r.again(), wire.AppendNumber(nil, wire.TypeStripe, 1), codeProtocol},
			"a frame too long":        {r.again(), wire.AppendText(nil, wire.TypeJoin, strings.Repeat("x", 500)), codeProtocol},
		} {
			if typ, code := c.who.joins(c.frame); typ != 0 || code != c.code {
				t.Errorf("%s: frame %#x, code %d, want %d", name, typ, code, c.code)
			}
		}
		one, two, again := r.again(), r.again(), r.again()
		for _, x := range []*rogue{one, two} {
			if typ, code := x.joins(join(r.hello.Near.Ticket, 1)); typ != wire.TypeJoin {
				t.Fatalf("frame %#x, code %d, want JOIN", typ, code)
			}
		}
		if code, _ := one.ended(); code != codeBye { // the second one of a number takes its place
			t.Errorf("the first one was closed with %d, want %d", code, codeBye)
		}
		if n := s.n.Peers()[0].Stripes; n != 2 {
			t.Errorf("over %d connections, want 2", n)
		}
		if err := first.CloseWithError(codeBye, ""); err != nil {
			t.Fatal(err)
		}
		if code, _ := two.ended(); code != codeBye {
			t.Errorf("closed with %d when the link had ended, want %d", code, codeBye)
		}
		if typ, code := again.joins(join(r.hello.Near.Ticket, 1)); typ != 0 || code != codeRefused+8 {
			t.Errorf("a ticket of a link that has ended: frame %#x, code %d", typ, code)
		}
	})
}

func TestWhoSpreadsWhatCannotBeIsCutOff(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"over one that it is on":   wire.AppendSpread(nil, wire.Spread{Bundle: 1, Connections: 1}),
		"over more than agreed":    wire.AppendSpread(nil, wire.Spread{Bundle: 1, Connections: 4}),
		"over those there are not": wire.AppendSpread(nil, wire.Spread{Bundle: 1, Connections: 2}),
		"a frame too long":         wire.AppendText(nil, wire.TypeSpread, strings.Repeat("x", 500)),
		"over none":                []byte("\x1b\x02\x01\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stripedScene(t)
				if _, err := s.n.Pull("jobs"); err != nil {
					t.Fatal(err)
				}
				r := s.rogue("r", anyhow)
				r.link("r", r.stripes(3))
				st, _ := r.pipe("jobs")
				r.echoes()
				if _, err := st.Write(bytes); err != nil {
					t.Fatal(err)
				}
				if err := st.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, st); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the pipe: %v", err)
				}
				if !r.linked() {
					t.Error("the link has ended too")
				}
			})
		})
	}
}
