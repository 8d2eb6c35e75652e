package socket

import (
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
