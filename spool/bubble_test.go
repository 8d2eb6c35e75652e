package spool

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestStoreWorksInABubbleWhereTimeIsFake(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(dir, Options{})
		must(t, err)
		q, _ := mustOpenQueue(t, s, "jobs")
		began := time.Now()
		for range 20 {
			commit(t, s, func(c *Change) { mustAppend(t, c, q, "x") })
		}
		b, err := q.Read(20)
		if err != nil || !b.At.Equal(began) {
			t.Errorf("block written at %v, %v; the clock stands at %v", b.At, err, began)
		}
		time.Sleep(time.Second) // idle: the mark is settled, and there is nothing to sweep
		synctest.Wait()
		if m, err := readMark(dir, nil); err != nil || m.certain != m.possible {
			t.Errorf("mark after a second: certain %d of %d, %v", m.certain, m.possible, err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("enough"))
		defer cancel()
		s.change.Lock() // nobody can take the group
		g := s.open.number
		s.change.Unlock()
		if err := s.Wait(ctx, g+5); err == nil {
			t.Error("waiting for a group that never was ended well")
		}
		must(t, s.Close())
	})
	_, state := mustOpenQueue(t, mustOpen(t, dir), "jobs")
	if state.Next != 21 || fmt.Sprint(state.Settled) != "[]" {
		t.Errorf("state %+v", state)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "jobs")
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	hold := make(chan struct{})
	// The committer stops when so many groups wait to be told of behind the one that is.
	for range untold + 2 {
		commit(t, s, func(c *Change) { c.Then(func(error) { <-hold }) })
	}
	c := s.Begin()
	mustAppend(t, c, q, "x")
	g := c.Group()
	c.End()
	if err := s.Wait(ctx, g); err != enough {
		t.Errorf("wait: %v, want the cause of its context", err)
	}
	s.change.Lock()
	s.open.size = s.profile.group // as if filled
	s.change.Unlock()
	if err := s.Ready(ctx); err != enough {
		t.Errorf("ready: %v, want the cause of its context", err)
	}
	close(hold)
	must(t, s.Wait(context.Background(), g))
	must(t, s.Ready(context.Background()))
}
