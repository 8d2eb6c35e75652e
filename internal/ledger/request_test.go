package ledger

import (
	"fmt"
	"testing"
	"time"

	"peermesh/internal/wire"
)

var (
	once       = Mode{Requests: true, AtMostOnce: true}
	idempotent = Mode{Requests: true}
)

func (r *rig) reply(c *Consumer, seq uint64, s State) bool {
	r.Helper()
	waited, err := r.l.Reply(c, edition, seq, s)
	if err != nil {
		r.Fatalf("Reply(%d, %v) = %v", seq, s, err)
	}
	r.check()
	return waited
}

// ask accepts a request that has a minute.
func (r *rig) ask() uint64 {
	r.Helper()
	return r.put(Item{Expires: r.now.Add(time.Minute)})
}

// What becomes of a request at each level, by what happened to the replier that got
// it. "sent" is what b, another replier, is then given.
func TestARequestInDoubt(t *testing.T) {
	for _, c := range []struct {
		name       string
		do         func(*rig, *Consumer)
		once, sent string // fate at most once; what b is sent then
		again      string // what b is sent of an idempotent one
	}{
		{"its link is cut", func(r *rig, a *Consumer) { r.detach(a, false) }, "owed", "", ""},
		{"its link is away for longer than a lease", func(r *rig, a *Consumer) {
			r.detach(a, false)
			r.pass(11 * time.Second)
		}, "owed", "", "1!"},
		{"it does not renew", func(r *rig, a *Consumer) { r.pass(11 * time.Second) }, "owed", "", "1!"},
		{"not here, says the same process", func(r *rig, a *Consumer) { r.again(a, 1, mute) }, "owed", "1", "1"},
		{"not here, says another process", func(r *rig, a *Consumer) { r.again(a, 2, mute) }, "indeterminate", "", "1!"},
		{"forgotten", func(r *rig, a *Consumer) {
			r.again(a, 1, func(at *wire.Attached) { mute(at); at.Forgotten = true })
		}, "indeterminate", "", "1!"},
		{"begun, and the reply is lost", func(r *rig, a *Consumer) {
			r.again(a, 1, func(at *wire.Attached) { mute(at); at.Lost = told(1) })
		}, "indeterminate", "", "1!"},
		{"held", func(r *rig, a *Consumer) {
			r.again(a, 1, func(at *wire.Attached) { mute(at); at.Held = told(1) })
		}, "owed", "", ""},
		{"done, its reply follows", func(r *rig, a *Consumer) {
			r.again(a, 1, func(at *wire.Attached) { mute(at); at.Done = told(1) })
		}, "owed", "", ""},
		{"given back unbegun", func(r *rig, a *Consumer) {
			a.creditMsgs = a.sentMsgs
			r.nack(a, wire.NackReturned, 1)
		}, "owed", "1", "1"},
		{"nacked, which repliers do not do", func(r *rig, a *Consumer) {
			a.creditMsgs = a.sentMsgs
			r.nack(a, wire.NackHandler, 1)
			r.pass(2 * time.Second)
		}, "indeterminate", "", "1!"},
		{"it left in good order and kept it", func(r *rig, a *Consumer) { r.detach(a, true) }, "indeterminate", "", "1!"},
	} {
		for _, m := range []struct {
			mode       Mode
			fate, sent string
		}{{once, c.once, c.sent}, {idempotent, "owed", c.again}} {
			t.Run(fmt.Sprintf("%s, once %v", c.name, m.mode.AtMostOnce), func(t *testing.T) {
				r := newRig(t, m.mode)
				a := r.join("a", 1)
				r.ask()
				r.take(a)
				c.do(r, a)
				want(t, "fate", r.fate(1), m.fate)
				b := r.join("b", 9)
				want(t, "sent to b", flags(r.take(b)), m.sent)
			})
		}
	}
}

// mute leaves no credit, so that the request goes to b if anywhere.
func mute(a *wire.Attached) { a.Messages = 0 }

// The same once more for a request that was leased and never taken: nobody can have
// begun it, so it is sent elsewhere at any level.
func TestARequestThatNeverLeftIsNotInDoubt(t *testing.T) {
	for name, do := range map[string]func(*rig, *Consumer){
		"cut":          func(r *rig, a *Consumer) { r.detach(a, false) },
		"left":         func(r *rig, a *Consumer) { r.detach(a, true) },
		"replaced":     func(r *rig, a *Consumer) { r.again(a, 2, mute) },
		"forgotten":    func(r *rig, a *Consumer) { r.again(a, 1, func(at *wire.Attached) { mute(at); at.Forgotten = true }) },
		"pipe renewed": func(r *rig, a *Consumer) { r.again(a, 1, mute) },
	} {
		r := newRig(t, once)
		a := r.join("a", 1)
		r.ask()
		r.dispatch()
		do(r, a)
		b := r.join("b", 9)
		want(t, name, flags(r.take(b)), "1")
	}
}

