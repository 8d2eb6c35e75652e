package ledger

import (
	"testing"

	"peermesh/internal/wire"
)

func TestNothingIsDispatchedAboveTheMark(t *testing.T) {
	r := newRig(t, Mode{Marked: true})
	r.fill(5)
	r.put(Item{Key: "k"})
	a := r.join("a", 99)
	want(t, "without one", flags(r.take(a)), "")
	r.l.SetMark(2)
	want(t, "up to 2", flags(r.take(a)), "1 2")
	r.l.SetMark(1)
	want(t, "it does not fall", flags(r.take(a)), "")
	r.l.SetMark(4)
	r.nack(a, wire.NackReturned, 1, 2)
	want(t, "up to 4", flags(r.take(a)), "1 2 3 4")
	r.l.SetMark(99)
	want(t, "up to 99", flags(r.take(a)), "5 6")
}

// The mark is asked for before the credit is used up: when half of it is left without.
func TestTheMarkIsWantedAheadOfTheCredit(t *testing.T) {
	r := newRig(t, Mode{Marked: true})
	want(t, "with nobody there", r.l.WantsMark(), uint64(0))
	a := r.join("a", 8)
	want(t, "with credit for 8", r.l.WantsMark(), uint64(8))
	b := r.join("b", 2)
	want(t, "and 2", r.l.WantsMark(), uint64(10))
	r.l.SetMark(10)
	want(t, "when it is there", r.l.WantsMark(), uint64(0))
	r.fill(12)
	want(t, "sent", len(r.take(a))+len(r.take(b)), 10)
	want(t, "without credit", r.l.WantsMark(), uint64(0))
	r.l.Credit(a, wire.Credit{Messages: 12, Bytes: 1 << 40})
	want(t, "with new credit", r.l.WantsMark(), uint64(14))
	r.l.SetMark(14)
	want(t, "sent", flags(r.take(a)), "11 12")
	r.l.Credit(a, wire.Credit{Messages: 13, Bytes: 1 << 40})
	want(t, "more than half of it has marks", r.l.WantsMark(), uint64(0))
	r.l.Credit(a, wire.Credit{Messages: 14, Bytes: 1 << 40})
	want(t, "half of it has", r.l.WantsMark(), uint64(16))
	r.detach(a, true)
	want(t, "nobody asks", r.l.WantsMark(), uint64(0))
}

func TestAGreedyConsumerDoesNotRaiseTheMarkToTheSky(t *testing.T) {
	r := newRig(t, Mode{Marked: true})
	r.join("a", 1<<63)
	r.join("b", 1<<64-1)
	want(t, "wanted", r.l.WantsMark(), uint64(2*maxAhead))
}

func TestWithoutMarkedThereIsNoMark(t *testing.T) {
	r := newRig(t, Mode{})
	r.fill(1)
	a := r.join("a", 9)
	want(t, "wanted", r.l.WantsMark(), uint64(0))
	want(t, "sent", flags(r.take(a)), "1")
}

// Seqs that no message will have any more use up no marks.
func TestHolesNeedNoMark(t *testing.T) {
	r := newRig(t, Mode{Marked: true})
	a := r.join("a", 4)
	r.l.SetMark(4)
	r.next = 100
	r.put(Item{})
	want(t, "wanted", r.l.WantsMark(), uint64(103))
	r.l.SetMark(103)
	want(t, "sent", flags(r.take(a)), "100")
}
