package patterns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/ranges"
	"peermesh/internal/topic"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// log is the durable half of a Pub: the channel on disk, once, and the durable
// subscriptions, each of which is a queue view of it. The Pub's mutex guards it.
//
//	Publish --> log --sync--> feed of each durable subscription --> its ledger --> pipes
//	                    \---> the ephemeral ones that matched when it was published
//
// A message stays in the log until no durable subscription owes it any more, and as long as
// Keep says. One that nobody wants is settled in the change that appends it.
type log struct {
	*tail
	pub  *Pub
	subs map[string]*standing
	gone ranges.Set // settled in the queue
	free ranges.Set // nobody owes it, and it is not settled for Keep's sake
	due  ranges.Set // settled or passed over by some subscription since the last flush
	own  ranges.Set // for one subscription alone

	retained map[string]int // topics that have a last value, and the bytes of that
	holds    int            // bytes of all last values
	lasting  uint64         // where the note of what ephemeral subscriptions may miss was written; 0: there is none
	removed  []*standing    // whose end is not known on disk
}

// maxStanding bounds the durable subscriptions of one channel.
const maxStanding = 1024

// openLog goes on where an earlier life left the channel. It reads from the disk.
func openLog(p *Pub) (*log, error) {
	t, state, err := openTail(p.sender, "pub-dead")
	if err != nil {
		return nil, err
	}
	l := &log{tail: t, pub: p, subs: map[string]*standing{}, retained: map[string]int{}}
	p.next = state.Next
	for _, r := range state.Settled {
		l.gone.Add(r.From, r.To)
	}
	t.arrived, t.landed, t.flushed = l.hand, l.groupLanded, l.settleAll
	if err := l.restore(); err != nil {
		t.queue.Close()
		t.dead.Close()
		return nil, err
	}
	for _, r := range state.Lost {
		p.lost(r.From, r.To)
		for _, v := range l.subs {
			v.missing(r.From, r.To)
		}
	}
	l.due.Add(0, p.next-1)
	return l, nil
}

// notePrefix begins the names of notes about the channel.
func (l *log) notePrefix(kind string) string {
	return queueName(kind, l.owner.env.Local.Namespace, l.owner.name) + "\x00"
}

// restore brings the durable subscriptions back.
func (l *log) restore() error {
	prefix := l.notePrefix("last")
	for key, value := range l.store.Notes(prefix) {
		l.retained[strings.TrimPrefix(key, prefix)] = len(value)
		l.holds += len(value)
	}
	prefix = l.notePrefix("view")
	notes := map[string]*viewNote{}
	for key, value := range l.store.Notes(prefix) {
		n, err := parseViewNote(value)
		if err != nil {
			return fmt.Errorf("%w: %q", err, strings.TrimPrefix(key, prefix))
		}
		notes[strings.TrimPrefix(key, prefix)] = n
		l.own.AddSet(&n.own)
	}
	for name, n := range notes {
		l.subs[name] = newStanding(l, name, n)
	}
	if err := l.count(); err != nil {
		return err
	}
	for name, v := range l.subs {
		if err := v.begin(v.box, notes[name].tries); err != nil {
			return err
		}
		l.feeds = append(l.feeds, v.feed)
	}
	return nil
}

// count adds what was published after each subscription's note was written to what it is
// owed.
func (l *log) count() error {
	from := l.pub.next
	for _, v := range l.subs {
		from = min(from, v.written+1)
	}
	for from < l.pub.next {
		b, err := l.queue.Read(from)
		var damaged *spool.DamagedError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &damaged): // stated when it is its turn
			from = damaged.To + 1
			continue
		case err != nil:
			return err
		}
		for data := b.Data; len(data) > 0; {
			r, rest, err := wire.NextRecord(data)
			size := len(data) - len(rest)
			data = rest
			if err != nil {
				break
			}
			for _, v := range l.subs {
				if seq := b.Base + r.Delta; seq > v.written && seq >= from && !v.over.Contains(seq) && v.match(seq, string(r.Topic)) {
					v.carried++
					v.onDisk += uint64(size)
				}
			}
		}
		from = b.Last + 1
	}
	return nil
}

