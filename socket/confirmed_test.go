package socket

import (
	"fmt"
	"testing"
	"time"

	"peermesh/internal/wire"
)

// confirmedOnly is what Confirmed says of seqs.
func confirmedOnly(b *Inbox) (out []string) {
	for _, c := range b.Confirmed() {
		out = append(out, fmt.Sprintf("%d: %d-%d", c.Edition, c.From, c.To))
	}
	return out
}

func TestConfirmedTellsOnceWhatSendersHaveSettled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		s.start = 5
		f, _ := s.attach(t, b)
		same(t, "at the first call", confirmedOnly(b), []string{"0: 0-4"})
		same(t, "then", confirmedOnly(b), []string(nil))
		f.say(data(5, "a"), data(6, "b"), data(7, "c"))
		m := recv(t, b, "a")
		equal(t, "edition", m.Edition(), s.Edition)
		ack(t, m, recv(t, b, "b"), recv(t, b, "c"))
		f.say(confirm(s.Edition, 5, 7))
		f.alive()
		same(t, "after CONFIRM", confirmedOnly(b), []string{fmt.Sprintf("%d: 5-5", s.Edition), fmt.Sprintf("%d: 7-7", s.Edition)})
	})
}

func TestAMessageIsHeldUntilItsLeaseMayHaveGoneElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(number(wire.TypeRenewed, 1), data(1, "a"), data(2, "b"))
		first, second := recv(t, b, "a"), recv(t, b, "b")
		equal(t, "held", first.Held(), true)
		ack(t, second)
		equal(t, "held when answered", second.Held(), false)
		time.Sleep(BeginWithin + time.Second)
		equal(t, "held in silence", first.Held(), false)
		f.say(number(wire.TypeRenewed, 4)) // the sender has it still, or it had ended the pipe
		f.alive()
		equal(t, "held when it was heard of", first.Held(), true)
		f.cut()
		f, _ = s.attach(t, b)
		f.say(data(3, "c"))
		recv(t, b, "c")
		equal(t, "held after a short cut", first.Held(), true)
		f.cut()
		time.Sleep(BeginWithin + time.Second)
		f, _ = s.attach(t, b)
		f.say(data(4, "d"))
		last := recv(t, b, "d")
		equal(t, "held after a long cut", first.Held(), false)
		equal(t, "what came since", last.Held(), true)
		ack(t, first)
		equal(t, "not received", new(Message).Held(), false)
	})
}
