package ledger

import (
	"fmt"
	"testing"
	"time"

	"peermesh/internal/wire"
)

// What becomes of one message that was sent to a's process 1, when a answers the
// next ATTACH.
func TestAttachedComparesTheTwoMemories(t *testing.T) {
	for _, c := range []struct {
		name  string
		nonce byte
		edit  func(*wire.Attached)
		fate  string
		again string // what is sent to a afterwards
	}{
		{"done", 1, func(a *wire.Attached) { a.Done = told(1) }, "done", ""},
		{"done, by an earlier process", 2, func(a *wire.Attached) { a.Done = told(1) }, "done", ""},
		{"held", 1, func(a *wire.Attached) { a.Held = told(1) }, "owed", ""},
		{"held, by another process", 2, func(a *wire.Attached) { a.Held = told(1) }, "owed", ""},
		{"not here", 1, nil, "owed", "1"},
		{"not here, says another process", 2, nil, "owed", "1!"},
		{"forgotten", 1, func(a *wire.Attached) { a.Forgotten = true }, "owed", "1!"},
		{"lost", 1, func(a *wire.Attached) { a.Lost = told(1) }, "owed", "1!"},
		{"done in another edition", 1, func(a *wire.Attached) { a.Done = []wire.EditionRanges{run(edition-1, 1)} }, "owed", "1"},
		{"held in another edition", 1, func(a *wire.Attached) { a.Held = []wire.EditionRanges{run(edition-1, 1)} }, "owed", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Mode{})
			a := r.join("a", 9)
			r.fill(1)
			r.take(a)
			r.again(a, c.nonce, c.edit)
			want(t, "fate", r.fate(1), c.fate)
			want(t, "sent again", flags(r.take(a)), c.again)
		})
	}
}

// A flag is for ever once somebody may have begun the message; nothing that is said
// later takes it away.
func TestAFlagOutlivesLaterAttaches(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*rig, *Consumer)
	}{
		{"nacked", func(r *rig, a *Consumer) { r.nack(a, wire.NackHandler, 1); r.pass(time.Second) }},
		{"timed out", func(r *rig, a *Consumer) { r.nack(a, wire.NackTimeout, 1); r.pass(time.Second) }},
		{"forgotten", func(r *rig, a *Consumer) { r.again(a, 1, func(at *wire.Attached) { at.Forgotten = true }) }},
		{"lost", func(r *rig, a *Consumer) { r.again(a, 1, func(at *wire.Attached) { at.Lost = told(1) }) }},
		{"another process", func(r *rig, a *Consumer) { r.again(a, 2, nil) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Mode{})
			a := r.join("a", 9)
			r.fill(1)
			r.take(a)
			c.do(r, a)
			for range 3 { // it has nothing more to say
				r.again(a, a.nonce[0], nil)
			}
			want(t, "sent again", flags(r.take(a)), "1!")
		})
	}
}

func TestOnlyTheNewestAttachedCounts(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 9)
	r.fill(1)
	r.take(c)
	old := r.hello(c, 1)
	r.l.Attach(c)
	for name, a := range map[string]wire.Attached{"an older one": old, "one of the future": {Number: c.number + 1}} {
		if ok, err := r.l.Attached(c, a, r.now); ok || err != nil {
			t.Errorf("%s: %v, %v, want it without effect", name, ok, err)
		}
		r.check()
	}
	a := r.hello(c, 1)
	a.Held = told(1)
	r.attached(c, a)
	if ok, err := r.l.Attached(c, r.hello(c, 1), r.now); ok || err != nil {
		t.Errorf("a second answer: %v, %v, want it without effect", ok, err)
	}
	r.check()
	want(t, "leased", c.Leased(), 1)
}

func TestAttachNumbersRiseAndTellTheStoreLastMet(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.l.Join(Who{Label: "a"}, 0)
	n, store := r.l.Attach(c)
	want(t, "first", fmt.Sprint(n, store), fmt.Sprint(1, [16]byte{}))
	r.attached(c, r.hello(c, 5))
	n, store = r.l.Attach(c)
	want(t, "second", fmt.Sprint(n, store), fmt.Sprint(2, nonceOf(5)))

	from := uint64(100)
	r = newRig(t, Mode{Number: func() uint64 { from++; return from }})
	a, b := r.l.Join(Who{Label: "a"}, 0), r.l.Join(Who{Label: "b"}, 0)
	for want, c := range map[uint64]*Consumer{101: a} {
		if n, _ := r.l.Attach(c); n != want {
			t.Errorf("number %d, want %d", n, want)
		}
	}
	n, _ = r.l.Attach(b)
	want(t, "one source for all", n, uint64(102))
}

