package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
)

// replies are the parts that came, as seq, outcome, offset, length and total.
func replies(t testing.TB, fs []frame) (out []string) {
	t.Helper()
	for _, f := range fs {
		if f.t == wire.TypeReply {
			r := parsed(t, wire.ParseReply, f.payload)
			out = append(out, fmt.Sprintf("%d %v %d+%d/%d", r.Seq, r.Outcome, r.Offset, len(r.Part), r.Total))
		}
	}
	return out
}

func newRequester(id byte, credit uint64) *source {
	s := newSource(id, wire.Req)
	s.replies = credit
	return s
}

func TestAReplyIsSentAndKeptUntilItIsConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		final := 0
		b := newInbox(t, wire.Rep, func(c *InboxConfig) { c.OnDone = func(*Message) { final++ } })
		s := newRequester('s', 1<<20)
		f, _ := s.attach(t, b)
		f.say(data(1, "q"), data(2, "r"))
		m, n := recv(t, b, "q"), recv(t, b, "r")
		if err := errors.Join(b.Reply(m, wire.OK, []byte("answer")), b.Reply(n, wire.Error, nil), b.Reply(m, wire.Error, nil)); err != nil {
			t.Fatal(err)
		}
		fs := f.hear()
		same(t, "replies", replies(t, fs), "[1 ok 0+6/6 2 error 0+0/0]")
		same(t, "DONEs", told(t, fs, wire.TypeDone, 0), []uint64(nil))
		equal(t, "final", final, 2)
		for range 2 { // cut before CONFIRM
			f.cut()
			f = s.open(t, b)
			fs = f.hear()
			same(t, "done", parsed(t, wire.ParseAttached, fs[0].payload).Done, fmt.Sprintf("[{%d [{1 2}]}]", s.Edition))
			same(t, "replies", replies(t, fs), "[1 ok 0+6/6 2 error 0+0/0]")
		}
		f.say(data(1, "q")) // again, although it is done
		none(t, b)
		f.say(confirm(s.Edition, 1), confirm(s.Edition+1, 2))
		f.hear()
		f.cut()
		f = s.open(t, b)
		same(t, "replies not confirmed", replies(t, f.hear()), "[2 error 0+0/0]")
		st := b.streams[streamKey{s.Node, s.Store}]
		equal(t, "cached", st.cached, 0)
	})
}

func TestRepliesBelowTheStartOfAnAttachAreForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 1<<20)
		f, _ := s.attach(t, b)
		f.say(data(1, "q"), data(2, "r"))
		b.Reply(recv(t, b, "q"), wire.OK, []byte("one"))
		b.Reply(recv(t, b, "r"), wire.OK, []byte("two"))
		f.cut()
		s.start = 2
		f = s.open(t, b)
		same(t, "replies", replies(t, f.hear()), "[2 ok 0+3/3]")
		equal(t, "cached", b.streams[streamKey{s.Node, s.Store}].cached, 3)
	})
}

func TestAReplyWaitsForTheRequestersRoomInParts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 100<<10)
		f, _ := s.attach(t, b)
		f.say(data(1, "q"), data(2, "r"))
		m, n := recv(t, b, "q"), recv(t, b, "r")
		b.Reply(m, wire.OK, filler(300<<10))
		b.Reply(n, wire.OK, []byte("small"))
		got := replies(t, f.hear())
		same(t, "parts", got, "[1 ok 0+32768/307200 1 ok 32768+32768/307200 1 ok 65536+32768/307200 1 ok 98304+32768/307200]")
		f.say(number(wire.TypeReplyCredit, 10)) // less than before: no news
		same(t, "parts", replies(t, f.hear()), []string(nil))
		f.say(number(wire.TypeReplyCredit, 300<<10))
		same(t, "parts", len(replies(t, f.hear())), 6)
		f.say(number(wire.TypeReplyCredit, 1<<20))
		same(t, "parts", replies(t, f.hear()), "[2 ok 0+5/5]")
	})
}

func TestALargeReplyIsWholeForWhoReadsInParts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		f, _ := newRequester('s', 1<<20).attach(t, b)
		f.say(data(1, "q"))
		body := filler(1 << 20)
		b.Reply(recv(t, b, "q"), wire.OK, body)
		var got []byte
		for _, p := range f.only(wire.TypeReply) {
			r := parsed(t, wire.ParseReply, p)
			equal(t, "offset", r.Offset, uint64(len(got)))
			got = append(got, r.Part...)
		}
		if !bytes.Equal(got, body) {
			t.Errorf("%d bytes of %d, or others", len(got), len(body))
		}
	})
}

func TestAConfirmedReplyIsNotSentOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 32<<10)
		f, _ := s.attach(t, b)
		f.say(data(1, "q"), data(2, "r"))
		m, n := recv(t, b, "q"), recv(t, b, "r")
		b.Reply(m, wire.OK, filler(300<<10))
		same(t, "parts", replies(t, f.hear()), "[1 ok 0+32768/307200]")
		f.say(confirm(s.Edition, 1))
		b.Reply(n, wire.OK, []byte("next"))
		f.say(number(wire.TypeReplyCredit, 1<<20))
		same(t, "parts", replies(t, f.hear()), "[2 ok 0+4/4]")
	})
}

func TestAReplyThatOneSideCannotTakeIsAnErrorAndNotSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 1<<20)
		s.MaxMessage = 1000
		f, _ := s.attach(t, b)
		for i, size := range []int{1001, 2 << 20} {
			f.say(data(uint64(i+1), "q"))
			b.Reply(recv(t, b, "q"), wire.OK, filler(size))
			r := parsed(t, wire.ParseReply, f.one(wire.TypeReply))
			equal(t, "outcome", r.Outcome, wire.Error)
			if !strings.Contains(string(r.Part), fmt.Sprintf("%d bytes, at most 1000", size)) {
				t.Errorf("it says %q", r.Part)
			}
		}
	})
}

func TestNoRequestsAreTakenWhileTooManyRepliesAreUnconfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep, func(c *InboxConfig) { c.Prefetch = 1; c.Local.MaxMessage = 20 << 20 })
		s := newRequester('s', 1<<30)
		s.MaxMessage = 20 << 20
		f, _ := s.attach(t, b)
		f.say(data(1, "q"))
		b.Reply(recv(t, b, "q"), wire.OK, filler(maxReplyCache+1))
		if c := f.only(wire.TypeCredit); len(c) > 0 {
			t.Errorf("credit %x", c)
		}
		f.say(confirm(s.Edition, 1))
		if c := f.only(wire.TypeCredit); len(c) != 1 {
			t.Errorf("%d CREDITs", len(c))
		}
	})
}

func TestARequestHasALevelWithAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 1<<20)
		s.level = BestEffort
		f := s.open(t, b)
		equal(t, "code", identity.Code(parsed(t, wire.ParseRejected, f.one(wire.TypeRejected)).Code), CodeLimit)
	})
}

func TestACancelledRequestsHandlerIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		s := newRequester('s', 1<<20)
		f, _ := s.attach(t, b)
		f.say(data(1, "q"))
		m := recv(t, b, "q")
		ended := make(chan error, 1)
		go func() {
			ended <- handleOne(t.Context(), b, m, 0, func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
		}()
		synctest.Wait()
		f.say(wire.AppendRevoke(nil, spans(1)))
		select {
		case err := <-ended:
			if !errors.Is(err, ErrRevoked) {
				t.Errorf("handler's context: %v", err)
			}
		case <-wait(t).Done():
			t.Fatal("the handler is not told")
		}
		b.Reply(m, wire.Error, []byte("revoked"))
		same(t, "reply", replies(t, f.hear()), "[1 error 0+7/7]")
	})
}

// A requester that leaves must not keep a closing replier: what waits for its room
// will never get any.
func TestLeavingWaitsForRepliesButNotForAnEndedRequester(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Rep)
		f, _ := newRequester('s', 1).attach(t, b)
		f.say(data(1, "q"), data(2, "r"))
		m, n := recv(t, b, "q"), recv(t, b, "r")
		b.Reply(m, wire.OK, []byte("first"))
		b.Reply(n, wire.OK, []byte("second"))
		drained := make(chan error, 1)
		go func() { drained <- b.Drain(wait(t)) }()
		fs := f.hear()
		same(t, "replies", replies(t, fs), "[1 ok 0+5/5]")
		if fs[len(fs)-1].t == wire.TypeLeave {
			t.Error("it left with a reply unsaid")
		}
		time.Sleep(time.Minute)
		f.hear()
		f.say(wire.AppendText(nil, wire.TypeDetach, "closed"))
		f.conn.CloseWrite()
		if err := <-drained; err != nil {
			t.Errorf("Drain: %v", err)
		}
		f.dead(nil)
	})
}
