package marks

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// attach is the ATTACH of a sender's life with that incarnation and nonce.
func attach(incarnation uint64, nonce byte, number uint64) wire.Attach {
	return wire.Attach{Incarnation: incarnation, Nonce: [16]byte{nonce}, Number: number, Edition: 1}
}

func mustAttach(t testing.TB, s *Stream, a wire.Attach) Pipe {
	t.Helper()
	p, err := s.Attach(a)
	if err != nil {
		t.Fatalf("Attach(%+v) = %v", a, err)
	}
	return p
}

// arrive takes seqs in hand and returns those that were new.
func arrive(t testing.TB, s *Stream, edition uint64, seqs ...uint64) (fresh []uint64) {
	t.Helper()
	for _, seq := range seqs {
		ok, err := s.Arrive(edition, seq)
		if err != nil {
			t.Fatalf("Arrive(%d, %d) = %v", edition, seq, err)
		}
		if ok {
			fresh = append(fresh, seq)
		}
	}
	return fresh
}

// says is what ATTACHED tells, in short.
func says(s *Stream) string {
	var a wire.Attached
	s.Attached(&a)
	return fmt.Sprintf("done %v held %v lost %v", a.Done, a.Held, a.Lost)
}

func confirm(edition uint64, from, to uint64) wire.EditionRanges {
	return wire.EditionRanges{Edition: edition, Ranges: []ranges.Range{{From: from, To: to}}}
}

func TestOnlyANewerAttachIsHeard(t *testing.T) {
	for _, c := range []struct {
		name string
		a    wire.Attach
		ok   bool
	}{
		{"the next number", attach(5, 1, 4), true},
		{"a much higher number", attach(5, 1, math.MaxUint64), true},
		{"the same again", attach(5, 1, 3), false},
		{"a lower number", attach(5, 1, 2), false},
		{"a higher incarnation, whatever its number", attach(6, 1, 1), true},
		{"a lower incarnation, whatever its number", attach(4, 1, 9), false},
		{"a lower incarnation with another nonce", attach(4, 2, 9), false},
		{"another process of a node without a memory", attach(5, 2, 1), true},
	} {
		var s Stream
		want(t, "known", s.Known(), false)
		first := mustAttach(t, &s, attach(5, 1, 3))
		want(t, "known", s.Known(), true)
		p, err := s.Attach(c.a)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrFenced) {
			t.Errorf("%s: %v, want accepted %v", c.name, err, c.ok)
			continue
		}
		if got := s.Current(first); got == c.ok {
			t.Errorf("%s: the first pipe is current: %v, want %v", c.name, got, !c.ok)
		}
		if c.ok && !s.Current(p) {
			t.Errorf("%s: the new pipe is not current", c.name)
		}
		if c.ok && p.Number() != c.a.Number {
			t.Errorf("%s: number %d, want %d", c.name, p.Number(), c.a.Number)
		}
		if s.Current(Pipe{}) {
			t.Errorf("%s: the zero pipe is current", c.name)
		}
	}
}

func TestAFencedPipeStaysFenced(t *testing.T) {
	var s Stream
	old := mustAttach(t, &s, attach(1, 1, 1))
	mustAttach(t, &s, attach(1, 1, 2))
	if _, err := s.Attach(attach(1, 1, 1)); !errors.Is(err, ErrFenced) {
		t.Errorf("replayed ATTACH: %v, want ErrFenced", err)
	}
	if s.Current(old) {
		t.Error("a refused ATTACH brought its pipe back")
	}
}

func TestAMessageIsTakenInHandOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*Stream)
		new  bool // when it comes again
		says string
	}{
		{"held", func(s *Stream) {}, false, "done [] held [{1 [{7 7}]}] lost []"},
		{"done", func(s *Stream) { s.Done(1, 7) }, false, "done [{1 [{7 7}]}] held [] lost []"},
		{"lost", func(s *Stream) { s.Lose(1, 7) }, false, "done [] held [] lost [{1 [{7 7}]}]"},
		{"returned", func(s *Stream) { s.Return(1, 7) }, true, "done [] held [] lost []"},
		{"done and confirmed", func(s *Stream) { s.Done(1, 7); s.Confirm(confirm(1, 7, 7)) }, true, "done [] held [] lost []"},
		{"lost and confirmed", func(s *Stream) { s.Lose(1, 7); s.Confirm(confirm(1, 1, 9)) }, true, "done [] held [] lost []"},
		{"done, others confirmed", func(s *Stream) { s.Done(1, 7); s.Confirm(confirm(1, 8, 99)) }, false, "done [{1 [{7 7}]}] held [] lost []"},
		{"done, confirmed in another edition", func(s *Stream) { s.Done(1, 7); s.Confirm(confirm(2, 7, 7)) }, false, "done [{1 [{7 7}]}] held [] lost []"},
		{"held, and a confirmation", func(s *Stream) { s.Confirm(confirm(1, 1, 9)) }, false, "done [] held [{1 [{7 7}]}] lost []"},
	} {
		var s Stream
		mustAttach(t, &s, attach(1, 1, 1))
		want(t, c.name+": first time", arrive(t, &s, 1, 7), []uint64{7})
		c.do(&s)
		want(t, c.name, says(&s), c.says)
		want(t, c.name+": second time", len(arrive(t, &s, 1, 7)) == 1, c.new)
		duplicates := uint64(1)
		if c.new {
			duplicates = 0
		}
		want(t, c.name+": duplicates", s.Duplicates(), duplicates)
	}
}

func TestARunIsTakenInHandWholeOrNotAtAll(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to uint64
		ok       bool
	}{
		{"all new", 20, 29, true},
		{"one message", 20, 20, true},
		{"beside what is held", 11, 12, true},
		{"one is held", 5, 10, false},
		{"one is done", 12, 14, false},
		{"one is lost", 14, 15, false},
		{"seq 0", 0, 2, false},
		{"backwards", 30, 29, false},
	} {
		var s Stream
		mustAttach(t, &s, attach(1, 1, 1))
		arrive(t, &s, 1, 10, 13, 15)
		s.Done(1, 13)
		s.Lose(1, 15)
		before := says(&s)
		ok, err := s.ArriveRun(1, c.from, c.to)
		if ok != c.ok || err != nil {
			t.Errorf("%s: %v, %v, want %v", c.name, ok, err, c.ok)
		}
		if !c.ok {
			want(t, c.name, says(&s), before)
			continue
		}
		want(t, c.name+": in hand", s.Held(), 1+c.to-c.from+1)
		want(t, c.name+": taken one by one afterwards", len(arrive(t, &s, 1, c.from, c.to)), 0)
	}
}

func TestSeqsOfAnotherEditionAreOtherMessages(t *testing.T) {
	var s Stream
	mustAttach(t, &s, attach(1, 1, 1))
	arrive(t, &s, 1, 1, 2)
	s.Done(1, 1)
	a := attach(2, 2, 1)
	a.Edition = 2
	mustAttach(t, &s, a)
	want(t, "taken", arrive(t, &s, 2, 1, 2), []uint64{1, 2})
	want(t, "done", fmt.Sprint(s.IsDone(1, 1), s.IsDone(2, 1), s.IsDone(3, 1)), "true false false")
	s.Done(2, 2)
	want(t, "said", says(&s), "done [{1 [{1 1}]} {2 [{2 2}]}] held [{1 [{2 2}]} {2 [{1 1}]}] lost []")
	s.Confirm(confirm(1, 1, 1))
	want(t, "said", says(&s), "done [{2 [{2 2}]}] held [{1 [{2 2}]} {2 [{1 1}]}] lost []")
}

func TestThousandsOfEditionsAreToldApart(t *testing.T) {
	var s Stream
	mustAttach(t, &s, attach(1, 1, 1))
	const n = wire.MaxEditions
	for e := range uint64(n) {
		want(t, "arrived", arrive(t, &s, e, e+1, e+2), []uint64{e + 1, e + 2})
		s.Done(e, e+1)
	}
	for e := range uint64(n) {
		want(t, "again", arrive(t, &s, e, e+1, e+2), []uint64(nil))
		want(t, "done", s.IsDone(e, e+1), true)
		want(t, "done of the edition before", s.IsDone(e-1, e+1), false)
	}
	want(t, "counts", fmt.Sprint(s.Held(), s.Unconfirmed()), fmt.Sprint(n, n))
	for e := range uint64(n) {
		s.Return(e, e+2)
		s.Confirm(confirm(e, e+1, e+1))
	}
	want(t, "said", says(&s), "done [] held [] lost []")
	want(t, "and forgotten", len(s.editions) <= 2 && len(s.index) <= 2, true)
}

