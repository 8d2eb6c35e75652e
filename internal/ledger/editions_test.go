package ledger

import (
	"fmt"
	"testing"
	"time"

	"peermesh/internal/wire"
)

// threeLives owes 2 of edition 3, 5 and 6 of edition 4, and 10 and 11 of the present one.
func threeLives(t *testing.T, mode Mode) *rig {
	mode.First, mode.Editions = 10, []wire.EditionSpan{{Edition: 3, First: 1}, {Edition: 4, First: 5}}
	r := newRig(t, mode)
	for _, seq := range []uint64{2, 5, 6} {
		r.next = seq
		r.put(Item{Unknown: true})
	}
	r.next = 10
	r.fill(2)
	return r
}

func TestAnAnswerMeansOnlyWhatItsEditionOwns(t *testing.T) {
	for _, c := range []struct {
		said    wire.EditionRanges
		settled string
	}{
		{run(3, 2), "[2]"},
		{run(4, 5, 6), "[5 6]"},
		{run(edition, 10, 11), "[10 11]"},
		{run(3, 1, 2, 3, 4), "[2]"}, // the others were settled in an earlier life
		{run(3, 5, 6), "[]"},        // of a tail that was lost
		{run(3, 2, 3, 4, 5, 6, 10), "[2]"},
		{run(4, 2, 4, 6), "[6]"},
		{run(edition, 2, 6, 9), "[]"},
		{run(99, 2, 5, 10), "[]"},
	} {
		t.Run(fmt.Sprint(c.said), func(t *testing.T) {
			r := threeLives(t, Mode{})
			a := r.join("a", 9)
			r.take(a)
			if err := r.l.Done(a, c.said); err != nil {
				t.Fatal(err)
			}
			r.check()
			want(t, "settled by DONE", fmt.Sprint(r.order), c.settled)
			want(t, "confirmed", fmt.Sprint(r.l.TakeConfirms(a)), fmt.Sprint([]wire.EditionRanges{c.said}))

			r = threeLives(t, Mode{})
			r.take(r.join("a", 9))
			a = r.joins("a", func(at *wire.Attached) { at.Done = []wire.EditionRanges{c.said} })
			want(t, "settled by ATTACHED", fmt.Sprint(r.order), c.settled)
			want(t, "confirmed", fmt.Sprint(r.l.TakeConfirms(a)), fmt.Sprint([]wire.EditionRanges{c.said}))

			r = threeLives(t, Mode{MaxDeliver: 1})
			a = r.join("a", 9)
			r.take(a)
			n := wire.Nack{Reason: wire.NackHandler, Edition: c.said.Edition, Ranges: c.said.Ranges}
			if err := r.l.Nack(a, n, r.now); err != nil {
				t.Fatal(err)
			}
			r.check()
			want(t, "dead by NACK", fmt.Sprint(r.order), c.settled)
		})
	}
}

func TestAnAnswerForWhatWasNotSentThereIsForgedWhateverItsEdition(t *testing.T) {
	for _, said := range []wire.EditionRanges{run(edition, 12), run(edition, 10), run(4, 7), {Edition: 4, Ranges: run(0, 3).Ranges}} {
		mode := Mode{First: 10, Editions: []wire.EditionSpan{{Edition: 3, First: 1}, {Edition: 4, First: 5}}}
		r := newRig(t, mode)
		r.next = 7 // never dispatched by any life
		r.put(Item{})
		r.next = 10
		r.fill(2)
		a := r.join("a", 0)
		err := r.l.Done(a, said)
		r.check()
		if owned := said.Ranges[0].From != 3; (err != nil) != owned {
			t.Errorf("DONE %v: error %v", said, err)
		}
	}
}

func TestAnAttachNamesTheEditionsThatOweSomething(t *testing.T) {
	r := threeLives(t, Mode{})
	a := r.join("a", 9)
	r.take(a)
	want(t, "at first", fmt.Sprint(r.l.Editions()), "[{3 1} {4 5}]")
	for _, said := range []wire.EditionRanges{run(4, 5), run(3, 2)} {
		if err := r.l.Done(a, said); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "when 2 and 5 are done", fmt.Sprint(r.l.Editions()), "[{4 5}]")
	if err := r.l.Done(a, run(4, 6)); err != nil {
		t.Fatal(err)
	}
	want(t, "when 6 is", fmt.Sprint(r.l.Editions()), "[]")

	r = newRig(t, Mode{First: 10, Editions: []wire.EditionSpan{{Edition: 3, First: 1}, {Edition: 4, First: 5}}})
	r.next = 5
	r.put(Item{})
	want(t, "what is not appended yet", fmt.Sprint(r.l.Editions()), "[{4 5}]")
}

func TestABacklogIsAppendedPieceByPiece(t *testing.T) {
	r := newRig(t, Mode{First: 100, Editions: []wire.EditionSpan{{Edition: 3, First: 1}}})
	accepted := r.now.Add(-time.Minute)
	r.put(Item{Accepted: accepted})
	a := r.join("a", 99)
	s := r.take(a)
	want(t, "sent", flags(s), "1")
	want(t, "its age", s[0].Age, time.Minute)
	r.next = 7
	r.put(Item{Accepted: accepted, Key: "k"})
	r.next = 9
	r.put(Item{Accepted: accepted, Key: "k", Expires: r.now.Add(time.Second)})
	want(t, "then", flags(r.take(a)), "7")
	if err := r.l.Done(a, run(3, 7)); err != nil {
		t.Fatal(err)
	}
	r.next = 100
	r.put(Item{})
	r.pass(time.Second)
	want(t, "at last", flags(r.take(a)), "100")
	want(t, "counts", r.l.Counts(), Counts{Carried: 3, Accepted: 1, Leased: 2, Done: 1, Expired: 1, Bytes: 12, Dropped: map[string]uint64{}})
}
