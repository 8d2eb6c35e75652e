package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
)

// talker is an end that says what it is given and notes what it hears.
type talker struct {
	mu    sync.Mutex
	out   [][]byte
	fin   bool // when out is said
	said  bool
	heard []frame
	bye   bool // a LEAVE came
	fails error
}

func (e *talker) fill(dst []byte) ([]byte, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.out {
		dst = append(dst, b...)
	}
	e.out = nil
	if e.fin && !e.said {
		dst = wire.AppendText(dst, wire.TypeLeave, "bye")
		e.said = true
	}
	return dst, e.said
}

func (e *talker) receive(t wire.Type, payload []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, frame{t, payload})
	if t == wire.TypeLeave {
		e.bye, e.fin = true, true
	}
	return e.fails
}

func (e *talker) finished() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bye
}

func (e *talker) say(p *pipe, frames ...[]byte) {
	e.mu.Lock()
	e.out = append(e.out, frames...)
	e.mu.Unlock()
	p.kick()
}

// runPipe runs p and returns what run returns, later.
func runPipe(ctx context.Context, p *pipe) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	return ended
}

func TestAPipeEndsInGoodOrderWhenBothEndsHaveSaidSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := Duplex()
		x, y := &talker{}, &talker{}
		p, q := newPipe(a, x, false), newPipe(b, y, true)
		pe, qe := runPipe(t.Context(), p), runPipe(t.Context(), q)
		x.say(p, number(wire.TypeRenew, 1), number(wire.TypeRenew, 2))
		synctest.Wait()
		x.mu.Lock()
		x.fin = true
		x.mu.Unlock()
		x.say(p, number(wire.TypeRenew, 3))
		if err := <-pe; err != nil {
			t.Errorf("who left first: %v", err)
		}
		if err := <-qe; err != nil {
			t.Errorf("who left second: %v", err)
		}
		same(t, "frames heard", types(y.heard), []string{"0x25", "0x25", "0x25", "0x29"})
	})
}

func TestAPipeWhoseOtherEndStopsWithoutAWordIsNotInGoodOrder(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(Conn)
		want error
	}{
		"half close":             {func(c Conn) { c.CloseWrite() }, io.ErrUnexpectedEOF},
		"close":                  {func(c Conn) { c.Close() }, io.ErrUnexpectedEOF},
		"half a frame":           {func(c Conn) { c.Write([]byte{byte(wire.TypeLeave), 9, 1}); c.CloseWrite() }, io.ErrUnexpectedEOF},
		"a frame beyond limits":  {func(c Conn) { c.Write([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x7f}) }, wire.ErrTooLong},
		"a length of 2^62":       {func(c Conn) { c.Write([]byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40}) }, wire.ErrTooLong},
		"a length without end":   {func(c Conn) { c.Write(append([]byte{1}, bytes.Repeat([]byte{0xff}, 11)...)) }, wire.ErrMalformed},
		"a length not as it is ": {func(c Conn) { c.Write([]byte{1, 0x81, 0}) }, wire.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, b := Duplex()
				p := newPipe(a, &talker{}, true)
				ended := runPipe(t.Context(), p)
				synctest.Wait()
				c.do(b)
				synctest.Wait()
				select {
				case err := <-ended:
					if !errors.Is(err, c.want) {
						t.Errorf("ended with %v, want %v", err, c.want)
					}
				default:
					t.Fatal("the pipe lives")
				}
			})
		})
	}
}

func TestThePipesErrorIsTheFirstCause(t *testing.T) {
	cause, later := errors.New("cause"), errors.New("later")
	for name, c := range map[string]func(p *pipe, cancel context.CancelCauseFunc, e *talker, far Conn){
		"abort":   func(p *pipe, _ context.CancelCauseFunc, _ *talker, _ Conn) { p.abort(cause); p.abort(later) },
		"context": func(_ *pipe, cancel context.CancelCauseFunc, _ *talker, _ Conn) { cancel(cause) },
		"receive": func(_ *pipe, _ context.CancelCauseFunc, e *talker, far Conn) { far.Write(number(wire.TypeRenew, 1)) },
		"abort of stuck": func(p *pipe, _ context.CancelCauseFunc, e *talker, _ Conn) {
			e.say(p, filler(1<<20))
			synctest.Wait()
			p.abort(cause)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, b := Duplex()
				e := &talker{fails: cause}
				p := newPipe(a, e, false)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				ended := runPipe(ctx, p)
				synctest.Wait()
				c(p, cancel, e, b)
				if err := <-ended; !errors.Is(err, cause) || errors.Is(err, later) {
					t.Errorf("ended with %v, want the cause", err)
				}
			})
		})
	}
}