func TestWhatIsHeldAtTheEndWasBegun(t *testing.T) {
	var s Stream
	mustAttach(t, &s, attach(1, 1, 1))
	want(t, "nothing", len(s.Begun()), 0)
	arrive(t, &s, 1, 1, 2, 3, 5)
	arrive(t, &s, 2, 7)
	arrive(t, &s, 3, 9)
	s.Done(1, 2)
	s.Return(2, 7)
	want(t, "begun", fmt.Sprint(s.Begun()), "[{1 [{1 1} {3 3} {5 5}]} {3 [{9 9}]}]")
}

func TestMissingIsWhatIsNeitherInHandNorDone(t *testing.T) {
	var s Stream
	want(t, "of nothing", slices.Collect(s.Missing(3, 5)), []ranges.Range{{From: 3, To: 5}})
	mustAttach(t, &s, attach(1, 1, 1))
	arrive(t, &s, 1, 2, 3, 5, 8)
	s.Done(1, 3)
	s.Return(1, 8)
	a := attach(2, 2, 1)
	a.Edition = 2
	mustAttach(t, &s, a)
	arrive(t, &s, 2, 7)
	want(t, "missing", slices.Collect(s.Missing(1, 9)), []ranges.Range{{From: 1, To: 1}, {From: 4, To: 4}, {From: 6, To: 6}, {From: 8, To: 9}})
	want(t, "of what is here", slices.Collect(s.Missing(2, 3)), []ranges.Range(nil))
	for r := range s.Missing(1, 9) {
		want(t, "the first alone", r, ranges.Range{From: 1, To: 1})
		break
	}
}

func TestStartTrimsMarksThatAreSettled(t *testing.T) {
	var s Stream
	mustAttach(t, &s, attach(1, 1, 1))
	arrive(t, &s, 1, 1, 2, 3, 4, 5, 6)
	s.Done(1, 1)
	s.Done(1, 3)
	s.Lose(1, 2)
	s.Done(1, 4)
	a := attach(1, 1, 2)
	a.Edition, a.Start = 9, 1 // seqs go on over all editions
	mustAttach(t, &s, a)
	want(t, "said", says(&s), "done [{1 [{1 1} {3 4}]}] held [{1 [{5 6}]}] lost [{1 [{2 2}]}]")
	a.Number, a.Start = 3, 4
	mustAttach(t, &s, a)
	want(t, "said", says(&s), "done [{1 [{4 4}]}] held [{1 [{5 6}]}] lost []")
	a.Number, a.Start = 4, math.MaxUint64
	mustAttach(t, &s, a)
	want(t, "what is in hand stays", says(&s), "done [] held [{1 [{5 6}]}] lost []")
	want(t, "counts", fmt.Sprint(s.Held(), s.Unconfirmed()), "2 0")
}

func TestAFencedAttachTrimsNothing(t *testing.T) {
	var s Stream
	mustAttach(t, &s, attach(1, 1, 2))
	arrive(t, &s, 1, 1)
	s.Done(1, 1)
	a := attach(1, 1, 1)
	a.Start = 10
	if _, err := s.Attach(a); err == nil {
		t.Fatal("an older ATTACH was accepted")
	}
	want(t, "said", says(&s), "done [{1 [{1 1}]}] held [] lost []")
}

func TestEditionsAreForgottenWhenNothingOfThemIsLeft(t *testing.T) {
	var s Stream
	mustAttach(t, &s, attach(1, 1, 1))
	for e := range uint64(20 * wire.MaxEditions) {
		arrive(t, &s, e, 1, 2)
		s.Done(e, 1)
		s.Return(e, 2)
		s.Confirm(confirm(e, 1, 1))
		if n := len(s.editions); n > 2 {
			t.Fatalf("%d editions are kept, want at most the newest two", n)
		}
	}
}

