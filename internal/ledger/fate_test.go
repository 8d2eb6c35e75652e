package ledger

import (
	"fmt"
	"testing"
	"time"

	"peermesh/internal/wire"
)

func TestTTLEndsOnlyWhatNobodyHolds(t *testing.T) {
	soon := func(r *rig) Item { return Item{Expires: r.now.Add(5 * time.Second)} }
	for _, c := range []struct {
		name  string
		setUp func(*rig) // puts seq 1
		want  string
	}{
		{"queued, never dispatched", func(r *rig) { r.put(soon(r)) }, "expired"},
		{"queued again", func(r *rig) {
			r.put(soon(r))
			c := r.join("a", 9)
			r.take(c)
			r.detach(c, true)
		}, "expired"},
		{"in its back-off", func(r *rig) {
			r.put(soon(r))
			c := r.join("a", 9)
			r.take(c)
			if err := r.l.Nack(c, wire.Nack{Reason: wire.NackHandler, Delay: time.Hour, Edition: edition,
				Ranges: run(edition, 1).Ranges}, r.now); err != nil {
				r.Fatal(err)
			}
		}, "expired"},
		{"leased", func(r *rig) {
			r.put(soon(r))
			r.take(r.join("a", 9))
		}, "owed"},
		{"leased, not taken yet", func(r *rig) {
			r.put(soon(r))
			r.join("a", 9)
			r.dispatch()
		}, "owed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Mode{})
			c.setUp(r)
			r.pass(4 * time.Second)
			want(t, "before", r.fate(1), "owed")
			r.pass(2 * time.Second)
			want(t, "after", r.fate(1), c.want)
		})
	}
}

func TestWhatBecomesOverdueInItsLeaseIsNotSentAgain(t *testing.T) {
	for _, back := range []struct {
		name string
		do   func(*rig, *Consumer)
	}{
		{"returned", func(r *rig, c *Consumer) { r.nack(c, wire.NackReturned, 1) }},
		{"nacked", func(r *rig, c *Consumer) { r.nack(c, wire.NackHandler, 1) }},
		{"the consumer left", func(r *rig, c *Consumer) { r.detach(c, true); r.again(c, 1, nil) }},
		{"not here", func(r *rig, c *Consumer) { r.again(c, 1, nil) }},
	} {
		t.Run(back.name, func(t *testing.T) {
			r := newRig(t, Mode{})
			c := r.join("a", 9)
			r.put(Item{Expires: r.now.Add(time.Second)})
			r.take(c)
			r.pass(2 * time.Second)
			want(t, "while it is leased", r.fate(1), "owed")
			back.do(r, c)
			want(t, "sent again", flags(r.take(c)), "")
			r.pass(0)
			want(t, "fate", r.fate(1), "expired")
		})
	}
}

func TestTickTellsWhenItIsNeededNext(t *testing.T) {
	r := newRig(t, Mode{})
	want(t, "nothing waits", r.pass(0), 0)
	r.put(Item{Expires: r.now.Add(7 * time.Second)})
	r.put(Item{Expires: r.now.Add(20 * time.Second)})
	want(t, "the first TTL", r.pass(time.Second), 6*time.Second)
	c := r.join("a", 1)
	r.pass(time.Second)
	r.l.Renew(c, r.now)
	r.take(c)
	want(t, "still the first TTL", r.pass(0), 5*time.Second)
	r.nack(c, wire.NackHandler, 1)
	want(t, "the back-off", r.pass(0), time.Second)
	want(t, "the TTL of what was nacked", r.pass(2*time.Second), 3*time.Second)
	want(t, "fate", r.fate(1), "owed")
	r.pass(3 * time.Second)
	want(t, "fate", r.fate(1), "expired")
	r.take(c)
	r.l.Credit(c, wire.Credit{Messages: 2, Bytes: 1 << 40})
	r.take(c)
	want(t, "the lease of 2, renewed 5 s ago", r.pass(0), 5*time.Second)
}

