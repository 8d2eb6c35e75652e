package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestQuotaTakesNoMoreThanAreWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuota(2, 3)
		take := func() bool {
			ok, err := q.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		for n := range 2 {
			if !take() {
				t.Fatalf("number %d of two at a time was not taken", n+1)
			}
		}
		third := make(chan bool)
		go func() { third <- take() }()
		synctest.Wait()
		select {
		case <-third:
			t.Fatal("a third was taken while two were in hand")
		default:
		}
		q.put(true)
		if !<-third {
			t.Fatal("the third was not taken although one was put back")
		}
		q.put(true)
		fourth := make(chan bool)
		go func() { fourth <- take() }()
		synctest.Wait()
		select {
		case <-fourth:
			t.Fatal("a fourth was taken while the third of three was in hand")
		default:
		}
		q.put(false) // it failed, so another is needed
		if !<-fourth {
			t.Fatal("nothing was taken in place of the one that failed")
		}
		q.put(true)
		if take() {
			t.Fatal("one more was taken although all are done")
		}
	})
}

func TestQuotaEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	told := errors.New("told to leave")
	q := newQuota(1, 0)
	if ok, err := q.take(ctx); !ok || err != nil {
		t.Fatalf("got %v, %v", ok, err)
	}
	cancel(told)
	if ok, err := q.take(ctx); ok || !errors.Is(err, told) {
		t.Errorf("got %v, %v; want the cause", ok, err)
	}
}
