package ledger

import (
	"testing"
	"time"

	"peermesh/internal/wire"
)

func TestALookTellsWhatIsKnownOfAMessage(t *testing.T) {
	var nacked []Nacked
	r := newRig(t, Mode{OnNack: func(n Nacked) { nacked = append(nacked, n) }})
	look := func(seq uint64) Sight {
		t.Helper()
		s, ok := r.l.Look(seq)
		if !ok {
			t.Fatalf("nothing is known of %d", seq)
		}
		return s
	}
	r.put(Item{Expires: r.now.Add(time.Hour)})
	if s := look(1); s.State != Queued || s.Attempt != 0 || !s.Accepted.Equal(r.now) || !s.Expires.Equal(r.now.Add(time.Hour)) || !s.Due.IsZero() {
		t.Errorf("queued: %+v", s)
	}
	c := r.join("a", 2)
	if c.Room() != 2 {
		t.Errorf("room for %d, want 2", c.Room())
	}
	r.seqs(c)
	if s := look(1); s.State != Leased || s.Holder != c.Who || s.Attempt != 1 {
		t.Errorf("leased: %+v", s)
	}
	if c.Room() != 1 {
		t.Errorf("room for %d, want 1", c.Room())
	}
	at := r.now
	r.nack(c, wire.NackHandler, 1)
	if s := look(1); s.State != Delayed || s.Deliveries != 1 || !s.Due.Equal(at.Add(time.Second)) {
		t.Errorf("given back: %+v, want due at %v", s, at.Add(time.Second))
	}
	if len(nacked) != 1 || nacked[0] != (Nacked{1, c.Who, "boom"}) {
		t.Errorf("told %+v", nacked)
	}
	r.put(r.after(time.Minute))
	if s := look(2); s.State != Delayed || !s.Due.Equal(at.Add(time.Minute)) {
		t.Errorf("delayed: %+v", s)
	}
	r.detach(c, true)
	if c.Room() != 0 {
		t.Errorf("room for %d at one that left", c.Room())
	}
	for _, seq := range []uint64{0, 3} {
		if s, ok := r.l.Look(seq); ok {
			t.Errorf("%d: %+v", seq, s)
		}
	}
}
