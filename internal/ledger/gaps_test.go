package ledger

import (
	"fmt"
	"testing"
	"time"

	"peermesh/internal/wire"
)

func TestEveryHoleIsToldToEveryConsumer(t *testing.T) {
	r := newRig(t, Mode{MaxDeliver: 1})
	a, b := r.join("a", 9), r.join("b", 0)
	r.put(Item{})
	r.take(a)
	r.nack(a, wire.NackHandler, 1) // dead
	r.put(Item{Expires: r.now.Add(time.Second)})
	a.creditMsgs = a.sentMsgs
	r.pass(2 * time.Second)
	r.fill(3)
	r.l.DropOldest(ReasonOverflow)
	r.l.Cancel(4)
	r.check()
	for _, c := range []*Consumer{a, b} {
		want(t, "told to "+c.Who.Label, c.TakeGaps(), []wire.Gap{{From: 1, To: 1, Reason: wire.GapDead},
			{From: 2, To: 2, Reason: wire.GapExpired}, {From: 3, To: 4, Reason: wire.GapDropped}})
		want(t, "told twice", c.TakeGaps(), []wire.Gap(nil))
	}
}

func TestHolesOfAnEarlierLifeAreToldToThoseTheyConcern(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.l.Join(Who{Label: "a"}, 0)
	late := r.l.Join(Who{Label: "late"}, 50)
	r.l.Tell(10, 60, wire.GapIncarnation)
	r.l.Tell(61, 60, wire.GapIncarnation) // nothing was lost
	r.l.Tell(20, 30, wire.GapCorrupt)
	from := r.l.Join(Who{Label: "from"}, 25)
	after := r.l.Join(Who{Label: "after"}, 61)
	for _, c := range []struct {
		c    *Consumer
		want string
	}{
		{a, "[{10 60 incarnation} {20 30 corrupt}]"},
		{late, "[{50 60 incarnation}]"},
		{from, "[{25 30 corrupt} {25 60 incarnation}]"},
		{after, "[]"},
	} {
		if got := fmt.Sprint(c.c.TakeGaps()); got != c.want {
			t.Errorf("%s was told %s, want %s", c.c.Who.Label, got, c.want)
		}
	}
}

func TestRequestsAndBestEffortHaveNoHoles(t *testing.T) {
	for _, mode := range []Mode{{Requests: true}, {BestEffort: true}} {
		r := newRig(t, mode)
		c := r.join("a", 0)
		r.fill(1)
		r.l.DropOldest(ReasonOverflow)
		want(t, "told", c.TakeGaps(), []wire.Gap(nil))
	}
}

// What a hole spares is known by the done marks, so these stay until it was read.
func TestAnAttachStartsNoHigherThanAHoleThatMayNotHaveBeenRead(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("c", 4)
	r.fill(2)
	for range 2 {
		want(t, "dropped", r.l.DropOldest(ReasonOverflow), true)
	}
	seq := r.put(Item{})
	want(t, "settled below", r.l.Start(), seq)
	want(t, "waiting", r.l.StartOf(c), uint64(1))
	c.TakeGaps()
	want(t, "told", r.l.StartOf(c), uint64(1))
	want(t, "sent", r.seqs(c), []uint64{seq})
	want(t, "a message followed", r.l.StartOf(c), uint64(1))
	r.done(c, seq)
	want(t, "read", r.l.StartOf(c), r.l.Start())
}

