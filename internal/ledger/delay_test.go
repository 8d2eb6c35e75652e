package ledger

import (
	"testing"
	"time"

	"peermesh/internal/wire"
)

// after is an item that is not to be dispatched before d has passed.
func (r *rig) after(d time.Duration) Item { return Item{NotBefore: r.now.Add(d)} }

func TestADelayedMessageIsDispatchedAtItsTime(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	r.put(r.after(5 * time.Second))
	want(t, "counts", r.l.Counts(), Counts{Accepted: 1, Queued: 1, Bytes: 6, Dropped: map[string]uint64{}})
	want(t, "early", r.l.Early(), 1)
	want(t, "sent at once", len(r.seqs(c)), 0)
	want(t, "next tick", r.pass(5*time.Second-1), 1)
	want(t, "sent a moment too early", len(r.seqs(c)), 0)
	r.pass(1)
	want(t, "early", r.l.Early(), 0)
	want(t, "sent in time", flags(r.take(c)), "1")
	r.done(c, 1)
	want(t, "fate", r.fate(1), "done")
	want(t, "nothing waits for time", r.pass(time.Hour), 0)
}

func TestADelayedMessageHoldsUpNobody(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	for _, key := range []string{"", "k"} {
		it := r.after(5 * time.Second)
		it.Key = key
		r.put(it)
		r.put(Item{Key: key})
	}
	want(t, "sent", r.seqs(c), []uint64{2, 4})
	r.pass(5 * time.Second)
	want(t, "sent while 4 of the same key is in hand", r.seqs(c), []uint64{1})
	r.put(Item{Key: "k"})
	r.done(c, 4)
	want(t, "the one of the key with the lower seq goes first", r.seqs(c), []uint64{3})
	r.done(c, 3)
	want(t, "then the other", r.seqs(c), []uint64{5})
}

func TestWhatIsDueStandsWhereItsSeqPutsIt(t *testing.T) {
	r := newRig(t, Mode{})
	r.fill(1)
	r.put(r.after(2 * time.Second))
	r.fill(1)
	r.put(r.after(time.Second))
	r.fill(1)
	r.pass(2 * time.Second)
	c := r.join("a", 2)
	want(t, "first", r.seqs(c), []uint64{1, 2})
	r.put(r.after(time.Second))
	r.l.Credit(c, wire.Credit{Messages: 5, Bytes: 1 << 40})
	want(t, "then", r.seqs(c), []uint64{3, 4, 5})
	r.fill(1)
	r.pass(time.Second) // 6 is due, and nothing of it was looked at yet
	r.l.Credit(c, wire.Credit{Messages: 7, Bytes: 1 << 40})
	want(t, "last", r.seqs(c), []uint64{6, 7})
}

func TestATTLThatEndsBeforeTheDelayExpires(t *testing.T) {
	for _, absent := range []bool{false, true} {
		r := newRig(t, Mode{})
		c := r.join("a", 100)
		it := r.after(5 * time.Second)
		it.Expires, it.Absent = r.now.Add(5*time.Second), absent
		r.put(it)
		r.pass(5 * time.Second)
		want(t, "fate", r.fate(1), "expired")
		want(t, "sent", len(r.seqs(c)), 0)
		want(t, "gaps", c.TakeGaps(), []wire.Gap{{From: 1, To: 1, Reason: wire.GapExpired}})
		r.l.Fill(1, 1, []byte("record")) // too late
		r.check()
	}
}

func TestWhatIsDueAboveTheMarkWaitsForIt(t *testing.T) {
	r := newRig(t, Mode{Marked: true})
	c := r.join("a", 100)
	r.put(r.after(time.Second))
	r.put(r.after(time.Second))
	r.l.SetMark(1)
	r.dispatch()
	r.pass(time.Second)
	want(t, "sent", r.seqs(c), []uint64{1})
	r.l.SetMark(2)
	want(t, "sent", r.seqs(c), []uint64{2})
}

func TestTheMarkPassesARowOfDelayedMessagesAtOnce(t *testing.T) {
	r := newRig(t, Mode{Marked: true})
	r.join("a", 4)
	for range 100 {
		r.put(r.after(time.Second))
	}
	r.fill(10)
	want(t, "wanted", r.l.WantsMark(), uint64(104))
	r.l.SetMark(104)
	want(t, "wanted then", r.l.WantsMark(), uint64(0))
}

func TestAnAbsentMessageIsAskedForWhenItIsDueAndSentWhenItIsThere(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	for _, d := range []time.Duration{2, 1, 1, 2} {
		it := r.after(d * time.Second)
		it.Absent = true
		r.put(it)
	}
	want(t, "absent", r.l.Absent(), 4)
	_, ok := r.l.NextDue()
	want(t, "due", ok, false)
	r.pass(time.Second)
	seq, _ := r.l.NextDue()
	want(t, "due", seq, uint64(2))
	want(t, "fetched", r.l.TakeDue(nil, 2), []uint64{2})
	want(t, "sent without its record", len(r.seqs(c)), 0)
	r.l.Fill(2, 1, []byte("two"))
	want(t, "bytes", r.l.Counts().Bytes, uint64(3))
	s := r.take(c)
	want(t, "sent", flags(s), "2")
	want(t, "its record", string(s[0].Record), "two")
	want(t, "its block", s[0].Base, uint64(1))
	r.pass(time.Second)
	want(t, "fetched, by seq", r.l.TakeDue(nil, 10), []uint64{1, 3, 4})
	r.l.Lose(3)
	want(t, "fate", r.fate(3), "dropped damaged")
	r.l.Fill(4, 1, []byte("four"))
	r.l.Fill(1, 1, []byte("one"))
	r.l.Fill(1, 1, []byte("one again"))
	want(t, "sent", flags(r.take(c)), "1 4")
	want(t, "absent", r.l.Absent(), 0)
	r.done(c, 1, 2, 4)
	want(t, "owed", r.l.Counts().Queued+r.l.Counts().Leased, uint64(0))
}

func TestTheOldestIsDroppedDelayedOrNot(t *testing.T) {
	r := newRig(t, Mode{})
	r.put(r.after(time.Hour))
	r.fill(1)
	for _, seq := range []uint64{1, 2} {
		want(t, "dropped", r.l.DropOldest(ReasonOverflow), true)
		r.check()
		want(t, "fate", r.fate(seq), "dropped overflow")
	}
	want(t, "early", r.l.Early(), 0)
}

// Its delay is kept although an earlier life may have dispatched it: the clock was set back.
func TestWhatAnEarlierLifeMayHaveDispatchedWaitsForItsTimeToo(t *testing.T) {
	r := newRig(t, Mode{First: 3, Editions: []wire.EditionSpan{{Edition: edition - 1, First: 1}}, Marked: true})
	for range 2 {
		it := r.after(20 * time.Second)
		it.Unknown, it.Key = true, "k"
		r.put(it)
	}
	r.l.SetMark(2)
	c := r.join("a", 100)
	want(t, "sent", flags(r.take(c)), "")
	r.pass(20*time.Second - 1)
	r.l.Renew(c, r.now)
	want(t, "sent", flags(r.take(c)), "")
	r.pass(1)
	want(t, "sent", flags(r.take(c)), "1!")
	if err := r.l.Done(c, run(edition-1, 1)); err != nil {
		t.Fatal(err)
	}
	want(t, "sent", flags(r.take(c)), "2!")
}