func TestAPipeAbortedBeforeItRunsDoesNotRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := Duplex()
		cause := errors.New("cause")
		e := &talker{}
		p := newPipe(a, e, false)
		p.abort(cause)
		e.say(p, number(wire.TypeRenew, 1))
		if err := p.run(t.Context()); !errors.Is(err, cause) {
			t.Errorf("ended with %v", err)
		}
		if got, err := io.ReadAll(b); len(got) != 0 || err != nil {
			t.Errorf("it said %x, %v", got, err)
		}
	})
}

func TestAPipeDoesNotWaitForEverForTheOtherEndToFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, _ := Duplex()
		e := &talker{fin: true}
		began := time.Now()
		err := newPipe(a, e, false).run(t.Context())
		if err == nil || errors.Is(err, net.ErrClosed) {
			t.Errorf("ended with %v, want what it waited for", err)
		}
		equal(t, "waited", time.Since(began), lingerLimit)
	})
}

func TestAnIdlePipeAsksItsEndAgainEachRenewInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, _ := Duplex()
		asked := &counting{}
		p := newPipe(&direct{duplex: a.(*duplex)}, asked, false)
		p.ticks = true
		ended := runPipe(t.Context(), p)
		time.Sleep(10*RenewEvery + 1)
		synctest.Wait()
		asked.mu.Lock()
		if len(asked.at) != 11 {
			t.Errorf("asked %d times in ten intervals: %v", len(asked.at), asked.at)
		}
		asked.mu.Unlock()
		p.abort(net.ErrClosed)
		<-ended
	})
}

// counting is an end with nothing to say.
type counting struct {
	mu sync.Mutex
	at []time.Time
}

func (c *counting) fill(dst []byte) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = append(c.at, time.Now())
	return dst, false
}
func (c *counting) receive(wire.Type, []byte) error { return nil }
func (c *counting) finished() bool                  { return false }

// feed is a reader that hands out pieces.
type feed [][]byte

func (f *feed) Read(b []byte) (int, error) {
	for len(*f) > 0 && len((*f)[0]) == 0 {
		*f = (*f)[1:]
	}
	if len(*f) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*f)[0])
	(*f)[0] = (*f)[0][n:]
	return n, nil
}

func (f *feed) Write(b []byte) (int, error) { return len(b), nil }
func (f *feed) Close() error                { return nil }
func (f *feed) CloseWrite() error           { return nil }

// readPieces reads what comes in these pieces.
func readPieces(keeps bool, pieces ...[]byte) ([]frame, error) {
	e := &talker{}
	f := feed(pieces)
	err := newPipe(&f, e, keeps).readAll()
	return e.heard, err
}

func TestFramesAreTheSameWhereverTheStreamIsCut(t *testing.T) {
	var stream []byte
	want := []string{}
	for i, body := range [][]byte{{}, filler(1), filler(100), filler(127), filler(128), filler(300)} {
		stream = wire.AppendData(stream, wire.Run{Base: 1}, body)
		want = append(want, fmt.Sprintf("%d %s", i, body))
	}
	stream = wire.AppendText(stream, wire.TypeLeave, "")
	check := func(what string, keeps bool, pieces ...[]byte) {
		t.Helper()
		heard, err := readPieces(keeps, pieces...)
		if err != nil || len(heard) != len(want)+1 {
			t.Fatalf("%s: %d frames, %v", what, len(heard), err)
		}
		if !keeps {
			return // their payloads are gone
		}
		for i := range want {
			_, body, err := wire.ParseData(heard[i].payload)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%d %s", i, body); got != want[i] {
				t.Fatalf("%s: frame %q, want %q", what, got, want[i])
			}
		}
	}
	for _, keeps := range []bool{true, false} {
		for cut := range len(stream) + 1 {
			check(fmt.Sprintf("cut at %d", cut), keeps, bytes.Clone(stream[:cut]), bytes.Clone(stream[cut:]))
		}
		var single [][]byte
		for _, b := range stream {
			single = append(single, []byte{b})
		}
		check("byte by byte", keeps, single...)
	}
}