func TestBackOffDoublesUpToItsBound(t *testing.T) {
	r := newRig(t, Mode{Backoff: time.Second, MaxBackoff: 5 * time.Second})
	c := r.join("a", 100)
	r.fill(1)
	for i, d := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		want(t, fmt.Sprint("sent ", i+1), len(r.take(c)), 1)
		r.nack(c, wire.NackHandler, 1)
		want(t, fmt.Sprint("back-off ", i+1), r.pass(0), d)
		want(t, "too early", len(r.take(c)), 0)
		r.l.Renew(c, r.now)
		r.pass(d)
	}
	for _, huge := range []Mode{{Backoff: 1 << 40, MaxBackoff: 1 << 62}, {Backoff: time.Second, MaxBackoff: time.Minute}} {
		if got := huge.backoff(1 << 31); got != huge.MaxBackoff {
			t.Errorf("back-off after 2^31 failures of %v, want %v", got, huge.MaxBackoff)
		}
	}
}

func TestAConsumersOwnDelayReplacesTheBackOff(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	r.fill(1)
	r.take(c)
	n := wire.Nack{Reason: wire.NackHandler, Delay: 42 * time.Second, Edition: edition, Ranges: run(edition, 1).Ranges}
	if err := r.l.Nack(c, n, r.now); err != nil {
		t.Fatal(err)
	}
	want(t, "next tick", r.pass(0), 42*time.Second)
}

func TestMaxDeliverEndsInDeath(t *testing.T) {
	r := newRig(t, Mode{MaxDeliver: 3, Backoff: time.Second, MaxBackoff: time.Second})
	c := r.join("a", 100)
	r.fill(1)
	for i, reason := range []wire.NackReason{wire.NackHandler, wire.NackTimeout, wire.NackHandler} {
		want(t, "fate so far", r.fate(1), "owed")
		want(t, fmt.Sprint("delivery ", i+1), r.take(c)[0].Attempt, uint64(i+1))
		r.nack(c, reason, 1)
		r.pass(time.Second)
	}
	want(t, "settlement", r.fates[1], Settlement{Seq: 1, State: Dead, By: c.Who, Text: "boom", Base: 1, Record: []byte("record"), Attempt: 3, Deliveries: 3})
	want(t, "counts", r.l.Counts(), Counts{Accepted: 1, Dead: 1, Redelivered: 2, Dropped: map[string]uint64{}})
}

func TestWithoutMaxDeliverAMessageIsTriedForEver(t *testing.T) {
	r := newRig(t, Mode{Backoff: 1, MaxBackoff: 1})
	c := r.join("a", 1<<20)
	r.fill(1)
	for range 70_000 {
		if len(r.l.Take(c, nil, 1, r.now)) == 0 {
			r.l.Dispatch(func(*Consumer) {})
			r.l.Take(c, nil, 1, r.now)
		}
		n := wire.Nack{Reason: wire.NackHandler, Edition: edition, Ranges: run(edition, 1).Ranges}
		if err := r.l.Nack(c, n, r.now); err != nil {
			t.Fatal(err)
		}
		r.now = r.now.Add(1)
		r.l.Tick(r.now)
	}
	r.check()
	want(t, "fate", r.fate(1), "owed")
}

func TestAnUnreadableMessageIsNotTriedAgain(t *testing.T) {
	r := newRig(t, Mode{MaxDeliver: 10})
	c := r.join("a", 9)
	r.fill(1)
	r.take(c)
	r.nack(c, wire.NackCorrupt, 1)
	want(t, "settlement", r.fates[1], Settlement{Seq: 1, State: Dead, By: c.Who, Text: "boom", Base: 1, Record: []byte("record"), Attempt: 1, Deliveries: 1})
}

func TestAPullerMayFindAMessageExpired(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 9)
	r.fill(2)
	r.take(c)
	r.nack(c, wire.NackExpired, 1)
	want(t, "settlement", r.fates[1], Settlement{Seq: 1, State: Expired, By: c.Who, Base: 1, Attempt: 1})
}

func TestReturnedMessagesAreNotFlaggedAndUseUpNothing(t *testing.T) {
	r := newRig(t, Mode{MaxDeliver: 1})
	a, b := r.join("a", 1), r.join("b", 0)
	r.fill(1)
	for range 3 {
		r.take(a)
		r.nack(a, wire.NackReturned, 1)
		r.l.Credit(a, wire.Credit{Messages: a.sentMsgs + 1, Bytes: 1 << 40})
	}
	r.l.Credit(a, wire.Credit{})
	a.creditMsgs = a.sentMsgs
	r.l.Credit(b, wire.Credit{Messages: 1, Bytes: 1 << 40})
	want(t, "b gets it", flags(r.take(b)), "1")
	want(t, "suspects", len(r.l.ring.at(0).suspects), 1)
}

