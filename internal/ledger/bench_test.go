package ledger

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// One message's way through the ledger: Append, Dispatch, Take, Done and the
// confirmation, in batches as a socket under load forms them, and one by one.
func BenchmarkMessage(b *testing.B) {
	for _, consumers := range []int{1, 3} {
		for _, batch := range []int{1, 64} {
			b.Run(fmt.Sprintf("consumers=%d/batch=%d", consumers, batch), func(b *testing.B) {
				benchmark(b, consumers, batch, Item{})
			})
		}
	}
	b.Run("keyed", func(b *testing.B) { benchmark(b, 3, 64, Item{Key: "k"}) })
	b.Run("ttl", func(b *testing.B) { benchmark(b, 3, 64, Item{Expires: time.Unix(2e9, 0)}) })
}

func benchmark(b *testing.B, consumers, batch int, it Item) {
	now := time.Unix(1e9, 0)
	l := New(Mode{Edition: edition, Lease: 10 * time.Second}, 1, now, func(Settlement) {})
	for i := range consumers {
		c := l.Join(Who{Label: fmt.Sprint(i)}, 0)
		n, _ := l.Attach(c)
		if ok, err := l.Attached(c, wire.Attached{Number: n, Nonce: nonceOf(1), Messages: 1 << 62, Bytes: 1 << 62}, now); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
	keys := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	keyed := it.Key != ""
	sends := make([]Send, 0, batch)
	var block []byte
	var done ranges.Set
	b.ReportAllocs()
	for seq := uint64(1); b.Loop(); {
		for range batch {
			if cap(block)-len(block) < 100 {
				it.Base, block = seq, make([]byte, 0, 64<<10)
			}
			block = block[:len(block)+100]
			it.Seq, it.Record = seq, block[len(block)-100:]
			if keyed {
				it.Key = keys[seq%8]
			}
			l.Append(it, now)
			seq++
		}
		for owed, _ := l.Owed(); owed > 0; owed, _ = l.Owed() { // keyed ones take several rounds
			l.Dispatch(func(*Consumer) {})
			for _, c := range l.Consumers() {
				sends = l.Take(c, sends[:0], 1<<20, now)
				for _, s := range sends {
					done.Add(s.Seq, s.Seq+uint64(s.N)-1)
				}
				if err := l.Done(c, wire.EditionRanges{Edition: edition, Ranges: done.Ranges()}); err != nil {
					b.Fatal(err)
				}
				done.Clear()
				l.TakeConfirms(c)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/msg")
}

// BenchmarkDelayed is what a message costs that waits on disk for its time, and a tick while
// 100,000 of them do.
func BenchmarkDelayed(b *testing.B) {
	now := time.Unix(1e9, 0)
	l := New(Mode{}, 1, now, func(Settlement) {})
	const n = 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for seq := uint64(1); seq <= n; seq++ {
		l.Append(Item{Seq: seq, Base: seq, NotBefore: now.Add(time.Hour), Absent: true}, now)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		l.Tick(now)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/message")
}
