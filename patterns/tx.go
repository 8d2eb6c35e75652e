package patterns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"peermesh/socket"
	"peermesh/spool"
)

// Bounds of one transaction. They keep it within what the store writes at once, whatever
// else is written at the same time.
const (
	MaxTxOps    = 512      // acks, sends and values
	MaxTxValues = 64 << 10 // bytes of values and their keys
)

// Txs runs the transactions of a node. Safe for concurrent use.
type Txs struct {
	env  Env
	turn chan struct{} // holds one token while nobody has the turn
}

// NewTxs makes what a node runs its transactions with.
func NewTxs(env Env) *Txs {
	t := &Txs{env: env, turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	return t
}

// Tx is a transaction: acks of received messages, messages to be sent, and named values.
// All of it reaches the disk in one write, or nothing does. It is used by the function that
// it was given to, on one goroutine, until that returns.
type Tx struct {
	env    Env
	over   bool // f has returned
	err    error
	ops    int
	acks   socket.Acks
	sends  []txSend
	bytes  int                 // of them
	values map[string][]byte   // nil: deleted
	seqs   map[string]*Receipt // of values that end with the seq of a message
	size   int                 // of them and their keys
}

type txSend struct {
	push     *Push
	prepared socket.Prepared
	message  *socket.Message
	receipt  *Receipt // nil: nobody asked for one
}

// ErrTxPush is a Push by which a transaction cannot send.
var ErrTxPush = errors.New("patterns: not a durable Push of this node")

var (
	errTxOver    = errors.New("patterns: the transaction's function has returned")
	errTxReceipt = errors.New("the receipt is not of a message that this transaction sends")
)

// Run is Node.Tx.
func (t *Txs) Run(ctx context.Context, f func(*Tx) error) error {
	if t.env.Store == nil {
		return fmt.Errorf("patterns: transaction: %w", socket.ErrNoDir)
	}
	if err := t.env.Store.Ready(ctx); err != nil {
		return err
	}
	group, err := t.stage(ctx, f)
	if err != nil || group == 0 {
		return err
	}
	if err := t.env.Store.Wait(ctx, group); err != nil {
		return fmt.Errorf("%w: %w", socket.ErrUnknown, err)
	}
	return nil
}

// stage runs f and hands what it asked for to the store; 0 is the group of nothing. Who
// comes next sees it, though it is not on the disk yet: if it never gets there, neither
// does what follows.
func (t *Txs) stage(ctx context.Context, f func(*Tx) error) (spool.Group, error) {
	select {
	case <-t.turn:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { t.turn <- struct{}{} }()
	tx := &Tx{env: t.env, values: map[string][]byte{}, seqs: map[string]*Receipt{}}
	defer func() { tx.over = true }()
	if err := f(tx); err != nil {
		return 0, err
	}
	if tx.err != nil || tx.ops == 0 {
		return 0, tx.err
	}
	return tx.stage()
}

// Get is Node.Get.
func (t *Txs) Get(ctx context.Context, key string) ([]byte, error) {
	store := t.env.Store
	if store == nil {
		return nil, fmt.Errorf("patterns: value %q: %w", key, socket.ErrNoDir)
	}
	value := store.Note(valueKey(t.env, key))
	c := store.Begin() // what was read is in this group at the latest
	group := c.Group()
	c.End()
	if err := store.Wait(ctx, group); err != nil {
		return nil, err
	}
	return value, nil
}

// valueKey names a value in the store. No namespace holds a NUL.
func valueKey(env Env, key string) string { return "value/" + env.Local.Namespace + "\x00" + key }

// add counts one more operation and does it. An error is remembered: whoever does not look
// at it gets nothing done by halves.
func (tx *Tx) add(op func() error) error {
	switch {
	case tx.over:
		return errTxOver
	case tx.err != nil:
	case tx.ops == MaxTxOps:
		tx.err = fmt.Errorf("patterns: transaction: %w: more than %d operations", socket.ErrTooLarge, MaxTxOps)
	default:
		tx.ops++
		if err := op(); err != nil {
			tx.err = fmt.Errorf("patterns: transaction: %w", err)
		}
	}
	return tx.err
}

// Ack says that m, which a Pull or Sub of this node received and which is not answered, is
// handled when the transaction is on disk, and not otherwise. m must have come at level
// durable, or the error matches socket.ErrNotKept. If m can no longer be acked when f
// returns, say because its HandlerTimeout passed, the whole transaction is refused
// (socket.ErrAnswered).
func (tx *Tx) Ack(m *socket.Message) error {
	return tx.add(func() error { return tx.acks.Add(m, tx.env.Local.Store) })
}

// Send sends m, of which it makes a copy, by p, a durable Push of this node, when the
// transaction is on disk. All messages of one transaction have at most 64 MiB.
func (tx *Tx) Send(p *Push, m *socket.Message) error {
	return tx.add(func() error { return tx.send(p, m, nil) })
}

// Post is Send, and the receipt tells what becomes of the message. Its Seq is there when Node.Tx returns nil, or an
// error that matches socket.ErrUnknown; after any other error there is no such message.
func (tx *Tx) Post(p *Push, m *socket.Message) (*Receipt, error) {
	r := early(p.stream)
	if err := tx.add(func() error { return tx.send(p, m, r) }); err != nil {
		return nil, err
	}
	return r, nil
}

func (tx *Tx) send(p *Push, m *socket.Message, r *Receipt) error {
	if p.journal == nil || p.journal.store != tx.env.Store {
		return fmt.Errorf("%w: %q", ErrTxPush, p.name)
	}
	own := &socket.Message{Body: m.Body, Topic: m.Topic, Key: m.Key, Headers: m.Headers, TTL: m.TTL, Delay: m.Delay}
	prepared, err := p.prepare(own)
	if err != nil {
		return err
	}
	if tx.bytes += prepared.MaxSize(); tx.bytes > spool.MaxRecordSize {
		return fmt.Errorf("%w: messages of %d bytes, at most %d", socket.ErrTooLarge, tx.bytes, spool.MaxRecordSize)
	}
	own.Body = bytes.Clone(m.Body)
	tx.sends = append(tx.sends, txSend{p, prepared, own, r})
	return nil
}

// Put gives key a value, of which it makes a copy; nil deletes it. Values are for a few
// numbers and cursors, not for data: they live beside the messages, outside the quota, each
// until it is deleted. A key has 1 to 1024 bytes, all of one transaction 64 KiB.
func (tx *Tx) Put(key string, value []byte) error {
	return tx.add(func() error { return tx.put(key, value) })
}

func (tx *Tx) put(key string, value []byte) error {
	if key == "" || len(key) > maxValueKey {
		return fmt.Errorf("a key of %d bytes, allowed are 1 to %d", len(key), maxValueKey)
	}
	delete(tx.seqs, key)
	if tx.size += len(key) + len(value); tx.size > MaxTxValues {
		return fmt.Errorf("%w: values of %d bytes, at most %d", socket.ErrTooLarge, tx.size, MaxTxValues)
	}
	if value != nil {
		value = append([]byte{}, value...)
	}
	tx.values[key] = value
	return nil
}

const maxValueKey = 1024

// PutSeq gives key the value that begins with prefix and ends with the seq of a message that this transaction
// sends, eight bytes big-endian, by the receipt of its Post. Until the end of the transaction those read as zero.
func (tx *Tx) PutSeq(key string, prefix []byte, r *Receipt) error {
	return tx.add(func() error {
		if r == nil || !slices.ContainsFunc(tx.sends, func(s txSend) bool { return s.receipt == r }) {
			return errTxReceipt
		}
		if err := tx.put(key, binary.BigEndian.AppendUint64(slices.Clip(prefix), 0)); err != nil {
			return err
		}
		tx.seqs[key] = r
		return nil
	})
}

// Get returns a copy of the value of key as this transaction sees it: with what it has Put,
// and after all that came before it. nil: there is none.
func (tx *Tx) Get(key string) []byte {
	if value, ok := tx.values[key]; ok {
		return slices.Clone(value)
	}
	return tx.env.Store.Note(valueKey(tx.env, key))
}

// stage hands everything to the store in one change, or refuses all of it. It locks the
// inboxes concerned for that time; the turn makes it the only one that locks more than one.
func (tx *Tx) stage() (spool.Group, error) {
	if err := tx.acks.Lock(); err != nil {
		return 0, fmt.Errorf("patterns: transaction: %w", err)
	}
	defer tx.acks.Unlock()
	c := tx.env.Store.Begin()
	defer c.End()
	if c.Group() == 0 {
		return 0, spool.ErrClosed
	}
	for _, s := range tx.sends {
		if err := s.push.journal.open(s.message); err != nil {
			return 0, fmt.Errorf("patterns: transaction: push %q: %w", s.push.name, err)
		}
	}
	if err := c.Fits(tx.needs()); err != nil {
		return 0, err
	}
	for _, s := range tx.sends {
		if s.receipt != nil {
			s.receipt.group, s.receipt.store = c.Group(), tx.env.Store
		}
		seq, err := s.push.journal.put(c, s.prepared, s.message)
		if err != nil {
			return 0, err // the store failed: the change comes to nothing
		}
		s.push.receipts.note(s.receipt, seq)
	}
	for key, r := range tx.seqs {
		value := tx.values[key]
		binary.BigEndian.PutUint64(value[len(value)-8:], r.Seq)
	}
	for _, key := range slices.Sorted(maps.Keys(tx.values)) {
		c.Put(valueKey(tx.env, key), tx.values[key])
	}
	tx.acks.Keep(c.Put)
	c.Then(tx.acks.Kept)
	return c.Group(), nil
}

// needs is what the messages take on disk.
func (tx *Tx) needs() (out []spool.Need) {
	for _, s := range tx.sends {
		out = append(out, spool.Need{Queue: s.push.journal.queue, Size: s.prepared.MaxSize()})
	}
	return out
}
