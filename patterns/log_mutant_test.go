package patterns

import (
	"testing"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/socket"
)

// Most of the messages are read from the disk after the change.
func TestAPatternChangeLeavesTheBacklogAsItWas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p, s := a.pub(Queue(2, 1<<20)), b.durable("s", Topics("a"))
		l := connect(a.node, p, b.node, s)
		ready(t, p, 1)
		l.part()
		publish(t, p, "a", counted(1, 10)...)
		if err := s.Subscribe("b"); err != nil {
			t.Fatal(err)
		}
		l.heal()
		same(t, "received", read(t, s, 10), counted(1, 10))
		publish(t, p, "a", "not any more")
		publish(t, p, "b", "11")
		same(t, "received", read(t, s, 1), []string{"11"})
		flush(t, p)
	})
}

func TestAnExclusiveSubscriptionRefusesASecondNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newKept(t, 'a', t.TempDir()).pub()
		if err := p.Expect("s"); err != nil {
			t.Fatal(err)
		}
		first, second := socket.Who{Node: identity.ID{1}, Label: "s"}, socket.Who{Node: identity.ID{2}, Label: "s"}
		p.mu.Lock()
		defer p.mu.Unlock()
		v := p.log.subs["s"]
		if _, err := v.enter(first, wire.Offer{Exclusive: true}); err != nil {
			t.Error(err)
		}
		_, err := v.enter(second, wire.Offer{})
		matches(t, "the second", err, ErrTaken)
		v.leave(first)
		if _, err := v.enter(second, wire.Offer{}); err != nil {
			t.Errorf("when the first has left: %v", err)
		}
		v.leave(second)
	})
}
