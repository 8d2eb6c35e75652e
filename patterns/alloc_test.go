package patterns

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
	"peermesh/socket"
)

// doer is the other end of a sender's pipe: it is done with each message when that is written, and keeps nothing.
type doer struct {
	peer socket.Peer

	mu      sync.Mutex
	changed *sync.Cond
	said    []byte
	over    bool
	closed  bool
	edition uint64
	last    [1]ranges.Range
}

func newDoer(p socket.Peer, edition uint64) *doer {
	d := &doer{peer: p, edition: edition}
	d.changed = sync.NewCond(&d.mu)
	return d
}

func (d *doer) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.changed.Broadcast()
	if d.closed {
		return 0, net.ErrClosed
	}
	for rest := b; len(rest) > 0; {
		t, payload, next, _, err := wire.Next(rest)
		if err != nil {
			return 0, err
		}
		if err := d.hear(t, payload); err != nil {
			return 0, err
		}
		rest = next
	}
	return len(b), nil
}

func (d *doer) hear(t wire.Type, payload []byte) error {
	switch t {
	case wire.TypeAttach:
		a, err := wire.ParseAttach(payload)
		d.said = wire.AppendAttached(d.said, wire.Attached{Number: a.Number, Nonce: d.peer.Nonce, Messages: 1 << 40, Bytes: 1 << 50})
		return err
	case wire.TypeData:
		run, records, err := wire.ParseData(payload)
		for first := true; err == nil && len(records) > 0; first = false {
			var r wire.Record
			r, records, err = wire.NextRecord(records)
			if d.last[0].To = run.Base + r.Delta; first {
				d.last[0].From = d.last[0].To
			}
		}
		d.said = wire.AppendRanges(d.said, wire.TypeDone, wire.EditionRanges{Edition: d.edition, Ranges: d.last[:]})
		return err
	case wire.TypeDetach:
		d.over = true
	}
	return nil
}

func (d *doer) Read(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.said) == 0 && !d.over && !d.closed {
		d.changed.Wait()
	}
	if len(d.said) == 0 {
		return 0, io.EOF
	}
	n := copy(b, d.said)
	d.said = d.said[:copy(d.said, d.said[n:])]
	return n, nil
}

func (d *doer) CloseWrite() error { return nil }

func (d *doer) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.changed.Broadcast()
	return nil
}

// TestASenderAllocatesNothingPerMessage sends, through all there is at the sender's end of a pipe, and waits for the answers.
// The clock stands still meanwhile: the doer renews no lease, so on a slow machine its pipe would end in the midst.
func TestASenderAllocatesNothingPerMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 20_000
		a, b := newNode(t, 1), newNode(t, 2)
		p := a.push()
		var ended sync.WaitGroup
		defer ended.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended.Go(func() {
			offer := wire.Offer{Socket: 1, Kind: wire.Pull, Name: "x"}
			_ = p.Meet(ctx, b.peer(), offer, newDoer(b.peer(), a.local.Edition)) // it ends with the test
		})
		if err := p.WaitReady(ctx, 1); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, 100)
		send := func() {
			for range n {
				if err := p.Send(ctx, body); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
		send()
		least := 1.0
		for range 20 { // what is allocated is of the writes, and a machine that is busy elsewhere makes more of them
			if least = min(least, testing.AllocsPerRun(1, send)/n); least <= 0.1 {
				return
			}
		}
		t.Errorf("%.3f allocations a message, want 0.1 at most", least)
	})
}
