package ledger

import (
	"fmt"
	"testing"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

func TestWhatIsVolatileNeedsNoMark(t *testing.T) {
	r := newRig(t, Mode{Marked: true})
	r.l.Volatile(3)
	r.fill(4)
	a := r.join("a", 99)
	want(t, "below the boundary", flags(r.take(a)), "")
	want(t, "the next one waits for the mark", r.l.Unmarked(), true)
	want(t, "wanted", r.l.WantsMark(), uint64(99))
	r.l.SetMark(2)
	want(t, "with the mark", flags(r.take(a)), "1 2 3 4")
	want(t, "wanted", r.l.WantsMark(), uint64(0))
	want(t, "dispatched", r.l.Dispatched(), uint64(4))
	want(t, "the next one waits for the mark", r.l.Unmarked(), false)
	r.l.Volatile(7) // those two are kept now, and below the mark that went with them
	r.l.SetMark(4)
	r.fill(3)
	want(t, "kept, without the mark", flags(r.take(a)), "")
	r.l.SetMark(6)
	want(t, "with it", flags(r.take(a)), "5 6 7")
}

func TestWhatIsVolatileIsConfirmedAtOnce(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	r.l.Volatile(3)
	a := r.join("a", 9)
	r.fill(6)
	r.take(a)
	r.done(a, 3, 4)
	want(t, "unsealed", r.l.Unsealed(), false)
	want(t, "confirmed", r.confirms(a), "[{7 [{3 4}]}]")
	r.l.Cancel(5)
	want(t, "gaps", fmt.Sprint(a.TakeGaps()), "[{5 5 dropped}]")
	r.done(a, 2)
	want(t, "unsealed", r.l.Unsealed(), true)
	want(t, "confirmed", r.confirms(a), "[]")
	want(t, "start", r.l.Start(), uint64(1))
	r.done(a, 1)
	want(t, "start", r.l.Start(), uint64(1)) // not known to be settled on disk
	r.l.Seal(1)
	r.l.Release(1)
	want(t, "confirmed", r.confirms(a), "[{7 [{1 2}]}]")
	want(t, "start", r.l.Start(), uint64(6))
}

// One answer for messages on both sides of the boundary waits as a whole.
func TestAnAnswerAcrossTheBoundaryIsStaged(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	r.l.Volatile(3)
	a := r.join("a", 9)
	r.fill(4)
	r.take(a)
	if err := r.l.Done(a, wire.EditionRanges{Edition: edition, Ranges: []ranges.Range{{From: 1, To: 4}}}); err != nil {
		t.Fatal(err)
	}
	want(t, "confirmed", r.confirms(a), "[]")
	r.l.Seal(1)
	r.l.Release(1)
	want(t, "confirmed", r.confirms(a), "[{7 [{1 4}]}]")
}

func TestOwingTellsWhatIsOwedInOrder(t *testing.T) {
	r := newRig(t, Mode{MaxDeliver: 9})
	a := r.join("a", 3)
	at := r.now.Add(time.Minute)
	r.fill(1)
	r.put(Item{Expires: at, Record: []byte("two")})
	r.fill(3)
	r.take(a)
	r.done(a, 1)
	r.nack(a, wire.NackHandler, 3)
	tell := func(from uint64, most int) (out []string) {
		r.l.Owing(from, func(d Debt) bool {
			out = append(out, fmt.Sprintf("%d %s %v %d %d", d.Seq, d.Record, d.Expires.Equal(at), d.Attempt, d.Deliveries))
			return len(out) < most
		})
		return out
	}
	want(t, "all", tell(1, 9), []string{"2 two true 1 0", "3 record false 1 1", "4 record false 0 0", "5 record false 0 0"})
	want(t, "from 3 on, two of them", tell(3, 2), []string{"3 record false 1 1", "4 record false 0 0"})
	want(t, "beyond", tell(6, 9), []string(nil))
}

func TestDropFromLeavesWhatIsBelow(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 4)
	r.fill(6)
	r.take(a)
	r.done(a, 5-1)
	r.l.DropFrom(3, ReasonShutdown)
	r.check()
	for seq, state := range []string{1: "owed", 2: "owed", 3: "dropped shutdown", 4: "done", 5: "dropped shutdown", 6: "dropped shutdown"} {
		if seq > 0 {
			want(t, fmt.Sprint(seq), r.fate(uint64(seq)), state)
		}
	}
	n, _ := r.l.Owed()
	want(t, "owed", n, 2)
}

// The holes of what never came to the ledger are stated like others, when their fate is durable.
func TestWhatWasMissedIsAHole(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	a := r.join("a", 4)
	r.fill(1)
	r.l.Missed(3)
	want(t, "gaps", fmt.Sprint(a.TakeGaps()), "[]")
	r.l.Seal(1)
	r.l.Release(1)
	want(t, "gaps", fmt.Sprint(a.TakeGaps()), "[{3 3 dropped}]")
	r.put(Item{}) // 2 comes later all the same
	want(t, "sent", flags(r.take(a)), "1 2")
}

func TestAttendedTellsWhetherAnybodyIsThere(t *testing.T) {
	r := newRig(t, Mode{})
	want(t, "nobody", r.l.Attended(), false)
	a := r.join("a", 1)
	want(t, "one", r.l.Attended(), true)
	r.detach(a, true)
	want(t, "gone", r.l.Attended(), false)
}

// A socket that was closed and opened again knows nothing of the seqs that were in memory alone.
func TestAnswersForWhatWasGivenOutBeforeAreNoForgery(t *testing.T) {
	r := newRig(t, Mode{Given: 5})
	r.fill(1)
	a := r.l.Join(Who{Label: "a"}, 1)
	number, _ := r.l.Attach(a)
	for seq, ok := range map[uint64]bool{4: true, 5: false} {
		in := wire.Attached{Number: number, Nonce: [16]byte{1}, Done: []wire.EditionRanges{{Edition: edition, Ranges: []ranges.Range{{From: seq, To: seq}}}}}
		if _, err := r.l.Attached(a, in, r.now); (err == nil) != ok {
			t.Errorf("done %d: %v", seq, err)
		}
		r.detach(a, true)
		number, _ = r.l.Attach(a)
	}
}

// The disk has failed with the hole on its way.
func TestNothingWaitsForAHoleThatIsNeverDurable(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	r.l.Volatile(4)
	a := r.join("a", 9)
	r.fill(5)
	r.l.Cancel(2)
	want(t, "before", flags(r.take(a)), "1")
	r.l.Spoilt()
	want(t, "after", flags(r.take(a)), "3 4 5")
	want(t, "gaps", fmt.Sprint(a.TakeGaps()), "[]")
}
