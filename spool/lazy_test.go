package spool

import (
	"testing"
	"testing/synctest"
	"time"
)

// lazily settles seq in a change that may wait.
func lazily(s *Store, q *Queue, seq uint64, then func(error)) Group {
	c := s.Begin()
	defer c.End()
	c.Settle(q, seq, seq)
	c.Then(then)
	c.Lazily()
	return c.Group()
}

// hears returns what was told, and fails if nothing is in time.
func hears(t *testing.T, told <-chan error) error {
	t.Helper()
	select {
	case err := <-told:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is told")
		return nil
	}
}

func TestALazyChangeGoesWithTheNextOneOrAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, t.TempDir())
		defer mustClose(t, s)
		q, _ := mustOpenQueue(t, s, "a")
		commit(t, s, func(c *Change) {
			for range 4 {
				mustAppend(t, c, q, "x")
			}
		})
		told := make(chan error, 4)
		then := func(err error) { told <- err }
		synctest.Wait()

		began := time.Now()
		lazily(s, q, 1, then)
		synctest.Wait()
		if len(told) > 0 {
			t.Error("committed at once")
		}
		must(t, hears(t, told))
		if took := time.Since(began); took != lazyAfter {
			t.Errorf("alone it took %v, want %v", took, lazyAfter)
		}

		began = time.Now()
		lazily(s, q, 2, then)
		next := s.Begin()
		next.Settle(q, 3, 3)
		next.End()
		must(t, hears(t, told))
		if took := time.Since(began); took != 0 {
			t.Errorf("with another it took %v", took)
		}

		began = time.Now()
		must(t, s.Wait(t.Context(), lazily(s, q, 4, then)))
		if took := time.Since(began); took != 0 {
			t.Errorf("waited for it took %v", took)
		}
		must(t, hears(t, told))
	})
}

func TestALazyChangeIsCommittedByClose(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	q, _ := mustOpenQueue(t, s, "a")
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "x") })
	told := make(chan error, 1)
	lazily(s, q, 1, func(err error) { told <- err })
	mustClose(t, s)
	must(t, hears(t, told))
	_, state := mustOpenQueue(t, mustOpen(t, dir), "a")
	if len(state.Settled) != 1 {
		t.Errorf("settled: %v", state.Settled)
	}
}