func TestPayloadsThatAreKeptAreNeverWrittenAgain(t *testing.T) {
	var stream []byte
	sizes := []int{10, 5000, 3, 70000, 200000, 1, 255000, 4000, 4000, 90}
	for round := range 5 {
		for i, n := range sizes {
			body := filler(n)
			body[0] = byte(round*len(sizes) + i)
			stream = append(wire.AppendData(stream, wire.Run{Base: 1}, body), 0x26, 1, 7) // and a GRANT
		}
	}
	stream = wire.AppendText(stream, wire.TypeLeave, "")
	for _, piece := range []int{17, 4096, 100000, len(stream)} {
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(piece, len(rest))
			pieces = append(pieces, bytes.Clone(rest[:n]))
			rest = rest[n:]
		}
		heard, err := readPieces(true, pieces...)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for _, f := range heard {
			if f.t != wire.TypeData {
				continue
			}
			_, body, err := wire.ParseData(f.payload)
			if err != nil {
				t.Fatal(err)
			}
			want := filler(sizes[i%len(sizes)])
			want[0] = byte(i)
			if !bytes.Equal(body, want) {
				t.Fatalf("pieces of %d: payload %d changed after it was read", piece, i)
			}
			if cap(f.payload) != len(f.payload) {
				t.Fatalf("payload %d can grow into its neighbour", i)
			}
			i++
		}
		equal(t, "payloads", i, 5*len(sizes))
	}
}

func TestAnArenaGrowsWithWhatArrivedAndNotWithWhatIsClaimed(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		claim := wire.AppendData(nil, wire.Run{Base: 1}, filler(wire.MaxFrame-100))
		a := arena{keeps: keeps, size: firstArena}
		for have := 0; have < len(claim); {
			n := copy(a.room(), claim[have:min(have+1000, len(claim))])
			if n == 0 {
				t.Fatal("no room")
			}
			have += n
			a.filled(n)
			if most := 4 * max(have, firstArena); len(a.buf) > most {
				t.Fatalf("keeps %v: %d bytes arrived and %d are set aside", keeps, have, len(a.buf))
			}
			_, _, err := a.next()
			if have < len(claim) && !errors.Is(err, wire.ErrShort) || have == len(claim) && err != nil {
				t.Fatalf("after %d bytes: %v", have, err)
			}
		}
	}
}

func TestAnArenaInWhichNothingIsKeptIsUsedAgain(t *testing.T) {
	for what, c := range map[string]struct {
		keeps bool
		frame []byte
	}{
		"messages that are not kept": {false, data(1, "hello")},
		"what carries no message":    {true, wire.AppendNumber(nil, wire.TypeRenewed, 1)},
	} {
		a := arena{keeps: c.keeps, size: firstArena}
		for range 10000 {
			n := copy(a.room(), c.frame)
			a.filled(n)
			if _, _, err := a.next(); err != nil {
				t.Fatal(err)
			}
		}
		if len(a.buf) > firstArena {
			t.Errorf("%s: %d bytes for frames of a few", what, len(a.buf))
		}
	}
}

func TestAnArenaThatKeepsNothingGrowsWhereItIsReadFull(t *testing.T) {
	a := arena{size: firstArena}
	var more []byte // of a sender that always has more
	for range 10000 {
		room := a.room()
		for len(more) < len(room) {
			more = append(more, data(1, "hello")...)
		}
		a.filled(copy(room, more))
		more = more[len(room):]
		for {
			if _, _, err := a.next(); err != nil {
				break
			}
		}
	}
	if n := len(a.buf); n < busyArena || n >= 2*busyArena {
		t.Errorf("%d bytes to read into, want %d", n, busyArena)
	}
}

