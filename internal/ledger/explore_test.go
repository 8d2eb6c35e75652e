package ledger

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// The exploration: every interleaving of one sender and two receivers, with up to two
// links alive to each, within budgets of faults. What it drives is the product's
// code; only the shell around it (world_test.go) is a test's. After each step the
// invariants are checked, and from a part of all states everything is let run without
// faults to see that nothing is stuck, lost or remembered for ever.
//
// PEERMESH_MODEL=long explores larger budgets (some ten minutes, 2 GB of memory).

// budget is how often each fault may happen, and how large the world is.
type budget struct {
	messages  int
	dials     int8 // ATTACHes written
	cuts      int8
	restarts  int8 // receivers that lose their process
	reopens   int8 // receivers that lose their memory, but not their process
	lapses    int8 // leases that run out at a receiver, by its clock
	expiries  int8 // leases that run out at the sender
	renews    int8 // RENEWs written
	refusals  int8 // handlers that fail
	crashes   int8 // of the sender
	tails     int8 // crashes of it that lose the last message
	leaves    int8 // receivers that end in good order
	wipes     int8 // receivers that lose their disk
	pasts     int8 // leases of an earlier life of the sender that run out
	disks     bool // the sender has one, and so have receivers that are no repliers
	untaken   bool // leasing and writing are two steps
	healEvery uint64
}

type actKind uint8

const (
	actDial actKind = iota
	actCut
	actRestart
	actReopen
	actLapse
	actGiveBack
	actExpire
	actCrash
	actRenew
	actAbort
	actNotice
	actRead
	actHear
	actDispatch
	actLease
	actWrite
	actStart
	actFinish
	actRefuse
	actLeave
	actTail
	actWipe
	actPast
	actWriteStore
	actSync
	actSave
)

var actNames = [...]string{"the sender dials %s", "link %[2]d to %[1]s is cut", "%s restarts", "%s is closed and opened again in its process",
	"the leases of %s run out by its clock", "%s gives back what it has not begun", "the leases of %s run out at the sender", "the sender restarts", "%s writes a RENEW", "the sender gives up its stale pipe to %s", "the sender notices that link %[2]d to %[1]s is dead",
	"%s reads from its link %d", "the sender reads from %s, link %d", "the sender leases to %s and writes", "the sender leases to %s", "the sender writes to %s",
	"%s begins the oldest in hand", "%s is done with %d", "%s fails with %d",
	"%s leaves", "the sender restarts and has lost its last message", "%s restarts and has lost its disk", "the leases of earlier lives run out", "the sender begins to write to its disk", "what the sender wrote is on its disk", "the done marks of %s are on its disk"}

// act is one step; n is the link, or the handler.
type act struct {
	kind    actKind
	node, n int8
}

func (a act) String() string {
	s := fmt.Sprintf(actNames[a.kind], string(rune('a'+a.node)), a.n)
	if i := strings.Index(s, "%!"); i >= 0 {
		s = s[:i]
	}
	return s
}

// explorer is one exploration.
type explorer struct {
	mode    Mode
	without ablation
	budget  budget
	seen    [64]seen
	states  atomic.Int64
	healed  atomic.Int64
	stop    atomic.Bool
	mu      sync.Mutex
	wrong   string
	path    []act
}

type seen struct {
	mu sync.Mutex
	m  map[uint64]struct{}
}

var keySeed = maphash.MakeSeed()

// state is a world and what is left of the budget.
type state struct {
	w    *world
	left budget
}

func (x *explorer) first() state {
	w := newWorld(x.mode, 2, x.without, x.budget.disks)
	w.plain = true
	for range x.budget.messages {
		w.put("", 0, 0)
	}
	return state{w, x.budget}
}

