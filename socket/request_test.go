package socket

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
)

func replyOf(seq uint64, out Outcome, total, offset int, part []byte) []byte {
	return wire.AppendReply(nil, wire.Reply{Edition: localOf('s').Edition, Seq: seq, Outcome: out, Total: uint64(total), Offset: uint64(offset), Part: part})
}

func (o *owner) ask(n int) {
	for range n {
		o.send(&Message{Body: []byte("q"), TTL: time.Minute})
	}
}

func TestARequestIsSettledByItsReplyAndConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Req)
		f, a := o.meet(localOf('r'))
		equal(t, "room for replies", a.ReplyCredit, 1<<20)
		f.say(wire.AppendAttached(nil, greet(localOf('r'), a)))
		o.ask(3)
		same(t, "sent", bodies(t, f.hear()), "[1.1 q 2.1 q 3.1 q]")
		f.say(replyOf(2, wire.Error, 3, 0, []byte("bad")), replyOf(1, wire.OK, 0, 0, nil), replyOf(3, wire.Failed, 4, 0, []byte("fail")))
		synctest.Wait()
		same(t, "answers, nothing else having come", o.answers(), "[2 error 3 bad 1 ok 0  3 failed 4 fail]")
		same(t, "confirmed", told(t, f.renews(), wire.TypeConfirm, 0), []uint64{1, 2, 3})
		f.say(replyOf(1, wire.OK, 5, 0, []byte("again"))) // its CONFIRM may have been lost
		same(t, "confirmed", told(t, f.renews(), wire.TypeConfirm, 0), []uint64{1})
		same(t, "answers", len(o.answers()), 3)
		equal(t, "done", o.counts().Done, 3)
	})
}

func TestALargeReplyIsPutTogetherAndPaidFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Req)
		f := o.met(localOf('r'))
		o.ask(1)
		f.hear()
		body := filler(1 << 20)
		var credit []uint64
		for at := 0; at < len(body); at += wire.MaxFragment {
			f.say(replyOf(1, wire.OK, len(body), at, body[at:min(len(body), at+wire.MaxFragment)]))
			for _, p := range f.only(wire.TypeReplyCredit) {
				credit = append(credit, parsed(t, wire.ParseNumber, p))
			}
		}
		same(t, "answers", o.answers(), "[1 ok 1048576 0123456789abcdef0123]")
		if len(credit) != 1 || credit[0] < 3<<19 {
			t.Errorf("credit %v", credit)
		}
	})
}

func TestRepliesThatNoHonestReplierSendsEndThePipe(t *testing.T) {
	part := filler(wire.MaxFragment)
	for name, c := range map[string]struct {
		frames [][]byte
		want   error // nil: any
	}{
		"unsent":             {[][]byte{replyOf(9, wire.OK, 0, 0, nil)}, ledger.ErrForged{Seq: 9}},
		"unsent, first part": {[][]byte{replyOf(9, wire.OK, 1<<20, 0, part)}, ledger.ErrForged{Seq: 9}},
		"seq 0":              {[][]byte{replyOf(0, wire.OK, 0, 0, nil)}, ledger.ErrForged{Seq: 0}},
		"sent to another":    {[][]byte{replyOf(3, wire.OK, 0, 0, nil)}, ledger.ErrForged{Seq: 3}},
		"oversized":          {[][]byte{replyOf(1, wire.OK, 2<<20, 0, part)}, ErrTooLarge},
		"not from the start": {[][]byte{replyOf(1, wire.OK, 100, 50, part[:50])}, errUnexpected},
		"a hole":             {[][]byte{replyOf(1, wire.OK, 100, 0, part[:10]), replyOf(1, wire.OK, 100, 20, part[:80])}, errUnexpected},
		"another in between": {[][]byte{replyOf(1, wire.OK, 100, 0, part[:10]), replyOf(2, wire.OK, 10, 0, part[:10])}, errUnexpected},
		"another total":      {[][]byte{replyOf(1, wire.OK, 100, 0, part[:10]), replyOf(1, wire.OK, 101, 10, part[:10])}, errUnexpected},
		"another outcome":    {[][]byte{replyOf(1, wire.OK, 100, 0, part[:10]), replyOf(1, wire.Error, 100, 10, part[:10])}, errUnexpected},
		"no outcome":         {[][]byte{replyOf(1, 0, 0, 0, nil)}, wire.ErrMalformed},
		"DONE for a request": {[][]byte{done(localOf('s').Edition, 1)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOwner(t, wire.Req)
				f := o.met(localOf('r'))
				o.ask(2)
				f.hear()
				g := o.met(localOf('q'))
				o.ask(1)
				same(t, "sent", bodies(t, g.hear()), "[3.1 q]")
				f.say(c.frames...)
				err, over := f.end()
				if !over || err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Fatalf("ended %v with %v, want %v", over, err, c.want)
				}
				g.alive()
				same(t, "answers", o.answers(), []string(nil))
			})
		})
	}
}

