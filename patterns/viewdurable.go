package patterns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/ranges"
	"peermesh/internal/topic"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// standing is a durable subscription at its publisher: a queue view of the log, with a
// ledger of its own. It outlives its consumers and the publisher's process. The Pub's mutex
// guards it.
//
//	         first attach              patterns told
//	unknown --------------> undecided ---------------> standing
//	         or Expect          |                        |   ^
//	                            +-- Unsubscribe, gone <--+   | attach
//	                                            Expel: expelled
//
// An undecided one holds on to everything: what it wants takes effect from its first seq.
type standing struct {
	*feed
	log  *log
	name string
	key  string // of its note

	first      uint64 // what was published before is not its business
	lastValues bool   // it begins with the retained messages
	expelled   bool
	versions   versions
	over       ranges.Set   // all but what it is owed and what it has not looked at
	fated      ranges.Set   // of that what met a fate, from the first that is not over on
	own        ranges.Set   // messages for it alone, and not settled
	unseen     ranges.Range // of these no copies were counted when they were published; From 0: none
	gaps       holes        // which its consumers may not have been told
	tried      map[uint64]spool.Try
	onDisk     uint64      // bytes of the copies that were counted and are not in the ledger
	written    uint64      // seqs up to this one are counted in the note on disk
	dirty      bool        // the note should be written
	lossy      bool        // the disk has lost something that may have been owed
	telling    spool.Group // brings patterns, or its end, that consumers are to be told; 0: none

	holeLimit int // gaps of one reason before they are merged again
	exclusive bool
	pipes     map[socket.Who]int // calls of Meet under way
}

// maxInView bounds the messages in one ledger, and so the ranges in the note.
const maxInView = 1 << 15

// checkpoint is after how many messages a note is written that would not be otherwise: so
// many have to be read again when the channel is opened.
const checkpoint = 4096

// Reasons for Dropped.
const (
	reasonExpelled = "expelled"
	reasonLimit    = "limit"
)

func newStanding(l *log, name string, n *viewNote) *standing {
	v := &standing{log: l, name: name, key: l.notePrefix("view") + name, first: n.first, expelled: n.expelled, lastValues: n.values, versions: n.versions,
		over: n.settled.Clone(), fated: n.settled.Clone(), own: n.own.Clone(), unseen: n.unseen, gaps: n.gaps, tried: n.tries, onDisk: n.bytes, written: n.counted,
		pipes: map[socket.Who]int{}}
	if v.tried == nil {
		v.tried = map[uint64]spool.Try{}
	}
	v.feed = newFeed(l.tail, &v.over, n.mark, n.holders)
	v.dirty = v.marked < n.mark
	v.most = min(v.most, maxInView)
	v.books, v.label, v.tell, v.tellDone, v.lose, v.wants, v.pass, v.taken = v, name, v.tellFate, v.tellAll, v.lost, v.match, v.passed, v.take
	v.dropped = map[string]uint64{}
	v.carried = n.owed
	v.held = len(v.versions) == 0 && !v.expelled
	cfg := l.pub.outboxConfig()
	cfg.Local.Edition = l.tail.edition
	cfg.Mode = v.mode(cfg.Mode)
	cfg.OnSettled, cfg.OnDone = v.settledOne, v.doneAll
	cfg.OnPatterns = func(_ uint64, texts []string) (uint64, error) { return v.subscribe(texts) }
	cfg.OnUnsubscribe = v.unsubscribe
	v.box = socket.NewOutbox(cfg, &l.pub.mu, v.next)
	return v
}

// match reports whether the subscription wants the message.
func (v *standing) match(seq uint64, topicName string) bool {
	switch {
	case v.log.gone.Contains(seq):
		return false
	case v.log.own.Contains(seq):
		return v.own.Contains(seq)
	}
	return v.versions.at(seq).match(topicName)
}

// counted makes it owed one more message.
func (v *standing) counted(size int) {
	v.accepted.Add(1)
	v.onDisk += uint64(size)
	v.dirty = v.dirty || v.log.pub.next-v.written > checkpoint
}