// explore looks at all states and returns the first violation with a short path to
// it, or "".
func (x *explorer) explore() (string, []act) {
	for i := range x.seen {
		x.seen[i].m = map[uint64]struct{}{}
	}
	// A few steps breadth first, then each of the states so found in depth, on all processors.
	frontier := []step{{state: x.first()}}
	for len(frontier) > 0 && len(frontier) < 256 && !x.stop.Load() {
		var next []step
		for _, s := range frontier {
			x.successors(s, func(t step) { next = append(next, t) })
		}
		frontier = next
	}
	work := make(chan step)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for s := range work {
				x.deepen(s)
			}
		})
	}
	for _, s := range frontier {
		work <- s
	}
	close(work)
	wg.Wait()
	if x.wrong == "" {
		return "", nil
	}
	return x.shorten(x.wrong, x.path)
}

type step struct {
	state
	path []act
}

func (x *explorer) deepen(s step) {
	x.successors(s, x.deepen)
}

// successors calls f for every state after s that was not seen before.
func (x *explorer) successors(s step, f func(step)) {
	for _, a := range s.acts() {
		if x.stop.Load() {
			return
		}
		t := state{s.w.clone(), s.left}
		t.do(a)
		wrong := t.w.wrong
		if wrong == "" {
			wrong = problem(t.w.l)
		}
		var key uint64
		if wrong == "" {
			if key = t.key(); !x.visit(key) {
				continue
			}
			if key%x.budget.healEvery == 0 {
				wrong = x.heals(t)
			}
		}
		path := append(slices.Clip(s.path), a)
		if wrong != "" {
			x.found(wrong, path)
			return
		}
		f(step{t, path})
	}
}

func (x *explorer) visit(key uint64) bool {
	s := &x.seen[key%uint64(len(x.seen))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, old := s.m[key]; old {
		return false
	}
	s.m[key] = struct{}{}
	x.states.Add(1)
	return true
}

// heals reports what is missing after everything ran on without faults.
func (x *explorer) heals(t state) string {
	w := t.w.clone()
	w.heal()
	x.healed.Add(1)
	if w.wrong == "" {
		w.wrong = problem(w.l)
	}
	return w.wrong
}

func (x *explorer) found(wrong string, path []act) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.wrong == "" {
		x.wrong, x.path = wrong, path
		x.stop.Store(true)
	}
}

// shorten leaves out steps as long as something is still wrong.
func (x *explorer) shorten(wrong string, path []act) (string, []act) {
	for again := true; again; {
		again = false
		for i := range path {
			shorter := slices.Delete(slices.Clone(path), i, i+1)
			if w := x.replay(shorter); w != "" {
				wrong, path, again = w, shorter, true
				break
			}
		}
	}
	return wrong, path
}

// replay walks a path from the beginning; steps that are not possible are left out.
func (x *explorer) replay(path []act) string {
	t := x.first()
	for _, a := range path {
		if !slices.Contains(t.acts(), a) {
			continue
		}
		t.do(a)
		if t.w.wrong != "" {
			return t.w.wrong
		}
		if s := problem(t.w.l); s != "" {
			return s
		}
	}
	return x.heals(t)
}