// A GAP that was written to a pipe is known to be read only when something that was
// sent after it is answered; if the pipe ends before that it is told again.
func TestAHoleIsToldUntilItWasRead(t *testing.T) {
	one := []wire.Gap{{From: 1, To: 1, Reason: wire.GapDropped}}
	two := []wire.Gap{{From: 1, To: 2, Reason: wire.GapDropped}}
	drop := func(r *rig) {
		r.put(Item{})
		if !r.l.DropOldest(ReasonOverflow) {
			r.Fatal("nothing to drop")
		}
		r.check()
	}
	send := func(r *rig, c *Consumer) uint64 {
		seq := r.put(Item{})
		want(r, "sent", r.seqs(c), []uint64{seq})
		return seq
	}
	for _, c := range []struct {
		name string
		do   func(*rig, *Consumer)
		want []wire.Gap // on the next pipe
	}{
		{"nothing followed", func(r *rig, c *Consumer) { drop(r); c.TakeGaps() }, one},
		{"what followed was not answered", func(r *rig, c *Consumer) { drop(r); c.TakeGaps(); send(r, c) }, one},
		{"what followed was done", func(r *rig, c *Consumer) { drop(r); c.TakeGaps(); r.done(c, send(r, c)) }, nil},
		{"what followed was nacked", func(r *rig, c *Consumer) { drop(r); c.TakeGaps(); r.nack(c, wire.NackHandler, send(r, c)) }, nil},
		{"only what came before was done", func(r *rig, c *Consumer) {
			drop(r)
			seq := send(r, c)
			c.TakeGaps()
			r.done(c, seq)
		}, one},
		{"a second hole after the proof of the first", func(r *rig, c *Consumer) {
			drop(r)
			drop(r)
			r.l.Tell(50, 50, wire.GapRetention)
			c.TakeGaps()
			seq := send(r, c)
			r.l.Tell(60, 60, wire.GapRetention)
			c.TakeGaps()
			r.done(c, seq)
		}, []wire.Gap{{From: 60, To: 60, Reason: wire.GapRetention}}},
		{"both proven", func(r *rig, c *Consumer) {
			drop(r)
			c.TakeGaps()
			first := send(r, c)
			r.l.Tell(60, 60, wire.GapRetention)
			c.TakeGaps()
			r.done(c, first)
			r.done(c, send(r, c))
		}, nil},
		{"two told with a message behind each, none answered", func(r *rig, c *Consumer) {
			drop(r)
			c.TakeGaps()
			send(r, c)
			r.l.Tell(60, 60, wire.GapRetention)
			c.TakeGaps()
			send(r, c)
		}, append(one[:1:1], wire.Gap{From: 60, To: 60, Reason: wire.GapRetention})},
		{"two told, none proven", func(r *rig, c *Consumer) {
			drop(r)
			c.TakeGaps()
			drop(r)
			c.TakeGaps()
		}, two},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Mode{})
			con := r.join("a", 9)
			c.do(r, con)
			r.again(con, 1, nil)
			want(t, "told on the next pipe", con.TakeGaps(), c.want)
			r.again(con, 1, nil)
			want(t, "and on the one after", con.TakeGaps(), c.want)
		})
	}
}

func TestManyHolesAreMergedWhereNothingIsOwedBetween(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 1<<20)
	const stuck = 2*6*maxGaps + 1 // the message that is never answered
	for range 3 * 6 * maxGaps {
		r.l.Append(Item{Seq: r.next, Record: []byte("x")}, r.now)
		r.next++
	}
	r.l.Dispatch(func(*Consumer) {})
	r.l.Take(c, nil, 1<<30, r.now)
	var done []uint64
	for seq := uint64(1); seq < r.next; seq += 2 {
		if seq != stuck {
			done = append(done, seq)
		}
	}
	if err := r.l.Done(c, run(edition, done...)); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(2); seq < r.next; seq += 2 {
		r.l.Cancel(seq)
	}
	r.check()
	gaps := c.TakeGaps()
	if len(gaps) > maxGaps {
		t.Errorf("%d gaps, want at most %d", len(gaps), maxGaps)
	}
	told := map[uint64]bool{}
	for _, g := range gaps {
		if g.From <= stuck && stuck <= g.To {
			t.Errorf("%v says that %d will never be sent, but it is owed", g, stuck)
		}
		for seq := g.From; seq <= g.To; seq++ {
			told[seq] = true
		}
	}
	for seq := uint64(2); seq < r.next; seq += 2 {
		if !told[seq] {
			t.Fatalf("the hole %d was not told", seq)
		}
	}
}