// take notes that a message goes to the ledger.
func (v *standing) take(seq uint64, size int) {
	if v.unseen.From > 0 && v.unseen.From <= seq && seq <= v.unseen.To {
		v.accepted.Add(1)
		return
	}
	v.onDisk -= min(v.onDisk, uint64(size))
}

// passed notes that messages are not for this subscription.
func (v *standing) passed(from, to uint64) {
	v.over.Add(from, to)
	v.log.due.Add(from, to)
}

// lost states what the disk has lost, and passes over what was settled for everybody.
func (v *standing) lost(from, to uint64) {
	for r := range v.log.gone.Missing(from, to) {
		v.lossy = true
		v.tellGap(r.From, r.To, wire.GapCorrupt)
		v.log.owner.lost(r.From, r.To)
	}
	v.passed(from, to)
}

// missing states what the disk has lost before the channel was opened.
func (v *standing) missing(from, to uint64) {
	if v.expelled || max(from, v.first) > to {
		return
	}
	for r := range v.fated.Missing(max(from, v.first), to) {
		v.lossy = true
		v.tellGap(r.From, r.To, wire.GapCorrupt)
	}
}

// writeOff settles the account of what was lost: when nothing is on disk any more, what is
// still counted was.
func (v *standing) writeOff() {
	if !v.lossy || v.next < v.log.stored || v.log.stored < v.log.pub.next {
		return
	}
	v.lossy, v.dirty = false, true
	v.dropped[ledger.ReasonDamaged] += v.waiting()
	v.onDisk = 0
}

// settledOne notes a message's fate.
func (v *standing) settledOne(st ledger.Settlement) {
	switch st.State {
	case ledger.Done:
		v.gapsRead(st.By)
	case ledger.Dead:
		v.noteGap(st.Seq, st.Seq, wire.GapDead)
	case ledger.Expired:
		v.noteGap(st.Seq, st.Seq, wire.GapExpired)
	default:
		v.noteGap(st.Seq, st.Seq, wire.GapDropped)
	}
	v.settled(st)
}

// doneAll is settledOne for neighbours that are done.
func (v *standing) doneAll(from, to uint64, by socket.Who) {
	v.gapsRead(by)
	v.feed.doneAll(from, to, by)
}

func (v *standing) tellFate(st ledger.Settlement) { v.log.pub.settled(st, v.name) }

func (v *standing) tellAll(from, to uint64, by socket.Who) { v.log.pub.doneAll(from, to, by, v.name) }

// maxHoles bounds the gaps kept of one reason; beyond it neighbours with nothing owed
// between them are merged.
const maxHoles = 4096

// noteGap keeps a gap until it is known to be read.
func (v *standing) noteGap(from, to uint64, reason wire.GapReason) {
	set := &v.gaps[reason]
	set.Add(from, to)
	if v.holeLimit = max(v.holeLimit, maxHoles); set.Len() <= v.holeLimit {
		return
	}
	defer func() { v.holeLimit = 2 * set.Len() }() // what is left has something owed between
	rs := set.Append(nil)
	for i, r := range rs[1:] {
		if between := (ranges.Range{From: rs[i].To + 1, To: r.From - 1}); len(covered([]ranges.Range{between}, &v.over)) == 1 {
			set.Add(between.From, between.To)
		}
	}
}

// tellGap is noteGap for a gap that the ledger knows nothing of.
func (v *standing) tellGap(from, to uint64, reason wire.GapReason) {
	v.noteGap(from, to, reason)
	for _, c := range v.box.Ledger().Consumers() {
		v.box.Ledger().TellOne(c, wire.Gap{From: from, To: to, Reason: reason})
	}
}

// gapsRead forgets the gaps when a consumer has certainly been told of them.
func (v *standing) gapsRead(by socket.Who) {
	if !slices.ContainsFunc(v.gaps[:], func(s ranges.Set) bool { return s.Count() > 0 }) {
		return
	}
	for _, c := range v.box.Ledger().Consumers() {
		if c.Who == by && c.HolesRead() {
			v.gaps = holes{}
		}
	}
}

