package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
)

// restarted owes 1 and 2, which an earlier life dispatched to a and b, and 3.
func restarted(t *testing.T, mode Mode, key string) *rig {
	mode.Holders = []identity.ID{nodeOf("a"), nodeOf("b")}
	r := newRig(t, mode)
	r.put(Item{Unknown: true, Key: key})
	r.put(Item{Unknown: true, Key: key})
	r.put(Item{Key: key})
	return r
}

func TestWhatAnEarlierLifeDispatchedWaitsForAllWhoMayHaveIt(t *testing.T) {
	r := restarted(t, Mode{}, "")
	c := r.join("c", 9)
	want(t, "to c, who cannot", flags(r.take(c)), "3")
	a := r.join("a", 9)
	want(t, "to a alone", flags(r.take(a)), "")
	r.detach(a, false)
	r.again(a, 1, nil)
	want(t, "to a, who came twice", flags(r.take(a)), "")
	b := r.joins("b", func(at *wire.Attached) { at.Held = told(2) })
	r.dispatch()
	want(t, "sent", flags(r.take(a))+flags(r.take(b))+flags(r.take(c)), "1!")
	want(t, "held by b", b.Leased(), 1)
	r.done(b, 2)
	want(t, "fate", r.fate(2), "done")
}

func TestWhatAnEarlierLifeDispatchedWaitsForNoMoreThanALease(t *testing.T) {
	r := restarted(t, Mode{}, "")
	a := r.join("a", 9)
	want(t, "at first", flags(r.take(a)), "3")
	want(t, "next tick", r.pass(0), 10*time.Second)
	r.renew(a)
	want(t, "then", flags(r.take(a)), "1! 2!")
}

func TestWithoutHoldersNothingWaits(t *testing.T) {
	r := newRig(t, Mode{})
	r.put(Item{Unknown: true})
	want(t, "sent", flags(r.take(r.join("a", 9))), "1!")
}

// It comes back to the wait as long as somebody else may have it.
func TestWhatIsGivenBackGoesOnToWait(t *testing.T) {
	for name, giveBack := range map[string]func(*rig, *Consumer){
		"returned": func(r *rig, a *Consumer) { r.nack(a, wire.NackReturned, 1) },
		"refused":  func(r *rig, a *Consumer) { r.nack(a, wire.NackHandler, 1); r.pass(time.Second) },
		"left":     func(r *rig, a *Consumer) { r.detach(a, true) },
		"not here": func(r *rig, a *Consumer) { r.again(a, 1, nil) },
		"gone":     func(r *rig, a *Consumer) { r.again(a, 2, nil) },
	} {
		r := restarted(t, Mode{}, "")
		a := r.joins("a", func(at *wire.Attached) { at.Held = told(1) })
		want(t, name+": held", a.Leased(), 1)
		giveBack(r, a)
		c := r.join("c", 9)
		want(t, name+": before b has come", strings.TrimSpace(flags(r.take(a))+" "+flags(r.take(c))), "3")
		r.join("b", 0)
		want(t, name+": then", len(r.take(a))+len(r.take(c)), 2)
	}
}

// Both say that they have it, and the lease of one goes on: nobody else may get it until
// both are done with it.
func TestWhatTwoHaveIsNobodyElses(t *testing.T) {
	for name, end := range map[string]func(*rig, *Consumer){
		"refused":  func(r *rig, a *Consumer) { r.nack(a, wire.NackHandler, 1); r.pass(3 * time.Second) },
		"left":     func(r *rig, a *Consumer) { r.leaves(a, run(edition, 1)) },
		"not here": func(r *rig, a *Consumer) { r.again(a, 1, nil) },
		"gone":     func(r *rig, a *Consumer) { r.again(a, 2, nil) },
	} {
		r := restarted(t, Mode{}, "")
		a := r.joins("a", func(at *wire.Attached) { at.Held, at.Messages = told(1), 0 })
		b := r.joins("b", func(at *wire.Attached) { at.Held, at.Messages = told(1), 0 })
		c := r.join("c", 9)
		want(t, name+": to c", flags(r.take(c)), "2! 3")
		end(r, a)
		want(t, name+": when a is done with it", flags(r.take(c)), "")
		want(t, name+": b has it", b.Leased(), 1)
		end(r, b)
		want(t, name+": when b is too", len(r.take(a))+len(r.take(b))+len(r.take(c)), 1)
	}
}

func TestWhatTwoHadIsFreeWhenTheLeasesOfBothAreOver(t *testing.T) {
	r := restarted(t, Mode{}, "")
	a := r.joins("a", func(at *wire.Attached) { at.Held, at.Messages = told(1), 0 })
	b := r.joins("b", func(at *wire.Attached) { at.Held, at.Messages = told(1), 0 })
	c := r.join("c", 9)
	r.take(c)
	r.done(c, 2, 3) // a message that was lost twice is leased alone
	r.renew(b, c)
	want(t, "a is lost", a.Leased(), 0)
	want(t, "b has it", b.Leased(), 1)
	r.renew(c)
	want(t, "b is lost", flags(r.take(c)), "1!")
}