// acts lists the steps that are possible.
func (t *state) acts() (as []act) {
	add := func(ok bool, k actKind, node, n int) {
		if ok {
			as = append(as, act{k, int8(node), int8(n)})
		}
	}
	w, b := t.w, &t.left
	for i, r := range w.nodes {
		for n, k := range r.links {
			add(k.there && len(k.down) > 0, actRead, i, n)
			add(len(k.up) > 0, actHear, i, n)
			add(k.open && !k.there && len(k.up) == 0, actNotice, i, n)
			add(b.cuts > 0 && k.open && k.there, actCut, i, n)
		}
		add(len(r.queue) > 0 && (!w.lapsed(r) || w.without.leases), actStart, i, 0)
		for n := range r.running {
			add(true, actFinish, i, n)
			add(b.refusals > 0, actRefuse, i, n)
		}
		pipe := r.pipe() != nil && r.con.attached
		unleased := w.l.counts.Queued > 0
		add(pipe && unleased && !b.untaken, actDispatch, i, 0)
		add(pipe && unleased && b.untaken, actLease, i, 0)
		add(pipe && r.con.Pending() && b.untaken, actWrite, i, 0)
		add(b.dials > 0 && len(r.links) < 2, actDial, i, 0)
		add(b.restarts > 0 && (r.memory.Known() || len(r.links) > 0), actRestart, i, 0)
		add(b.reopens > 0 && r.memory.Known(), actReopen, i, 0)
		add(b.lapses > 0 && !w.lapsed(r), actLapse, i, 0)
		add(w.lapsed(r) && len(r.queue) > 0, actGiveBack, i, 0)
		add(b.renews > 0 && r.cur != nil, actRenew, i, 0)
		add(r.con.Stale() && slices.ContainsFunc(r.links, func(k *link) bool { return k.open }), actAbort, i, 0)
		add(b.leaves > 0 && r.cur != nil && !r.gone, actLeave, i, 0)
		add(b.wipes > 0 && r.memory.Known(), actWipe, i, 0)
		add(len(r.acked) > 0, actSave, i, 0)
		add(b.expiries > 0 && r.con.leased > 0 && !w.mode.AtMostOnce, actExpire, i, 0)
	}
	add(b.crashes > 0, actCrash, 0, 0)
	if s := w.store; s != nil {
		add(b.tails > 0 && w.hasTail(), actTail, 0, 0)
		add(b.pasts > 0 && w.l.waiting > 0, actPast, 0, 0)
		add(!s.writing && (w.l.Unsealed() || s.dirty.Count() > 0 || w.wantsMark() > 0), actWriteStore, 0, 0)
		add(s.writing, actSync, 0, 0)
	}
	return as
}

// do takes a step.
func (t *state) do(a act) {
	w, b := t.w, &t.left
	r := w.nodes[a.node]
	switch a.kind {
	case actDial:
		b.dials--
		w.dial(r)
	case actCut:
		b.cuts--
		w.cut(r, r.links[a.n])
	case actRestart:
		b.restarts--
		w.restart(r)
	case actReopen:
		b.reopens--
		w.reopen(r)
	case actLapse:
		b.lapses--
		r.until = time.Time{}
	case actGiveBack:
		w.giveBackAll(r)
	case actExpire:
		b.expiries--
		w.expire(r)
	case actCrash:
		b.crashes--
		w.restartSender()
		for range b.messages {
			if w.store == nil {
				w.put("", 0, 0)
			}
		}
	case actLeave:
		b.leaves--
		w.leave(r)
	case actTail:
		b.tails--
		w.loseTail()
	case actWipe:
		b.wipes--
		w.wipe(r)
	case actPast:
		b.pasts--
		w.endPast()
	case actWriteStore:
		w.beginSync(w.wantsMark())
	case actSync:
		w.sync()
	case actSave:
		w.save(r)
	case actRenew:
		b.renews--
		w.renew(r)
	case actAbort:
		w.abort(r)
	case actNotice:
		w.notice(r, r.links[a.n])
	case actRead:
		w.read(r, r.links[a.n])
	case actHear:
		w.hear(r, r.links[a.n])
		w.l.Tick(w.now) // for back-offs, which take no time here
	case actDispatch, actLease:
		w.dispatchTo(r)
	case actStart:
		w.start(r)
	case actFinish:
		w.finish(r, int(a.n))
	case actRefuse:
		b.refusals--
		w.refuse(r, int(a.n))
	}
	if a.kind == actWrite || !b.untaken {
		for _, r := range w.nodes {
			w.write(r, 1<<20)
		}
	}
}

// dispatchTo leases the next message to r: only it has credit, and for one.
func (w *world) dispatchTo(r *receiver) {
	w.l.Credit(r.con, wire.Credit{Messages: r.con.sentMsgs + 1, Bytes: 1 << 40})
	w.l.Dispatch(func(*Consumer) {})
	r.con.creditMsgs = r.con.sentMsgs
}

