package ledger

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// blocks frames plain messages as a socket does: one behind the other, some of each block.
type blocks struct {
	buf  []byte
	base uint64
}

// item is a message of so many bytes, the first of a block of its own if it has to be.
func (b *blocks) item(seq uint64, size int, first bool) Item {
	if first || cap(b.buf)-len(b.buf) < size+16 {
		b.buf, b.base = make([]byte, 0, 4096), seq
	}
	at := len(b.buf)
	b.buf = wire.AppendPlain(b.buf, seq-b.base, make([]byte, size))
	return Item{Seq: seq, Base: b.base, Record: b.buf[at:]}
}

// plain accepts n messages of one block.
func (r *rig) plain(n int) {
	r.Helper()
	var b blocks
	for range n {
		r.l.Append(b.item(r.next, 8, false), r.now)
		r.next++
		r.check()
	}
}

// inRows is how many of the messages are part of a row.
func (r *rig) inRows() (n int) {
	for i := range r.l.ring.n {
		if u, _ := r.l.ring.rowAt(i); u != nil {
			n++
		}
	}
	return n
}

// twins are two ledgers that are told the same. In one of them no message is ever part of a row.
type twins struct {
	t           *rapid.T
	rows, apart *rig
	in          blocks
	cons        int
	told        int // of the fates
}

// both does something to both and compares what comes of it.
func (w *twins) both(what string, do func(*rig) string) {
	w.t.Helper()
	got := do(w.rows)
	for i := range w.apart.l.ring.n {
		w.apart.l.ring.at(i)
	}
	want := do(w.apart)
	if got != want {
		w.t.Fatalf("%s:\n in rows %s\n   apart %s", what, got, want)
	}
	if got, want := w.sight(w.rows), w.sight(w.apart); got != want {
		w.t.Fatalf("after %s:\n in rows %s\n   apart %s", what, got, want)
	}
	w.alike()
	for ; w.told < len(w.rows.order); w.told++ {
		seq := w.rows.order[w.told]
		if got, want := fmt.Sprintf("%+v", w.rows.fates[seq]), fmt.Sprintf("%+v", w.apart.fates[w.apart.order[w.told]]); got != want {
			w.t.Fatalf("after %s:\n in rows told %s\n   apart told %s", what, got, want)
		}
	}
	if s := problem(w.rows.l); s != "" {
		w.t.Fatalf("after %s: %s", what, s)
	}
}

// sight is all that is to be seen of a ledger from outside.
func (w *twins) sight(r *rig) (s string) {
	l := r.l
	owed, size := l.Owed()
	s = fmt.Sprint(owed, size, l.Lowest(), l.Start(), l.Dispatched(), l.Due(), l.Unmarked(), l.Unsealed(), l.WantsMark(), l.Ready(), l.Busy(), l.Counts(), len(r.order))
	for _, c := range l.consumers {
		s += fmt.Sprint(" ", c.Who.Label, c.attached, c.Leased(), c.Room(), c.Urgent(), c.Pending(), c.sentMsgs, c.sentBytes, c.creditBytes, c.alone, c.holes.proof)
	}
	return s
}

// alike compares what is known of each message.
func (w *twins) alike() {
	w.t.Helper()
	l, o := w.rows.l, w.apart.l
	for seq := uint64(1); seq < w.rows.next; seq++ {
		a, owedA := l.Look(seq)
		b, owedB := o.Look(seq)
		if d := b.Accepted.Sub(a.Accepted); d < 0 || d > time.Duration(rowAge) {
			w.t.Fatalf("seq %d: accepted at %v and %v", seq, a.Accepted, b.Accepted)
		}
		if a.Accepted = b.Accepted; owedA != owedB || a != b {
			w.t.Fatalf("seq %d:\n in rows %+v\n   apart %+v", seq, a, b)
		}
	}
	var debts []Debt
	o.Owing(1, func(d Debt) bool { debts = append(debts, d); return true })
	l.Owing(1, func(d Debt) bool {
		if b := debts[0]; d.Seq != b.Seq || !bytes.Equal(d.Record, b.Record) || d.Attempt != b.Attempt || d.Deliveries != b.Deliveries {
			w.t.Fatalf("owed in rows %+v, apart %+v", d, b)
		}
		debts = debts[1:]
		return true
	})
}

