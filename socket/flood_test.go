package socket

import (
	"context"
	"io"
	"sync"
	"testing"

	"peermesh/internal/wire"
)

// floodFrame is how many messages a flood says in one frame.
const floodFrame = 256

// flood is the sending end of a pipe that always has more to say, as far as it has credit. What it says costs it next to
// nothing: the bytes of every frame are the same but for its head.
type flood struct {
	edition uint64
	records []byte // of a full frame
	ends    []int  // of each in records

	mu      sync.Mutex
	changed sync.Cond
	credit  wire.Credit
	sent    wire.Credit
	limit   uint64 // messages in all
	out     []byte // not read yet
	heard   []byte // a part of a frame
	closed  bool
}

// newFlood opens a pipe to b by which as many messages come as say allows, each with so many bytes.
func newFlood(t testing.TB, b *Inbox, size int) *flood {
	s := newSource('s', b.cfg.Kind.Opposite())
	f := &flood{edition: s.Edition}
	f.changed.L = &f.mu
	for i := range floodFrame {
		f.records = wire.AppendRecord(f.records, wire.Record{Delta: uint64(i), Body: zeros[:size]})
		f.ends = append(f.ends, len(f.records))
	}
	a, done := s.next(), make(chan error, 1)
	go func() { done <- b.Serve(context.Background(), peerOf(s.Local), a, f) }()
	t.Cleanup(func() {
		f.Close()
		<-done
	})
	return f
}

// say allows so many messages more.
func (f *flood) say(n int) {
	f.mu.Lock()
	f.limit += uint64(n)
	f.changed.Broadcast()
	f.mu.Unlock()
}

func (f *flood) Read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.out) == 0 {
		n := int(min(floodFrame, f.credit.Messages-f.sent.Messages, f.limit-f.sent.Messages))
		for n > 0 && f.sent.Bytes+uint64(f.ends[n-1]) > f.credit.Bytes {
			n--
		}
		switch {
		case f.closed:
			return 0, io.ErrClosedPipe
		case n == 0:
			f.changed.Wait()
		default:
			f.out = wire.AppendData(f.out[:0], wire.Run{Base: f.sent.Messages + 1, Attempt: 1}, f.records[:f.ends[n-1]])
			f.sent.Messages += uint64(n)
			f.sent.Bytes += uint64(f.ends[n-1])
		}
	}
	n := copy(b, f.out)
	f.out = f.out[:copy(f.out, f.out[n:])]
	return n, nil
}

// Write heeds what is said of credit and confirms what is done.
func (f *flood) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, b...)
	rest := f.heard
	for len(rest) > 0 {
		t, payload, next, _, err := wire.Next(rest)
		if err != nil {
			break
		}
		if err := f.hear(t, payload); err != nil {
			return 0, err
		}
		rest = next
	}
	f.heard = f.heard[:copy(f.heard, rest)]
	f.changed.Broadcast()
	return len(b), nil
}

// hear heeds one frame. f.mu must be held.
func (f *flood) hear(t wire.Type, payload []byte) (err error) {
	switch t {
	case wire.TypeAttached:
		var a wire.Attached
		a, err = wire.ParseAttached(payload)
		f.credit = wire.Credit{Messages: a.Messages, Bytes: a.Bytes}
	case wire.TypeCredit:
		f.credit, err = wire.ParseCredit(payload)
	case wire.TypeDone:
		var done wire.EditionRanges
		done, err = wire.ParseRanges(payload)
		f.out = wire.AppendRanges(f.out, wire.TypeConfirm, done)
	case wire.TypeRenew:
		var n uint64
		n, err = wire.ParseNumber(payload)
		f.out = wire.AppendNumber(f.out, wire.TypeRenewed, n)
	}
	return err
}

func (f *flood) CloseWrite() error { return nil }

func (f *flood) Close() error {
	f.mu.Lock()
	f.closed = true
	f.changed.Broadcast()
	f.mu.Unlock()
	return nil
}

// BenchmarkReceive is what a message costs the receiver above the transport.
func BenchmarkReceive(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
	}{{"16B", 16}, {"100B", 100}, {"1KiB", 1024}} {
		b.Run(c.name, func(b *testing.B) {
			box := newInbox(b, wire.Pull)
			f := newFlood(b, box, c.size)
			b.ReportAllocs()
			f.say(b.N)
			for range b.N {
				m, err := box.Recv(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				if err := m.Ack(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
