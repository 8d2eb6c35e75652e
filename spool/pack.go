package spool

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// Badger bounds the number of writes of a transaction. A group with more than that is rare: a
// scattered settlement of many thousand blocks. It is still whole or not at all: its small writes
// go into one value, in the transaction that makes the group durable, and are then carried out in
// transactions that fit, the last of which deletes that value. Open carries out what a kill left.
//
//	key    'x'
//	fields for each write: length of the key, key, 0 or length of the value plus 1, value
const packPrefix = 'x'

func packKey() []byte { return []byte{packPrefix} }

// transact makes ops durable, whole or not at all.
func (s *Store) transact(ops []op) error {
	if s.fitsTxn(ops) {
		return s.commitTxn(ops)
	}
	var small, large []op
	for _, o := range ops {
		if len(o.value) < valueThreshold {
			small = append(small, o)
		} else {
			large = append(large, o)
		}
	}
	if err := s.commitTxn(append(large, op{key: packKey(), value: pack(small)})); err != nil {
		return err
	}
	return s.carryOut(small)
}

// carryOut does what a packed value says and deletes it.
func (s *Store) carryOut(ops []op) error {
	for len(ops) > 0 {
		n := len(ops)
		for n > 1 && !s.fitsTxn(ops[:n]) {
			n /= 2
		}
		part := ops[:n:n]
		if ops = ops[n:]; len(ops) == 0 {
			part = append(part, op{key: packKey()})
		}
		if err := s.commitTxn(part); err != nil {
			return err
		}
	}
	return nil
}

// fitsTxn says whether Badger takes ops, and one more, in one transaction.
func (s *Store) fitsTxn(ops []op) bool {
	if int64(len(ops)) > s.db.MaxBatchCount()/2 {
		return false
	}
	var size int64
	for _, o := range ops {
		size += int64(len(o.key)) + entryCost
		if len(o.value) < valueThreshold {
			size += int64(len(o.value))
		}
	}
	return size < s.db.MaxBatchSize()/2
}

func (s *Store) commitTxn(ops []op) error {
	s.txn.Lock()
	defer s.txn.Unlock()
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	for _, o := range ops {
		var err error
		if o.value == nil {
			err = txn.Delete(o.key)
		} else {
			err = txn.Set(o.key, o.value)
		}
		if err != nil {
			return err
		}
	}
	return txn.Commit()
}

func pack(ops []op) []byte {
	return finish(packKey(), appendOps(begin(0), ops))
}

// appendOps appends writes, one after the other.
func appendOps(b []byte, ops []op) []byte {
	for _, o := range ops {
		b = appendOp(b, o)
	}
	return b
}

func appendOp(b []byte, o op) []byte { return append(appendOpHead(b, o), o.value...) }

// appendOpHead appends all of a write but the value.
func appendOpHead(b []byte, o op) []byte {
	b = binary.AppendUvarint(b, uint64(len(o.key)))
	b = append(b, o.key...)
	if o.value == nil {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(len(o.value))+1)
}

func unpack(value []byte) ([]op, error) {
	f, err := unsealAny(packKey(), value)
	if err != nil {
		return nil, err
	}
	return parseOps(f, valueThreshold)
}

// parseOps reads writes whose values are not above limit. They alias b.
func parseOps(b []byte, limit uint64) ([]op, error) {
	r := uvarints{b, nil}
	var ops []op
	for len(r.rest) > 0 {
		var o op
		o.key = r.bytes(1 << 16)
		if n := r.next(limit + 1); n > 0 && r.err == nil {
			if n-1 > uint64(len(r.rest)) {
				return nil, fmt.Errorf("%w: %d bytes of %d", ErrDamaged, len(r.rest), n-1)
			}
			o.value, r.rest = r.rest[:n-1:n-1], r.rest[n-1:]
		}
		if r.err != nil {
			return nil, r.err
		}
		if len(o.key) == 0 {
			return nil, fmt.Errorf("%w: a write without a key", ErrDamaged)
		}
		ops = append(ops, o)
	}
	return ops, nil
}

// finishPacked carries out what the last life did not come to.
func (s *Store) finishPacked() error {
	var ops []op
	err := s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(packKey())
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return explain(err)
		}
		value, err := item.ValueCopy(nil)
		if err != nil {
			return explain(err)
		}
		if ops, err = unpack(value); err != nil {
			return fmt.Errorf("packed writes: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.carryOut(ops)
}