// wantsMark is the mark that the ledger wants for one message to somebody.
func (w *world) wantsMark() uint64 {
	for _, r := range w.nodes {
		if c := r.con; c.attached {
			credit := c.creditMsgs
			c.creditMsgs = c.sentMsgs + 1
			want := w.l.WantsMark()
			c.creditMsgs = credit
			return want
		}
	}
	return 0
}

// expire: r's leases run out at the sender. By then they have run out at r too, which
// counts from the same ATTACHED or an earlier one.
func (w *world) expire(r *receiver) {
	if unread := r.cur != nil && !r.cur.met; !w.lapsed(r) && !(w.without.patience && unread) {
		r.until = time.Time{}
	}
	for _, k := range r.links {
		if k.met || k.number < r.con.number {
			k.asked = time.Time{}
			for n := range k.renews {
				k.renews[n] = time.Time{}
			}
		}
	}
	r.con.renewed = w.l.at(w.now) - int64(leaseTime)
	w.l.Tick(w.now)
}

// key tells states apart: two with the same key behave the same from here on. Left out
// are counters that nothing depends on (attempts, totals of credit, statistics) and
// what the exploration keeps constant (time, keys, TTLs, gaps). The two receivers may
// be swapped.
func (t *state) key() uint64 {
	a, b := t.keyOf(0, 1), t.keyOf(1, 0)
	return min(a, b)
}

func (t *state) keyOf(order ...int) uint64 {
	var buf [1024]byte
	k := keyWriter(buf[:0])
	w, l := t.w, t.w.l
	k.store(w, order)
	k.put(uint64(t.left.leaves), uint64(t.left.tails), uint64(t.left.wipes), uint64(t.left.pasts), uint64(t.left.dials), uint64(t.left.cuts), uint64(t.left.restarts), uint64(t.left.reopens), uint64(t.left.lapses),
		uint64(t.left.expiries), uint64(t.left.renews), uint64(t.left.refusals), uint64(t.left.crashes), uint64(w.life), l.fresh, l.oldest, uint64(len(l.retry.items)))
	place := func(c *Consumer) uint64 {
		for i, n := range order {
			if w.nodes[n].con == c {
				return uint64(i + 1)
			}
		}
		return 0
	}
	for _, seq := range slices.Sorted(slices.Values(l.retry.items)) {
		k.put(seq)
	}
	k.put(uint64(l.ring.n), place(l.favoured), uint64(l.left))
	for i := range l.ring.n {
		e := l.ring.view(i)
		u, _ := l.ring.rowAt(i)
		k.put(e.seq, uint64(e.state), place(e.holder), uint64(e.lost), uint64(e.deliveries), uint64(len(e.suspects)))
		k.flags(e.taken, e.begun, e.unknown, u != nil) // there are no delays here
		n := len(k)
		for _, p := range e.suspects { // in whatever order they came
			k.put(place(p.who), 3*uint64(p.nonce[0])+uint64(p.nack))
		}
		sortPairs(k[n:])
	}
	for _, n := range order {
		k.receiver(w, w.nodes[n])
	}
	for _, gs := range w.ghosts {
		for _, g := range gs {
			k.put(uint64(g.begun), uint64(g.plain))
			k.flags(g.handled, g.settled, g.final, g.kept)
			for _, n := range order {
				k.put(uint64(g.at[n].running))
				k.flags(g.at[n].done, g.at[n].kept)
			}
		}
	}
	return maphash.Bytes(keySeed, k)
}

type keyWriter []byte

func (k *keyWriter) put(vs ...uint64) {
	for _, v := range vs {
		*k = binary.AppendUvarint(*k, v)
	}
}

func (k *keyWriter) set(s *ranges.Set) {
	k.put(uint64(s.Len()))
	for _, r := range s.Ranges() {
		k.put(r.From, r.To)
	}
}

