package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// fillDisk fills a store on a small file system, drains it, and fills it again. A SIGBUS would end
// the process, so it has one of its own.
func fillDisk(dir string) {
	if err := fillAndDrain(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func fillAndDrain(dir string) error {
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	q, state, err := s.OpenQueue("jobs")
	if err != nil {
		return err
	}
	body := strings.Repeat("f", 10<<10)
	next := state.Next
	for round := range 3 {
		n, err := fillUp(s, q, body)
		if err != nil {
			return err
		}
		fmt.Printf("round %d: %d records, %d bytes used, %d on disk, %d free, ballast dropped %v\n", round, n, s.Stat().Used, s.Stat().Disk, s.room.free.Load(), s.room.dropped.Load())
		if round == 1 {
			// Somebody else takes all that is left.
			if err := takeRest(filepath.Join(filepath.Dir(dir), "other")); err != nil {
				return err
			}
		}
		// What must go through does.
		for i := range 300 {
			if err := put(s, func(c *Change) {
				c.SetMark(q, next+uint64(i))
				c.Put(fmt.Sprint("note", i%20), make([]byte, 1500))
			}); err != nil {
				return fmt.Errorf("note %d on a full disk: %w", i, err)
			}
		}
		if round == 1 {
			if err := s.Close(); err != nil {
				return fmt.Errorf("close on a full disk: %w", err)
			}
			if s, err = Open(dir, Options{}); err != nil {
				return fmt.Errorf("open on a full disk: %w", err)
			}
			if q, state, err = s.OpenQueue("jobs"); err != nil || s.Stat().Damage != nil || state.Lost != nil {
				return fmt.Errorf("after reopening on a full disk: %v, lost %v: %w", s.Stat().Damage, state.Lost, err)
			}
		}
		if got := q.count(); got != n {
			return fmt.Errorf("%d records accepted, %d are there", n, got)
		}
		for from := next; from < next+uint64(n); from += 50 {
			if err := put(s, func(c *Change) { c.Settle(q, from, from+49) }); err != nil {
				return fmt.Errorf("settle %d of %d on a full disk: %w\n%s", from, next+uint64(n), err, sizes2(dir))
			}
		}
		next += uint64(n)
		if round == 1 {
			if err := os.Remove(filepath.Join(filepath.Dir(dir), "other")); err != nil {
				return err
			}
		}
		for began := time.Now(); ; runtime.Gosched() {
			if err := put(s, func(c *Change) { err = c.Fits([]Need{{q, 4 << 20}}) }); err != nil {
				return err
			}
			if err == nil {
				break
			}
			if time.Since(began) > 20*time.Second {
				return fmt.Errorf("nothing is accepted after draining: %w\n%s", err, sizes2(dir))
			}
		}
	}
	return s.Close()
}

// count counts the records that can be read.
func (q *Queue) count() (n int) {
	for from := uint64(1); ; {
		b, err := q.Read(from)
		if err != nil {
			return n
		}
		n += int(b.Last - b.Base + 1)
		from = b.Last + 1
	}
}

func put(s *Store, change func(c *Change)) error {
	c := s.Begin()
	change(c)
	g := c.Group()
	c.End()
	return s.Wait(context.Background(), g)
}

// fillUp appends until the store refuses.
func fillUp(s *Store, q *Queue, body string) (n int, err error) {
	var last Group
	for {
		if err := s.Ready(context.Background()); err != nil {
			return n, err
		}
		c := s.Begin()
		_, _, _, err := c.Append(q, len(body)+10, framed(body))
		last = c.Group()
		c.End()
		if errors.Is(err, ErrSpoolFull) {
			return n, s.Wait(context.Background(), last)
		}
		if err != nil {
			return n, err
		}
		n++
	}
}

// takeRest writes a file until the file system is full.
func takeRest(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, 4096)
	for {
		if _, err := f.Write(page); errors.Is(err, syscall.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
