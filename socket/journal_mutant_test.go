package socket

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"peermesh/internal/wire"
)

// keeper is a Pull whose done marks are on a shelf, which may be full already.
func keeper(t testing.TB, s *shelf) *Inbox {
	if s.notes == nil {
		s.notes = map[string][]byte{}
	}
	t.Cleanup(s.calls.Wait)
	return newInbox(t, wire.Pull, func(c *InboxConfig) { c.Journal, c.NoteName = s, "pull" })
}

// durable is a sender at that level, played by hand.
func durable(id byte) *source {
	s := newSource(id, wire.Push)
	s.level = Durable
	return s
}

func TestADoneLeavesWhenItsMarkIsOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b, s := keeper(t, disk), durable('s')
		f, _ := s.attach(t, b)
		f.say(data(1, "a"))
		disk.hold()
		ack(t, recv(t, b, "a"))
		same(t, "done before it is on disk", told(t, f.later(), wire.TypeDone, 0), []uint64(nil))
		f.cut()
		f, a := s.attach(t, b)
		same(t, "done and held", fmt.Sprint(a.Done, a.Held), fmt.Sprintf("[] [{%d [{1 1}]}]", s.Edition))
		disk.release(nil)
		same(t, "done when it is", told(t, f.later(), wire.TypeDone, 0), []uint64{1})
	})
}

func TestADoneMarkThatCannotBeKeptIsNotTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b, s := keeper(t, disk), durable('s')
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"))
		disk.hold()
		ack(t, recv(t, b, "a"))
		disk.release(errors.New("no space left"))
		same(t, "done", told(t, f.later(), wire.TypeDone, 0), []uint64(nil))
		if _, err := b.Recv(wait(t)); !errors.Is(err, ErrStorage) {
			t.Errorf("Recv: %v, want %v", err, ErrStorage)
		}
	})
}

// The second mark is written while the first is there and not confirmed.
func TestTheNextLifeOfAReceiverKnowsItsDoneMarks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b, s := keeper(t, disk), durable('s')
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"), data(3, "c"))
		ack(t, recv(t, b, "a"))
		synctest.Wait()
		ack(t, recv(t, b, "b"))
		synctest.Wait()
		f.cut()
		next := keeper(t, &shelf{notes: disk.all()})
		_, a := s.attach(t, next)
		same(t, "done and held", fmt.Sprint(a.Done, a.Held), fmt.Sprintf("[{%d [{1 2}]}] []", s.Edition))
	})
}

// The handlers go on while the disk does not answer, up to a bound.
func TestADiskThatDoesNotAnswerEndsTheCredit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b, s := keeper(t, disk), durable('s')
		f, _ := s.attach(t, b)
		disk.hold()
		f.say(data(1, "a"))
		ack(t, recv(t, b, "a"))
		b.mu.Lock()
		var st *stream
		for _, st = range b.streams {
		}
		before := st.cur.allowed()
		st.cur.received = before
		room := st.cur.allowed()
		st.kept.size += maxUnsavedBytes
		crowded := st.cur.allowed()
		st.kept.size -= maxUnsavedBytes
		b.mu.Unlock()
		if room.Messages <= before.Messages || crowded != st.cur.announced {
			t.Errorf("credit %+v, with room %+v, crowded %+v", before, room, crowded)
		}
		disk.release(nil)
		same(t, "done when it answers", told(t, f.later(), wire.TypeDone, 0), []uint64{1})
		b.mu.Lock()
		equal(t, "bytes that wait", st.kept.size, 0)
		b.mu.Unlock()
	})
}
