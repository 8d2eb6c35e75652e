package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// lan is a good network.
var lan = meshtest.Config{Seed: 1, Link: meshtest.Link{Delay: 2 * time.Millisecond, Jitter: time.Millisecond}}

// lighter is n, or a third of it under the race detector, which takes ten times as long.
func lighter(n int) int {
	if raceDetector {
		return n / 3
	}
	return n
}

// inBubble runs f with a mesh in a bubble.
func inBubble(t *testing.T, cfg meshtest.Config, f func(*testing.T, *meshtest.Mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, meshtest.New(t, cfg)) })
}

// within bounds waits by fake time: a bubble in which only heartbeats go on never ends by itself.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// must is for calls that return a value and an error: must[T](t)(call()).
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// source is a Pull or a Sub.
type source interface {
	Recv(context.Context) (*socket.Message, error)
}

// sendNumbers pushes 0, 1, ... count-1, one each pause.
func sendNumbers(t testing.TB, ctx context.Context, p *patterns.Push, count int, pause time.Duration) {
	for i := range count {
		if err := p.Send(ctx, fmt.Append(nil, i)); err != nil {
			t.Errorf("send %d: %v", i, err)
			return
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

// receiveNumbers expects from, from+1, ... to-1, unflagged, and acknowledges them.
func receiveNumbers(t testing.TB, ctx context.Context, s source, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		m, err := s.Recv(ctx)
		if err != nil {
			t.Errorf("message %d: %v", i, err)
			return
		}
		if got := string(m.Body); got != strconv.Itoa(i) || m.Redelivered() {
			t.Errorf("message %d: got %.20q, redelivered %v", i, got, m.Redelivered())
			return
		}
		if err := m.Ack(); err != nil {
			t.Errorf("ack %d: %v", i, err)
			return
		}
	}
}

// nothingMore waits long enough for anything that was sent again to arrive.
func nothingMore(t testing.TB, s source) {
	t.Helper()
	if m, err := s.Recv(within(t, time.Minute)); err == nil {
		t.Errorf("one more: %.20q, redelivered %v", m.Body, m.Redelivered())
	}
}

// The example in the comment of Mesh, in full.
func TestGreeterSurvivesACutCable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := meshtest.New(t, meshtest.Config{Seed: 1, Link: meshtest.Link{Delay: 5 * time.Millisecond, Loss: 0.02}})
		a, b := mesh.Node("a"), mesh.Node("b")
		mesh.AwaitLinks(a, b)

		greeter, err := b.Rep("greet")
		if err != nil {
			t.Fatal(err)
		}
		go greeter.ServeRequests(t.Context(), func(_ context.Context, m *socket.Message) ([]byte, error) {
			return append([]byte("hello "), m.Body...), nil
		})
		guest, err := a.Req("greet", patterns.Executed(patterns.Idempotent))
		if err != nil {
			t.Fatal(err)
		}
		mesh.Partition([]*node.Node{a}, []*node.Node{b})
		time.AfterFunc(20*time.Second, mesh.Heal) // of the bubble's time
		answer, err := guest.Request(t.Context(), []byte("ada"))
		if err != nil || string(answer) != "hello ada" {
			t.Errorf("answer %q, %v", answer, err)
		}
	})
}

func TestNodesOfAMeshFindEachOther(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		a, b, c := m.Node("a"), m.Node("b"), m.Node("c")
		m.AwaitLinks(a, b, c)
		for _, n := range []*node.Node{a, b, c} {
			if got := len(n.Peers()); got != 2 {
				t.Errorf("%s has %d peers, want 2", n.Name(), got)
			}
		}
	})
}

func TestOtherMeshesAreRefused(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		other := meshtest.New(t, meshtest.Config{})
		addr := netip.MustParseAddrPort(m.Addr("stranger"))
		conn := must[net.PacketConn](t)(m.Net().Listen(addr))
		stranger := other.Node("stranger", func(c *node.Config) { // of the other mesh, on this one's network
			check(t, c.PacketConn.Close())
			c.PacketConn = conn
		})
		a := m.Node("a", func(c *node.Config) { c.Peers = []string{m.Addr("stranger")} })
		for e := range a.Events(within(t, time.Minute)) {
			if e.State == node.Refused && e.ID == (node.ID{}) && e.Code == "mesh" {
				return
			}
			t.Logf("%+v", e)
		}
		t.Errorf("no refusal; %s has the peers %+v", stranger.Name(), stranger.Peers())
	})
}

func TestANameKeepsItsHost(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		later := m.Addr("later")
		a := m.Node("a", func(c *node.Config) { c.Peers = []string{later} })
		n := m.Node("later", func(c *node.Config) { c.Peers = nil })
		m.AwaitLinks(a, n)
		if got := n.Addr().String(); got != later {
			t.Errorf("at %s, want %s", got, later)
		}
		if a, b := m.Host(a), m.Host(n); a == b {
			t.Errorf("both have the host %v", a)
		}
		m.Kill(n)
		if got := m.Node("later").Addr().String(); got != later {
			t.Errorf("after its restart at %s, want %s", got, later)
		}
	})
}

