package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

const (
	// laneBytes is what may wait to be written to one connection while as much is being written.
	laneBytes = 2 * wire.StripeBlock
	// spreadAgain is how long a pipe that could not be spread stays as it is.
	spreadAgain = 30 * time.Second
)

// heat says when a pipe is worth several connections. It is a decision, without a clock of its own.
type heat struct {
	window time.Duration // in which it is decided
	busy   time.Duration // how much of it the writer must have waited for the connection
	bytes  int           // and how much must have been written
	cold   int           // what is less is little
	calm   int           // windows with little that end it

	began  time.Time
	waited time.Duration
	wrote  int
	calmly int
}

// hot is what it takes: less than 16 MiB/s no connection finds hard, unless the path does, which is not shared fairly by
// several.
var hot = heat{window: time.Second, busy: time.Second / 2, bytes: 16 << 20, cold: 4 << 20, calm: 3}

// note takes in a write that ended now and reports whether the pipe is hot.
func (h *heat) note(now time.Time, bytes int, took time.Duration) bool {
	if now.Sub(h.began) > 2*h.window { // nothing was written for long
		h.begin(now.Add(-took))
	}
	h.wrote += bytes
	h.waited += took
	if now.Sub(h.began) < h.window {
		return false
	}
	is := h.waited >= h.busy && h.wrote >= h.bytes
	h.begin(now)
	return is
}

func (h *heat) begin(now time.Time) { h.began, h.wrote, h.waited = now, 0, 0 }

// cools takes in a window of a spread pipe and reports whether it is enough.
func (h *heat) cools(bytes int) bool {
	h.calmly++
	if bytes >= h.cold {
		h.calmly = 0
	}
	return h.calmly >= h.calm
}

// spreader is the stream of a pipe at the node that opened it. When it carries much for a while, what is written goes on
// as a bundle: cut into blocks that go round robin over the stream and over one of each further connection, so that the
// other end can put it together again. The whole order stays; a connection that ends ends the pipe. Each write must be of
// whole frames.
//
//	... frames | SPREAD bundle, 3 | block 0     block 3 ...    the pipe's stream
//	                                block 1     block 4 ...    connection 1
//	                                block 2     block 5 ...    connection 2
type spreader struct {
	*stream
	l    *link
	ctx  context.Context
	stop context.CancelCauseFunc

	wrote atomic.Int64 // since tend has looked

	turn  chan struct{} // of one, taken by who writes, which may wait: in a mutex's place
	heat  heat
	tried time.Time // when it was last begun to spread the pipe
	lanes []*lane   // nil: all goes over the stream
	at    int       // the lane whose turn it is
	room  int       // what goes there before the next one's turn
	last  bool      // nothing more is written
}

func newSpreader(l *link, st *stream) *spreader {
	s := &spreader{stream: st, l: l, heat: l.n.heat, turn: make(chan struct{}, 1)}
	s.ctx, s.stop = context.WithCancelCause(l.ctx)
	context.AfterFunc(s.ctx, s.stream.abort)
	return s
}

// Write blocks until the connections have taken b, but for some blocks of it.
func (s *spreader) Write(b []byte) (int, error) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.wrote.Add(int64(len(b)))
	if s.lanes != nil {
		return s.scatter(b)
	}
	began := time.Now()
	n, err := s.stream.Write(b)
	now := time.Now()
	if s.heat.note(now, n, now.Sub(began)) && now.Sub(s.tried) > spreadAgain && s.ctx.Err() == nil {
		s.tried = now
		s.l.n.wg.Go(s.tend)
	}
	return n, err
}

// TryWrite takes nothing while the pipe is spread, or somebody else has the turn: that one may wait for the connections.
func (s *spreader) TryWrite(b []byte) (bool, error) {
	select {
	case s.turn <- struct{}{}:
	default:
		return false, nil
	}
	defer func() { <-s.turn }()
	if s.lanes != nil {
		return false, nil
	}
	s.wrote.Add(int64(len(b)))
	return s.stream.TryWrite(b)
}

// Read is that of the stream; it fails when any connection of the pipe has.
func (s *spreader) Read(b []byte) (int, error) {
	n, err := s.stream.Read(b)
	if err != nil && s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	return n, err
}

// CloseWrite ends the writing side; what was written still arrives.
func (s *spreader) CloseWrite() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.last = true
	if err := s.fold(); err != nil {
		return err
	}
	return s.stream.CloseWrite()
}

// Close ends both sides at once, but for what was written before CloseWrite.
func (s *spreader) Close() error {
	s.stop(io.ErrClosedPipe)
	return s.stream.Close()
}

// scatter writes to the lanes in turns. The caller must have the turn.
func (s *spreader) scatter(b []byte) (int, error) {
	for at := 0; at < len(b); {
		if s.room == 0 {
			s.at, s.room = (s.at+1)%len(s.lanes), wire.StripeBlock
		}
		n := min(s.room, len(b)-at)
		if err := s.lanes[s.at].put(s.ctx, b[at:at+n]); err != nil {
			return at, err
		}
		at += n
		s.room -= n
	}
	return len(b), nil
}