func TestAMarkStaysHoweverManyThereAre(t *testing.T) {
	var s Stream
	const n = 1000
	for seq := uint64(1); seq <= n; seq++ {
		if fresh, err := s.Arrive(1, seq); !fresh || err != nil {
			t.Fatalf("Arrive(%d) = %v, %v", seq, fresh, err)
		}
		s.Done(1, seq)
	}
	for seq := uint64(1); seq <= n; seq++ {
		if fresh, err := s.Arrive(1, seq); fresh || err != nil {
			t.Fatalf("Arrive(%d) = %v, %v, and it was done", seq, fresh, err)
		}
	}
}

func TestUnconfirmedEditionsAreBounded(t *testing.T) {
	var s Stream
	mustAttach(t, &s, attach(1, 1, 1))
	for e := range uint64(wire.MaxEditions) {
		arrive(t, &s, e, 1)
		if e%2 == 0 {
			s.Done(e, 1)
		}
	}
	if _, err := s.Arrive(1<<20, 1); err == nil {
		t.Fatalf("more than %d editions are kept", wire.MaxEditions)
	}
	if ok, err := s.ArriveRun(1<<20, 1, 2); ok || err == nil {
		t.Fatalf("more than %d editions are kept for a run", wire.MaxEditions)
	}
	want(t, "the newest still works", arrive(t, &s, wire.MaxEditions-1, 2), []uint64{2})
	s.Confirm(confirm(0, 1, 1))
	want(t, "after one was confirmed", arrive(t, &s, 1<<20, 1), []uint64{1})
	var a wire.Attached
	s.Attached(&a)
	if n := len(a.Done) + len(a.Held); n > wire.MaxEditions {
		t.Errorf("ATTACHED tells %d editions, at most %d fit", n, wire.MaxEditions)
	}
}

func TestSeqZeroIsNoMessage(t *testing.T) {
	var s Stream
	if ok, err := s.Arrive(1, 0); ok || err == nil {
		t.Errorf("Arrive(1, 0) = %v, %v, want an error", ok, err)
	}
}

func TestWhatIsUnknownIsIgnored(t *testing.T) {
	var s Stream
	s.Done(1, 1)
	s.Return(1, 1)
	s.Lose(1, 1)
	s.Confirm(confirm(1, 0, math.MaxUint64))
	want(t, "said", says(&s), "done [] held [] lost []")
	want(t, "counts", fmt.Sprint(s.Held(), s.Unconfirmed(), s.Duplicates()), "0 0 0")
}

// A hostile sender spreads its seqs over all 64 bits; an honest one may have as many
// marks as the default bound allows, with others' messages between.
func TestWhatAttachedTellsFitsAFrame(t *testing.T) {
	const window = 1 << 16 // in hand beside the marks, at most
	for _, stride := range []uint64{1, 1 << 14, math.MaxUint64 / (MaxUnconfirmed + window)} {
		var s Stream
		mustAttach(t, &s, attach(1, 1, 1))
		for i := range uint64(MaxUnconfirmed + window) {
			arrive(t, &s, 1, 1+i*stride)
			if i < MaxUnconfirmed {
				s.Done(1, 1+i*stride)
			}
		}
		var a wire.Attached
		for range wire.MaxPatterns {
			a.Patterns = append(a.Patterns, strings.Repeat("x", wire.MaxPattern))
		}
		s.Attached(&a)
		wire.AppendAttached(nil, a) // panics if it does not fit
		if stride == 1 {
			continue
		}
		// A CONFIRM that picks every other mark costs one pass, not one for each of them.
		var c wire.EditionRanges
		c.Edition = 1
		for i := uint64(0); i < MaxUnconfirmed; i += 2 {
			c.Ranges = append(c.Ranges, ranges.Range{From: 1 + i*stride, To: 1 + i*stride})
		}
		s.Confirm(c)
		want(t, "unconfirmed", s.Unconfirmed(), uint64(MaxUnconfirmed/2))
	}
}

