package node_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/patterns"
)

// BenchmarkStuckSubscriber publishes as fast as it can to 15 subscribers on nodes of their own over loopback, in turns
// with and without a 16th that takes messages and never answers. It reports the median rate of the 15 with the stuck
// one beside as a share of that without (1 is: it slows nobody), and what was dropped for the stuck one.
//
//	go test -run '^$' -bench StuckSubscriber -benchtime 21x ./node
func BenchmarkStuckSubscriber(b *testing.B) {
	const others, turn = 15, time.Second
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	mesh := newMesh(b)
	publisher := open(b, mesh, "publisher")
	pub, err := publisher.Pub("news")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var counts [others]atomic.Int64
	for i := range others {
		sub, err := open(b, mesh, fmt.Sprint("sub", i), publisher).Sub("news")
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			for range sub.Messages(ctx) {
				counts[i].Add(1)
			}
		})
	}
	stuck := open(b, mesh, "stuck", publisher)
	if err := pub.WaitReady(within(b, time.Minute), others); err != nil {
		b.Fatal(err)
	}
	wg.Go(func() {
		for body := make([]byte, 100); ctx.Err() == nil; {
			if err := pub.Publish(ctx, "x", body); err != nil && ctx.Err() == nil {
				b.Error(err)
				return
			}
		}
	})
	rate := func() float64 {
		time.Sleep(turn / 4) // until it runs evenly
		var before, rates [others]float64
		for i := range counts {
			before[i] = float64(counts[i].Load())
		}
		began := time.Now()
		time.Sleep(turn)
		for i := range counts {
			rates[i] = (float64(counts[i].Load()) - before[i]) / time.Since(began).Seconds()
		}
		slices.Sort(rates[:])
		return rates[others/2]
	}
	rate()
	var shares, alone []float64
	for b.Loop() {
		without := rate()
		sub := hang(b, stuck)
		if err := pub.WaitReady(within(b, time.Minute), others+1); err != nil {
			b.Fatal(err)
		}
		with := rate()
		if err := sub.Close(); err != nil {
			b.Fatal(err)
		}
		shares, alone = append(shares, with/without), append(alone, without)
	}
	slices.Sort(shares)
	slices.Sort(alone)
	b.ReportMetric(shares[len(shares)/2], "of-rate-without")
	b.ReportMetric(alone[len(alone)/2], "msg/s")
	b.ReportMetric(float64(pub.Stats().Ledger.Dropped["overflow"])/float64(b.N), "drops/op")
}

// hang opens a subscription on n that takes its first message and then does nothing.
func hang(b *testing.B, n *node.Node) *patterns.Sub {
	sub, err := n.Sub("news")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := sub.Recv(within(b, time.Minute)); err != nil {
		b.Fatal(err)
	}
	return sub
}
