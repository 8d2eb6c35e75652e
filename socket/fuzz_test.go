package socket

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// The fuzz targets play the other end of a pipe without any manners. Their input is a
// script: a byte that says what happens next, and what that needs. Most of it are
// frames that could have been honest, for random bytes come no further than the
// parsers, which have targets of their own.

// script reads a fuzz input.
type script struct{ b []byte }

func (s *script) more() bool { return len(s.b) > 0 }

func (s *script) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v
}

// seq is a small seq mostly, and any now and then.
func (s *script) seq() uint64 {
	v := s.byte()
	if v < 0xf0 {
		return uint64(v % 24)
	}
	if v == 0xff {
		return 1<<64 - 1
	}
	n, w := binary.Uvarint(s.b)
	s.b = s.b[max(w, 0):]
	return n
}

func (s *script) size() int {
	return []int{0, 1, 100, 5 << 10, 200 << 10, 300 << 10, 600 << 10, 2 << 20}[s.byte()%8]
}

func (s *script) ranges() []ranges.Range {
	from := s.seq()
	length := s.seq()
	if length > ^uint64(0)-from {
		length = ^uint64(0) - from
	}
	return []ranges.Range{{From: from, To: from + length}}
}

func (s *script) edition(own uint64) uint64 {
	if s.byte()%8 == 0 {
		return s.seq()
	}
	return own
}

// raw is a frame of any type with any payload.
func (s *script) raw() []byte {
	t, n := s.byte(), int(s.byte())
	n = min(n, len(s.b))
	payload := s.b[:n]
	s.b = s.b[n:]
	return append(binary.AppendUvarint([]byte{t}, uint64(len(payload))), payload...)
}

var zeros = make([]byte, 2<<20)

func (s *script) run() wire.Run {
	flags := s.byte()
	return wire.Run{Base: s.seq(), Attempt: uint64(flags), Redelivered: flags&1 != 0, Age: time.Duration(flags) * time.Second}
}

func (s *script) record() wire.Record {
	r := wire.Record{Delta: uint64(s.byte() % 4), Body: zeros[:s.size()]}
	if s.byte()%4 == 0 {
		r.TTL = time.Duration(s.byte()) * time.Millisecond
	}
	return r
}

// toReceiver is a frame that a sender may send.
func (s *script) toReceiver(edition uint64, whole []byte) []byte {
	switch s.byte() % 12 {
	case 0:
		return s.raw()
	case 1, 2:
		n := int(s.byte()%5) + 1
		if s.byte() == 0xee {
			n = 3000
		}
		rec := s.record()
		recs := make([]wire.Record, n)
		for i := range recs {
			recs[i] = rec
			recs[i].Delta = uint64(i)
		}
		if n*len(rec.Body) > 3<<20 {
			recs = recs[:1]
		}
		return dataOf(s.run(), recs...)
	case 3:
		return wire.AppendWant(nil, wire.Want{Seq: s.seq(), Bytes: uint64(s.size())})
	case 4:
		return wire.AppendWant(nil, wire.Want{Seq: s.seq(), Bytes: uint64(len(whole))})
	case 5:
		at := int(s.byte()%11) * wire.MaxFragment
		at = min(at, len(whole))
		f := wire.Fragment{Run: wire.Run{Base: s.seq()}, Total: uint64(len(whole)), Offset: uint64(at), Part: whole[at:min(len(whole), at+wire.MaxFragment)]}
		return wire.AppendFragment(nil, f)
	case 6:
		r := s.ranges()[0]
		return wire.AppendGap(nil, wire.Gap{From: r.From, To: r.To, Reason: wire.GapReason(s.byte()%6 + 1)})
	case 7:
		return wire.AppendRanges(nil, wire.TypeConfirm, wire.EditionRanges{Edition: s.edition(edition), Ranges: s.ranges()})
	case 8:
		return number(wire.TypeRenewed, uint64(s.byte()%8))
	case 9:
		return wire.AppendRevoke(nil, s.ranges())
	case 10:
		return number(wire.TypeReplyCredit, s.seq()*100)
	}
	return wire.AppendText(nil, wire.TypeDetach, "")
}

