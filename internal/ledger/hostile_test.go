package ledger

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// Answers that no honest consumer gives. Each is an error, and it changes nothing.
func TestForgedAnswersAreErrorsAndChangeNothing(t *testing.T) {
	const all = math.MaxUint64
	span := func(from, to uint64) wire.EditionRanges {
		return wire.EditionRanges{Edition: edition, Ranges: []ranges.Range{{From: from, To: to}}}
	}
	type answer func(*rig, *Consumer, wire.EditionRanges) error
	answers := map[string]answer{
		"DONE": func(r *rig, c *Consumer, e wire.EditionRanges) error { return r.l.Done(c, e) },
		"NACK": func(r *rig, c *Consumer, e wire.EditionRanges) error {
			return r.l.Nack(c, wire.Nack{Reason: wire.NackHandler, Edition: e.Edition, Ranges: e.Ranges}, r.now)
		},
		"done": func(r *rig, c *Consumer, e wire.EditionRanges) error {
			return greet(r, c, wire.Attached{Done: only(e)})
		},
		"held": func(r *rig, c *Consumer, e wire.EditionRanges) error {
			return greet(r, c, wire.Attached{Held: only(e)})
		},
		"lost": func(r *rig, c *Consumer, e wire.EditionRanges) error {
			return greet(r, c, wire.Attached{Lost: only(e)})
		},
	}
	for name, say := range answers {
		for _, c := range []struct {
			what string
			e    wire.EditionRanges
		}{
			{"seq 0", span(0, 0)},
			{"from seq 0", span(0, 1)},
			{"the next seq", span(5, 5)},
			{"up to the next seq", span(1, 5)},
			{"2^64-1", span(all, all)},
			{"everything", span(1, all)},
			{"everything and 0", span(0, all)},
			{"backwards", span(2, 1)},
			{"what was sent to another", span(3, 3)},
			{"what was sent to another, among its own", span(1, 3)},
			{"what was never sent", span(4, 4)},
		} {
			t.Run(name+" of "+c.what, func(t *testing.T) {
				r := newRig(t, Mode{})
				a := r.join("a", 2)
				r.fill(2)
				r.take(a)
				b := r.join("b", 1)
				r.fill(2)
				r.take(b)
				before := r.l.Counts()
				err := say(r, a, c.e)
				var forged ErrForged
				if !errors.As(err, &forged) {
					t.Errorf("error %v, want an ErrForged", err)
				}
				r.check()
				want(t, "counts", r.l.Counts(), before)
				want(t, "confirmed", len(r.l.TakeConfirms(a)), 0)
			})
		}
	}
}

func greet(r *rig, c *Consumer, a wire.Attached) error {
	r.l.Attach(c)
	a.Number, a.Nonce = c.number, c.nonce
	ok, err := r.l.Attached(c, a, r.now)
	if err != nil && (ok || c.attached) {
		r.Error("attached in spite of the error")
	}
	return err
}

func only(e wire.EditionRanges) []wire.EditionRanges { return []wire.EditionRanges{e} }

func TestForgedRepliesAreErrors(t *testing.T) {
	r := newRig(t, once)
	a := r.join("a", 1)
	r.ask()
	r.take(a)
	b := r.join("b", 1)
	r.ask()
	r.take(b)
	r.ask()
	for _, seq := range []uint64{0, 2, 3, 4, math.MaxUint64} {
		if _, err := r.l.Reply(a, edition, seq, Done); !errors.Is(err, ErrForged{seq}) {
			t.Errorf("reply to %d: %v, want ErrForged", seq, err)
		}
		r.check()
	}
	want(t, "answered", r.l.Counts().Done, uint64(0))
}

func TestAnAnswerToAMessageNotYetTakenIsForged(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 9)
	r.fill(1)
	r.dispatch() // leased to a, but still here
	if err := r.l.Done(a, run(edition, 1)); !errors.Is(err, ErrForged{1}) {
		t.Errorf("DONE of it: %v, want ErrForged", err)
	}
	r.check()
	// What was nacked is known there, but its second lease is not: another NACK is without effect.
	r.take(a)
	r.nack(a, wire.NackHandler, 1)
	r.pass(time.Second)
	r.dispatch()
	r.nack(a, wire.NackReturned, 1)
	r.nack(a, wire.NackHandler, 1)
	want(t, "sent once", flags(r.take(a)), "1!")
	want(t, "and only once", flags(r.take(a)), "")
}

