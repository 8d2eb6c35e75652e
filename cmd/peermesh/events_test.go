package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"peermesh/internal/insight"
	"peermesh/patterns"
	"peermesh/socket"
)

// writes keeps each write apart.
type writes struct {
	all []string
	err error
}

func (w *writes) Write(p []byte) (int, error) {
	w.all = append(w.all, string(p))
	return len(p), w.err
}

func TestEachEventIsOneLineInOneWrite(t *testing.T) {
	var w writes
	e := newEvents(&w)
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() { e.emit("send", sendEvent{uint64(n), "<&>\n", n}) })
	}
	wg.Wait()
	e.emit("empty", struct{}{})
	if len(w.all) != 101 {
		t.Fatalf("%d writes, want 101", len(w.all))
	}
	last := int64(0)
	for _, line := range w.all {
		var got struct {
			V     int
			T     int64
			Event string
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.V != 1 || got.T < last || got.Event == "" {
			t.Errorf("got %+v, %v of %s", got, err, line)
		}
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
			t.Errorf("not one line: %q", line)
		}
		last = got.T
	}
}

func TestEventsTellOnceThatStdoutIsBroken(t *testing.T) {
	w := writes{err: errors.New("gone")}
	e := newEvents(&w)
	told := 0
	e.tell(func(err error) { told++ })
	e.emit("a", struct{}{})
	e.emit("b", struct{}{})
	if told != 1 || len(w.all) != 1 {
		t.Errorf("told %d times after %d writes, want once after one", told, len(w.all))
	}
}

// talkTo is a run with nothing but its events.
func talkTo(w io.Writer) *talk {
	return &talk{app: &app{events: newEvents(w), global: global{quiet: true}}}
}

// settle puts the fate of a message.
func (f *fates) settle(s patterns.Settled) { f.put(fate{settled: s}) }

func TestFatesArePrintedAfterTheirMessageWasSent(t *testing.T) {
	var w writes
	f := newFates(talkTo(&w))
	send := func(n, seq uint64) {
		f.accepted(n, seq)
		f.sent(seq)
	}
	f.begin()
	send(0, 10)
	f.begin()
	f.settle(patterns.Settled{Seq: 11, State: "done"}) // before Send has returned
	f.accepted(1, 11)
	f.talk.app.events.emit("sent", sentEvent{N: 1, Seq: 11})
	f.sent(11)
	send(3, 12) // message 2 was refused and has no seq
	f.settle(patterns.Settled{Seq: 12, State: "handed"})
	f.settle(patterns.Settled{Seq: 12, State: "dropped", Reason: "overflow"})
	f.settle(patterns.Settled{Seq: 10, State: "dead"})
	f.close()
	want := []string{`"event":"sent","n":1`, `"n":1,"stream":"","seq":11,"state":"done"`,
		`"n":3,"stream":"","seq":12,"state":"dropped","reason":"overflow"`, `"n":0,"stream":"","seq":10,"state":"dead"`}
	if len(w.all) != len(want) {
		t.Fatalf("got %q, want %d lines", w.all, len(want))
	}
	for i, part := range want {
		if !strings.Contains(w.all[i], part) {
			t.Errorf("line %d: got %s, want %s in it", i, w.all[i], part)
		}
	}
}

func TestFatesOfWhatAnEarlierRunSentWaitForNothingAndHaveNoNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w writes
		f := newFates(talkTo(&w))
		f.settle(patterns.Settled{Seq: 1, State: "done"}) // nothing was sent yet
		f.begin()
		f.accepted(0, 5)
		f.settle(patterns.Settled{Seq: 2, State: "done"}) // 5 is not on disk yet
		f.put(fate{lost: &socket.Gap{Stream: "s", From: 3, To: 4, Reason: "damaged"}})
		f.settle(patterns.Settled{Seq: 5, State: "done"})
		synctest.Wait()
		early := len(w.all)
		f.sent(5)
		f.close()
		if early != 3 || len(w.all) != 4 {
			t.Fatalf("%d and then %d lines, want 3 and 4: %q", early, len(w.all), w.all)
		}
		for i, part := range []string{`"settled","stream":"","seq":1,`, `"settled","stream":"","seq":2,`, `"loss","stream":"s","from":3,"to":4,`, `"settled","n":0,"stream":"","seq":5,`} {
			if !strings.Contains(strings.Join(w.all, ""), part) {
				t.Errorf("part %d, %s, is missing: %q", i, part, w.all)
			}
		}
	})
}

func TestSendingWaitsForFatesToBePrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		f := newFates(talkTo(writerFunc(func(p []byte) (int, error) {
			<-stuck
			return len(p), nil
		})))
		for n := range uint64(maxFates) {
			f.accepted(n, n+1)
			f.sent(n + 1)
			f.settle(patterns.Settled{Seq: n + 1, State: "done"})
		}
		passed := false
		go func() {
			f.begin()
			passed = true
		}()
		synctest.Wait()
		if passed {
			t.Error("sending went on while too much waited to be printed")
		}
		close(stuck)
		f.close()
		synctest.Wait()
		if !passed {
			t.Error("sending did not go on when everything was printed")
		}
	})
}

func TestOneLineIsFitForATerminal(t *testing.T) {
	for in, want := range map[string]string{"plain": "plain", "a\nb\n": "a b", "\x1b[31mred": "?[31mred", "\xff\u202e": "??", "zürich": "zürich"} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func Example_ledgerText() {
	fmt.Println(ledgerText(insight.Ledger{Accepted: 5, Done: 2, Dead: 1, Dropped: map[string]uint64{"shutdown": 1, "overflow": 1}}))
	// Output: 5 accepted, 2 done, 1 dead, 1 dropped (overflow), 1 dropped (shutdown)
}