// write keeps decisions in the note.
func (v *standing) write(c *spool.Change, r ruling) {
	for _, s := range r.settled {
		v.over.Add(s.From, s.To)
		v.fated.Add(s.From, s.To)
		v.log.due.Add(s.From, s.To)
		for _, own := range covered(v.own.Append(nil), &v.over) {
			v.own.Remove(own.From, own.To)
			v.log.settle(c, own.From, own.To)
		}
		if len(v.tried) > 0 {
			maps.DeleteFunc(v.tried, func(seq uint64, _ spool.Try) bool { return s.From <= seq && seq <= s.To })
		}
	}
	for _, t := range r.tries {
		v.tried[t.Seq] = spool.Try{Seq: t.Seq, Attempts: t.Attempt, Deliveries: t.Deliveries}
	}
	note := v.note().append(nil)
	if len(note) > spool.MaxNoteSize { // what bounds its parts allows no such thing
		v.log.fail(fmt.Errorf("patterns: subscription %q: a note of %d bytes", v.name, len(note)))
		return
	}
	c.Put(v.key, note)
	v.dirty, v.written = false, v.log.pub.next-1
}

// note is the subscription as it is now.
func (v *standing) note() *viewNote {
	if v.unseen.From = max(v.unseen.From, v.next); v.unseen.From > v.unseen.To {
		v.unseen = ranges.Range{}
	}
	low := v.lowest()
	v.versions = v.versions.trim(low)
	v.fated.Remove(0, low-1)
	_, bytes := v.box.Ledger().Owed()
	n := &viewNote{expelled: v.expelled, values: v.lastValues, first: v.first, mark: v.marked, counted: v.log.pub.next - 1, owed: v.owed() + v.untold(),
		bytes: v.onDisk + bytes, unseen: v.unseen, settled: v.fated.Clone(), own: v.own, gaps: v.gaps, tries: v.tried, versions: v.versions}
	n.settled.Add(0, low-1) // what was passed over above is passed over again in the next life
	for h := range v.holders {
		n.holders = append(n.holders, h)
	}
	return n
}

// lowest is the first seq that is not over, or the next one.
func (v *standing) lowest() uint64 {
	end := v.log.pub.next
	for r := range v.over.Missing(1, max(end, 2)-1) {
		return min(r.From, end)
	}
	return end
}

// owed is how many messages the subscription is owed, as far as that is known.
func (v *standing) owed() uint64 {
	n, _ := v.box.Ledger().Owed()
	return v.waiting() + uint64(n)
}

// idle reports whether it is owed nothing, and what was settled is on disk.
func (v *standing) idle() bool {
	unlooked := v.held && v.first < v.log.pub.next || v.unseen.From > 0 && v.next <= v.unseen.To
	return !unlooked && v.feed.idle()
}

// subscribe puts patterns in force: those of the first attach from where the subscription
// begins, others from the next message on. The consumer is told when that is on disk.
func (v *standing) subscribe(texts []string) (uint64, error) {
	patterns, err := topic.ParseAll(texts)
	if err != nil {
		return 0, err
	}
	if err := v.log.failure(); err != nil {
		return 0, err
	}
	now := v.versions.now()
	if now != nil && slices.Equal(now.patterns, patterns) {
		if v.telling > 0 {
			return 0, nil
		}
		return now.first, nil
	}
	first := v.log.pub.next
	switch {
	case v.expelled:
		v.expelled = false
		v.tellGap(v.first, first-1, wire.GapRetention) // first: where it was expelled
		v.first = first
	case now == nil:
		if first = v.first; first < v.log.pub.next {
			v.unseen = ranges.Range{From: first, To: v.log.pub.next - 1}
		}
	}
	v.versions = v.versions.change(first, patterns)
	v.held = false
	var values []*socket.Message
	if v.lastValues {
		v.lastValues = false
		values = v.log.lastValues(patterns)
	}
	c := v.log.store.Begin()
	defer c.End()
	for _, m := range values {
		if f, ok := v.log.copyFor(c, m); ok {
			v.own.Add(f.seq, f.seq)
			v.log.own.Add(f.seq, f.seq)
			v.counted(len(f.record))
			v.log.arrivals.add(c.Group(), f, v.log.owner.now)
		}
	}
	v.write(c, ruling{})
	v.log.ask(c)
	v.telling = c.Group()
	v.log.hungry()
	return 0, nil
}

