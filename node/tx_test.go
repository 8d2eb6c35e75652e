package node_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/socket"
)

// kept opens a node on loopback whose state is in dir.
func kept(t *testing.T, mesh []byte, name, dir string, peers ...*node.Node) *node.Node {
	t.Helper()
	cfg := node.Config{Name: name, MeshPEM: mesh, Dir: dir, Listen: "127.0.0.1:0", NoMDNS: true}
	for _, p := range peers {
		cfg.Peers = append(cfg.Peers, p.Addr().String())
	}
	n, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	return n
}

func TestTransactionsMovePerMessageAndOutliveTheNode(t *testing.T) {
	ctx := within(t, 30*time.Second)
	mesh := newMesh(t)
	a := kept(t, mesh, "a", t.TempDir())
	dir := t.TempDir()
	b := kept(t, mesh, "b", dir, a)
	const total = 200
	in, err := a.Push("in")
	check(err)
	for i := range total {
		_, err := in.Post(ctx, &socket.Message{Body: fmt.Append(nil, i)})
		check(err)
	}
	work, err := b.Pull("in")
	check(err)
	out, err := b.Push("out")
	check(err)
	working, stop := context.WithCancel(ctx)
	handled := make(chan error, 1)
	go func() {
		handled <- work.Handle(working, 8, func(ctx context.Context, m *socket.Message) error {
			return b.Tx(ctx, func(tx *node.Tx) error {
				n, _ := strconv.Atoi(string(tx.Get("moved"))) // nothing is 0
				tx.Put("moved", fmt.Append(nil, n+1))
				tx.Send(out, m)
				return tx.Ack(m)
			})
		})
	}()
	if err := in.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-handled; !errors.Is(err, context.Canceled) {
		t.Errorf("Handle: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b = kept(t, mesh, "b", dir, a)
	if v, err := b.Get(ctx, "moved"); string(v) != strconv.Itoa(total) || err != nil {
		t.Errorf("moved: got %q, %v, want %d", v, err, total)
	}
	if out, err = b.Push("out"); err != nil {
		t.Fatal(err)
	}
	results, err := a.Pull("out")
	check(err)
	seen := map[string]bool{}
	for range total {
		m, err := results.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(m.Body)] = true
		check(m.Ack())
	}
	if len(seen) != total {
		t.Errorf("%d different messages of %d", len(seen), total)
	}
	if err := out.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if l := out.Stats().Ledger; l.Carried != total || l.Done != total {
		t.Errorf("ledger %+v, want %d carried and done", l, total)
	}
}

func TestTransactionsNeedADirectory(t *testing.T) {
	n := open(t, newMesh(t), "n")
	if err := n.Tx(t.Context(), func(*node.Tx) error { return nil }); !errors.Is(err, socket.ErrNoDir) {
		t.Errorf("Tx: got %v, want %v", err, socket.ErrNoDir)
	}
	if _, err := n.Get(t.Context(), "x"); !errors.Is(err, socket.ErrNoDir) {
		t.Errorf("Get: got %v, want %v", err, socket.ErrNoDir)
	}
}