func TestAnArenaOfMessagesGrowsLargeWhereReadsFillIt(t *testing.T) {
	frame := data(1, string(filler(1000)))
	for what, c := range map[string]struct{ most, want int }{
		"small reads":                  {1000, largeArena},
		"large reads, of less than it": {largeArena/2 - 1, largeArena},
		"as much as there is room for": {lastArena, lastArena},
	} {
		a := arena{keeps: true, size: firstArena}
		var more []byte // of a sender that always has more
		for range 1000 {
			room := a.room()
			n := min(len(room), c.most)
			for len(more) < n {
				more = append(more, frame...)
			}
			a.filled(copy(room, more[:n]))
			more = more[n:]
			for {
				if _, _, err := a.next(); err != nil {
					break
				}
			}
		}
		equal(t, "bytes to read into, of "+what, len(a.buf), c.want)
	}
}

func TestReadFrameTakesNothingBehindTheFrame(t *testing.T) {
	for _, n := range []int{0, 1, 100, 127, 128, 500} {
		first := wire.AppendText(nil, wire.TypeDetach, string(filler(n)))
		r := bytes.NewReader(append(bytes.Clone(first), "rest"...))
		typ, payload, err := ReadFrame(r, 1<<10)
		if err != nil || typ != wire.TypeDetach || parsed(t, wire.ParseText, payload) != string(filler(n)) {
			t.Fatalf("%d: type 0x%02x, %d bytes, %v", n, byte(typ), len(payload), err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "rest" {
			t.Errorf("%d: %q is left", n, rest)
		}
		for cut := range first {
			_, _, err := ReadFrame(bytes.NewReader(first[:cut]), 1<<10)
			want := io.ErrUnexpectedEOF
			if cut == 0 {
				want = io.EOF
			}
			if !errors.Is(err, want) {
				t.Errorf("%d of %d bytes: %v, want %v", cut, len(first), err, want)
			}
		}
	}
}

func TestReadFrameHoldsLengthsAgainstItsLimit(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"above the limit":  {data(1, string(filler(100))), wire.ErrTooLong},
		"2^62":             {[]byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40}, wire.ErrTooLong},
		"not the shortest": {[]byte{1, 0x80, 0}, wire.ErrMalformed},
		"without end":      {append([]byte{1}, bytes.Repeat([]byte{0x80}, 20)...), wire.ErrMalformed},
	} {
		r := &greedy{data: c.in}
		if _, _, err := ReadFrame(r, 50); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if r.asked > 50 {
			t.Errorf("%s: it asked for %d bytes at once", name, r.asked)
		}
	}
	exact := wire.AppendText(nil, wire.TypeDetach, string(filler(10)))
	if _, _, err := ReadFrame(bytes.NewReader(exact), len(exact)); err != nil {
		t.Errorf("a frame of just the limit: %v", err)
	}
	if _, _, err := ReadFrame(bytes.NewReader(exact), len(exact)-1); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("a frame of one byte more: %v", err)
	}
}

// greedy notes the largest read it was asked for.
type greedy struct {
	data  []byte
	asked int
}

func (g *greedy) Read(b []byte) (int, error) {
	g.asked = max(g.asked, len(b))
	if len(g.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, g.data)
	g.data = g.data[n:]
	return n, nil
}

// direct is a Duplex end with TryWrite, which notes what was written that way.
type direct struct {
	*duplex
	refuse bool
	tried  int
}

func (d *direct) TryWrite(b []byte) (bool, error) {
	d.tried++
	h := d.out
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.aborted || h.finished:
		return false, net.ErrClosed
	case d.refuse || len(h.buf)+len(b) > duplexBuffer:
		return false, nil
	}
	h.buf = append(h.buf, b...)
	h.changed.Broadcast()
	return true, nil
}