func TestReleasedMessagesGoFirstAndFlaggedAndUseUpNothing(t *testing.T) {
	r := newRig(t, Mode{MaxDeliver: 2, Backoff: time.Hour, MaxBackoff: time.Hour})
	a := r.join("a", 1)
	r.fill(2)
	want(t, "first", flags(r.take(a)), "1")
	for range 5 {
		r.nack(a, wire.NackReleased, 1)
		r.l.Credit(a, wire.Credit{Messages: a.sentMsgs + 1, Bytes: 1 << 40})
		want(t, "again, ahead of 2", flags(r.take(a)), "1!")
	}
	want(t, "deliveries", r.l.ring.at(0).deliveries, uint32(0))
	r.nack(a, wire.NackHandler, 1)
	want(t, "deliveries after a failure", r.l.ring.at(0).deliveries, uint32(1))
	want(t, "fate", r.fate(1), "owed")
}

// One that is executed at most once and was begun is not sent again, whatever the reason.
func TestAReleasedRequestIsSentAgainOnlyIfItMayBeRepeated(t *testing.T) {
	for _, once := range []bool{false, true} {
		r := newRig(t, Mode{Requests: true, AtMostOnce: once})
		a, b := r.join("a", 1), r.join("b", 0)
		r.fill(1)
		r.take(a)
		r.nack(a, wire.NackReleased, 1)
		r.l.Credit(b, wire.Credit{Messages: 1, Bytes: 1 << 40})
		if again := flags(r.take(b)); once {
			want(t, "once: sent again", again, "")
			want(t, "once: fate", r.fates[1].State, Indeterminate)
		} else {
			want(t, "idempotent: sent again", again, "1!")
		}
	}
}

func TestALeaseEndsWithoutRenew(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 9), r.join("b", 0)
	r.fill(2)
	r.take(a)
	for range 5 {
		r.pass(2 * time.Second)
		want(t, "renewed", r.l.Renew(a, r.now), true)
		r.l.Renew(b, r.now)
	}
	want(t, "leased", a.Leased(), 2)
	r.pass(9 * time.Second)
	r.l.Renew(b, r.now)
	want(t, "leased for 9 s", a.Leased(), 2)
	want(t, "stale", a.Stale(), false)
	r.pass(time.Second)
	want(t, "leased for 10 s", a.Leased(), 0)
	want(t, "its pipe must go", a.Stale(), true)
	want(t, "what it says now", r.l.Renew(a, r.now), false)
	r.l.Credit(b, wire.Credit{Messages: 9, Bytes: 1 << 40})
	want(t, "b gets them", flags(r.take(b)), "1! 2!")
	want(t, "a gets nothing", r.seqs(a), []uint64(nil))
	r.done(a, 1) // it had begun, and is still a suspect
	r.again(a, 1, nil)
	want(t, "stale after a new pipe", a.Stale(), false)
}

func TestALeaseOutlivesItsPipeUntilItsTime(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 9), r.join("b", 9)
	r.fill(1)
	r.take(a)
	r.detach(a, false)
	want(t, "leased", a.Leased(), 1)
	want(t, "b", r.seqs(b), []uint64(nil))
	r.renew(b)
	want(t, "leased", a.Leased(), 0)
	want(t, "a pipe that is gone is not stale", a.Stale(), false)
	want(t, "b", flags(r.take(b)), "1!")
}

func TestWhatWasNeverTakenIsRequeuedWithoutSuspicion(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 9), r.join("b", 0)
	r.fill(3)
	r.dispatch()
	r.l.Take(a, nil, 1, r.now) // the first only
	r.detach(a, false)
	want(t, "leased", a.Leased(), 1)
	r.l.Credit(b, wire.Credit{Messages: 9, Bytes: 1 << 40})
	want(t, "b", flags(r.take(b)), "2 3")
	r.renew(b)
	want(t, "b", flags(r.take(b)), "1!")
}

