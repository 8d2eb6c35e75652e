package socket

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
)

func TestTheBudgetIsGivenInTurnAndNeverExceeded(t *testing.T) {
	b := NewBudget(10)
	var given []string
	claim := func(name string, size int) *claim {
		return b.claim(size, func() { given = append(given, name) })
	}
	if claim("too large", 11) != nil {
		t.Error("a claim above the whole budget was taken")
	}
	a, c := claim("a", 6), claim("c", 4)
	for name, x := range map[string]bool{"a": b.isGiven(a), "c": b.isGiven(c)} {
		if !x {
			t.Errorf("%s waits although there is room", name)
		}
	}
	d, e, f, g := claim("d", 10), claim("e", 1), claim("f", 1), claim("g", 0)
	b.drop(a)
	same(t, "given while a large claim waits", given, []string(nil))
	b.drop(f) // no longer wanted
	b.drop(c)
	same(t, "given", given, []string{"d"})
	b.drop(d)
	same(t, "given", given, []string{"d", "e", "g"})
	b.drop(e)
	b.drop(g)
	equal(t, "free at the end", b.free, 10)
	equal(t, "waiting at the end", len(b.queue), 0)
}

func TestADroppedClaimLetsTheNextOneGo(t *testing.T) {
	b := NewBudget(10)
	a := b.claim(5, func() {})
	big := b.claim(8, func() { t.Error("given although it was dropped") })
	kicked := false
	small := b.claim(5, func() { kicked = true })
	b.drop(big)
	if !kicked || !b.isGiven(small) {
		t.Error("a claim that fits waits for nobody")
	}
	b.drop(a)
	b.drop(small)
	equal(t, "free at the end", b.free, 10)
}

func TestTheWindowFollowsTheHandlersSpeed(t *testing.T) {
	w, pass := passing(0)
	equal(t, "at first", w.messages, DefaultPrefetch)
	for want := 2 * DefaultPrefetch; want <= maxPrefetch; want *= 2 {
		pass(windowFast - 1)
		equal(t, "after fast handlers", w.messages, want)
	}
	pass(windowFast - 1)
	equal(t, "at its bound", w.messages, maxPrefetch)
	pass(windowFast)
	pass(windowSlow)
	equal(t, "after handlers neither fast nor slow", w.messages, maxPrefetch)
	for want := maxPrefetch / 2; want >= DefaultPrefetch; want /= 2 {
		pass(windowSlow + 1)
		equal(t, "after slow handlers", w.messages, want)
	}
	pass(windowSlow + 1)
	equal(t, "at its floor", w.messages, DefaultPrefetch)
	for want := leap * DefaultPrefetch; want < maxPrefetch; want *= leap {
		pass(windowFast/leap - 1)
		equal(t, "after handlers that take next to no time", w.messages, want)
	}
}

// passing is a window whose sender is that far away, and what lets one pass in so much time.
func passing(rtt time.Duration) (w *window, pass func(took time.Duration)) {
	first := newWindow(0, 0)
	w = &first
	w.rtt = func() time.Duration { return rtt }
	var now time.Duration
	return w, func(took time.Duration) {
		now += took
		for range w.messages {
			w.answered(1, func() time.Duration { return now })
		}
	}
}

func TestTheWindowOfADistantSenderHasRoomForWhatIsOnItsWay(t *testing.T) {
	const rtt = 100 * time.Millisecond
	w, pass := passing(rtt)
	pass(2*rtt + windowFast - 1) // it waits for room, and the handlers for it
	equal(t, "one window each round trip", w.messages, 2*DefaultPrefetch)
	pass(2*rtt + windowSlow)
	equal(t, "after handlers neither fast nor slow", w.messages, 2*DefaultPrefetch)
	pass(2*rtt + windowSlow + 1)
	equal(t, "after slow handlers", w.messages, DefaultPrefetch)
}

func TestAFixedWindowStaysAndAlwaysFitsOneRecord(t *testing.T) {
	w := newWindow(3, 1)
	for range 1000 {
		w.answered(1, func() time.Duration { return 0 })
	}
	equal(t, "messages", w.messages, 3)
	equal(t, "bytes", w.bytes, minPrefetchBytes)
	if minPrefetchBytes < wire.MaxRecord {
		t.Error("a record that travels in one piece may never find room")
	}
	equal(t, "default bytes", newWindow(3, 0).bytes, DefaultPrefetchBytes)
}

func TestAnEventWakesAllWhoWaitAndNobodyLater(t *testing.T) {
	var e Event
	e.Fire()
	a, b := e.Wait(), e.Wait()
	select {
	case <-a:
		t.Fatal("an earlier Fire woke a later Wait")
	default:
	}
	e.Fire()
	<-a
	<-b
	select {
	case <-e.Wait():
		t.Fatal("it stays fired")
	default:
	}
}

