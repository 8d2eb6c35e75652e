package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/internal/wire"
)

const (
	// RenewEvery is how often a receiver renews its leases (DELIVERY.md "Push/pull").
	RenewEvery = 2 * time.Second
	// BeginWithin: nothing is begun later than this after the last RENEW that was
	// answered had been sent.
	BeginWithin = 8 * time.Second
	// DefaultLease is how long a sender waits after the last RENEW before it leases
	// elsewhere: longer than BeginWithin by more than clocks differ.
	DefaultLease = 10 * time.Second

	// A pipe hands the stream pieces of about writeSize. What is said next waits for them,
	// so they grow, up to mostWrite, only where such a piece is gone within fastWrite: each
	// write costs a round between the writer and the connection.
	writeSize = 64 << 10
	mostWrite = 256 << 10
	fastWrite = 5 * time.Millisecond
	slowWrite = 4 * fastWrite // and shrink again where it takes longer than that

	firstArena  = 1 << 10         // an idle pipe costs little
	busyArena   = 4 << 10         // one that is read full grows to this, whether it is lent or not
	largeArena  = 64 << 10        // one that brings messages grows to this, as there are more of them
	lastArena   = 256 << 10       // and to this if a read fills half of it and more
	lingerLimit = 5 * time.Second // for the other end to finish after we did
	restAfter   = RenewEvery / 2  // without a word a writer does not stay

	// nudgeDelay is how long what can wait for company waits for it: answers while there
	// is more to handle, and confirmations.
	nudgeDelay = time.Millisecond
	// lingerDelay is the same for a reply, for which somebody waits.
	lingerDelay = 200 * time.Microsecond

	// much is a write that needs no company, see OutboxConfig.Linger.
	much = 16 << 10

	// What a read of at most heldBytes makes others say is left to the reader, who writes it
	// when he is done with what he has read; no longer than heldFor.
	heldBytes = 16 << 10
	heldFor   = 200 * time.Microsecond
)

// end is one end of a pipe: what there is to send, and what to do with what comes.
type end interface {
	// fill appends whole frames to send now; what it leaves for another time it kicks or
	// nudges for. fin: these are the last.
	fill(dst []byte) (out []byte, fin bool)
	// receive handles a frame. The payload of a DATA frame stays valid and unchanged if
	// the end keeps arenas. An error ends the pipe.
	receive(t wire.Type, payload []byte) error
	// finished reports whether the other end said that it ends.
	finished() bool
}

// pipe moves an end's frames over a byte stream: one goroutine writes, one reads.
// The reader never waits for the user, for whatever it takes in was promised room.
// While the writer has nothing to do, whoever brings something may write it himself:
// flush. A pipe at rest has no writer: whoever calls it starts one.
//
//	the writer is   until
//	away            somebody calls, or the reader is done        -> present
//	present         nothing was written for restAfter            -> away
//	present         the last was said, or there is no saying it  -> gone
type pipe struct {
	conn   Conn
	end    end
	keeps  bool // payloads of DATA frames outlive receive
	wake   chan struct{}
	soon   chan struct{}
	hasty  atomic.Bool   // nudged since the last fill
	delay  atomic.Int64  // of that nudge
	wrote  atomic.Int64  // when, by the package's clock
	busy   *atomic.Int64 // when this one, or others of its socket that share its load, wrote
	parked atomic.Bool   // the writer waits to be called, or is away
	away   atomic.Bool   // there is none, and who calls it starts one

	reading atomic.Int64                     // since when the reader has frames at hand, by the package's clock; 0: it has none
	charged atomic.Bool                      // something was left to the reader
	rest    func() (several bool, err error) // what the end does once the frames at hand are handled; nil: nothing. See settle

	due func() // what is done when something was left to the reader, before he writes; nil: nothing

	company time.Duration // see OutboxConfig.Linger; fixed before the pipe runs
	ticks   bool          // the end is asked each RenewEvery, called or not; fixed before the pipe runs

	ctx   context.Context // of the run
	read  chan struct{}   // closed when the reader is done
	said  chan struct{}   // closed when the writer is gone
	parts sync.WaitGroup  // writers, and who asks the end for a tick

	writing sync.Mutex // held by who asks the end and writes
	last    int        // bytes of the last write
	piece   int        // how much the end may append
	calm    int        // writes since the last large one
	buf     []byte
	direct  tryWriter // nil: before the pipe runs, after its end, or conn is none
	left    []byte    // what flush could not write
	fin     bool      // those are the last

	mu    sync.Mutex
	cause error
	stop  context.CancelFunc
	tick  *time.Timer // nil: the pipe does not run, or does not tick
	limit *time.Timer // for the other end to finish; nil: the writer is not gone
}

