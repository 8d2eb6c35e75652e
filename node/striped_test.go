package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
)

// wires are streams in memory, of a pipe and its further connections.
type wires struct {
	into []*io.PipeWriter
	out  []io.ReadCloser
}

func newWires(n int) (w wires) {
	for range n {
		r, in := io.Pipe()
		w.into, w.out = append(w.into, in), append(w.out, r)
	}
	return w
}

// gather is who reads from the wires.
func (w wires) gather() *gatherer {
	return &gatherer{ctx: context.Background(), most: wire.MaxStripes, lanes: w.out[:1:1],
		claim: func(_ context.Context, p part) (io.ReadCloser, error) {
			n := int(p.bundle-7)*2 + int(p.number) // each bundle has the next two
			if p.bundle < 7 || n >= len(w.out) {
				return nil, errors.New("no such bundle")
			}
			return w.out[n], nil
		}}
}

// pipeLane is a wire that a lane writes to.
type pipeLane struct{ *io.PipeWriter }

func (p pipeLane) CloseWrite() error { return p.Close() }

// text is a frame of n bytes, or some more.
func text(n int) []byte {
	return wire.AppendFragment(nil, wire.Fragment{Part: bytes.Repeat([]byte{byte(n)}, n)})
}

// What goes over several connections, and over one again, comes out as it was, however it is read.
func TestWhatIsScatteredIsGathered(t *testing.T) {
	for _, room := range []int{1, 7, 4096, 256 << 10} {
		synctest.Test(t, func(t *testing.T) {
			w := newWires(5)
			s := &spreader{ctx: t.Context()}
			var want []byte
			var running sync.WaitGroup
			write := func(b []byte) {
				if _, err := w.into[0].Write(b); err != nil {
					t.Error(err)
				}
			}
			running.Go(func() {
				defer w.into[0].Close()
				for turn := range 2 {
					plain := text(1000 * turn)
					want = append(want, plain...)
					write(plain)
					write(wire.AppendSpread(nil, wire.Spread{Bundle: uint64(7 + turn), Connections: 3}))
					s.at, s.room = 0, wire.StripeBlock
					for i := range 3 {
						in := w.into[0]
						if i > 0 {
							in = w.into[2*turn+i]
						}
						l := newLane(pipeLane{in}, i > 0)
						s.lanes = append(s.lanes, l)
						running.Go(func() {
							if err := l.run(t.Context()); err != nil {
								t.Error(err)
							}
						})
					}
					for n := 1; n < 200_000; n = 3*n + turn {
						b := text(n)
						want = append(want, b...)
						if k, err := s.scatter(b); k != len(b) || err != nil {
							t.Errorf("%d bytes of %d, %v", k, len(b), err)
						}
					}
					if err := s.fold(); err != nil {
						t.Error(err)
					}
				}
				last := text(100)
				want = append(want, last...)
				write(last)
			})
			g := w.gather()
			var got []byte
			buf := make([]byte, room)
			var err error
			for err == nil {
				var n int
				n, err = g.Read(buf)
				got = append(got, buf[:n]...)
			}
			running.Wait()
			if !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
				t.Errorf("read %d at a time: %d bytes of %d came, alike: %t, then %v", room, len(got), len(want), bytes.Equal(got, want), err)
			}
		})
	}
}

// A connection that takes nothing stops who writes, at a bound; its end ends the pipe.
func TestALaneHoldsSoMuchAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires(1)
		l := newLane(pipeLane{w.into[0]}, true)
		ran, put := make(chan error, 1), make(chan error, 1)
		go func() { ran <- l.run(t.Context()) }()
		ctx, stop := context.WithCancel(t.Context())
		go func() { put <- l.put(ctx, make([]byte, 10<<20)) }()
		synctest.Wait()
		if n := len(l.buf); n > laneBytes {
			t.Errorf("%d bytes wait, at most %d", n, laneBytes)
		}
		stop()
		if err := <-put; !errors.Is(err, context.Canceled) {
			t.Errorf("put after its end: %v", err)
		}
		w.out[0].Close()
		if err := <-ran; err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the lane ended with %v", err)
		}
	})
}

