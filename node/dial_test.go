package node_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/discovery"
	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/node/meshtest"

	"github.com/quic-go/quic-go"
)

// hearsay are the candidates that a node was told by peers.
func hearsay(n *node.Node) (out []node.Candidate) {
	for _, c := range n.Candidates() {
		if c.Source == "peers" {
			out = append(out, c)
		}
	}
	return out
}

// nobody are count peers at addresses where nobody is.
func nobody(from, count int) (out []wire.Peer) {
	for i := from; i < from+count; i++ {
		out = append(out, wire.Peer{Node: [16]byte{byte(i), byte(i >> 8), 1}, Addr: fmt.Sprintf("10.%d.%d.%d:%d", 100+i>>16, i>>8&0xff, i&0xff, 1000)})
	}
	return out
}

func TestHearsayOfUnreachableNodesIsTriedAFewAtATime(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		before := s.mesh.Net().Stats().Nobody
		r.say(wire.AppendPeers(nil, nobody(0, wire.MaxPeers)))
		time.Sleep(1900 * time.Millisecond) // until the first dials time out
		if n := len(hearsay(s.n)); n != wire.MaxPeers {
			t.Errorf("%d candidates, want %d", n, wire.MaxPeers)
		}
		if sent := s.mesh.Net().Stats().Nobody - before; sent == 0 || sent > 64*8 {
			t.Errorf("%d packets in the first two seconds, want those of 64 dials", sent)
		}
	})
}

func TestHearsayThatLeadsNowhereIsGivenUp(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		r.say(wire.AppendPeers(nil, nobody(0, 20)))
		settle()
		if n := len(hearsay(s.n)); n != 20 {
			t.Errorf("%d candidates, want 20", n)
		}
		time.Sleep(time.Minute)
		if left := hearsay(s.n); len(left) != 0 {
			t.Errorf("%d candidates are left, as %+v", len(left), left[0])
		}
		sent := s.mesh.Net().Stats().Nobody
		time.Sleep(time.Minute)
		if more := s.mesh.Net().Stats().Nobody - sent; more != 0 {
			t.Errorf("%d packets after it was given up", more)
		}
		if !r.linked() {
			t.Error("the link was cut")
		}
	})
}

func TestANodeWithoutHearsayDialsNobodyWhomAPeerTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})
		seed := m.Node("seed")
		onlySeed := func(c *node.Config) { c.Peers, c.NoHearsay = []string{m.Addr("seed")}, true }
		x, y := m.Node("x", onlySeed), m.Node("y", onlySeed)
		m.AwaitLinks(seed, x)
		m.AwaitLinks(seed, y)
		time.Sleep(time.Minute)
		if _, _, up := x.LinkTo(y.ID()); up {
			t.Error("they are linked")
		}
		if got := append(hearsay(x), hearsay(y)...); len(got) != 0 {
			t.Errorf("candidates %+v, want none", got)
		}
		z := m.Node("z", func(c *node.Config) { c.Peers = []string{m.Addr("seed")} })
		m.AwaitLinks(x, z) // it was told, and dials
		m.AwaitLinks(y, z)
	})
}

func TestAddressesOfOneNodeByHearsayAreBounded(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		for i := range 4 {
			peers := nobody(i*wire.MaxPeers, wire.MaxPeers)
			for k := range peers {
				peers[k].Node = [16]byte{42}
			}
			r.say(wire.AppendPeers(nil, peers))
		}
		settle()
		if n := len(hearsay(s.n)); n > 8 {
			t.Errorf("%d addresses of one node, want at most 8", n)
		}
		s.works()
	})
}