// consumer draws one of those there are; which may be none.
func (w *twins) consumer() int {
	if w.cons == 0 {
		return -1
	}
	return w.oneOf(w.cons)
}

// answer draws ranges of seqs that were given out, and perhaps not all sent.
func (w *twins) answer() wire.EditionRanges {
	next := int(w.rows.next)
	var seqs []uint64
	for range rapid.IntRange(1, 3).Draw(w.t, "ranges") {
		from := rapid.IntRange(1, next).Draw(w.t, "from")
		for seq := from; seq < min(next, from+rapid.IntRange(1, 200).Draw(w.t, "n")); seq++ {
			seqs = append(seqs, uint64(seq))
		}
	}
	return run(edition, seqs...)
}

// sent is what was handed over to c and is not answered.
func sent(r *rig, c *Consumer) (seqs []uint64) {
	for i := range r.l.ring.n {
		if e := r.l.ring.view(i); !e.state.settled() && e.mayHold(c) {
			seqs = append(seqs, e.seq)
		}
	}
	return seqs
}

// oneOf draws one of so many things, each as likely as the others.
func (w *twins) oneOf(n int) int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return rapid.SampledFrom(all).Draw(w.t, "which")
}

func (w *twins) put() {
	size := rapid.SampledFrom([]int{0, 1, 100, 1400}).Draw(w.t, "size")
	first := w.oneOf(6) == 0
	kind := w.oneOf(20)
	for range rapid.SampledFrom([]int{100, 1, 3, 30, 150}).Draw(w.t, "n") {
		it := w.in.item(w.rows.next, size, first)
		first = false
		switch kind {
		case 0:
			it.Key = "k"
		case 1:
			it.Expires = w.rows.now.Add(5 * time.Second)
		case 2:
			it.NotBefore = w.rows.now.Add(5 * time.Second)
		}
		for _, r := range []*rig{w.rows, w.apart} {
			r.l.Append(it, r.now)
			r.next = it.Seq + 1
		}
		w.apart.l.ring.at(w.apart.l.ring.n - 1)
	}
	w.both("put", func(*rig) string { return "" })
}

func (w *twins) join() {
	if w.cons == 3 {
		return
	}
	credit, size := rapid.SampledFrom([]uint64{300, 5, 1000}).Draw(w.t, "credit"), rapid.SampledFrom([]uint64{1 << 20, 500, 1 << 14}).Draw(w.t, "bytes")
	w.both("join", func(r *rig) string {
		c := r.l.Join(Who{Node: nodeOf("abc"[w.cons:]), Label: "abc"[w.cons : w.cons+1]}, 0)
		r.l.Attach(c)
		a := r.hello(c, 1)
		a.Messages, a.Bytes = credit, size
		ok, err := r.l.Attached(c, a, r.now)
		return fmt.Sprint(ok, err)
	})
	w.cons++
}

// reattach makes a consumer come back, which says of each message that it has it, is done with it or has not.
func (w *twins) reattach(i int) {
	var held, done []uint64
	nonce := rapid.SampledFrom([]byte{1, 1, 1, 2}).Draw(w.t, "nonce")
	for _, seq := range sent(w.rows, w.rows.l.consumers[i]) {
		switch w.oneOf(4) {
		case 0:
			held = append(held, seq)
		case 1:
			done = append(done, seq)
		}
	}
	w.both("reattach", func(r *rig) string {
		c := r.l.consumers[i]
		r.l.Attach(c)
		a := r.hello(c, nonce)
		a.Messages, a.Bytes = 300, 1<<20
		a.Held, a.Done = []wire.EditionRanges{run(edition, held...)}, []wire.EditionRanges{run(edition, done...)}
		ok, err := r.l.Attached(c, a, r.now)
		return fmt.Sprint(ok, err)
	})
}

