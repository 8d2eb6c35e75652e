package zmtp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// headerBegins marks the first message that an XPUB sends upstream in its life: what it was subscribed to in an earlier
// one is over, for its peers subscribe again.
const headerBegins = "zmtp-begins"

// told is what an XSUB was told to subscribe to, by whom. On a node with a state directory it is kept there: a
// subscription and the ack of the message that told of it are one transaction. Each is a value of its own, in a slot:
//
//	slot  times u64 | node 16 | prefix
//
// It is used by one goroutine.
type told struct {
	node  *node.Node
	key   string // of the values
	subs  map[wish]*wished
	slots uint64 // that were ever used
	free  []uint64
}

// wish is a subscription of a node.
type wish struct {
	from   node.ID
	prefix string
}

// wished is how often there is one, and where that is kept.
type wished struct{ times, slot uint64 }

// maxKeptPrefix bounds a prefix that is kept. A longer one is forgotten with the process.
const maxKeptPrefix = patterns.MaxTxValues / 2

const wishHead = 8 + len(node.ID{})

func newTold(n *node.Node, e *Endpoint) *told {
	return &told{node: n, key: fmt.Sprintf("zmtp.xsub.%s\x00%s\x00", e.Name, e.Upstream), subs: map[wish]*wished{}}
}

func (t *told) slot(n uint64) string { return fmt.Sprintf("%s%d", t.key, n) }

func (t *told) slotsKey() string { return t.key + "slots" }

// load reads what an earlier life has kept, and calls add for each, as often as there is one. Without a state directory
// there is nothing.
func (t *told) load(ctx context.Context, add func(prefix string) error) error {
	err := t.node.Tx(ctx, func(tx *node.Tx) error {
		if v := tx.Get(t.slotsKey()); len(v) == 8 {
			t.slots = binary.BigEndian.Uint64(v)
		}
		for n := range t.slots {
			v := tx.Get(t.slot(n))
			if len(v) < wishHead {
				t.free = append(t.free, n)
				continue
			}
			w, s := wish{node.ID(v[8:wishHead]), string(v[wishHead:])}, &wished{binary.BigEndian.Uint64(v), n}
			t.subs[w] = s
			for range s.times {
				if err := add(w.prefix); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if errors.Is(err, socket.ErrNoDir) {
		return nil
	}
	return err
}

// note counts one subscription more or less, and acks the message that told of it.
func (t *told) note(ctx context.Context, m *socket.Message, on bool, prefix string) error {
	w := wish{m.From(), prefix}
	s := t.subs[w]
	switch {
	case s == nil && !on: // it was told by another, or stands in the configuration
		return m.Ack()
	case s == nil:
		s = &wished{1, t.place()}
		t.subs[w] = s
	case on:
		s.times++
	default:
		s.times--
	}
	return t.keep(ctx, m, w, s)
}

// place is a slot that is not in use.
func (t *told) place() uint64 {
	if n := len(t.free); n > 0 {
		slot := t.free[n-1]
		t.free = t.free[:n-1]
		return slot
	}
	t.slots++
	return t.slots - 1
}

// keep puts a subscription on disk, and acks a message, if there is one, in the same transaction.
func (t *told) keep(ctx context.Context, m *socket.Message, w wish, s *wished) error {
	var value []byte
	if s.times > 0 && len(w.prefix) <= maxKeptPrefix {
		value = binary.BigEndian.AppendUint64(nil, s.times)
		value = append(append(value, w.from[:]...), w.prefix...)
	}
	if s.times == 0 {
		delete(t.subs, w)
		t.free = append(t.free, s.slot)
	}
	err := t.node.Tx(ctx, func(tx *node.Tx) error {
		if err := tx.Put(t.slotsKey(), binary.BigEndian.AppendUint64(nil, t.slots)); err != nil {
			return err
		}
		if err := tx.Put(t.slot(s.slot), value); err != nil || m == nil {
			return err
		}
		return tx.Ack(m)
	})
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, socket.ErrNoDir) && !errors.Is(err, socket.ErrNotKept):
		return err
	case m == nil:
		return nil
	}
	return m.Ack() // it lives as long as the process
}

// forget ends all subscriptions of a node, and calls gone for each, as often as there was one.
func (t *told) forget(ctx context.Context, from node.ID, gone func(prefix string) error) error {
	for w, s := range t.subs {
		if w.from != from {
			continue
		}
		for ; s.times > 0; s.times-- {
			if err := gone(w.prefix); err != nil {
				return err
			}
		}
		if err := t.keep(ctx, nil, w, s); err != nil {
			return err
		}
	}
	return nil
}

var begins = socket.Headers{headerBegins: "1"}

// asSubscription takes a subscription or cancellation apart.
func asSubscription(parts [][]byte) (on bool, prefix string, ok bool) {
	if len(parts) != 1 || len(parts[0]) == 0 || parts[0][0] > 1 {
		return false, "", false
	}
	return parts[0][0] == 1, string(parts[0][1:]), true
}