// tend spreads the pipe and gathers it when it carries little.
func (s *spreader) tend() {
	bundle, parts, release, err := s.l.stripes.bundle(s.ctx)
	if err != nil {
		s.l.n.log.Debug("pipe not spread", "peer", s.l.peer.ID, "err", clean(err.Error()))
		return
	}
	defer release()
	for _, p := range parts {
		defer context.AfterFunc(s.ctx, p.abort)()
	}
	var writers sync.WaitGroup
	defer writers.Wait()
	if !s.spread(bundle, parts, &writers) {
		return
	}
	s.l.n.log.Debug("pipe spread", "peer", s.l.peer.ID, "connections", 1+len(parts))
	tick := time.NewTicker(s.heat.window)
	defer tick.Stop()
	for calm := s.l.n.heat; ; {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		if calm.cools(int(s.wrote.Swap(0))) {
			s.turn <- struct{}{}
			s.tried = time.Time{}
			err := s.fold()
			<-s.turn
			if err == nil {
				s.l.n.log.Debug("pipe gathered", "peer", s.l.peer.ID)
			}
			return
		}
	}
}

// spread has all that is written from now on go over these streams too; it reports false if nothing is.
func (s *spreader) spread(bundle uint64, parts []*stream, writers *sync.WaitGroup) bool {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.last || s.lanes != nil {
		for _, p := range parts {
			p.abort()
		}
		return false
	}
	if _, err := s.stream.Write(wire.AppendSpread(nil, wire.Spread{Bundle: bundle, Connections: uint8(1 + len(parts))})); err != nil {
		s.stop(err)
		return false
	}
	s.wrote.Store(0)
	s.at, s.room = 0, wire.StripeBlock
	for _, st := range append([]*stream{s.stream}, parts...) {
		l := newLane(st, st != s.stream)
		s.lanes = append(s.lanes, l)
		writers.Go(func() {
			if err := l.run(s.ctx); err != nil {
				s.stop(err)
			}
		})
	}
	return true
}

// fold has all that is written from now on go over the pipe's own stream again. It blocks until the connections have taken
// what was written before. The caller must have the turn.
func (s *spreader) fold() error {
	if s.lanes == nil {
		return nil
	}
	if _, err := s.scatter(wire.AppendSpread(nil, wire.Spread{Connections: 1})); err != nil {
		return err
	}
	for _, l := range s.lanes {
		l.finish()
	}
	for _, l := range s.lanes {
		if err := l.await(s.ctx); err != nil {
			return err
		}
	}
	s.lanes = nil
	return nil
}

// lane is what waits to be written to one of a pipe's connections. One goroutine puts, another runs.
type lane struct {
	st    laneStream
	ends  bool          // the stream ends when the lane does
	more  chan struct{} // there is something to write, or nothing will come any more
	space chan struct{} // something was taken to be written
	over  chan struct{} // closed when all is written

	mu   sync.Mutex
	buf  []byte
	last bool
}

// laneStream is a stream of QUIC, in tests something else.
type laneStream interface {
	io.Writer
	CloseWrite() error
}

func newLane(st laneStream, ends bool) *lane {
	return &lane{st: st, ends: ends, more: make(chan struct{}, 1), space: make(chan struct{}, 1), over: make(chan struct{})}
}

