package ledger

import (
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

func TestTheFastGetAMillisecondsWorkOfNeighbours(t *testing.T) {
	for window, together := range map[uint64]int{2 * ringPage * workShare: 2 * ringPage, 1e6: mostShare} {
		r := newRig(t, Mode{})
		for _, name := range []string{"a", "b", "c"} {
			r.join(name, window)
		}
		round := strings.Repeat("a", together) + strings.Repeat("b", together) + strings.Repeat("c", together)
		want(t, "woken", r.ones(2*len(round)) == round+round, true)
	}
}

// A pipe that has taken what there was is not called again for what comes later, while others have as little in hand.
func TestNeighboursGoTogetherUntilTheyAreTaken(t *testing.T) {
	r := newRig(t, Mode{})
	cs := map[string]*Consumer{"a": r.join("a", 1e5), "b": r.join("b", 1e5), "c": r.join("c", 1e5)}
	var got strings.Builder
	for _, n := range []int{1, 3, 1, 5, 1, 1} {
		to := r.ones(n)
		got.WriteString(to)
		r.take(cs[to[:1]])
	}
	want(t, "woken", got.String(), "abbbcaaaaacc")
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

func TestWhoHasMuchInHandGoesOnGettingNeighbours(t *testing.T) {
	r := newRig(t, Mode{})
	a := r.join("a", 1e6)
	r.join("b", 1e6)
	r.ones(mostShare / 2)
	r.take(a)
	want(t, "as many as it has in hand", r.ones(mostShare/2) == strings.Repeat("a", mostShare/2), true)
	want(t, "more than its share", r.one(), "b")
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
