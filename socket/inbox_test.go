package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/marks"
	"peermesh/internal/wire"
)

func TestAReceivedMessageTellsAllOfItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(dataOf(wire.Run{Base: 7, Attempt: 3, Redelivered: true, Age: time.Second}, wire.Record{Topic: []byte("a.b"), Key: []byte("k"),
			TTL: time.Minute, Headers: wire.AppendHeaders(nil, []wire.Header{{Key: "h", Value: "v"}}), Body: []byte("body")}))
		synctest.Wait()
		arrived := time.Now()
		time.Sleep(2 * time.Second)
		m := recv(t, b, "body")
		equal(t, "seq", m.Seq(), 7)
		equal(t, "attempt", m.Attempt(), 3)
		equal(t, "redelivered", m.Redelivered(), true)
		equal(t, "from", m.From(), s.Node)
		equal(t, "stream", m.Stream(), StreamLabel(s.Node, s.Store, "test", wire.Push, "x"))
		equal(t, "topic", m.Topic, "a.b")
		equal(t, "key", m.Key, "k")
		equal(t, "header", m.Headers["h"], "v")
		equal(t, "TTL", m.TTL, time.Minute)
		equal(t, "age", m.Age(), 3*time.Second)
		d, ok := m.Deadline()
		equal(t, "deadline", d.Equal(arrived.Add(59*time.Second)) && ok, true)
		ack(t, m)
	})
}

func TestAMessageThatWasNotReceivedTellsNothingAndCannotBeAnswered(t *testing.T) {
	m := &Message{Body: []byte("x"), TTL: time.Second}
	if m.From() != (identity.ID{}) || m.Stream() != "" || m.Seq() != 0 || m.Age() != 0 {
		t.Errorf("it tells %v %q %d %v", m.From(), m.Stream(), m.Seq(), m.Age())
	}
	if _, ok := m.Deadline(); ok {
		t.Error("it has a deadline on this host's clock")
	}
	if m.Ack() == nil || m.Nack(nil) == nil || m.NackAfter(nil, 1) == nil {
		t.Error("it was answered")
	}
}

func TestMessagesAreDeliveredOnceInOrderOfArrivalAndAnsweredInAny(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var final []uint64
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.OnDone = func(m *Message) { final = append(final, m.Seq()) } })
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"), data(3, "c"), data(2, "b"))
		m1, m2, m3 := recv(t, b, "a"), recv(t, b, "b"), recv(t, b, "c")
		none(t, b)
		f.hear()
		ack(t, m3, m1)
		answered := told(t, f.hear(), wire.TypeDone, 0)
		slices.Sort(answered) // the first of them may have gone ahead
		same(t, "done", answered, []uint64{1, 3})
		ack(t, m3, m2, m2) // a second answer is without effect
		if err := m2.Nack(errors.New("too late")); err != nil {
			t.Errorf("Nack after Ack: %v", err)
		}
		fs := f.hear()
		same(t, "done", told(t, fs, wire.TypeDone, 0), []uint64{2})
		same(t, "given back", told(t, fs, wire.TypeNack, wire.NackHandler), []uint64(nil))
		f.say(data(1, "a"))
		none(t, b)
		same(t, "final", final, []uint64{3, 1, 2})
		st := b.Stats()
		equal(t, "stats", st, InboxStats{Delivered: 3, Done: 3, Duplicates: 2, Bytes: 3, Pipes: 1})
	})
}

func TestARecvTakesWhatIsThereAndWaitsOtherwise(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, err := b.Recv(ctx); !errors.Is(err, cause) {
			t.Errorf("Recv with nothing there: %v, want the context's cause", err)
		}
		var mu sync.Mutex
		got := map[string]int{}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				m, err := b.Recv(wait(t))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got[string(m.Body)]++
				mu.Unlock()
				ack(t, m)
			})
		}
		synctest.Wait()
		var recs []wire.Record
		for i := range 10 {
			recs = append(recs, wire.Record{Body: fmt.Append(nil, i)})
		}
		f.say(dataOf(wire.Run{Base: 1, Attempt: 1}, recs...)) // in one frame: who wakes wakes the next
		wg.Wait()
		equal(t, "messages", len(got), 10)
	})
}

