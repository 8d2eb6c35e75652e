package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/internal/wire"
)

func TestAnAttachTellsWhoAsksForWhat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		r := localOf('r')
		f, a := o.meet(r)
		l := o.local
		same(t, "ATTACH", a, wire.Attach{Socket: 1, Kind: wire.Push, Level: Memory, Store: l.Store, Edition: l.Edition, Nonce: l.Nonce,
			Incarnation: 1, Number: 1, Name: "x"})
		f.say(wire.AppendAttached(nil, greet(r, a)))
		synctest.Wait()
		f.cut()
		_, a = o.meet(r)
		equal(t, "number", a.Number, 2)
		equal(t, "store last met", a.LastStore, r.Store)
	})
}

func TestMessagesAreSentOnceAttachedWithinCreditAndInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		r := localOf('r')
		o.sends("a", "b", "c", "d")
		f, a := o.meet(r)
		at := greet(r, a)
		at.Messages = 2
		f.say(wire.AppendAttached(nil, at))
		same(t, "sent", bodies(t, f.hear()), "[1.1 a 2.1 b]")
		f.say(done(o.local.Edition, 1))
		fs := f.renews()
		same(t, "confirmed", told(t, fs, wire.TypeConfirm, 0), []uint64{1})
		same(t, "sent", bodies(t, fs), []string(nil))
		f.say(wire.AppendCredit(nil, wire.Credit{Messages: 3, Bytes: 1 << 20}))
		same(t, "sent", bodies(t, f.hear()), "[3.1 c]")
		f.say(wire.AppendCredit(nil, wire.Credit{Messages: 1, Bytes: 1})) // less than before: no news
		f.say(wire.AppendCredit(nil, wire.Credit{Messages: 9, Bytes: 1 << 20}))
		same(t, "sent", bodies(t, f.hear()), "[4.1 d]")
	})
}

func TestWhatTheReceiverHasDoneIsSettledAndConfirmedBeforeAnythingIsSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		r := localOf('r')
		o.sends("a", "b", "c")
		f := o.met(r)
		f.hear()
		f.cut()
		f, a := o.meet(r)
		at := greet(r, a)
		e := o.local.Edition
		at.Done, at.Held = []wire.EditionRanges{editionOf(e, 1)}, []wire.EditionRanges{editionOf(e, 3)}
		f.say(wire.AppendAttached(nil, at))
		fs := f.hear()
		if len(fs) == 0 || fs[0].t != wire.TypeConfirm {
			t.Errorf("first it says %v", types(fs))
		}
		same(t, "confirmed", told(t, fs, wire.TypeConfirm, 0), []uint64{1})
		same(t, "sent: not here", bodies(t, fs), "[2.2 b]") // unflagged: this very process says so
		c := o.counts()
		equal(t, "done", c.Done, 1)
		equal(t, "leased", c.Leased, 2)
	})
}

func TestAnAttachedThatIsNotAnAnswerEndsThePipe(t *testing.T) {
	for name, change := range map[string]func(*wire.Attached){
		"other process": func(a *wire.Attached) { a.Nonce[3]++ },
		"other number":  func(a *wire.Attached) { a.Number++ },
		"older number":  func(a *wire.Attached) { a.Number-- },
		"done unsent":   func(a *wire.Attached) { a.Done = []wire.EditionRanges{editionOf(localOf('s').Edition, 9)} },
		"held unsent":   func(a *wire.Attached) { a.Held = []wire.EditionRanges{editionOf(localOf('s').Edition, 1)} },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOwner(t, wire.Push)
				r := localOf('r')
				o.sends("a")
				f, a := o.meet(r)
				at := greet(r, a)
				change(&at)
				f.say(wire.AppendAttached(nil, at))
				if err, over := f.end(); !over || err == nil {
					t.Errorf("ended %v, %v", over, err)
				}
				same(t, "sent", bodies(t, f.hear()), []string(nil))
				equal(t, "owed", o.counts().Queued, 1)
			})
		})
	}
}

