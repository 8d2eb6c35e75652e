package socket

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
)

// fragments are the FRAGMENT frames of a record.
func fragments(run wire.Run, record []byte) (frames [][]byte) {
	for at := 0; at < len(record); at += wire.MaxFragment {
		part := record[at:min(len(record), at+wire.MaxFragment)]
		frames = append(frames, wire.AppendFragment(nil, wire.Fragment{Run: run, Total: uint64(len(record)), Offset: uint64(at), Part: part}))
	}
	return frames
}

func recordOf(body []byte) []byte { return wire.AppendRecord(nil, wire.Record{Body: body}) }

func want(seq uint64, record []byte) []byte {
	return wire.AppendWant(nil, wire.Want{Seq: seq, Bytes: uint64(len(record))})
}

// granted are the seqs of the GRANTs that came.
func granted(f *far) (seqs []uint64) {
	for _, p := range f.only(wire.TypeGrant) {
		seqs = append(seqs, parsed(f, wire.ParseNumber, p))
	}
	return seqs
}

func TestALargeMessageComesInFragmentsAfterAGrant(t *testing.T) {
	for _, level := range []Level{Memory, BestEffort} {
		for _, n := range []int{300 << 10, 1 << 20} {
			t.Run(fmt.Sprint(level, n), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.Prefetch = 4 })
					budget := b.cfg.Local.Budget
					s := newSource('s', wire.Push)
					s.level = level
					f, _ := s.attach(t, b)
					var held []*Message
					for seq := uint64(1); seq <= 20; seq++ {
						rec := recordOf(filler(n))
						f.say(want(seq, rec))
						same(t, "granted", granted(f), []uint64{seq})
						equal(t, "free", budget.free, budget.total-(len(held)+1)*len(rec))
						f.say(fragments(wire.Run{Base: seq, Attempt: 2, Redelivered: true, Age: time.Second}, rec)...)
						m := recv(t, b, string(filler(n)))
						if m.Seq() != seq || m.Attempt() != 2 || !m.Redelivered() || m.Age() < time.Second {
							t.Errorf("message %d: seq %d, attempt %d, redelivered %v, age %v", seq, m.Seq(), m.Attempt(), m.Redelivered(), m.Age())
						}
						if held = append(held, m); len(held) == 3 {
							ack(t, held...)
							held = nil
						}
					}
					ack(t, held...)
					f.alive()
					equal(t, "free at the end", budget.free, budget.total)
					equal(t, "bytes in hand", b.streams[streamKey{s.Node, s.Store}].inBytes, 0)
				})
			})
		}
	}
}

func TestLargeMessagesWaitForTheBudgetInTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.Local.Budget = NewBudget(700 << 10) })
		f1, _ := newSource('s', wire.Push).attach(t, b)
		f2, _ := newSource('t', wire.Push).attach(t, b)
		rec := recordOf(filler(400 << 10))
		f1.say(want(1, rec))
		same(t, "first", granted(f1), []uint64{1})
		f2.say(want(1, rec))
		synctest.Wait()
		f1.say(want(2, rec))
		same(t, "no room", granted(f1), []uint64(nil))
		same(t, "no room", granted(f2), []uint64(nil))
		f2.say(data(2, "small")) // what is small is not held up
		ack(t, recv(t, b, "small"))
		f1.say(fragments(wire.Run{Base: 1}, rec)...)
		m := recv(t, b, string(filler(400<<10)))
		same(t, "no room while it is in hand", granted(f2), []uint64(nil))
		ack(t, m)
		same(t, "who waited longer", granted(f2), []uint64{1})
		same(t, "who came later", granted(f1), []uint64(nil))
		f2.cut() // half way
		same(t, "room of a pipe that ended", granted(f1), []uint64{2})
		f1.cut()
		equal(t, "free at the end", b.cfg.Local.Budget.free, b.cfg.Local.Budget.total)
	})
}

