package ledger

import (
	"fmt"
	"testing"
	"time"

	"peermesh/internal/wire"
)

var onceDurable = Mode{Requests: true, AtMostOnce: true, PerStore: true}

// What becomes of a request that may be executed once in all lives of its replier, by what
// that says when it is back in another life.
func TestWhatAStoreSaysHoldsForAllItsLives(t *testing.T) {
	other := func(at *wire.Attached) { at.Store[7]++ }
	for _, c := range []struct {
		name string
		edit func(*wire.Attached)
		fate string
		sent string // to another replier then
	}{
		{"not here", func(*wire.Attached) {}, "owed", "1"},
		{"not here, says another store", other, "indeterminate", ""},
		{"forgotten", func(at *wire.Attached) { at.Forgotten = true }, "indeterminate", ""},
		{"begun, and the reply is lost", func(at *wire.Attached) { at.Lost = told(1) }, "indeterminate", ""},
		{"done, its reply follows", func(at *wire.Attached) { at.Done = told(1) }, "owed", ""},
	} {
		for lives := byte(1); lives <= 3; lives++ {
			r := newRig(t, onceDurable)
			a := r.join("a", 1)
			r.ask()
			r.take(a)
			r.detach(a, false)
			r.pass(20 * time.Second)
			for life := range lives {
				r.again(a, 2+life, func(at *wire.Attached) {
					mute(at)
					at.Store = nonceOf(1)
					if life == lives-1 {
						c.edit(at)
					} else {
						at.Done = told(1) // its reply never comes through
					}
				})
			}
			want(t, fmt.Sprint(c.name, ", life ", lives, ": fate"), r.fate(1), c.fate)
			b := r.join("b", 9)
			want(t, c.name+": sent to b", flags(r.take(b)), c.sent)
		}
	}
}

func TestARequestThatOneFoundExpiredMayHaveBeenExecutedByAnother(t *testing.T) {
	r := newRig(t, idempotent)
	a := r.join("a", 1)
	r.ask()
	r.take(a)
	r.detach(a, false)
	r.pass(20 * time.Second)
	b := r.join("b", 1)
	want(t, "sent to b", flags(r.take(b)), "1!")
	r.nack(b, wire.NackExpired, 1)
	want(t, "fate", r.fate(1), "indeterminate")
}