// directPipe runs a pipe over a connection with TryWrite.
func directPipe(t *testing.T) (p *pipe, e *talker, d *direct, far Conn, ended <-chan error) {
	a, b := Duplex()
	d, e = &direct{duplex: a.(*duplex)}, &talker{}
	p = newPipe(d, e, false)
	ended = runPipe(t.Context(), p)
	e.say(p, number(wire.TypeRenew, 0))
	if _, _, err := ReadFrame(b, 100); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Millisecond) // it is quiet
	return p, e, d, b, ended
}

// hears reads frames until one has that number, and tells all numbers.
func hears(t *testing.T, c Conn, last uint64) (all []uint64) {
	t.Helper()
	for {
		_, payload, err := ReadFrame(c, 100)
		if err != nil {
			t.Fatal(err)
		}
		n := parsed(t, wire.ParseNumber, payload)
		if all = append(all, n); n == last {
			return all
		}
	}
}

// add gives a talker something to say without a word to its pipe.
func (e *talker) add(frames ...[]byte) {
	e.mu.Lock()
	e.out = append(e.out, frames...)
	e.mu.Unlock()
}

func TestFlushWritesItselfOnAQuietPipe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, e, d, far, ended := directPipe(t)
		for i := range uint64(10) {
			e.add(number(wire.TypeRenew, i))
			p.flush()
			time.Sleep(time.Millisecond)
		}
		same(t, "said", hears(t, far, 9), "[0 1 2 3 4 5 6 7 8 9]")
		equal(t, "written by who flushed", d.tried, 10)
		p.abort(net.ErrClosed)
		<-ended
		p.flush() // on a pipe that has ended
		equal(t, "written by who flushed", d.tried, 10)
	})
}

func TestWhatFlushCannotWriteIsWrittenFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, e, d, far, ended := directPipe(t)
		d.refuse = true
		e.add(number(wire.TypeRenew, 1))
		p.flush()
		e.add(number(wire.TypeRenew, 2))
		p.flush()
		e.say(p, number(wire.TypeRenew, 3))
		same(t, "said", hears(t, far, 3), "[1 2 3]")
		far.Close()
		time.Sleep(time.Millisecond)
		p.flush()
		if err := <-ended; err == nil {
			t.Error("it ended in good order")
		}
	})
}

func TestFlushFromManySidesKeepsTheOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, e, _, far, ended := directPipe(t)
		go func() {
			for i := range uint64(3000) {
				if i%5 == 0 {
					time.Sleep(30 * time.Microsecond)
				}
				e.add(number(wire.TypeRenew, i))
				switch i % 3 {
				case 0:
					go p.flush()
				case 1:
					p.nudge(nudgeDelay)
				case 2:
					p.kick()
				}
			}
			p.kick()
		}()
		for i, n := range hears(t, far, 2999) {
			if uint64(i) != n {
				t.Fatalf("frame %d is %d", i, n)
			}
		}
		p.abort(net.ErrClosed)
		<-ended
	})
}

func TestTheLastWordIsSaidOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, e, _, far, ended := directPipe(t)
		e.mu.Lock()
		e.fin = true
		e.mu.Unlock()
		p.flush()
		time.Sleep(0)
		for range 3 {
			e.add(number(wire.TypeRenew, 1)) // too late
			p.flush()
		}
		rest, err := io.ReadAll(far)
		if err != nil {
			t.Fatal(err)
		}
		want := wire.AppendText(nil, wire.TypeLeave, "bye")
		if !bytes.Equal(rest, want) {
			t.Errorf("it said %x, want %x", rest, want)
		}
		far.Write(wire.AppendText(nil, wire.TypeLeave, ""))
		far.CloseWrite()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestANudgeWaitsForCompanyButNotForLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, e, _, far, ended := directPipe(t)
		began := time.Now()
		e.add(number(wire.TypeRenew, 1))
		p.nudge(nudgeDelay)
		p.nudge(nudgeDelay)
		hears(t, far, 1)
		equal(t, "alone it waited", time.Since(began), nudgeDelay)
		began = time.Now()
		e.add(number(wire.TypeRenew, 2))
		p.nudge(nudgeDelay)
		synctest.Wait()
		e.say(p, number(wire.TypeRenew, 3))
		hears(t, far, 3)
		equal(t, "in company it waited", time.Since(began), 0)
		p.abort(net.ErrClosed)
		<-ended
	})
}

