package patterns

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// Push shares messages out to the pullers of a queue: round robin among those with
// room, least outstanding first. Safe for concurrent use.
type Push struct {
	*sender
	box      *socket.Outbox
	receipts receipts
	gap      *spool.SeqRange // left by an earlier life
	holes    uint64          // the first seq that earlier lives have lost; the highest: none
	spill    *spill          // at level memory with a store; otherwise nil

	pace      pace
	impatient *time.Timer // wakes who is held back; nil: nobody was yet
}

// NewPush makes a Push; users get one from a node.
func NewPush(env Env, name string, opts ...Option) (*Push, error) {
	s, gap, err := newSender(env, wire.Push, name, opts)
	if err != nil {
		return nil, err
	}
	p := &Push{sender: s, gap: gap, holes: math.MaxUint64}
	first := p.next
	cfg := p.outboxConfig()
	cfg.OnSettled, cfg.OnDone = p.settledOne, p.doneAll
	if s.env.Store != nil && s.set.level != socket.BestEffort {
		err = p.open(cfg)
	} else {
		p.box = socket.NewOutbox(cfg, &p.mu, p.next)
		p.release, p.tick = p.box.Ledger().Lowest, p.box.Tick
		err = p.tellGap()
	}
	if err != nil {
		err = errors.Join(err, s.env.Seqs.Release(s.seqs, first, first))
		return nil, fmt.Errorf("patterns: push %q: %w", name, err)
	}
	p.framer.Recycle(p.box.Unread, p.set.queueBytes)
	p.startClock()
	return p, nil
}

// tickAll does what time demands. p.mu must be held.
func (p *Push) tickAll(now time.Time) time.Time {
	if p.journal != nil {
		p.journal.tickOutcomes(now)
	}
	return p.box.Tick(now)
}

// open goes on where an earlier life left the stream on disk, at whatever level that was.
func (p *Push) open(cfg socket.OutboxConfig) error {
	j, state, err := openJournal(p.sender)
	if err != nil {
		return err
	}
	p.next = max(p.next, state.Next)
	cfg.Local.Edition = j.edition
	cfg.Mode = j.mode(cfg.Mode)
	cfg.Mode.Given = p.next
	if p.set.level == socket.Memory {
		p.spill = newSpill(p, j)
		cfg.Mode.OnTry = p.spill.tried
	} else {
		p.journal = j
	}
	p.box = socket.NewOutbox(cfg, &p.mu, j.next)
	j.tell, j.tellDone = p.tellFate, p.tellDone
	p.release, p.tick = p.box.Ledger().Lowest, p.tickAll
	p.mu.Lock()
	p.mu.before = j.tail.flush
	p.stateGap(state)
	err = j.begin(p.box, state)
	for _, r := range state.Lost {
		p.lost(r.From, r.To)
		p.hole(r.From, r.To, wire.GapCorrupt)
	}
	if p.spill != nil {
		p.release, p.tick, p.mu.before = p.spill.lowest, p.spill.tick, p.spill.flush
		p.spill.opened()
	}
	p.mu.Unlock()
	if err != nil {
		return errors.Join(err, j.close())
	}
	p.clock.Go(func() { j.load(p.stop) })
	return nil
}

// hole states what an earlier life has left unsent for ever.
func (p *Push) hole(from, to uint64, why wire.GapReason) {
	p.box.Ledger().Tell(from, to, why)
	p.holes = min(p.holes, from)
}

// disk is what of the stream is kept on disk; nil if nothing is.
func (p *Push) disk() *journal {
	if p.spill != nil {
		return p.spill.journal
	}
	return p.journal
}

// Send takes responsibility for body, of which it makes a copy. At level durable it
// returns when the message is on disk; if ctx ends before, the error matches
// socket.ErrUnknown: the message may be sent or not. Without room on the disk it is refused
// at once (spool.ErrSpoolFull). At level memory of a node with a state directory it goes to the
// disk when no puller is attached, when the queue is full, or behind what waits there already;
// Send does not wait for it to be synced. Below level durable, when the queue, and the disk, are
// full the overflow policy decides; Block, the default, waits until there is room,
// or ctx ends and then returns its cause: nothing was accepted. After Close the
// error matches net.ErrClosed.
func (p *Push) Send(ctx context.Context, body []byte) error {
	_, err := p.SendMessage(ctx, &socket.Message{Body: body})
	return err
}