// FuzzReceiver feeds frames to the receiving end while messages are handled and pipes
// come and go.
func FuzzReceiver(f *testing.F) {
	for _, kind := range []byte{0, 1, 2, 3} {
		f.Add(kind, []byte{1, 0, 1, 0, 0, 5, 1, 0, 0, 1, 9, 1, 2, 3, 4})
	}
	whole := recordOf(zeros[:300<<10])
	f.Fuzz(func(t *testing.T, kind byte, input []byte) {
		s := script{input}
		budget := NewBudget(1 << 20)
		cfg := InboxConfig{Local: localOf('r'), Kind: wire.Pull, Name: "x", Prefetch: int(kind >> 4)}
		cfg.Local.Budget, cfg.Local.MaxMessage = budget, 500<<10
		src, disk := newSource('s', wire.Push), &shelf{notes: map[string][]byte{}}
		switch kind % 4 {
		case 1:
			cfg.Kind, src.kind = wire.Sub, wire.Pub
		case 2:
			cfg.Kind, src.kind = wire.Rep, wire.Req
			if kind&4 != 0 {
				cfg.Replies, cfg.NoteName, src.level = disk, "rep", Durable
			}
		case 3:
			src.level = BestEffort
		}
		b := NewInbox(cfg)
		attach := func() *in {
			src.start, src.replies = uint64(s.byte()%4), uint64(s.byte())<<10
			e, old, err := b.attach(peerOf(src.Local), src.next())
			if err != nil {
				t.Fatalf("ATTACH: %v", err)
			}
			if old != nil {
				b.detach(old)
			}
			disk.calls.Wait()
			e.fill(nil)
			return e
		}
		e := attach()
		var begun []*Message
		closed := soon(t, 0)
		for s.more() {
			switch op := s.byte() % 8; op {
			case 0, 1, 2, 3:
				frame := s.toReceiver(src.Edition, whole)
				typ, payload, _, _, err := wire.Next(frame)
				if err != nil {
					t.Fatal(err)
				}
				if err := e.receive(typ, payload); err != nil || e.detached {
					b.detach(e)
					e = attach()
				}
			case 4:
				if out, _ := e.fill(nil); len(out) > writeSize+wire.MaxFrame {
					t.Fatalf("%d bytes at once", len(out))
				}
			case 5:
				if b.unbegunHere() > 0 {
					if m, err := b.Recv(closed); err == nil {
						begun = append(begun, m)
						if err := b.Start(m); err != nil {
							t.Fatal(err)
						}
					}
				}
			case 6:
				if len(begun) > 0 {
					m := begun[0]
					begun = begun[1:]
					switch {
					case cfg.Kind == wire.Rep:
						b.Reply(m, wire.OK, zeros[:s.size()])
					case s.byte()%2 == 0:
						m.Ack()
					default:
						m.Nack(net.ErrClosed)
					}
				}
			case 7:
				if s.byte()%4 == 0 {
					e = attach()
				}
			}
			disk.calls.Wait()
			st := e.st
			stats := b.Stats()
			queued := stats.Queued
			switch {
			case budget.free < 0 || budget.free > budget.total:
				t.Fatalf("budget: %d of %d are free", budget.free, budget.total)
			case st.inMsgs != queued+len(begun) || st.inMsgs > st.window.messages:
				t.Fatalf("%d messages in hand, %d queued, %d begun, window %d", st.inMsgs, queued, len(begun), st.window.messages)
			case st.inBytes < 0 || st.inBytes > st.window.bytes:
				t.Fatalf("%d bytes in hand, window %d", st.inBytes, st.window.bytes)
			case e.received.Messages > e.announced.Messages || e.received.Bytes > e.announced.Bytes:
				t.Fatalf("received %+v of %+v", e.received, e.announced)
			case len(e.wants)+len(e.granted) > maxWants:
				t.Fatalf("%d wants and %d grants", len(e.wants), len(e.granted))
			case st.replies.Len() > int(st.memory.Unconfirmed()):
				t.Fatalf("%d replies for %d marks", st.replies.Len(), st.memory.Unconfirmed())
			case stats.Begun != len(begun) || stats.Delivered != stats.Done+stats.Nacked+uint64(len(begun)):
				t.Fatalf("%+v with %d begun", stats, len(begun))
			}
		}
		b.detach(e)
		for _, m := range begun {
			m.Ack()
		}
		b.Close()
		switch st := e.st; {
		case budget.free != budget.total || len(budget.queue) > 0:
			t.Fatalf("budget at the end: %d of %d are free", budget.free, budget.total)
		case st.inMsgs != 0 || st.inBytes != 0 || b.begun != 0:
			t.Fatalf("in hand at the end: %d messages, %d bytes, %d begun", st.inMsgs, st.inBytes, b.begun)
		}
	})
}