// groupLanded: group g is on disk.
func (v *standing) groupLanded(g spool.Group) {
	if v.telling > 0 && v.telling <= g {
		v.telling = 0
		if now := v.versions.now(); now != nil {
			v.box.Subscribed(now.first)
		}
	}
}

// exceeds reports whether so much more would be over the limit.
func (v *standing) exceeds(messages, size uint64) bool {
	set := &v.log.owner.set
	_, bytes := v.box.Ledger().Owed()
	return set.limits.Count > 0 && v.owed()+messages > uint64(set.limits.Count) ||
		set.limits.Bytes > 0 && v.onDisk+bytes+size > uint64(set.limits.Bytes)
}

// limit enforces the limits, but for blocking, and returns when it must be called next.
func (v *standing) limit(now time.Time) (next time.Time) {
	set := &v.log.owner.set
	if set.excess != DropOldest && set.excess != Expel {
		return next
	}
	led := v.box.Ledger()
	for {
		at, ok := led.Oldest()
		old := ok && set.limits.Age > 0 && now.Sub(at) >= set.limits.Age
		switch {
		case !old && !v.exceeds(0, 0):
			if ok && set.limits.Age > 0 {
				next = at.Add(set.limits.Age)
				v.log.owner.wind(next)
			}
			return next
		case set.excess == Expel:
			v.expel()
			return next
		case !led.DropOldest(reasonLimit):
			return next // all that was read is in hand somewhere
		}
	}
}

// giveUp drops all that the subscription is owed.
func (v *standing) giveUp(reason string) {
	v.box.Ledger().DropAll(reason)
	if n := v.waiting(); n > 0 {
		v.dropped[reason] += n
	}
	v.onDisk = 0
	v.dirty = true
}

var errExpelled = errors.New("patterns: the subscription was expelled: it was owed more than the limit")

// expel ends the subscription until a consumer attaches again, which is told of the gap.
func (v *standing) expel() {
	end := v.log.pub.next
	v.first = v.lowest()
	v.giveUp(reasonExpelled)
	v.passed(0, end-1)
	v.next = max(v.next, end)
	v.earlier.Clear()
	v.versions, v.expelled, v.unseen = nil, true, ranges.Range{}
	v.box.Expel(errExpelled)
}

// ErrTaken is a durable subscription that another node has exclusively, or does not share.
var ErrTaken = errors.New("patterns: the durable subscription is taken")

// enter notes that a pipe to a consumer begins, and returns the group that must be on disk
// before it may.
func (v *standing) enter(who socket.Who, o wire.Offer) (spool.Group, error) {
	if (o.Exclusive || v.exclusive) && v.shared(who) {
		return 0, fmt.Errorf("%w: %q", ErrTaken, v.name)
	}
	v.exclusive = o.Exclusive
	v.pipes[who]++
	led := v.box.Ledger()
	known := slices.ContainsFunc(led.Consumers(), func(c *ledger.Consumer) bool { return c.Who == who })
	if con := led.Join(who, 0); !known {
		for reason := range v.gaps {
			for _, r := range v.gaps[reason].Ranges() {
				led.TellOne(con, wire.Gap{From: r.From, To: r.To, Reason: wire.GapReason(reason)})
			}
		}
	}
	return v.hold(who.Node), nil
}

// shared reports whether others than who are attached, or may have something in hand.
func (v *standing) shared(who socket.Who) bool {
	for other, n := range v.pipes {
		if other != who && n > 0 {
			return true
		}
	}
	return slices.ContainsFunc(v.box.Ledger().Consumers(), func(c *ledger.Consumer) bool { return c.Who != who && c.Leased() > 0 })
}

// leave notes that a pipe has ended.
func (v *standing) leave(who socket.Who) {
	if v.pipes[who]--; v.pipes[who] == 0 {
		delete(v.pipes, who)
	}
}