func TestAHalfAssembledMessageDiesWithItsPipe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		s := newSource('s', wire.Push)
		f, _ := s.attach(t, b)
		rec := recordOf(filler(400 << 10))
		fr := fragments(wire.Run{Base: 1}, rec)
		f.say(want(1, rec))
		granted(f)
		f.say(fr[:5]...)
		f.cut()
		f, a := s.attach(t, b)
		same(t, "held", a.Held, []wire.EditionRanges(nil))
		f.say(fr[5])
		f.dead(errUnexpected)
		f, _ = s.attach(t, b)
		f.say(want(1, rec))
		same(t, "granted", granted(f), []uint64{1})
		f.say(fr...)
		ack(t, recv(t, b, string(filler(400<<10))))
		f.cut()
		equal(t, "free at the end", b.cfg.Local.Budget.free, b.cfg.Local.Budget.total)
	})
}

func TestALargeMessageThatIsHereAlreadyGivesItsRoomBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newInbox(t, wire.Pull)
		f, _ := newSource('s', wire.Push).attach(t, b)
		f.say(data(1, "here"))
		rec := recordOf(filler(400 << 10))
		f.say(want(1, rec))
		granted(f)
		f.say(fragments(wire.Run{Base: 1}, rec)...)
		ack(t, recv(t, b, "here"))
		none(t, b)
		f.alive()
		equal(t, "free", b.cfg.Local.Budget.free, b.cfg.Local.Budget.total)
	})
}

// Nobody honest sends a message in one piece after it asked for room; the room stays
// with the pipe until its end.
func TestAGrantIsUsedUpByFragmentsOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, level := range []Level{Memory, BestEffort} {
			b := newInbox(t, wire.Pull)
			budget := b.cfg.Local.Budget
			s := newSource('s', wire.Push)
			s.level = level
			f, _ := s.attach(t, b)
			rec := recordOf(filler(400 << 10))
			f.say(want(1, rec), want(2, rec))
			granted(f)
			f.say(dataOf(wire.Run{Base: 1}, wire.Record{Body: []byte("a")}, wire.Record{Body: []byte("b")}))
			ack(t, recv(t, b, "a"), recv(t, b, "b"))
			equal(t, "free", budget.free, budget.total-2*len(rec))
			f.cut()
			equal(t, "free at the end", budget.free, budget.total)
		}
	})
}

// A message that this receiver can never take must not take the others of its pipe
// with it; another receiver may have a higher limit.
func TestAMessageAboveTheReceiversLimitIsGivenBackAndHoldsUpNothing(t *testing.T) {
	for name, c := range map[string]struct {
		limit, budget, size int
	}{
		"small": {limit: 1000, budget: 4 << 20, size: 1001}, "large": {limit: 300 << 10, budget: 4 << 20, size: 500 << 10},
		"above the budget": {limit: 1 << 20, budget: 400 << 10, size: 500 << 10},
	} {
		for _, prefetch := range []int{1, 256} {
			t.Run(fmt.Sprint(name, prefetch), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					b := newInbox(t, wire.Pull, func(cfg *InboxConfig) {
						cfg.Local.MaxMessage, cfg.Local.Budget, cfg.Prefetch = c.limit, NewBudget(c.budget), prefetch
					})
					s := newSource('s', wire.Push)
					f, _ := s.attach(t, b)
					for attempt := range 3 {
						rec := recordOf(filler(c.size))
						if len(rec) > wire.MaxRecord {
							f.say(want(1, rec))
						} else {
							f.say(wire.AppendData(nil, wire.Run{Base: 1}, rec))
						}
						fs := f.hear()
						same(t, "given back", told(t, fs, wire.TypeNack, wire.NackHandler), []uint64{1})
						n := 0
						for _, h := range fs {
							if h.t == wire.TypeGrant {
								t.Error("granted")
							}
							if h.t == wire.TypeNack && !strings.Contains(parsed(t, wire.ParseNack, h.payload).Text, "at most") &&
								!strings.Contains(parsed(t, wire.ParseNack, h.payload).Text, "above") {
								t.Errorf("it says %q", parsed(t, wire.ParseNack, h.payload).Text)
							}
							if h.t == wire.TypeCredit {
								n++
							}
						}
						if prefetch == 1 && n == 0 {
							t.Error("the room that it used is not announced again")
						}
						f.say(data(uint64(2+attempt), "next"))
						ack(t, recv(t, b, "next"))
						f.alive()
					}
				})
			})
		}
	}
}

