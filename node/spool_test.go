package node_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/socket"
	"peermesh/spool"
)

func nothing(*spool.Change) {}

// onDisk opens a node with a state directory.
func onDisk(t *testing.T, mesh []byte, dir string) *node.Node {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{Name: "a", MeshPEM: mesh, Dir: dir, Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

// fed puts messages into a queue and waits for the disk.
func fed(t *testing.T, s *node.Spool, q node.Queue, bodies ...string) {
	t.Helper()
	f, err := s.Feed(q)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, body := range bodies {
		_, g, err := f.Post(t.Context(), &socket.Message{Body: []byte(body)}, nothing)
		if err == nil {
			err = s.Wait(t.Context(), g)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpoolOfADirectoryThatHoldsNoneMakesNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := node.OpenSpool(dir, ""); !errors.Is(err, node.ErrNoSpool) {
		t.Errorf("opened with %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("made %q, %v", left, err)
	}
}

func TestSpoolIsTheRunningNodesAndLockedForOthers(t *testing.T) {
	dir, mesh := t.TempDir(), newMesh(t)
	n := onDisk(t, mesh, dir)
	if _, err := node.OpenSpool(dir, ""); !errors.Is(err, spool.ErrLocked) {
		t.Errorf("beside a running node: %v", err)
	}
	q := node.Queue{Kind: node.QueuePush, Namespace: n.Namespace(), Name: "jobs"}
	fed(t, n.Spool(), q, "one", "two")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := node.OpenSpool(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	fed(t, s, q, "three")
	queues := s.Queues()
	if len(queues) != 1 || queues[0].Name != "jobs" || queues[0].Info.Unsettled != 3 {
		t.Errorf("queues %+v", queues)
	}
	loan, err := s.Lend(q)
	if err != nil || loan.InUse || loan.State.Next != 4 {
		t.Fatalf("lent %+v, %v", loan, err)
	}
	if b, err := loan.Read(1); err != nil || b.Base != 1 {
		t.Errorf("read %+v, %v", b, err)
	}
	if _, err := loan.Read(4); !errors.Is(err, io.EOF) {
		t.Errorf("read beyond the end: %v", err)
	}
	loan.Return()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnEphemeralNodeHasNoSpool(t *testing.T) {
	if s := open(t, newMesh(t), "a").Spool(); s != nil {
		t.Errorf("it has %+v", s)
	}
}

func TestWhatIsFedToADirectoryIsDeliveredByItsNode(t *testing.T) {
	mesh, dir := newMesh(t), t.TempDir()
	n := onDisk(t, mesh, dir)
	q := node.Queue{Kind: node.QueuePush, Namespace: n.Namespace(), Name: "jobs"}
	fed(t, n.Spool(), q, "fed")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = onDisk(t, mesh, dir)
	pull, err := open(t, mesh, "b", n).Pull("jobs")
	if err != nil {
		t.Fatal(err)
	}
	push, err := n.Push("jobs")
	if err != nil {
		t.Fatal(err)
	}
	m, err := pull.Recv(within(t, 30*time.Second))
	if err != nil || string(m.Body) != "fed" {
		t.Fatalf("got %v, %v", m, err)
	}
	if err := errors.Join(m.Ack(), push.Flush(within(t, 30*time.Second))); err != nil {
		t.Error(err)
	}
}

func TestFeedHoldsNamesAndSizesToTheRules(t *testing.T) {
	n := onDisk(t, newMesh(t), t.TempDir())
	q := node.Queue{Kind: node.QueuePush, Namespace: n.Namespace()}
	if _, err := n.Spool().Feed(q); err == nil {
		t.Error("a queue without a name")
	}
	q.Name = "jobs"
	f, err := n.Spool().Feed(q)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, err := f.Post(t.Context(), &socket.Message{Body: make([]byte, node.DefaultMaxMessage+1)}, nothing); !errors.Is(err, socket.ErrTooLarge) {
		t.Errorf("a message that is too large: %v", err)
	}
	if _, err := n.Push("jobs"); !errors.Is(err, spool.ErrInUse) {
		t.Errorf("a push beside a feed: %v", err)
	}
}

// A socket that shares its queue is asked; one that does not keeps it to itself.
func TestAQueueInUseIsItsSocketsToShare(t *testing.T) {
	n := onDisk(t, newMesh(t), t.TempDir())
	push, err := n.Push("jobs")
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Send(t.Context(), []byte("one")); err != nil {
		t.Fatal(err)
	}
	_, shares := any(push).(interface {
		PostWith(context.Context, *socket.Message, func(*spool.Change)) (uint64, spool.Group, error)
	})
	q := node.Queue{Kind: node.QueuePush, Namespace: n.Namespace(), Name: "jobs"}
	loan, err := n.Spool().Lend(q)
	switch {
	case !shares:
		if !errors.Is(err, spool.ErrInUse) {
			t.Errorf("lent with %v", err)
		}
	case err != nil || !loan.InUse || loan.State.Next != 2:
		t.Errorf("lent %+v, %v", loan, err)
	default:
		loan.Return()
		fed(t, n.Spool(), q, "two")
		if l := push.Stats().Ledger; l.Accepted != 2 || l.Queued != 2 {
			t.Errorf("ledger %+v", l)
		}
	}
	q.Kind, q.Name = node.QueueDead, "elsewhere"
	if loan, err = n.Spool().Lend(q); err != nil || loan.InUse {
		t.Errorf("a queue that nobody has open: %+v, %v", loan, err)
	} else {
		loan.Return()
	}
}