func TestFramesThatDoNotBelongEndThePipe(t *testing.T) {
	r := localOf('r')
	for name, c := range map[string]struct {
		frame []byte
		early bool // before ATTACHED
	}{
		"DONE early":         {done(1, 1), true},
		"RENEW early":        {number(wire.TypeRenew, 1), true},
		"LEAVE early":        {wire.AppendLeave(nil, wire.Leave{}), true},
		"DATA":               {data(1, "a"), false},
		"UNSUBSCRIBE":        {wire.AppendEmpty(nil, wire.TypeUnsubscribe), false},
		"HELLO":              {[]byte{byte(wire.TypeHello), 0}, false},
		"a broken DONE":      {[]byte{byte(wire.TypeDone), 1, 0}, false},
		"ATTACHED twice":     {wire.AppendAttached(nil, wire.Attached{Number: 1, Nonce: r.Nonce, Store: r.Store}), false},
		"DONE of unsent":     {done(localOf('s').Edition, 7), false},
		"DONE of 2^64-1":     {done(localOf('s').Edition, 1<<64-1), false},
		"NACK of unsent":     {nack(localOf('s').Edition, wire.NackHandler, 7), false},
		"GRANT without WANT": {number(wire.TypeGrant, 1), false},
		"REPLY to a Push":    {wire.AppendReply(nil, wire.Reply{Edition: 1, Seq: 1, Outcome: wire.OK}), false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOwner(t, wire.Push)
				o.sends("a")
				other := o.met(localOf('q'))
				f, a := o.meet(r)
				if !c.early {
					f.say(wire.AppendAttached(nil, greet(r, a)))
				}
				f.say(c.frame)
				if err, over := f.end(); !over || err == nil {
					t.Errorf("ended %v, %v", over, err)
				}
				other.alive()
				if c := o.counts(); c.Done+c.Dead+c.Expired > 0 || c.Leased+c.Queued != 1 {
					t.Errorf("counts %+v", c)
				}
			})
		})
	}
}

func TestARejectionIsToldWithItsCode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		f, _ := o.meet(localOf('r'))
		f.say(wire.AppendRejected(nil, wire.Rejected{Code: "policy", Reason: "not you"}))
		err, _ := f.end()
		var rej *Rejection
		if !errors.As(err, &rej) || rej.Code != identity.CodePolicy || rej.Reason != "not you" || !rej.Remote {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestANewPipeEndsTheOlderOneToThatReceiver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		r := localOf('r')
		f1 := o.met(r)
		other := o.met(localOf('q'))
		f2 := o.met(r)
		f1.dead(errReplaced)
		f2.alive()
		other.alive()
		o.mu.Lock()
		defer o.mu.Unlock()
		equal(t, "attached", o.box.Ledger().Ready(), 2)
	})
}

// Frames of the older pipe that were read before it ended and are handled after the
// new one's ATTACHED.
func TestNoFrameOfAnOlderPipeHasAnyEffectOnTheSender(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		r := localOf('r')
		o.sends("a", "b")
		f, _ := o.meet(r)
		o.mu.Lock()
		var old *out
		for _, old = range o.box.pipes {
		}
		o.mu.Unlock()
		f.say(wire.AppendAttached(nil, wire.Attached{Number: 1, Nonce: r.Nonce, Store: r.Store, Messages: 9, Bytes: 1 << 20}))
		f.hear()
		f2, a := o.meet(r)
		at := greet(r, a)
		at.Messages = 2
		f2.say(wire.AppendAttached(nil, at))
		same(t, "sent again", bodies(t, f2.hear()), "[1.2 a 2.2 b]")
		before := o.counts()
		e := o.local.Edition
		for name, frame := range map[string][]byte{
			"DONE":     done(e, 1),
			"NACK":     nack(e, wire.NackReturned, 2),
			"CREDIT":   wire.AppendCredit(nil, wire.Credit{Messages: 1000, Bytes: 1 << 30}),
			"RENEW":    number(wire.TypeRenew, 1),
			"LEAVE":    wire.AppendLeave(nil, wire.Leave{}),
			"ATTACHED": wire.AppendAttached(nil, wire.Attached{Number: 1, Nonce: r.Nonce}),
		} {
			typ, payload, _, _, err := wire.Next(frame)
			if err != nil {
				t.Fatal(err)
			}
			if err := old.receive(typ, payload); !errors.Is(err, errReplaced) {
				t.Errorf("%s: %v", name, err)
			}
		}
		same(t, "counts", o.counts(), before)
		o.sends("c")
		same(t, "sent beyond the new pipe's credit", bodies(t, f2.hear()), []string(nil))
		f2.alive()
	})
}

