package ledger

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"peermesh/internal/wire"
)

func TestMessagesOfAKeyGoOneAfterTheOther(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	r.keyed("k", "k", "x", "k", "", "x")
	want(t, "first of each key, and the unkeyed", r.seqs(c), []uint64{1, 3, 5})
	r.done(c, 3)
	want(t, "after x", r.seqs(c), []uint64{6})
	r.done(c, 1)
	want(t, "after k", r.seqs(c), []uint64{2})
	r.done(c, 6)
	want(t, "x is empty", r.seqs(c), []uint64(nil))
	r.done(c, 2)
	want(t, "last", r.seqs(c), []uint64{4})
	r.done(c, 4, 5)
	want(t, "lanes left", len(r.l.lanes), 0)
}

func TestAKeyWaitsForItsFailedMessage(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	r.keyed("k", "k")
	r.take(c)
	r.nack(c, wire.NackHandler, 1)
	want(t, "during the back-off", r.seqs(c), []uint64(nil))
	r.pass(time.Second)
	want(t, "after it", flags(r.take(c)), "1!")
	r.done(c, 1)
	want(t, "then", r.seqs(c), []uint64{2})
}

func TestAMessageThatEndsOutOfTurnDoesNotFreeItsLane(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*rig)
	}{
		{"cancelled while it waits", func(r *rig) { r.l.Cancel(2) }},
		{"dropped while it waits", func(r *rig) { r.l.DropOldest(ReasonOverflow) }},
		{"expired while it waits", func(r *rig) { r.pass(time.Minute) }},
	} {
		for _, dispatched := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, dispatched %v", c.name, dispatched), func(t *testing.T) {
				r := newRig(t, Mode{Lease: time.Hour})
				con := r.join("a", 100)
				r.put(Item{Key: "k"})
				want(t, "first", r.seqs(con), []uint64{1})
				r.put(Item{Key: "k", Expires: r.now.Add(time.Second)})
				r.put(Item{Key: "k"})
				if dispatched {
					r.dispatch()
				}
				c.end(r)
				r.check()
				want(t, "while 1 is in flight", r.seqs(con), []uint64(nil))
				r.done(con, 1)
				want(t, "then", r.seqs(con), []uint64{3})
			})
		}
	}
}

func TestAKeyStaysWithItsConsumerAndMovesWhenItLeaves(t *testing.T) {
	r := newRig(t, Mode{})
	cs := map[string]*Consumer{}
	for _, name := range []string{"a", "b", "c"} {
		cs[name] = r.join(name, 1<<20)
	}
	keys := make([]string, 60)
	for i := range keys {
		keys[i] = fmt.Sprint("key", i)
	}
	homes := func() map[string]string { // of each key
		out := map[string]string{}
		first := r.next
		r.keyed(keys...)
		r.dispatch()
		for name, c := range cs {
			for _, seq := range r.seqs(c) {
				out[keys[seq-first]] = name
				r.done(c, seq)
			}
		}
		return out
	}
	first := homes()
	count := map[string]int{}
	for _, name := range first {
		count[name]++
	}
	for name := range cs {
		if count[name] < 10 {
			t.Errorf("consumer %s is home to %d of 60 keys: %v", name, count[name], count)
		}
	}
	want(t, "next round", homes(), first)
	b := cs["b"].Who
	r.detach(cs["b"], true)
	delete(cs, "b")
	second := homes()
	for k, name := range first {
		if name != "b" && second[k] != name {
			t.Errorf("key %s moved from %s to %s, though %s is there", k, name, second[k], name)
		}
		if second[k] == "" || second[k] == "b" {
			t.Errorf("key %s did not move from b, but is at %q", k, second[k])
		}
	}
	cs["b"] = r.l.Join(b, 0)
	r.again(cs["b"], 1, nil)
	want(t, "after it came back", homes(), first)
}

// homeOf finds a key that is at home at c.
func homeOf(r *rig, c *Consumer) string {
	r.Helper()
	for i := range 1000 {
		if k := fmt.Sprint("k", i); r.l.home(laneOf(k)) == c {
			return k
		}
	}
	r.Fatal("no key of a thousand is at home there")
	return ""
}

func TestAKeyedMessageWaitsForItsConsumerAndHoldsUpNobodyElse(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 1), r.join("b", 100)
	ka, kb := homeOf(r, a), homeOf(r, b)
	r.keyed(ka, ka, kb, "") // the second one of ka waits for its lane
	ka2 := ka
	for i := 1000; ka2 == ka || r.l.home(laneOf(ka2)) != a; i++ {
		ka2 = fmt.Sprint("k", i)
	}
	r.keyed(ka2)
	r.dispatch()
	want(t, "a, with credit for one", r.seqs(a), []uint64{1})
	want(t, "b", r.seqs(b), []uint64{3, 4})
	want(t, "parked", r.l.parked, 2)
	r.l.Credit(a, wire.Credit{Messages: 2, Bytes: 1 << 40})
	want(t, "a, with one more", r.seqs(a), []uint64{5})
	r.done(a, 1)
	want(t, "the lane is free, but there is no credit", r.seqs(a), []uint64(nil))
	r.detach(a, true)
	want(t, "all is b's now", flags(r.take(b)), "2 5!")
}