func TestAHeldMessageKeepsItsLeaseAndItsHolder(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 9), r.join("b", 9)
	r.detach(b, true)
	r.fill(1)
	r.take(a)
	r.again(b, 1, nil)
	r.again(a, 1, func(at *wire.Attached) { at.Held = told(1) })
	want(t, "a", r.seqs(a), []uint64(nil))
	want(t, "b", r.seqs(b), []uint64(nil))
	want(t, "leased", a.Leased(), 1)
	r.done(a, 1)
	want(t, "settled", r.fates[1].By, a.Who)
}

func TestAHolderElsewhereIsNotDisturbed(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 1), r.join("b", 0)
	r.fill(1)
	r.take(a)
	r.renew(b) // a's lease ends
	r.l.Credit(b, wire.Credit{Messages: 1, Bytes: 1 << 40})
	want(t, "b", flags(r.take(b)), "1!")
	r.again(a, 1, func(at *wire.Attached) { at.Held, at.Messages = told(1), 0 }) // begun there all the same
	want(t, "leased to a and b", fmt.Sprint(a.Leased(), b.Leased()), "0 1")
	r.nack(b, wire.NackReturned, 1)
	r.l.Credit(b, wire.Credit{Messages: 2, Bytes: 1 << 40})
	want(t, "still flagged, for a may be at it", flags(r.take(b)), "1!")
	r.done(a, 1)
	want(t, "the other one is told", fmt.Sprint(a.TakeRevokes(), b.TakeRevokes()), "[] [{1 1}]")
}

// elsewhere makes 1 be held by a, whose lease ran out, while it is leased to b.
func elsewhere(t *testing.T, it Item) (r *rig, a, b *Consumer) {
	r = newRig(t, Mode{})
	a = r.join("a", 1)
	r.put(it)
	r.take(a)
	b = r.join("b", 0)
	r.renew(b)
	r.l.Credit(b, wire.Credit{Messages: 1, Bytes: 1 << 40})
	want(t, "b", flags(r.take(b)), "1!")
	r.again(a, 1, func(at *wire.Attached) { mute(at); at.Held = told(1) })
	return r, a, b
}

func TestAnAnswerOfAFormerHolderLeavesTheLeaseAlone(t *testing.T) {
	for _, reason := range []wire.NackReason{wire.NackHandler, wire.NackReturned, wire.NackExpired, wire.NackTimeout, wire.NackCorrupt, wire.NackReleased} {
		r, a, b := elsewhere(t, Item{})
		r.nack(a, reason, 1)
		want(t, fmt.Sprint("leases of b after a NACK ", reason), b.Leased(), 1)
		want(t, "deliveries", r.l.ring.at(0).deliveries, uint32(0))
		r.nack(b, wire.NackReturned, 1)
		r.l.Credit(a, wire.Credit{Messages: 1, Bytes: 1 << 40})
		begun := reason != wire.NackReturned && reason != wire.NackExpired
		want(t, "a may have it again, flagged if it had begun it", flags(r.take(a)), map[bool]string{true: "1!", false: "1"}[begun])
	}
}

func TestAMessageIsNotSentToOneThatMayStillHaveIt(t *testing.T) {
	for _, key := range []string{"", "k"} {
		r, a, b := elsewhere(t, Item{Key: key})
		r.nack(b, wire.NackReturned, 1)
		r.detach(b, true)
		waits := homeOf(r, a)
		r.keyed(waits) // must not wait for 1
		r.dispatch()
		r.l.Credit(a, wire.Credit{Messages: 9, Bytes: 1 << 40})
		r.fill(1)
		want(t, "sent to a", flags(r.take(a)), "2 3")
		r.nack(a, wire.NackReturned, 1)
		want(t, "when it has given it back", flags(r.take(a)), "1")
	}
}