// store is what the disks, and the ledger's dealings with them, add to a key.
func (k *keyWriter) store(w *world, order []int) {
	s, l := w.store, w.l
	if s == nil {
		return
	}
	k.put(s.mark, s.raise, l.mark, l.volatile, l.unsure, w.nextSeq, uint64(len(l.away)), uint64(l.stage.open))
	k.flags(s.writing)
	for _, set := range []*ranges.Set{&s.settled, &s.dirty, &s.wrote} {
		k.set(set)
	}
	for _, first := range w.firsts {
		k.put(first)
	}
	for _, n := range order {
		c := w.nodes[n].con
		k.flags(s.holders[n], s.met[n], slices.Contains(l.away, c.Who.Node))
		for _, m := range l.stage.marks[l.stage.head:] {
			if m.c == c {
				k.put(m.edition, m.seqs.From, m.seqs.To)
				k.flags(m.n == 0)
			}
		}
		k.put(0)
	}
	for _, m := range l.stage.marks[l.stage.head:] {
		if m.c == nil {
			k.put(m.seqs.From, m.seqs.To, uint64(m.reason))
			k.flags(m.n == 0)
		}
	}
}

func (k *keyWriter) flags(on ...bool) {
	v := uint64(0)
	for i, b := range on {
		if b {
			v |= 1 << i
		}
	}
	k.put(v)
}

// sortPairs sorts pairs of small numbers.
func sortPairs(b []byte) {
	for i := 2; i < len(b); i += 2 {
		for j := i; j > 0 && (b[j-2] > b[j] || b[j-2] == b[j] && b[j-1] > b[j+1]); j -= 2 {
			b[j-2], b[j-1], b[j], b[j+1] = b[j], b[j+1], b[j-2], b[j-1]
		}
	}
}

func (k *keyWriter) receiver(w *world, r *receiver) {
	c, l := r.con, w.l
	k.put(c.number, uint64(c.nonce[0]), uint64(c.store[0]), c.alone, uint64(c.out.len()), uint64(r.nonce), uint64(r.disk), uint64(len(r.saved)))
	k.flags(r.lessor < w.life, l.alive(c), r.gone, c.attached, c.stale, w.lapsed(r), r.unsaid, c.behind)
	for _, s := range c.out.s[c.out.head:] {
		k.put(s.from, s.to)
	}
	for _, rs := range append([]wire.EditionRanges{{Ranges: c.confirms.current.Ranges()}, {Ranges: c.revoke.Ranges()}}, older(c)...) {
		k.put(rs.Edition, uint64(len(rs.Ranges)))
		for _, p := range rs.Ranges {
			k.put(p.From, p.To)
		}
	}
	var a wire.Attached
	r.memory.Attached(&a)
	a.Number = r.last.Number
	a.Nonce, a.Forgotten = r.last.Nonce, r.memory.Known()
	*k = wire.AppendAttached(*k, a)
	for _, e := range r.saved {
		k.put(e.Edition)
		for _, p := range e.Ranges {
			k.put(p.From, p.To)
		}
	}
	for _, items := range [][]item{r.queue, r.running, r.acked} {
		k.put(uint64(len(items)))
		for _, it := range items {
			k.put(uint64(it.life), it.seq, it.edition)
			k.flags(it.flag, it.by < w.life)
		}
	}
	k.put(uint64(len(r.failed)))
	for _, f := range r.failed {
		k.put(uint64(f.life), f.seq, f.number, f.renew)
	}
	k.put(uint64(len(r.links)))
	for _, n := range r.links {
		k.put(uint64(n.life), n.number, n.renew, uint64(len(n.down)), uint64(len(n.up)))
		for _, num := range slices.Sorted(maps.Keys(n.renews)) {
			k.put(num)
			k.flags(w.now.After(n.renews[num].Add(beginWithin)))
		}
		k.flags(n.open, n.met, n.there, n.greeted, n.proven, r.cur == n, n.greeted && !w.now.After(n.asked.Add(beginWithin)))
		for _, f := range n.down {
			*k = append(*k, f...)
		}
		for _, f := range n.up {
			*k = append(*k, f...)
		}
	}
}