func TestASuspectLostTwiceIsLeasedAlone(t *testing.T) {
	r := newRig(t, Mode{MaxDeliver: 3})
	c := r.join("a", 100)
	r.fill(2)
	for n := range byte(2) {
		want(t, "both together", len(r.take(c)), 2)
		r.again(c, n+2, nil) // another process, that knows nothing
	}
	r.fill(1)
	want(t, "the first alone", flags(r.take(c)), "1!")
	r.done(c, 1)
	want(t, "the second alone", flags(r.take(c)), "2!")
	for n := range byte(3) {
		want(t, "not yet dead", r.fate(2), "owed")
		r.again(c, n+9, nil)
		if n < 2 {
			want(t, "alone again", flags(r.take(c)), "2!")
		}
	}
	want(t, "settlement", r.fates[2], Settlement{Seq: 2, State: Dead, By: c.Who, Text: "the link was lost each time it was in hand",
		Base: 2, Record: []byte("record"), Attempt: 5, Deliveries: 3})
	want(t, "the others go on", flags(r.take(c)), "3")
}

func TestASuspectDoesNotHoldUpOtherConsumers(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 100)
	r.fill(1)
	for n := range byte(2) {
		r.take(a)
		r.again(a, n+2, nil)
	}
	b := r.join("b", 100)
	r.fill(3)
	r.dispatch()
	want(t, "a has the suspect", flags(r.take(a)), "1!")
	want(t, "b has the rest", flags(r.take(b)), "2 3 4")
}

func TestAKeptSuspectIsStillAlone(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	r.fill(1)
	for n := range byte(2) {
		r.take(c)
		r.again(c, n+2, nil)
	}
	r.take(c)
	r.fill(1)
	r.again(c, 3, func(a *wire.Attached) { a.Held = told(1) })
	want(t, "others", r.seqs(c), []uint64(nil))
	r.done(c, 1)
	want(t, "then", r.seqs(c), []uint64{2})
}

func TestAGracefulEndFreesTheLeasesAtOnce(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 9), r.join("b", 0)
	r.fill(3)
	r.take(a)
	r.nack(a, wire.NackReturned, 1)
	a.creditMsgs = a.sentMsgs
	r.detach(a, true)
	r.l.Credit(b, wire.Credit{Messages: 9, Bytes: 1 << 40})
	want(t, "what was given back is not flagged", flags(r.take(b)), "1 2! 3!")
	want(t, "no link was lost", r.l.ring.at(1).lost, uint8(0))
}

func TestTheEndOfAnOlderPipeIsNoNews(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 9)
	old := c.number
	r.fill(1)
	r.take(c)
	r.again(c, 1, func(a *wire.Attached) { a.Held = told(1) })
	r.l.Detached(c, old, true)
	r.check()
	want(t, "attached", c.Attached(), true)
	want(t, "leased", c.Leased(), 1)
}

func TestDropOldestDropsTheOldestThatNobodyHolds(t *testing.T) {
	r := newRig(t, Mode{Backoff: time.Hour, MaxBackoff: time.Hour})
	c := r.join("a", 4)
	r.keyed("", "k", "k", "") // 3 waits in its lane
	want(t, "sent", r.seqs(c), []uint64{1, 2, 4})
	r.fill(2) // 5 and 6, of which one has credit
	r.take(c)
	r.nack(c, wire.NackHandler, 4)
	for _, oldest := range []uint64{3, 4, 6} {
		if !r.l.DropOldest(ReasonOverflow) {
			t.Fatalf("nothing to drop, want %d", oldest)
		}
		r.check()
		want(t, "dropped", r.order[len(r.order)-1], oldest)
	}
	want(t, "all others are leased", r.l.DropOldest(ReasonOverflow), false)
	r.nack(c, wire.NackReturned, 5)
	want(t, "what came back may be dropped", r.l.DropOldest(ReasonOverflow), true)
	r.fill(1)
	want(t, "what is new too", r.l.DropOldest(ReasonOverflow), true)
	want(t, "settled", r.order, []uint64{3, 4, 6, 5, 7})
	want(t, "counts", r.l.Counts().Dropped, map[string]uint64{"overflow": 5})
}

func TestTheOldestIsNotLookedForAgainAmongThoseThatAreHeld(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 3)
	r.fill(4)
	r.take(c)
	want(t, "there is one", fmt.Sprint(r.l.Oldest()), fmt.Sprint(r.now, true))
	want(t, "it begins to look at", r.l.oldest, uint64(4))
	r.l.DropOldest(ReasonOverflow)
	_, ok := r.l.Oldest()
	want(t, "one more", ok, false)
	want(t, "then it begins to look at", r.l.oldest, uint64(5))
	r.nack(c, wire.NackReturned, 2)
	want(t, "when one came back", r.l.oldest, uint64(2))
}