// unsubscribe ends the subscription, unless others share it.
func (v *standing) unsubscribe(by socket.Who) bool {
	if v.shared(by) {
		return false
	}
	v.log.remove(v)
	return true
}

// senderStats is a snapshot of the subscription.
func (v *standing) senderStats() SenderStats {
	s := statsOf(v.box.Ledger().Counts(), false)
	v.stats(&s.Ledger)
	s.Bytes += v.onDisk
	s.Consumers = v.box.Consumers()
	s.Subscriptions = []SubscriptionStats{{Name: v.name, Attached: v.box.Ledger().Ready(), Owed: v.owed(), Bytes: s.Bytes, Expelled: v.expelled}}
	return s
}

// meetDurable runs a pipe to a consumer of a durable subscription.
func (p *Pub) meetDurable(ctx context.Context, peer socket.Peer, o wire.Offer, c socket.Conn) error {
	who := socket.Who{Node: peer.ID, Label: o.Label}
	v, group, start, err := p.admit(who, o)
	if err == nil && group > 0 { // before it can get anything: the next life must know whom to ask
		if err = p.log.store.Wait(ctx, group); err != nil {
			p.mu.Lock()
			v.leave(who)
			p.mu.Unlock()
		}
	}
	if err != nil {
		c.Close()
		return err
	}
	err = v.box.Meet(ctx, peer, o, start, c)
	p.mu.Lock()
	v.leave(who)
	p.changed.Fire()
	p.mu.Unlock()
	return err
}

// admit finds or makes the subscription that an offer names.
func (p *Pub) admit(who socket.Who, o wire.Offer) (v *standing, group spool.Group, start uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closing:
		return nil, 0, 0, socket.ErrClosed
	case p.log == nil:
		return nil, 0, 0, fmt.Errorf("patterns: pub %q keeps nothing for the durable subscription %q: %w", p.name, o.Label, socket.ErrNotDurable)
	case p.log.failure() != nil:
		return nil, 0, 0, p.log.failure()
	}
	if v, err = p.standingOf(o.Label, o.Start, o.Seq); err != nil {
		return nil, 0, 0, err
	}
	if group, err = v.enter(who, o); err != nil {
		return nil, 0, 0, err
	}
	return v, group, v.box.Ledger().Start(), nil
}

// standingOf finds or makes a durable subscription. p.mu must be held.
func (p *Pub) standingOf(name string, start wire.Start, seq uint64) (*standing, error) {
	if v := p.log.subs[name]; v != nil {
		return v, nil
	}
	if len(p.log.subs) >= maxStanding {
		return nil, fmt.Errorf("patterns: pub %q: %w: %d durable subscriptions", p.name, socket.ErrQueueFull, maxStanding)
	}
	if err := CheckName(wire.Sub, name); err != nil {
		return nil, err
	}
	c := p.log.store.Begin()
	defer c.End()
	return p.log.make(c, name, start, seq), nil
}

// Expect makes a durable subscription before it first attaches: from now on its messages are
// kept. Its patterns are those, as Topics would take them, until a subscriber tells others;
// none are everything. One that is known already stays as it is. It blocks until that is on
// disk. Without level durable the error matches socket.ErrNotDurable.
func (p *Pub) Expect(name string, patterns ...string) error {
	if len(patterns) > wire.MaxPatterns {
		return fmt.Errorf("patterns: %d topics, at most %d", len(patterns), wire.MaxPatterns)
	}
	if _, err := topic.ParseAll(patterns); err != nil {
		return err
	}
	p.mu.Lock()
	switch {
	case p.closing:
		p.mu.Unlock()
		return socket.ErrClosed
	case p.log == nil:
		p.mu.Unlock()
		return fmt.Errorf("patterns: pub %q: Expect: %w", p.name, socket.ErrNotDurable)
	}
	v, err := p.standingOf(name, wire.AtNew, 0)
	if err == nil && v.versions.now() == nil && !v.expelled {
		_, err = v.subscribe(patterns)
	}
	group := p.log.newest()
	p.mu.Unlock()
	if err != nil || group == 0 {
		return err
	}
	return p.log.store.Wait(context.Background(), group)
}