// put appends a message and makes it owed to every durable subscription that wants it; the
// ephemeral ones of views get it when it is on disk. It returns the group to wait for, also when
// nobody wants it: its seq must not come again.
func (l *log) put(m *socket.Message, prepared socket.Prepared, views []*view, retain bool) (uint64, spool.Group, error) {
	if err := l.failure(); err != nil {
		return 0, 0, err
	}
	wanted := l.matching(m.Topic)
	c := l.store.Begin()
	defer c.End()
	f, err := l.append(c, m, prepared)
	if err != nil {
		return 0, 0, err
	}
	seq := f.seq
	if retain {
		l.retain(c, m, prepared)
	}
	for _, v := range wanted {
		v.counted(len(f.record))
	}
	f.rare.views = slices.Clone(views)
	l.arrivals.add(c.Group(), f, l.owner.now)
	if len(views) > 0 && seq-l.lasting > checkpoint {
		l.noteMissable(c)
	}
	if len(wanted) == 0 && !l.undecided() {
		if l.owner.set.keep == 0 {
			l.settle(c, seq, seq)
		} else {
			l.free.Add(seq, seq)
		}
		if len(views) == 0 {
			f.rare.unwanted = true
			l.unwanted()
		}
	}
	for _, feed := range l.feeds {
		feed.mark(func() *spool.Change { return c })
	}
	return seq, c.Group(), nil
}

// unwanted counts a message that no subscription matched; that it is settled is told when its seq is
// on disk.
func (l *log) unwanted() {
	past := &l.pub.past.Ledger
	past.Accepted++
	past.Dropped[ledger.ReasonNoSubscriber]++
}

// undecided reports whether some subscription has not told what it wants: it may be anything.
func (l *log) undecided() bool {
	for _, v := range l.subs {
		if v.held {
			return true
		}
	}
	return false
}

// missableKey names the note that tells from where on ephemeral subscriptions miss messages
// when the process ends: as much is stated to them by its next life. It may tell too early a
// place, never too late a one.
func (l *log) missableKey() string { return l.notePrefix("missable") }

// noteMissable writes that note.
func (l *log) noteMissable(c *spool.Change) {
	l.lasting = l.pub.next
	c.Put(l.missableKey(), binary.AppendUvarint(nil, l.pub.missable()))
	l.ask(c)
}

// noteMissed writes it for the last time in this life.
func (l *log) noteMissed(from uint64) {
	c := l.store.Begin()
	defer c.End()
	var note []byte // nothing is missed
	if from < l.pub.next {
		note = binary.AppendUvarint(nil, from)
	}
	c.Put(l.missableKey(), note)
	l.ask(c)
}

// missed is what ephemeral subscriptions of the earlier life may have missed; nil if
// nothing.
func (l *log) missed() *wire.Gap {
	from, n := binary.Uvarint(l.store.Note(l.missableKey()))
	if n <= 0 || from >= l.pub.next {
		return nil
	}
	return &wire.Gap{From: max(from, 1), To: l.pub.next - 1, Reason: wire.GapIncarnation}
}

// append puts a message into the queue.
func (l *log) append(c *spool.Change, m *socket.Message, prepared socket.Prepared) (fresh, error) {
	seq, base, record, err := c.Append(l.queue, prepared.MaxSize(), prepared.Append)
	if err != nil {
		return fresh{}, err
	}
	l.ask(c)
	l.pub.next = seq + 1
	return fresh{seq: seq, base: base, record: record, key: m.Key, rare: &rarely{topic: m.Topic, expires: since(l.owner.now(), m.TTL)}}, nil
}

// matching are the durable subscriptions that want the topic now.
func (l *log) matching(topicName string) (out []*standing) {
	for _, v := range l.subs {
		if v.versions.now().match(topicName) {
			out = append(out, v)
		}
	}
	return out
}

// fits reports whether every durable subscription that wants the topic has room for one more
// message, where Limit blocks.
func (l *log) fits(topicName string, size int) bool {
	if l.owner.set.excess != Block {
		return true
	}
	return !slices.ContainsFunc(l.matching(topicName), func(v *standing) bool { return v.owed() > 0 && v.exceeds(1, uint64(size)) })
}