// 2^18 messages owed, and ranges that span them all or all there could be: settling
// costs what there is to settle.
func TestHugeRangesCostNoMoreThanWhatTheyName(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1<<20)
	const n = 1 << 18
	for range n {
		r.l.Append(Item{Seq: r.next, Record: []byte("x")}, r.now)
		r.next++
	}
	r.l.Refuse(1<<60, ReasonOverflow) // as if 2^60 had been sent
	r.next = 1<<60 + 1
	r.l.Dispatch(func(*Consumer) {})
	r.l.Take(a, nil, 1<<30, r.now)
	if err := r.l.Done(a, wire.EditionRanges{Edition: edition, Ranges: []ranges.Range{{From: 1, To: 1 << 60}}}); err != nil {
		t.Fatal(err)
	}
	r.check()
	want(t, "done", r.l.Counts().Done, uint64(n))
	for range 1000 {
		if err := r.l.Done(a, wire.EditionRanges{Edition: edition, Ranges: []ranges.Range{{From: 1, To: 1 << 60}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.l.Nack(a, wire.Nack{Edition: edition, Ranges: []ranges.Range{{From: 1, To: 1 << 60}}}, r.now); err != nil {
		t.Fatal(err)
	}
	want(t, "confirmed", len(r.l.TakeConfirms(a)[0].Ranges), 1)
}

func TestAConsumerThatReadsNoConfirmationIsCutOff(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 9)
	for i := range uint64(wire.MaxEditions) {
		if err := r.l.Done(a, run(100+i, 1)); err != nil {
			t.Fatalf("edition %d: %v", i, err)
		}
	}
	if err := r.l.Done(a, run(1, 1)); err == nil {
		t.Errorf("marks of more than %d editions are kept", wire.MaxEditions)
	}
	r.l.TakeConfirms(a)
	var scattered []ranges.Range
	for i := range uint64(maxMarks) {
		scattered = append(scattered, ranges.Range{From: 2*i + 1, To: 2*i + 1})
	}
	if err := r.l.Done(a, wire.EditionRanges{Edition: 1, Ranges: scattered}); err != nil {
		t.Fatal(err)
	}
	if err := r.l.Done(a, run(1, 1<<40)); err == nil {
		t.Errorf("more than %d ranges are kept", maxMarks)
	}
}

func TestOneStuckMessageDoesNotPinAMillionOthers(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1)
	b := r.join("b", 0)
	r.put(Item{Expires: r.now.Add(time.Hour)})
	r.take(a) // and never an answer
	r.l.Credit(b, wire.Credit{Messages: 1 << 40, Bytes: 1 << 60})
	record := make([]byte, 10)
	var sends []Send
	deadline := r.now.Add(time.Hour)
	for round := range 1000 {
		for range 1000 {
			r.l.Append(Item{Seq: r.next, Record: record, Expires: deadline}, r.now)
			r.next++
		}
		r.l.Dispatch(func(*Consumer) {})
		sends = r.l.Take(b, sends[:0], 1<<30, r.now)
		e := wire.EditionRanges{Edition: edition, Ranges: []ranges.Range{{From: sends[0].Seq, To: sends[len(sends)-1].Seq}}}
		if err := r.l.Done(b, e); err != nil {
			t.Fatal(err)
		}
		r.l.TakeConfirms(b)
		if round%50 == 0 {
			r.check()
		}
	}
	r.check()
	want(t, "done", r.l.Counts().Done, uint64(1_000_000))
	want(t, "lowest", r.l.Lowest(), uint64(1))
	if size := r.l.ring.slots(); size > 4096 {
		t.Errorf("%d slots for one message, want at most 4096", size)
	}
	if n := r.l.expiry.len(); n > 1000 {
		t.Errorf("%d TTLs for one message", n)
	}
	r.done(a, 1)
	want(t, "owed", r.l.Counts().Queued+r.l.Counts().Leased, uint64(0))
}

func TestMemoryIsGivenBackAfterABurst(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1<<40)
	const burst = 1 << 18
	for range burst {
		r.l.Append(Item{Seq: r.next, Key: "k", Expires: r.now.Add(time.Hour)}, r.now)
		r.next++
	}
	r.l.Dispatch(func(*Consumer) {})
	r.l.DropAll(ReasonShutdown)
	r.check()
	r.l.Tick(r.now)
	if size := r.l.ring.slots(); size > keepRing {
		t.Errorf("%d slots for nothing", size)
	}
	if size := cap(r.l.expiry.items); size > 2*keepRing {
		t.Errorf("room for %d TTLs of nothing", size)
	}
	want(t, "lanes", len(r.l.lanes), 0)
	r.fill(1)
	want(t, "goes on", len(r.take(a)), 1)
}