func TestHearsayThatIsNoHostIsIgnored(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		var peers []wire.Peer
		for i, addr := range []string{"", "rubbish", "10.0.0.1", "host:80", "10.0.0.1:99999", "127.0.0.1:53", "[::1]:53", "0.0.0.0:1", "224.0.0.251:5353",
			"255.255.255.255:9", "10.0.0.1:0", "[fe80::1%eth0]:1", "\x1b[31m:1", strings.Repeat("1", 128)} {
			peers = append(peers, wire.Peer{Node: [16]byte{byte(i), 9}, Addr: addr})
		}
		peers = append(peers, wire.Peer{Node: s.n.ID(), Addr: "10.0.0.77:1"})
		r.say(wire.AppendPeers(nil, peers))
		settle()
		if got := hearsay(s.n); len(got) != 0 {
			t.Errorf("candidates %+v, want none", got)
		}
		if !r.linked() {
			t.Error("the link was cut")
		}
	})
}

func TestHearsayThatPointsElsewhereLinksNobodyElse(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		var peers []wire.Peer
		for i := range 50 { // all are said to be where the honest peer is
			peers = append(peers, wire.Peer{Node: [16]byte{byte(i), 8}, Addr: s.mesh.Addr("honest")})
		}
		r.say(wire.AppendPeers(nil, peers))
		time.Sleep(5 * time.Minute)
		if n := len(s.n.Peers()); n != 2 {
			t.Errorf("%d peers, want the honest one and the rogue", n)
		}
		if left := hearsay(s.n); len(left) != 0 {
			t.Errorf("%d candidates are left", len(left))
		}
		refused := 0
		for _, e := range s.told() {
			if e.State == node.Refused {
				refused++
			}
		}
		if refused == 0 || refused > len(peers) || s.n.EventsDropped() != 0 {
			t.Errorf("%d refusals of %d told, %d events dropped", refused, len(peers), s.n.EventsDropped())
		}
	})
}

func TestPeersKnownByHearsayFindEachOtherAfterALongCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})
		seed := m.Node("seed")
		onlySeed := func(c *node.Config) { c.Peers = []string{m.Addr("seed")} }
		x, y := m.Node("x", onlySeed), m.Node("y", onlySeed)
		m.AwaitLinks(seed, x, y)
		m.Partition([]*node.Node{x}, []*node.Node{y})
		time.Sleep(5 * time.Minute)
		if _, _, up := x.LinkTo(y.ID()); up {
			t.Fatal("linked across a partition")
		}
		m.Heal()
		began := time.Now()
		m.AwaitLinks(x, y)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("linked again after %v", took)
		}
	})
}

// liar listens at a name's address and ends every connection with a code.
func liar(t *testing.T, m *meshtest.Mesh, name string, code quic.ApplicationErrorCode) (stop func()) {
	t.Helper()
	pc, err := m.Net().Listen(netip.MustParseAddrPort(m.Addr(name)))
	if err != nil {
		t.Fatal(err)
	}
	chain, key := selfSigned(t)
	tr := &quic.Transport{Conn: pc}
	ln, err := tr.Listen(&tls.Config{NextProtos: []string{wire.ALPN}, Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			c.CloseWithError(code, "so I say")
		}
	}()
	return func() {
		ln.Close()
		tr.Close()
		pc.Close()
	}
}

func TestStrangersLieDoesNotStopTheDialling(t *testing.T) {
	for name, code := range map[string]quic.ApplicationErrorCode{
		"it left":                   codeBye,
		"protocol":                  codeProtocol,
		"mesh":                      codeRefused,
		"superseded":                codeRefused + 8,
		"this is the node itself":   codeRefused + 9,
		"a code beyond all":         1<<62 - 1,
		"a code beyond the refused": codeRefused + 10,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})
				stop := liar(t, m, "b", code)
				a := m.Node("a", func(c *node.Config) { c.Peers = []string{m.Addr("b")} })
				time.Sleep(10 * time.Second)
				for _, c := range a.Candidates() {
					if c.Addr == m.Addr("b") && (c.Verdict == "" || c.Verdict == "linked") {
						t.Errorf("verdict %q", c.Verdict)
					}
				}
				stop()
				b := m.Node("b", func(c *node.Config) { c.Peers = nil }) // only a dials
				began := time.Now()
				m.AwaitLinks(a, b)
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("linked after %v", took)
				}
			})
		})
	}
}

