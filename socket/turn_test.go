package socket

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
)

func TestPiecesGrowWhereTheyAreGoneFastAndShrinkWhereTheyAreNot(t *testing.T) {
	p := newPipe(nil, &talker{}, false)
	p.buf = make([]byte, 0, mostWrite)
	for _, step := range []struct {
		size int
		took time.Duration
		want int
	}{
		{writeSize - 1, 0, writeSize}, // not a full one
		{writeSize, fastWrite, writeSize},
		{writeSize, fastWrite - 1, 2 * writeSize},
		{2 * writeSize, 0, mostWrite},
		{mostWrite, 0, mostWrite},
		{1, slowWrite, mostWrite},
		{1, slowWrite + 1, writeSize},
		{writeSize, 0, 2 * writeSize},
	} {
		if p.pace(step.size, step.took); p.piece != step.want {
			t.Errorf("after %d bytes in %v: pieces of %d, want %d", step.size, step.took, p.piece, step.want)
		}
	}
	p.pace(writeSize+1, fastWrite)
	for range calmAfter {
		p.pace(100, 0)
	}
	if p.pace(writeSize+1, fastWrite); p.buf == nil {
		t.Error("the buffer was given back in the middle of work")
	}
	for range calmAfter + 1 {
		p.pace(100, 0)
	}
	if p.buf != nil || p.piece != writeSize {
		t.Errorf("a calm pipe keeps %d bytes and pieces of %d", cap(p.buf), p.piece)
	}
}

// queue accepts a message without dispatching it. o.mu must be held.
func (o *owner) queue(body string) {
	o.Helper()
	p, err := o.framer.Prepare(&Message{Body: []byte(body)})
	if err != nil {
		o.Fatal(err)
	}
	base, rec := o.framer.Frame(p, o.next)
	o.box.Ledger().Append(ledger.Item{Seq: o.next, Base: base, Record: rec}, time.Now())
	o.next++
}

func TestWhileTheOnlyPipeIsExpectedMessagesWaitForItUndispatched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		f := o.met(localOf('r'))
		f.hear()
		o.mu.Lock()
		equal(t, "turn with nothing to say", o.box.DispatchHere(), Turn{})
		o.queue("a")
		o.queue("b")
		turn := o.box.DispatchHere()
		equal(t, "leased", o.box.Ledger().Counts().Leased, 2)
		o.queue("c")
		equal(t, "turn while it is expected", o.box.DispatchHere(), Turn{})
		equal(t, "leased meanwhile", o.box.Ledger().Counts().Leased, 2)
		o.mu.Unlock()
		if turn == (Turn{}) {
			t.Fatal("nobody is called")
		}
		turn.Take()
		same(t, "heard", bodies(t, f.hear()), []string{"1.1 a", "2.1 b", "3.1 c"})
		o.mu.Lock()
		o.queue("d")
		o.box.DispatchHere().Pass()
		o.mu.Unlock()
		same(t, "heard", bodies(t, f.hear()), []string{"4.1 d"})
	})
}

func TestAPipeThatIsExpectedAndNeverComesHoldsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		f := o.met(localOf('r'))
		f.hear()
		o.mu.Lock()
		o.queue("a")
		turn := o.box.DispatchHere()
		o.queue("b")
		o.mu.Unlock()
		other := o.met(localOf('q')) // a second one comes: nothing waits for the first alone
		same(t, "heard by the second", bodies(t, other.hear()), []string{"2.1 b"})
		f.cut()
		synctest.Wait()
		turn.Take() // its pipe is gone
		other.say(done(o.local.Edition, 2))
		same(t, "heard by the second", bodies(t, other.hear()), []string(nil)) // the first may have a
		o.mu.Lock()
		o.queue("c")
		o.box.DispatchHere().Pass()
		o.mu.Unlock()
		same(t, "heard by the second", bodies(t, other.hear()), []string{"3.1 c"})
	})
}

// gated is a connection whose writes wait while there is a gate.
type gated struct {
	Conn
	gate atomic.Pointer[chan struct{}]
}

func (g *gated) Write(b []byte) (int, error) {
	if c := g.gate.Load(); c != nil {
		<-*c
	}
	return g.Conn.Write(b)
}

func TestAPipeInTheMiddleOfAWriteHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		var slow gated
		f := open(o, func(ctx context.Context, c Conn) error {
			slow.Conn = c
			return o.box.Meet(ctx, peerOf(localOf('q')), wire.Offer{Socket: 1, Kind: wire.Pull, Name: "x"}, 0, &slow)
		})
		f.say(wire.AppendAttached(nil, greet(localOf('q'), parsed(o, wire.ParseAttach, f.one(wire.TypeAttach)))))
		other := o.met(localOf('r'))
		gate := make(chan struct{})
		slow.gate.Store(&gate)
		o.sends("a") // in the middle of a write from now on
		synctest.Wait()
		o.mu.Lock()
		for range 3 { // to the other, to the first and to the other
			o.queue("b")
			o.box.DispatchHere().Pass()
			o.mu.Unlock()
			synctest.Wait()
			o.mu.Lock()
		}
		o.mu.Unlock()
		same(t, "heard by the other", bodies(t, other.hear()), []string{"2.1 b", "4.1 b"})
		close(gate)
		same(t, "heard by the first", bodies(t, f.hear()), []string{"1.1 a", "3.1 b"})
	})
}

func TestWhileOneOfSeveralPipesIsExpectedMessagesWaitForItUndispatched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		f, g := o.met(localOf('q')), o.met(localOf('r'))
		f.hear()
		g.hear()
		o.mu.Lock()
		o.queue("a")
		turn := o.box.DispatchHere()
		o.queue("b")
		o.queue("c")
		equal(t, "turn while it is expected", o.box.DispatchHere(), Turn{})
		equal(t, "leased meanwhile", o.box.Ledger().Counts().Leased, 1)
		o.mu.Unlock()
		turn.Take()
		same(t, "heard by the first", bodies(t, f.hear()), []string{"1.1 a", "3.1 c"})
		same(t, "heard by the second", bodies(t, g.hear()), []string{"2.1 b"})
	})
}

func TestOfSeveralPipesNobodyWritesForOneWhileAnotherIsBusy(t *testing.T) {
	p, q := newPipe(nil, &talker{}, false), newPipe(nil, &talker{}, false)
	var busy atomic.Int64
	p.busy, q.busy = &busy, &busy
	p.note(time.Hour)
	q.note(2 * time.Hour)
	if at := time.Duration(p.busy.Load()); at != 2*time.Hour || time.Duration(p.wrote.Load()) != time.Hour {
		t.Errorf("the one wrote at %v, and one of both at %v", time.Duration(p.wrote.Load()), at)
	}
}
