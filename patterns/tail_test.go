package patterns

import (
	"fmt"
	"testing"
	"time"

	"peermesh/internal/wire"
	"peermesh/spool"
)

func TestNeighboursArriveAsOneRow(t *testing.T) {
	buf := make([]byte, 0, 1<<10)
	var a arrivals
	seq := uint64(1)
	add := func(g spool.Group, base uint64, key string) {
		at := len(buf)
		buf = wire.AppendPlain(buf, seq-base, []byte("body"))
		a.add(g, fresh{seq: seq, base: base, record: buf[at:], key: key}, time.Now)
		seq++
	}
	add(1, 1, "")
	add(1, 1, "")
	add(1, 1, "key")
	add(1, 1, "")
	add(1, 5, "") // of another block
	add(1, 5, "")
	buf = append(make([]byte, 0, 1<<10), buf...)
	add(1, 5, "") // the block stands elsewhere now
	seq++
	add(1, 5, "") // behind a hole
	add(2, 5, "")
	for _, want := range []string{"[1..2: 2 3..3: 0 4..4: 1 5..6: 2 7..7: 1 9..9: 1]", "[10..10: 1]"} {
		out, ok := a.take(2)
		var got []string
		for _, f := range out.items {
			got = append(got, fmt.Sprintf("%d..%d: %d", f.seq, f.last(), len(f.ends)))
			if n := len(f.ends); n > 0 && int(f.ends[n-1]) != len(f.record) {
				t.Errorf("seq %d: records of %d bytes end at %d", f.seq, len(f.record), f.ends[n-1])
			}
		}
		if !ok || fmt.Sprint(got) != want {
			t.Errorf("group %d: %v, want %s", out.group, got, want)
		}
	}
}

func TestOfARowAsMuchGoesToTheLedgerAsThereIsRoomFor(t *testing.T) {
	p := newKept(t, 1, t.TempDir()).push()
	p.mu.Lock()
	defer p.mu.Unlock()
	most, bytes := p.journal.most, p.set.queueBytes
	defer func() { p.journal.most, p.set.queueBytes = most, bytes }()
	f := p.journal.feed
	ends := []uint32{10, 20, 30, 40}
	for _, c := range []struct{ messages, bytes, want int }{
		{10, 1000, 4}, {3, 1000, 3}, {10, 25, 3}, {10, 10, 1}, {1, 1, 1}, {4, 30, 3},
	} {
		f.most, p.set.queueBytes = c.messages, c.bytes
		if got := f.fits(ends); got != c.want {
			t.Errorf("room for %d messages and %d bytes: %d, want %d", c.messages, c.bytes, got, c.want)
		}
	}
}
