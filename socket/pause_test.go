package socket

import (
	"slices"
	"testing"
	"testing/synctest"

	"peermesh/internal/wire"
)

// order tells at which place among the frames each type was heard first, -1 if it was not.
func order(fs []frame, ts ...wire.Type) (at []int) {
	for _, t := range ts {
		at = append(at, slices.IndexFunc(fs, func(f frame) bool { return f.t == t }))
	}
	return at
}

func TestAPausedInboxGivesBackWhatItHasNotBegun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(data(1, "a"), data(2, "b"), data(3, "c"))
		m := recv(t, b, "a")
		f.hear()
		b.Pause()
		h := f.hear()
		same(t, "given back", told(t, h, wire.TypeNack, wire.NackReturned), []uint64{2, 3})
		at := order(h, wire.TypePause, wire.TypeRenew, wire.TypeNack)
		if at[0] < 0 || at[1] < at[0] || at[2] < at[0] {
			t.Errorf("PAUSE, RENEW and NACK stand at %v", at)
		}
		equal(t, "paused", b.Stats().Paused, true)
		f.say(data(4, "d"))
		h = f.hear()
		same(t, "given back at once", told(t, h, wire.TypeNack, wire.NackReturned), []uint64{4})
		same(t, "credit", order(h, wire.TypeCredit), []int{-1})
		none(t, b)
		ack(t, m)
		h = f.hear()
		same(t, "done", told(t, h, wire.TypeDone, 0), []uint64{1})
		same(t, "credit", order(h, wire.TypeCredit), []int{-1})
		same(t, "RENEW goes on", order(f.later(), wire.TypeRenew), []int{0})
		b.Pause() // changes nothing
		same(t, "PAUSE again", order(f.hear(), wire.TypePause), []int{-1})
	})
}

// What was on its way must not overtake what was given back.
func TestWhatCameBeforePauseWasReadIsGivenBackEvenAfterResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(data(1, "a"))
		f.hear()
		b.Pause()
		renew := parsed(t, wire.ParseNumber, f.one(wire.TypeRenew))
		b.Resume()
		f.say(data(2, "b"))
		h := f.hear()
		same(t, "given back", told(t, h, wire.TypeNack, wire.NackReturned), []uint64{2})
		same(t, "RESUME", order(h, wire.TypeResume), []int{-1})
		if renew > 1 {
			f.say(number(wire.TypeRenewed, renew-1))
			same(t, "RESUME for an older RENEW", order(f.hear(), wire.TypeResume), []int{-1})
		}
		f.say(number(wire.TypeRenewed, renew))
		same(t, "RESUME", order(f.hear(), wire.TypeResume), []int{0})
		f.say(data(1, "a"), data(2, "b"))
		ack(t, recv(t, b, "a"), recv(t, b, "b"))
		equal(t, "paused", b.Stats().Paused, false)
	})
}

func TestAPauseThatIsOverAtOnceIsToldAllTheSame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(data(1, "a"))
		f.hear()
		b.Pause()
		b.Resume()
		f.say(data(2, "b"))
		h := f.hear()
		same(t, "PAUSE", order(h, wire.TypePause, wire.TypeResume), []int{0, -1})
		same(t, "given back", told(t, h, wire.TypeNack, wire.NackReturned), []uint64{1, 2})
		f.say(number(wire.TypeRenewed, parsed(t, wire.ParseNumber, h[order(h, wire.TypeRenew)[0]].payload)))
		same(t, "RESUME", order(f.hear(), wire.TypeResume), []int{0})
		f.say(data(1, "a"), data(2, "b"))
		ack(t, recv(t, b, "a"), recv(t, b, "b"))
	})
}

func TestWhoeverWaitsInRecvGoesOnAfterResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		b.Pause()
		got := make(chan string)
		go func() {
			m, err := b.Recv(wait(t))
			if err != nil {
				t.Error(err)
				got <- ""
				return
			}
			got <- string(m.Body)
		}()
		f.say(number(wire.TypeRenewed, parsed(t, wire.ParseNumber, f.one(wire.TypeRenew))))
		synctest.Wait()
		b.Resume()
		f.one(wire.TypeResume)
		f.say(data(1, "a"))
		same(t, "received", <-got, "a")
	})
}

