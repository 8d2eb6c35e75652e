package patterns

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"peermesh/internal/ledger"
	"peermesh/socket"
)

// posts sends messages and returns the IDs of their receipts, once they are on disk.
func posts(t testing.TB, p *Push, ms ...*socket.Message) (ids []string) {
	t.Helper()
	for _, m := range ms {
		r, err := p.Post(long(t), m)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Stored(long(t)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID())
	}
	time.Sleep(time.Millisecond) // the socket has heard of it too
	return ids
}

// states is what Ask says of each.
func states(t testing.TB, p *Push, ids []string) (out []string) {
	t.Helper()
	for _, id := range ids {
		s, err := p.Ask(id)
		if err != nil {
			t.Fatalf("Ask(%q): %v", id, err)
		}
		if (&Receipt{Stream: s.Stream, Seq: s.Seq}).ID() != id {
			t.Errorf("Ask(%q) tells of %s, %d", id, s.Stream, s.Seq)
		}
		out = append(out, s.State)
	}
	return out
}

func TestAReceiptCanBeAskedAgainInALaterLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.push(MaxDeliver(1)), b.pull()
		same(t, "before anything", states(t, s, []string{s.Stream() + "/1"}), []string{"unknown"})
		ids := posts(t, s, &socket.Message{Body: []byte("done")}, &socket.Message{Body: []byte("bad")}, &socket.Message{Body: []byte("begun")},
			&socket.Message{Body: []byte("old"), TTL: time.Second, Delay: time.Hour}, &socket.Message{Body: []byte("late"), Delay: time.Hour})
		same(t, "sent by nobody", states(t, s, ids), []string{"stored", "stored", "stored", "stored", "stored"})
		l := connect(a.node, s, b, r)
		done, bad := recv(t, r, "done"), recv(t, r, "bad")
		recv(t, r, "begun")
		same(t, "in hand", states(t, s, ids), []string{"sent", "sent", "sent", "stored", "stored"})
		if err := done.Ack(); err != nil {
			t.Fatal(err)
		}
		if err := bad.Nack(errors.New("boom")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		want := []string{"done", "dead", "sent", "expired", "stored"}
		same(t, "in this life", states(t, s, ids), want)
		l.part()
		a2 := a.killed()
		s2 := a2.push(MaxDeliver(1))
		same(t, "in the next life", states(t, s2, ids), want)
		other := append(posts(t, s2, &socket.Message{Body: []byte("new")}), s2.Stream()+"/7", "elsewhere/1")
		same(t, "others", states(t, s2, other), []string{"stored", "unknown", "unknown"})
	})
}

func TestAFateIsToldWhenItIsOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.push(), b.pull()
		connect(a.node, s, b, r)
		first, err := s.Post(long(t), &socket.Message{Body: []byte("1")})
		if err != nil {
			t.Fatal(err)
		}
		if state := states(t, s, []string{first.ID()})[0]; state != StateAccepted && state != StateStored && state != StateSent {
			t.Errorf("just accepted: %s", state)
		}
		acked(t, r, "1")
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		for fate, want := range map[ledger.State]string{ledger.Done: "sent", ledger.Dead: "sent", ledger.Expired: "stored", ledger.Dropped: "stored"} {
			run := fateRun{ledger.Settlement{Seq: 1, State: fate}, 1}
			s.mu.Lock()
			s.journal.staged = []groupFate{{1 << 60, run}} // of a group that is never on disk
			equal(t, "on its way", s.journal.standing(1), want)
			s.journal.staged, s.journal.fates = nil, []fateRun{run}
			equal(t, "decided", s.journal.standing(1), want)
			s.journal.fates = nil
			equal(t, "on disk", s.journal.standing(1), "done")
			s.mu.Unlock()
		}
	})
}

// What was done just now may not be known as done, but is never taken for anything else.
func TestAskNeverGuesses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.push(), b.pull()
		connect(a.node, s, b, r)
		var ids []string
		for i := range 20 {
			ids = append(ids, posts(t, s, &socket.Message{Body: []byte{byte('a' + i)}})...)
			acked(t, r, string(rune('a'+i)))
			if err := s.Flush(long(t)); err != nil {
				t.Fatal(err)
			}
			if i == 10 {
				time.Sleep(2 * socket.RenewEvery)
			}
		}
		for i, state := range states(t, s, ids) {
			equal(t, ids[i], state, "done")
		}
		next := a.killed()
		s2 := next.push()
		settled := 0
		for i, state := range states(t, s2, ids) {
			switch {
			case state == StateSettled && i > 10:
				settled++
			case state != "done":
				t.Errorf("%d: %s", i, state)
			}
		}
		if settled == 0 {
			t.Error("all is known: the test tests nothing")
		}
	})
}

