package socket

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// answering is an end that has something to say to every frame.
type answering struct {
	talker
	then func() // at each frame
}

func (e *answering) receive(t wire.Type, payload []byte) error {
	n, err := wire.ParseNumber(payload)
	e.add(number(wire.TypeRenew, n))
	e.then()
	return err
}

// answeringPipe is a quiet directPipe with an end that answers.
func answeringPipe(t *testing.T, e *answering) (p *pipe, d *direct, far Conn) {
	a, b := Duplex()
	d = &direct{duplex: a.(*duplex)}
	p = newPipe(d, e, false)
	ended := runPipe(t.Context(), p)
	e.say(p, number(wire.TypeRenew, 0))
	hears(t, b, 0)
	time.Sleep(time.Millisecond) // it is quiet
	t.Cleanup(func() {
		p.abort(net.ErrClosed)
		<-ended
	})
	return p, d, b
}

func TestTheReaderWritesOnceWhatAllFramesAtHandMadeOthersSay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		e := &answering{}
		p, d, far := answeringPipe(t, e)
		e.then = p.flush
		var frames []byte
		for n := range uint64(9) {
			frames = append(frames, number(wire.TypeRenew, n)...)
		}
		far.Write(frames)
		same(t, "said", hears(t, far, 8), "[0 1 2 3 4 5 6 7 8]")
		equal(t, "writes", d.tried, 1)
		e.then = p.kick
		far.Write(frames)
		same(t, "said", hears(t, far, 8), "[0 1 2 3 4 5 6 7 8]")
		equal(t, "writes", d.tried, 2)
		e.then = func() {}
		far.Write(frames)
		synctest.Wait()
		equal(t, "writes when nobody called", d.tried, 2)
	})
}

func TestNobodyWaitsForAReaderThatTakesLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		e := &answering{}
		p, d, far := answeringPipe(t, e)
		e.then = func() { time.Sleep(time.Second) }
		far.Write(number(wire.TypeRenew, 1))
		synctest.Wait()
		p.flush()
		equal(t, "writes at once", d.tried, 0)
		time.Sleep(heldFor + 1)
		p.flush()
		equal(t, "writes later", d.tried, 1)
		same(t, "said", hears(t, far, 1), "[1]")
	})
}

func TestRepliesWaitForThoseToRequestsAtHandButNotForLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 1<<20)
		f, _ := s.attach(t, b)
		f.hear()
		f.say(data(1, "q"), data(2, "r"), data(3, "s"))
		synctest.Wait()
		m, n := recv(t, b, "q"), recv(t, b, "r")
		p := b.streams[streamKey{s.Node, s.Store}].cur.pipe
		b.Reply(m, wire.OK, nil)
		equal(t, "it waits while there is one to begin", p.nudged(), true)
		o := recv(t, b, "s")
		b.Reply(n, wire.OK, nil)
		synctest.Wait()
		equal(t, "and with it for the rest", p.nudged(), true)
		began := time.Now()
		time.Sleep(lingerDelay)
		synctest.Wait()
		equal(t, "it waits after", time.Since(began), lingerDelay)
		equal(t, "it still waits", p.nudged(), false)
		same(t, "replies", replies(t, f.hear()), "[1 ok 0+0/0 2 ok 0+0/0]")
		b.Reply(o, wire.OK, nil)
		equal(t, "a lone one waits", p.nudged(), false)
		same(t, "replies", replies(t, f.hear()), "[3 ok 0+0/0]")
		f.say(data(4, "q"), data(5, "r"))
		m, n = recv(t, b, "q"), recv(t, b, "r")
		b.Reply(m, wire.OK, nil)
		equal(t, "it waits for a handler alone", p.nudged(), false)
		b.Reply(n, wire.OK, nil)
		same(t, "replies", replies(t, f.hear()), "[4 ok 0+0/0 5 ok 0+0/0]")
	})
}