func newPipe(c Conn, e end, keeps bool) *pipe {
	p := &pipe{conn: c, end: e, keeps: keeps, piece: writeSize, wake: make(chan struct{}, 1), soon: make(chan struct{}, 1),
		read: make(chan struct{}), said: make(chan struct{})}
	p.busy = &p.wrote
	return p
}

// kick says that there may be something to send. It never blocks.
func (p *pipe) kick() {
	if !p.leave() {
		p.call()
	}
}

// call wakes the writer, or starts it.
func (p *pipe) call() {
	select {
	case p.wake <- struct{}{}:
	default: // a wake-up is pending, and it will see everything there is
	}
	p.attend()
}

// attend starts the writer if there is none. It comes after a word for the writer, who looks for one when he is away already:
// one of the two sees the other.
func (p *pipe) attend() {
	if p.away.Load() && p.away.CompareAndSwap(true, false) {
		p.parts.Go(p.writeAll)
	}
}

// leave leaves it to the reader to write, if that will do so at once: one write then says
// what all the frames at hand made others say, and nobody has to be woken for it.
func (p *pipe) leave() bool {
	since := p.reading.Load()
	if since == 0 || int64(time.Since(epoch))-since > int64(heldFor) {
		return false
	}
	p.charged.Store(true)
	return p.reading.Load() != 0 || !p.charged.Swap(false) // in this order, and the reader's is the reverse: one of the two sees the other
}

// nudge says that there is something to send that can wait so long for company, or for the
// next kick. It never blocks.
func (p *pipe) nudge(d time.Duration) {
	if p.nudged() || p.hasty.Swap(true) {
		return
	}
	p.delay.Store(int64(d))
	select {
	case p.soon <- struct{}{}:
	default: // cannot be: fill takes it before the flag
	}
	p.attend()
}

// nudged reports whether a fill is due soon.
func (p *pipe) nudged() bool { return p.hasty.Load() }

// calmAfter is how many small writes in a row it takes to give a large buffer back.
const calmAfter = 64

// spares reports whether room for what is written is to be given back of which n took part in this fill: writes have been
// small for long, and this one needs next to nothing of it. p.writing must be held.
func (p *pipe) spares(n, room int) bool {
	const enough = 16
	return p.calm > calmAfter && (n == 0 || room > enough*n)
}

// quietFor is how long nothing must have been written for flush to write by itself: in
// a crowd the writer sends many messages at a time, which is cheaper.
const quietFor = 20 * time.Microsecond

var epoch = time.Now() // of the package's clock

// flush is kick for a caller who holds no lock: on a quiet pipe it writes what there is
// to say itself, which spares the way through the writer. It never blocks.
func (p *pipe) flush() {
	switch {
	case p.leave():
	case p.quiet(max(quietFor, p.company)):
		p.say()
	default:
		p.call()
	}
}

// quiet reports whether nothing was written for so long.
func (p *pipe) quiet(d time.Duration) bool {
	return int64(time.Since(epoch))-p.busy.Load() >= int64(d)
}

// note notes that something was written.
func (p *pipe) note(at time.Duration) {
	p.wrote.Store(int64(at))
	p.busy.Store(int64(at))
}