func TestAWakeUpIsNotLostWithACancelledRecv(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		for i := range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan *Message, 2)
			get := func(ctx context.Context) { m, _ := b.Recv(ctx); ended <- m }
			go get(ctx)
			go get(t.Context())
			synctest.Wait()
			go cancel()
			f.say(data(uint64(2*i+1), "a"))
			m := <-ended
			if m == nil {
				m = <-ended // the message must reach the other one
			} else {
				f.say(data(uint64(2*i+2), "b"))
				if o := <-ended; o != nil {
					ack(t, o)
				} else {
					recv(t, b, "b").Ack()
				}
			}
			ack(t, m)
			cancel()
		}
	})
}

func TestABodyStaysAsItWasHoweverMuchComesLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.Prefetch = 1000 })
		f, _ := newSource('s', wire.Push).attach(t, b)
		var held []*Message
		for i := range 300 {
			f.say(data(uint64(i+1), fmt.Sprintf("%d-%s", i, filler(i*7))))
			m, err := b.Recv(wait(t))
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, m)
			_ = append(m.Body, "written behind the body"...) // it is the receiver's
		}
		for i, m := range held {
			if want := fmt.Sprintf("%d-%s", i, filler(i*7)); string(m.Body) != want {
				t.Fatalf("message %d is %.40q now", i, m.Body)
			}
		}
	})
}

func TestWhoIsNotMeantOrNotWhoItSaysIsRejected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		for name, c := range map[string]struct {
			change func(*source, *wire.Attach)
			code   identity.Code
		}{
			"other kind":        {func(_ *source, a *wire.Attach) { a.Kind = wire.Pub }, CodeNoSocket},
			"other name":        {func(_ *source, a *wire.Attach) { a.Name = "y" }, CodeNoSocket},
			"other nonce":       {func(_ *source, a *wire.Attach) { a.Nonce[5]++ }, identity.CodeIdentity},
			"other incarnation": {func(_ *source, a *wire.Attach) { a.Incarnation++ }, identity.CodeIdentity},
		} {
			s := newSource('s', wire.Push)
			a := s.next()
			c.change(s, &a)
			f := open(t, func(ctx context.Context, conn Conn) error { return b.Serve(ctx, peerOf(s.Local), a, conn) })
			r := parsed(t, wire.ParseRejected, f.one(wire.TypeRejected))
			equal(t, name+": code told", identity.Code(r.Code), c.code)
			f.cut()
			err, _ := f.end()
			var rej *Rejection
			if !errors.As(err, &rej) || rej.Code != c.code || rej.Remote {
				t.Errorf("%s: ended with %v", name, err)
			}
		}
		equal(t, "streams remembered", len(b.streams), 0)
	})
}

func TestARejectedPipeIsClosedEvenIfNobodyReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, conn := Duplex()
		began := time.Now()
		want := &Rejection{Code: CodeLimit, Reason: "because"}
		if err := Reject(t.Context(), near, want); !errors.Is(err, want) {
			t.Errorf("Reject: %v", err)
		}
		equal(t, "waited", time.Since(began), lingerLimit)
		near, _ = Duplex()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Reject(ctx, near, want); !errors.Is(err, want) {
			t.Errorf("Reject: %v", err)
		}
		conn.Close()
	})
}

func TestASecondAttachOfAStreamEndsTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f1, _ := s.attach(t, b)
		f1.say(data(1, "a"), data(2, "b"))
		m := recv(t, b, "a")
		f2, a := s.attach(t, b)
		f1.dead(marks.ErrFenced)
		same(t, "held", a.Held, fmt.Sprintf("[{%d [{1 2}]}]", s.Edition))
		other := newSource('t', wire.Push)
		f3, _ := other.attach(t, b)
		f2.say(data(3, "c"))
		synctest.Wait()
		f3.say(data(3, "d"))
		ack(t, m, recv(t, b, "b"), recv(t, b, "c"), recv(t, b, "d"))
		same(t, "done", told(t, f2.hear(), wire.TypeDone, 0), []uint64{1, 2, 3})
		f2.alive()
		f3.alive()
		equal(t, "pipes", b.Stats().Pipes, 2)
	})
}

