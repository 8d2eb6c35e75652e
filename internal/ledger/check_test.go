package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// problem looks for anything inside l that contradicts what its parts promise each
// other; I13 comes first. It is called after every step of every test, so that a
// lane that will get stuck is found when it happens and not when it is missed.
func problem(l *Ledger) string {
	c := l.Counts()
	sum := c.Queued + c.Leased + c.Done + c.Dead + c.Expired + c.Handed
	for _, n := range c.Dropped {
		sum += n
	}
	if c.Carried+c.Accepted != sum {
		return fmt.Sprintf("I13: carried %d and accepted %d, but fates and states add up to %d: %+v", c.Carried, c.Accepted, sum, c)
	}
	leased := map[*Consumer]int{}
	seen := ringCount{lanes: map[uint64]uint64{}}
	for i := range l.ring.n {
		e := l.ring.view(i)
		if e.seq != l.ring.seqAt(i) || e.state != l.ring.stateAt(i) {
			return fmt.Sprintf("seq %d (%v) shows as %d (%v)", l.ring.seqAt(i), l.ring.stateAt(i), e.seq, e.state)
		}
		if i > 0 && l.ring.seqAt(i-1) >= e.seq {
			return fmt.Sprintf("seq %d stands before %d", l.ring.seqAt(i-1), e.seq)
		}
		if e.state.settled() {
			seen.settled++
			continue
		}
		if s := problemOf(l, &e, &seen); s != "" {
			return fmt.Sprintf("seq %d (%v): %s", e.seq, e.state, s)
		}
		if e.state == Leased {
			leased[e.holder]++
		}
	}
	for _, cmp := range []struct {
		what      string
		got, want uint64
	}{
		{"queued", c.Queued, seen.queued}, {"leased", c.Leased, seen.leased}, {"bytes", c.Bytes, seen.bytes},
		{"settled in the ring", uint64(l.settled), uint64(seen.settled)}, {"parked", uint64(l.parked), uint64(seen.parked)},
		{"waiting", uint64(l.waiting), uint64(seen.waiting)}, {"early", uint64(l.early), uint64(seen.early)},
		{"absent", uint64(l.absent), uint64(seen.absent)},
	} {
		if cmp.got != cmp.want {
			return fmt.Sprintf("%s: counted %d, there are %d", cmp.what, cmp.got, cmp.want)
		}
	}
	if l.ring.n > 0 && l.ring.stateAt(0).settled() {
		return "a settled message pins the front of the ring"
	}
	if up := len(slices.DeleteFunc(slices.Clone(l.consumers), func(c *Consumer) bool { return !c.attached })); l.up != up {
		return fmt.Sprintf("counted %d attached, there are %d", l.up, up)
	}
	for _, con := range l.consumers {
		if s := problemAt(l, con, leased[con]); s != "" {
			return fmt.Sprintf("consumer %s: %s", con.Who.Label, s)
		}
	}
	return problemOfBounds(l)
}

type ringCount struct {
	queued, leased, bytes uint64
	settled, parked       int
	waiting               int
	early, absent         int
	lanes                 map[uint64]uint64 // key to the message in flight
}