func TestARenewIsAnsweredOnlyWhileTheLeasesLive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		o.sends("a")
		f := o.met(localOf('r'))
		f.say(number(wire.TypeRenew, 1))
		equal(t, "RENEWED", parsed(t, wire.ParseNumber, f.one(wire.TypeRenewed)), 1)
		time.Sleep(DefaultLease)
		o.mu.Lock()
		o.box.Ledger().Tick(time.Now()) // and the pipe is not ended yet
		o.mu.Unlock()
		f.say(number(wire.TypeRenew, 2))
		if rs := f.only(wire.TypeRenewed); len(rs) > 0 {
			t.Error("it was answered when the leases were over")
		}
	})
}

func TestAReceiverThatDoesNotRenewLosesItsLeasesAndItsPipe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		o.sends("a")
		f := o.met(localOf('r'))
		met := time.Now()
		same(t, "sent", bodies(t, f.hear()), "[1.1 a]")
		other := o.met(localOf('q'))
		reach(met.Add(DefaultLease - 1))
		o.tick()
		f.alive()
		other.say(number(wire.TypeRenew, 1))
		reach(met.Add(DefaultLease))
		o.tick()
		f.dead(errStale)
		same(t, "leased elsewhere, flagged", bodies(t, other.hear()), "[1.2! a]")
	})
}

func TestTickSaysWhenItIsNeededNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var wound []time.Duration
		began := time.Now()
		o := newOwner(t, wire.Push, func(c *OutboxConfig) { c.Wind = func(at time.Time) { wound = append(wound, at.Sub(began)) } })
		if next := o.tick(); !next.IsZero() {
			t.Errorf("with nothing there it wants to be called at %v", next)
		}
		f := o.met(localOf('r'))
		if len(wound) == 0 || wound[0] > RenewEvery {
			t.Errorf("a pipe begins, and the clock is wound to %v", wound)
		}
		wound = nil
		o.sends("a")
		f.hear()
		f.say(nack(o.local.Edition, wire.NackHandler, 1))
		synctest.Wait()
		if len(wound) == 0 || wound[0] > time.Since(began)+100*time.Millisecond {
			t.Errorf("a message waits for its back-off, and the clock is wound to %v", wound)
		}
		time.Sleep(100 * time.Millisecond)
		o.tick()
		same(t, "sent", bodies(t, f.hear()), "[1.2! a]")
	})
}

func TestALeavingReceiverFreesItsLeasesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		o.sends("a", "b")
		f := o.met(localOf('r'))
		f.hear()
		other := o.met(localOf('q'))
		f.say(nack(o.local.Edition, wire.NackReturned, 2), wire.AppendLeave(nil, wire.Leave{Begun: []wire.EditionRanges{editionOf(o.local.Edition, 1)}}))
		synctest.Wait()
		f.conn.CloseWrite()
		f.dead(nil)
		same(t, "what was begun is flagged", bodies(t, other.hear()), "[2.2 b 1.2! a]")
		o.mu.Lock()
		defer o.mu.Unlock()
		equal(t, "left", o.box.Left(), false)
	})
}

func TestASocketThatWasWithdrawnIsGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		o.sends("a")
		r := localOf('r')
		ctx, cancel := context.WithCancelCause(t.Context())
		f := open(t, func(_ context.Context, c Conn) error {
			return o.box.Meet(ctx, peerOf(r), wire.Offer{Kind: wire.Pull, Name: "x"}, 0, c)
		})
		a := parsed(t, wire.ParseAttach, f.one(wire.TypeAttach))
		f.say(wire.AppendAttached(nil, greet(r, a)))
		f.hear()
		cancel(ErrGone)
		f.dead(ErrGone)
		equal(t, "queued", o.counts().Queued, 1)
		o.mu.Lock()
		defer o.mu.Unlock()
		equal(t, "left", o.box.Left(), true)
	})
}

