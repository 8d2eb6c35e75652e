package node_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/socket"

	"go.uber.org/goleak"
)

func verify(m *testing.M) { goleak.VerifyTestMain(m) }

// newMesh returns a mesh credential.
func newMesh(t testing.TB) []byte {
	t.Helper()
	m, err := identity.NewMesh(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pem, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return pem
}

// open opens a node on loopback that knows peers.
func open(t testing.TB, mesh []byte, name string, peers ...*node.Node) *node.Node {
	t.Helper()
	cfg := node.Config{Name: name, MeshPEM: mesh, Listen: "127.0.0.1:0", NoMDNS: true}
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

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestPushReachesPull(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := open(t, mesh, "b", a)
	ctx := within(t, 20*time.Second)
	jobs, err := a.Push("jobs")
	if err != nil {
		t.Fatal(err)
	}
	work, err := b.Pull("jobs")
	if err != nil {
		t.Fatal(err)
	}
	const total = 10000
	go func() {
		for i := range total {
			if err := jobs.Send(ctx, fmt.Appendf(nil, "job %d", i)); err != nil {
				t.Errorf("send %d: %v", i, err)
				return
			}
		}
	}()
	i := 0
	for m := range work.Messages(ctx) {
		if got, want := string(m.Body), fmt.Sprintf("job %d", i); got != want {
			t.Fatalf("message %d: got %q, want %q", i, got, want)
		}
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		if i++; i == total {
			break
		}
	}
	if i != total {
		t.Fatalf("got %d messages, want %d", i, total)
	}
	if err := jobs.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if l := jobs.Stats().Ledger; l.Done != total || !l.Balanced() {
		t.Errorf("ledger %+v, want %d done", l, total)
	}
}

func TestRequestIsAnswered(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := open(t, mesh, "b", a)
	ctx := within(t, 20*time.Second)
	up, err := a.Req("upper")
	if err != nil {
		t.Fatal(err)
	}
	rep, err := b.Rep("upper")
	if err != nil {
		t.Fatal(err)
	}
	go rep.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) {
		return append([]byte("re: "), m.Body...), nil
	})
	for i := range 100 {
		got, err := up.Request(ctx, fmt.Appendf(nil, "%d", i))
		if err != nil || string(got) != fmt.Sprintf("re: %d", i) {
			t.Fatalf("request %d: %q, %v", i, got, err)
		}
	}
}

func TestPublishReachesSubscribers(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := open(t, mesh, "b", a)
	ctx := within(t, 20*time.Second)
	pub, err := a.Pub("weather")
	if err != nil {
		t.Fatal(err)
	}
	all, err := b.Sub("weather")
	if err != nil {
		t.Fatal(err)
	}
	local, err := a.Sub("weather")
	if err != nil {
		t.Fatal(err)
	}
	if err := pub.WaitReady(ctx, 2); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := pub.Publish(ctx, "zurich.temp", fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]interface {
		Recv(context.Context) (*socket.Message, error)
	}{"remote": all, "local": local} {
		for i := range 100 {
			m, err := s.Recv(ctx)
			if err != nil || string(m.Body) != fmt.Sprint(i) || m.Topic != "zurich.temp" {
				t.Fatalf("%s: message %d: %+v, %v", name, i, m, err)
			}
			m.Ack()
		}
	}
	if err := pub.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherNodeAtAStaticAddressIsLinked(t *testing.T) {
	mesh := newMesh(t)
	first, err := node.Open(t.Context(), node.Config{Name: "first", MeshPEM: mesh, Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	addr := first.Addr().String()
	a := open(t, mesh, "a", first)
	await(t, a, "first up", func(e node.PeerEvent) bool { return e.State == node.Up && e.Name == "first" })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := node.Open(t.Context(), node.Config{Name: "second", MeshPEM: mesh, Listen: addr, NoMDNS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	await(t, a, "second up", func(e node.PeerEvent) bool { return e.State == node.Up && e.Name == "second" })
}

func TestOneSeedIsEnoughToLearnTheMesh(t *testing.T) {
	mesh := newMesh(t)
	seed := open(t, mesh, "seed")
	nodes := []*node.Node{seed}
	for i := range 4 {
		nodes = append(nodes, open(t, mesh, fmt.Sprint(i), seed))
	}
	for _, n := range nodes {
		up := map[node.ID]bool{}
		await(t, n, "all up", func(e node.PeerEvent) bool {
			if e.State == node.Up {
				up[e.ID] = true
			}
			return len(up) == len(nodes)-1
		})
	}
}

func TestShutdownFinishesWhatIsOwed(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := open(t, mesh, "b", a)
	jobs, err := a.Push("jobs")
	if err != nil {
		t.Fatal(err)
	}
	work, err := b.Pull("jobs")
	if err != nil {
		t.Fatal(err)
	}
	const total = 500
	for i := range total {
		if err := jobs.Send(within(t, 10*time.Second), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan int)
	go func() {
		n := 0
		for m := range work.Messages(context.Background()) {
			m.Ack()
			if n++; n == total {
				break
			}
		}
		done <- n
	}()
	if err := a.Shutdown(within(t, 20*time.Second)); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if l := jobs.Stats().Ledger; l.Done != total || !l.Balanced() {
		t.Errorf("ledger %+v, want %d done", l, total)
	}
	if n := <-done; n != total {
		t.Errorf("%d messages handled, want %d", n, total)
	}
}
