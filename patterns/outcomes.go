package patterns

import (
	"errors"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/ranges"
	"peermesh/spool"
)

// outcomes are the fates of a Push's messages, as far as they are kept for Ask: in a note of
// the queue, over restarts. Each seq in it met that fate for certain; of one that is in none it
// is not known.
//
// Most messages are done, one after the other, which takes no room. What became of the last ones
// is written every few seconds and at the end, for a kill costs no more than the knowledge; every
// other fate is written with its settlement.
type outcomes struct {
	sets  [len(outcomeStates)]ranges.Set // as in outcomeStates
	dirty bool
	wrote time.Time
}

// outcomeStates are the fates that are kept, in the order of the note.
var outcomeStates = [...]ledger.State{ledger.Done, ledger.Dead, ledger.Expired, ledger.Dropped}

const (
	// maxOutcomes bounds the ranges kept of one fate; beyond it the oldest go.
	maxOutcomes = 1 << 14
	// outcomesEvery is how often what is done is written at most.
	outcomesEvery = time.Second

	outcomesVersion = 1
)

// add notes that messages met a fate.
func (o *outcomes) add(state ledger.State, from, to uint64) {
	for i, s := range outcomeStates {
		if s != state {
			continue
		}
		set := &o.sets[i]
		set.Add(from, to)
		if set.Len() > maxOutcomes {
			first := set.Ranges()[0]
			set.Remove(first.From, first.To)
		}
		o.dirty = true
	}
}

// of is what a message's fate was, as an event names it; empty if that is not known.
func (o *outcomes) of(seq uint64) string {
	for i := range o.sets {
		if o.sets[i].Contains(seq) {
			return outcomeStates[i].String()
		}
	}
	return ""
}

// append writes the note: version u8 = 1 | a set for each of outcomeStates, as in [viewNote].
func (o *outcomes) append(dst []byte) []byte {
	dst = append(dst, outcomesVersion)
	for i := range o.sets {
		dst = appendSet(dst, &o.sets[i])
	}
	return dst
}

var errOutcomes = errors.New("patterns: what became of messages is not on disk as it was written")

// parseOutcomes reads a note; of one that is not there nothing is known.
func parseOutcomes(b []byte) (*outcomes, error) {
	o := new(outcomes)
	if b == nil {
		return o, nil
	}
	r := noteReader{b: b}
	if r.byte() != outcomesVersion {
		return nil, errOutcomes
	}
	for i := range o.sets {
		r.set(&o.sets[i])
	}
	if r.bad || len(r.b) > 0 {
		return nil, errOutcomes
	}
	for i := range o.sets {
		for j := range i {
			for _, s := range o.sets[i].Ranges() {
				if o.sets[j].Overlaps(s.From, s.To) { // no message has two fates
					return nil, errOutcomes
				}
			}
		}
	}
	return o, nil
}

func outcomesKey(q *spool.Queue) string { return "fates\x00" + q.Name() }

// keepOutcomes notes the fates that go into a change, and if it is time puts them there.
func (j *journal) keepOutcomes(c *spool.Change, fates []groupFate) {
	o := j.outcomes
	now := false
	for i := range fates {
		run := &fates[i].fateRun
		o.add(run.State, run.Seq, run.last())
		now = now || run.State != ledger.Done
	}
	if now {
		j.writeOutcomes(c)
	}
}

func (j *journal) writeOutcomes(c *spool.Change) {
	o := j.outcomes
	c.Put(outcomesKey(j.queue), o.append(nil))
	o.dirty, o.wrote = false, j.owner.now()
}

// tickOutcomes writes what is due. It is called every two seconds while anybody may answer.
func (j *journal) tickOutcomes(now time.Time) {
	o := j.outcomes
	if !o.dirty || j.failure() != nil || now.Sub(o.wrote) < outcomesEvery {
		return
	}
	c := j.store.Begin()
	defer c.End()
	j.writeOutcomes(c)
	j.ask(c)
	c.Lazily()
}

// close keeps the last fates and ends the stream's work in this life.
func (j *journal) close() error {
	j.owner.mu.Lock()
	if j.outcomes.dirty && j.failure() == nil {
		c := j.store.Begin()
		j.writeOutcomes(c)
		j.ask(c)
		c.End()
	}
	j.owner.mu.Unlock()
	return j.tail.close()
}