func TestAnInterruptedReceiverKeepsItsLeases(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		o.sends("a")
		r := localOf('r')
		f := o.met(r)
		f.hear()
		f.cut()
		other := o.met(localOf('q'))
		time.Sleep(DefaultLease - time.Second)
		o.tick()
		same(t, "sent elsewhere", bodies(t, other.hear()), []string(nil))
		f, a := o.meet(r)
		at := greet(r, a)
		at.Held = []wire.EditionRanges{editionOf(o.local.Edition, 1)}
		f.say(wire.AppendAttached(nil, at), done(o.local.Edition, 1))
		same(t, "sent again", bodies(t, f.hear()), []string(nil))
		equal(t, "done", o.counts().Done, 1)
	})
}

func TestALostConsumerIsForgottenAfterTheGraceTimeUnlessItHoldsSomething(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		f := o.met(localOf('r'))
		o.sends("a")
		f.hear()
		g := o.met(localOf('q'))
		f.say(done(o.local.Edition, 1))
		f.hear()
		o.sends("b") // q has it, or r: least in hand, in turn
		g.hear()
		f.cut()
		g.cut()
		o.mu.Lock()
		gone := o.box.Gone(time.Now(), 0)
		equal(t, "known", len(o.box.Consumers()), 2)
		o.mu.Unlock()
		equal(t, "all are away", gone, true)
		for range 70 {
			time.Sleep(2 * time.Second)
			o.tick()
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if cs := o.box.Consumers(); len(cs) != 1 {
			t.Errorf("known after the grace time: %+v", cs)
		}
	})
}

func TestFinishTellsWhatIsOwedToBeToldAndDetaches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		r := localOf('r')
		o.sends("a", "b")
		f, a := o.meet(r)
		at := greet(r, a)
		at.Messages = 1
		f.say(wire.AppendAttached(nil, at))
		f.hear()
		o.mu.Lock()
		o.box.Ledger().DropAll(ledger.ReasonShutdown)
		o.mu.Unlock()
		finished := make(chan error, 1)
		go func() { finished <- o.box.Finish(wait(t)) }()
		fs := f.hear()
		same(t, "revoked", told(t, fs, wire.TypeRevoke, 0), []uint64{1})
		last := fs[len(fs)-1]
		equal(t, "at last", last.t, wire.TypeDetach)
		same(t, "gaps", gapsOf(t, fs), "[1-2 dropped]")
		if len(finished) > 0 {
			t.Fatal("Finish did not wait for the other end")
		}
		f.conn.CloseWrite()
		if err := <-finished; err != nil {
			t.Errorf("Finish: %v", err)
		}
		o.mu.Lock()
		equal(t, "told, whether or not the pipe's Meet has returned", o.box.Told(), true)
		o.mu.Unlock()
		f.dead(nil)
		late := open(t, func(ctx context.Context, c Conn) error {
			return o.box.Meet(ctx, peerOf(r), wire.Offer{Kind: wire.Pull, Name: "x"}, 0, c)
		})
		late.dead(net.ErrClosed)
	})
}

func gapsOf(t testing.TB, fs []frame) (out []string) {
	t.Helper()
	for _, f := range fs {
		if f.t == wire.TypeGap {
			g := parsed(t, wire.ParseGap, f.payload)
			out = append(out, fmt.Sprintf("%d-%d %v", g.From, g.To, g.Reason))
		}
	}
	return out
}

// Whether holes of an earlier life were told decides whether they must be told in the
// next one.
func TestAPipeThatEndsBeforeItWasGreetedHasToldNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		r := localOf('r')
		o.mu.Lock()
		o.box.Ledger().Tell(1, 9, wire.GapIncarnation)
		o.mu.Unlock()
		f, a := o.meet(r)
		go o.box.Finish(wait(t))
		fs := f.hear()
		same(t, "it says", types(fs), "[0x1a]")
		f.say(wire.AppendAttached(nil, greet(r, a)))
		f.conn.CloseWrite()
		f.dead(ErrClosed)
	})
}

