package cloudevents

import (
	"context"
	"fmt"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/patterns"

	"github.com/cloudevents/sdk-go/v2/event"
)

// ownMesh keeps the tests to themselves.
func ownMesh(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "AppData"} {
		t.Setenv(name, home)
	}
}

func openNode(t *testing.T, peers ...*node.Node) *node.Node {
	t.Helper()
	cfg := node.Config{Name: "test", Listen: "127.0.0.1:0", NoMDNS: true}
	for _, p := range peers {
		cfg.Peers = append(cfg.Peers, p.Addr().String())
	}
	n, err := node.Open(t.Context(), cfg)
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

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// queue is a queue between two nodes.
func queue(t *testing.T, from, to *node.Node, name string) (*patterns.Push, *patterns.Pull) {
	t.Helper()
	push, err := from.Push(name, patterns.MaxDeliver(2), patterns.Backoff(time.Millisecond, time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	pull, err := to.Pull(name)
	if err != nil {
		t.Fatal(err)
	}
	return push, pull
}

// newEvent is an event with a type and some data.
func newEvent(t *testing.T, kind string, n int) event.Event {
	t.Helper()
	e := event.New()
	e.SetID(fmt.Sprint(n))
	e.SetSource("/test")
	e.SetType(kind)
	if err := e.SetData(event.ApplicationJSON, map[string]int{"n": n}); err != nil {
		t.Fatal(err)
	}
	return e
}