func TestARequestAboveTheRepliersLimitHasCertainlyNotBeenExecuted(t *testing.T) {
	for _, size := range []int{2000, 500 << 10} {
		bubble(t, func(t *testing.T) {
			b := newInbox(t, wire.Rep, func(c *InboxConfig) { c.Local.MaxMessage = 1000 })
			s := newSource('s', wire.Req)
			s.replies = 1 << 20
			f, _ := s.attach(t, b)
			if rec := recordOf(filler(size)); len(rec) > wire.MaxRecord {
				f.say(want(1, rec))
			} else {
				f.say(wire.AppendData(nil, wire.Run{Base: 1}, rec))
			}
			r := parsed(t, wire.ParseReply, f.one(wire.TypeReply))
			equal(t, "outcome", r.Outcome, wire.Failed)
			none(t, b)
			f.cut()
			f = s.open(t, b)
			fs := f.hear()
			same(t, "done and its reply again", types(fs[:1]), "[0x20]")
			same(t, "done", parsed(t, wire.ParseAttached, fs[0].payload).Done, []wire.EditionRanges{editionOf(s.Edition, 1)})
			same(t, "the reply again", told(t, fs, wire.TypeReply, 0), []uint64{1})
			f.say(confirm(s.Edition, 1))
			f.cut()
			f = s.open(t, b)
			same(t, "replies when it was confirmed", told(t, f.hear(), wire.TypeReply, 0), []uint64(nil))
		})
	}
}

func TestWantsAndFragmentsThatNoHonestSenderSendsEndThePipe(t *testing.T) {
	rec := recordOf(filler(300 << 10))
	fr := fragments(wire.Run{Base: 1}, rec)
	otherSeq := wire.AppendRecord(nil, wire.Record{Delta: 1, Body: filler(300 << 10)})
	broken := bytes.Clone(rec)
	broken[len(broken)/2]++
	for name, c := range map[string][][]byte{
		"fragment without WANT":    fr[:1],
		"WANT twice":               {want(1, rec), want(1, rec)},
		"too many WANTs":           {want(1, rec), want(2, rec), want(3, rec), want(4, rec), want(5, rec)},
		"WANT beyond all limits":   {{byte(wire.TypeWant), 6, 1, 0xff, 0xff, 0xff, 0xff, 0x7f}},
		"other total":              {want(1, rec), wire.AppendFragment(nil, wire.Fragment{Run: wire.Run{Base: 1}, Total: 9, Part: []byte("x")})},
		"not from the beginning":   {want(1, rec), fr[1]},
		"a hole":                   {want(1, rec), fr[0], fr[2]},
		"a part twice":             {want(1, rec), fr[0], fr[0]},
		"two mixed":                {want(1, rec), want(2, rec), fr[0], fragments(wire.Run{Base: 2}, rec)[1]},
		"a record of another seq":  append([][]byte{want(1, otherSeq)}, fragments(wire.Run{Base: 1}, otherSeq)...),
		"a record that is damaged": append([][]byte{want(1, rec)}, fragments(wire.Run{Base: 1}, broken)...),
		"a record and more":        append([][]byte{want(1, append(bytes.Clone(rec), 1))}, fragments(wire.Run{Base: 1}, append(bytes.Clone(rec), 1))...),
		"nothing at all":           {want(1, nil), wire.AppendFragment(nil, wire.Fragment{Run: wire.Run{Base: 1}})},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newInbox(t, wire.Pull, func(c *InboxConfig) { c.Prefetch = 2 })
				other, _ := newSource('t', wire.Push).attach(t, b)
				f, _ := newSource('s', wire.Push).attach(t, b)
				for _, frame := range c {
					f.say(frame)
					f.hear()
				}
				if err, over := f.end(); !over || err == nil {
					t.Errorf("ended %v, %v", over, err)
				}
				none(t, b)
				equal(t, "free", b.cfg.Local.Budget.free, b.cfg.Local.Budget.total)
				other.alive()
			})
		})
	}
}