func TestTheMemoryOfLateAnswersIsBounded(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1<<40)
	for range 4 * maxLate {
		r.l.Append(Item{Seq: r.next}, r.now)
		r.next++
	}
	r.l.Dispatch(func(*Consumer) {})
	r.l.Take(a, nil, 1<<30, r.now)
	for seq := uint64(1); seq < r.next; seq += 2 {
		r.l.Cancel(seq)
	}
	r.check()
	want(t, "remembered", r.l.late.Len(), maxLate)
	var newest []uint64
	for i := range uint64(5) {
		newest = append(newest, r.next-2-2*i)
	}
	r.done(a, newest...)
	want(t, "the newest are counted", r.l.Counts().LateDone, uint64(5))
	r.done(a, 1)
	want(t, "the oldest are not", r.l.Counts().LateDone, uint64(5))
	r.done(a, r.next-14, r.next-13, r.next-12, r.next-11) // every other one of them is late
	want(t, "counted among others", r.l.Counts().LateDone, uint64(7))
}

func TestAConsumerThatComesAndGoesMakesNothingGrow(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1000)
	var all []uint64
	for range 100 {
		all = append(all, r.put(Item{}))
	}
	r.take(a)
	for range 50 { // not held any more, held, and nobody dispatches meanwhile
		r.detach(a, true)
		r.again(a, 1, func(at *wire.Attached) { at.Held = told(all...) })
	}
	r.detach(a, true)
	if n := r.l.retry.len(); n > 2*len(all)+minRing {
		t.Errorf("%d retries of %d messages", n, len(all))
	}
	b := r.join("b", 1000)
	want(t, "sent", len(r.take(b)), len(all))
}

func TestAnAttachedWithTooManyEditionsIsRefused(t *testing.T) {
	for _, lost := range []bool{false, true} {
		r := newRig(t, Mode{})
		a := r.join("a", 1)
		r.l.Attach(a)
		at := r.hello(a, 1)
		at.Lost = []wire.EditionRanges{run(1, 1)}
		for i := range uint64(wire.MaxEditions) {
			at.Done = append(at.Done, run(100+i, 1))
		}
		if lost {
			at.Done, at.Lost = at.Lost, at.Done
		}
		if ok, err := r.l.Attached(a, at, r.now); ok || err == nil {
			t.Errorf("lost %v: attached %v, %v", lost, ok, err)
		}
		r.check()
		want(t, "attached", a.Attached(), false)
		at.Done = nil
		r.attached(a, at)
	}
}

func TestMarksOfAnotherEditionAreCheckedToo(t *testing.T) {
	r := newRig(t, once)
	a := r.join("a", 1)
	backwards := wire.EditionRanges{Edition: 1, Ranges: []ranges.Range{{From: 2, To: 1}}}
	if err := r.l.Done(a, backwards); err == nil {
		t.Error("a DONE with a range that ends before it begins is accepted")
	}
	for i := range uint64(wire.MaxEditions) {
		if err := r.l.Done(a, run(100+i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.l.Reply(a, 2, 1, Done); err == nil {
		t.Errorf("replies of more than %d editions are accepted", wire.MaxEditions)
	}
	r.check()
}

func TestAnAttachedOfTooManyRangesIsRefused(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1)
	r.l.Attach(a)
	at := r.hello(a, 1)
	e := wire.EditionRanges{Edition: 1}
	for i := range uint64(maxMarks + 1) {
		e.Ranges = append(e.Ranges, ranges.Range{From: 2*i + 1, To: 2*i + 1})
	}
	at.Held, at.Lost = []wire.EditionRanges{e}, []wire.EditionRanges{e}
	if ok, err := r.l.Attached(a, at, r.now); ok || !errors.Is(err, errHoards) {
		t.Errorf("attached %v, %v", ok, err)
	}
	r.check()
}

func TestRevocationsFitFrames(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1)
	var all ranges.Set
	for i := range uint64(2*maxConfirm + 9) {
		all.Add(i<<40, i<<40)
	}
	a.revoke = all.Clone()
	var told ranges.Set
	for rs := a.TakeRevokes(); rs != nil; rs = a.TakeRevokes() {
		wire.AppendRevoke(nil, rs)
		for _, p := range rs {
			told.Add(p.From, p.To)
		}
	}
	want(t, "told", told.Count(), all.Count())
	want(t, "urgent", a.Urgent(), false)
}

// Messages that end while they wait for a back-off, or for a consumer without credit.
func TestWhatEndsWhileItWaitsLeavesNothingBehind(t *testing.T) {
	r := newRig(t, Mode{Backoff: time.Hour, MaxBackoff: time.Hour})
	a := r.join("a", 1)
	for range 1000 { // check holds the heaps against what is owed
		r.l.Credit(a, wire.Credit{Messages: a.sentMsgs + 1, Bytes: 1 << 40})
		seq := r.put(Item{})
		r.take(a)
		r.nack(a, wire.NackHandler, seq)
		r.l.Cancel(seq)
		r.check()
	}
	r.put(Item{Key: "stays"})
	for i := range 1000 {
		seq := r.put(Item{Key: fmt.Sprint(i)})
		r.dispatch()
		r.l.Cancel(seq)
		r.check()
	}
}
