package ticks

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTicksGoByAsTimeDoes(t *testing.T) {
	if !Usable() {
		t.Skip("no counter to rely on")
	}
	at, began := Count(), time.Now()
	for time.Since(began) < 10*time.Millisecond {
	}
	if n := Count() - at; n < 1_000_000 {
		t.Errorf("%d ticks in %v, want a hundred million a second or more", n, time.Since(began))
	}
	at = Count()
	time.Sleep(10 * time.Millisecond) // the processor may rest
	if n := Count() - at; n < 1_000_000 {
		t.Errorf("%d ticks in a sleep of 10ms, want as many", n)
	}
}

func TestTicksAreOfNoUseInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if Usable() {
			t.Error("usable although time stands still here")
		}
	})
}

var sink uint64

func BenchmarkCount(b *testing.B) {
	for range b.N {
		sink += Count()
	}
}

func BenchmarkClock(b *testing.B) {
	for range b.N {
		sink += uint64(time.Since(began))
	}
}