// SendMessage is Send for a message with headers, key or TTL, and returns its seq in
// this socket's stream. m may be used again at once.
func (p *Push) SendMessage(ctx context.Context, m *socket.Message) (seq uint64, err error) {
	return p.send(ctx, m, nil)
}

// Post is SendMessage with a receipt that tells what becomes of the message.
func (p *Push) Post(ctx context.Context, m *socket.Message) (*Receipt, error) {
	r := &Receipt{Stream: p.stream}
	if _, err := p.send(ctx, m, r); err != nil {
		return nil, err
	}
	return r, nil
}

func (p *Push) send(ctx context.Context, m *socket.Message, r *Receipt) (uint64, error) {
	prepared, err := p.prepare(m)
	if err != nil {
		return 0, p.refused(err)
	}
	if p.journal != nil {
		seq, err := p.store(ctx, m, prepared, r)
		return seq, p.refused(err)
	}
	p.mu.Lock()
	seq, err := p.accept(ctx, m, prepared, r)
	turn := p.box.DispatchHere()
	p.mu.Unlock()
	turn.Take()
	return seq, p.refused(err)
}

// store keeps a message on disk, and for Send waits until it is there.
func (p *Push) store(ctx context.Context, m *socket.Message, prepared socket.Prepared, r *Receipt) (uint64, error) {
	c, err := p.journal.join(ctx, m)
	if err != nil {
		return 0, err
	}
	group := c.Group()
	if r != nil {
		r.group, r.store = group, p.journal.store
	}
	seq, err := p.journal.put(c, prepared, m)
	if err == nil {
		p.receipts.note(r, seq)
	}
	c.End()
	if err != nil || r != nil {
		return seq, err
	}
	if err := p.journal.store.Wait(ctx, group); err != nil {
		return seq, fmt.Errorf("%w: %w", socket.ErrUnknown, err)
	}
	return seq, nil
}

// accept makes a message owed, or drops it at once as the policy says. The caller dispatches. p.mu must be held; it is
// released while there is no room.
func (p *Push) accept(ctx context.Context, m *socket.Message, prepared socket.Prepared, r *Receipt) (uint64, error) {
	if p.spill != nil {
		return p.spill.accept(ctx, m, prepared, r)
	}
	dropNew, err := p.room(ctx, prepared.Size())
	if err != nil {
		return 0, err
	}
	if err := p.reserve(); err != nil {
		return 0, err
	}
	if dropNew {
		seq := p.next
		p.next++
		p.receipts.note(r, seq)
		p.box.Ledger().Refuse(seq, ledger.ReasonOverflow)
		return seq, nil
	}
	return p.own(m, prepared, r), nil
}

// own gives a message to the ledger. p.mu must be held.
func (p *Push) own(m *socket.Message, prepared socket.Prepared, r *Receipt) uint64 {
	seq := p.next
	p.next++
	p.receipts.note(r, seq)
	base, record := p.framer.Frame(prepared, seq)
	now := p.moment(p.box.Pressed())
	if m.Key == "" && m.TTL == 0 && m.Delay == 0 {
		p.box.Ledger().AppendPlain(seq, base, record, now)
		return seq
	}
	if m.TTL > 0 || m.Delay > 0 {
		now = p.now()
	}
	it := ledger.Item{Seq: seq, Base: base, Record: record, Key: m.Key, NotBefore: since(now, m.Delay), Expires: since(now, m.TTL)}
	p.box.Ledger().Append(it, now)
	p.windFor(it)
	return seq
}

