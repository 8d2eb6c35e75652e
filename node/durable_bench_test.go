package node_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"peermesh/node"
	"peermesh/socket"
)

// BenchmarkDurablePush posts messages durably to a puller with a state directory of its own, over loopback: each is
// on disk here before it leaves and its done mark is on disk there before it is answered. It ends when all are settled.
//
//	go test -run '^$' -bench DurablePush -benchtime 300000x ./node
func BenchmarkDurablePush(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			mesh := newMesh(b)
			a := openKept(b, mesh, "a")
			z := openKept(b, mesh, "z", a)
			push, err := a.Push("jobs")
			if err != nil {
				b.Fatal(err)
			}
			pull, err := z.Pull("jobs")
			if err != nil {
				b.Fatal(err)
			}
			if err := push.WaitReady(b.Context(), 1); err != nil {
				b.Fatal(err)
			}
			var got atomic.Int64
			go func() {
				for m := range pull.Messages(b.Context()) {
					got.Add(1)
					if m.Ack() != nil {
						return
					}
				}
			}()
			body := make([]byte, size)
			b.SetBytes(int64(size))
			b.ResetTimer()
			for range b.N {
				if _, err := push.Post(b.Context(), &socket.Message{Body: body}); err != nil {
					b.Fatal(err)
				}
			}
			if err := push.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if got.Load() != int64(b.N) {
				b.Fatalf("%d received, %d sent", got.Load(), b.N)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

func openKept(b *testing.B, mesh []byte, name string, others ...*node.Node) *node.Node {
	cfg := node.Config{Name: name, MeshPEM: mesh, Listen: "127.0.0.1:0", NoMDNS: true, Dir: b.TempDir()}
	for _, o := range others {
		cfg.Peers = append(cfg.Peers, o.Addr().String())
	}
	n, err := node.Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := n.Close(); err != nil {
			b.Error(err)
		}
	})
	return n
}