func older(c *Consumer) (out []wire.EditionRanges) {
	for _, o := range c.confirms.older {
		out = append(out, wire.EditionRanges{Edition: o.edition, Ranges: o.set.Ranges()})
	}
	return out
}

// How much is explored.
const (
	always   = iota // within seconds, under the race detector too
	normally        // but not under the race detector, which makes it ten times slower
	atLength        // with PEERMESH_MODEL=long
)

func size() int {
	switch {
	case os.Getenv("PEERMESH_MODEL") == "long":
		return atLength
	case raceEnabled:
		return always
	}
	return normally
}

var (
	push       = Mode{}
	onceMode   = Mode{Requests: true, AtMostOnce: true}
	retryMode  = Mode{Requests: true}
	usualFault = budget{messages: 1, dials: 3, cuts: 1, restarts: 1, lapses: 1, expiries: 1}
)

func TestEveryInterleavingKeepsThePromises(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   int
		mode   Mode
		budget budget
	}{
		{"two pipes to each, a lease that runs out", always, push, budget{messages: 1, dials: 3, lapses: 1, expiries: 1}},
		{"one message and the usual faults", normally, push, usualFault},
		{"leased is not yet written", normally, push, budget{messages: 1, dials: 2, cuts: 1, restarts: 1, lapses: 1, expiries: 1, untaken: true}},
		{"renewals on the way", normally, push, budget{messages: 1, dials: 2, lapses: 1, expiries: 1, renews: 1}},
		{"two messages, a cut", always, push, budget{messages: 2, dials: 3, cuts: 1}},
		{"two messages, a restart", normally, push, budget{messages: 2, dials: 3, restarts: 1}},
		{"a failing handler, a socket opened again", always, push, budget{messages: 1, dials: 3, cuts: 1, reopens: 1, refusals: 1}},
		{"the sender restarts", normally, push, budget{messages: 1, dials: 3, cuts: 1, crashes: 1}},
		{"a request at most once", always, onceMode, budget{messages: 1, dials: 3, cuts: 1, restarts: 1, reopens: 1}},
		{"two requests at most once", atLength, onceMode, budget{messages: 2, dials: 3, cuts: 1, restarts: 1}},
		{"an idempotent request", normally, retryMode, budget{messages: 1, dials: 2, cuts: 1, restarts: 1, lapses: 1, expiries: 1}},

		{"a receiver leaves", normally, push, budget{messages: 1, dials: 3, cuts: 1, leaves: 1, refusals: 1}},
		{"a replier leaves", normally, onceMode, budget{messages: 1, dials: 3, cuts: 1, leaves: 1}},

		{"disks: the sender restarts", always, push, budget{disks: true, messages: 1, dials: 3, crashes: 1}},
		{"disks: nobody waits any more", normally, push, budget{disks: true, messages: 1, dials: 3, crashes: 1, pasts: 1}},
		{"disks: everybody restarts", normally, push, budget{disks: true, messages: 1, dials: 3, crashes: 1, restarts: 1}},
		{"disks: a lost tail", normally, push, budget{disks: true, messages: 1, dials: 3, tails: 1}},
		{"disks: a lost disk", normally, push, budget{disks: true, messages: 1, dials: 3, wipes: 1}},
		{"disks: a failing handler", normally, push, budget{disks: true, messages: 1, dials: 3, crashes: 1, refusals: 1}},
		{"disks: a request at most once", normally, onceMode, budget{disks: true, messages: 1, dials: 2, crashes: 1, restarts: 1, reopens: 1}},
		{"disks: an idempotent request", normally, retryMode, budget{disks: true, messages: 1, dials: 2, crashes: 1, restarts: 1, pasts: 1}},

		{"four dials", atLength, push, budget{messages: 1, dials: 4, cuts: 1, restarts: 1, lapses: 1, expiries: 1}},
		{"two messages and the usual faults", atLength, push, budget{messages: 2, dials: 3, cuts: 1, restarts: 1, lapses: 1, expiries: 1}},
		{"handlers that fail twice", atLength, push, budget{messages: 1, dials: 3, cuts: 1, reopens: 1, refusals: 2, lapses: 1, expiries: 1}},
		{"two messages, one of which fails", atLength, push, budget{messages: 2, dials: 3, cuts: 1, restarts: 1, refusals: 1}},
		{"everybody restarts", atLength, push, budget{messages: 1, dials: 3, cuts: 1, restarts: 1, lapses: 1, expiries: 1, crashes: 1}},
		{"more renewals on the way", atLength, push, budget{messages: 1, dials: 3, lapses: 1, expiries: 1, renews: 2}},
		{"all that can befall an idempotent request", atLength, retryMode,
			budget{messages: 1, dials: 3, cuts: 1, restarts: 1, reopens: 1, lapses: 1, expiries: 1}},
		{"all that can befall two requests at most once", atLength, onceMode, budget{messages: 2, dials: 4, cuts: 1, restarts: 1, reopens: 1}},

		{"disks: a receiver leaves", atLength, push, budget{disks: true, messages: 1, dials: 3, crashes: 1, leaves: 1, restarts: 1}},
		{"disks: everybody restarts, and nobody waits", atLength, push, budget{disks: true, messages: 1, dials: 3, crashes: 1, restarts: 1, pasts: 1}},
		{"disks: leases of an earlier life", atLength, push, budget{disks: true, messages: 1, dials: 4, crashes: 1, lapses: 1, pasts: 1}},
		{"disks: lost ones, and a cut", atLength, push, budget{disks: true, messages: 1, dials: 3, cuts: 1, tails: 1, wipes: 1}},
		{"disks: two messages", atLength, push, budget{disks: true, messages: 2, dials: 3, crashes: 1, pasts: 1}},
		{"disks: a failing handler, and restarts", atLength, push, budget{disks: true, messages: 1, dials: 3, crashes: 1, restarts: 1, refusals: 1, pasts: 1}},
		{"disks: two restarts of the sender", atLength, push, budget{disks: true, messages: 1, dials: 4, crashes: 2, restarts: 1, pasts: 1}},
		{"disks: all that can befall leases", atLength, push, budget{disks: true, messages: 1, dials: 3, cuts: 1, crashes: 1, lapses: 1, expiries: 1, pasts: 1}},
		{"disks: all that can befall a request at most once", atLength, onceMode,
			budget{disks: true, messages: 1, dials: 3, cuts: 1, crashes: 1, restarts: 1, reopens: 1, pasts: 1}},
		{"disks: all that can befall an idempotent request", atLength, retryMode,
			budget{disks: true, messages: 1, dials: 3, cuts: 1, crashes: 1, lapses: 1, expiries: 1, pasts: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.size > size() {
				t.Skip("not at this length, see PEERMESH_MODEL")
			}
			c.budget.healEvery = 17
			x := &explorer{mode: c.mode, budget: c.budget}
			began := time.Now()
			wrong, path := x.explore()
			t.Logf("%d states, %d of them let run on, in %v", x.states.Load(), x.healed.Load(), time.Since(began).Round(time.Millisecond))
			if wrong != "" {
				t.Errorf("%s%s", wrong, list(path))
			}
		})
	}
}