func TestADeadlineTellsWhetherTheRequestMayHaveBeenExecuted(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*rig, *Consumer)
		want string
	}{
		{"no replier", func(r *rig, a *Consumer) {}, "expired"},
		{"leased, never taken", func(r *rig, a *Consumer) { a.creditMsgs = 1; r.dispatch() }, "expired"},
		{"given back unbegun", func(r *rig, a *Consumer) {
			a.creditMsgs = 1
			r.take(a)
			r.nack(a, wire.NackReturned, 1)
		}, "expired"},
		{"found expired by the replier", func(r *rig, a *Consumer) {
			a.creditMsgs = 1
			r.take(a)
			r.nack(a, wire.NackExpired, 1)
		}, "expired"},
		{"sent", func(r *rig, a *Consumer) { a.creditMsgs = 1; r.take(a) }, "indeterminate"},
		{"sent, link cut", func(r *rig, a *Consumer) { a.creditMsgs = 1; r.take(a); r.detach(a, false) }, "indeterminate"},
		{"sent, and not here", func(r *rig, a *Consumer) { a.creditMsgs = 1; r.take(a); r.again(a, 1, mute) }, "expired"},
	} {
		for _, mode := range []Mode{once, idempotent} {
			r := newRig(t, mode)
			a := r.join("a", 0)
			r.ask()
			c.do(r, a)
			a.TakeRevokes()
			r.pass(61 * time.Second)
			want(t, c.name, r.fate(1), c.want)
			if c.want == "indeterminate" {
				want(t, c.name+": told to drop it", fmt.Sprint(a.TakeRevokes()), "[{1 1}]")
			}
		}
	}
}

func TestAReplySettlesItsRequestOnce(t *testing.T) {
	r := newRig(t, once)
	a := r.join("a", 9)
	r.ask()
	r.ask()
	r.take(a)
	want(t, "waited for", r.reply(a, 1, Done), true)
	want(t, "settlement", r.fates[1], Settlement{Seq: 1, State: Done, By: a.Who, Replied: true, Base: 1, Attempt: 1})
	want(t, "repeated on a new pipe", r.reply(a, 1, Done), false)
	want(t, "which is not late", r.l.Counts().LateDone, uint64(0))
	want(t, "executed, outcome unknown", r.reply(a, 2, Indeterminate), true)
	want(t, "fate", r.fate(2), "indeterminate")
	want(t, "confirmed", fmt.Sprint(r.l.TakeConfirms(a)), "[{7 [{1 2}]}]")
}

func TestAReplyAfterTheDeadlineIsLate(t *testing.T) {
	r := newRig(t, once)
	a := r.join("a", 9)
	r.ask()
	r.take(a)
	r.pass(61 * time.Second)
	want(t, "waited for", r.reply(a, 1, Done), false)
	want(t, "fate", r.fate(1), "indeterminate")
	want(t, "late", r.l.Counts().LateDone, uint64(1))
	want(t, "confirmed", fmt.Sprint(r.l.TakeConfirms(a)), "[{7 [{1 1}]}]")
}

func TestAReplyOfAnotherEditionIsOnlyConfirmed(t *testing.T) {
	r := newRig(t, once)
	a := r.join("a", 9)
	r.ask()
	r.take(a)
	waited, err := r.l.Reply(a, 3, 1, Done)
	want(t, "waited for", fmt.Sprint(waited, err), "false <nil>")
	r.check()
	want(t, "fate", r.fate(1), "owed")
	want(t, "confirmed", fmt.Sprint(r.l.TakeConfirms(a)), "[{3 [{1 1}]}]")
}

func TestTheOtherReplierIsToldWhenOneHasAnswered(t *testing.T) {
	r := newRig(t, idempotent)
	a, b := r.join("a", 1), r.join("b", 0)
	r.ask()
	r.take(a)
	r.renew(b)
	b.creditMsgs = 1
	r.take(b)
	want(t, "waited for", r.reply(a, 1, Done), true)
	want(t, "revoked", fmt.Sprint(a.TakeRevokes(), b.TakeRevokes()), "[] [{1 1}]")
}

func TestGivingUpARequestThatMayBeExecutedSaysSo(t *testing.T) {
	r := newRig(t, once)
	a := r.join("a", 2)
	for range 4 {
		r.ask()
	}
	r.dispatch()
	r.l.Take(a, nil, 1, r.now) // the first only
	r.l.DropAll(ReasonShutdown)
	r.check()
	for seq, fate := range map[uint64]string{1: "indeterminate", 2: "dropped shutdown", 3: "dropped shutdown"} {
		want(t, fmt.Sprint("request ", seq), r.fate(seq), fate)
	}
	want(t, "counts", r.l.Counts().Dropped, map[string]uint64{"indeterminate": 1, "shutdown": 3})
}

func TestOnlyAReplySettlesARequest(t *testing.T) {
	r := newRig(t, idempotent)
	a := r.join("a", 9)
	r.ask()
	r.take(a)
	if err := r.l.Done(a, run(edition, 1)); err == nil {
		t.Error("a DONE settled a request, and nobody got an answer")
	}
	r.check()
	want(t, "fate", r.fate(1), "owed")
	if err := r.l.Done(a, run(edition-1, 1)); err != nil {
		t.Errorf("DONE of another edition: %v, want it confirmed", err)
	}
}

func TestALostMarkIsConfirmedSoThatTheRequestMayComeBack(t *testing.T) {
	r := newRig(t, idempotent)
	a := r.join("a", 9)
	r.ask()
	r.take(a)
	r.again(a, 1, func(at *wire.Attached) { at.Lost = told(1) })
	want(t, "confirmed", fmt.Sprint(r.l.TakeConfirms(a)), "[{7 [{1 1}]}]")
	want(t, "sent", flags(r.take(a)), "1!")
}

func TestBegunTellsWhetherARequestMayHaveBeen(t *testing.T) {
	r := newRig(t, idempotent)
	a := r.join("a", 1)
	r.ask()
	r.ask()
	r.dispatch()
	want(t, "leased", r.l.Begun(1), false)
	r.take(a)
	want(t, "sent", r.l.Begun(1), true)
	r.again(a, 1, func(at *wire.Attached) { mute(at); at.Forgotten = true })
	want(t, "sent, and forgotten there", r.l.Begun(1), true)
	want(t, "waiting", r.l.Begun(2), false)
	r.l.Cancel(1)
	want(t, "settled", r.l.Begun(1), false)
	want(t, "never accepted", r.l.Begun(9), false)
}