func TestADirKeepsTheIdentity(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		first := stateful(m, "a")
		check(t, first.Close())
		second := stateful(m, "a")
		m.Kill(second)
		third := stateful(m, "a")
		if first.ID() != third.ID() || third.Incarnation() != first.Incarnation()+2 {
			t.Errorf("node %v of incarnation %d became %v of incarnation %d", first.ID(), first.Incarnation(), third.ID(), third.Incarnation())
		}
		if m.Dir("a") == m.Dir("b") {
			t.Error("two nodes share a directory")
		}
	})
}

// stateful opens a node that keeps its identity.
func stateful(m *meshtest.Mesh, name string) *node.Node {
	return m.Node(name, func(c *node.Config) { c.Dir = m.Dir(name) })
}

func TestAKilledNodeSaysNothing(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		m.AwaitLinks(a, b)
		pull := must[*patterns.Pull](t)(b.Pull("jobs"))
		hosts := [2]netip.Addr{m.Host(b), m.Host(a)}
		m.Kill(b)
		killed, sent := time.Now(), m.Net().LinkStats(hosts[0], hosts[1]).Sent
		if _, err := pull.Recv(within(t, time.Minute)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Recv on the killed node: %v, want net.ErrClosed", err)
		}
		for e := range a.Events(within(t, time.Minute)) {
			if e.State == node.Down {
				break
			}
		}
		if took := time.Since(killed); took < 5*time.Second || took > 15*time.Second {
			t.Errorf("missed after %v, want about 10 s: so long silence takes to mean something", took)
		}
		if now := m.Net().LinkStats(hosts[0], hosts[1]).Sent; now != sent {
			t.Errorf("%d packets after its death", now-sent)
		}
	})
}

func TestAnIsolatedNodeComesBack(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		m.AwaitLinks(a, b)
		m.Isolate(b)
		time.Sleep(30 * time.Second)
		if got := len(a.Peers()) + len(b.Peers()); got != 0 {
			t.Errorf("%d peers in isolation", got)
		}
		m.Heal()
		healed := time.Now()
		m.AwaitLinks(a, b)
		if took := time.Since(healed); took > 5*time.Second {
			t.Errorf("linked again after %v", took)
		}
	})
}

// Outside a bubble a mesh runs in real time.
func TestMeshRunsInRealTime(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Seed: 1, Link: meshtest.Link{Delay: 100 * time.Microsecond}})
	a, b := m.Node("a"), m.Node("b")
	push, pull := must[*patterns.Push](t)(a.Push("jobs")), must[*patterns.Pull](t)(b.Pull("jobs"))
	ctx := within(t, time.Minute)
	check(t, push.Send(ctx, []byte("0")))
	receiveNumbers(t, ctx, pull, 0, 1)
	check(t, push.Flush(ctx))
}

func TestAllPairsMayDialAtOnce(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		count := lighter(18)
		nodes, addrs := make([]*node.Node, count), make([]string, count)
		for i := range nodes {
			addrs[i] = m.Addr(fmt.Sprint("n", i))
		}
		began := time.Now()
		for i := range nodes {
			nodes[i] = m.Node(fmt.Sprint("n", i), func(c *node.Config) { c.Peers = addrs })
		}
		m.AwaitLinks(nodes...)
		up := time.Since(began)
		time.Sleep(30 * time.Second)
		for _, n := range nodes {
			peers := n.Peers()
			if len(peers) != count-1 {
				t.Errorf("%s has %d peers, want %d", n.Name(), len(peers), count-1)
			}
			for _, p := range peers {
				if late := p.Since.Sub(began); late > 5*time.Second {
					t.Errorf("%s: link to %s only since %v", n.Name(), p.Name, late)
				}
			}
		}
		t.Logf("all up after %v of fake time", up)
	})
}

// Heartbeats, leases and the packets that acknowledge them are all there is to say between two nodes that owe each
// other nothing.
func TestAnIdleHourCostsFewPackets(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		ctx := within(t, time.Minute)
		push, pull := must[*patterns.Push](t)(a.Push("jobs")), must[*patterns.Pull](t)(b.Pull("jobs"))
		sendNumbers(t, ctx, push, 100, 0)
		receiveNumbers(t, ctx, pull, 0, 100)
		check(t, push.Flush(ctx))
		before := m.Net().Stats()
		time.Sleep(time.Hour)
		after := m.Net().Stats()
		packets, bytes := after.Sent-before.Sent, after.SentBytes-before.SentBytes
		t.Logf("%d packets, %d bytes", packets, bytes)
		if most := uint64(5 * 3600); packets > most {
			t.Errorf("%d packets, want at most %d", packets, most)
		}
	})
}
