package node_test

import (
	"sync/atomic"
	"testing"

	"peermesh/patterns"
	"peermesh/socket"
)

// BenchmarkMemoryPush sends at level memory to a puller over loopback, from a node with a state directory: the disk has
// no part in it, for never more than a third of the queue is owed.
//
//	go test -run '^$' -bench MemoryPush -benchtime 1000000x ./node
func BenchmarkMemoryPush(b *testing.B) {
	mesh := newMesh(b)
	a := openKept(b, mesh, "a")
	z := openKept(b, mesh, "z", a)
	push, err := a.Push("jobs", patterns.Durability(socket.Memory))
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
	body := make([]byte, 100)
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	for i := range b.N {
		if err := push.Send(b.Context(), body); err != nil {
			b.Fatal(err)
		}
		if i%20_000 == 0 {
			if err := push.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
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
}