// Each rule taken out alone must bring a violation back, or the exploration proves
// nothing about it.
func TestNoRuleCanBeLeftOut(t *testing.T) {
	restarts := budget{disks: true, messages: 1, dials: 3, cuts: 1, crashes: 1, restarts: 1}
	reopened := budget{messages: 1, dials: 3, cuts: 1, reopens: 1}
	for _, c := range []struct {
		rule    string // of DELIVERY.md, or of the type world
		without ablation
		mode    Mode
		budget  budget
	}{
		{"the fence: older pipes end before an ATTACH is answered", ablation{fence: true}, push, usualFault},
		{"the fence, for requests", ablation{fence: true}, onceMode, usualFault},
		{"ATTACHED tells what is held", ablation{held: true}, push, usualFault},
		{"ATTACHED tells what is held, for requests", ablation{held: true}, onceMode, usualFault},
		{"ATTACHED tells every done mark", ablation{done: true}, push, usualFault},
		{"ATTACHED tells every done mark, for requests", ablation{done: true}, onceMode, usualFault},
		{"CONFIRM names ranges, never the highest answer", ablation{ranges: true}, push, budget{messages: 2, dials: 2, cuts: 1}},
		{"done marks are kept until they are confirmed", ablation{marks: true}, push, usualFault},
		{"deliveries that may not be the first are flagged", ablation{flag: true}, push, usualFault},
		{"only the very process can say not here", ablation{nonce: true}, push, usualFault},
		{"only the very process can say not here, for requests", ablation{nonce: true}, onceMode, usualFault},
		{"a mark of another edition never matches", ablation{edition: true}, push, budget{messages: 1, dials: 3, cuts: 1, crashes: 1}},
		{"the sender heeds only its newest ATTACHED", ablation{deafToAttached: true}, push, usualFault},
		{"answers of older pipes have no effect", ablation{deafToAnswers: true}, push, usualFault},
		{"a memory that is new in an old process says so", ablation{forgotten: true}, push, reopened},
		{"a memory that is new in an old process says so, for requests", ablation{forgotten: true}, onceMode, reopened},
		{"a NACKed message is held until the NACK was read", ablation{nackHeld: true}, push,
			budget{messages: 1, dials: 3, cuts: 1, refusals: 1}},
		{"nothing is begun when the leases have run out", ablation{leases: true}, push, usualFault},
		{"what is not begun when they ran out is given back, whatever ATTACHED told", ablation{drop: true}, push, usualFault},
		{"ATTACHED renews nothing before it was read", ablation{patience: true}, push, usualFault},
		{"LEAVE says what was begun", ablation{begun: true}, push, budget{messages: 1, dials: 2, leaves: 1}},
		{"LEAVE says what was begun, for requests", ablation{begun: true}, onceMode, budget{messages: 1, dials: 2, leaves: 1}},
		{"disks: DONE is told when the done mark is on disk", ablation{ackEarly: true}, push, restarts},
		{"disks: ATTACHED tells only done marks that are on disk", ablation{attachedEarly: true}, push, restarts},
		{"disks: CONFIRM is told when the settlement is on disk", ablation{stage: true}, push, restarts},
		{"disks: ATTACH names no Start above what is on disk", ablation{start: true}, push, restarts},
		{"disks: nothing is dispatched above the mark", ablation{mark: true}, push, restarts},
		{"disks: the mark is read back", ablation{markRead: true}, push, restarts},
		{"disks: what an earlier life dispatched is flagged", ablation{unknownFlag: true}, push, restarts},
		{"disks: what an earlier life dispatched is not leased at once", ablation{unknownWait: true}, push, budget{disks: true, messages: 1, dials: 2, crashes: 1}},
		{"disks: who may hold messages is on disk before its ATTACH", ablation{holders: true}, push, budget{disks: true, messages: 1, dials: 3, crashes: 1}},
		{"disks: what was settled is read back", ablation{settledRead: true}, push, restarts},
		{"disks: after a lost tail the same seq is another message", ablation{edition: true}, push, budget{disks: true, messages: 1, dials: 3, cuts: 1, tails: 1}},
		{"disks: a lost disk is a new store", ablation{store: true}, push, budget{disks: true, messages: 1, dials: 3, cuts: 1, wipes: 1}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			c.budget.healEvery = 3
			x := &explorer{mode: c.mode, budget: c.budget, without: c.without}
			wrong, path := x.explore()
			if wrong == "" {
				t.Fatalf("%d states and nothing wrong without this rule", x.states.Load())
			}
			t.Logf("%s%s", wrong, list(path))
		})
	}
}

func list(path []act) string {
	s := ""
	for i, a := range path {
		s += fmt.Sprintf("\n%3d %v", i+1, a)
	}
	return s
}
