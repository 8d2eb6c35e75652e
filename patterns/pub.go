package patterns

import (
	"context"
	"fmt"
	"slices"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/topic"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// viewGrace is how long a lost subscriber's messages are kept before it is taken for
// gone: longer than its lease, so that a blink of the link loses nothing.
const viewGrace = socket.DefaultLease + 2*time.Second

// Pub spreads messages to every subscription of a channel whose patterns match the
// topic. Each subscription has a queue of its own, so that a slow one never slows
// the others unless the policy is Block. Safe for concurrent use.
type Pub struct {
	*sender
	views   map[socket.Who]*view
	trie    topic.Trie[*view]
	matched []*view
	log     *log        // nil below level durable
	gap     *wire.Gap   // left by an earlier life
	past    SenderStats // of views that are gone, and of messages nobody wanted
}

// view is one subscription: a queue view of the channel.
type view struct {
	box      *socket.Outbox
	who      socket.Who
	patterns []topic.Pattern // none before they are told
	first    uint64          // what was published before is not its business
	pipes    int             // calls of Meet under way

	lastValues bool // it begins with the retained messages
}

// NewPub makes a Pub; users get one from a node.
func NewPub(env Env, name string, opts ...Option) (*Pub, error) {
	s, gap, err := newSender(env, wire.Pub, name, opts)
	if err != nil {
		return nil, err
	}
	p := &Pub{sender: s, views: map[socket.Who]*view{}, past: SenderStats{Ledger: Ledger{Dropped: map[string]uint64{}}}}
	if gap != nil {
		p.gap = &wire.Gap{From: gap.From, To: gap.To, Reason: wire.GapIncarnation}
	}
	p.release = p.lowest
	p.tick = p.tickAll
	if s.set.level == socket.Durable {
		if p.log, err = openLog(p); err != nil {
			return nil, fmt.Errorf("patterns: pub %q: %w", name, err)
		}
		p.gap = p.log.missed()
		p.mu.before = p.log.flush
		p.clock.Go(func() { p.log.load(p.stop) })
	}
	p.startClock()
	return p, nil
}

// missable is the first seq that some ephemeral subscription may miss if the process ended
// now. p.mu must be held.
func (p *Pub) missable() uint64 {
	if p.gap != nil && !p.told {
		return min(p.lowest(), p.gap.From)
	}
	return p.lowest()
}

func (p *Pub) lowest() uint64 {
	low := p.next
	for _, v := range p.views {
		low = min(low, v.box.Ledger().Lowest())
	}
	return low
}

// tickAll does what time demands in every view and lets go of lost ones. p.mu must be
// held.
func (p *Pub) tickAll(now time.Time) (next time.Time) {
	for _, v := range p.views {
		if v.pipes == 0 && v.box.Gone(now, viewGrace) {
			p.dropView(v)
			continue
		}
		if t := v.box.Tick(now); !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if p.log != nil {
		if t := p.log.tick(now); !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// dropView forgets a subscription; what it was owed is dropped (gone). p.mu must be
// held.
func (p *Pub) dropView(v *view) {
	v.box.Ledger().DropAll(ledger.ReasonGone)
	for _, pat := range v.patterns {
		p.trie.Remove(pat, v)
	}
	delete(p.views, v.who)
	p.past.add(p.statsOf(v))
	p.changed.Fire()
}

// Publish takes responsibility for body, of which it makes a copy, on behalf of every
// subscription that matches topic now. For a subscription whose queue is full the
// overflow policy decides: DropOldest by default; Block waits for the slowest until
// ctx ends, then nothing was accepted. A message that nobody subscribed to counts as
// dropped (no-subscriber). After Close the error matches net.ErrClosed.
//
// At level durable it returns when the message is on disk, and durable subscriptions are
// owed it whether they are attached or not; see Push.Send for what can go wrong, and Limit
// for what bounds them.
func (p *Pub) Publish(ctx context.Context, topicName string, body []byte) error {
	_, err := p.PublishMessage(ctx, &socket.Message{Topic: topicName, Body: body})
	return err
}

// PublishMessage is Publish for a message with headers or TTL, and returns its seq.
func (p *Pub) PublishMessage(ctx context.Context, m *socket.Message) (seq uint64, err error) {
	return p.publish(ctx, m, false)
}

// PublishRetained is PublishMessage, and makes the message the last value of its topic: kept
// on disk until the next one, and what subscriptions with From(LastValue) begin with. One
// without a body only makes the last value be forgotten. A last value has no TTL, its record
// at most 1 MiB; a channel has at most 65,536 of them and 64 MiB in all (socket.ErrQueueFull).
// Without level durable the error
// matches socket.ErrNotDurable.
func (p *Pub) PublishRetained(ctx context.Context, m *socket.Message) (seq uint64, err error) {
	return p.publish(ctx, m, true)
}

func (p *Pub) publish(ctx context.Context, m *socket.Message, retain bool) (seq uint64, err error) {
	if err := topic.Check(m.Topic); err != nil {
		return 0, err
	}
	prepared, err := p.prepare(m)
	if err != nil {
		return 0, err
	}
	if p.log != nil {
		seq, err := p.store(ctx, m, prepared, retain)
		return seq, p.refused(err)
	}
	if retain {
		return 0, fmt.Errorf("patterns: PublishRetained: %w", socket.ErrNotDurable)
	}
	seq, turn, err := p.accept(ctx, m, prepared)
	turn.Take()
	return seq, p.refused(err)
}

// store keeps a message on disk and waits until it is there.
func (p *Pub) store(ctx context.Context, m *socket.Message, prepared socket.Prepared, retain bool) (uint64, error) {
	if err := p.log.store.Ready(ctx); err != nil {
		return 0, err
	}
	p.mu.Lock()
	seq, group, err := p.keep(ctx, m, prepared, retain)
	p.mu.Unlock()
	if err != nil {
		return seq, err
	}
	if err := p.log.store.Wait(ctx, group); err != nil {
		return seq, fmt.Errorf("%w: %w", socket.ErrUnknown, err)
	}
	return seq, nil
}

// keep appends a message to the log when all who want it have room. p.mu must be held.
func (p *Pub) keep(ctx context.Context, m *socket.Message, prepared socket.Prepared, retain bool) (uint64, spool.Group, error) {
	views, err := p.room(ctx, m.Topic, prepared.Size())
	if err == nil && retain {
		err = p.log.retainable(m, prepared)
	}
	if err != nil {
		return 0, 0, err
	}
	return p.log.put(m, prepared, views, retain)
}

// accept makes a message owed to every subscription that matches.
func (p *Pub) accept(ctx context.Context, m *socket.Message, prepared socket.Prepared) (seq uint64, turn socket.Turn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	views, err := p.room(ctx, m.Topic, prepared.Size())
	if err != nil {
		return 0, turn, err
	}
	if err := p.reserve(); err != nil {
		return 0, turn, err
	}
	seq = p.next
	p.next++
	if len(views) == 0 {
		p.past.Ledger.Accepted++
		p.past.Ledger.Dropped[ledger.ReasonNoSubscriber]++
		p.settled(ledger.Settlement{Seq: seq, State: ledger.Dropped, Reason: ledger.ReasonNoSubscriber}, "")
		return seq, turn, nil
	}
	now := p.now()
	base, record := p.framer.Frame(prepared, seq)
	ends := since(now, m.TTL)
	for _, v := range views {
		turn.Pass()
		turn = p.append(v, ledger.Item{Seq: seq, Base: base, Record: record, Expires: ends}, now)
	}
	if m.TTL > 0 {
		p.wind(ends)
	}
	return seq, turn, nil
}

// append queues an item for one subscription. Under Block and Refuse there is room;
// otherwise the policy makes some. p.mu must be held.
func (p *Pub) append(v *view, it ledger.Item, now time.Time) socket.Turn {
	led := v.box.Ledger()
	for p.set.overflow >= DropOldest {
		messages, bytes := led.Owed()
		if !p.full(messages, bytes, len(it.Record)) {
			break
		}
		if p.set.overflow == DropNewest || !led.DropOldest(ledger.ReasonOverflow) {
			led.Refuse(it.Seq, ledger.ReasonOverflow)
			return socket.Turn{}
		}
	}
	led.Append(it, now)
	return v.box.DispatchHere()
}

// room finds which ephemeral subscriptions want the topic and, under Block and Refuse,
// whether all of them have room, and durable ones too where Limit blocks. p.mu must be held.
func (p *Pub) room(ctx context.Context, topicName string, size int) ([]*view, error) {
	fits := func() bool {
		p.matched = p.trie.Match(topicName, p.matched[:0])
		return p.closing || p.set.overflow >= DropOldest || !slices.ContainsFunc(p.matched, func(v *view) bool {
			messages, bytes := v.box.Ledger().Owed()
			return p.full(messages, bytes, size)
		})
	}
	if p.set.overflow == Refuse && !fits() {
		return nil, socket.ErrQueueFull
	}
	if err := p.await(ctx, func() bool { return fits() && (p.closing || p.log == nil || p.log.fits(topicName, size)) }); err != nil {
		return nil, err
	}
	if p.closing {
		return nil, socket.ErrClosed
	}
	return p.matched, nil
}

// Meet runs a pipe to a subscriber; the node calls it.
func (p *Pub) Meet(ctx context.Context, peer socket.Peer, o wire.Offer, c socket.Conn) error {
	if o.Durable {
		return p.meetDurable(ctx, peer, o, c)
	}
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		c.Close()
		return socket.ErrClosed
	}
	v := p.enter(socket.Who{Node: peer.ID, Label: o.Label}, o.Start)
	p.mu.Unlock()
	err := v.box.Meet(ctx, peer, o, v.first, c)
	p.mu.Lock()
	p.leave(v)
	p.told = p.told || err == nil
	p.changed.Fire()
	p.mu.Unlock()
	return err
}

// enter returns the view of a subscription that a pipe begins to, which is not taken
// for gone before leave. p.mu must be held.
func (p *Pub) enter(who socket.Who, start wire.Start) *view {
	v := p.views[who]
	if v == nil {
		v = p.newView(who)
		v.lastValues = start == wire.AtLastValue && p.log != nil
		p.views[who] = v
	}
	v.pipes++
	return v
}

// leave notes that a pipe has ended. p.mu must be held.
func (p *Pub) leave(v *view) {
	if v.pipes--; v.pipes == 0 && v.box.Left() {
		p.dropView(v)
	}
}

// newView begins a subscription. It matches nothing until its patterns are told.
// p.mu must be held.
func (p *Pub) newView(who socket.Who) *view {
	v := &view{who: who, first: p.next}
	cfg := p.outboxConfig()
	cfg.Level = min(cfg.Level, socket.Memory)
	name := v.sub()
	cfg.OnSettled = func(st ledger.Settlement) { p.settled(st, name) }
	cfg.OnDone = func(from, to uint64, by socket.Who) { p.doneAll(from, to, by, name) }
	cfg.OnPatterns = func(_ uint64, texts []string) (uint64, error) {
		first := p.next
		return first, p.subscribe(v, texts)
	}
	v.box = socket.NewOutbox(cfg, &p.mu, v.first)
	if p.gap != nil { // it may have known the earlier life: so the hole is its business
		v.box.Ledger().Join(who, p.gap.From)
		v.box.Ledger().Tell(p.gap.From, p.gap.To, p.gap.Reason)
	}
	if p.log != nil && p.log.lasting == 0 {
		c := p.log.store.Begin()
		p.log.noteMissable(c)
		c.End()
	}
	return v
}

// sub names the subscription in events.
func (v *view) sub() string {
	if v.who.Label == "" {
		return v.who.Node.String()
	}
	return v.who.Node.String() + "/" + v.who.Label
}

// subscribe replaces a view's patterns, from the next message on. What the newest
// pipe told last is in force, whatever its version: those are one process's, and
// another may have taken its place. p.mu must be held.
func (p *Pub) subscribe(v *view, texts []string) error {
	patterns, err := topic.ParseAll(texts)
	if err != nil {
		return err
	}
	if v.patterns == nil && v.first < p.next { // published while it was not known what it wants
		v.box.Ledger().Tell(v.first, p.next-1, wire.GapDropped)
	}
	for _, pat := range v.patterns {
		p.trie.Remove(pat, v)
	}
	for _, pat := range patterns {
		p.trie.Add(pat, v)
	}
	v.patterns = patterns
	p.changed.Fire()
	if v.lastValues {
		v.lastValues = false
		return p.log.begin(v)
	}
	return nil
}

// WaitReady blocks until n subscriptions are attached, or ctx ends.
func (p *Pub) WaitReady(ctx context.Context, n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.await(ctx, func() bool {
		return p.ready(func([]topic.Pattern) bool { return true }) >= n
	})
}

// WaitMatching blocks until n subscriptions that match topic are attached, or ctx
// ends.
func (p *Pub) WaitMatching(ctx context.Context, topicName string, n int) error {
	if err := topic.Check(topicName); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.await(ctx, func() bool {
		return p.ready(func(patterns []topic.Pattern) bool {
			return slices.ContainsFunc(patterns, func(pat topic.Pattern) bool { return pat.Match(topicName) })
		}) >= n
	})
}

// ready counts the subscriptions that are attached and whose patterns match. p.mu must be held.
func (p *Pub) ready(match func([]topic.Pattern) bool) (n int) {
	for _, v := range p.views {
		if v.patterns != nil && v.box.Ledger().Ready() > 0 && match(v.patterns) {
			n++
		}
	}
	if p.log != nil {
		n += p.log.ready(match)
	}
	return n
}

// Flush blocks until no subscriber is owed anything, whether it is attached or not, or ctx
// ends.
func (p *Pub) Flush(ctx context.Context) error { return p.flushed(ctx, true) }

// flushed waits until no subscriber is owed anything, or none of those that are attached: all
// says which.
func (p *Pub) flushed(ctx context.Context, all bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := func() bool { return p.owed() == 0 && (p.log == nil || p.log.failure() != nil || p.log.idle(all)) }
	if err := p.await(ctx, done); err != nil {
		return err
	}
	if p.log != nil {
		return p.log.failure()
	}
	return nil
}

func (p *Pub) owed() (n int) {
	for _, v := range p.views {
		m, _ := v.box.Ledger().Owed()
		n += m
	}
	return n
}

// Stats returns a snapshot; the ledger counts copies, one per subscription.
func (p *Pub) Stats() SenderStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	var s SenderStats
	s.add(p.past)
	for _, v := range p.views {
		s.add(p.statsOf(v))
		s.Consumers = append(s.Consumers, v.box.Consumers()...)
	}
	if p.log != nil {
		for _, v := range p.log.subs {
			one := v.senderStats()
			s.add(one)
			s.Consumers = append(s.Consumers, one.Consumers...)
			s.Subscriptions = append(s.Subscriptions, one.Subscriptions...)
		}
	}
	return s
}

// statsOf are the counts of one subscription. p.mu must be held.
func (p *Pub) statsOf(v *view) SenderStats {
	return statsOf(v.box.Ledger().Counts(), p.set.level == socket.BestEffort)
}

// Shutdown takes nothing new, waits until every subscriber has what it is owed or
// ctx ends, and closes; see Push.Shutdown. Durable subscriptions that are away are not
// waited for: what they are owed stays on disk.
func (p *Pub) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	p.changed.Fire()
	p.mu.Unlock()
	return p.close(p.flushed(ctx, false))
}

// Close ends the socket now: what is owed is dropped (shutdown), counted and stated
// to the subscribers; what durable subscriptions are owed stays on disk. It may be called
// twice.
func (p *Pub) Close() error { return p.close(nil) }

func (p *Pub) close(cause error) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closing, p.closed = true, true
	lowest, missable, n := p.lowest(), p.missable(), p.owed()
	boxes := make([]*socket.Outbox, 0, len(p.views))
	for _, v := range p.views {
		v.box.Ledger().DropAll(ledger.ReasonShutdown)
		boxes = append(boxes, v.box)
	}
	if p.log != nil {
		for _, v := range p.log.subs {
			boxes = append(boxes, v.box)
		}
	}
	p.changed.Fire()
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	for _, b := range boxes {
		if b.Finish(ctx) != nil {
			b.Abort()
		}
	}
	p.stopClock()
	var err error
	if p.log != nil {
		p.mu.Lock()
		p.log.noteMissed(missable)
		p.mu.Unlock()
		err = p.log.close()
	} else {
		err = p.putBack(lowest, boxes...)
	}
	p.env.Closed()
	if n > 0 && cause != nil {
		return giveUp(n, cause)
	}
	return err
}