// problemOf checks an owed entry: that whatever must move it on knows of it.
func problemOf(l *Ledger, e *entry, seen *ringCount) string {
	seen.bytes += uint64(len(e.record))
	if e.early {
		seen.early++
	}
	if e.absent {
		seen.absent++
		if e.record != nil || e.state != Delayed || e.doubt() {
			return "was sent without its record"
		}
	}
	ln := l.lanes[e.key]
	head := ln != nil && ln.head == e.seq
	waits := ln != nil && slices.Contains(ln.waiting.s[ln.waiting.head:], e.seq)
	switch e.state {
	case Leased:
		seen.leased++
	case Waiting:
		seen.queued++
		seen.waiting++
		if !e.unknown || e.seq >= l.unsure || !e.doubt() {
			return "waits for nobody"
		}
	default:
		seen.queued++
		if e.seq < l.oldest {
			return fmt.Sprintf("DropOldest begins to look at %d only", l.oldest)
		}
		if e.unknown && len(l.away) > 0 && e.state != Delayed {
			return "does not wait for those who may have it"
		}
		if l.mode.AtMostOnce && e.doubt() {
			return "may have been begun and would be dispatched again"
		}
	}
	aside := false
	switch e.state {
	case Queued:
		if e.seq < l.fresh && !slices.Contains(l.retry.items, e.seq) {
			return "will never be dispatched"
		}
		if e.key != 0 && e.seq < l.fresh && !head && !(e.unknown && waits) {
			return "is not the head of its lane"
		}
	case Delayed:
		if !slices.ContainsFunc(l.delayed.items, func(t timed) bool { return t.seq == e.seq }) && !(e.absent && !e.early) {
			return "will never leave its back-off"
		}
		aside = !head && !e.unknown // it has not come to its lane yet
		if aside && waits {
			return "is in its lane before its time"
		}
	case Parked:
		seen.parked++
		at := slices.ContainsFunc(l.consumers, func(c *Consumer) bool {
			return c.attached && l.home(e.key) == c && slices.Contains(c.parked.items, e.seq)
		})
		if head != at || waits == head {
			return fmt.Sprintf("stuck: head of its lane %v, waits in it %v, for its consumer %v", head, waits, at)
		}
	case Leased:
		if e.holder == nil || !slices.Contains(l.consumers, e.holder) {
			return "leased to nobody"
		}
		if e.taken && !e.mayHold(e.holder) {
			return "sent to a process that is not suspected"
		}
		if !e.taken && !e.holder.out.contains(e.seq) {
			return "leased and never to be taken"
		}
		if !e.taken && e.mayHold(e.holder) {
			return "about to be sent to one that may have it"
		}
		if e.key != 0 && !head && !e.unknown {
			return "leased before its turn"
		}
	}
	if e.key != 0 && e.state != Parked && e.seq < l.fresh && !e.unknown && !aside {
		if other := seen.lanes[e.key]; other != 0 {
			return fmt.Sprintf("of the same key as %d, which is let go too", other)
		}
		seen.lanes[e.key] = e.seq
	}
	if e.expires != 0 && !(e.overdue && (e.state == Leased || e.state == Waiting)) && !slices.Contains(l.expiry.items, timed{e.expires, e.seq}) {
		return "its TTL is forgotten"
	}
	return ""
}

func (q *spans) contains(seq uint64) bool {
	return slices.ContainsFunc(q.s[q.head:], func(s span) bool { return s.from <= seq && seq <= s.to })
}

func problemAt(l *Ledger, c *Consumer, leased int) string {
	switch {
	case c.leased != leased:
		return fmt.Sprintf("counted %d leases, there are %d", c.leased, leased)
	case c.sentMsgs > c.creditMsgs:
		return fmt.Sprintf("%d messages sent with credit for %d", c.sentMsgs, c.creditMsgs)
	case c.sentBytes > c.creditBytes:
		return fmt.Sprintf("%d bytes sent with credit for %d", c.sentBytes, c.creditBytes)
	case !c.attached && c.out.len() > 0:
		return "has something to take and no pipe"
	case c.parked.len() > 2*l.parked+2*minRing:
		return fmt.Sprintf("%d wait for it, of %d parked", c.parked.len(), l.parked)
	}
	if c.alone != 0 {
		if e, ok := l.ring.look(c.alone); !ok || e.state != Leased && e.state != Parked {
			return fmt.Sprintf("kept for %d, which does not need it", c.alone)
		}
	}
	return ""
}

