package socket

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// newSub is an inbox that notes what gaps it was told.
func newSub(t testing.TB) (*Inbox, *[]string) {
	gaps := &[]string{}
	b := newInbox(t, wire.Sub, func(c *InboxConfig) {
		c.Patterns = []string{"a.>"}
		c.OnGap = func(g Gap) { *gaps = append(*gaps, fmt.Sprintf("%d-%d %s", g.From, g.To, g.Reason)) }
	})
	return b, gaps
}

func TestASubscriberTellsItsPatternsAndEachChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, _ := newSub(t)
		s := newSource('s', wire.Pub)
		f, a := s.attach(t, b)
		equal(t, "version", a.Version, 1)
		same(t, "patterns", a.Patterns, "[a.>]")
		b.Subscribe([]string{"b", "c.*"})
		sub := parsed(t, wire.ParseSubscribe, f.one(wire.TypeSubscribe))
		same(t, "SUBSCRIBE", sub, wire.Subscription{Version: 2, Patterns: []string{"b", "c.*"}})
		f.say(wire.AppendSubscribed(nil, wire.Subscribed{Version: 2, First: 9}))
		f.alive()
		if fs := f.only(wire.TypeSubscribe); len(fs) > 0 {
			t.Error("it says so twice")
		}
		f.cut()
		b.Subscribe([]string{"d"})
		_, a = s.attach(t, b)
		equal(t, "version", a.Version, 3)
		same(t, "patterns", a.Patterns, "[d]")
	})
}

func TestAPublisherThatBeginsFurtherOnLeavesAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, gaps := newSub(t)
		s := newSource('s', wire.Pub)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(4, "b"))
		ack(t, recv(t, b, "a"), recv(t, b, "b"))
		f.cut()
		s.start = 4 // it still has what came last
		f, _ = s.attach(t, b)
		f.cut()
		s.start = 5
		f, _ = s.attach(t, b)
		same(t, "gaps so far", *gaps, []string{})
		f.cut()
		s.start = 9
		f, _ = s.attach(t, b)
		same(t, "gaps", *gaps, "[5-8 dropped]")
		f.cut()
		f, _ = s.attach(t, b)
		same(t, "gaps, told once", *gaps, "[5-8 dropped]")
		equal(t, "counted", b.Stats().Gaps, 4)
		f.cut()
		other := newSource('s', wire.Pub) // the same node and store, another process
		other.Nonce, other.Incarnation, other.start = [16]byte{9}, 2, 100
		other.attach(t, b)
		same(t, "gaps after another process's ATTACH", *gaps, "[5-8 dropped]")
	})
}

// The publisher that kept the subscription also tells the holes by itself.
func TestAGapIsNotToldTwice(t *testing.T) {
	for name, c := range map[string]struct {
		gap  wire.Gap
		want string
	}{
		"the same":      {wire.Gap{From: 5, To: 8}, "[5-8 dropped]"},
		"a part":        {wire.Gap{From: 6, To: 6}, "[5-8 dropped]"},
		"and more":      {wire.Gap{From: 6, To: 10}, "[5-8 dropped 9-10 expired]"},
		"and less":      {wire.Gap{From: 3, To: 6}, "[5-8 dropped 3-4 expired]"},
		"on both sides": {wire.Gap{From: 3, To: 10}, "[5-8 dropped 3-4 expired 9-10 expired]"},
		"another":       {wire.Gap{From: 9, To: 9}, "[5-8 dropped 9-9 expired]"},
		"an older one":  {wire.Gap{From: 4, To: 4}, "[5-8 dropped 4-4 expired]"},
		"up to the end": {wire.Gap{From: 5, To: 1<<64 - 1}, "[5-8 dropped 9-18446744073709551615 expired]"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b, gaps := newSub(t)
				s := newSource('s', wire.Pub)
				f, _ := s.attach(t, b)
				f.say(data(4, "a"))
				ack(t, recv(t, b, "a"))
				f.cut()
				s.start = 9
				f, _ = s.attach(t, b)
				c.gap.Reason = wire.GapExpired
				f.say(wire.AppendGap(nil, c.gap))
				f.alive()
				same(t, "gaps", *gaps, c.want)
			})
		})
	}
}

// What came and was not begun will not be: the publisher keeps it no longer.
func TestWhatIsNotBegunWhenThePublisherBeginsFurtherOnIsAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, gaps := newSub(t)
		s := newSource('s', wire.Pub)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"), data(4, "d"))
		m := recv(t, b, "a")
		synctest.Wait()
		f.cut()
		s.start = 6
		f, _ = s.attach(t, b)
		same(t, "gaps", *gaps, "[2-2 dropped 4-5 dropped]")
		f.say(data(6, "f"))
		ack(t, m, recv(t, b, "f"))
		none(t, b)
		equal(t, "counted", b.Stats().Gaps, 3)
		f.alive()
	})
}

