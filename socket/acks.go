package socket

import (
	"errors"
	"slices"

	"peermesh/internal/wire"
)

// Acks is a number of messages that are acked together, in a transaction of the journal
// that may hold other changes as well: whole or not at all. It is used by one goroutine:
//
//	Add, Add, ... -> Lock -> Keep, within the transaction -> Unlock -> Kept, when it is on disk
//
// From Keep on the messages are answered for their sockets; they count as held until Kept,
// as those of Ack do, and are done then. The zero value holds none.
type Acks struct {
	ms    []*Message
	boxes []*Inbox
}

// ErrAnswered is a message that can no longer be acked in a transaction: it was acked,
// given back, or its HandlerTimeout has passed.
var ErrAnswered = errors.New("socket: the message was answered already")

// ErrNotKept is a message that cannot be acked in a transaction because it did not come at
// level durable: its sender would not find the done mark after a restart.
var ErrNotKept = errors.New("socket: the message did not come at level durable: its done mark is not kept on disk")

// Add adds a message that was received by the node whose store has that id, and is not
// answered. A message added twice counts once.
func (a *Acks) Add(m *Message, store [16]byte) error {
	switch {
	case m.delivery == nil:
		return errNotReceived
	case m.in.box.cfg.Kind == wire.Rep:
		return errors.New("socket: a request is replied to, not acked")
	case m.in.box.cfg.Local.Store != store:
		return errors.New("socket: the message was received by another node")
	case !m.in.durable():
		return ErrNotKept
	case slices.Contains(a.ms, m):
		return nil
	}
	a.ms = append(a.ms, m)
	if !slices.Contains(a.boxes, m.in.box) {
		a.boxes = append(a.boxes, m.in.box)
	}
	return nil
}

// Lock locks the sockets of the messages and makes sure that all of them wait for their
// answer: after Keep nothing can go wrong but the disk. On an error it locks nothing. It is
// called by one goroutine of a node at a time, and no lock of a socket may be held that is
// taken below another.
func (a *Acks) Lock() error {
	for _, b := range a.boxes {
		b.mu.Lock()
	}
	for _, m := range a.ms {
		if err := m.in.box.ackable(m); err != nil {
			a.Unlock()
			return err
		}
	}
	return nil
}

// ackable is why m cannot be acked in a transaction, nil if it can. b.mu must be held.
func (b *Inbox) ackable(m *Message) error {
	m.in.collect() // it may be acked
	ok, err := b.answerable(m)
	switch {
	case err != nil:
		return err
	case !ok:
		return ErrAnswered
	}
	return b.failed
}

// Unlock undoes Lock.
func (a *Acks) Unlock() {
	for _, b := range a.boxes {
		b.mu.Unlock()
	}
}

// Keep answers the messages and puts the done marks of their streams into the
// transaction. Lock must have returned nil, and Kept must follow in any case, in the order
// of the transactions.
func (a *Acks) Keep(put func(key string, value []byte)) {
	var streams []*stream
	for _, m := range a.ms {
		st := m.in
		st.box.stats.Done++
		st.box.finish(m)
		st.box.unsaved++
		st.kept.bound = append(st.kept.bound, m)
		st.kept.size += len(m.Body)
		if !slices.Contains(streams, st) {
			streams = append(streams, st)
		}
	}
	for _, st := range streams {
		put(st.noteKey(), st.note())
	}
}

// Kept tells that the transaction is on disk, or why that will never be known: then the
// sockets end their work, as when an Ack cannot be kept.
func (a *Acks) Kept(err error) {
	for _, b := range a.boxes {
		told := b.kept(a.ms, err)
		if b.cfg.OnDone != nil {
			for _, m := range told {
				b.cfg.OnDone(m)
			}
		}
	}
}

// kept turns those of ms that are b's into done marks, and returns them. Transactions reach
// the disk in their order.
func (b *Inbox) kept(ms []*Message, err error) (told []*Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.fail(err)
		return nil
	}
	for _, m := range ms {
		if st := m.in; st.box == b {
			if st.kept.bound = st.kept.bound[1:]; len(st.kept.bound) == 0 { // m is the oldest
				st.kept.bound = nil
			}
			st.kept.size -= len(m.Body)
			st.done(m.edition, m.seq, m.seq)
			told = append(told, m)
		}
	}
	if b.unsaved -= len(told); b.unsaved == 0 {
		b.settled.Fire()
	}
	return told
}