func TestWhatIsHeldInVainIsRevoked(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 3), r.join("b", 0)
	r.fill(3)
	r.take(a)
	r.renew(b)
	r.l.Credit(b, wire.Credit{Messages: 1, Bytes: 1 << 40})
	r.take(b)
	r.done(b, 1)
	a.TakeRevokes()
	r.l.Cancel(3)
	a.TakeRevokes()
	r.again(a, 1, func(at *wire.Attached) { at.Held = told(1, 2, 3) })
	want(t, "told to drop", fmt.Sprint(a.TakeRevokes()), "[{1 1} {3 3}]")
	want(t, "kept", a.Leased(), 1)
}

func TestANackThatWasReadIsNotTakenForALease(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 9)
	r.fill(1)
	r.take(c)
	r.nack(c, wire.NackHandler, 1)
	held := func(a *wire.Attached) { a.Held = told(1) } // it does not know that its NACK was read
	r.again(c, 1, held)
	want(t, "leased in its back-off", c.Leased(), 0)
	r.nack(c, wire.NackHandler, 1)
	want(t, "deliveries", r.l.ring.at(0).deliveries, uint32(1))
	r.pass(time.Second)
	r.again(c, 1, held)
	want(t, "sent while its NACK is to come once more", flags(r.take(c)), "")
	r.nack(c, wire.NackHandler, 1)
	want(t, "sent", flags(r.take(c)), "1!")
	r.again(c, 1, held)
	want(t, "leased, for it was sent again", c.Leased(), 1)
	want(t, "deliveries", r.l.ring.at(0).deliveries, uint32(1))
}

func TestMarksAreConfirmedAsRangesOfTheirEdition(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 99)
	r.fill(6)
	r.take(c)
	r.done(c, 1, 3)
	r.done(c, 4)
	if err := r.l.Done(c, run(5, 90, 91)); err != nil { // seqs of another life of ours may be above our own
		t.Fatal(err)
	}
	r.check()
	want(t, "confirmed", fmt.Sprint(r.l.TakeConfirms(c)), "[{7 [{1 1} {3 4}]} {5 [{90 91}]}]")
	want(t, "once", len(r.l.TakeConfirms(c)), 0)
	r.again(c, 2, func(a *wire.Attached) {
		a.Done = []wire.EditionRanges{run(edition, 1, 2, 5), run(4, 7)}
		a.Lost = []wire.EditionRanges{run(edition, 6), run(3, 8)}
	})
	want(t, "told again, confirmed again", fmt.Sprint(r.l.TakeConfirms(c)), "[{7 [{1 2} {5 6}]} {3 [{8 8}]} {4 [{7 7}]}]")
	want(t, "settled by other editions", r.l.Counts().Done, uint64(5))
}

func TestAConfirmationFitsAFrameWhateverTheSeqs(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 1)
	var set []uint64
	for i := range uint64(100_000) {
		set = append(set, i*1e14)
	}
	if err := r.l.Done(c, run(1, set...)); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range r.l.TakeConfirms(c) {
		n += len(e.Ranges)
		wire.AppendRanges(nil, wire.TypeConfirm, e) // panics if it does not fit
	}
	want(t, "ranges", n, len(set))
}

func TestOnlyAConsumerThatOwesNothingCanPart(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 9), r.join("b", 0)
	part := func(what string, ok bool) {
		t.Helper()
		want(t, what, r.l.Part(a), ok)
		r.check()
	}
	part("attached", false)
	r.fill(1)
	r.take(a)
	r.detach(a, false)
	part("has a lease", false)
	r.renew(b)
	part("may have begun it", false)
	r.l.Credit(b, wire.Credit{Messages: 1, Bytes: 1 << 40})
	r.take(b)
	r.done(b, 1)
	part("settled elsewhere", true)
	want(t, "known", len(r.l.Consumers()), 1)
	if r.l.Join(Who{Label: "a"}, 0) == a {
		t.Error("who parted and joined is the same")
	}
}

func TestTheSameHoldsAfterManyProcesses(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 1), r.join("b", 1)
	r.fill(1)
	for n := range byte(3) { // begun, perhaps, in three lives of a and three of b
		r.take(a)
		r.take(b)
		r.again(a, 10+n, nil)
		r.again(b, 20+n, nil)
	}
	e := r.l.ring.at(0)
	if len(e.suspects) < 3 {
		t.Fatalf("suspects %v, want at least three processes", e.suspects)
	}
	for _, c := range []*Consumer{a, b} { // the present ones know nothing, the older ones never answer
		r.again(c, 12+10*byte(len(c.Who.Label)-1), nil)
	}
	want(t, "still in doubt", e.doubt(), true)
}