func TestRefusedMessagesAreCountedAndLeaveAGap(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 9)
	refuse := func() {
		r.l.Refuse(r.next, ReasonOverflow)
		r.next++
		r.check()
	}
	refuse()
	r.fill(1)
	refuse()
	r.fill(1)
	want(t, "settled", r.order, []uint64{1, 3})
	want(t, "next", r.l.Next(), uint64(5))
	want(t, "lowest", r.l.Lowest(), uint64(2))
	want(t, "gaps", c.TakeGaps(), []wire.Gap{{From: 1, To: 1, Reason: wire.GapDropped}, {From: 3, To: 3, Reason: wire.GapDropped}})
	want(t, "sent", r.seqs(c), []uint64{2, 4})
}

func TestCancelSettlesWhateverTheStateAndRevokes(t *testing.T) {
	r := newRig(t, Mode{Backoff: time.Hour, MaxBackoff: time.Hour})
	c := r.join("a", 3)
	r.keyed("", "", "k", "k", "")
	r.take(c)                                     // 1, 2, 3
	r.nack(c, wire.NackHandler, 1)                // delayed
	for _, seq := range []uint64{1, 2, 3, 4, 5} { // delayed, leased, leased, parked or free, fresh
		want(t, fmt.Sprint("cancelled ", seq), r.l.Cancel(seq), true)
		r.check()
		want(t, "twice", r.l.Cancel(seq), false)
	}
	want(t, "never accepted", r.l.Cancel(99), false)
	want(t, "told to drop", fmt.Sprint(c.TakeRevokes()), "[{2 3}]")
	want(t, "counts", r.l.Counts().Dropped, map[string]uint64{"cancelled": 5})
	r.done(c, 2)
	want(t, "late", r.l.Counts().LateDone, uint64(1))
}

func TestDropAllLeavesNothingOwed(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 2)
	r.keyed("k", "k", "", "", "k", "")
	r.take(c)
	r.nack(c, wire.NackHandler, 1)
	r.l.DropAll(ReasonShutdown)
	r.check()
	want(t, "owed", fmt.Sprint(r.l.Owed()), "0 0")
	want(t, "counts", r.l.Counts().Dropped, map[string]uint64{"shutdown": 6})
	want(t, "lowest", r.l.Lowest(), uint64(7))
}

func TestALateDoneChangesNothingAndIsCountedOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*rig, *Consumer)
		fate string
	}{
		{"dead", func(r *rig, c *Consumer) {
			r.nack(c, wire.NackHandler, 1)
			r.pass(time.Second)
			r.take(c)
			r.nack(c, wire.NackHandler, 1)
		}, "dead"},
		{"expired", func(r *rig, c *Consumer) { r.detach(c, true); r.pass(time.Minute); r.again(c, 1, nil) }, "expired"},
		{"cancelled", func(r *rig, c *Consumer) { r.l.Cancel(1) }, "dropped cancelled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Mode{MaxDeliver: 2})
			con := r.join("a", 9)
			r.put(Item{Expires: r.now.Add(20 * time.Second)})
			r.put(Item{})
			r.take(con)
			c.end(r, con)
			want(t, "fate", r.fate(1), c.fate)
			r.take(con)
			before := r.l.Counts()
			r.done(con, 1)
			r.done(con, 1)
			before.LateDone = 1
			want(t, "counts", r.l.Counts(), before)
			r.done(con, 1, 2) // 2 is not late
			want(t, "late", r.l.Counts().LateDone, uint64(1))
			want(t, "fate of the other", r.fate(2), "done")
			want(t, "confirmed all the same", fmt.Sprint(r.l.TakeConfirms(con)), "[{7 [{1 2}]}]")
		})
	}
}

func TestStatesHaveNamesForEvents(t *testing.T) {
	for s, name := range map[State]string{Queued: "queued", Delayed: "queued", Parked: "queued", Leased: "leased", Done: "done",
		Dead: "dead", Expired: "expired", Dropped: "dropped", Handed: "handed", Indeterminate: "indeterminate", 99: "state(99)"} {
		want(t, "name", s.String(), name)
	}
}
