package socket

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsAlignedEndsTogetherAndHardlyEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends time.Time
		for _, at := range []time.Duration{0, 1, Grid / 2, Grid - 1} {
			time.Sleep(at - time.Duration(time.Now().UnixNano())%Grid)
			d := Aligned(RenewEvery)
			if d > RenewEvery || d <= RenewEvery-Grid {
				t.Errorf("%v after a point of the grid %v became %v", at, RenewEvery, d)
			}
			switch end := time.Now().Add(d); {
			case ends.IsZero():
				ends = end
			case !end.Equal(ends):
				t.Errorf("%v after a point of the grid it ends at %v, want %v", at, end, ends)
			}
		}
	})
}
