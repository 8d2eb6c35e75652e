package node_test

import (
	"context"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

func TestARequesterIsToldThatARepliersNodeHasNoDirectory(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := open(t, mesh, "b", a)
	told := expect(t, b, "no-dir", refusedAs(socket.CodeNoDir))
	if _, err := a.Rep("svc"); err != nil {
		t.Fatal(err)
	}
	q, err := b.Req("svc", patterns.Executed(patterns.OnceDurable))
	if err != nil {
		t.Fatal(err)
	}
	if e := told(); e.Reason == "" || !e.Remote {
		t.Errorf("%+v", e)
	}
	if _, err := q.Request(within(t, time.Second), nil); patterns.OutcomeOf(err).String() != "failed" {
		t.Errorf("Request: %v", err)
	}
}

// Over real links: a replier that is opened again answers what it had answered, and has
// begun nothing twice.
func TestOnceDurableRequestsOutliveTheirReplier(t *testing.T) {
	mesh, dir := newMesh(t), t.TempDir()
	asker := open(t, mesh, "asker")
	q, err := asker.Req("svc", patterns.Executed(patterns.OnceDurable))
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{}, 10)
	life := func() *node.Node {
		n, err := node.Open(t.Context(), node.Config{Name: "replier", MeshPEM: mesh, Listen: "127.0.0.1:0", NoMDNS: true, Dir: dir,
			Peers: []string{asker.Addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := n.Rep("svc", patterns.Concurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		go r.ServeRequests(t.Context(), func(ctx context.Context, m *socket.Message) ([]byte, error) {
			begun <- struct{}{}
			if string(m.Body) == "hang" {
				<-ctx.Done()
			}
			return m.Body, nil
		})
		return n
	}
	n := life()
	ended := make(chan error, 1)
	go func() {
		_, err := q.Request(within(t, 30*time.Second), []byte("hang"))
		ended <- err
	}()
	<-begun
	waits := make(chan error, 1)
	go func() {
		_, err := q.Request(within(t, 30*time.Second), []byte("waits behind it"))
		waits <- err
	}()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = life()
	defer n.Close()
	if err := <-ended; patterns.OutcomeOf(err).String() != "indeterminate" {
		t.Errorf("the one that was begun: %v", err)
	}
	if err := <-waits; err != nil {
		t.Errorf("the one that was not: %v", err)
	}
	if x := len(begun); x != 1 {
		t.Errorf("%d executions besides, want 1", x)
	}
}
