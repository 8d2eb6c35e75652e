package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// The committer is kept busy, so that what follows stays on its way.
func TestWhatIsOnItsWayToTheDiskIsNotRead(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "jobs")
	busy := make(chan struct{})
	// The committer stops when so many groups wait to be told of behind the one that is.
	for range untold + 2 {
		commit(t, s, func(c *Change) { c.Then(func(error) { <-busy }) })
	}
	c := s.Begin()
	mustAppend(t, c, q, "x")
	g := c.Group()
	c.End()
	if b, err := q.Read(1); !errors.Is(err, io.EOF) {
		t.Errorf("read %+v, %v; want %v", b, err, io.EOF)
	}
	close(busy)
	must(t, s.Wait(context.Background(), g))
	if b, err := q.Read(1); err != nil || b.Last != 1 {
		t.Errorf("read %+v, %v", b, err)
	}
}

func TestDamageIsToldWithAllSeqsOfItsBlock(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	withoutLog(s)
	q, _ := mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) {
		for range 3 {
			mustAppend(t, c, q, "x")
		}
	})
	must(t, s.db.Update(func(txn *badger.Txn) error { return txn.Delete(q.blocks[0].key(0)) }))
	var damaged *DamagedError
	if _, err := q.Read(1); !errors.As(err, &damaged) || damaged.From != 1 || damaged.To != 3 {
		t.Errorf("read: %v, want the loss of 1 to 3", err)
	}
}

// The last of the writes is one that Badger refuses: so far a process came that ended in between.
func TestALargeChangeIsOnDiskWholeBeforeItIsCarriedOut(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	var ops []op
	for i := range s.db.MaxBatchCount() {
		ops = append(ops, op{key: fmt.Appendf(nil, "k%d", i), value: []byte("v")})
	}
	ops = append(ops, op{key: []byte("!badger!k"), value: []byte("v")})
	if err := s.transact(ops); err == nil {
		t.Fatal("Badger took a key of its own")
	}
	must(t, s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(packKey())
		if err != nil {
			return err
		}
		return item.Value(func(value []byte) error {
			packed, err := unpack(value)
			if len(packed) != len(ops) {
				t.Errorf("%d writes are kept, want %d", len(packed), len(ops))
			}
			return err
		})
	}))
}

func TestTheMarkOfAQueueOnlyRises(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	for range 10 {
		commit(t, s, func(c *Change) { mustAppend(t, c, q, "x") })
	}
	for _, mark := range []uint64{5, 9, 7} {
		commit(t, s, func(c *Change) { c.SetMark(q, mark) })
	}
	mustClose(t, s)
	if _, state := mustOpenQueue(t, mustOpen(t, dir), "jobs"); state.Mark != 9 {
		t.Errorf("mark %d, want 9", state.Mark)
	}
}

func TestWhatIsSettledIsThatAndNoMore(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "a block of its own") })
	commit(t, s, func(c *Change) {
		for range 4 {
			mustAppend(t, c, q, "x")
		}
	})
	commit(t, s, func(c *Change) {
		c.Settle(q, 1, 1)
		c.Settle(q, 3, 3)
	})
	mustClose(t, s)
	_, state := mustOpenQueue(t, mustOpen(t, dir), "jobs")
	if fmt.Sprint(state.Settled, state.Lost) != "[{1 1} {3 3}] []" {
		t.Errorf("settled %v, lost %v; want 1 and 3, and nothing", state.Settled, state.Lost)
	}
}
