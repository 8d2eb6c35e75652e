package socket

import (
	"bytes"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
)

// TestWhatIsReadIsNeverWrittenAgain frames messages while others cease to be read, from the first on.
func TestWhatIsReadIsNeverWrittenAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type framed struct{ record, copy []byte }
		var all []framed // by seq
		unread := uint64(0)
		most := rapid.IntRange(1, 20).Draw(t, "blocks")
		f := Framer{MaxMessage: 1 << 20}
		f.Recycle(func() uint64 { return unread }, most*lastBlock)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				f.Trim()
			case 1, 2:
				unread = rapid.Uint64Range(unread, uint64(len(all))).Draw(t, "unread")
			default:
				size := rapid.SampledFrom([]int{0, 100, 5000, ownBlock, 2 * ownBlock, wire.MaxRecord}).Draw(t, "size")
				for range rapid.IntRange(1, max(10, 300-size/100)).Draw(t, "n") {
					p, err := f.Prepare(&Message{Body: bytes.Repeat([]byte{byte(len(all))}, size)})
					if err != nil {
						t.Fatal(err)
					}
					_, r := f.Frame(p, uint64(len(all)))
					all = append(all, framed{r, bytes.Clone(r)})
				}
			}
			for seq := unread; seq < uint64(len(all)); seq++ {
				if m := all[seq]; !bytes.Equal(m.record, m.copy) {
					t.Fatalf("the record of %d was written again, %d and above are read", seq, unread)
				}
			}
			if n := len(f.full.all); n > most+spareBlocks {
				t.Fatalf("%d blocks are kept", n)
			}
			kept := 0
			for _, b := range f.large.all {
				kept += cap(b.buf)
			}
			if kept > most*lastBlock {
				t.Fatalf("%d bytes of large ones are kept", kept)
			}
		}
	})
}

// frames frames messages that take so many blocks, from seq on, and returns the next seq.
func frames(t *testing.T, f *Framer, seq uint64, blocks int) uint64 {
	p, err := f.Prepare(&Message{Body: filler(lastBlock/4 - 40)})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 * blocks {
		f.Frame(p, seq)
		seq++
	}
	return seq
}

func TestASteadySenderFramesInTheSameMemory(t *testing.T) {
	var f Framer
	f.MaxMessage = 1 << 20
	unread := uint64(0)
	f.Recycle(func() uint64 { return unread }, 10*lastBlock)
	seq := frames(t, &f, 0, 20)
	if n := testing.AllocsPerRun(50, func() {
		unread = seq
		seq = frames(t, &f, seq, 5)
	}); n > 5 { // the test's own
		t.Errorf("%v allocations for five blocks", n)
	}
	unread = seq
	f.Trim()
	if n := len(f.full.all); n != 10+spareBlocks-1 { // and one is being filled
		t.Errorf("%d blocks are kept while there is something to send", n)
	}
	f.Trim()
	if n := len(f.full.all); n != spareBlocks {
		t.Errorf("%d blocks are kept afterwards", n)
	}
}

func TestASteadySenderOfLargeMessagesFramesInTheSameMemory(t *testing.T) {
	var f Framer
	f.MaxMessage = 1 << 20
	var prepared []Prepared
	for _, size := range []int{2 * ownBlock, 3 * ownBlock} {
		p, err := f.Prepare(&Message{Body: filler(size)})
		if err != nil {
			t.Fatal(err)
		}
		prepared = append(prepared, p)
	}
	unread, seq := uint64(0), uint64(0)
	f.Recycle(func() uint64 { return unread }, 20*lastBlock)
	send := func() {
		for i := range 10 {
			f.Frame(prepared[i/5], seq)
			seq++
		}
	}
	send()
	if n := testing.AllocsPerRun(50, func() { unread = seq; send() }); n > 1 {
		t.Errorf("%v allocations for ten messages", n)
	}
	unread = seq
	f.Trim()
	if n := len(f.large.all); n != 10 {
		t.Errorf("%d blocks are kept while there is something to send", n)
	}
	f.Trim()
	if n := len(f.large.all); n != 0 || f.large.bytes != 0 {
		t.Errorf("%d blocks of %d bytes are kept afterwards", n, f.large.bytes)
	}
}

func TestWhatTravelsInFragmentsIsNotWrittenOver(t *testing.T) {
	f := Framer{MaxMessage: 1 << 20}
	f.Recycle(func() uint64 { return 100 }, 1<<30)
	for seq := range uint64(3) {
		p, err := f.Prepare(&Message{Body: filler(wire.MaxRecord)})
		if err != nil {
			t.Fatal(err)
		}
		f.Frame(p, seq)
	}
	if n := len(f.large.all); n != 0 {
		t.Errorf("%d are kept", n)
	}
}

func TestWhatAPipeCopiesIsNotUnread(t *testing.T) {
	var mu sync.Mutex
	b := NewOutbox(OutboxConfig{Changed: &Event{}, OnSettled: func(Settlement) {}}, &mu, 7)
	unread := func(what string, want uint64) {
		t.Helper()
		if got := b.Unread(); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	unread("at first", 7)
	b.copying.Add(1)
	b.led.Refuse(7, ledger.ReasonOverflow)
	unread("while something is copied", 7)
	b.copying.Add(-1)
	unread("then", 8)
}