// room makes sure that a message of that size may be queued, as the policy says.
// p.mu must be held.
func (p *Push) room(ctx context.Context, size int) (dropNew bool, err error) {
	full := func() bool {
		messages, bytes := p.box.Ledger().Owed()
		return p.full(messages, bytes, size)
	}
	paced := p.paced
	for !p.closing && (full() || paced(size)) {
		p.box.DispatchHere().Pass() // what the caller has accepted before is not to wait, nor to be dropped, for want of it
		switch p.set.overflow {
		case Refuse:
			return false, socket.ErrQueueFull
		case DropNewest:
			return true, nil
		case DropOldest:
			if !p.box.Ledger().DropOldest(ledger.ReasonOverflow) {
				return true, nil // all of it is in hand somewhere
			}
		default:
			err := p.await(ctx, func() bool { return p.closing || !full() && !paced(size) })
			if err != nil && (p.closed || full()) {
				return false, err
			} else if err != nil { // there is room: who has no time is not held back
				paced = func(int) bool { return false }
			}
		}
	}
	if p.closing {
		return false, socket.ErrClosed
	}
	return false, nil
}

// paced reports whether a message of that size, for which there is room, is to wait. p.mu must be held.
func (p *Push) paced(size int) bool {
	if !p.set.paced || p.set.overflow != Block || p.box.Pipes() > 1 { // of so much each of many would have little
		return false
	}
	messages, bytes := p.box.Ledger().Owed()
	holds, began := p.pace.holds(messages, bytes+uint64(size), p.now)
	switch {
	case !began:
	case p.impatient == nil:
		p.impatient = time.AfterFunc(pacePatience, p.wake)
	default:
		p.impatient.Reset(pacePatience)
	}
	return holds
}

// wake has all who wait for room look again.
func (p *Push) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed.Fire()
}

// settledOne notes a message's fate. p.mu must be held.
func (p *Push) settledOne(st ledger.Settlement) {
	if p.journal != nil || p.spill != nil && p.spill.keeps(st.Seq) {
		p.disk().settled(st)
		return
	}
	p.tellFate(st)
}

// doneAll notes that neighbours are done. p.mu must be held.
func (p *Push) doneAll(from, to uint64, by socket.Who) {
	kept := from // messages below are
	switch {
	case p.journal != nil:
		kept = to + 1
	case p.spill != nil && p.spill.keeps(from):
		kept = min(to+1, p.spill.bound)
	}
	if from < kept {
		p.disk().doneAll(from, kept-1, by)
	}
	if kept <= to {
		p.tellDone(kept, to, by)
	}
}

// tellDone tells that neighbours are done, which is final. p.mu must be held.
func (p *Push) tellDone(from, to uint64, by socket.Who) {
	p.receipts.settle(from, to, p.done.by(by.Node))
	p.sender.doneAll(from, to, by, "")
}

// tellFate tells a message's fate, which is final. p.mu must be held.
func (p *Push) tellFate(st ledger.Settlement) {
	p.receipts.settle(st.Seq, st.Seq, p.fate(st))
	p.settled(st, "")
}

// WaitReady blocks until n pullers are attached, or ctx ends.
func (p *Push) WaitReady(ctx context.Context, n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.await(ctx, func() bool { return p.box.Ledger().Ready() >= n })
}

// Flush blocks until nothing is owed any more, or ctx ends.
func (p *Push) Flush(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flushed(ctx, func() bool { return false })
}

// flushed waits until nothing is owed, or enough. p.mu must be held.
func (p *Push) flushed(ctx context.Context, enough func() bool) error {
	if err := p.await(ctx, func() bool { return p.idle() || p.failure() != nil || enough() }); err != nil {
		return err
	}
	return p.failure()
}

// idle reports whether nothing is owed. p.mu must be held.
func (p *Push) idle() bool {
	switch {
	case p.journal != nil:
		return p.journal.idle()
	case p.spill != nil:
		return p.spill.idle()
	}
	n, _ := p.box.Ledger().Owed()
	return n == 0
}

// failure is why nothing more can be settled, nil as long as it can. p.mu must be held.
func (p *Push) failure() error {
	switch {
	case p.journal != nil:
		return p.journal.failure()
	case p.spill != nil:
		return p.spill.stuck()
	}
	return nil
}

