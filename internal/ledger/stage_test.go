package ledger

import (
	"fmt"
	"testing"

	"peermesh/internal/wire"
)

func (r *rig) confirms(c *Consumer) string {
	r.Helper()
	defer r.check()
	return fmt.Sprint(r.l.TakeConfirms(c))
}

func TestAMarkIsConfirmedWhenItsSettlementIsDurable(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	a, b := r.join("a", 4), r.join("b", 4)
	r.fill(8)
	r.take(a)
	r.take(b) // the even ones
	want(t, "at first", r.l.Unsealed(), false)
	r.done(a, 1, 3)
	r.done(b, 2)
	want(t, "answered", r.l.Unsealed(), true)
	want(t, "before the seal", r.confirms(a), "[]")
	r.l.Seal(5)
	want(t, "sealed", r.l.Unsealed(), false)
	r.done(a, 5)
	r.l.Seal(6)
	r.done(a, 7)
	r.l.Release(4)
	want(t, "before the release", r.confirms(a)+r.confirms(b), "[][]")
	want(t, "confirmable", a.Confirmable(), uint64(0))
	r.l.Release(5)
	want(t, "confirmable", a.Confirmable(), uint64(2))
	want(t, "released", r.confirms(a)+r.confirms(b), "[{7 [{1 1} {3 3}]}][{7 [{2 2}]}]")
	want(t, "once", r.confirms(a)+r.confirms(b), "[][]")
	r.l.Release(6)
	want(t, "then", r.confirms(a), "[{7 [{5 5}]}]")
	r.l.Release(100)
	want(t, "what is not sealed", r.confirms(a), "[]")
	r.l.Seal(101)
	r.l.Release(101)
	want(t, "at last", r.confirms(a), "[{7 [{7 7}]}]")
}

func TestEveryFateHasToBecomeDurable(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	a := r.join("a", 2)
	r.fill(4)
	r.take(a)
	for i, settle := range []func(){
		func() { r.l.Cancel(3) },
		func() { r.nack(a, wire.NackCorrupt, 1) },
		func() { r.done(a, 2) },
		func() { r.l.DropAll(ReasonShutdown) },
	} {
		want(t, "unsealed", r.l.Unsealed(), false)
		settle()
		want(t, fmt.Sprint("settled ", i), r.l.Unsealed(), true)
		r.l.Seal(uint64(i + 1))
	}
}

func TestAHoleIsStatedWhenItIsDurable(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	a := r.join("a", 9)
	r.fill(6)
	r.take(a)
	r.nack(a, wire.NackCorrupt, 1, 2)
	r.l.Cancel(3)
	r.done(a, 4)
	want(t, "before", fmt.Sprint(a.TakeGaps()), "[]")
	r.l.Seal(1)
	r.l.Cancel(5)
	r.l.Release(1)
	late := r.join("b", 9)
	want(t, "released", fmt.Sprint(a.TakeGaps()), "[{1 2 dead} {3 3 dropped}]")
	want(t, "to one who came later", fmt.Sprint(late.TakeGaps()), "[]")
	r.l.Seal(2)
	r.l.Release(2)
	want(t, "then", fmt.Sprint(a.TakeGaps(), late.TakeGaps()), "[{5 5 dropped}] [{5 5 dropped}]")
}

// A restart would owe again what is settled and not durable: no ATTACH may say that
// it is not.
func TestStartStaysBelowWhatIsNotDurable(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	a := r.join("a", 9)
	r.fill(6)
	r.take(a)
	r.done(a, 1, 2, 4)
	want(t, "lowest", r.l.Lowest(), uint64(3))
	want(t, "start", r.l.Start(), uint64(1))
	r.l.Seal(1)
	r.nack(a, wire.NackCorrupt, 3)
	want(t, "sealed", r.l.Start(), uint64(1))
	r.l.Release(1)
	want(t, "released", r.l.Start(), uint64(3))
	r.l.Seal(2)
	r.l.Release(2)
	want(t, "all released", r.l.Start(), uint64(5))
}

// What is told again need not be told twice to be forgotten, but may be.
func TestAnATTACHEDReplacesWhatWasToBeConfirmed(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	a := r.join("a", 9)
	r.fill(3)
	r.take(a)
	r.done(a, 1)
	r.l.Seal(1)
	r.done(a, 2)
	r.again(a, 1, func(at *wire.Attached) { at.Done = told(1, 2, 3) })
	want(t, "unsealed", r.l.Unsealed(), true)
	r.l.Release(1)
	want(t, "of the older pipe", r.confirms(a), "[]")
	r.l.Seal(2)
	r.l.Release(2)
	want(t, "of the newer one", r.confirms(a), "[{7 [{1 3}]}]")
	for n := range uint64(1000) {
		r.again(a, 1, func(at *wire.Attached) { at.Done = told(1, 2, 3) })
		if held := len(r.l.stage.marks); held > 4 {
			t.Fatalf("%d marks are kept after %d pipes", held, n)
		}
	}
}

func TestAConsumerThatAnswersWithoutEndIsStopped(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	a := r.join("a", 9)
	e := wire.EditionRanges{Edition: 99}
	for i := range uint64(1 << 16) {
		e.Ranges = append(e.Ranges, run(99, 2*i+1).Ranges...)
	}
	for n := 0; r.l.Done(a, e) == nil; n++ {
		if n > 2*maxMarks/len(e.Ranges) {
			t.Fatalf("%d ranges are kept", len(r.l.stage.marks))
		}
	}
}

// The usual case: one DONE at a time, each made durable at once.
func BenchmarkStagedDone(b *testing.B) {
	r := newRig(b, Mode{Staged: true})
	c := r.join("a", 1<<40)
	d := wire.EditionRanges{Edition: edition, Ranges: run(edition, 1).Ranges}
	record := []byte("record")
	b.ReportAllocs()
	for i := uint64(1); b.Loop(); i++ {
		r.l.Append(Item{Seq: i, Base: i, Record: record}, r.now)
		r.l.Dispatch(func(*Consumer) {})
		r.l.Take(c, nil, 1, r.now)
		d.Ranges[0].From, d.Ranges[0].To = i, i
		if err := r.l.Done(c, d); err != nil {
			b.Fatal(err)
		}
		r.l.Seal(i)
		r.l.Release(i)
		delete(r.fates, i)
		r.order = r.order[:0]
	}
}

// Who gets a message has been told of every hole before it, and no hole is told before it is durable.
func TestAMessageWaitsForTheHoleBeforeItToBeDurable(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	r.fill(6)
	r.l.DropOldest(ReasonOverflow)
	a := r.join("a", 2)
	r.l.Dispatch(func(*Consumer) {})
	want(t, "taken", len(r.take(a)), 0)
	want(t, "urgent", a.Urgent(), false)
	r.l.DropOldest(ReasonOverflow) // not what is leased
	r.l.Seal(1)
	want(t, "taken when it is sealed", len(r.take(a)), 0)
	r.l.Release(1)
	want(t, "urgent when it is durable", a.Urgent(), true)
	want(t, "told", fmt.Sprint(a.TakeGaps()), "[{1 1 dropped} {4 4 dropped}]")
	want(t, "taken then", len(r.take(a)), 2)
	r.l.DropOldest(ReasonOverflow)
	r.again(a, 4, func(at *wire.Attached) { at.Held = told(2, 3) })
	want(t, "of a new pipe", len(r.take(a)), 0)
	r.l.Seal(2)
	r.l.Release(2)
	want(t, "urgent", a.Urgent(), true)
	want(t, "at last", len(r.take(a)), 1)
}
