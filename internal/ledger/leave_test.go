package ledger

import (
	"errors"
	"testing"

	"peermesh/internal/wire"
)

func (r *rig) leaves(c *Consumer, begun ...wire.EditionRanges) {
	r.Helper()
	if err := r.l.Left(c, c.number, begun); err != nil {
		r.Fatal(err)
	}
	r.check()
}

func TestWhatALeavingConsumerHadNotBegunIsNotFlagged(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 9)
	r.fill(3)
	r.take(a)
	r.nack(a, wire.NackHandler, 3)
	r.pass(r.l.Due().Sub(r.now))
	b := r.join("b", 9)
	r.leaves(a, run(edition, 2))
	want(t, "attached", a.Attached(), false)
	want(t, "elsewhere", flags(r.take(b)), "1 2! 3!")
	r.detach(a, true) // its pipe ends as well
	r.done(b, 1, 2, 3)
}

func TestALeavingConsumerHandsOverWhatItHeldBeforeTheLastPipe(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 9)
	r.fill(2)
	r.take(a)
	r.again(a, 1, func(at *wire.Attached) { at.Held = told(1, 2) })
	r.leaves(a)
	want(t, "elsewhere", flags(r.take(r.join("b", 9))), "1 2")
}

func TestARequestThatALeavingReplierHasBegunIsIndeterminate(t *testing.T) {
	r := newRig(t, once)
	a := r.join("a", 9)
	r.ask()
	r.ask()
	r.take(a)
	b := r.join("b", 9)
	r.leaves(a, run(edition, 1))
	want(t, "begun", r.fate(1), "indeterminate")
	want(t, "the other elsewhere", flags(r.take(b)), "2")
}

func TestLEAVECannotNameWhatWasNotSentThere(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1)
	r.fill(2)
	r.take(a)
	var forged ErrForged
	if err := r.l.Left(a, a.number, told(2)); !errors.As(err, &forged) {
		t.Errorf("LEAVE with an unsent message: %v", err)
	}
	r.check()
	want(t, "it is still there", a.Attached(), true)
	r.leaves(a, run(edition-1, 2))
}

func TestALEAVEOfAnOlderPipeIsWithoutEffect(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 9)
	r.fill(1)
	r.take(a)
	old := a.number
	r.again(a, 1, func(at *wire.Attached) { at.Held = told(1) })
	if err := r.l.Left(a, old, nil); err != nil {
		t.Fatal(err)
	}
	want(t, "attached", a.Attached(), true)
	want(t, "leased", a.Leased(), 1)
}