// Stats returns a snapshot.
func (p *Push) Stats() SenderStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := statsOf(p.box.Ledger().Counts(), p.set.level == socket.BestEffort)
	switch {
	case p.journal != nil:
		p.journal.stats(&s.Ledger)
	case p.spill != nil:
		p.spill.stats(&s.Ledger)
	}
	if j := p.disk(); j != nil {
		s.OnDisk = j.waiting()
	}
	s.Delayed = uint64(p.box.Ledger().Early())
	s.Bound, s.BoundBytes = p.set.queue, p.set.queueBytes
	s.Consumers = p.box.Consumers()
	return s
}

// Meet runs a pipe to a puller; the node calls it.
func (p *Push) Meet(ctx context.Context, peer socket.Peer, o wire.Offer, c socket.Conn) error {
	p.mu.Lock()
	start, known := p.box.Ledger().Start(), spool.Group(0)
	switch {
	case p.journal != nil:
		known = p.journal.hold(peer.ID)
	case p.spill != nil:
		known = p.spill.meet(peer.ID)
	}
	start = min(start, p.holes) // every puller is told, for any may have known of them
	p.mu.Unlock()
	var err error
	if known > 0 { // before it can get anything: the next life must know whom to ask
		err = p.disk().store.Wait(ctx, known)
	}
	if err != nil {
		c.Close()
	} else {
		err = p.box.Meet(ctx, peer, o, start, c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spill != nil {
		p.spill.parted(peer.ID)
	}
	return err
}

// takeNoMore has senders refused from now on. p.mu must be held.
func (p *Push) takeNoMore() {
	p.closing = true
	if p.journal != nil {
		p.journal.takeNoMore()
	}
	p.changed.Fire()
}

// Shutdown takes nothing new, waits until everything owed is settled or ctx ends,
// and closes. What had to be given up is counted as dropped (shutdown) and makes the
// error match socket.ErrShutdown. On a node with a state directory nothing is given up that
// the disk has room for, but at level best-effort: Shutdown waits for what pullers have in
// hand, and the rest stays on disk.
func (p *Push) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.takeNoMore()
	err := p.flushed(ctx, p.handed)
	if p.spill != nil && !p.closed {
		err = p.spill.save(ctx)
	}
	p.mu.Unlock()
	return p.close(err)
}

// handed reports whether nobody has anything in hand of what is kept on disk. p.mu must be held.
func (p *Push) handed() bool {
	j := p.disk()
	return j != nil && j.failure() == nil && (!p.box.Ledger().Busy() || j.onlyDelayed())
}

// Close ends the socket now: what is owed is dropped (shutdown), counted and stated
// to the pullers. On a node with a state directory it stays on disk, or goes there if it is
// in memory alone (level memory): Close waits a second for that at most, and drops what has
// no room there. It may be called twice.
func (p *Push) Close() error { return p.close(nil) }

func (p *Push) close(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	lowest, n, ok := p.leave(ctx)
	if !ok {
		return nil
	}
	if p.box.Finish(ctx) != nil {
		p.box.Abort()
	}
	p.stopClock()
	defer p.env.Closed()
	var err error
	if j := p.disk(); j != nil {
		err = j.close()
	}
	err = errors.Join(err, p.putBack(lowest, p.box))
	if n > 0 && cause != nil {
		return giveUp(n, cause)
	}
	return err
}

// leave takes nothing new and drops what is not kept. It returns the first seq that is neither
// settled nor kept, and how many messages it dropped. It is done once: ok.
func (p *Push) leave(ctx context.Context) (lowest uint64, dropped int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, 0, false
	}
	p.takeNoMore()
	kept := uint64(0) // seqs below it are
	switch {
	case p.journal != nil:
		p.closed = true
		return p.next, 0, true
	case p.spill != nil:
		if p.spill.save(ctx) == nil {
			p.spill.sure = p.spill.bound
		}
		if p.closed { // meanwhile
			return 0, 0, false
		}
		kept = p.spill.bound
	}
	p.closed = true
	lowest = p.release()
	before, _ := p.box.Ledger().Owed()
	p.box.Ledger().DropFrom(kept, ledger.ReasonShutdown)
	after, _ := p.box.Ledger().Owed()
	p.changed.Fire()
	return lowest, before - after, true
}
