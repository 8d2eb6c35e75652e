package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"peermesh/internal/wire"
)

func TestOneConsumerGetsEverythingInOrder(t *testing.T) {
	r := newRig(t, Mode{})
	r.fill(5)
	c := r.join("a", 100)
	want(t, "first", r.seqs(c), []uint64{1, 2, 3, 4, 5})
	r.fill(2)
	want(t, "then", r.seqs(c), []uint64{6, 7})
	r.done(c, 1, 2, 3, 4, 5, 6, 7)
	want(t, "settled", r.order, []uint64{1, 2, 3, 4, 5, 6, 7})
	want(t, "counts", r.l.Counts(), Counts{Accepted: 7, Done: 7, Dropped: map[string]uint64{}})
}

func TestWhatComesBackGoesFirstAndInOrder(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	r.fill(4)
	r.take(c)
	r.fill(2)
	r.nack(c, wire.NackReturned, 2, 4)
	want(t, "order", r.seqs(c), []uint64{2, 4, 5, 6})
}

func TestThreeEqualConsumersAreServedInTurn(t *testing.T) {
	r := newRig(t, Mode{})
	cs := []*Consumer{r.join("a", 100), r.join("b", 100), r.join("c", 100)}
	r.fill(7)
	r.dispatch()
	for i, want := range []string{"[1 4 7]", "[2 5]", "[3 6]"} {
		if got := fmt.Sprint(r.seqs(cs[i])); got != want {
			t.Errorf("consumer %d got %s, want %s", i, got, want)
		}
	}
	want(t, "woken", strings.Join(r.woken, ""), "abcabca")
	// Now all have two in hand or were the last to get one: the turn goes on where it stopped.
	r.done(cs[0], 1)
	r.fill(3)
	r.woken = nil
	r.dispatch()
	want(t, "woken", strings.Join(r.woken, ""), "bca")
}

func TestTheConsumerWithLeastInHandComesFirst(t *testing.T) {
	r := newRig(t, Mode{})
	a, b, c := r.join("a", 100), r.join("b", 100), r.join("c", 100)
	r.fill(9)
	for _, con := range []*Consumer{a, b, c} {
		r.take(con)
	}
	r.done(b, 2, 5, 8)
	r.done(c, 3)
	r.fill(4)
	r.woken = nil
	r.dispatch()
	want(t, "woken", strings.Join(r.woken, ""), "bbcb")
}

func TestADetachedConsumerGetsNothing(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 100), r.join("b", 100)
	r.detach(a, false)
	r.fill(3)
	want(t, "b", r.seqs(b), []uint64{1, 2, 3})
	want(t, "a", r.seqs(a), []uint64(nil))
}

func TestCreditIsNeverExceeded(t *testing.T) {
	ten := make([]byte, 10)
	for _, c := range []struct {
		name            string
		msgs, bytes     uint64
		records         int
		want            int
		moreMsgs, moreB uint64
		wantMore        int
	}{
		{"messages", 3, 1000, 9, 3, 5, 1000, 2},
		{"bytes", 100, 35, 9, 3, 100, 50, 2},
		{"bytes to the last one", 100, 30, 9, 3, 100, 60, 3},
		{"none", 0, 0, 2, 0, 1, 10, 1},
		{"totals never fall", 4, 1000, 9, 4, 2, 10, 0},
		{"enough for all", 100, 1000, 4, 4, 200, 2000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Mode{})
			con := r.l.Join(Who{Label: "a"}, 0)
			r.again(con, 1, func(a *wire.Attached) { a.Messages, a.Bytes = c.msgs, c.bytes })
			for range c.records {
				r.put(Item{Record: ten})
			}
			want(t, "sent", len(r.take(con)), c.want)
			r.l.Credit(con, wire.Credit{Messages: c.moreMsgs, Bytes: c.moreB})
			want(t, "sent with more credit", len(r.take(con)), c.wantMore)
		})
	}
}

func TestASmallerMessageDoesNotOvertakeOneThatCameBack(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.l.Join(Who{Label: "a"}, 0)
	r.again(c, 1, func(a *wire.Attached) { a.Messages, a.Bytes = 9, 20 })
	r.put(Item{Record: make([]byte, 20)})
	r.take(c)
	r.nack(c, wire.NackReturned, 1)
	r.put(Item{Record: make([]byte, 10)})
	r.l.Credit(c, wire.Credit{Messages: 9, Bytes: 30})
	want(t, "sent with credit for the second only", r.seqs(c), []uint64(nil))
	r.l.Credit(c, wire.Credit{Messages: 9, Bytes: 50})
	want(t, "sent with credit for both", r.seqs(c), []uint64{1, 2})
}

func TestCreditBeginsAnewWithEachPipe(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 2)
	r.fill(5)
	r.take(c)
	r.again(c, 1, func(a *wire.Attached) { a.Messages, a.Held = 1, told(1, 2) })
	want(t, "sent", r.seqs(c), []uint64{3})
}