// take has a consumer get messages: the same, whether they are handed over one by one or not.
func (w *twins) take(i int) {
	most := rapid.SampledFrom([]int{1, 100, 1000, 1 << 16, 1 << 20}).Draw(w.t, "most")
	w.both("take", func(r *rig) (s string) {
		sends := r.l.Take(r.l.consumers[i], nil, most, r.now)
		n := 0
		for _, m := range sends {
			n += m.N
			if len(m.Record) > wire.MaxRun {
				w.t.Fatalf("%d bytes at a time", len(m.Record))
			}
		}
		one := singles(sends)
		if len(one) != n {
			w.t.Fatalf("%d messages in what counts as %d", len(one), n)
		}
		for _, m := range one {
			s += fmt.Sprintf(" %d %d %d %v %v %x", m.Seq, m.Base, m.Attempt, m.Redelivered, m.Large, m.Record)
		}
		return s
	})
}

func (w *twins) done(i int) {
	e := w.answer()
	if w.oneOf(5) > 0 {
		seqs := sent(w.rows, w.rows.l.consumers[i])
		from := rapid.IntRange(0, len(seqs)).Draw(w.t, "from")
		to := len(seqs) - rapid.IntRange(0, len(seqs)-from).Draw(w.t, "but")
		e = run(edition, seqs[from:to]...)
	}
	w.both("done", func(r *rig) string { return fmt.Sprint(r.l.Done(r.l.consumers[i], e)) })
}

func (w *twins) nack(i int) {
	e := w.answer()
	if seqs := sent(w.rows, w.rows.l.consumers[i]); len(seqs) > 0 {
		e = run(edition, rapid.SampledFrom(seqs).Draw(w.t, "seq"))
	}
	n := wire.Nack{Edition: edition, Ranges: e.Ranges, Reason: rapid.SampledFrom([]wire.NackReason{wire.NackHandler, wire.NackReturned, wire.NackReleased, wire.NackCorrupt}).Draw(w.t, "why")}
	w.both("nack", func(r *rig) string { return fmt.Sprint(r.l.Nack(r.l.consumers[i], n, r.now)) })
}

// of does one of the things that consumers and their pipes do.
func (w *twins) of(i int) {
	switch w.oneOf(14) {
	case 0:
		w.reattach(i)
	case 1:
		graceful := rapid.Bool().Draw(w.t, "graceful")
		w.both("detach", func(r *rig) string { r.l.Detached(r.l.consumers[i], r.l.consumers[i].number, graceful); return "" })
	case 2:
		w.both("pause", func(r *rig) string { r.l.Pause(r.l.consumers[i]); return "" })
	case 3:
		w.both("resume", func(r *rig) string { r.l.Resume(r.l.consumers[i]); return "" })
	case 4:
		w.nack(i)
	case 5:
		w.both("credit", func(r *rig) string {
			c := r.l.consumers[i]
			r.l.Credit(c, wire.Credit{Messages: c.creditMsgs + 100, Bytes: c.creditBytes + 9999})
			return ""
		})
	case 6, 7, 8:
		w.take(i)
	default:
		w.done(i)
	}
}

// else does one of the things that nobody else has to do with.
func (w *twins) other() {
	seq := rapid.Uint64Range(1, w.rows.next).Draw(w.t, "seq")
	d := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 11 * time.Second}).Draw(w.t, "time")
	switch w.oneOf(12) {
	case 0:
		w.both("tick", func(r *rig) string { r.now = r.now.Add(d); return fmt.Sprint(r.l.Tick(r.now)) })
	case 1:
		w.both("cancel", func(r *rig) string { return fmt.Sprint(r.l.Cancel(seq)) })
	case 2:
		w.both("drop the oldest", func(r *rig) string { return fmt.Sprint(r.l.DropOldest(ReasonOverflow)) })
	case 3:
		w.both("drop the end", func(r *rig) string { r.l.DropFrom(max(seq, r.next-min(r.next, 20)), ReasonShutdown); return "" })
	case 4:
		w.both("refuse", func(r *rig) string { r.l.Refuse(r.next, ReasonOverflow); r.next++; return "" })
	case 5:
		if v := w.rows.l.volatile; v < math.MaxUint64 {
			to := min(v+rapid.Uint64Range(0, 200).Draw(w.t, "moved"), w.rows.next)
			w.both("move to disk", func(r *rig) string { r.l.Volatile(max(r.l.volatile, to)); r.l.SetMark(r.l.Dispatched()); return "" })
		}
	case 6, 7:
		w.both("the disk", func(r *rig) string { r.l.Seal(r.next); r.l.Release(r.next); r.l.SetMark(r.next); return "" })
	default:
		w.both("dispatch", func(r *rig) string { r.l.Dispatch(func(*Consumer) {}); return "" })
	}
}