// say writes what there is to say, unless somebody else is about to or it may take long:
// then the writer does.
func (p *pipe) say() {
	if len(p.wake) > 0 || !p.writing.TryLock() {
		p.call()
		return
	}
	defer p.writing.Unlock()
	if p.direct == nil || p.left != nil || p.fin {
		p.call()
		return
	}
	p.buf, p.fin = p.fill(p.buf[:0])
	if len(p.buf) > 0 {
		p.last = len(p.buf)
		p.note(time.Since(epoch))
		if ok, err := p.direct.TryWrite(p.buf); !ok || err != nil { // the writer will meet the error
			p.left = p.buf
		}
	}
	if p.fin || p.left != nil {
		p.call()
	}
}

// abort ends the pipe at once, for a cause.
func (p *pipe) abort(cause error) {
	p.mu.Lock()
	if p.cause == nil {
		p.cause = cause
	}
	stop := p.stop
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// run reads, and blocks until the pipe has ended and the writer is gone. It returns nil
// when both ends finished in good order.
func (p *pipe) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	p.mu.Lock()
	p.ctx, p.stop = ctx, stop
	early := p.cause
	p.mu.Unlock()
	if early != nil {
		p.conn.Close()
		return early
	}
	release := context.AfterFunc(ctx, func() {
		p.abort(context.Cause(ctx))
		p.conn.Close()
	})
	p.begin()
	if err := p.readAll(); err != nil {
		p.abort(err)
	}
	close(p.read)
	p.attend()
	<-p.said
	release()
	p.conn.Close()
	return p.over()
}

// begin says the first word. That takes no writer, whose stack would lie between those that stay, for good.
func (p *pipe) begin() {
	p.writing.Lock()
	p.direct, _ = p.conn.(tryWriter)
	p.writing.Unlock()
	if p.ticks {
		p.mu.Lock()
		p.tick = time.AfterFunc(Aligned(RenewEvery), p.ticked)
		p.mu.Unlock()
	}
	p.wrote.Store(int64(time.Since(epoch))) // nothing yet: from here on it counts how long nothing was
	p.parked.Store(true)
	p.away.Store(true)
	p.say()
}

// over ends the timers of a pipe whose reader and writer are gone, and returns why it has ended. It blocks until a tick under
// way is over.
func (p *pipe) over() error {
	p.mu.Lock()
	if p.tick != nil {
		p.tick.Stop()
		p.tick = nil
	}
	p.limit.Stop()
	cause := p.cause
	p.mu.Unlock()
	p.parts.Wait()
	return cause
}

// ticked asks the end again, and has that done anew in time.
func (p *pipe) ticked() {
	p.mu.Lock()
	if p.tick == nil { // it fired when it was stopped
		p.mu.Unlock()
		return
	}
	p.tick.Reset(Aligned(RenewEvery))
	p.parts.Add(1)
	p.mu.Unlock()
	defer p.parts.Done()
	p.say()
}

// writer is the goroutine that writes, while there is one.
type writer struct {
	*pipe
	late *time.Timer     // for nudges
	rest *time.Ticker    // asks whether it still has to be there
	read <-chan struct{} // nil: it is known that the reader is done
}

// writeAll is what a writer does until he is away or gone.
func (p *pipe) writeAll() {
	w := writer{pipe: p, late: time.NewTimer(time.Hour), rest: time.NewTicker(restAfter), read: p.read}
	defer w.late.Stop()
	defer w.rest.Stop()
	for {
		resting, over, err := w.await()
		if !over {
			over, err = p.write()
		}
		if resting && !over && err == nil { // what he was nudged for is said by now
			if p.leaves() {
				return
			}
			over, err = p.write()
		}
		if over || err != nil {
			p.gone(err)
			return
		}
	}
}

// await blocks until the writer is called. resting: he is not, and nothing was written for a while. over: nothing needs to be
// said any more.
func (w *writer) await() (resting, over bool, err error) {
	w.parked.Store(true)
	defer w.parked.Store(false)
	for {
		select {
		case <-w.wake: // natural batching: what came up during the write goes out together
			d := w.tarry()
			if d <= 0 {
				return false, false, nil
			}
			w.late.Reset(d)
		case <-w.soon:
			w.late.Reset(time.Duration(w.delay.Load()))
		case <-w.late.C:
			return false, false, nil
		case <-w.rest.C:
			if time.Since(epoch)-time.Duration(w.wrote.Load()) >= restAfter {
				return true, false, nil
			}
		case <-w.read:
			w.read = nil
			w.mu.Lock()
			failed := w.cause != nil
			w.mu.Unlock()
			return false, failed || !w.end.finished(), nil
		case <-w.ctx.Done():
			return false, true, context.Cause(w.ctx)
		}
	}
}