// frameAfterFence gives a fenced end a frame, as if it had been read before the fence
// and not yet handled.
func frameAfterFence(e *in, frame []byte) error {
	t, payload, _, _, err := wire.Next(frame)
	if err != nil {
		return err
	}
	return e.receive(t, payload)
}

func TestNoFrameOfAFencedPipeHasAnyEffect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var gaps []Gap
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.OnGap = func(g Gap) { gaps = append(gaps, g) } })
		s := newSource('s', wire.Push)
		f1, _ := s.attach(t, b)
		f1.say(data(1, "a"), data(2, "b"))
		m := recv(t, b, "a")
		old := b.streams[streamKey{s.Node, s.Store}].cur
		f2, _ := s.attach(t, b)
		f2.say(number(wire.TypeRenewed, 1))
		synctest.Wait()
		before := b.Stats()
		for name, frame := range map[string][]byte{
			"DATA":     data(3, "c"),
			"FRAGMENT": wire.AppendFragment(nil, wire.Fragment{Run: wire.Run{Base: 3}, Total: 3, Part: []byte("abc")}),
			"WANT":     wire.AppendWant(nil, wire.Want{Seq: 9, Bytes: 300 << 10}),
			"GAP":      wire.AppendGap(nil, wire.Gap{From: 5, To: 9, Reason: wire.GapDropped}),
			"CONFIRM":  confirm(s.Edition, 1, 2),
			"RENEWED":  number(wire.TypeRenewed, 1),
			"REVOKE":   wire.AppendRevoke(nil, spans(1, 2)),
			"CREDIT":   number(wire.TypeReplyCredit, 1),
			"DETACH":   wire.AppendText(nil, wire.TypeDetach, ""),
		} {
			if err := frameAfterFence(old, frame); err == nil {
				t.Errorf("%s was taken", name)
			}
		}
		if out, fin := old.fill(nil); len(out) != 0 || fin {
			t.Errorf("it says %x, %v", out, fin)
		}
		equal(t, "stats", b.Stats(), before)
		equal(t, "gaps", len(gaps), 0)
		equal(t, "claims", b.cfg.Local.Budget.free, b.cfg.Local.Budget.total)
		ack(t, m)
		same(t, "done is told on the new pipe", told(t, f2.hear(), wire.TypeDone, 0), []uint64{1})
		ack(t, recv(t, b, "b"))
		f2.alive()
	})
}

func TestAnOlderAttachIsRejected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		s.number = 5
		f, _ := s.attach(t, b)
		for _, change := range []func(*source){func(s *source) { s.number = 3 }, func(s *source) { s.number = 5 }} {
			change(s)
			late := s.open(t, b)
			r := parsed(t, wire.ParseRejected, late.one(wire.TypeRejected))
			equal(t, "code", identity.Code(r.Code), identity.CodeSuperseded)
		}
		s.Incarnation, s.number = 0, 9
		late := s.open(t, b)
		late.one(wire.TypeRejected)
		f.alive()
	})
}

func TestAttachedTellsDoneHeldAndWhatIsNotHere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, a := s.attach(t, b)
		equal(t, "number", a.Number, 1)
		equal(t, "nonce", a.Nonce, b.cfg.Local.Nonce)
		equal(t, "store", a.Store, b.cfg.Local.Store)
		equal(t, "window", a.Messages, DefaultPrefetch)
		equal(t, "window bytes", a.Bytes, DefaultPrefetchBytes)
		f.say(data(1, "a"), data(2, "b"), data(3, "c"), data(5, "e"))
		ack(t, recv(t, b, "a"))
		recv(t, b, "b") // begun
		f.cut()
		f, a = s.attach(t, b)
		same(t, "done", a.Done, []wire.EditionRanges{editionOf(s.Edition, 1)})
		same(t, "held", a.Held, "[{"+fmt.Sprint(s.Edition)+" [{2 3} {5 5}]}]")
		equal(t, "room left", a.Messages, DefaultPrefetch-3)
		f.say(confirm(s.Edition, 1))
		f.cut()
		f, a = s.attach(t, b)
		same(t, "done after CONFIRM", a.Done, []wire.EditionRanges(nil))
		f.say(confirm(s.Edition, 1), confirm(s.Edition, 1), confirm(77, 1)) // repeated, and of no known edition
		f.alive()
	})
}

func TestConfirmEmptiesTheMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		st := b.streams[streamKey{s.Node, s.Store}]
		for i := range uint64(1000) {
			f.say(data(i+1, "a"))
			ack(t, recv(t, b, "a"))
			f.say(confirm(s.Edition, i+1))
			synctest.Wait() // until there is credit for the next
		}
		synctest.Wait()
		equal(t, "marks", st.memory.Unconfirmed(), 0)
		equal(t, "held", st.memory.Held(), 0)
	})
}

func TestAttachWithAStartForgetsWhatLiesBelow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"))
		ack(t, recv(t, b, "a"), recv(t, b, "b"))
		f.cut()
		s.start = 2
		_, a := s.attach(t, b)
		same(t, "done", a.Done, []wire.EditionRanges{editionOf(s.Edition, 2)})
	})
}

func TestAStreamThatIsForgottenSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		s.last = b.cfg.Local.Store
		f, a := s.attach(t, b)
		equal(t, "never met, but named as met", a.Forgotten, true)
		f.cut()
		f, a = s.attach(t, b)
		equal(t, "while nobody knows whether that was read", a.Forgotten, true)
		f.say(confirm(s.Edition, 1))
		f.cut()
		time.Sleep(Grace)
		f, a = s.attach(t, b)
		equal(t, "within the grace time", a.Forgotten, false)
		f.say(data(1, "a"))
		m := recv(t, b, "a")
		f.cut()
		time.Sleep(Grace + 1)
		f, a = s.attach(t, b)
		equal(t, "with a message in hand", a.Forgotten, false)
		same(t, "held", a.Held, []wire.EditionRanges{editionOf(s.Edition, 1)})
		ack(t, m)
		f.cut()
		time.Sleep(Grace + 1)
		_, a = s.attach(t, b)
		equal(t, "after the grace time", a.Forgotten, true)
		same(t, "done", a.Done, []wire.EditionRanges(nil))
		fresh := newSource('t', wire.Push)
		_, a = fresh.attach(t, b)
		equal(t, "never met", a.Forgotten, false)
	})
}

func TestOnePeersStreamsAreLimitedAndOthersNotAffected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		var pipes []*far
		for i := range streamsPerPeer {
			s.Store = [16]byte{byte(i), 9}
			f, _ := s.attach(t, b)
			pipes = append(pipes, f)
		}
		s.Store = [16]byte{0xff, 9}
		f := s.open(t, b)
		r := parsed(t, wire.ParseRejected, f.one(wire.TypeRejected))
		equal(t, "code", identity.Code(r.Code), CodeLimit)
		newSource('t', wire.Push).attach(t, b)
		for _, f := range pipes {
			f.cut()
		}
		f = s.open(t, b)
		f.one(wire.TypeRejected)
		time.Sleep(Grace + 1)
		s.attach(t, b)
	})
}

func TestAMessageThatExpiresBeforeItIsBegunIsGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		rec := func(ttl time.Duration, body string) wire.Record { return wire.Record{TTL: ttl, Body: []byte(body)} }
		f.say(dataOf(wire.Run{Base: 1, Attempt: 1, Age: 500 * time.Millisecond}, rec(time.Second, "a"), rec(501*time.Millisecond, "b"), rec(0, "c")))
		synctest.Wait()
		time.Sleep(time.Millisecond)
		m := recv(t, b, "a")
		time.Sleep(time.Second) // begun in time: it is not taken away
		f.hear()
		ack(t, m, recv(t, b, "c"))
		fs := f.hear()
		same(t, "expired", told(t, fs, wire.TypeNack, wire.NackExpired), []uint64{2})
		same(t, "done", told(t, fs, wire.TypeDone, 0), []uint64{1, 3})
		equal(t, "expired", b.Stats().Expired, 1)
	})
}

func TestANackIsKeptUntilItWasCertainlyRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var back []uint64
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.OnNack = func(m *Message) { back = append(back, m.Seq()) } })
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), number(wire.TypeRenewed, 1))
		m := recv(t, b, "a")
		f.hear()
		if err := m.NackAfter(errors.New("no luck"), 3*time.Second); err != nil {
			t.Fatal(err)
		}
		n := parsed(t, wire.ParseNack, f.one(wire.TypeNack))
		same(t, "NACK", n, wire.Nack{Reason: wire.NackHandler, Delay: 3 * time.Second, Edition: s.Edition, Ranges: spans(1), Text: "no luck"})
		f.cut()
		f, a := s.attach(t, b)
		same(t, "held while nobody knows whether the NACK was read", a.Held, []wire.EditionRanges{editionOf(s.Edition, 1)})
		fs := f.hear()
		_ = fs
		f.cut()
		f, a = s.attach(t, b)
		same(t, "held", a.Held, []wire.EditionRanges{editionOf(s.Edition, 1)})
		time.Sleep(RenewEvery)
		f.say(number(wire.TypeRenewed, 1)) // its answer: NACK came before RENEW 1
		f.alive()
		f.cut()
		_, a = s.attach(t, b)
		same(t, "held after RENEWED", a.Held, []wire.EditionRanges(nil))
		same(t, "back", back, []uint64{1})
	})
}

func TestANackIsToldAgainOnTheNextPipe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"))
		m := recv(t, b, "a")
		f.cut()
		m.Nack(nil)
		for range 3 {
			g := s.open(t, b)
			same(t, "given back", told(t, g.hear(), wire.TypeNack, wire.NackHandler), []uint64{1})
			g.cut()
		}
		g, _ := s.attach(t, b)
		g.say(dataOf(wire.Run{Base: 1, Attempt: 2, Redelivered: true}, wire.Record{Body: []byte("a")}))
		m = recv(t, b, "a") // sent again: so the NACK was read
		equal(t, "attempt", m.Attempt(), 2)
		g.cut()
		_, a := s.attach(t, b)
		same(t, "held", a.Held, []wire.EditionRanges{editionOf(s.Edition, 1)})
	})
}

// Were it not here as long as nobody knows whether that was read, its next delivery would not be flagged.
func TestAReleasedMessageIsHeldUntilThatWasCertainlyRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var back []uint64
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.OnNack = func(m *Message) { back = append(back, m.Seq()) } })
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"), number(wire.TypeRenewed, 1))
		m, other := recv(t, b, "a"), recv(t, b, "b")
		f.hear()
		if err := errors.Join(m.Release(), m.Release(), m.Ack()); err != nil {
			t.Fatal(err)
		}
		n := parsed(t, wire.ParseNack, f.one(wire.TypeNack))
		same(t, "NACK", n, wire.Nack{Reason: wire.NackReleased, Edition: s.Edition, Ranges: spans(1)})
		f.cut()
		f, a := s.attach(t, b)
		same(t, "held", a.Held, fmt.Sprintf("[{%d [{1 2}]}]", s.Edition))
		f.cut()
		f = s.open(t, b)
		same(t, "told again", told(t, f.hear(), wire.TypeNack, wire.NackReleased), []uint64{1})
		time.Sleep(RenewEvery)
		f.say(number(wire.TypeRenewed, 1))
		f.alive()
		f.cut()
		_, a = s.attach(t, b)
		same(t, "held after RENEWED", a.Held, []wire.EditionRanges{editionOf(s.Edition, 2)})
		ack(t, other)
		if err := other.Release(); err != nil {
			t.Errorf("Release after Ack: %v", err)
		}
		same(t, "back", back, []uint64{1})
		st := b.Stats()
		same(t, "released, nacked, done, begun", []uint64{st.Released, st.Nacked, st.Done, uint64(st.Begun)}, []uint64{1, 0, 1, 0})
	})
}