// problemOfBounds checks that nothing is remembered that has no business to be.
func problemOfBounds(l *Ledger) string {
	owed, _ := l.Owed()
	slack := 2*owed + 2*minRing
	for _, b := range []struct {
		what      string
		got, most int
	}{
		{"retries", l.retry.len(), slack}, {"delays and back-offs", l.delayed.len(), slack}, {"due", l.due.len(), slack}, {"TTLs", l.expiry.len(), slack},
		{"lanes", len(l.lanes), owed}, {"settled entries", l.settled, max(keepRing, 3*owed) + 1},
		{"staged marks", l.stage.open - len(l.stage.marks) + l.stage.head, 0},
		{"slots", l.ring.slots(), max(keepRing, 2*(l.ring.n+2*ringPage), l.ring.most*ringPage)}, {"idle rows", len(l.ring.idle), max(keepPages, len(l.ring.pages)/4+1)}, {"ranges of late answers", l.late.Len(), maxLate},
	} {
		if b.got > b.most {
			return fmt.Sprintf("%d %s with %d messages owed, want at most %d", b.got, b.what, owed, b.most)
		}
	}
	return ""
}

// rig is a ledger with a clock and a record of what was settled. Every method checks
// the ledger afterwards.
type rig struct {
	testing.TB
	l     *Ledger
	now   time.Time
	next  uint64
	fates map[uint64]Settlement
	order []uint64 // seqs as they were settled
	woken []string
}

const edition = 7

// newRig makes an empty ledger with push's defaults where mode does not say.
func newRig(t testing.TB, mode Mode) *rig {
	mode.Edition = edition
	if mode.Lease == 0 {
		mode.Lease = 10 * time.Second
	}
	if mode.MaxBackoff == 0 {
		mode.Backoff, mode.MaxBackoff = time.Second, time.Minute
	}
	r := &rig{TB: t, now: time.Unix(1e9, 0), next: 1, fates: map[uint64]Settlement{}}
	r.l = New(mode, 1, r.now, func(s Settlement) {
		if old, ok := r.fates[s.Seq]; ok {
			r.Fatalf("seq %d settled twice: %+v and %+v", s.Seq, old, s)
		}
		r.fates[s.Seq] = s
		r.order = append(r.order, s.Seq)
	})
	return r
}

func (r *rig) check() {
	r.Helper()
	if s := problem(r.l); s != "" {
		r.Fatal(s)
	}
}

// put accepts a message and returns its seq.
func (r *rig) put(it Item) uint64 {
	r.Helper()
	it.Seq, it.Base = r.next, r.next
	r.next++
	if it.Record == nil && !it.Absent {
		it.Record = []byte("record")
	}
	r.l.Append(it, r.now)
	r.check()
	return it.Seq
}

// fill accepts n messages without a key or TTL.
func (r *rig) fill(n int) {
	r.Helper()
	for range n {
		r.put(Item{})
	}
}

// keyed accepts one message per key.
func (r *rig) keyed(keys ...string) {
	r.Helper()
	for _, k := range keys {
		r.put(Item{Key: k})
	}
}

func nonceOf(b byte) [16]byte { return [16]byte{b} }

// hello is what a puller that remembers nothing answers, with room for all.
func (r *rig) hello(c *Consumer, nonce byte) wire.Attached {
	return wire.Attached{Number: c.number, Nonce: nonceOf(nonce), Store: nonceOf(nonce), Messages: 1 << 20, Bytes: 1 << 40}
}

func (r *rig) attached(c *Consumer, a wire.Attached) {
	r.Helper()
	ok, err := r.l.Attached(c, a, r.now)
	if !ok || err != nil {
		r.Fatalf("Attached(%+v) = %v, %v", a, ok, err)
	}
	r.check()
}

// join attaches a new consumer with that many messages of credit and dispatches
// nothing yet.
func (r *rig) join(name string, credit uint64) *Consumer {
	r.Helper()
	return r.joins(name, func(a *wire.Attached) { a.Messages = credit })
}

