package ledger

import (
	"testing"

	"peermesh/internal/wire"
)

func (r *rig) pause(c *Consumer) {
	r.Helper()
	r.l.Pause(c)
	r.check()
}

func TestAPausedConsumerGetsNothingAndKeepsWhatItHas(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 2)
	r.fill(1)
	want(t, "sent", r.seqs(a), []uint64{1})
	r.fill(2)
	r.dispatch() // 2 is leased and not taken
	r.pause(a)
	want(t, "paused", a.Paused(), true)
	want(t, "ready", r.l.Ready(), 0)
	want(t, "busy", r.l.Busy(), true)
	r.l.Credit(a, wire.Credit{Messages: 100, Bytes: 1 << 40})
	want(t, "sent", len(r.seqs(a)), 0)
	b := r.join("b", 100)
	want(t, "sent to the other", flags(r.take(b)), "2 3")
	r.renew(a, b)
	r.done(a, 1)
	r.done(b, 2, 3)
	want(t, "fate", r.fate(1), "done")
	r.detach(b, true)
	want(t, "busy", r.l.Busy(), false)
	r.fill(1)
	want(t, "sent", len(r.seqs(a)), 0)
	r.l.Resume(a)
	r.check()
	want(t, "sent after the pause", flags(r.take(a)), "4")
}

func TestTheKeysOfAPausedConsumerAreAtHomeElsewhere(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 1), r.join("b", 100)
	r.keyed("c", "d", "e", "f", "g", "h", "c", "d", "e", "f", "g", "h")
	held := r.seqs(a)
	want(t, "sent to a", len(held), 1)
	drain := func() {
		for seqs := r.seqs(b); len(seqs) > 0; seqs = r.seqs(b) {
			r.done(b, seqs...)
		}
	}
	drain()
	if n := len(a.parked.items); n == 0 {
		t.Fatal("nothing waits for a")
	}
	r.pause(a)
	drain()
	want(t, "owed: a's and what waits for that", r.l.Counts().Queued+r.l.Counts().Leased, uint64(2))
	r.done(a, held...)
	drain()
	want(t, "owed", r.l.Counts().Queued+r.l.Counts().Leased, uint64(0))
	r.l.Resume(a)
	r.check()
	r.l.Credit(a, wire.Credit{Messages: 2, Bytes: 1 << 40})
	r.keyed("c", "d", "e", "f", "g", "h")
	want(t, "sent to a", len(r.take(a)), 1)
}

func TestThePauseEndsWithThePipe(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 100)
	r.pause(a)
	r.fill(1)
	r.again(a, 1, nil)
	want(t, "sent", flags(r.take(a)), "1")
}