// toSender is a frame that a receiver may send.
func (s *script) toSender(edition uint64) []byte {
	switch s.byte() % 11 {
	case 0:
		return s.raw()
	case 1, 2:
		return wire.AppendRanges(nil, wire.TypeDone, wire.EditionRanges{Edition: s.edition(edition), Ranges: s.ranges()})
	case 3, 4:
		return wire.AppendNack(nil, wire.Nack{Reason: wire.NackReason(s.byte()%5 + 1), Delay: time.Duration(s.byte()) * time.Millisecond,
			Edition: s.edition(edition), Ranges: s.ranges()})
	case 5:
		return wire.AppendCredit(nil, wire.Credit{Messages: s.seq(), Bytes: s.seq() << 18})
	case 6:
		return number(wire.TypeRenew, s.seq())
	case 7:
		return number(wire.TypeGrant, s.seq())
	case 8:
		return wire.AppendSubscribe(nil, wire.Subscription{Version: s.seq(), Patterns: []string{"a"}})
	case 9:
		total := s.size()
		at := min(int(s.byte()%12)*wire.MaxFragment, total)
		return wire.AppendReply(nil, wire.Reply{Edition: s.edition(edition), Seq: s.seq(), Outcome: Outcome(s.byte()%4 + 1), Total: uint64(total),
			Offset: uint64(at), Part: zeros[at:min(total, at+wire.MaxFragment)]})
	}
	l := wire.Leave{}
	if s.byte()%2 == 0 {
		l.Begun = []wire.EditionRanges{{Edition: s.edition(edition), Ranges: s.ranges()}}
	}
	return wire.AppendLeave(nil, l)
}

func (s *script) attached(l Local, edition, number uint64) wire.Attached {
	a := wire.Attached{Number: number, Store: l.Store, Nonce: l.Nonce, Messages: uint64(s.byte() % 20), Bytes: uint64(s.byte()) << 16}
	flags := s.byte()
	a.Forgotten = flags&1 != 0
	if flags&2 != 0 {
		a.Done = []wire.EditionRanges{{Edition: s.edition(edition), Ranges: s.ranges()}}
	}
	if flags&4 != 0 {
		a.Held = []wire.EditionRanges{{Edition: s.edition(edition), Ranges: s.ranges()}}
	}
	if flags&8 != 0 {
		a.Lost = []wire.EditionRanges{{Edition: s.edition(edition), Ranges: s.ranges()}}
	}
	return a
}

