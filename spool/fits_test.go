package spool

import (
	"errors"
	"testing"
)

func TestFitsPromisesAllAppendsOrNone(t *testing.T) {
	s := mustOpenWith(t, t.TempDir(), Options{Quota: 4 << 10})
	q, _ := mustOpenQueue(t, s, "q")
	of := func(sizes ...int) (needs []Need) {
		for _, size := range sizes {
			needs = append(needs, Need{q, size})
		}
		return needs
	}
	commit(t, s, func(c *Change) {
		for _, test := range []struct {
			needs []Need
			want  error
		}{
			{nil, nil},
			{of(1000, 1000, 1000, 1000), ErrSpoolFull},
			{of(1, MaxRecordSize+1), ErrTooLarge},
			{of(1000, 1000, 1000), nil},
		} {
			if err := c.Fits(test.needs); !errors.Is(err, test.want) {
				t.Errorf("Fits %d records: got %v, want %v", len(test.needs), err, test.want)
			}
		}
		for range 3 {
			mustAppend(t, c, q, string(make([]byte, 900)))
		}
	})
	commit(t, s, func(c *Change) {
		if err := c.Fits(of(2000)); !errors.Is(err, ErrSpoolFull) {
			t.Errorf("what was appended since counts: got %v", err)
		}
	})
}

func TestWhatTakesThePlaceOfAnotherIsNotHeldBackByTheQuota(t *testing.T) {
	s, err := Open(t.TempDir(), Options{Quota: 1 << 20})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	q, _, err := s.OpenQueue("q")
	must(t, err)
	dead, _, err := s.OpenQueue("dead")
	must(t, err)
	put := func(d []byte, _ uint64) []byte { return append(d, make([]byte, 60<<10)...) }
	var full error
	for full == nil {
		c := s.Begin()
		_, _, _, full = c.Append(q, 60<<10, put)
		c.End()
	}
	if !errors.Is(full, ErrSpoolFull) {
		t.Fatal(full)
	}
	c := s.Begin()
	_, _, _, err = c.AppendAnyway(dead, 60<<10, put)
	c.Settle(q, 1, 1)
	g := c.Group()
	c.End()
	must(t, err)
	must(t, s.Wait(t.Context(), g))
	if _, err := dead.Read(1); err != nil {
		t.Error(err)
	}
}
