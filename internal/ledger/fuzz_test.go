package ledger

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// A string of bytes is a sequence of calls, among them the answers of consumers that
// say whatever they like. Nothing may panic, every call leaves the ledger in order
// (I13 and all that problem looks at), and afterwards one honest consumer can be done
// with everything.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 2, 9, 0, 0, 1, 1, 2, 0, 3, 0, 1, 2, 5, 0, 9, 1, 0})
	f.Add([]byte("\x01the quick brown fox jumps over the lazy dog"))
	f.Add([]byte("\x00\x1f\x00\x20\x01\x00\x00\x20\x01\x00\x07\x00\x05\x40\x40\x00\x15\x01\x02\x00\xff\x03\x00\x00\x01\x01\x01\x14\x00\x13\x00\x00"))
	f.Add([]byte("\x0f\x00\x00\x09\x01\x02\x01\x01\x02\x01\x04\x01\x01\x02\x01\x09\x01\x01"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := &calls{t: t, b: script[:min(len(script), 600)]} // longer ones tell nothing new, and problem is quadratic
		s.r = newRig(t, s.mode())
		for range 3 {
			s.r.l.Join(Who{Label: string(rune('a' + len(s.r.l.consumers)))}, 0)
		}
		for len(s.b) > 0 {
			s.step()
			s.r.check()
		}
		s.finish()
	})
}

// calls is what is left of the bytes.
type calls struct {
	t *testing.T
	r *rig
	b []byte

	batch uint64
}

func (s *calls) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v
}

func (s *calls) mode() Mode {
	b := s.byte()
	m := Mode{Requests: b&1 != 0, BestEffort: b&8 != 0 && b&1 == 0, MaxDeliver: int(b >> 6), Backoff: time.Second, MaxBackoff: 4 * time.Second}
	m.AtMostOnce = m.Requests && b&2 != 0
	if disk := s.byte(); disk&1 != 0 && !m.BestEffort {
		m.Staged, m.Marked = disk&2 != 0, disk&4 != 0
		if disk&8 != 0 { // messages of an earlier life come first
			m.First, m.Editions = firstOwn, []wire.EditionSpan{{Edition: edition - 1, First: 1}}
		}
		if disk&16 != 0 {
			m.Holders = []identity.ID{{}, {1}} // one of which will never come
		}
	}
	return m
}

const firstOwn = 8

// number is a seq: mostly a small one, sometimes one at the end of what there can be.
func (s *calls) number() uint64 {
	b := s.byte()
	if b >= 250 {
		return math.MaxUint64 - uint64(255-b)
	}
	return uint64(b % 32)
}

// ranges are ordered, as the parser makes sure, and nothing else.
func (s *calls) ranges() (out []ranges.Range) {
	var set ranges.Set
	for range s.byte() % 4 {
		from, to := s.number(), s.number()
		set.Add(min(from, to), max(from, to))
	}
	return set.Append(nil)
}

func (s *calls) editions() (out []wire.EditionRanges) {
	for range s.byte() % 3 {
		out = append(out, wire.EditionRanges{Edition: edition - uint64(s.byte()%4)/3, Ranges: s.ranges()})
	}
	return out
}

func (s *calls) consumer() *Consumer {
	cs := s.r.l.Consumers()
	return cs[int(s.byte())%len(cs)]
}

// accepts: an answer may be refused, and then for what it is.
func (s *calls) accepts(err error) {
	var forged ErrForged
	if err != nil && !errors.As(err, &forged) && !errors.Is(err, errNoReply) && !errors.Is(err, errUnread) {
		s.t.Fatalf("refused for %v", err)
	}
}