// TestARowIsWhatItsMessagesWouldBe does the same to a ledger with rows and to one without: nothing to be seen from outside
// tells them apart.
func TestARowIsWhatItsMessagesWouldBe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom([]string{"memory", "spills", "durable"}).Draw(rt, "kind")
		staged := kind != "memory"
		mode := Mode{Staged: staged, Marked: staged, MaxDeliver: 4}
		w := &twins{t: rt, rows: newRig(t, mode), apart: newRig(t, mode)}
		if kind == "spills" {
			w.rows.l.Volatile(1)
			w.apart.l.Volatile(1)
		}
		w.put()
		w.join()
		for range rapid.IntRange(10, 40).Draw(rt, "steps") {
			switch w.oneOf(20) {
			case 0:
				w.join()
			case 1, 2, 3:
				w.put()
			case 4, 5:
				w.other()
			case 6, 7, 8:
				w.both("dispatch", func(r *rig) string { r.l.Dispatch(func(*Consumer) {}); return "" })
			default:
				w.of(w.consumer())
			}
		}
	})
}

func TestNeighboursAreHandedOverAndSettledInOneGo(t *testing.T) {
	r := newRig(t, Mode{})
	type told struct{ from, to uint64 }
	var dones []told
	r.l.mode.OnDone = func(from, to uint64, by Who) { dones = append(dones, told{from, to}) }
	const n = ringPage - 10
	a := r.join("a", n)
	r.plain(ringPage)
	sends := r.take(a)
	want(t, "sends", len(sends), 1)
	want(t, "messages", sends[0].N, n)
	want(t, "records", len(singles(sends)), n)
	want(t, "in rows", r.inRows(), ringPage)
	r.done(a, 3, 4, 5)
	r.done(a, 1, 2, 3, 4, 5, 6, 7)
	want(t, "told", dones, []told{{3, 5}, {1, 2}, {6, 7}})
	want(t, "in rows", r.inRows(), ringPage-7)
}

func TestWhatHappensToOneEndsItsRow(t *testing.T) {
	for what, happen := range map[string]func(r *rig, a *Consumer){
		"nacked":         func(r *rig, a *Consumer) { r.nack(a, wire.NackReleased, 2) },
		"dropped":        func(r *rig, _ *Consumer) { r.l.DropOldest(ReasonOverflow) },
		"pipe is lost":   func(r *rig, a *Consumer) { r.again(a, 2, nil) },
		"another's turn": func(r *rig, _ *Consumer) { r.join("b", 1); r.dispatch() },
	} {
		r := newRig(t, Mode{})
		a := r.join("a", 10)
		r.plain(20)
		r.take(a)
		happen(r, a)
		if n := r.inRows(); n != 0 {
			t.Errorf("%s: %d messages are still part of a row", what, n)
		}
	}
}

// What is on disk is leased as far as the mark is there, what is in memory alone without one.
func TestARowIsLeasedAsFarAsItIsMarked(t *testing.T) {
	r := newRig(t, Mode{Marked: true})
	a := r.join("a", 100)
	r.plain(10)
	want(t, "in rows", r.inRows(), 10)
	want(t, "without a mark", len(singles(r.take(a))), 0)
	r.l.SetMark(4)
	want(t, "marked", len(singles(r.take(a))), 4)
	r.l.Volatile(9)
	want(t, "marked", len(singles(r.take(a))), 0)
	r.l.SetMark(8)
	want(t, "marked, and in memory alone", len(singles(r.take(a))), 6)
}

// Records of one block may lie apart, if it had to grow.
func TestOnlyRecordsThatFollowEachOtherAreHandedOverTogether(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 10)
	for range 3 {
		record := append(make([]byte, 0, 64), byte(r.next))
		r.l.Append(Item{Seq: r.next, Base: 1, Record: record}, r.now)
		r.next++
	}
	want(t, "in rows", r.inRows(), 3)
	for i, s := range r.take(a) {
		want(t, "record", s.Record, []byte{byte(i + 1)})
	}
}