// joins is join with an answer that is changed by edit.
func (r *rig) joins(name string, edit func(*wire.Attached)) *Consumer {
	r.Helper()
	c := r.l.Join(Who{Node: nodeOf(name), Label: name}, 0)
	r.l.Attach(c)
	a := r.hello(c, 1)
	edit(&a)
	r.attached(c, a)
	return c
}

func nodeOf(name string) identity.ID { return identity.ID{name[0]} }

// again replaces c's pipe; what tells its answer is changed by edit.
func (r *rig) again(c *Consumer, nonce byte, edit func(*wire.Attached)) {
	r.Helper()
	r.l.Attach(c)
	r.check()
	a := r.hello(c, nonce)
	if edit != nil {
		edit(&a)
	}
	r.attached(c, a)
}

func (r *rig) dispatch() {
	r.Helper()
	r.l.Dispatch(func(c *Consumer) { r.woken = append(r.woken, c.Who.Label) })
	r.check()
}

// take dispatches and takes all there is for c.
func (r *rig) take(c *Consumer) []Send {
	r.Helper()
	r.dispatch()
	s := r.l.Take(c, nil, 1<<30, r.now)
	r.check()
	return s
}

// seqs is take, but for what is nobody's concern.
func (r *rig) seqs(c *Consumer) (out []uint64) {
	r.Helper()
	for _, s := range r.take(c) {
		out = append(out, s.Seq)
	}
	return out
}

// run is seqs as the ranges of one edition.
func run(edition uint64, seqs ...uint64) wire.EditionRanges {
	var set ranges.Set
	for _, s := range seqs {
		set.Add(s, s)
	}
	return wire.EditionRanges{Edition: edition, Ranges: set.Append(nil)}
}

func told(seqs ...uint64) []wire.EditionRanges {
	return []wire.EditionRanges{run(edition, seqs...)}
}

func (r *rig) done(c *Consumer, seqs ...uint64) {
	r.Helper()
	if err := r.l.Done(c, run(edition, seqs...)); err != nil {
		r.Fatalf("Done(%v) = %v", seqs, err)
	}
	r.check()
}

func (r *rig) nack(c *Consumer, reason wire.NackReason, seqs ...uint64) {
	r.Helper()
	e := run(edition, seqs...)
	if err := r.l.Nack(c, wire.Nack{Reason: reason, Edition: edition, Ranges: e.Ranges, Text: "boom"}, r.now); err != nil {
		r.Fatalf("Nack(%v, %v) = %v", reason, seqs, err)
	}
	r.check()
}

func (r *rig) detach(c *Consumer, graceful bool) {
	r.Helper()
	r.l.Detached(c, c.number, graceful)
	r.check()
}

// pass lets time go by and ticks, and returns how long until the next tick; zero if
// nothing waits.
func (r *rig) pass(d time.Duration) time.Duration {
	r.Helper()
	r.now = r.now.Add(d)
	next := r.l.Tick(r.now)
	r.check()
	if next.IsZero() {
		return 0
	}
	return next.Sub(r.now)
}

// renew lets time go by with RENEWs of these consumers, as long as a lease lasts and
// then some, so that the leases of all others end.
func (r *rig) renew(cs ...*Consumer) {
	r.Helper()
	for range 6 {
		r.pass(2 * time.Second)
		for _, c := range cs {
			r.l.Renew(c, r.now)
		}
	}
}

// want compares what a test got with what it expects.
func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// flags says of each message sent whether it is flagged: "1 2! 3".
func flags(sends []Send) string {
	s := ""
	for i, m := range sends {
		if i > 0 {
			s += " "
		}
		s += fmt.Sprint(m.Seq)
		if m.Redelivered {
			s += "!"
		}
	}
	return s
}

// fate is a message's fate in a word, "owed" if it has none.
func (r *rig) fate(seq uint64) string {
	s, ok := r.fates[seq]
	if !ok {
		return "owed"
	}
	if s.State == Dropped {
		return "dropped " + s.Reason
	}
	return s.State.String()
}