func TestParkedMessagesMoveToANewConsumerThatIsTheirHome(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 100), r.join("b", 100)
	key := homeOf(r, b)
	r.detach(b, true)
	r.again(a, 1, func(at *wire.Attached) { at.Messages = 0 })
	r.keyed(key)
	want(t, "a has no credit", r.seqs(a), []uint64(nil))
	r.again(b, 2, nil)
	want(t, "b came and is its home", r.seqs(b), []uint64{1})
}

func TestALeaseAloneIsWaitedForByKeyedMessagesToo(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	r.keyed("k")
	for n := range byte(aloneAfter) {
		r.take(c)
		r.again(c, n+2, nil) // its process ended, and with it the lease
	}
	r.keyed("x", "y")
	want(t, "the suspect alone", flags(r.take(c)), "1!")
	r.done(c, 1)
	want(t, "then the others", r.seqs(c), []uint64{2, 3})
}

func TestASuspectOfAKeyIsNotStarvedByOthers(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	r.keyed("k")
	r.take(c)
	r.again(c, 2, nil)
	r.take(c)
	r.l.Attach(c)
	r.fill(2)
	at := r.hello(c, 3)
	at.Messages = 0
	r.attached(c, at)
	r.dispatch() // the suspect is parked, for there is no credit
	r.l.Credit(c, wire.Credit{Messages: 100, Bytes: 1 << 40})
	want(t, "alone", flags(r.take(c)), "1!")
	r.nack(c, wire.NackHandler, 1)
	want(t, "the others in its back-off", r.seqs(c), []uint64{2, 3})
	r.pass(time.Second)
	r.fill(1)
	want(t, "nothing new while it waits for empty hands", r.seqs(c), []uint64(nil))
	r.done(c, 2, 3)
	want(t, "its turn", flags(r.take(c)), "1!")
	r.done(c, 1)
	want(t, "the last", r.seqs(c), []uint64{4})
}

func TestASuspectIsNotStuckBehindWhatWaitsForIt(t *testing.T) {
	r := newRig(t, Mode{})
	c := r.join("a", 100)
	r.keyed("j", "k")
	r.take(c)
	r.nack(c, wire.NackHandler, 1)
	r.again(c, 2, nil)
	r.take(c)
	r.again(c, 3, func(a *wire.Attached) { a.Messages = 0 })
	r.dispatch() // the suspect, 2, is parked and c kept for it
	r.pass(time.Second)
	r.dispatch() // so 1, back from its back-off, is parked too, and stands before it
	r.l.Credit(c, wire.Credit{Messages: 100, Bytes: 1 << 40})
	want(t, "the suspect alone", flags(r.take(c)), "2!")
	r.done(c, 2)
	want(t, "then what waited for it", flags(r.take(c)), "1!")
}

// Whatever happens to the messages of a lane and in whatever order, it must not get
// stuck: check finds a lane that nobody will move, and at the end all must be done.
func TestNoOrderOfEventsLeavesALaneStuck(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := newRig(t, Mode{MaxDeliver: 3, Lease: 10 * time.Second})
		var cs []*Consumer
		for i := range 3 {
			cs = append(cs, r.join(fmt.Sprint(i), uint64(rnd.IntN(3))))
		}
		nonce := byte(1)
		for range 120 {
			c := cs[rnd.IntN(len(cs))]
			switch rnd.IntN(12) {
			case 0, 1, 2:
				it := Item{Key: []string{"", "k", "l", "m"}[rnd.IntN(4)]}
				if rnd.IntN(4) == 0 {
					it.Expires = r.now.Add(time.Duration(rnd.IntN(8)) * time.Second)
				}
				r.put(it)
			case 3, 4:
				for _, s := range r.take(c) {
					switch rnd.IntN(4) {
					case 0:
						r.done(c, s.Seq)
					case 1:
						r.nack(c, wire.NackReason(1+rnd.IntN(5)), s.Seq)
					}
				}
			case 5:
				r.l.Credit(c, wire.Credit{Messages: c.sentMsgs + uint64(rnd.IntN(3)), Bytes: 1 << 40})
			case 6:
				r.l.Cancel(1 + rnd.Uint64N(r.next))
			case 7:
				r.l.DropOldest(ReasonOverflow)
			case 8:
				r.detach(c, rnd.IntN(2) == 0)
			case 9:
				nonce++
				r.again(c, nonce, func(a *wire.Attached) { a.Messages = uint64(rnd.IntN(3)) })
			case 10:
				r.pass(time.Duration(rnd.IntN(6)) * time.Second)
			case 11:
				r.dispatch()
			}
			r.check()
		}
		for _, c := range cs[1:] {
			r.detach(c, true)
		}
		r.again(cs[0], 0, nil)
		for range 100 {
			r.pass(time.Minute)
			r.l.Renew(cs[0], r.now)
			for _, s := range r.take(cs[0]) {
				r.done(cs[0], s.Seq)
			}
		}
		if n, _ := r.l.Owed(); n > 0 || len(r.fates) != int(r.next-1) {
			t.Fatalf("seed %d: %d messages are stuck, %d of %d settled", seed, n, len(r.fates), r.next-1)
		}
	}
}
