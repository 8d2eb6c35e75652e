package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// one accepts a message and dispatches it, as every Send does, and tells who got it.
func (r *rig) one() string {
	r.Helper()
	r.woken = nil
	r.put(Item{})
	r.dispatch()
	if len(r.woken) != 1 {
		r.Fatalf("woken: %q", r.woken)
	}
	return r.woken[0]
}

// ones is one n times.
func (r *rig) ones(n int) string {
	r.Helper()
	var b strings.Builder
	for range n {
		b.WriteString(r.one())
	}
	return b.String()
}

// longest is how many times a letter stands in s in a row, at most.
func longest(s string) (most int) {
	for i := range s {
		most = max(most, len(s)-i-len(strings.TrimLeft(s[i:], s[i:i+1])))
	}
	return most
}

func TestWhoHasNotShownThatHeIsFastGetsOneInTurn(t *testing.T) {
	r := newRig(t, Mode{})
	r.join("a", FirstWindow)
	r.join("b", FirstWindow)
	want(t, "woken", r.ones(2*FirstWindow), strings.Repeat("ab", FirstWindow))
}

func TestNeighboursGoTogetherWhereEachHasMany(t *testing.T) {
	r := newRig(t, Mode{})
	cs := []*Consumer{r.join("a", 1e4), r.join("b", 1e4), r.join("c", 1e4)}
	want(t, "while each has few", r.ones(9), "abcabcabc")
	for range 900 {
		r.one()
		least, most := cs[0].leased, cs[0].leased
		for _, c := range cs {
			least, most = min(least, c.leased), max(most, c.leased)
		}
		if most-least > max(least/leastShare, 1) {
			t.Fatalf("one has %d, another %d", most, least)
		}
	}
	if got := longest(r.ones(4 * mostShare)); got != mostShare {
		t.Errorf("where each has some hundred, %d go together, want %d", got, mostShare)
	}
}

func TestNeighboursGoTogetherWhereManyWait(t *testing.T) {
	for n, together := range map[int]int{2*2*queueShare - 1: 1, 3*2*queueShare - 1: 2} {
		r := newRig(t, Mode{})
		r.fill(n)
		a, b := r.join("a", 4), r.join("b", 4)
		want(t, "woken", strings.Join(r.wakes(), ""), strings.Repeat(strings.Repeat("a", together)+strings.Repeat("b", together), 4/together))
		want(t, "of both", a.leased, b.leased)
	}
}

// wakes dispatches and tells who was woken.
func (r *rig) wakes() []string {
	r.Helper()
	r.woken = nil
	r.dispatch()
	return r.woken
}

func TestWhoWasToGetNeighboursGetsOneInTurnWhenLittleIsOutstanding(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 1e4), r.join("b", 1e4)
	r.ones(600)
	for r.l.left < mostShare/2 {
		r.one()
	}
	for _, c := range []*Consumer{a, b} {
		r.done(c, r.seqs(c)...)
	}
	want(t, "outstanding", fmt.Sprint(a.leased, b.leased), "0 0")
	want(t, "longest", longest(r.ones(6)), 1)
}

func TestRequestsGoOneByOne(t *testing.T) {
	r := newRig(t, Mode{Requests: true, AtMostOnce: true})
	r.join("a", 1e4)
	r.join("b", 1e4)
	for range 300 {
		r.put(Item{Expires: r.now.Add(time.Minute)})
	}
	want(t, "longest", longest(strings.Join(r.wakes(), "")), 1)
}

// Most of them are held in rows, as they are with one consumer.
func TestWhereEachHasManyThereAreRows(t *testing.T) {
	r := newRig(t, Mode{})
	a, b := r.join("a", 1e4), r.join("b", 1e4)
	for in := (blocks{}); r.next <= 500; r.next++ {
		r.l.Append(in.item(r.next, 8, false), r.now)
		r.dispatch()
	}
	if n := r.inRows(); n < 100 {
		t.Errorf("%d of 500 messages are part of rows", n)
	}
	for _, c := range []*Consumer{a, b} {
		var seqs []uint64
		for _, s := range singles(r.take(c)) {
			seqs = append(seqs, s.Seq)
		}
		r.done(c, seqs...)
	}
	want(t, "done", r.l.Counts().Done, 500)
}