func TestFinishEndsWithItsContextAndAbortDoesNotWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		f := o.met(localOf('r'))
		if err := o.box.Finish(soon(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Finish: %v", err)
		}
		began := time.Now()
		o.box.Abort()
		equal(t, "Abort took", time.Since(began), 0)
		f.dead(ErrClosed)
	})
}

func TestALargeMessageIsAskedRoomForAndSentInFragments(t *testing.T) {
	for _, n := range []int{300 << 10, 8 << 20} {
		bubble(t, func(t *testing.T) {
			o := newOwner(t, wire.Push)
			o.send(&Message{Body: filler(n)})
			o.sends("next")
			f := o.met(localOf('r'))
			fs := f.hear()
			same(t, "frames", types(fs), "[0x13]")
			w := parsed(t, wire.ParseWant, fs[0].payload)
			equal(t, "WANT", w.Seq, 1)
			time.Sleep(RenewEvery * 3) // however long it takes
			same(t, "frames", types(f.hear()), []string(nil))
			f.say(number(wire.TypeGrant, 1))
			var rec []byte
			for _, h := range f.hear() {
				if h.t != wire.TypeFragment {
					same(t, "behind it", bodies(t, []frame{h}), "[2.1 next]")
					continue
				}
				fr := parsed(t, wire.ParseFragment, h.payload)
				if fr.Offset != uint64(len(rec)) || fr.Total != w.Bytes || fr.Base != 1 {
					t.Fatalf("fragment %d of %d at %d", fr.Offset, fr.Total, len(rec))
				}
				rec = append(rec, fr.Part...)
			}
			r, rest, err := wire.NextRecord(rec)
			if err != nil || len(rest) > 0 || !bytes.Equal(r.Body, filler(n)) {
				t.Errorf("record of %d bytes: %v", len(rec), err)
			}
		})
	}
}

func TestALargeMessageThatIsDeclinedHoldsUpNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		r := localOf('r')
		f, a := o.meet(r)
		at := greet(r, a)
		at.Messages = 1
		f.say(wire.AppendAttached(nil, at))
		synctest.Wait()
		o.send(&Message{Body: filler(300 << 10)})
		o.sends("next")
		for attempt := range uint64(3) {
			f.one(wire.TypeWant)
			f.say(nack(o.local.Edition, wire.NackHandler, 1), wire.AppendCredit(nil, wire.Credit{Messages: 2*attempt + 2, Bytes: 1 << 20}))
			if attempt == 0 {
				same(t, "sent", bodies(t, f.hear()), "[2.1 next]")
				f.say(done(o.local.Edition, 2))
			}
			f.hear()
			f.say(wire.AppendCredit(nil, wire.Credit{Messages: 2*attempt + 3, Bytes: 1 << 20}))
			synctest.Wait()
			time.Sleep(time.Second)
			o.tick()
		}
		f.alive()
		fates := o.settled()
		fates[1].Record = nil // it is long
		who := Who{Node: r.Node}
		same(t, "fates", fates, []Settlement{{Seq: 2, State: ledger.Done, By: who, Base: 2, Attempt: 1},
			{Seq: 1, State: ledger.Dead, By: who, Text: "because", Base: 1, Attempt: 3, Deliveries: 3}})
	})
}

func TestAGrantThatWasNotAskedForEndsThePipe(t *testing.T) {
	for name, grants := range map[string][]uint64{"another": {2}, "twice": {1, 1}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOwner(t, wire.Push)
				o.send(&Message{Body: filler(8 << 20)})
				f := o.met(localOf('r'))
				f.hear()
				var all []byte
				for _, g := range grants {
					all = append(all, number(wire.TypeGrant, g)...)
				}
				f.say(all)
				f.dead(errUnexpected)
			})
		})
	}
}

func TestTheNewestPatternsArePassedOnAndAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var heard []string
		o := newOwner(t, wire.Pub, func(c *OutboxConfig) {
			c.OnPatterns = func(version uint64, patterns []string) (uint64, error) {
				heard = append(heard, fmt.Sprint(version, patterns))
				if len(patterns) > 1 {
					return 0, errors.New("too many")
				}
				return 10 * version, nil
			}
		})
		r := localOf('r')
		f, a := o.meet(r)
		at := greet(r, a)
		at.Version, at.Patterns = 3, []string{"a"}
		f.say(wire.AppendAttached(nil, at))
		same(t, "SUBSCRIBED", parsed(t, wire.ParseSubscribed, f.one(wire.TypeSubscribed)), "{3 30}")
		f.say(wire.AppendSubscribe(nil, wire.Subscription{Version: 4, Patterns: []string{"b"}}))
		same(t, "SUBSCRIBED", parsed(t, wire.ParseSubscribed, f.one(wire.TypeSubscribed)), "{4 40}")
		f.say(wire.AppendSubscribe(nil, wire.Subscription{Version: 5, Patterns: []string{"b", "c"}}))
		if err, over := f.end(); !over || err == nil {
			t.Errorf("patterns that are refused: ended %v, %v", over, err)
		}
		same(t, "heard", heard, "[3 [a] 4 [b] 5 [b c]]")
	})
}

// It floods and does not read: what waits to be said to it stays small.
func TestAFloodOfSubscriptionsTakesNoMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Pub, func(c *OutboxConfig) {
			c.OnPatterns = func(uint64, []string) (uint64, error) { return 1, nil }
		})
		r := localOf('r')
		near, conn := Duplex()
		go o.box.Meet(wait(t), peerOf(r), wire.Offer{Kind: wire.Sub, Name: "x"}, 0, near)
		_, payload, err := ReadFrame(conn, 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		at := greet(r, parsed(t, wire.ParseAttach, payload))
		conn.Write(wire.AppendAttached(nil, at))
		flood := bytes.Repeat(append(wire.AppendSubscribe(nil, wire.Subscription{Version: 9, Patterns: []string{"a"}}), number(wire.TypeRenew, 1)...), 1000)
		for range 300 {
			if _, err := conn.Write(flood); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		o.mu.Lock()
		for _, p := range o.box.pipes {
			if n := len(p.fillControl(nil)); n > 100 {
				t.Errorf("%d bytes wait to be said", n)
			}
		}
		o.mu.Unlock()
		conn.Close()
	})
}

func TestBestEffortIsHandedOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push, func(c *OutboxConfig) { c.Level = BestEffort })
		f := o.met(localOf('r'))
		o.sends("a", "b")
		same(t, "sent", bodies(t, f.hear()), "[1.1 a 2.1 b]")
		o.send(&Message{Body: filler(300 << 10)})
		f.one(wire.TypeWant)
		f.say(number(wire.TypeGrant, 3))
		if n := len(f.only(wire.TypeFragment)); n != 10 {
			t.Errorf("%d fragments", n)
		}
		c := o.counts()
		equal(t, "handed", c.Handed, 3)
		equal(t, "owed", c.Queued+c.Leased, 0)
		f.cut()
		f = o.met(localOf('r'))
		same(t, "sent again", bodies(t, f.hear()), []string(nil))
	})
}

func TestWhatWaitsForAHoleToBeDurableGoesOutThen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Pub, func(c *OutboxConfig) { c.Mode.Staged = true })
		f := o.met(localOf('r'))
		f.hear()
		o.mu.Lock()
		for i, body := range []string{"a", "b"} {
			p, err := o.framer.Prepare(&Message{Body: []byte(body), Topic: "t"})
			if err != nil {
				t.Error(err)
			}
			base, rec := o.framer.Frame(p, uint64(i+1))
			o.box.Ledger().Append(ledger.Item{Seq: uint64(i + 1), Base: base, Record: rec}, time.Now())
		}
		o.box.Ledger().DropOldest(ledger.ReasonOverflow)
		o.box.Dispatch()
		o.mu.Unlock()
		same(t, "before", bodies(t, f.hear()), []string(nil))
		o.mu.Lock()
		o.box.Ledger().Seal(1)
		o.box.Release(1)
		o.mu.Unlock()
		fs := f.hear()
		same(t, "then", bodies(t, fs), "[2.1 b]")
		same(t, "the first of them", fs[0].t, wire.TypeGap)
	})
}