// leaves reports whether the writer is away from now on, or another one is there already. Otherwise there is something to do.
func (p *pipe) leaves() bool {
	p.parked.Store(true)
	p.away.Store(true)
	select {
	case <-p.wake:
	case <-p.soon:
	case <-p.read:
	default:
		return true
	}
	if !p.away.CompareAndSwap(true, false) {
		p.call() // the other one may have been started for the word that was just taken
		return true
	}
	p.parked.Store(false)
	return false
}

// gone notes that all is said, and bounds the time that the other end has to finish after us.
func (p *pipe) gone(err error) {
	if err != nil {
		p.abort(err)
	}
	p.writing.Lock()
	p.direct = nil
	p.writing.Unlock()
	p.mu.Lock()
	p.limit = time.AfterFunc(lingerLimit, func() { p.abort(errors.New("the other end did not finish in time")) })
	p.mu.Unlock()
	close(p.said)
}

// write sends what there is to say, which may block. fin: it was the last.
func (p *pipe) write() (fin bool, err error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.left != nil {
		if _, err := p.conn.Write(p.left); err != nil {
			return false, fmt.Errorf("write: %w", err)
		}
		p.left = nil
	}
	if !p.fin {
		p.buf, p.fin = p.fill(p.buf[:0])
		if len(p.buf) > 0 {
			began := time.Since(epoch)
			if _, err := p.conn.Write(p.buf); err != nil {
				return false, fmt.Errorf("write: %w", err)
			}
			ended := time.Since(epoch)
			p.last = len(p.buf)
			p.note(ended)
			p.pace(len(p.buf), ended-began)
		}
	}
	if !p.fin {
		return false, nil
	}
	p.direct = nil
	return true, p.conn.CloseWrite()
}

