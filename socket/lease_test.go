package socket

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

func TestNothingIsBegunLaterThanEightSecondsAfterTheLastAnsweredRenew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		began := time.Now()
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"), data(3, "c"))
		f.say(number(wire.TypeRenewed, 1)) // sent at the beginning
		reach(began.Add(BeginWithin))
		ack(t, recv(t, b, "a"))
		time.Sleep(time.Nanosecond)
		none(t, b)
		f.cut()
		none(t, b)
		_, a := s.attach(t, b)
		same(t, "held", a.Held, []wire.EditionRanges(nil))
		equal(t, "returned", b.Stats().Returned, 2)
	})
}

// The network paused for nine seconds and the link survived it: what waited is begun
// in its turn, and not overtaken by what came after it.
func TestALateAnswerToARenewLeavesTheOrderAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(number(wire.TypeRenewed, 1), data(1, "a"), data(2, "b"))
		time.Sleep(BeginWithin + time.Second)
		none(t, b)
		equal(t, "queued", b.Stats().Queued, 2)
		f.say(data(3, "c"))
		none(t, b)
		f.say(number(wire.TypeRenewed, 5), data(4, "d"))
		for _, body := range []string{"a", "b", "c", "d"} {
			ack(t, recv(t, b, body))
		}
		equal(t, "returned", b.Stats().Returned, 0)
		f.alive()
	})
}

func TestWhatWaitsForItsLeaseIsGivenBackAtTheEnd(t *testing.T) {
	for name, end := range map[string]func(*Inbox) error{
		"drain": func(b *Inbox) error { return b.Drain(context.Background()) },
		"close": (*Inbox).Close,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newInbox(t, wire.Pull)
				f, _ := newSource('s', wire.Push).attach(t, b)
				f.say(number(wire.TypeRenewed, 1), data(1, "a"), data(2, "b"))
				time.Sleep(BeginWithin + time.Second)
				none(t, b)
				f.say(data(3, "c"))
				synctest.Wait()
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := end(b); err != nil {
						t.Error(err)
					}
				})
				same(t, "given back", told(t, f.hear(), wire.TypeNack, wire.NackReturned), []uint64{1, 2, 3})
				f.cut()
				wg.Wait()
			})
		})
	}
}

func TestARevokedMessageThatWaitsForItsLeaseIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(number(wire.TypeRenewed, 1), data(1, "a"), data(2, "b"), data(3, "c"))
		time.Sleep(BeginWithin + time.Second)
		none(t, b)
		f.say(wire.AppendRevoke(nil, []ranges.Range{{From: 2, To: 2}}), number(wire.TypeRenewed, 5))
		ack(t, recv(t, b, "a"), recv(t, b, "c"))
		none(t, b)
		f.alive()
	})
}

func TestAnAnsweredRenewCountsFromWhenItWasSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		began := time.Now()
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(data(1, "a"), data(2, "b"))
		reach(began.Add(7 * time.Second))
		f.say(number(wire.TypeRenewed, 2)) // sent at 2 s
		reach(began.Add(10 * time.Second))
		recv(t, b, "a")
		time.Sleep(time.Nanosecond)
		none(t, b)
	})
}

func TestARenewAnsweredMuchTooLateMeansNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		time.Sleep(20 * time.Second)
		f.say(data(1, "a"), number(wire.TypeRenewed, 1))
		synctest.Wait()
		none(t, b)
		f.alive()
	})
}

func TestAnAnswerToARenewNeverSentIsAnError(t *testing.T) {
	for _, n := range []uint64{0, 2, 1 << 60} {
		bubble(t, func(t *testing.T) {
			b := newInbox(t, wire.Pull)
			f, _ := newSource('s', wire.Push).attach(t, b)
			f.say(number(wire.TypeRenewed, n))
			if err, over := f.end(); !over || err == nil {
				t.Errorf("RENEWED %d: ended %v, %v", n, over, err)
			}
		})
	}
}

// The ATTACHED may never have reached the sender, who then leases what was held to
// somebody else once the old lease is over.
func TestAnAttachAloneDoesNotProlongALease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), number(wire.TypeRenewed, 1))
		synctest.Wait()
		f.cut()
		time.Sleep(7 * time.Second)
		f, a := s.attach(t, b)
		same(t, "held", a.Held, []wire.EditionRanges{editionOf(s.Edition, 1)})
		f.cut()
		time.Sleep(2 * time.Second) // the sender heard nothing since 9 s, and may lease it elsewhere at 10 s
		none(t, b)
		_, a = s.attach(t, b)
		same(t, "held", a.Held, []wire.EditionRanges(nil))
	})
}