func TestAReleasedRequestIsNotHere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 1<<20)
		f, _ := s.attach(t, b)
		f.say(data(1, "q"), data(2, "r"))
		m, other := recv(t, b, "q"), recv(t, b, "r")
		if err := errors.Join(m.Release(), m.Release(), b.Reply(m, wire.OK, nil)); err != nil {
			t.Fatal(err)
		}
		fs := f.hear()
		same(t, "given back", told(t, fs, wire.TypeNack, wire.NackReturned), []uint64{1})
		same(t, "replies", replies(t, fs), []string(nil))
		f.cut()
		if err := other.Release(); err != nil {
			t.Fatal(err)
		}
		_, a := s.attach(t, b)
		same(t, "done", a.Done, []wire.EditionRanges(nil))
		same(t, "held", a.Held, []wire.EditionRanges(nil))
		same(t, "lost", a.Lost, []wire.EditionRanges(nil))
		st := b.Stats()
		same(t, "released, done, begun", []uint64{st.Released, st.Done, uint64(st.Begun)}, []uint64{2, 0, 0})
	})
}

// Erased is that it was begun, so the next life has no doubt; one that died before says no more than it knows.
func TestARequestThatWasReleasedIsNotHereInTheNextLifeEither(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &shelf{}
		b := replier(t, d)
		s := careful('s')
		f, _ := s.attach(t, b)
		f.say(data(1, "q"), data(2, "r"))
		m := starts(t, b, "q")
		same(t, "on disk", d.requests(), "[1:0]")
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
		if err := b.Reply(starts(t, b, "r"), wire.OK, nil); err != nil { // what is erased goes along
			t.Fatal(err)
		}
		same(t, "given back", told(t, f.hear(), wire.TypeNack, wire.NackReturned), []uint64{1})
		same(t, "on disk", d.requests(), "[2:1]")
	})
}

func TestWhatWasNotReceivedIsNotReleased(t *testing.T) {
	if (&Message{}).Release() == nil {
		t.Error("a message of one's own is released")
	}
}

func TestRevokeDropsWhatIsQueuedAndCancelsWhatIsBegun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.Prefetch = 2 })
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"))
		m := recv(t, b, "a")
		cause := make(chan error, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			handleOne(t.Context(), b, m, 0, func(ctx context.Context) error {
				<-ctx.Done()
				cause <- context.Cause(ctx)
				return nil
			})
		})
		f.hear()
		f.say(wire.AppendRevoke(nil, editionOf(0, 1).Ranges), wire.AppendRevoke(nil, spans(2, 9)))
		if err := <-cause; !errors.Is(err, ErrRevoked) {
			t.Errorf("the handler's context ended with %v", err)
		}
		wg.Wait()
		none(t, b)
		if c := f.only(wire.TypeCredit); len(c) == 0 {
			t.Error("the room of the revoked message is not announced")
		}
		if err := m.Nack(errors.New("revoked")); err != nil {
			t.Error(err)
		}
		same(t, "answered", told(t, f.hear(), wire.TypeNack, wire.NackHandler), []uint64{1})
	})
}

func TestDrainGivesBackWhatIsNotBegunAndWaitsForTheRest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"), data(3, "c"))
		m := recv(t, b, "a")
		f.hear()
		drained := make(chan error, 1)
		go func() { drained <- b.Drain(wait(t)) }()
		synctest.Wait()
		f.say(data(4, "d")) // was on its way
		fs := f.hear()
		same(t, "given back", told(t, fs, wire.TypeNack, wire.NackReturned), []uint64{2, 3, 4})
		if len(drained) > 0 {
			t.Fatal("Drain did not wait for what is begun")
		}
		if _, err := b.Recv(wait(t)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Recv while it drains: %v", err)
		}
		late := newSource('t', wire.Push).open(t, b)
		late.one(wire.TypeRejected)
		late.cut()
		ack(t, m)
		fs = f.hear()
		same(t, "done", told(t, fs, wire.TypeDone, 0), []uint64{1})
		if len(fs) == 0 || fs[len(fs)-1].t != wire.TypeLeave {
			t.Errorf("it did not leave: %v", types(fs))
		}
		if len(drained) > 0 {
			t.Fatal("Drain did not wait for the sender to read its answers")
		}
		f.conn.CloseWrite()
		if err := <-drained; err != nil {
			t.Errorf("Drain: %v", err)
		}
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(data(1, "a"))
		m := recv(t, b, "a")
		if err := b.Drain(soon(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain with a message in hand: %v", err)
		}
		ack(t, m)
		if err := b.Drain(soon(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain with a sender that reads nothing: %v", err)
		}
		f.conn.CloseWrite()
	})
}

