package spool

import (
	"fmt"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// scattered settles every other of n records that have a block each, in one change.
func scattered(t *testing.T, s *Store, q *Queue, n int) {
	t.Helper()
	commit(t, s, func(c *Change) {
		for i := range n {
			c.Skip(q, uint64(maxBlockCount*i+1)) // so far that each has a block of its own
			mustAppend(t, c, q, "x")
		}
	})
	commit(t, s, func(c *Change) {
		for i := 2; i < n; i += 2 {
			seq := uint64(maxBlockCount*i + 1)
			c.Settle(q, seq, seq)
		}
	})
}

func TestChangeOfManyThousandBlocksIsOneTransaction(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "a")
	const n = 5000
	scattered(t, s, q, n)
	cut := killed(t, dir)
	for _, q := range []*Queue{q, first(mustOpenQueue(t, mustOpen(t, cut), "a"))} {
		if got := len(unsettled(t, q, nil)); got != n/2+1 && got != n/2 {
			t.Errorf("%d of %d records are owed", got, n)
		}
	}
}

func first(q *Queue, _ QueueState) *Queue { return q }

func TestPackedWritesAreCarriedOutAtOpen(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	commit(t, s, func(c *Change) { c.Put("kept", []byte("old")) })
	// A group whose process ends after its first transaction.
	old, head := s.sums["wkept"], s.next
	mustClose(t, s)
	key, note := noteKey("kept"), finish(noteKey("kept"), append(begin(0), "new"...))
	head.commits++
	head.digest += uint64(sumOf(note)) - uint64(old)
	tamper(t, dir, func(txn *badger.Txn) error {
		return txn.Set(packKey(), pack([]op{{key: key, value: note}, {key: []byte("never")}, {key: storeKey(), value: head.seal()}}))
	})
	s = mustOpen(t, dir)
	if got := string(s.Note("kept")); got != "new" || s.Stat().Damage != nil {
		t.Errorf("note %q, damage %v", got, s.Stat().Damage)
	}
	mustClose(t, s)
	mustOpen(t, dir) // and not again
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack([]op{{key: []byte("k"), value: []byte("v")}, {key: []byte("gone")}, {key: []byte("e"), value: []byte{}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range [][]byte{b, finish(packKey(), b[:len(b):len(b)])} {
			ops, err := unpack(v)
			if err != nil {
				continue
			}
			again, err := unpack(pack(ops))
			if err != nil || fmt.Sprint(again) != fmt.Sprint(ops) {
				t.Errorf("%x unpacks to %v, then to %v, %v", v, ops, again, err)
			}
		}
	})
}
