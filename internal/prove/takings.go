package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"peermesh/internal/ranges"
	"peermesh/patterns"
)

// issue is what a publisher says it has published.
type issue struct {
	number []uint32 // of the body at each seq, from 1
	at     []int64  // when that was on disk; 0: it never was
	got    int
	ledger patterns.Ledger
}

// readIssue reads the log of a publisher of count messages. Each body must have one seq, and each seq one body.
func readIssue(log string, count int) (*issue, error) {
	p := &issue{number: make([]uint32, count+1), at: make([]int64, count+1)}
	known := make([]bool, count)
	err := eachEvent(log, func(kind string, line []byte) error {
		switch kind {
		case "summary":
			return json.Unmarshal(line, &struct{ Ledger *patterns.Ledger }{&p.ledger})
		case "sent":
			n, seq := numberIn(line, "n"), numberIn(line, "seq")
			if n >= uint64(count) || known[n] || seq < 1 || seq > uint64(count) || p.at[seq] != 0 {
				return fmt.Errorf("body %d of %d at seq %d: somebody was there before, or it should not be", n, count, seq)
			}
			known[n] = true
			p.number[seq], p.at[seq] = uint32(n), int64(numberIn(line, "t"))
			p.got++
		}
		return nil
	})
	return p, err
}

// takings is what one subscription got in all its lives.
type takings struct {
	name     string
	at       []int64    // when each seq came first, from 1; 0: never
	got      int        // different ones
	again    int        // deliveries beyond the first, with a flag
	twice    int        // and without one, or after it was done
	wrong    int        // with another body than was published there
	disorder int        // first deliveries after one with a higher seq
	exact    int        // seqs that either came or lie in a gap
	inHand   int        // of these did both: a life that was killed had them, not done
	gaps     int        // as they were told
	late     int        // of these told after something from behind had come for the first time in that life
	holes    ranges.Set // what lies in gaps
	highest  uint64     // that came for the first time
	here     uint64     // likewise in the present life
	done     []bool
	life     int   // the present one, from 1
	last     []int // life of the last delivery of each seq
}

// readTakings reads the logs of a subscriber's lives.
func readTakings(name string, logs []string, p *issue) (*takings, error) {
	t := &takings{name: name, at: make([]int64, len(p.at)), done: make([]bool, len(p.at)), last: make([]int, len(p.at))}
	for i, log := range logs {
		t.life, t.here = i+1, 0
		if err := eachEvent(log, func(kind string, line []byte) error { return t.take(kind, line, p) }); err != nil {
			return nil, fmt.Errorf("%s: %w", log, err)
		}
	}
	for seq := 1; seq < len(t.at); seq++ {
		switch came, missing := t.at[seq] != 0, t.holes.Contains(uint64(seq)); {
		case came != missing:
			t.exact++
		case came && !t.done[seq] && t.last[seq] < t.life:
			t.exact++
			t.inHand++
		}
	}
	return t, nil
}

// take takes one event.
func (t *takings) take(kind string, line []byte, p *issue) error {
	top := uint64(len(t.at) - 1)
	switch kind {
	case "deliver":
		seq := numberIn(line, "seq")
		if seq < 1 || seq > top {
			return fmt.Errorf("message %d of %d", seq, top)
		}
		t.deliver(seq, int64(numberIn(line, "t")), bytes.Contains(line, []byte(`"redelivered":true`)))
		if numberIn(line, "n") != uint64(p.number[seq]) {
			t.wrong++
		}
	case "done":
		seq := numberIn(line, "seq")
		if seq < 1 || seq > top || t.at[seq] == 0 {
			return fmt.Errorf("message %d of %d is done, and was never there", seq, top)
		}
		t.done[seq] = true
	case "gap":
		from, to := numberIn(line, "from"), numberIn(line, "to")
		if from < 1 || from > to || to > top {
			return fmt.Errorf("a gap from %d to %d of %d", from, to, top)
		}
		if t.gaps++; t.here > to {
			t.late++
		}
		t.holes.Add(from, to)
	}
	return nil
}

func (t *takings) deliver(seq uint64, at int64, flagged bool) {
	t.last[seq] = t.life
	switch {
	case t.done[seq]:
		t.twice++
	case t.at[seq] == 0:
		t.at[seq] = at
		t.got++
		if seq < t.highest {
			t.disorder++
		}
		t.highest, t.here = max(t.highest, seq), max(t.here, seq)
	case flagged:
		t.again++
	default:
		t.twice++
	}
}

// whole reports whether everything came once and in order, but for what lies in gaps, and these were told in time.
func (t *takings) whole() bool {
	all := len(t.at) - 1
	return t.got+int(t.holes.Count())-t.inHand == all && t.exact == all && t.twice+t.wrong+t.disorder+t.late == 0
}

func (t *takings) String() string {
	return fmt.Sprintf("%d messages and %d in gaps of %d, %d exact (%d of both, in hand at the kill); %d again with a flag, %d without, %d wrong, %d out of order, %d gaps late",
		t.got, t.holes.Count(), len(t.at)-1, t.exact, t.inHand, t.again, t.twice, t.wrong, t.disorder, t.late)
}

// eachEvent reads what a part has printed. Half a line at the end is what a killed process leaves.
func eachEvent(log string, take func(kind string, line []byte) error) error {
	f, err := os.Open(log)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 1<<16)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = take(string(textIn(line, "event")), line)
		}
		if err != nil {
			return err
		}
	}
}

// textIn is the value of a field that holds a plain word; what is not there is empty.
func textIn(line []byte, field string) []byte {
	_, rest, _ := bytes.Cut(line, []byte(`"`+field+`":"`))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return value
}

// numberIn is the value of a field that holds a number; what is not there is far too high for whatever is meant.
func numberIn(line []byte, field string) uint64 {
	_, rest, _ := bytes.Cut(line, []byte(`"`+field+`":`))
	end := max(bytes.IndexAny(rest, ",}"), 0)
	n, err := strconv.ParseUint(string(rest[:end]), 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return n
}

// span is when the first came and when the last.
func span(times []int64) (first, last int64) {
	for _, at := range times {
		if at != 0 {
			if first == 0 || at < first {
				first = at
			}
			last = max(last, at)
		}
	}
	return first, last
}

// behind is how long something took at most to come.
func behind(came, published []int64) (most time.Duration) {
	for seq, at := range came {
		if at != 0 && published[seq] != 0 {
			most = max(most, time.Duration(at-published[seq]))
		}
	}
	return most.Round(time.Millisecond)
}

// window is the time over which a rate is taken.
const window = 250 * time.Millisecond

// rate is what happened a second, in each window of a while.
type rate struct {
	median, least, mean float64
	windows             int
}

func (r rate) String() string {
	return fmt.Sprintf("%.0f/s (median %.0f/s, least %.0f/s of %d times %v)", r.mean, r.median, r.least, r.windows, window)
}

// rateOf is the rate from one time to another.
func rateOf(times []int64, from, to int64) (r rate) {
	if r.windows = int((to - from) / int64(window)); r.windows <= 0 {
		return rate{}
	}
	counts, all := make([]int, r.windows), 0
	for _, at := range times {
		if i := (at - from) / int64(window); at >= from && i < int64(r.windows) {
			counts[i]++
			all++
		}
	}
	slices.Sort(counts)
	second := window.Seconds()
	r.median, r.least, r.mean = float64(counts[r.windows/2])/second, float64(counts[0])/second, float64(all)/second/float64(r.windows)
	return r
}
