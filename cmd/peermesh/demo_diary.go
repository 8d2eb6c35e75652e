package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// entry is what whoever handles a message writes down before it begins, and again when
// it has ended.
type entry struct {
	At      string `json:"at"` // the queue, service or subscription
	N       int    `json:"n"`  // the message's number, which its body carries
	Flagged bool   `json:"flagged,omitempty"`
	End     bool   `json:"end,omitempty"`

	by string // filled in by who reads it
}

// handling is one entry of a diary, with its end.
type handling struct {
	by      string
	n       int
	flagged bool
	ended   bool
}

// diary is what all who handle messages have written down, in the order in which it
// became known. Safe for concurrent use.
type diary struct {
	mu      sync.Mutex
	at      map[string][]handling
	ends    map[string]int
	changed chan struct{} // holds one wish to look; more would mean the same
}

func newDiary() *diary {
	return &diary{at: map[string][]handling{}, ends: map[string]int{}, changed: make(chan struct{}, 1)}
}

// write takes an entry.
func (d *diary) write(e entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.End {
		d.end(e)
	} else {
		d.at[e.At] = append(d.at[e.At], handling{by: e.by, n: e.N, flagged: e.Flagged})
	}
	select {
	case d.changed <- struct{}{}:
	default: // whoever waits will look anyway
	}
}

// end marks the latest handling of e's message by e's author. d.mu must be held.
func (d *diary) end(e entry) {
	all := d.at[e.At]
	for i := len(all) - 1; i >= 0; i-- {
		if h := &all[i]; h.by == e.by && h.n == e.N && !h.ended {
			h.ended = true
			d.ends[e.At]++
			return
		}
	}
	// An end without a beginning is kept as what it is, for check to find.
	d.at[e.At] = append(all, handling{by: e.by, n: e.N, ended: true})
}

// ended counts what was handled to its end.
func (d *diary) ended(at string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ends[at]
}

// inHand counts what somebody has begun and not ended.
func (d *diary) inHand(at, by string) (n int) {
	for _, h := range d.of(at) {
		if h.by == by && !h.ended {
			n++
		}
	}
	return n
}

// of returns the handlings at one queue, service or subscription.
func (d *diary) of(at string) []handling {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.at[at])
}

// tally is what became of the messages of one place.
type tally struct {
	handlings int
	flagged   int      // handlings that were marked as perhaps not the first
	twice     int      // messages that the killed one had begun and somebody else did again
	inOrder   bool     // each later message has a higher number
	faults    []string // whatever must not be
}

// audit holds the handlings at one place to what is promised for the messages of these
// numbers: each is handled once, to its end; twice only if the one who was killed had
// begun it, and then the second time is flagged.
func audit(what string, all []handling, numbers []int, killed string) tally {
	t, byNumber := sortOut(all)
	for _, n := range numbers {
		hs := byNumber[n]
		delete(byNumber, n)
		switch {
		case len(hs) == 0:
			t.fault("%s %d was handled by nobody", what, n)
			continue
		case len(hs) == 2 && hs[0].by == killed && hs[1].by != killed && hs[1].flagged:
			t.twice++
		case len(hs) == 2 && hs[0].by == killed && hs[1].by != killed:
			t.fault("%s %d was handled again by %s without a flag", what, n, hs[1].by)
		case len(hs) > 1:
			t.fault("%s %d was handled %d times, by %s and %s", what, n, len(hs), hs[0].by, hs[len(hs)-1].by)
		}
		if last := hs[len(hs)-1]; !last.ended {
			t.fault("%s %d was begun by %s and never ended", what, n, last.by)
		}
	}
	t.strays(what, byNumber)
	return t
}

// auditOnce holds requests that may be executed once at most to their outcomes, which
// are by number: what was answered was executed once, what is in doubt lay with the one
// who was killed, and what is said not to have been executed was not.
func auditOnce(what string, all []handling, outcomes []socket.Outcome, killed string) tally {
	t, byNumber := sortOut(all)
	for n, outcome := range outcomes {
		hs := byNumber[n]
		delete(byNumber, n)
		switch {
		case len(hs) > 1:
			t.fault("%s %d was executed %d times, by %s and %s", what, n, len(hs), hs[0].by, hs[1].by)
		case outcome == wire.OK && len(hs) == 0:
			t.fault("%s %d was answered by nobody", what, n)
		case outcome == wire.Indeterminate && len(hs) == 1 && hs[0].by != killed:
			t.fault("%s %d is in doubt, and %s has executed it", what, n, hs[0].by)
		case outcome == wire.Failed && len(hs) == 1:
			t.fault("%s %d failed, and %s has executed it", what, n, hs[0].by)
		case outcome == wire.Error:
			t.fault("%s %d ended with an error", what, n)
		}
	}
	t.strays(what, byNumber)
	return t
}

func sortOut(all []handling) (t tally, byNumber map[int][]handling) {
	t = tally{handlings: len(all), inOrder: true}
	byNumber = map[int][]handling{}
	last := -1
	for _, h := range all {
		byNumber[h.n] = append(byNumber[h.n], h)
		if h.flagged {
			t.flagged++
		}
		t.inOrder = t.inOrder && h.n > last
		last = h.n
	}
	return t, byNumber
}

// ordered adds a fault if the messages were not handled as they were sent.
func (t tally) ordered(what string) tally {
	if !t.inOrder {
		t.fault("%s: not in order", what)
	}
	return t
}

// claim is what a tally without faults may say.
func (t tally) claim(what string) string {
	if len(t.faults) > 0 {
		return "NOT " + what
	}
	return what
}

func (t *tally) fault(format string, args ...any) {
	t.faults = append(t.faults, fmt.Sprintf(format, args...))
}

// strays are messages that nobody has sent there.
func (t *tally) strays(what string, left map[int][]handling) {
	for _, n := range slices.Sorted(maps.Keys(left)) {
		t.fault("%s %d was handled by %s, and was not meant for it", what, n, left[n][0].by)
	}
}