// An answer from somebody who was not told to hold it counts as well: it was sent there,
// but not by this life.
func TestAnybodyMayAnswerForWhatIsUnknown(t *testing.T) {
	r := restarted(t, Mode{}, "")
	a := r.joins("a", func(at *wire.Attached) { at.Done = told(1) })
	want(t, "done, by ATTACHED", r.fate(1), "done")
	r.done(a, 2)
	want(t, "done, by DONE", r.fate(2), "done")
	if err := r.l.Done(a, run(edition, 3)); err == nil {
		t.Error("3 was sent to nobody, and its DONE is accepted")
	}
}

func TestARequestOfAnEarlierLifeIsSentAtMostOnce(t *testing.T) {
	r := restarted(t, once, "")
	a := r.joins("a", func(at *wire.Attached) { at.Held = told(1) })
	want(t, "new ones go out", flags(r.take(a)), "3")
	want(t, "before b has come", r.fate(1)+" "+r.fate(2), "owed owed")
	r.join("b", 9)
	want(t, "nobody has it", r.fate(2), "indeterminate")
	want(t, "a has it", r.fate(1), "owed")
	want(t, "and answers", r.reply(a, 1, Done), true)
	want(t, "fate", r.fate(1), "done")

	r = restarted(t, once, "")
	r.pass(10 * time.Second)
	want(t, "nobody came", r.fate(1)+" "+r.fate(2), "indeterminate indeterminate")
	want(t, "new ones go out", flags(r.take(r.join("a", 9))), "3")
}

func TestARequestOfAnEarlierLifeHasADeadline(t *testing.T) {
	r := newRig(t, Mode{Requests: true, Holders: []identity.ID{nodeOf("a")}})
	r.put(Item{Unknown: true, Expires: r.now.Add(time.Second)})
	r.pass(time.Second)
	want(t, "fate", r.fate(1), "indeterminate")
}

func TestATTLDoesNotEndWhatSomebodyMayHave(t *testing.T) {
	r := newRig(t, Mode{Holders: []identity.ID{nodeOf("a")}})
	r.put(Item{Unknown: true, Expires: r.now.Add(time.Second)})
	r.pass(2 * time.Second)
	want(t, "while it waits", r.fate(1), "owed")
	want(t, "nor does an overflow", r.l.DropOldest(ReasonOverflow), false)
	r.join("a", 9)
	r.pass(0)
	want(t, "when nobody has it", r.fate(1), "expired")
}

func TestKeysKeepTheirOrderThroughARestart(t *testing.T) {
	r := restarted(t, Mode{}, "k")
	a := r.join("a", 9)
	want(t, "while 1 and 2 wait", flags(r.take(a)), "")
	r.join("b", 0)
	for _, next := range []string{"1!", "2!", "3"} {
		s := r.take(a)
		for _, c := range r.l.Consumers() { // b has no credit, but may be the key's home
			if c != a && len(s) == 0 {
				r.detach(c, true)
				s = r.take(a)
			}
		}
		want(t, "sent", flags(s), next)
		r.done(a, s[0].Seq)
	}
}

func TestWhatIsHeldOutOfTurnDoesNotUpsetItsKey(t *testing.T) {
	r := restarted(t, Mode{}, "k")
	a := r.joins("a", func(at *wire.Attached) { at.Held, at.Messages = told(2), 9 })
	b := r.joins("b", func(at *wire.Attached) { at.Held, at.Messages = told(1), 9 })
	r.dispatch()
	r.done(b, 1)
	want(t, "3 waits for 2", flags(r.take(a))+flags(r.take(b)), "")
	r.nack(a, wire.NackReturned, 2)
	r.dispatch()
	want(t, "2 again", flags(r.take(a))+flags(r.take(b)), "2!")
	r.done(a, 2)
	want(t, "then 3", flags(r.take(a))+flags(r.take(b)), "3")
}

func TestAttemptsAndDeliveriesGoOnWhereAnEarlierLifeLeftThem(t *testing.T) {
	var tries []Try
	r := newRig(t, Mode{MaxDeliver: 4, OnTry: func(y Try) { tries = append(tries, y) }})
	r.put(Item{Unknown: true, Attempt: 3, Deliveries: 2})
	r.put(Item{Unknown: true})
	a := r.join("a", 99)
	s := r.take(a)
	want(t, "attempts", fmt.Sprint(s[0].Attempt, s[1].Attempt), "4 2")
	r.nack(a, wire.NackHandler, 1)
	want(t, "told", fmt.Sprint(tries), "[{1 4 3}]")
	r.pass(time.Second)
	r.pass(4 * time.Second)
	r.take(a)
	r.nack(a, wire.NackTimeout, 1)
	want(t, "settlement", r.fates[1], Settlement{Seq: 1, State: Dead, By: a.Who, Text: "boom", Base: 1, Record: []byte("record"), Attempt: 5, Deliveries: 4})
	want(t, "told no more", len(tries), 1)
}

func TestALinkThatIsLostWithOneMessageInHandIsATry(t *testing.T) {
	var tries []Try
	r := newRig(t, Mode{OnTry: func(y Try) { tries = append(tries, y) }})
	a := r.join("a", 99)
	r.fill(1)
	for n := range byte(4) {
		r.take(a)
		r.again(a, n+2, nil)
	}
	want(t, "told", fmt.Sprint(tries), "[{1 3 1} {1 4 2}]")
}