// What comes soon after a small write waits for the rest of the time, what comes seldom or after much does not.
func TestWhatLingersWaitsForCompanySoonAfterASmallWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const linger = 10 * time.Millisecond
		a, far := Duplex()
		e := &talker{}
		p := newPipe(&direct{duplex: a.(*duplex)}, e, false)
		p.company = linger
		ended := runPipe(t.Context(), p)
		took := func(n uint64, come func()) time.Duration {
			began := time.Now()
			e.add(number(wire.TypeRenew, n))
			come()
			hears(t, far, n)
			return time.Since(began)
		}
		equal(t, "the first waited", took(1, p.kick), 0)
		time.Sleep(linger / 2)
		equal(t, "one soon after it waited", took(2, p.kick), linger/2)
		time.Sleep(linger / 4)
		equal(t, "one that was flushed waited", took(3, p.flush), linger-linger/4)
		time.Sleep(linger / 2)
		e.add(number(wire.TypeRenew, 4))
		p.kick()
		time.Sleep(linger / 4)
		equal(t, "one that comes along waited", took(5, p.kick), linger/4)
		time.Sleep(linger)
		equal(t, "one that comes seldom waited", took(6, p.flush), 0)
		time.Sleep(linger)
		for n := range uint64(much / 4) { // frames of at least so many bytes
			e.add(number(wire.TypeRenew, 1000+n))
		}
		equal(t, "much at a time waited", took(7, p.kick), 0)
		equal(t, "one after that waited", took(8, p.kick), 0)
		p.abort(net.ErrClosed)
		<-ended
	})
}

// restingPipe is a directPipe whose writer is away.
func restingPipe(t *testing.T) (p *pipe, e *talker, d *direct, far Conn, ended <-chan error) {
	p, e, d, far, ended = directPipe(t)
	time.Sleep(RenewEvery)
	synctest.Wait()
	if !p.away.Load() {
		t.Fatal("nothing was said for as long as between two ticks, and there is a writer")
	}
	return p, e, d, far, ended
}

func TestWhoeverCallsAPipeAtRestStartsItsWriter(t *testing.T) {
	for name, c := range map[string]struct {
		call func(p *pipe)
		wait time.Duration
	}{
		"kick":                      {(*pipe).kick, 0},
		"nudge":                     {func(p *pipe) { p.nudge(nudgeDelay) }, nudgeDelay},
		"a flush that cannot write": {(*pipe).flush, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p, e, d, far, ended := restingPipe(t)
				d.refuse = true
				for range 3 {
					began := time.Now()
					e.add(number(wire.TypeRenew, 1))
					c.call(p)
					hears(t, far, 1)
					equal(t, "it waited", time.Since(began), c.wait)
					time.Sleep(2 * RenewEvery) // at rest again
					synctest.Wait()
					if !p.away.Load() {
						t.Fatal("the writer stays")
					}
				}
				p.abort(net.ErrClosed)
				if err := <-ended; !errors.Is(err, net.ErrClosed) {
					t.Errorf("ended with %v", err)
				}
			})
		})
	}
}

func TestTheWriterOfABusyPipeStays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, e, d, far, ended := directPipe(t)
		d.refuse = true
		go io.Copy(io.Discard, far)
		for range 3 * RenewEvery / (restAfter / 2) {
			e.say(p, number(wire.TypeRenew, 1))
			time.Sleep(restAfter / 2)
			synctest.Wait()
			if p.away.Load() {
				t.Fatal("it is away")
			}
		}
		p.abort(net.ErrClosed)
		<-ended
	})
}

func TestAPipeAtRestEndsInGoodOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, _, _, far, ended := restingPipe(t)
		far.Write(wire.AppendText(nil, wire.TypeLeave, ""))
		far.CloseWrite()
		rest, err := io.ReadAll(far)
		if want := wire.AppendText(nil, wire.TypeLeave, "bye"); err != nil || !bytes.Equal(rest, want) {
			t.Errorf("it said %x, %v, want %x", rest, err, want)
		}
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestNothingIsForgottenInTheMomentInWhichTheWriterLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, e, d, far, ended := restingPipe(t)
		d.refuse = true
		for i := uint64(1); i <= 3000; i++ {
			began := time.Now()
			e.add(number(wire.TypeRenew, i))
			if i%3 == 0 {
				p.nudge(nudgeDelay)
			} else {
				p.kick()
			}
			hears(t, far, i)
			if d := time.Since(began); d > nudgeDelay {
				t.Fatalf("number %d waited %v", i, d)
			}
			time.Sleep(restAfter) // it wakes up when the writer asks himself whether he must stay
		}
		p.abort(net.ErrClosed)
		<-ended
	})
}

// putsOff is a talker that when it is asked says the next time what it is given, and tells its pipe so.
type putsOff struct {
	talker
	next []byte
	call func()
}

func (e *putsOff) fill(dst []byte) ([]byte, bool) {
	e.mu.Lock()
	next := e.next
	e.next = nil
	e.mu.Unlock()
	if next == nil {
		return e.talker.fill(dst)
	}
	e.add(next)
	e.call()
	return dst, false
}

func TestAWriterLooksForWhatWasSaidToHimWhileHeLeft(t *testing.T) {
	for name, c := range map[string]struct {
		call func(p *pipe)
		wait time.Duration
	}{
		"kick":  {(*pipe).kick, 0},
		"nudge": {func(p *pipe) { p.nudge(nudgeDelay) }, nudgeDelay},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, far := Duplex()
				e := &putsOff{}
				p := newPipe(a, e, false)
				e.call = func() { c.call(p) }
				ended := runPipe(t.Context(), p)
				time.Sleep(RenewEvery) // at rest
				p.kick()
				synctest.Wait()
				began := time.Now()
				e.mu.Lock()
				e.next = number(wire.TypeRenew, 1) // the next one who asks is the writer, before he leaves
				e.mu.Unlock()
				hears(t, far, 1)
				if waited := time.Since(began); waited < restAfter || waited > restAfter+c.wait {
					t.Errorf("it waited %v, %v after the writer wanted to leave", waited, waited-restAfter)
				}
				p.abort(net.ErrClosed)
				<-ended
			})
		})
	}
}

func TestAWriterThatLeavesTakesWhatWaitsForCompanyAlong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, e, d, far, ended := restingPipe(t)
		d.refuse = true
		e.say(p, number(wire.TypeRenew, 1))
		hears(t, far, 1)
		time.Sleep(restAfter - nudgeDelay/2)
		e.add(number(wire.TypeRenew, 2))
		p.nudge(nudgeDelay) // it would be due when he is away
		time.Sleep(nudgeDelay)
		synctest.Wait()
		if !p.away.Load() {
			t.Error("the writer is there")
		}
		began := time.Now()
		hears(t, far, 2)
		equal(t, "it came later", time.Since(began), 0)
		p.abort(net.ErrClosed)
		<-ended
	})
}

func TestAPipeAtRestEndsWhenItIsAborted(t *testing.T) {
	for name, end := range map[string]func(p *pipe, stop func(), far Conn){
		"aborted":             func(p *pipe, _ func(), _ Conn) { p.abort(net.ErrClosed) },
		"its context ended":   func(_ *pipe, stop func(), _ Conn) { stop() },
		"the other end broke": func(_ *pipe, _ func(), far Conn) { far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, far := Duplex()
				p := newPipe(&direct{duplex: a.(*duplex)}, &talker{}, false)
				p.ticks = true
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				ended := runPipe(ctx, p)
				time.Sleep(3 * RenewEvery)
				synctest.Wait()
				if !p.away.Load() {
					t.Fatal("the writer is there")
				}
				began := time.Now()
				end(p, stop, far)
				if err := <-ended; err == nil {
					t.Error("it ended in good order")
				}
				equal(t, "it took", time.Since(began), 0)
			})
		})
	}
}