// The stream against the simplest thing that could be right: a map from message to
// its state.
func TestAStreamAgreesWithAMap(t *testing.T) {
	type message struct{ edition, seq uint64 }
	rapid.Check(t, func(t *rapid.T) {
		var s Stream
		m := map[message]string{}
		duplicates := uint64(0)
		draw := func(t *rapid.T) message {
			return message{rapid.Uint64Range(1, 3).Draw(t, "edition"), rapid.Uint64Range(1, 6).Draw(t, "seq")}
		}
		t.Repeat(map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				x := draw(t)
				fresh, err := s.Arrive(x.edition, x.seq)
				if err != nil || fresh != (m[x] == "") {
					t.Fatalf("Arrive(%v) = %v, %v, but it is %q", x, fresh, err, m[x])
				}
				if !fresh {
					duplicates++
					return
				}
				m[x] = "held"
			},
			"arrive as a run": func(t *rapid.T) {
				x := draw(t)
				to := rapid.Uint64Range(x.seq, 6).Draw(t, "to")
				free := true
				for seq := x.seq; seq <= to; seq++ {
					free = free && m[message{x.edition, seq}] == ""
				}
				if ok, err := s.ArriveRun(x.edition, x.seq, to); err != nil || ok != free {
					t.Fatalf("ArriveRun(%v-%d) = %v, %v, want %v", x, to, ok, err, free)
				}
				for seq := x.seq; seq <= to && free; seq++ {
					m[message{x.edition, seq}] = "held"
				}
			},
			"done": func(t *rapid.T) {
				if x := draw(t); m[x] == "held" {
					s.Done(x.edition, x.seq)
					m[x] = "done"
				}
			},
			"lose": func(t *rapid.T) {
				if x := draw(t); m[x] == "held" {
					s.Lose(x.edition, x.seq)
					m[x] = "lost"
				}
			},
			"return": func(t *rapid.T) {
				if x := draw(t); m[x] == "held" {
					s.Return(x.edition, x.seq)
					delete(m, x)
				}
			},
			"confirm": func(t *rapid.T) {
				x := draw(t)
				to := rapid.Uint64Range(x.seq, 6).Draw(t, "to")
				s.Confirm(confirm(x.edition, x.seq, to))
				for seq := x.seq; seq <= to; seq++ {
					if k := (message{x.edition, seq}); m[k] != "held" {
						delete(m, k)
					}
				}
			},
			"": func(t *rapid.T) {
				count := map[string]uint64{}
				for x, state := range m {
					count[state]++
					if got := s.IsDone(x.edition, x.seq); got != (state == "done") {
						t.Fatalf("IsDone(%v) = %v, but it is %q", x, got, state)
					}
				}
				if s.Held() != count["held"] || s.Unconfirmed() != count["done"]+count["lost"] || s.Duplicates() != duplicates {
					t.Fatalf("held %d, unconfirmed %d, duplicates %d, want %v and %d", s.Held(), s.Unconfirmed(), s.Duplicates(), count, duplicates)
				}
				here := map[uint64]bool{}
				for x, state := range m {
					here[x.seq] = here[x.seq] || state == "held" || state == "done"
				}
				for r := range s.Missing(1, 6) {
					for seq := r.From; seq <= r.To; seq++ {
						if here[seq] {
							t.Fatalf("%d is missing, but it is here", seq)
						}
						here[seq] = true
					}
				}
				for seq := uint64(1); seq <= 6; seq++ {
					if !here[seq] {
						t.Fatalf("%d is neither here nor missing", seq)
					}
				}
				var a wire.Attached
				s.Attached(&a)
				for state, part := range map[string][]wire.EditionRanges{"done": a.Done, "held": a.Held, "lost": a.Lost} {
					for _, e := range part {
						for _, r := range e.Ranges {
							for seq := r.From; seq <= r.To; seq++ {
								if x := (message{e.Edition, seq}); m[x] != state {
									t.Fatalf("ATTACHED says %v is %s, but it is %q", x, state, m[x])
								}
								count[state]--
							}
						}
					}
				}
				for state, n := range count {
					if n != 0 {
						t.Fatalf("ATTACHED leaves %d that are %s out", n, state)
					}
				}
			},
		})
	})
}