func (s *calls) step() {
	r, l := s.r, s.r.l
	switch s.byte() % 22 {
	case 0:
		b := s.byte()
		it := Item{Unknown: r.next < l.mode.First && b&32 != 0, Seq: r.next, Base: r.next, Record: make([]byte, s.byte()%8)}
		if b%4 == 1 {
			it.Key = fmt.Sprint(b % 16)
		}
		if b := s.byte(); b%2 == 1 || l.mode.Requests {
			it.Expires = r.now.Add(time.Duration(b) * time.Second / 4)
		}
		if b%8 == 2 && !l.mode.Requests {
			it.NotBefore = r.now.Add(time.Duration(b) * time.Second / 4)
			if it.Absent = !it.Unknown && b&64 != 0; it.Absent {
				it.Record = nil
			}
		}
		l.Append(it, r.now)
		r.next++
	case 1:
		l.Dispatch(func(*Consumer) {})
	case 2:
		for _, m := range l.Take(s.consumer(), nil, int(s.byte()), r.now) {
			if m.Seq == 0 || m.Seq >= r.next {
				s.t.Fatalf("sent %d", m.Seq)
			}
		}
	case 3:
		s.accepts(l.Done(s.consumer(), wire.EditionRanges{Edition: edition - uint64(s.byte()%8)/7, Ranges: s.ranges()}))
	case 4:
		n := wire.Nack{Reason: wire.NackReason(s.byte()%5 + 1), Delay: time.Duration(s.byte()%4) * time.Second, Edition: edition, Ranges: s.ranges()}
		s.accepts(l.Nack(s.consumer(), n, r.now))
	case 5:
		_, err := l.Reply(s.consumer(), edition, s.number(), Done)
		s.accepts(err)
	case 6:
		c := s.consumer()
		l.Attach(c)
	case 7:
		c := s.consumer()
		b := s.byte()
		_, err := l.Attached(c, wire.Attached{Number: c.number - uint64(b%8)/7, Forgotten: b&8 != 0, Nonce: nonceOf(b >> 6), Store: nonceOf(b >> 6),
			Messages: uint64(s.byte() % 8), Bytes: uint64(s.byte()), Done: s.editions(), Held: s.editions(), Lost: s.editions()}, r.now)
		s.accepts(err)
	case 8:
		l.Credit(s.consumer(), wire.Credit{Messages: uint64(s.byte()), Bytes: s.number()})
	case 9:
		c := s.consumer()
		l.Attach(c)
		_, err := l.Attached(c, wire.Attached{Number: c.number, Nonce: nonceOf(1), Store: nonceOf(1), Messages: uint64(s.byte() % 16), Bytes: 1 << 20}, r.now)
		s.accepts(err)
	case 10:
		l.Renew(s.consumer(), r.now)
	case 11:
		c := s.consumer()
		l.Detached(c, c.number, s.byte()%2 == 0)
	case 12:
		r.pass(time.Duration(s.byte()) * time.Second / 8)
	case 13:
		l.Cancel(s.number())
	case 14:
		l.DropOldest(ReasonOverflow)
	case 15:
		l.Refuse(r.next, ReasonOverflow)
		r.next++
	case 16:
		s.told(s.consumer())
	case 17:
		l.unpark(s.consumer())
	case 18:
		if c := s.consumer(); l.Part(c) {
			l.Join(c.Who, s.number())
		}
	case 19:
		c := s.consumer()
		s.accepts(l.Left(c, c.number, s.editions()))
	case 20:
		s.batch++
		l.Seal(s.batch)
		l.Release(s.batch - uint64(s.byte()%3))
	case 21:
		l.SetMark(l.WantsMark())
	}
	s.fetch()
}

// fetch brings what came due, but for what cannot be read.
func (s *calls) fetch() {
	for _, seq := range s.r.l.TakeDue(nil, s.r.next) {
		if seq%3 == 0 {
			s.r.l.Lose(seq)
		} else {
			s.r.l.Fill(seq, seq, []byte("record"))
		}
	}
}

// answer is an honest one.
func (s *calls) answer(c *Consumer, seq uint64) {
	of := uint64(edition)
	if seq < s.r.l.mode.First {
		of--
	}
	var err error
	switch {
	case s.r.l.mode.Requests:
		_, err = s.r.l.Reply(c, of, seq, Done)
	case !s.r.l.mode.BestEffort:
		err = s.r.l.Done(c, run(of, seq))
	}
	if err != nil {
		s.t.Fatalf("the answer for %d is refused: %v", seq, err)
	}
	s.r.check()
}

// told takes what a writer would.
func (s *calls) told(c *Consumer) {
	for _, e := range s.r.l.TakeConfirms(c) {
		wire.AppendRanges(nil, wire.TypeConfirm, e)
	}
	wire.AppendRevoke(nil, c.TakeRevokes())
	for _, g := range c.TakeGaps() {
		wire.AppendGap(nil, g)
	}
}

// finish lets all consumers leave and an honest one come.
func (s *calls) finish() {
	r, l := s.r, s.r.l
	for _, c := range l.Consumers() {
		s.told(c)
		r.detach(c, true)
	}
	c := r.join("honest", 1<<20)
	for range 100 {
		r.pass(5 * time.Second)
		s.fetch()
		l.Renew(c, r.now)
		l.SetMark(l.WantsMark())
		s.batch++ // what lies behind a hole waits for it to be durable
		l.Seal(s.batch)
		l.Release(s.batch)
		for _, m := range r.take(c) {
			s.answer(c, m.Seq)
		}
		if n, _ := l.Owed(); n == 0 {
			l.Seal(math.MaxUint64)
			l.Release(math.MaxUint64)
			if l.Unsealed() || len(l.stage.marks) > 0 {
				s.t.Fatalf("%d marks stay staged", len(l.stage.marks))
			}
			return
		}
	}
	n, _ := l.Owed()
	s.t.Fatalf("%d messages are stuck, the first is %+v", n, *l.ring.find(l.Lowest()))
}
