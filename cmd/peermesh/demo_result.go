package main

import (
	"fmt"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"
)

// demoResult is what came of a demo; it is what the summary event holds.
type demoResult struct {
	Ledger    patterns.Ledger `json:"ledger"` // of all patterns together
	OK        bool            `json:"ok"`
	Faults    []string        `json:"faults"` // what is not as promised
	Discovery string          `json:"discovery"`
	Nodes     int             `json:"nodes"`
	Levels    []string        `json:"levels"`
	PushPull  demoPattern     `json:"push_pull"`
	PubSub    demoPattern     `json:"pub_sub"`
	ReqRep    demoPattern     `json:"req_rep"`
	Took      time.Duration   `json:"took_ns"`
}

// demoPattern is what came of one pattern.
type demoPattern struct {
	Ledger        patterns.Ledger `json:"ledger"`
	Handled       int             `json:"handled"`     // second times included
	Redelivered   int             `json:"redelivered"` // handled with the flag
	Twice         int             `json:"twice"`       // begun by the killed one too
	Indeterminate int             `json:"indeterminate,omitempty"`

	name  string
	story []string
}

func (r *demoResult) patterns() []demoPattern {
	return []demoPattern{r.PushPull, r.PubSub, r.ReqRep}
}

func (p *demoPattern) tell(format string, args ...any) {
	p.story = append(p.story, fmt.Sprintf(format, args...))
}

// add takes the tally of one place.
func (p *demoPattern) add(t tally) {
	p.Handled += t.handlings
	p.Redelivered += t.flagged
	p.Twice += t.twice
}

// upTo are the numbers from 0 up to n.
func upTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}

// result holds what the diaries say against what the ledgers say and against what is
// promised. Everything must be settled.
func (d *demo) result() *demoResult {
	r := &demoResult{Faults: []string{}, Discovery: d.found(), Nodes: len(d.cast.ready()), Levels: []string{"memory", "best-effort"}}
	if d.parcels != nil {
		r.Nodes++
		r.Levels = append([]string{"durable"}, r.Levels...)
	}
	r.pushPull(d)
	r.pubSub(d)
	r.reqRep(d)
	for _, p := range r.patterns() {
		r.Ledger.Add(p.Ledger)
	}
	r.OK = len(r.Faults) == 0
	return r
}

// take adds a place to a pattern, and its faults.
func (r *demoResult) take(p *demoPattern, t tally) {
	p.add(t)
	r.Faults = append(r.Faults, t.faults...)
}

// balance holds a ledger to how many messages were sent and how many of them had
// another end than done.
func (r *demoResult) balance(what string, l patterns.Ledger, sent, otherEnds int) {
	if l.Accepted != uint64(sent) {
		r.fault("%s: %d were accepted, not %d", what, l.Accepted, sent)
	}
	if l.Accepted != l.Done+uint64(otherEnds) || !l.Balanced() {
		r.fault("%s: the ledger does not balance: %s", what, sides(l))
	}
}

func (r *demoResult) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

func (r *demoResult) pushPull(d *demo) {
	p := &r.PushPull
	p.name = "push/pull"
	jobs, letters := d.cast.jobs.Stats().Ledger, d.cast.letters.Stats().Ledger
	r.balance("jobs", jobs, jobCount, 0)
	r.balance("letters", letters, letterCount, 0)
	p.Ledger.Add(jobs)
	p.Ledger.Add(letters)
	done := audit("job", d.diary.of(demoJobs), upTo(jobCount), whoIsKilled)
	r.take(p, done)
	p.tell("%d jobs for anna, ben and carl, %s", jobCount, done.claim("each handled once"))
	p.tell("carl was killed: %d jobs that he held went to the others, flagged; %d of them he had begun", p.Redelivered, p.Twice)
	read := audit("letter", d.diary.of(demoLetters), upTo(letterCount), "").ordered("letters")
	r.take(p, read)
	p.tell("dora was away, and %d of %d letters waited for her: %s", letterCount-lettersFirst, letterCount, read.claim("each came once and in order"))
	if d.parcels != nil {
		r.delivered(p, d.parcels, d.diary.of(demoParcels))
	}
}

// delivered holds the parcels that anna got to what erik had said was on disk.
func (r *demoResult) delivered(p *demoPattern, sent *parcels, all []handling) {
	got := audit("parcel", all, upTo(sent.all(all)), "")
	r.take(p, got)
	l := sent.ledger
	if l.Carried != l.Done || l.Accepted != 0 || !l.Balanced() {
		r.fault("parcels: the ledger does not balance: %s", sides(l))
	}
	p.Ledger.Add(l)
	p.tell("erik was killed when %d parcels were on his disk; he came back and delivered the %d that were left: %s", sent.told, l.Carried,
		got.claim("each handled once"))
}

func (r *demoResult) pubSub(d *demo) {
	p := &r.PubSub
	p.name = "pub/sub"
	p.Ledger.Add(d.cast.weather.Stats().Ledger)
	for _, reader := range []struct{ name, pattern string }{{"anna", annaWants}, {"ben", benWants}} {
		what := reader.name + "'s news"
		got := audit(what, d.diary.of(reader.pattern), expected(reader.pattern), "").ordered(what)
		r.take(p, got)
		p.tell("%s wanted %s and got %d news, %s", reader.name, reader.pattern, got.handlings, got.claim("each once and in order"))
	}
	r.balance("news", p.Ledger, p.Handled+newsRounds, newsRounds) // that of bern.wind is for nobody
	p.Ledger.Handed = d.cast.ticks.Stats().Ledger.Handed
	p.tell("best effort, outside the ledger: %d ticks handed over, %d arrived", p.Ledger.Handed, d.diary.ended(demoTicks))
}

func (r *demoResult) reqRep(d *demo) {
	p := &r.ReqRep
	p.name = "req/rep"
	for _, a := range d.inquiries {
		l := a.req.Stats().Ledger
		p.Ledger.Add(l)
		_, asked := a.progress()
		all := d.diary.of(a.service)
		if a.service == demoPrice {
			r.balance(a.service, l, asked, 0)
			told := audit(a.service, all, upTo(asked), whoIsKilled)
			r.take(p, told)
			p.tell("%d prices, idempotent: %d answered; %d that carl had begun were asked again elsewhere, %s", asked, a.count(wire.OK),
				told.twice, told.claim("flagged"))
			continue
		}
		answered, doubt := a.count(wire.OK), a.count(wire.Indeterminate)
		r.balance(a.service, l, asked, asked-answered)
		p.Indeterminate += doubt
		booked := auditOnce(a.service, all, a.outcomes, whoIsKilled)
		r.take(p, booked)
		p.tell("%d bookings, at most once: %d answered, %d that lay with carl indeterminate; %s", asked, answered, doubt,
			booked.claim("none executed twice"))
	}
}

// sides are the two sides of a ledger.
func sides(l patterns.Ledger) string {
	text := fmt.Sprintf("%d accepted = %d done", l.Accepted, l.Done)
	if l.Carried > 0 {
		text = fmt.Sprintf("%d accepted + %d carried over = %d done", l.Accepted, l.Carried, l.Done)
	}
	add := func(n uint64, what string) {
		if n > 0 {
			text += fmt.Sprintf(" + %d %s", n, what)
		}
	}
	add(l.Queued+l.Leased, "owed")
	add(l.Dead, "dead")
	add(l.Expired, "expired")
	for _, reason := range reasons(l.Dropped) {
		add(l.Dropped[reason], "dropped ("+reason+")")
	}
	return text
}