func TestWhateverAnswersTheAttachedProvesThatItWasRead(t *testing.T) {
	for name, answer := range map[string][]byte{
		"RENEWED": number(wire.TypeRenewed, 1),
		"DATA":    dataOf(wire.Run{Base: 9, Attempt: 1}, wire.Record{TTL: time.Millisecond}),
		"GAP":     wire.AppendGap(nil, wire.Gap{From: 7, To: 8, Reason: wire.GapDropped}),
		"CONFIRM": confirm(1, 1),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newInbox(t, wire.Pull)
				s := newSource('s', wire.Push)
				f, _ := s.attach(t, b)
				f.say(data(1, "a"))
				synctest.Wait()
				f.cut()
				time.Sleep(7 * time.Second)
				again := time.Now()
				f, _ = s.attach(t, b)
				f.say(answer)
				reach(again.Add(BeginWithin))
				recv(t, b, "a")
			})
		})
	}
}

// Its lease went elsewhere: to begin it now, because there is a new pipe, would be a
// second live lease.
func TestAMessageWhoseLeaseIsOverIsNotHereAtTheNextAttach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"), number(wire.TypeRenewed, 1))
		m := recv(t, b, "a")
		f.cut()
		time.Sleep(BeginWithin + 1)
		f, a := s.attach(t, b)
		same(t, "held", a.Held, []wire.EditionRanges{editionOf(s.Edition, 1)})
		f.say(data(3, "c"))
		ack(t, m, recv(t, b, "c"))
		none(t, b)
		f.alive()
	})
}

// The sender may have leased elsewhere what ATTACHED said is held, if it read that as late
// as its answer came. What came behind waits its turn on the next pipe.
func TestWhatIsHeldIsNotBegunWhenAttachedWasReadTooLate(t *testing.T) {
	for name, answer := range map[string][]byte{
		"RENEWED": number(wire.TypeRenewed, 1),
		"DATA":    data(3, "c"),
		"GAP":     wire.AppendGap(nil, wire.Gap{From: 7, To: 8, Reason: wire.GapDropped}),
		"CONFIRM": confirm(1, 9),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newInbox(t, wire.Pull)
				s := newSource('s', wire.Push)
				began := time.Now()
				f, _ := s.attach(t, b)
				f.say(data(1, "a"), data(2, "b"), number(wire.TypeRenewed, 1))
				m := recv(t, b, "a")
				f.cut()
				reach(began.Add(BeginWithin - time.Second))
				f, a := s.attach(t, b)
				same(t, "held in time", a.Held, []wire.EditionRanges{{Edition: s.Edition, Ranges: []ranges.Range{{From: 1, To: 2}}}})
				reach(began.Add(BeginWithin + 1))
				f.say(answer)
				if err, over := f.end(); !over || !errors.Is(err, errLeasesOver) {
					t.Errorf("ended %v, %v", over, err)
				}
				none(t, b)
				f, a = s.attach(t, b)
				same(t, "held too late", a.Held, []wire.EditionRanges{editionOf(s.Edition, 1)})
				f.say(data(2, "b"), data(3, "c"))
				ack(t, m, recv(t, b, "b"), recv(t, b, "c"))
				none(t, b)
				f.alive()
			})
		})
	}
}

func TestLeasesAreRenewedEveryTwoSeconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		var numbers []uint64
		for range 5 {
			time.Sleep(RenewEvery)
			for _, p := range f.only(wire.TypeRenew) {
				numbers = append(numbers, parsed(t, wire.ParseNumber, p))
			}
		}
		same(t, "RENEWs in ten seconds, after the first", numbers, []uint64{2, 3, 4, 5, 6})
	})
}

func TestAReceiverThatIsKickedOftenDoesNotRenewOftener(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		for i := range 100 {
			f.say(data(uint64(i+1), "a"))
			ack(t, recv(t, b, "a"))
			time.Sleep(50 * time.Millisecond)
		}
		n := len(f.only(wire.TypeRenew))
		if n > 3 {
			t.Errorf("%d RENEWs in five seconds", n)
		}
	})
}

func TestBestEffortHasNoLeasesAndNoAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		s.level = BestEffort
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(1, "b"), data(2, "c"))
		time.Sleep(time.Minute)
		m := recv(t, b, "a")
		ack(t, m, recv(t, b, "b"))
		recv(t, b, "c").Nack(nil)
		for _, h := range f.hear() {
			if h.t != wire.TypeCredit {
				t.Errorf("it says 0x%02x", byte(h.t))
			}
		}
	})
}