func TestWhatWasDoneIsKnownAfterAGoodEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		s, r := a.push(), b.pull()
		connect(a.node, s, b, r)
		ids := posts(t, s, &socket.Message{Body: []byte("1")}, &socket.Message{Body: []byte("2")})
		s.mu.Lock()
		s.journal.outcomes.wrote = time.Now().Add(time.Hour) // so that only the end writes
		s.mu.Unlock()
		acked(t, r, "1", "2")
		if err := s.Shutdown(long(t)); err != nil {
			t.Fatal(err)
		}
		same(t, "states", states(t, a.push(), ids), []string{"done", "done"})
	})
}

func TestWhatWasSettledByOtherMeansIsOnlySettled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newKept(t, 'a', t.TempDir())
		s := a.push()
		ids := posts(t, s, &socket.Message{Body: []byte("1")}, &socket.Message{Body: []byte("2")})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		q, _, err := a.store.OpenQueue(queueName("push", "test", "x"))
		if err != nil {
			t.Fatal(err)
		}
		c := a.store.Begin()
		c.Settle(q, 1, 1)
		g := c.Group()
		c.End()
		if err := a.store.Wait(long(t), g); err != nil {
			t.Fatal(err)
		}
		q.Close()
		same(t, "states", states(t, a.push(), ids), []string{"settled", "stored"})
	})
}

func TestOnlyADurablePushCanBeAsked(t *testing.T) {
	p := newNode(t, 'a').push()
	_, err := p.Ask(p.Stream() + "/1")
	matches(t, "Ask", err, socket.ErrNotDurable)
}

func TestWhatIsNoIDIsRefused(t *testing.T) {
	for _, id := range []string{"", "/", "/1", "a", "a/", "a/0", "a/01", "a/+1", "a/-1", "a/1 ", "a/x", "a/18446744073709551616", "a\xff/1", strings.Repeat("a", maxReceiptID) + "/1"} {
		if stream, seq, err := parseReceiptID(id); !errors.Is(err, errReceiptID) {
			t.Errorf("%q is read as %q, %d, %v", id, stream, seq, err)
		}
	}
	for _, r := range []*Receipt{{Stream: "a/b.c", Seq: 1}, {Stream: "ü", Seq: 1<<64 - 1}} {
		if stream, seq, err := parseReceiptID(r.ID()); err != nil || stream != r.Stream || seq != r.Seq {
			t.Errorf("%q is read as %q, %d, %v", r.ID(), stream, seq, err)
		}
	}
}

func FuzzReceiptID(f *testing.F) {
	f.Add("node.store.ns.push.jobs/eu/17")
	f.Add("a/01")
	f.Fuzz(func(t *testing.T, id string) {
		if stream, seq, err := parseReceiptID(id); err == nil && (&Receipt{Stream: stream, Seq: seq}).ID() != id {
			t.Errorf("%q is read as %q, %d", id, stream, seq)
		}
	})
}

func FuzzOutcomes(f *testing.F) {
	o := new(outcomes)
	f.Add([]byte{})
	f.Add(o.append(nil))
	o.add(ledger.Done, 1, 100)
	o.add(ledger.Dead, 101, 101)
	o.add(ledger.Expired, 103, 110)
	o.add(ledger.Dropped, 200, 200)
	f.Add(o.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOutcomes(b)
		if err != nil || len(b) == 0 {
			return
		}
		again, err := parseOutcomes(o.append(nil))
		if err != nil || !bytes.Equal(again.append(nil), o.append(nil)) {
			t.Errorf("% x: %v, and then %+v, %v", b, o, again, err)
		}
	})
}

func TestOutcomesAreBoundedAndTheOldestGo(t *testing.T) {
	o := new(outcomes)
	for seq := uint64(1); seq <= 4*maxOutcomes; seq += 2 {
		o.add(ledger.Done, seq, seq)
		o.add(ledger.Expired, seq+1, seq+1)
	}
	equal(t, "the oldest", o.of(1), "")
	equal(t, "the newest", o.of(4*maxOutcomes), "expired")
	if n := len(o.append(nil)); n > 8*maxOutcomes {
		t.Errorf("%d bytes", n)
	}
	_, err := parseOutcomes([]byte{outcomesVersion, 1, 1, 0, 1, 1, 0, 0, 0})
	matches(t, "a message with two fates", err, errOutcomes)
	_, err = parseOutcomes([]byte{outcomesVersion + 1})
	matches(t, "a newer note", err, errOutcomes)
}
