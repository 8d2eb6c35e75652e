package node

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/socket"
)

func TestLinksThatAreDueAboutTheSameTimeAreTakenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(socket.Grid / 2)
		b := newBeats()
		defer b.end()
		took := func(after time.Duration) []*link {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.take(int64((time.Since(b.base) + after) / socket.Grid))
		}
		early, late, again, gone := &link{over: true}, &link{over: true}, &link{over: true}, &link{over: true} // they do not tick
		for _, l := range []*link{early, late, again, gone} {
			b.wind(l, time.Second)
			time.Sleep(socket.Grid / 16)
		}
		b.wind(early, time.Second) // no news
		b.wind(again, time.Minute)
		b.forget(gone)
		if got := took(time.Second - socket.Grid); len(got) > 0 {
			t.Errorf("%d links too early", len(got))
		}
		if got := took(time.Second); !slices.Equal(got, []*link{early, late}) {
			t.Errorf("took %d links, want the two that were not wound again and are not gone", len(got))
		}
		if got := took(time.Minute); !slices.Equal(got, []*link{again}) {
			t.Errorf("took %d links, want the one that was wound again", len(got))
		}
		if len(b.due) > 0 || b.next != 0 {
			t.Errorf("%v are left, the next one at %d", b.due, b.next)
		}
		b.wind(early, time.Second)
		time.Sleep(time.Second + socket.Grid)
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.due) > 0 || early.beatAt != 0 {
			t.Error("the timer took nothing")
		}
	})
}