func TestNoMoreOfRepliesIsTakenThanWasPaidFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const credit = 100 << 10
		o := newOwner(t, wire.Req, func(c *OutboxConfig) { c.ReplyCredit = credit })
		r := localOf('r')
		p, _ := o.box.begin(peerOf(r), wire.Offer{}, 0, nil) // nobody writes, and so no more credit is given
		a := greet(r, p.attach)
		if err := p.receive(wire.TypeAttached, parsedPayload(t, wire.AppendAttached(nil, a))); err != nil {
			t.Fatal(err)
		}
		o.ask(1)
		p.fill(nil)
		p.fill(nil)
		part := filler(wire.MaxFragment)
		got := 0
		for {
			frame := replyOf(1, wire.OK, 1<<20, got, part)
			if err := p.receive(wire.TypeReply, parsedPayload(t, frame)); err != nil {
				t.Fatal(err)
			}
			if _, err := p.settle(); err != nil {
				break
			}
			got += len(part)
		}
		if got < credit || got > credit+wire.MaxFragment {
			t.Errorf("%d bytes were taken, and %d were paid for", got, credit)
		}
		o.box.end(p, errUnexpected)
	})
}

func TestAReplysMemoryGrowsWithWhatArrived(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Req)
		f := o.met(localOf('r'))
		o.ask(1)
		f.hear()
		f.say(replyOf(1, wire.OK, 1<<20, 0, []byte("x")))
		f.alive()
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, p := range o.box.pipes {
			if c := cap(p.part.buf); c > 2*wire.MaxFragment {
				t.Errorf("%d bytes are set aside for one that came", c)
			}
		}
	})
}

func TestHalfAReplyDiesWithItsPipeAndComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Req)
		r := localOf('r')
		f := o.met(r)
		o.ask(1)
		f.hear()
		f.say(replyOf(1, wire.OK, 4, 0, []byte("ab")))
		f.cut()
		f, a := o.meet(r)
		at := greet(r, a)
		at.Done = []wire.EditionRanges{editionOf(o.local.Edition, 1)}
		f.say(wire.AppendAttached(nil, at))
		fs := f.hear()
		same(t, "sent again", bodies(t, fs), []string(nil))
		same(t, "confirmed without its reply", told(t, fs, wire.TypeConfirm, 0), []uint64(nil))
		f.say(replyOf(1, wire.OK, 4, 0, []byte("abcd")))
		f.alive()
		same(t, "answers", o.answers(), "[1 ok 4 abcd]")
	})
}

func TestACancelledRequestIsRevokedAndItsReplyStillConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Req)
		f := o.met(localOf('r'))
		o.ask(1)
		f.hear()
		o.mu.Lock()
		o.box.Ledger().Cancel(1)
		o.box.Kick()
		o.mu.Unlock()
		same(t, "revoked", told(t, f.hear(), wire.TypeRevoke, 0), []uint64{1})
		f.say(replyOf(1, wire.Error, 1, 0, []byte("x")))
		same(t, "confirmed", told(t, f.renews(), wire.TypeConfirm, 0), []uint64{1})
		same(t, "answers", o.answers(), []string(nil))
	})
}

func TestALargeRequestThatIsDeclinedHoldsUpNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Req)
		f := o.met(localOf('r'))
		o.send(&Message{Body: filler(300 << 10), TTL: time.Minute})
		o.ask(1)
		f.one(wire.TypeWant)
		f.say(replyOf(1, wire.Failed, 0, 0, nil))
		same(t, "sent", bodies(t, f.hear()), "[2.1 q]")
		same(t, "answers", o.answers(), "[1 failed 0 ]")
	})
}

// A pipe whose other end does not read for long enough that requests run into their
// deadline before they are written must not lose its credit to them.
func TestRequestsThatExpireBeforeTheyAreWrittenUseUpNoCredit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOwner(t, wire.Req)
		r := localOf('r')
		near, conn := Duplex()
		ended := make(chan error, 1)
		go func() { ended <- o.box.Meet(wait(t), peerOf(r), wire.Offer{Kind: wire.Rep, Name: "x"}, 0, near) }()
		_, payload, err := ReadFrame(conn, 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		at := greet(r, parsed(t, wire.ParseAttach, payload))
		at.Messages, at.Bytes = 8, 4<<20
		conn.Write(wire.AppendAttached(nil, at))
		synctest.Wait()
		for range 2 { // 500 KiB do not fit into the pipe: the writer is stuck
			o.send(&Message{Body: filler(250 << 10), TTL: time.Minute})
		}
		synctest.Wait()
		for range 6 {
			o.send(&Message{Body: []byte("q"), TTL: time.Second})
		}
		time.Sleep(2 * time.Second)
		o.tick()
		equal(t, "expired", o.counts().Expired, 6)
		o.ask(1)
		f := &far{TB: t, conn: conn}
		go f.listen()
		got := bodies(t, f.hear())
		if len(got) != 3 || got[2] != "9.1 q" {
			t.Errorf("sent %v, want 1, 2 and 9", fmt.Sprint(got))
		}
		conn.Close()
		<-ended
	})
}