// hand gives a message that is on disk to the ephemeral subscriptions that wanted it.
func (l *log) hand(f *fresh, at, now time.Time) {
	if f.rare.unwanted {
		l.pub.settled(ledger.Settlement{Seq: f.seq, State: ledger.Dropped, Reason: ledger.ReasonNoSubscriber}, "")
	}
	for _, v := range f.rare.views {
		if l.pub.views[v.who] == v {
			turn := l.pub.append(v, f.item(at), now)
			turn.Pass()
			if ends := f.rare.expires; !ends.IsZero() {
				l.owner.wind(ends)
			}
		}
	}
}

// groupLanded: group g is on disk.
func (l *log) groupLanded(g spool.Group) {
	for _, v := range l.subs {
		v.groupLanded(g)
	}
	l.removed = slices.DeleteFunc(l.removed, func(v *standing) bool {
		if v.telling > g {
			return false
		}
		v.landed(g)
		v.box.Retire()
		return true
	})
}

// settleAll settles in the queue what no subscription owes any more. It is called in the
// course of every flush.
func (l *log) settleAll(change func() *spool.Change) {
	for _, v := range l.subs {
		v.limit(l.owner.now())
		v.writeOff()
		if v.dirty || len(v.fates) > 0 {
			v.rule(change())
		}
	}
	parts := l.due.Append(nil)
	l.due.Clear()
	for _, v := range l.subs {
		if len(parts) == 0 {
			break
		}
		parts = covered(parts, &v.over)
	}
	for _, r := range parts {
		l.free.Add(r.From, r.To)
	}
	border := l.pub.next - min(uint64(l.owner.set.keep), l.pub.next)
	for from, ok := l.free.Min(); ok && from < border; from, ok = l.free.Min() {
		r := l.free.Ranges()[0]
		to := min(r.To, border-1)
		l.free.Remove(from, to)
		for unsettled := range l.gone.Missing(from, to) {
			l.settle(change(), unsettled.From, unsettled.To)
		}
	}
}

// covered are the parts of rs that are in set.
func covered(rs []ranges.Range, set *ranges.Set) (out []ranges.Range) {
	for _, r := range rs {
		from := r.From
		for missing := range set.Missing(r.From, r.To) {
			if from < missing.From {
				out = append(out, ranges.Range{From: from, To: missing.From - 1})
			}
			from = missing.To + 1
		}
		if from <= r.To {
			out = append(out, ranges.Range{From: from, To: r.To})
		}
	}
	return out
}

// settle settles messages in the queue, whoever may want them.
func (l *log) settle(c *spool.Change, from, to uint64) {
	c.Settle(l.queue, from, to)
	l.gone.Add(from, to)
	l.own.Remove(from, to)
}

// lowest is the oldest message in the log, or the next one.
func (l *log) lowest() uint64 {
	for r := range l.gone.Missing(1, max(l.pub.next, 2)-1) {
		return min(r.From, l.pub.next)
	}
	return l.pub.next
}

// make makes a durable subscription, to be written in the change. what is where it begins.
func (l *log) make(c *spool.Change, name string, start wire.Start, seq uint64) *standing {
	n := &viewNote{first: l.pub.next, values: start == wire.AtLastValue}
	switch start {
	case wire.AtEarliest:
		n.first = l.lowest()
	case wire.AtSeq:
		n.first = min(max(seq, 1), n.first)
	}
	if n.first > 1 {
		n.settled.Add(0, n.first-1)
	}
	v := newStanding(l, name, n)
	if start == wire.AtSeq {
		for _, r := range covered([]ranges.Range{{From: n.first, To: max(l.pub.next, 1) - 1}}, &l.gone) {
			v.tellGap(r.From, r.To, wire.GapRetention)
		}
	}
	l.free.Remove(n.first, math.MaxUint64)
	l.subs[name] = v
	l.feeds = append(l.feeds, v.feed)
	v.write(c, ruling{})
	l.ask(c)
	return v
}

// remove ends a durable subscription for good: what it is owed is dropped (gone).
func (l *log) remove(v *standing) {
	v.giveUp(ledger.ReasonGone)
	c := l.store.Begin()
	defer c.End()
	v.rule(c)
	for _, r := range v.own.Append(nil) {
		l.settle(c, r.From, r.To)
	}
	c.Put(v.key, nil)
	l.ask(c)
	v.telling = c.Group()
	delete(l.subs, v.name)
	l.feeds = slices.DeleteFunc(l.feeds, func(f *feed) bool { return f == v.feed })
	l.removed = append(l.removed, v)
	l.pub.past.add(v.senderStats())
	l.due.Add(0, l.pub.next-1)
	l.pub.changed.Fire()
}