// FuzzSender feeds frames to the sending end while messages are queued and time passes.
func FuzzSender(f *testing.F) {
	for _, kind := range []byte{0, 1, 2, 3} {
		f.Add(kind, []byte{9, 9, 0, 4, 1, 0, 4, 2, 1, 9, 1, 0, 1, 9, 9, 3, 4, 7, 1, 2, 5, 9, 9})
	}
	f.Fuzz(func(t *testing.T, kind byte, input []byte) {
		s := script{input}
		fates := map[uint64]ledger.State{}
		o := newOwner(t, []Kind{wire.Push, wire.Pub, wire.Req, wire.Push}[kind%4], func(c *OutboxConfig) {
			c.OnSettled = func(st Settlement) {
				if old, twice := fates[st.Seq]; twice {
					t.Fatalf("seq %d is %v and then %v", st.Seq, old, st.State)
				}
				fates[st.Seq] = st.State
			}
			c.OnPatterns = func(uint64, []string) (uint64, error) { return 1, nil }
			if kind%4 == 3 {
				c.Level = BestEffort
			}
		})
		r := localOf('r')
		now := time.Now()
		attach := func() *out {
			p, _ := o.box.begin(peerOf(r), wire.Offer{Name: "x"}, 0, nil)
			p.fill(nil)
			if s.byte()%8 != 0 {
				typ, payload, _, _, err := wire.Next(wire.AppendAttached(nil, s.attached(r, o.local.Edition, p.number)))
				if err != nil {
					t.Fatal(err)
				}
				if p.receive(typ, payload) != nil {
					o.box.end(p, net.ErrClosed)
					p, _ = o.box.begin(peerOf(r), wire.Offer{Name: "x"}, 0, nil)
				}
			}
			return p
		}
		p := attach()
		for s.more() {
			switch op := s.byte() % 8; op {
			case 0, 1, 2, 3:
				typ, payload, _, _, err := wire.Next(s.toSender(o.local.Edition))
				if err != nil {
					t.Fatal(err)
				}
				if err := p.receive(typ, payload); err != nil || p.left {
					o.box.end(p, err)
					if s.byte()%16 == 0 {
						r.Nonce[7]++ // another process
					}
					p = attach()
				}
			case 4, 5:
				dst, _ := p.fill(nil)
				if len(dst) > 2*writeSize+wire.MaxFrame {
					t.Fatalf("%d bytes at once", len(dst))
				}
				for len(dst) > 0 {
					_, _, rest, _, err := wire.Next(dst)
					if err != nil {
						t.Fatalf("it said what cannot be read: %v", err)
					}
					dst = rest
				}
			case 6:
				m := &Message{Body: zeros[:s.size()]}
				if s.byte()%2 == 0 {
					m.Key = "k"
				}
				if s.byte()%4 == 0 || kind%4 == 2 {
					m.TTL = time.Duration(s.byte())*time.Second + time.Second
				}
				if o.next < 40 {
					o.send(m)
				}
			case 7:
				now = now.Add(time.Duration(s.byte()) * 100 * time.Millisecond)
				o.mu.Lock()
				o.box.Tick(now)
				o.mu.Unlock()
			}
			c := o.counts()
			dropped := uint64(0)
			for _, n := range c.Dropped {
				dropped += n
			}
			switch {
			case c.Accepted != c.Queued+c.Leased+c.Done+c.Dead+c.Expired+c.Handed+dropped:
				t.Fatalf("out of balance: %+v", c)
			case uint64(len(fates)) != c.Accepted-c.Queued-c.Leased:
				t.Fatalf("%d fates: %+v", len(fates), c)
			case p.part != nil && (len(p.part.buf) > o.local.MaxMessage || cap(p.part.buf) > 2*len(p.part.buf)+2*wire.MaxFragment):
				t.Fatalf("a reply of %d bytes takes %d", len(p.part.buf), cap(p.part.buf))
			case p.replyGot > p.replyCredit+wire.MaxFragment:
				t.Fatalf("%d bytes of replies came within a credit of %d", p.replyGot, p.replyCredit)
			}
		}
		o.box.end(p, net.ErrClosed)
		o.mu.Lock()
		o.box.Ledger().DropAll(ledger.ReasonShutdown)
		o.mu.Unlock()
		if uint64(len(fates)) != o.next-1 {
			t.Fatalf("%d fates of %d messages", len(fates), o.next-1)
		}
	})
}

// FuzzReadFrame reads what is said to be a first frame: never more than the limit.
func FuzzReadFrame(f *testing.F) {
	f.Add(data(1, "a"))
	f.Add([]byte{1, 0x80, 0x80, 0x80, 0x01})
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 100
		r := bytes.NewReader(in)
		_, payload, err := ReadFrame(r, limit)
		if read := len(in) - r.Len(); read > limit || err == nil && len(payload) >= read {
			t.Fatalf("%d bytes were read for a payload of %d: %v", read, len(payload), err)
		}
	})
}