func TestPeerThatEndsEachLinkAtOnceIsNotDialledInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{T: t, mesh: meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})}
		s.n = s.mesh.Node("n", func(c *node.Config) { s.pem, c.Peers = c.MeshPEM, []string{s.mesh.Addr("r")} })
		r := s.rogue("r", higher) // so that its HELLO is enough
		ln, err := r.tr.Listen(r.tls(), nil)
		if err != nil {
			t.Fatal(err)
		}
		dials := 0
		go func() {
			for {
				conn, err := ln.Accept(context.Background())
				if err != nil {
					return
				}
				dials++
				if ctl, err := conn.AcceptStream(context.Background()); err == nil {
					ctl.Write(wire.AppendHello(nil, r.myHello("r")))
					time.Sleep(10 * time.Millisecond)
				}
				conn.CloseWithError(codeBye, "")
			}
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if dials < 10 || dials > 200 {
			t.Errorf("%d dials in a minute, want about one a second", dials)
		}
		ln.Close()
	})
}

func TestWhoIsForgottenWhileItIsLinkedIsNotDialledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: time.Millisecond}})
		nobody := func(c *node.Config) { c.Peers = nil }
		a, b := m.Node("a", nobody), m.Node("b", nobody)
		tell := func(k discovery.Kind) {
			addr := netip.MustParseAddrPort(m.Addr("b"))
			a.Discovered(discovery.Event{Kind: k, Candidate: discovery.Candidate{Addr: addr, Source: discovery.SourceStatic}})
		}
		for range 3 { // what was forgotten once does not count later
			tell(discovery.Found)
			m.AwaitLinks(a, b)
			settle()
			tell(discovery.Lost)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = m.Node("b", nobody)
		time.Sleep(time.Minute)
		if p := a.Peers(); len(p) > 0 {
			t.Errorf("linked to %+v, which nobody told of", p)
		}
		tell(discovery.Found)
		m.AwaitLinks(a, b)
	})
}

func TestCloseInTheMiddleOfADialStorm(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond, 3 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := meshtest.New(t, meshtest.Config{Link: meshtest.Link{Delay: 30 * time.Millisecond}})
				for i := range 4 {
					m.Node(fmt.Sprint("there", i))
				}
				n := m.Node("n", func(c *node.Config) {
					for _, p := range nobody(0, 40) {
						c.Peers = append(c.Peers, p.Addr)
					}
				})
				time.Sleep(after)
				began := time.Now()
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						if err := n.Close(); err != nil {
							t.Errorf("close: %v", err)
						}
					})
				}
				wg.Wait()
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("close took %v", took)
				}
				if p := n.Peers(); len(p) != 0 {
					t.Errorf("closed, and linked to %+v", p)
				}
			})
		})
	}
}

func TestHonestPeerLinksInAFloodOfIdleHandshakes(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow)
		const count, most = 300, 256
		var conns []*rogue
		for range count {
			conns = append(conns, r.again().dial())
		}
		late := s.mesh.Node("late")
		began := time.Now()
		s.mesh.AwaitLinks(s.n, late)
		if took := time.Since(began); took > time.Second {
			t.Errorf("linked after %v", took)
		}
		for i, c := range conns {
			if code, text := c.ended(); i < count-most && code != 2 || text == "" {
				t.Errorf("connection %d was closed with %d %q", i, code, text)
			}
		}
	})
}

func TestStrangersInARowFloodNeitherEventsNorPeers(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow)
		chain, key := selfSigned(t)
		r.chain, r.key = chain, key
		const count = 200
		for range count {
			c := r.again().dial()
			if code, _ := c.ended(); code != codeRefused+1 {
				t.Fatalf("closed with %d, want a refused certificate", code)
			}
		}
		refused := 0
		for _, e := range s.told() {
			if e.State == node.Refused && e.Code == identity.CodeCertificate {
				refused++
			}
		}
		if refused == 0 || refused > 150 {
			t.Errorf("%d of %d refusals told", refused, count)
		}
	})
}