func TestCloseGivesBackWhatIsNotBegunAndLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"))
		m := recv(t, b, "a")
		f.hear()
		closed := make(chan error, 1)
		go func() { closed <- b.Close() }()
		fs := f.hear()
		same(t, "given back", told(t, fs, wire.TypeNack, wire.NackReturned), []uint64{2})
		same(t, "answered", told(t, fs, wire.TypeDone, 0), []uint64(nil))
		last := fs[len(fs)-1]
		equal(t, "leaves", last.t, wire.TypeLeave)
		same(t, "begun", parsed(t, wire.ParseLeave, last.payload).Begun, []wire.EditionRanges{editionOf(s.Edition, 1)})
		f.conn.CloseWrite()
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
		f.dead(nil)
		if err := errors.Join(b.Close(), b.Close()); err != nil {
			t.Errorf("Close again: %v", err)
		}
		for what, err := range map[string]error{"Ack": m.Ack(), "Nack": m.Nack(nil), "Reply": b.Reply(m, wire.OK, nil)} {
			if !errors.Is(err, net.ErrClosed) || !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
		if _, err := b.Recv(wait(t)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Recv after Close: %v", err)
		}
	})
}

func TestCloseEndsRecvsAndHandlersAndWaitsForNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(data(1, "a"))
		m := recv(t, b, "a")
		ended := make(chan error, 2)
		go func() { _, err := b.Recv(wait(t)); ended <- err }()
		go func() {
			ended <- handleOne(wait(t), b, m, 0, func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
		}()
		synctest.Wait()
		began := time.Now()
		if err := b.Close(); err != nil { // nobody reads at the other end
			t.Errorf("Close: %v", err)
		}
		equal(t, "Close took", time.Since(began), closeWait)
		for range 2 {
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("ended with %v", err)
			}
		}
		f.dead(ErrClosed)
	})
}

func TestADetachedPipesQueuedMessagesAreLetGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "a"), data(2, "b"))
		m := recv(t, b, "a")
		f.hear()
		f.say(wire.AppendText(nil, wire.TypeDetach, "closed"))
		synctest.Wait()
		f.conn.CloseWrite()
		f.dead(nil)
		none(t, b)
		ack(t, m)
		_, a := s.attach(t, b)
		same(t, "held", a.Held, []wire.EditionRanges(nil))
		same(t, "done", a.Done, []wire.EditionRanges{editionOf(s.Edition, 1)})
	})
}

func TestAHandlersTimeoutGivesItsMessageBackAndEndsItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		const tries = 50 // what the handler says when the time is over comes too late each time
		for seq := uint64(1); seq <= tries; seq++ {
			f.say(data(seq, "a"), number(wire.TypeRenewed, seq))
			m := recv(t, b, "a")
			f.hear()
			err := handleOne(t.Context(), b, m, RenewEvery, func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
			if !errors.Is(err, ErrHandlerTimeout) {
				t.Errorf("handler's context: %v", err)
			}
			ack(t, m)
			fs := f.hear()
			same(t, "timed out", told(t, fs, wire.TypeNack, wire.NackTimeout), []uint64{seq})
			same(t, "done", told(t, fs, wire.TypeDone, 0), []uint64(nil))
		}
		st := b.Stats()
		equal(t, "begun", st.Begun, 0)
		equal(t, "nacked", st.Nacked, tries)
		equal(t, "done", st.Done, 0)
	})
}