// What was only leased, and never handed over, nobody can be done with.
func TestAnAnswerForWhatOfARowWasNotHandedOverIsForged(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 10)
	r.plain(20)
	r.dispatch()
	r.l.Take(a, nil, 1, r.now)
	for seq := uint64(2); seq <= 20; seq++ {
		if err := r.l.Done(a, run(edition, 1, seq)); err == nil {
			t.Errorf("an answer for %d is believed", seq)
		}
	}
	r.check()
	r.done(a, 1)
}

// Nor can one that it was not handed over to.
func TestAnAnswerForWhatIsInAnothersRowIsForged(t *testing.T) {
	r := newRig(t, Mode{})
	b := r.join("b", 10)
	r.detach(b, true)
	a := r.join("a", 10)
	r.plain(10)
	r.take(a)
	for seq := uint64(1); seq <= 10; seq++ {
		if err := r.l.Done(b, run(edition, seq)); err == nil {
			t.Errorf("an answer for %d is believed", seq)
		}
	}
	want(t, "in rows", r.inRows() < 10, true) // who asks for an entry gets one
	r.done(a, 1, 2, 3)
}

func TestAPausedConsumerGetsNoRow(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 10)
	r.l.Pause(a)
	r.plain(10)
	want(t, "paused", len(r.take(a)), 0)
	r.l.Resume(a)
	want(t, "then", len(singles(r.take(a))), 10)
}

func TestAMessageThatMustBeAloneIsNotJoinedByARow(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 999)
	r.plain(ringPage)
	r.take(a)
	for seq := uint64(1); seq < ringPage; seq++ {
		r.done(a, seq)
	}
	for nonce := byte(2); nonce < 2+aloneAfter; nonce++ {
		r.take(a)
		r.again(a, nonce, nil)
	}
	r.take(a)
	r.plain(10)
	want(t, "in rows", r.inRows(), 10)
	want(t, "while it is in hand", len(r.take(a)), 0)
	r.done(a, ringPage)
	want(t, "then", len(singles(r.take(a))), 10)
}

func TestWhatComesFromTheDiskIsAsOldAsItIs(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 10)
	var b blocks
	for _, age := range []time.Duration{2 * time.Second, time.Second, 3 * time.Second} {
		it := b.item(r.next, 8, false)
		it.Accepted = r.now.Add(-age)
		r.l.Append(it, r.now)
		r.next++
	}
	want(t, "in rows", r.inRows(), 3)
	var ages []time.Duration
	for _, s := range r.take(a) {
		ages = append(ages, s.Age)
	}
	want(t, "ages", ages, []time.Duration{2 * time.Second, time.Second, 3 * time.Second})
}

// What goes to the disk stays in its row: from then on its fate, and the answer, wait for that.
func TestWhatIsMovedToDiskWaitsForItFromThenOn(t *testing.T) {
	r := newRig(t, Mode{Staged: true, Marked: true})
	r.l.Volatile(1)
	a := r.join("a", 300)
	r.plain(3 * ringPage)
	r.take(a)
	r.l.Volatile(ringPage + 10)
	r.l.SetMark(r.l.Dispatched())
	want(t, "in rows", r.inRows(), 3*ringPage)
	r.done(a, ringPage+20)
	want(t, "unsealed", r.l.Unsealed(), false)
	r.done(a, ringPage+8, ringPage+9, ringPage+10, ringPage+11)
	want(t, "unsealed", r.l.Unsealed(), true)
	fates := slices.DeleteFunc(slices.Clone(r.l.stage.marks), func(m stagedMark) bool { return m.c != nil })
	want(t, "staged", fates, []stagedMark{{seqs: ranges.Range{From: ringPage + 8, To: ringPage + 9}}})
	want(t, "in rows", r.inRows(), 3*ringPage)
}

