package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// written is a file with those lines.
func written(t testing.TB, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func sentLine(n, seq int) string {
	return fmt.Sprintf(`{"t":%d,"event":"sent","n":%d,"seq":%d}`, seq, n, seq)
}

func deliverLine(n, seq int, flag string) string {
	return fmt.Sprintf(`{"t":%d,"event":"deliver","n":%d,"seq":%d%s}`, 10*seq, n, seq, flag)
}

func doneLine(seq int) string { return fmt.Sprintf(`{"t":98,"event":"done","seq":%d}`, seq) }

func gapLine(from, to int) string {
	return fmt.Sprintf(`{"t":99,"event":"gap","reason":"dropped","from":%d,"to":%d}`, from, to)
}

func TestTakingsThatAreNotWholeAreFound(t *testing.T) {
	p, err := readIssue(written(t, sentLine(2, 1), sentLine(0, 2), sentLine(1, 3), `{"event":"summary","ledger":{"done":3}}`, ""), 3)
	if err != nil || p.got != 3 || p.ledger.Done != 3 {
		t.Fatalf("what was published: %+v, %v", p, err)
	}
	one, two, three := deliverLine(2, 1, ""), deliverLine(0, 2, ""), deliverLine(1, 3, "")
	const flag = `,"redelivered":true`
	for name, c := range map[string]struct {
		lives [][]string
		whole bool
	}{
		"all":                          {[][]string{{one, two, three, ""}}, true},
		"half a line":                  {[][]string{{one, two, three, `{"t":`}}, true},
		"a second life":                {[][]string{{one, two, ""}, {deliverLine(0, 2, flag), three, ""}}, true},
		"a gap":                        {[][]string{{one, gapLine(2, 2), three, ""}}, true},
		"a gap at the end":             {[][]string{{one, gapLine(2, 2), gapLine(3, 3), ""}}, true},
		"a gap for what was in hand":   {[][]string{{one, two, doneLine(1), ""}, {gapLine(2, 2), three, ""}}, true},
		"a gap below what came before": {[][]string{{one, two, three, ""}, {gapLine(2, 2), deliverLine(1, 3, flag), ""}}, true},
		"a gap for what was done":      {[][]string{{one, two, doneLine(2), ""}, {gapLine(2, 2), three, ""}}, false},
		"once more after done":         {[][]string{{one, two, doneLine(2), ""}, {deliverLine(0, 2, flag), three, ""}}, false},
		"a gap for what comes later":   {[][]string{{one, two, ""}, {gapLine(2, 2), deliverLine(0, 2, flag), three, ""}}, false},
		"a loss":                       {[][]string{{one, three, ""}}, false},
		"a gap that came":              {[][]string{{one, two, gapLine(2, 2), three, ""}}, false},
		"a gap told late":              {[][]string{{one, three, gapLine(2, 2), ""}}, false},
		"twice without a flag":         {[][]string{{one, two, three, one, ""}}, false},
		"another order":                {[][]string{{one, three, two, ""}}, false},
		"another body":                 {[][]string{{one, two, deliverLine(0, 3, ""), ""}}, false},
		"a body without number":        {[][]string{{one, two, `{"t":30,"event":"deliver","seq":3}`, ""}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var logs []string
			for _, life := range c.lives {
				logs = append(logs, written(t, life...))
			}
			got, err := readTakings("sub", logs, p)
			if err != nil {
				t.Fatal(err)
			}
			if got.whole() != c.whole {
				t.Errorf("whole: %v, want %v: %v", got.whole(), c.whole, got)
			}
		})
	}
}

func TestSeqsThatNobodyPublishedAreErrors(t *testing.T) {
	p := &issue{number: make([]uint32, 4), at: make([]int64, 4)}
	for _, line := range []string{deliverLine(0, 0, ""), deliverLine(0, 4, ""), doneLine(1), doneLine(4), gapLine(0, 1), gapLine(3, 4), gapLine(3, 2)} {
		if got, err := readTakings("sub", []string{written(t, line, "")}, p); err == nil {
			t.Errorf("%s: %v", line, got)
		}
	}
	for _, lines := range [][]string{{sentLine(3, 1)}, {sentLine(0, 4)}, {sentLine(0, 0)}, {sentLine(0, 1), sentLine(1, 1)}, {sentLine(0, 1), sentLine(0, 2)}} {
		if _, err := readIssue(written(t, append(lines, "")...), 3); err == nil {
			t.Errorf("%q: no error", lines)
		}
	}
}

func TestARateIsWhatHappensInEachWindow(t *testing.T) {
	var times []int64
	for i := range int64(40) {
		times = append(times, 1000+i*int64(window)/10) // ten in each of four windows
	}
	got := rateOf(append(times, 0, 1), 1000, 1000+int64(window)*9/2)
	want := rate{median: 40, least: 40, mean: 40, windows: 4}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got = rateOf(times[:30], 1000, 1000+4*int64(window))
	want = rate{median: 40, least: 0, mean: 30, windows: 4}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := rateOf(times, 1000, 1000+int64(window)/2); got != (rate{}) {
		t.Errorf("of less than a window: %+v", got)
	}
}

func TestOneHasCaughtUpWhenItIsLittleBehind(t *testing.T) {
	const second = 10 * int64(level)
	others := []int64{0, 1 * second, 2 * second, 3 * second, 4 * second}
	if got, want := caughtUp([]int64{0, 1 * second, 5 * second / 2, 13 * second / 4, 4*second + 1}, others, second), 4*second+1; got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	if got, want := caughtUp([]int64{0, 1 * second, 9 * second, 9 * second, 9 * second}, others, second), 9*second; got != want {
		t.Errorf("never before the end: got %d, want %d", got, want)
	}
}

func FuzzTakings(f *testing.F) {
	f.Add([]byte(deliverLine(0, 2, "") + "\n" + gapLine(1, 1) + "\n"))
	f.Add([]byte(`{"event":"deliver","seq":3` + "\n"))
	f.Add([]byte(sentLine(1, 1) + "\n" + `{"event":"summary","ledger":{}}`))
	f.Fuzz(func(t *testing.T, log []byte) {
		name := written(t, string(log))
		const all = 3
		p, err := readIssue(name, all)
		if err == nil && p.got > all {
			t.Errorf("%d of %d published", p.got, all)
		}
		got, err := readTakings("sub", []string{name}, &issue{number: make([]uint32, all+1), at: make([]int64, all+1)})
		if err == nil && (got.got > all || got.exact > all || got.holes.Count() > all) {
			t.Errorf("of %d: %v", all, got)
		}
	})
}