// A sender tells again what it told on a pipe that broke.
func TestAGapThatIsToldOnTwoPipesIsReportedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var gaps []string
		b := newInbox(t, wire.Pull, func(c *InboxConfig) {
			c.OnGap = func(g Gap) { gaps = append(gaps, fmt.Sprintf("%d-%d %s", g.From, g.To, g.Reason)) }
		})
		s := newSource('s', wire.Push)
		for range 3 {
			f, _ := s.attach(t, b)
			f.say(wire.AppendGap(nil, wire.Gap{From: 3, To: 5, Reason: wire.GapDead}))
			f.say(wire.AppendGap(nil, wire.Gap{From: 5, To: 6, Reason: wire.GapExpired}))
			synctest.Wait()
			f.cut()
		}
		same(t, "gaps", gaps, "[3-5 dead 6-6 expired]")
		equal(t, "counted", b.Stats().Gaps, 4)
	})
}

// A gap spares what is here all the same, also when it is told again after the marks are gone.
func TestAGapThatIsToldAgainSparesWhatItSparedBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var gaps []string
		b := newInbox(t, wire.Pull, func(c *InboxConfig) {
			c.OnGap = func(g Gap) { gaps = append(gaps, fmt.Sprintf("%d-%d %s", g.From, g.To, g.Reason)) }
		})
		s := newSource('s', wire.Push)
		gap := wire.AppendGap(nil, wire.Gap{From: 1, To: 5, Reason: wire.GapDropped})
		f, _ := s.attach(t, b)
		for i, body := range []string{"done", "begun", "nacked", "waits"} {
			f.say(data(uint64(i)+1, body))
		}
		ack(t, recv(t, b, "done"))
		begun, nacked := recv(t, b, "begun"), recv(t, b, "nacked")
		f.say(gap)
		synctest.Wait()
		same(t, "gaps at first", gaps, "[5-5 dropped]")
		ack(t, begun)
		nacked.Nack(errors.New("boom"))
		f.say(confirm(s.Edition, 1))
		f.say(confirm(s.Edition, 2))
		f.say(wire.AppendRevoke(nil, spans(4)))
		synctest.Wait()
		f.cut()
		f, _ = s.attach(t, b)
		f.say(gap)
		synctest.Wait()
		same(t, "gaps", gaps, "[5-5 dropped 3-4 dropped]")
	})
}

// What the sender of an earlier life was to get back is a hole when its next life has it no more.
func TestAGapOfTheNextLifeCoversWhatWasNacked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var gaps []string
		b := newInbox(t, wire.Pull, func(c *InboxConfig) {
			c.OnGap = func(g Gap) { gaps = append(gaps, fmt.Sprintf("%d-%d %s", g.From, g.To, g.Reason)) }
		})
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		f.say(data(1, "nacked"))
		f.say(data(2, "waits"))
		recv(t, b, "nacked").Nack(errors.New("boom"))
		f.cut()
		s.Edition, s.Incarnation, s.Nonce[7] = s.Edition+1, s.Incarnation+1, 7
		f, _ = s.attach(t, b)
		f.say(wire.AppendGap(nil, wire.Gap{From: 1, To: 2, Reason: wire.GapIncarnation}))
		synctest.Wait()
		same(t, "gaps", gaps, "[1-1 incarnation]")
		ack(t, recv(t, b, "waits"))
	})
}

func TestGapsAreToldBeforeTheNextMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var story []string
		note := func(s string) { mu.Lock(); story = append(story, s); mu.Unlock() }
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.OnGap = func(g Gap) { note(fmt.Sprintf("%d-%d %s", g.From, g.To, g.Reason)) } })
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		go func() {
			for {
				m, err := b.Recv(wait(t))
				if err != nil {
					return
				}
				note(string(m.Body))
				m.Ack()
			}
		}()
		f.say(data(1, "a"))
		synctest.Wait()
		for r := wire.GapExpired; r <= wire.GapDropped; r++ {
			f.say(append(wire.AppendGap(nil, wire.Gap{From: uint64(r) * 10, To: uint64(r)*10 + 5, Reason: r}), data(uint64(r)*10+6, "m")...))
			synctest.Wait()
		}
		mu.Lock()
		defer mu.Unlock()
		same(t, "story", story, "[a 10-15 expired m 20-25 retention m 30-35 dead m 40-45 corrupt m 50-55 incarnation m 60-65 dropped m]")
		equal(t, "gaps", b.Stats().Gaps, 36)
	})
}