func TestStreamLabelsTellStreamsApart(t *testing.T) {
	seen := map[string]bool{}
	for _, node := range []identity.ID{{1}, {2}} {
		for _, store := range [][16]byte{{1}, {2}} {
			for _, ns := range []string{"a", "b"} {
				for _, kind := range []Kind{wire.Push, wire.Pub, wire.Req} {
					l := StreamLabel(node, store, ns, kind, "name")
					if seen[l] || !strings.HasPrefix(l, node.String()+".") {
						t.Errorf("label %q", l)
					}
					seen[l] = true
				}
			}
		}
	}
}

func TestAMessageIsHeldAgainstTheLimits(t *testing.T) {
	f := Framer{MaxMessage: 100}
	long := strings.Repeat("x", 256)
	for name, c := range map[string]struct {
		m    Message
		want error // nil: any error
	}{
		"body":             {Message{Body: filler(101)}, ErrTooLarge},
		"key":              {Message{Key: long}, ErrTooLarge},
		"topic":            {Message{Topic: long}, ErrTooLarge},
		"key not UTF-8":    {Message{Key: "\xff"}, nil},
		"topic not UTF-8":  {Message{Topic: "\xff"}, nil},
		"negative TTL":     {Message{TTL: -1}, nil},
		"TTL under 1 ms":   {Message{TTL: time.Millisecond - 1}, nil},
		"empty header":     {Message{Headers: Headers{"": "x"}}, nil},
		"name not UTF-8":   {Message{Headers: Headers{"\xff": "x"}}, nil},
		"value not UTF-8":  {Message{Headers: Headers{"x": "\xff"}}, nil},
		"large headers":    {Message{Headers: Headers{"x": strings.Repeat("y", wire.MaxHeaders)}}, ErrTooLarge},
		"too many headers": {Message{Headers: manyHeaders(wire.MaxHeaders/6 + 1)}, ErrTooLarge},
	} {
		_, err := f.Prepare(&c.m)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want an error (%v)", name, err, c.want)
		}
	}
}

func manyHeaders(n int) Headers {
	h := Headers{}
	for i := range n {
		h[fmt.Sprint(i)] = ""
	}
	return h
}

// What was framed can be read again, whatever is in it, alone and among others.
func TestWhateverIsFramedCanBeRead(t *testing.T) {
	name := strings.Repeat("n", wire.MaxName)
	messages := []Message{
		{}, {Body: filler(1)}, {Key: name, Topic: name, TTL: 1<<63 - 1, Headers: Headers{"h": strings.Repeat("v", 60000)}, Body: filler(1)},
		{Key: name, Topic: name, TTL: time.Millisecond}, {Body: filler(ownBlock)}, {Body: filler(ownBlock - 16)}, {Body: filler(ownBlock - 17)},
		{Body: filler(wire.MaxRecord)}, {Body: filler(300 << 10)}, {Headers: manyHeaders(100)},
	}
	f := Framer{MaxMessage: 4 << 20}
	type framed struct {
		base   uint64
		record []byte
		copy   string
	}
	var all []framed
	seq := uint64(0)
	for round := range 30 {
		for i := range messages {
			seq += uint64(1 + round*round*round) // up to beyond the largest delta
			p, err := f.Prepare(&messages[i])
			if err != nil {
				t.Fatal(err)
			}
			base, rec := f.Frame(p, seq)
			all = append(all, framed{base, rec, string(rec)})
			if n := len(rec) - len(messages[i].Body); p.Size() < len(messages[i].Body) || n > p.Size()-len(messages[i].Body)+16 {
				t.Errorf("message %d: a record of %d bytes, but its size is told as %d", i, len(rec), p.Size())
			}
			r, rest, err := wire.NextRecord(rec)
			if err != nil || len(rest) != 0 || base+r.Delta != seq || r.Delta > maxDelta {
				t.Fatalf("message %d as %d: base %d, delta %d, %v", i, seq, base, r.Delta, err)
			}
			m := messages[i]
			h, err := decodeHeaders(r.Headers)
			if err != nil || string(r.Body) != string(m.Body) || string(r.Topic) != m.Topic || string(r.Key) != m.Key || len(h) != len(m.Headers) ||
				r.TTL < m.TTL-time.Millisecond {
				t.Fatalf("message %d came back as topic %q key %q TTL %v, %d headers, %v", i, r.Topic, r.Key, r.TTL, len(h), err)
			}
			for k, v := range m.Headers {
				if h[k] != v {
					t.Fatalf("header %q is %q", k, h[k])
				}
			}
		}
	}
	for i, x := range all {
		if string(x.record) != x.copy {
			t.Fatalf("record %d changed after it was framed", i)
		}
	}
}
