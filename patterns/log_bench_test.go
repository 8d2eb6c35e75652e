package patterns

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// go test -run '^$' -bench DurablePub -benchtime 50000x ./patterns
func BenchmarkDurablePub(b *testing.B) {
	for _, subs := range []int{0, 1, 4} {
		b.Run(fmt.Sprintf("subs=%d", subs), func(b *testing.B) {
			a := newKept(b, 'a', b.TempDir())
			p := a.pub()
			var done sync.WaitGroup
			for i := range subs {
				s := newKept(b, byte('b'+i), b.TempDir()).durable("s" + fmt.Sprint(i))
				connectQuietly(b, a.node, p, s)
				done.Go(func() {
					for range b.N {
						m, err := s.Recv(context.Background())
						if err != nil || m.Ack() != nil {
							b.Error("the subscription ended")
							return
						}
					}
				})
			}
			if err := p.WaitReady(context.Background(), subs); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			var senders sync.WaitGroup
			const at = 256
			for i := range at {
				senders.Go(func() {
					for range (b.N + at - 1 - i) / at {
						if err := p.Publish(context.Background(), "a.b", []byte("0123456789abcdef")); err != nil {
							b.Error(err)
						}
					}
				})
			}
			senders.Wait()
			done.Wait()
			if err := p.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// connectQuietly joins two sockets by one pipe until the benchmark ends.
func connectQuietly(b *testing.B, from *node, p *Pub, s *Sub) {
	l := newLink(from, p, &node{TB: b, local: s.env.Local}, s)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = l.once() }()
	b.Cleanup(func() { l.cut(); <-ended })
}