func TestAConfirmationTakesNoLongerThanWhatIsKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 1<<20)
		f, _ := s.attach(t, b)
		for seq := range uint64(5) {
			f.say(data(seq+1, "q"))
			b.Reply(recv(t, b, "q"), wire.OK, []byte("one"))
		}
		st := b.streams[streamKey{s.Node, s.Store}]
		b.mu.Lock()
		defer b.mu.Unlock()
		confirmed := func(rs ...ranges.Range) int {
			st.confirmedReplies(wire.EditionRanges{Edition: s.Edition, Ranges: rs})
			return st.replies.Len()
		}
		equal(t, "after two of five", confirmed(ranges.Range{From: 2, To: 2}, ranges.Range{From: 4, To: 4}), 3)
		_, there := st.replies.Get(requestID{Edition: s.Edition, Seq: 2})
		equal(t, "what was named is there", there, false)
		equal(t, "after more than there are", confirmed(ranges.Range{From: 4, To: 1 << 60}), 2)
		equal(t, "after all", confirmed(ranges.Range{From: 0, To: 1<<64 - 1}), 0)
		equal(t, "cached", st.cached, 0)
	})
}

func TestAHandlersContextIsMadeWhenItIsAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		type key struct{}
		parent, stop := context.WithCancelCause(context.WithValue(t.Context(), key{}, "v"))
		box := newInbox(t, wire.Rep)
		begin := func() *task { return &task{of: &tasks{box: box, parent: parent}, deadline: box.clock() + time.Second} }
		a := begin()
		equal(t, "made", a.told.Load() != nil, false)
		d, _ := a.Deadline()
		equal(t, "deadline", time.Until(d), time.Second)
		equal(t, "value", a.Value(key{}), any("v"))
		equal(t, "err", a.Err(), nil)
		child, done := context.WithCancel(a)
		defer done()
		a.end(ErrRevoked)
		<-child.Done()
		equal(t, "child's cause", context.Cause(child), ErrRevoked)
		late := begin()
		late.end(ErrRevoked)
		late.end(context.Canceled)
		equal(t, "asked for afterwards", late.Err(), context.Canceled)
		equal(t, "its cause", context.Cause(late), ErrRevoked)
		slow := begin()
		time.Sleep(2 * time.Second)
		equal(t, "asked for after the deadline", slow.Err(), context.DeadlineExceeded)
		slow.end(context.Canceled)
		orphan := begin()
		stop(ErrClosed)
		<-orphan.Done()
		equal(t, "parent's cause", context.Cause(orphan), ErrClosed)
		orphan.end(context.Canceled)
	})
}

func TestWhoIsRevokedIsFoundAmongAllHandlers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 1<<20)
		f, _ := s.attach(t, b)
		causes := make([]error, 5)
		over := make(chan struct{})
		for range 3 {
			go b.Requests(t.Context(), time.Minute, func(ctx context.Context, m *Message) (Outcome, []byte) {
				select {
				case <-ctx.Done():
					causes[m.Seq()] = context.Cause(ctx)
				case <-over:
				}
				return wire.OK, nil
			})
		}
		f.say(data(1, "q"), data(2, "r"), data(3, "s"))
		synctest.Wait()
		f.say(wire.AppendRevoke(nil, spans(2)))
		synctest.Wait()
		same(t, "causes", causes, []error{nil, nil, ErrRevoked, nil, nil})
		f.say(wire.AppendRevoke(nil, spans(1, 3)))
		synctest.Wait()
		same(t, "causes", causes, []error{nil, ErrRevoked, ErrRevoked, ErrRevoked, nil})
		f.say(data(4, "q"))
		synctest.Wait()
		close(over)
		same(t, "replies", len(replies(t, f.hear())), 4)
		equal(t, "handlers left", b.streams[streamKey{s.Node, s.Store}].tasks == nil, true)
	})
}

func TestWhatWasLeftToTheReaderIsGatheredBeforeHeWrites(t *testing.T) {
	bubble(t, func(t *testing.T) {
		e := &answering{}
		p, d, far := answeringPipe(t, e)
		gathered := 0
		p.due = func() {
			gathered++
			e.add(number(wire.TypeRenew, 7))
		}
		left := 0
		e.then = func() {
			if p.leave() {
				left++
			}
		}
		far.Write(number(wire.TypeRenew, 1))
		synctest.Wait()
		if left != 1 || gathered != 1 {
			t.Fatalf("left to him %d times, and gathered %d times, want 1 and 1", left, gathered)
		}
		same(t, "said", hears(t, far, 7), "[1 7]")
		equal(t, "writes", d.tried, 1)
		e.then = func() {}
		far.Write(number(wire.TypeRenew, 1))
		synctest.Wait()
		equal(t, "gathered when nothing was left to him", gathered, 1)
		far.Close()
		synctest.Wait()
		equal(t, "gathered at his end", gathered, 2)
	})
}