// put has b written; it blocks while much waits.
func (l *lane) put(ctx context.Context, b []byte) error {
	for {
		l.mu.Lock()
		n := min(len(b), laneBytes-len(l.buf))
		l.buf = append(l.buf, b[:n]...)
		l.mu.Unlock()
		signal(l.more)
		if b = b[n:]; len(b) == 0 {
			return nil
		}
		select {
		case <-l.space:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// finish says that nothing more is put.
func (l *lane) finish() {
	l.mu.Lock()
	l.last = true
	l.mu.Unlock()
	signal(l.more)
}

// await blocks until all is written after finish.
func (l *lane) await(ctx context.Context) error {
	select {
	case <-l.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run writes what is put until finish.
func (l *lane) run(ctx context.Context) error {
	var spare []byte
	for {
		l.mu.Lock()
		buf, last := l.buf, l.last
		l.buf = spare[:0]
		l.mu.Unlock()
		signal(l.space)
		spare = buf
		if len(buf) > 0 {
			if _, err := l.st.Write(buf); err != nil {
				return cutOff(err)
			}
			continue
		}
		if last {
			break
		}
		select {
		case <-l.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if l.ends {
		if err := l.st.CloseWrite(); err != nil {
			return cutOff(err)
		}
	}
	close(l.over)
	return nil
}

// cutOff says that a connection of a pipe has ended. Its error must not be in it: QUIC's match net.ErrClosed, which says
// of a pipe that its socket is gone, and nobody would attach again.
func cutOff(err error) error { return errors.New("a connection of the pipe: " + err.Error()) }

// signal wakes who waits, or who will.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is woken already
	}
}

// incoming makes a stream that the peer has opened a socket.Conn.
func (l *link) incoming(st *stream) socket.Conn {
	if l.most <= 1 {
		return st
	}
	return &gatherer{stream: st, ctx: l.ctx, most: l.most, lanes: []io.ReadCloser{st},
		claim: func(ctx context.Context, p part) (io.ReadCloser, error) { return l.stripes.claim(ctx, p) }}
}

// gatherer is the other end of a spreader: it puts together what comes over several connections. One goroutine reads.
type gatherer struct {
	*stream
	ctx   context.Context // the link's
	most  int             // connections
	claim func(context.Context, part) (io.ReadCloser, error)
	scan  wire.Scanner

	mark []byte // of a SPREAD, what has come
	rest []byte // of the pipe's stream, what was read with a SPREAD
	at   int    // the lane whose turn it is
	room int    // what comes there before the next one's turn, if there are several

	mu     sync.Mutex
	lanes  []io.ReadCloser    // the first one is the pipe's stream; changed by who reads alone
	stop   context.CancelFunc // nil: nothing waits for a lane
	closed bool
}

// Read reads on, wherever that is.
func (g *gatherer) Read(b []byte) (int, error) {
	for len(b) > 0 {
		if err := g.turn(); err != nil {
			return 0, err
		}
		n, err := g.take(b)
		if len(g.mark) > 0 {
			g.mark = append(g.mark, b[:n]...)
			n = 0
		} else if k, serr := g.scan.Until(b[:n], wire.TypeSpread); serr != nil {
			return 0, serr
		} else if k < n {
			g.mark = append(g.mark, b[k:n]...)
			n = k
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, nil
}

// take reads from the lane at hand, at most what comes there.
func (g *gatherer) take(b []byte) (n int, err error) {
	if len(g.lanes) > 1 {
		if g.room == 0 {
			g.at, g.room = (g.at+1)%len(g.lanes), wire.StripeBlock
		}
		b = b[:min(len(b), g.room)]
	}
	if g.at == 0 && len(g.rest) > 0 {
		n = copy(b, g.rest)
		g.rest = g.rest[n:]
	} else {
		n, err = g.lanes[g.at].Read(b)
	}
	if len(g.lanes) > 1 {
		g.room -= n
	}
	switch {
	case !errors.Is(err, io.EOF):
	case n > 0:
		err = nil // it will say so again
	case g.at > 0:
		err = io.ErrUnexpectedEOF
	}
	if err != nil && g.at > 0 {
		err = cutOff(err)
	}
	return n, err
}

// turn does what a SPREAD says, if all of it has come.
func (g *gatherer) turn() error {
	if len(g.mark) == 0 {
		return nil
	}
	_, payload, rest, need, err := wire.Next(g.mark)
	switch {
	case errors.Is(err, wire.ErrShort) && need <= joinFrame:
		return nil
	case err != nil:
		return err
	}
	sp, err := wire.ParseSpread(payload)
	if err != nil {
		return err
	}
	spread := len(g.lanes) > 1
	switch {
	case spread == (sp.Connections > 1) || int(sp.Connections) > g.most:
		return fmt.Errorf("SPREAD over %d connections, now %d of %d", sp.Connections, len(g.lanes), g.most)
	case spread && g.at != 0 && len(rest) > 0:
		return fmt.Errorf("%d bytes behind the last SPREAD of a bundle", len(rest))
	}
	g.rest, g.mark = append(append([]byte(nil), rest...), g.rest...), nil
	g.at, g.room = 0, wire.StripeBlock
	return g.change(sp)
}

// change has the lanes of a bundle take the place of those there are.
func (g *gatherer) change(sp wire.Spread) error {
	ctx, stop := context.WithCancel(g.ctx)
	defer stop()
	g.mu.Lock()
	if g.closed {
		stop()
	}
	g.stop = stop
	old := g.lanes[1:]
	g.lanes = g.lanes[:1:1]
	g.mu.Unlock()
	for _, st := range old {
		_ = st.Close() // it is empty
	}
	for i := uint8(1); i < sp.Connections; i++ {
		st, err := g.claim(ctx, part{sp.Bundle, i})
		if err != nil {
			return err
		}
		g.mu.Lock()
		g.lanes = append(g.lanes, st)
		closed := g.closed
		g.mu.Unlock()
		if closed {
			_ = st.Close() // with the others
		}
	}
	return nil
}

// Close ends both sides at once, but for what was written before CloseWrite.
func (g *gatherer) Close() error {
	g.mu.Lock()
	g.closed = true
	lanes := g.lanes
	if g.stop != nil {
		g.stop()
	}
	g.mu.Unlock()
	for _, st := range lanes {
		_ = st.Close() // nobody is left to tell
	}
	return nil
}