// The sender gave up messages of which it could not know that they were handled here.
func TestAGapSparesWhatIsHereAllTheSame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, gaps := newSub(t)
		f, _ := newSource('s', wire.Pub).attach(t, b)
		f.say(data(1, "a"), data(2, "b"), data(3, "c"), data(4, "d"))
		ack(t, recv(t, b, "a"))
		recv(t, b, "b") // in hand
		f.say(wire.AppendRevoke(nil, []ranges.Range{{From: 2, To: 3}}), wire.AppendGap(nil, wire.Gap{From: 1, To: 3, Reason: wire.GapDropped}))
		synctest.Wait()
		recv(t, b, "d")
		same(t, "gaps", *gaps, "[3-3 dropped]")
		equal(t, "counted", b.Stats().Gaps, 1)
		f.alive()
	})
}

// Its deliveries are used up: that it was given back here does not keep it here.
func TestAMessageThatWasGivenBackMayBeAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, gaps := newSub(t)
		f, _ := newSource('s', wire.Pub).attach(t, b)
		f.say(data(1, "a"), data(2, "b"))
		recv(t, b, "a").Nack(nil)
		f.hear()
		f.say(wire.AppendGap(nil, wire.Gap{From: 1, To: 1, Reason: wire.GapDead}))
		synctest.Wait()
		f.alive()
		ack(t, recv(t, b, "b"))
		same(t, "gaps", *gaps, "[1-1 dead]")
	})
}

func TestAGapOlderThanTheSubscriptionIsNotTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, gaps := newSub(t)
		s := newSource('s', wire.Pub)
		f, _ := s.attach(t, b)
		subscribed := func(first uint64) []byte {
			return wire.AppendSubscribed(nil, wire.Subscribed{Version: 1, First: first})
		}
		gap := func(from, to uint64) []byte {
			return wire.AppendGap(nil, wire.Gap{From: from, To: to, Reason: wire.GapDropped})
		}
		f.say(subscribed(10), gap(1, 5), gap(7, 10), data(11, "a"))
		ack(t, recv(t, b, "a"))
		f.cut()
		s.start = 15
		f, _ = s.attach(t, b) // to a publisher that had forgotten it
		f.say(subscribed(20), gap(15, 19), data(20, "b"))
		ack(t, recv(t, b, "b"))
		same(t, "gaps", *gaps, "[10-10 dropped 12-14 dropped 15-19 dropped]")
		f.alive()
	})
}

func TestABrokenSenderTellsHolesBeyondAllSeqs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, _ := newSub(t)
		s := newSource('s', wire.Pub)
		f, _ := s.attach(t, b)
		f.say(wire.AppendGap(nil, wire.Gap{From: 0, To: 1<<64 - 1, Reason: wire.GapDropped}))
		f.alive()
		f.cut()
		s.start = 7
		f, _ = s.attach(t, b)
		f.say(data(7, "a"))
		ack(t, recv(t, b, "a"))
		time.Sleep(time.Second)
		f.alive()
	})
}

// A publisher that does not see its subscriber for long forgets what it owes it, and begins anew. What had come, and was
// given back because its lease was over, comes no more.
func TestWhatWasGivenBackIsMissedWhenThePublisherBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, gaps := newSub(t)
		s := newSource('s', wire.Pub)
		f, _ := s.attach(t, b)
		f.say(row(1, 20))
		ack(t, takes(t, b, 1, 5)...)
		time.Sleep(BeginWithin + time.Millisecond) // no RENEW is answered
		none(t, b)
		f.cut()
		none(t, b)
		same(t, "gaps before it is known", *gaps, "[]")
		f, _ = s.attach(t, b)
		f.say(row(6, 2)) // two came again
		ack(t, takes(t, b, 6, 7)...)
		f.cut()
		s.start = 31
		f, _ = s.attach(t, b)
		synctest.Wait()
		same(t, "gaps", *gaps, "[8-30 dropped]")
		f.say(row(31, 1))
		ack(t, takes(t, b, 31, 31)...)
		equal(t, "counted", b.Stats().Gaps, 23)
		f.alive()
	})
}

func TestOfWhatWasGivenBackNothingIsForgottenHoweverManyRanges(t *testing.T) {
	const most = 2 * maxGone
	var st stream
	for n := uint64(1); n <= most; n++ {
		st.noteBack(2 * n)
	}
	if n := st.back.Len(); n > maxGone {
		t.Errorf("%d ranges, want %d at most", n, maxGone)
	}
	for n := uint64(1); n <= most; n++ {
		if !st.back.Contains(2 * n) {
			t.Fatalf("%d is forgotten", 2*n)
		}
	}
}