// A page that a message keeps from leaving keeps no records of others.
func TestARowThatIsDoneKeepsNoBlock(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1000)
	r.fill(1)
	r.keyed(slices.Repeat([]string{""}, ringPage-1)...)
	r.plain(ringPage)
	r.take(a)
	for seq := uint64(2); seq < r.next; seq++ {
		r.done(a, seq)
	}
	u, _ := r.l.ring.rowAt(ringPage)
	want(t, "pieces", u.pieces, [rowPieces]piece{})
}

func TestAHoleInFrontHoldsUpARow(t *testing.T) {
	r := newRig(t, Mode{Staged: true})
	r.l.Volatile(ringPage + 1)
	r.fill(ringPage)
	r.plain(10)
	a := r.join("a", 999)
	r.l.Cancel(ringPage)
	want(t, "in rows", r.inRows(), 10)
	want(t, "before the hole is durable", len(r.take(a)), ringPage-1)
	want(t, "waits", a.Waits(), false)
	r.l.Seal(1)
	r.l.Release(1)
	want(t, "then", len(singles(r.l.Take(a, nil, 1<<20, r.now))), 10)
}

// TestTheSenderMakesNothingOfAPlainMessage: no memory is asked for, whatever way it goes.
func TestAPlainMessageAllocatesNothing(t *testing.T) {
	r := newRig(t, Mode{OnDone: func(uint64, uint64, Who) {}})
	a := r.join("a", 1<<40)
	a.creditBytes = 1 << 60
	in := blocks{buf: make([]byte, 0, 1<<24), base: 1}
	sends := make([]Send, 0, 64)
	if allocs := testing.AllocsPerRun(200, func() {
		for range 256 {
			r.l.Append(in.item(r.next, 16, false), r.now)
			r.next++
		}
		r.l.Dispatch(func(*Consumer) {})
		sends = r.l.Take(a, sends[:0], 1<<20, r.now)
		if err := r.l.Done(a, run(edition, r.next-1)); err != nil {
			t.Fatal(err)
		}
		from := r.next - 256
		d := run(edition, from)
		d.Ranges[0].To = r.next - 1
		if err := r.l.Done(a, d); err != nil {
			t.Fatal(err)
		}
		r.l.TakeConfirms(a)
	}); allocs > 10 { // of run
		t.Errorf("%.1f allocations for 256 messages", allocs)
	}
}

func TestARunIsAppendedAsItsMessagesAre(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name        string
		before, run int
		large       int // the place of a message that is no part of a row; 0: none
	}{
		{"to nothing", 0, 200, 0}, {"to the middle of a page", 40, 300, 0}, {"one", 3, 1, 0}, {"around a large one", 10, 150, 30},
	} {
		var runs, apart = New(Mode{}, 1, now, nil), New(Mode{}, 1, now, nil)
		buf := make([]byte, 0, 1<<16)
		seq := uint64(1)
		for ; seq <= uint64(c.before); seq++ {
			at := len(buf)
			buf = wire.AppendPlain(buf, seq-1, []byte("before"))
			runs.AppendPlain(seq, 1, buf[at:], now)
			apart.AppendPlain(seq, 1, buf[at:], now)
		}
		first, start := seq, len(buf)
		var ends []uint32
		for i := range c.run {
			at, size := len(buf), i%7+1
			if c.large > 0 && i == c.large {
				size = maxPlain + 1
			}
			buf = wire.AppendPlain(buf, seq-1, make([]byte, size))
			apart.AppendPlain(seq, 1, buf[at:], now)
			ends = append(ends, uint32(len(buf)-start))
			seq++
		}
		runs.AppendRun(first, 1, buf[start:], ends, now)
		if got, want := fmt.Sprint(runs.Counts(), runs.Next()), fmt.Sprint(apart.Counts(), apart.Next()); got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
		if runs.ring.n != apart.ring.n {
			t.Fatalf("%s: %d messages, want %d", c.name, runs.ring.n, apart.ring.n)
		}
		for i := range runs.ring.n {
			got, _ := runs.ring.rowAt(i)
			want, _ := apart.ring.rowAt(i)
			if a, b := fmt.Sprint(runs.ring.view(i)), fmt.Sprint(apart.ring.view(i)); a != b || (got == nil) != (want == nil) {
				t.Fatalf("%s: message %d is %s, want %s", c.name, i, a, b)
			}
		}
	}
}