// tarry is how long the writer, who was called, waits for more: until the linger time after the last write is over, if that
// one was small. So what comes seldom goes at once, and under load it is the writes that take time.
func (p *pipe) tarry() time.Duration {
	if p.company <= 0 {
		return 0
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.last == 0 || p.last >= much {
		return 0
	}
	return time.Duration(p.wrote.Load()) + p.company - time.Since(epoch)
}

// pace chooses the size of the next pieces after one that took so long. p.writing must
// be held.
func (p *pipe) pace(size int, took time.Duration) {
	switch {
	case took > slowWrite:
		p.piece = writeSize
	case size >= p.piece && took < fastWrite:
		p.piece = min(2*p.piece, mostWrite)
	}
	if p.calm++; size > writeSize {
		p.calm = 0
	}
	if p.calm > calmAfter && cap(p.buf) > 2*writeSize { // what just passes writeSize is a full piece
		p.buf, p.piece, p.calm = nil, writeSize, 0
	}
}

// fill asks the end what there is to send, which is all that it was nudged for too.
func (p *pipe) fill(dst []byte) ([]byte, bool) {
	select {
	case <-p.soon:
	default:
	}
	p.hasty.Store(false) // in this order: the next nudge finds room for its word
	return p.end.fill(dst)
}

// readAll reads frames until the other end finishes.
func (p *pipe) readAll() error {
	a := arena{keeps: p.keeps, size: firstArena}
	defer func() {
		p.reading.Store(0)
		if p.due != nil {
			p.due()
		}
		p.call() // if something was left to the reader
	}()
	for {
		room := a.room()
		n, err := p.conn.Read(room)
		a.filled(n)
		if n <= heldBytes {
			p.reading.Store(int64(time.Since(epoch)))
		}
		for {
			t, payload, ferr := a.next()
			if errors.Is(ferr, wire.ErrShort) {
				break
			}
			if ferr != nil {
				return ferr
			}
			if rerr := p.end.receive(t, payload); rerr != nil {
				return rerr
			}
		}
		if serr := p.settle(n == len(room)); serr != nil {
			return serr
		}
		switch {
		case errors.Is(err, io.EOF):
			if a.pending() > 0 || !p.end.finished() {
				return io.ErrUnexpectedEOF
			}
			p.kick()
			return nil
		case err != nil:
			return fmt.Errorf("read: %w", err)
		}
	}
}

// settle ends what a read began: the reader writes what was left to him. more: the read took all the room there was, so that
// there is probably more to read at once.
func (p *pipe) settle(more bool) error {
	if p.rest != nil {
		several, err := p.rest()
		if err != nil {
			return err
		}
		if several && !more { // otherwise the next write does, and those who ask need not wait for each other
			runtime.Gosched() // those who were just answered ask again: one write takes them all
		}
	}
	p.reading.Store(0)
	if p.charged.Load() && p.charged.Swap(false) {
		if p.due != nil {
			p.due()
		}
		p.say()
	}
	return nil
}

// arena is the memory that frames are read into. Where payloads of DATA frames are kept,
// memory with one in it is never written again: a new arena is begun and the garbage
// collector takes the old one when its last message is gone.
type arena struct {
	keeps     bool
	lent      bool // a payload that is kept lies in buf
	size      int
	buf       []byte
	from, end int  // unparsed bytes
	need      int  // what the frame at from takes as far as known
	full      bool // the last read took all the room there was
	large     bool // and that was half of buf at least
}

// room returns space to read into, at least enough for the frame at hand.
func (a *arena) room() []byte {
	if a.from == a.end && (!a.lent && a.end > 0) {
		a.from, a.end = 0, 0
	}
	have := a.end - a.from
	// Room grows with what has arrived, not with what a frame's length claims.
	need := min(max(a.need, have+1), max(2*have, firstArena))
	if len(a.buf)-a.end < need-have {
		a.renew(need)
	}
	return a.buf[a.end:]
}

func (a *arena) renew(need int) {
	rest := a.buf[a.from:a.end]
	if grow := a.full && len(a.buf) < busyArena; !a.lent && !grow && len(a.buf) >= need && len(a.buf)-len(rest) >= len(a.buf)/2 {
		a.from, a.end = 0, copy(a.buf, rest)
		return
	}
	if a.buf != nil && (a.size < largeArena || a.large) {
		a.size = min(2*a.size, lastArena)
	}
	buf := make([]byte, max(a.size, need+len(rest)))
	a.from, a.end = 0, copy(buf, rest)
	a.buf, a.lent = buf, false
}

func (a *arena) filled(n int) {
	a.end += n
	a.full = a.end == len(a.buf)
	a.large = a.full && n >= len(a.buf)/2
}

func (a *arena) pending() int { return a.end - a.from }

// next parses a frame. Its payload is valid until room is called, that of a DATA frame for
// ever if the arena keeps them.
func (a *arena) next() (wire.Type, []byte, error) {
	t, payload, rest, need, err := wire.Next(a.buf[a.from:a.end])
	a.need = need
	if err != nil {
		return 0, nil, err
	}
	a.from, a.need = a.end-len(rest), 0
	a.lent = a.lent || a.keeps && t == wire.TypeData
	return t, payload, nil
}

// ReadFrame reads one frame of at most limit bytes, byte by byte where its length is
// not known, so that nothing behind it is taken from the stream: the first frame of a
// pipe decides who reads the rest. A stream that ends before the frame is io.EOF, one
// that ends inside it io.ErrUnexpectedEOF.
func ReadFrame(r io.Reader, limit int) (wire.Type, []byte, error) {
	buf := make([]byte, 0, 64)
	for need := 2; ; {
		at := len(buf)
		buf = append(buf, make([]byte, need-at)...)
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			if at > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
		t, payload, _, n, err := wire.Next(buf)
		switch {
		case err == nil:
			return t, payload, nil
		case !errors.Is(err, wire.ErrShort):
			return 0, nil, err
		case n > limit:
			return 0, nil, fmt.Errorf("%w: first frame of %d bytes, at most %d", wire.ErrTooLong, n, limit)
		}
		need = n
	}
}
