package spool

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// backlog appends n records of the given size, some groups of them.
func backlog(t testing.TB, s *Store, q *Queue, n, size int) {
	t.Helper()
	body := strings.Repeat("b", size)
	var last Group
	for range n {
		must(t, s.Ready(context.Background()))
		c := s.Begin()
		mustAppend(t, c, q, body)
		last = c.Group()
		c.End()
	}
	must(t, s.Wait(context.Background(), last))
}

func TestDrainedStoreGivesTheDiskBackWithoutClosing(t *testing.T) {
	for _, profile := range []Profile{ProfileServer, ProfileEdge} {
		t.Run(profile.String(), func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpenWith(t, dir, Options{Profile: profile})
			q, _ := mustOpenQueue(t, s, "a")
			backlog(t, s, q, 4000, 10<<10)
			full := s.Stat().Disk
			if full < 40_000_000 {
				t.Fatalf("%d bytes on disk with 40 MB waiting", full)
			}
			began := time.Now()
			commit(t, s, func(c *Change) { c.Settle(q, 1, 4000) })
			trimmed := time.Since(began)
			for s.Stat().Disk >= 2<<20 {
				if err := s.Stat().Failed; err != nil {
					t.Fatal(err)
				}
				if time.Since(began) > time.Minute {
					t.Fatalf("%d bytes still on disk\n%s", s.Stat().Disk, sizes2(dir))
				}
				runtime.Gosched()
			}
			t.Logf("trimmed in %v, under 2 MB after %v", trimmed, time.Since(began))
			if st := s.Stat(); st.Used != 0 {
				t.Errorf("%d bytes in use", st.Used)
			}
			commit(t, s, func(c *Change) { mustAppend(t, c, q, "on") })
			q, state := mustOpenQueue(t, mustOpenWith(t, killed(t, dir), Options{Profile: profile}), "a")
			if got := unsettled(t, q, nil); state.Next != 4002 || fmt.Sprint(got) != "map[4001:on]" {
				t.Errorf("next life: next %d, owed %v", state.Next, got)
			}
		})
	}
}

// Badger loses the wake-up of a transaction that comes in the moment in which it begins to drop a prefix.
func TestCommitsBesideSweepsComeToAnEnd(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	q, _ := mustOpenQueue(t, s, "a")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := s.commitTxn([]op{{key: []byte{wastePrefix, 'x'}, value: []byte("x")}}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 60 {
		must(t, s.reclaim(false, func() bool { return true }))
	}
	stop()
	must(t, <-done)
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "on") })
}

// sizes2 lists what the files of dir take.
func sizes2(dir string) (text string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			text += fmt.Sprintf("%s %d of %d\n", e.Name(), allocated(info), info.Size())
		}
	}
	return text
}
