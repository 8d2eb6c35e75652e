package history

import (
	"fmt"
	"strings"
)

// maxShown bounds the violations that are kept of each invariant; all are counted.
const maxShown = 10

// Report is the judgement of a run.
type Report struct {
	Verdicts   []Verdict `json:"verdicts"` // one for each invariant, in the order of their numbers
	Events     uint64    `json:"events"`
	Deliveries uint64    `json:"deliveries"`
	Flagged    uint64    `json:"flagged"` // deliveries
	Kills      int       `json:"kills"`   // lives that did not end by themselves
}

// Verdict is what was found about one invariant.
type Verdict struct {
	Invariant  string      `json:"invariant"` // "I1"
	Claim      string      `json:"claim"`
	Checked    uint64      `json:"checked"`              // what it was held against; 0 says that nothing in the run could break it
	Violated   uint64      `json:"violated"`             // how often
	Violations []Violation `json:"violations,omitempty"` // the first few
}

// Violation is one breach of an invariant.
type Violation struct {
	Text   string   `json:"text"`
	Events []string `json:"events"` // the lines that show it, as file:line
}

// invariant is one of those that are judged.
type invariant int

const (
	noLoss invariant = iota
	noPhantom
	oneUnflagged
	inOrder
	onePayload
	settledStays
	doneByHolder
	noOlder
	atMostOnce
	noHole
	conserved
	drained
	gapInTime
	fewFlags
)

var claims = [...]struct{ name, claim string }{
	noLoss:       {"I1", "no loss"},
	noPhantom:    {"I2", "no phantom"},
	oneUnflagged: {"I3", "one delivery without a flag, none after done"},
	inOrder:      {"I5", "order"},
	onePayload:   {"I6", "a seq has one payload"},
	settledStays: {"I7", "settled stays settled"},
	doneByHolder: {"I8", "done by who had it"},
	noOlder:      {"I10", "nothing from an older incarnation"},
	atMostOnce:   {"I11", "at most one execution"},
	noHole:       {"I12", "no hole without a gap"},
	conserved:    {"I13", "conservation"},
	drained:      {"I16", "drained"},
	gapInTime:    {"I18", "a gap is told in time"},
	fewFlags:     {"flags", "under 30 % of the deliveries"},
}

func newReport() Report {
	var r Report
	for _, c := range claims {
		r.Verdicts = append(r.Verdicts, Verdict{Invariant: c.name, Claim: c.claim})
	}
	return r
}

// OK reports whether nothing was violated.
func (r *Report) OK() bool { return len(r.Violated()) == 0 }

// Violated names the invariants that were violated.
func (r *Report) Violated() (names []string) {
	for _, v := range r.Verdicts {
		if v.Violated > 0 {
			names = append(names, v.Invariant)
		}
	}
	return names
}

// String is a line for each invariant, and below it what violates it.
func (r *Report) String() string {
	var b strings.Builder
	share := 0.0
	if r.Deliveries > 0 {
		share = 100 * float64(r.Flagged) / float64(r.Deliveries)
	}
	fmt.Fprintf(&b, "%d events, %d kills, %d deliveries, %d of them flagged (%.1f %%)\n", r.Events, r.Kills, r.Deliveries, r.Flagged, share)
	for _, v := range r.Verdicts {
		state := "ok"
		switch {
		case v.Violated > 0:
			state = fmt.Sprintf("VIOLATED %d times", v.Violated)
		case v.Checked == 0:
			state = "nothing to check"
		}
		fmt.Fprintf(&b, "%-6s%-46s%10d  %s\n", v.Invariant, v.Claim, v.Checked, state)
		for _, one := range v.Violations {
			fmt.Fprintf(&b, "      %s: %s\n", one.Text, strings.Join(one.Events, ", "))
		}
	}
	return b.String()
}

// count notes that something was held against an invariant.
func (j *judge) count(i invariant) { j.report.Verdicts[i].Checked++ }

// fault notes a violation and the events that show it.
func (j *judge) fault(i invariant, at []place, format string, args ...any) {
	j.add(i, at, nil, format, args...)
}

// add notes a violation that shows in other files than logs of lives, too.
func (j *judge) add(i invariant, at []place, elsewhere []source, format string, args ...any) {
	to := &j.report.Verdicts[i]
	to.Violated++
	if len(to.Violations) == maxShown {
		return
	}
	v := Violation{Text: fmt.Sprintf(format, args...), Events: []string{}}
	for _, p := range at {
		v.Events = append(v.Events, fmt.Sprintf("%s:%d", j.lives[p.life].Log, p.line))
	}
	for _, s := range elsewhere {
		v.Events = append(v.Events, fmt.Sprintf("%s:%d", s.file, s.line))
	}
	to.Violations = append(to.Violations, v)
}