func TestASenderThatAttachesDuringAPauseIsToldSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		b.Pause()
		f := newSource('s', wire.Push).open(t, b)
		h := f.hear()
		same(t, "ATTACHED and PAUSE", order(h, wire.TypeAttached, wire.TypePause), []int{0, 1})
		a := parsed(t, wire.ParseAttached, h[0].payload)
		equal(t, "window", a.Messages+a.Bytes, 0)
		f.say(number(wire.TypeRenewed, 1))
		b.Resume()
		same(t, "RESUME and CREDIT", order(f.hear(), wire.TypeResume, wire.TypeCredit), []int{0, 1})
		f.say(data(1, "a"))
		ack(t, recv(t, b, "a"))
	})
}

func TestALargeMessageIsGivenBackBeforeItIsSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		budget := NewBudget(1 << 20)
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.Local.Budget = budget })
		f, _ := newSource('s', wire.Push).attach(t, b)
		all := budget.claim(1<<20, func() {}) // so that none is granted
		f.say(wire.AppendWant(nil, wire.Want{Seq: 1, Bytes: 1 << 19}))
		f.hear()
		b.Pause()
		same(t, "given back", told(t, f.hear(), wire.TypeNack, wire.NackReturned), []uint64{1})
		f.say(wire.AppendWant(nil, wire.Want{Seq: 2, Bytes: 1 << 19}))
		same(t, "given back", told(t, f.hear(), wire.TypeNack, wire.NackReturned), []uint64{2})
		budget.drop(all)
		same(t, "granted", order(f.hear(), wire.TypeGrant), []int{-1})
		f.alive()
	})
}

func TestAtBestEffortWhatCameWaitsForTheEndOfThePause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		s.level = BestEffort
		f, _ := s.attach(t, b)
		f.say(data(1, "a"))
		synctest.Wait()
		b.Pause()
		same(t, "PAUSE", order(f.hear(), wire.TypePause, wire.TypeNack), []int{0, -1})
		f.say(data(2, "b"))
		none(t, b)
		b.Resume()
		same(t, "RESUME", order(f.hear(), wire.TypeResume), []int{0})
		recv(t, b, "a")
		recv(t, b, "b")
	})
}

func TestAPausedReceiverGetsNothingAndOthersGetWhatItWasToGet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Push)
		one := o.met(localOf('a'))
		o.sends("1")
		same(t, "sent", bodies(t, one.hear()), []string{"1.1 1"})
		one.say(wire.AppendEmpty(nil, wire.TypePause))
		synctest.Wait()
		o.sends("2")
		same(t, "sent to the paused", bodies(t, one.hear()), []string{})
		equal(t, "leased", o.counts().Leased, 1)
		two := o.met(localOf('b'))
		same(t, "sent to the other", bodies(t, two.hear()), []string{"2.1 2"})
		one.say(nack(o.local.Edition, wire.NackReturned, 1))
		same(t, "given back", bodies(t, two.hear()), []string{"1.2 1"})
		one.say(wire.AppendEmpty(nil, wire.TypeResume))
		synctest.Wait()
		two.say(wire.AppendEmpty(nil, wire.TypePause))
		synctest.Wait()
		o.sends("3")
		same(t, "sent after the pause", bodies(t, one.hear()), []string{"3.1 3"})
		o.mu.Lock()
		cs := o.box.Consumers()
		o.mu.Unlock()
		equal(t, "one is paused", cs[0].Paused, false)
		equal(t, "two is paused", cs[1].Paused, true)
	})
}

func TestResumeWaitsForALargeMessageUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		rec := wire.AppendRecord(nil, wire.Record{Body: filler(wire.MaxRecord + 1)})
		f.say(data(1, "a"), wire.AppendWant(nil, wire.Want{Seq: 2, Bytes: uint64(len(rec))}))
		f.one(wire.TypeGrant)
		b.Pause()
		h := f.hear()
		same(t, "given back", told(t, h, wire.TypeNack, wire.NackReturned), []uint64{1})
		f.say(number(wire.TypeRenewed, parsed(t, wire.ParseNumber, h[order(h, wire.TypeRenew)[0]].payload)))
		b.Resume()
		same(t, "RESUME", order(f.hear(), wire.TypeResume), []int{-1})
		for at := 0; at < len(rec); at += wire.MaxFragment {
			f.say(wire.AppendFragment(nil, wire.Fragment{Run: wire.Run{Base: 2, Attempt: 1}, Total: uint64(len(rec)), Offset: uint64(at),
				Part: rec[at:min(len(rec), at+wire.MaxFragment)]}))
		}
		h = f.hear()
		same(t, "given back", told(t, h, wire.TypeNack, wire.NackReturned), []uint64{2})
		equal(t, "RESUME", order(h, wire.TypeResume)[0] >= 0, true)
		none(t, b)
	})
}