// What ends the connections of a pipe must not look as if its socket had closed.
func TestTheEndOfAFurtherConnectionIsNoEndOfASocket(t *testing.T) {
	if err := cutOff(net.ErrClosed); errors.Is(err, net.ErrClosed) {
		t.Errorf("%v matches net.ErrClosed", err)
	}
	w := newWires(2)
	g := w.gather()
	g.lanes, g.at, g.room = w.out, 1, wire.StripeBlock
	w.into[1].Close()
	if n, err := g.Read(make([]byte, 10)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v: one connection's end was taken for that of the pipe", n, err)
	}
}

func TestWhatIsReadWithASpreadIsNotLost(t *testing.T) {
	want := text(100)
	b := append(wire.AppendSpread(nil, wire.Spread{Bundle: 7, Connections: 2}), want...)
	g := wires{out: []io.ReadCloser{io.NopCloser(bytes.NewReader(b)), io.NopCloser(bytes.NewReader(nil))}}.gather()
	buf := make([]byte, 1000)
	if n, err := g.Read(buf); err != nil || !bytes.Equal(buf[:n], want) {
		t.Errorf("%d bytes of %d, %v", n, len(want), err)
	}
}

func TestNobodySpreadsAPipeFurtherThanWasAgreed(t *testing.T) {
	b := wire.AppendSpread(nil, wire.Spread{Bundle: 7, Connections: 4})
	w := newWires(4)
	w.out[0] = io.NopCloser(bytes.NewReader(b))
	g := w.gather()
	g.most = 3
	if n, err := g.Read(make([]byte, 10)); err == nil || len(g.lanes) != 1 {
		t.Errorf("%d bytes, %v, over %d connections", n, err, len(g.lanes))
	}
}

func TestAPipeIsHotThatKeepsItsWriterWaiting(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		name  string
		bytes int // of each of ten writes
		took  time.Duration
		want  bool
	}{
		{"much, and hard work", 2 * mb, 90 * time.Millisecond, true},
		{"much, and easy", 2 * mb, 10 * time.Millisecond, false},
		{"little, and slow", mb / 10, 90 * time.Millisecond, false},
	} {
		h, now, got := hot, time.Time{}.Add(time.Hour), false
		h.begin(now)
		for range 10 {
			now = now.Add(100 * time.Millisecond)
			got = h.note(now, c.bytes, c.took) || got
		}
		if got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
	h, now := hot, time.Time{}.Add(time.Hour)
	for i := range 10 { // after a pause nothing before it counts
		now = now.Add(time.Hour)
		if h.note(now, 100*mb, time.Second/2) {
			t.Errorf("write %d in as many hours is much", i)
		}
	}
	h = hot
	for i, bytes := range []int{0, 0, 100 * mb, 0, 0, 0} {
		if got := h.cools(bytes); got != (i == 5) {
			t.Errorf("window %d: gathered: %t", i, got)
		}
	}
}

// FuzzGatherer: whatever a peer writes to a pipe's stream, its reader gets at most that, and nothing panics.
func FuzzGatherer(f *testing.F) {
	spread := wire.AppendSpread(nil, wire.Spread{Bundle: 7, Connections: 3})
	f.Add(append(text(10), spread...), uint16(9))
	f.Add(append(spread, wire.AppendSpread(nil, wire.Spread{Connections: 1})...), uint16(1))
	f.Add(append(append(text(3), spread...), append(wire.AppendSpread(nil, wire.Spread{Connections: 1}), text(2)...)...), uint16(300))
	f.Fuzz(func(t *testing.T, b []byte, room uint16) {
		other := func() io.ReadCloser { return io.NopCloser(bytes.NewReader(text(100))) }
		w := wires{out: []io.ReadCloser{io.NopCloser(bytes.NewReader(b)), other(), other(), other()}}
		g := w.gather()
		buf, all := make([]byte, 1+int(room)), 0
		for {
			n, err := g.Read(buf)
			all += n
			if err != nil {
				break
			}
		}
		if all > len(b)+3*len(text(100)) {
			t.Errorf("%d bytes of %d came", all, len(b))
		}
	})
}
