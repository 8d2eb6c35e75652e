package socket

import (
	"bytes"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"peermesh/internal/ledger"
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
				size := rapid.SampledFrom([]int{0, 100, 5000, ownBlock}).Draw(t, "size")
				for range rapid.IntRange(1, 300).Draw(t, "n") {
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
			if n := len(f.full); n > most+spareBlocks {
				t.Fatalf("%d blocks are kept", n)
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
	if n := len(f.full); n != 10+spareBlocks-1 { // and one is being filled
		t.Errorf("%d blocks are kept while there is something to send", n)
	}
	f.Trim()
	if n := len(f.full); n != spareBlocks {
		t.Errorf("%d blocks are kept afterwards", n)
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