func TestALargeRecordNeedsNoByteCreditAndTravelsAlone(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.l.Join(Who{Label: "a"}, 0)
	r.again(c, 1, func(a *wire.Attached) { a.Messages, a.Bytes = 10, 100 })
	r.put(Item{})
	big := r.put(Item{Record: make([]byte, wire.MaxRecord+1)})
	r.put(Item{})
	r.dispatch()
	for i, want := range []string{"1", "2 large", "3"} {
		got := ""
		for _, s := range r.take(c) {
			got = fmt.Sprint(s.Seq)
			if s.Large {
				got += " large"
			}
		}
		if got != want {
			t.Errorf("take %d gave %q, want %q", i, got, want)
		}
	}
	r.done(c, big)
	want(t, "owed", fmt.Sprint(r.l.Owed()), "2 12")
}

func TestTakeKeepsToItsSizeButForTheFirst(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	for range 5 {
		r.put(Item{Record: make([]byte, 10)})
	}
	r.dispatch()
	for i, want := range []int{2, 2, 1, 0} {
		if got := len(r.l.Take(c, nil, 25, r.now)); got != want {
			t.Errorf("take %d of at most 25 bytes gave %d records, want %d", i, got, want)
		}
		r.check()
	}
	r.put(Item{Record: make([]byte, 30)})
	r.dispatch()
	want(t, "a record above the size", len(r.l.Take(c, nil, 25, r.now)), 1)
}

func TestASendTellsAttemptAgeAndBlock(t *testing.T) {
	r := newRig(t, Mode{Backoff: 1, MaxBackoff: 1})
	c := r.join("a", 100)
	r.l.Append(Item{Seq: 12, Base: 10, Record: []byte("x")}, r.now)
	r.pass(3e9)
	want(t, "send", r.take(c), []Send{{Seq: 12, N: 1, Base: 10, Record: []byte("x"), Attempt: 1, Age: 3e9}})
	r.nack(c, wire.NackHandler, 12)
	r.pass(2e9)
	want(t, "send", r.take(c), []Send{{Seq: 12, N: 1, Base: 10, Record: []byte("x"), Attempt: 2, Age: 5e9, Redelivered: true}})
}

func TestBestEffortIsHandedOverAndForgotten(t *testing.T) {
	r := newRig(t, Mode{BestEffort: true})
	c := r.join("a", 3)
	r.fill(5)
	want(t, "sent", flags(r.take(c)), "1 2 3")
	want(t, "fate", r.fate(1), "handed")
	if !r.l.DropOldest(ReasonOverflow) {
		t.Fatal("nothing to drop")
	}
	r.check()
	want(t, "fate", r.fate(4), "dropped overflow")
	want(t, "counts", r.l.Counts(), Counts{Accepted: 5, Queued: 1, Handed: 3, Bytes: 6, Dropped: map[string]uint64{"overflow": 1}})
	// Nobody renews best-effort leases, so they do not run out while a slow link is being written to.
	r.l.Credit(c, wire.Credit{Messages: 4, Bytes: 1 << 40})
	r.dispatch()
	want(t, "next tick", r.pass(60e9), 0)
	if c.Stale() {
		t.Error("the pipe was given up")
	}
	want(t, "sent", flags(r.take(c)), "5")
}

func TestPartingConsumersLeaveTheOthersTheirTurns(t *testing.T) {
	r := newRig(t, Mode{})
	var cs []*Consumer
	for i := range 5 {
		cs = append(cs, r.join(fmt.Sprint(i), 100))
	}
	r.fill(4) // the next turn is the last one's
	r.dispatch()
	for _, c := range cs[1:] {
		r.detach(c, true)
		if !r.l.Part(c) {
			t.Fatalf("consumer %s holds nothing and cannot part", c.Who.Label)
		}
		r.check()
	}
	want(t, "the one that is left", r.seqs(cs[0]), []uint64{1, 2, 3, 4})
}

func TestReadyAndConsumersTellWhoIsThere(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1)
	r.join("b", 1)
	if again := r.l.Join(a.Who, 0); again != a {
		t.Error("joining twice made two consumers of one")
	}
	r.detach(a, false)
	want(t, "ready", r.l.Ready(), 1)
	want(t, "known", len(r.l.Consumers()), 2)
	want(t, "attached", a.Attached(), false)
}

func TestPendingTellsWhetherThereIsAnythingToTake(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 10)
	want(t, "nothing yet", c.Pending(), false)
	r.fill(1)
	r.dispatch()
	want(t, "a message", c.Pending(), true)
	r.take(c)
	want(t, "taken", c.Pending(), false)
	r.done(c, 1)
	want(t, "a confirmation", c.Pending(), true)
	r.l.TakeConfirms(c)
	want(t, "told", c.Pending(), false)
	r.fill(1)
	r.take(c)
	r.l.Cancel(2)
	want(t, "a revocation", c.Pending(), true)
	c.TakeRevokes()
	want(t, "told", c.Pending(), false)
}

// The consumer never gets to see these, so it will never give their credit back.
func TestCreditOfWhatWasNeverSentIsNotLost(t *testing.T) {
	for name, end := range map[string]func(*rig){
		"cancelled": func(r *rig) { r.l.Cancel(1); r.l.Cancel(2) },
		"expired":   func(r *rig) { r.pass(2 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, idempotent)
			c := r.l.Join(Who{Label: "a"}, 0)
			r.again(c, 1, func(a *wire.Attached) { a.Messages, a.Bytes = 2, 12 })
			for range 2 {
				r.put(Item{Expires: r.now.Add(time.Second)})
			}
			r.dispatch()
			end(r)
			r.check()
			r.fill(3)
			want(t, "sent", r.seqs(c), []uint64{3, 4})
		})
	}
}
