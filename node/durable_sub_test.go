package node_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// openIn opens a node whose state is in dir and that knows the others' addresses.
func openIn(t *testing.T, mesh []byte, name, dir string, others ...*node.Node) *node.Node {
	t.Helper()
	cfg := node.Config{Name: name, MeshPEM: mesh, Listen: "127.0.0.1:0", NoMDNS: true, Dir: dir}
	for _, o := range others {
		cfg.Peers = append(cfg.Peers, o.Addr().String())
	}
	n, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestADurableSubscriptionOutlivesBothNodes(t *testing.T) {
	mesh := newMesh(t)
	pubDir, subDir := t.TempDir(), t.TempDir()
	ctx := within(t, 30*time.Second)
	openPub := func(others ...*node.Node) (*node.Node, *patterns.Pub) {
		n := openIn(t, mesh, "pub", pubDir, others...)
		p, err := n.Pub("weather")
		if err != nil {
			t.Fatal(err)
		}
		return n, p
	}
	openSub := func(others ...*node.Node) (*node.Node, *patterns.Sub) {
		n := openIn(t, mesh, "sub", subDir, others...)
		s, err := n.Sub("weather", patterns.DurableName("dash"), patterns.Topics("*.temp"))
		if err != nil {
			t.Fatal(err)
		}
		return n, s
	}
	publish := func(p *patterns.Pub, from, to int) {
		t.Helper()
		for i := from; i <= to; i++ {
			for _, topic := range []string{"zurich.temp", "zurich.rain"} {
				if err := p.Publish(ctx, topic, fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	expect := func(s *patterns.Sub, from, to int) {
		t.Helper()
		for i := from; i <= to; i++ {
			m, err := s.Recv(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Body) != fmt.Sprint(i) || m.Topic != "zurich.temp" {
				t.Fatalf("got %q of %q, want %d", m.Body, m.Topic, i)
			}
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, p := openPub()
	b, s := openSub(a)
	if _, err := b.Sub("weather", patterns.DurableName("dash")); !errors.Is(err, node.ErrNameInUse) {
		t.Errorf("a second one of that name: %v, want %v", err, node.ErrNameInUse)
	}
	if err := p.WaitReady(ctx, 1); err != nil {
		t.Fatal(err)
	}
	publish(p, 1, 10)
	expect(s, 1, 10)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	publish(p, 11, 20)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a, p = openPub()
	publish(p, 21, 30)
	_, s = openSub(a)
	expect(s, 11, 30)
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if l := p.Stats().Ledger; !l.Balanced() || l.Queued+l.Leased > 0 {
		t.Errorf("ledger %+v", l)
	}
}

// Both ends are told why a durable subscription gets nothing.
func TestADurableSubscriptionThatCannotBeServedIsToldAtBothEnds(t *testing.T) {
	mesh := newMesh(t)
	subscribe := func(n *node.Node, channel string, opts ...patterns.Option) {
		t.Helper()
		if _, err := n.Sub(channel, append(opts, patterns.DurableName("dash"))...); err != nil {
			t.Fatal(err)
		}
	}
	publish := func(n *node.Node, channel string, level socket.Level) *patterns.Pub {
		t.Helper()
		p, err := n.Pub(channel, patterns.Durability(level))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	told := func(code identity.Code, at, by *node.Node, f func()) {
		t.Helper()
		heard, told := expect(t, by, string(code), refusedAs(code)), expect(t, at, string(code), refusedAs(code))
		f()
		here, there := heard(), told()
		if here.Remote || here.ID != at.ID() || !there.Remote || there.ID != by.ID() || there.Reason != here.Reason || here.Reason == "" {
			t.Errorf("%s: here %+v, there %+v", code, here, there)
		}
	}
	a := openIn(t, mesh, "a", t.TempDir())
	lasting := publish(a, "lasting", socket.Durable)
	publish(a, "fleeting", socket.Memory)
	b, c := openIn(t, mesh, "b", t.TempDir(), a), openIn(t, mesh, "c", t.TempDir(), a)
	told(socket.CodeNotDurable, b, a, func() { subscribe(b, "fleeting") })
	subscribe(b, "lasting", patterns.Exclusive())
	if err := lasting.WaitReady(within(t, 15*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	told(socket.CodeTaken, c, a, func() { subscribe(c, "lasting") })
}