// Bounds of last values: topics that have one, bytes of the record of one, and of all. They
// are outside the store's quota.
const (
	maxRetained      = 1 << 16
	maxRetainedBytes = 1 << 20
	maxRetainedTotal = 64 << 20
)

// retainable is why m cannot become its topic's last value, nil if it can.
func (l *log) retainable(m *socket.Message, p socket.Prepared) error {
	had, known := l.retained[m.Topic]
	switch {
	case len(m.Body) == 0:
		return nil
	case p.MaxSize() > maxRetainedBytes:
		return fmt.Errorf("%w: a retained message of some %d bytes, at most %d", socket.ErrTooLarge, p.MaxSize(), maxRetainedBytes)
	case len(l.retained) >= maxRetained && !known:
		return fmt.Errorf("patterns: %w: %d topics with a retained message", socket.ErrQueueFull, maxRetained)
	case l.holds-had+p.MaxSize() > maxRetainedTotal:
		return fmt.Errorf("patterns: %w: retained messages of %d bytes", socket.ErrQueueFull, l.holds)
	}
	return nil
}

// retain makes m the last value of its topic; an empty one forgets it.
func (l *log) retain(c *spool.Change, m *socket.Message, p socket.Prepared) {
	key := l.notePrefix("last") + m.Topic
	l.holds -= l.retained[m.Topic]
	if len(m.Body) == 0 {
		delete(l.retained, m.Topic)
		c.Put(key, nil)
		return
	}
	value := p.Append(nil, 0)
	l.retained[m.Topic] = len(value)
	l.holds += len(value)
	c.Put(key, value)
}

// HeaderRetained marks the copy of a retained message that a subscription began with.
const HeaderRetained = "peermesh-retained"

// lastValues are the retained messages that match, by topic, as messages for one
// subscription. It reads from the disk.
func (l *log) lastValues(patterns []topic.Pattern) (out []*socket.Message) {
	for _, name := range slices.Sorted(maps.Keys(l.retained)) {
		if !(&version{patterns: patterns}).match(name) {
			continue
		}
		m, err := unframe(l.store.Note(l.notePrefix("last") + name))
		if err != nil {
			continue // it was replaced by one that is not on disk yet, or forgotten
		}
		m.TTL = 0
		if m.Headers == nil {
			m.Headers = socket.Headers{}
		}
		m.Headers[HeaderRetained] = "1"
		out = append(out, m)
	}
	return out
}

// copyFor appends a message for one subscription alone.
func (l *log) copyFor(c *spool.Change, m *socket.Message) (fresh, bool) {
	p, err := l.owner.framer.Prepare(m)
	if err != nil { // its own headers leave no room
		delete(m.Headers, HeaderRetained)
		if p, err = l.owner.framer.Prepare(m); err != nil {
			return fresh{}, false
		}
	}
	f, err := l.append(c, m, p)
	return f, err == nil
}

// begin gives an ephemeral subscription the retained messages that it begins with.
func (l *log) begin(v *view) error {
	if err := l.failure(); err != nil {
		return err
	}
	values := l.lastValues(v.patterns)
	c := l.store.Begin()
	defer c.End()
	for _, m := range values {
		if f, ok := l.copyFor(c, m); ok {
			l.settle(c, f.seq, f.seq)
			f.rare.views = []*view{v}
			l.arrivals.add(c.Group(), f, l.owner.now)
		}
	}
	return nil
}

// ready counts the durable subscriptions that are attached and whose patterns match.
func (l *log) ready(match func([]topic.Pattern) bool) (n int) {
	for _, v := range l.subs {
		if now := v.versions.now(); now != nil && v.telling == 0 && v.box.Ledger().Ready() > 0 && match(now.patterns) {
			n++
		}
	}
	return n
}

// tick does what time demands.
func (l *log) tick(now time.Time) (next time.Time) {
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, v := range l.subs {
		sooner(v.box.Tick(now))
		sooner(v.limit(now))
	}
	return next
}

// idle reports whether no durable subscription is owed anything, or none of those that
// attached are: all says which.
func (l *log) idle(all bool) bool {
	for _, v := range l.subs {
		if (all || v.box.Ledger().Busy()) && !v.idle() {
			return false
		}
	}
	return true
}
