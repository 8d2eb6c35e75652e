package insight

import (
	"slices"
	"strings"
	"time"
)

// What was decided, Decision.What.
const (
	Nacked  = "nacked"  // a handler gave a message back, and it is tried again
	Dead    = "dead"    // a message's deliveries are used up
	Expired = "expired" // a message's TTL ran out
	Dropped = "dropped" // a message was dropped; Code is the reason
	Refused = "refused" // a Send was refused; Code says why
	Denied  = "denied"  // a pipe was refused; Code says why
)

// Decision is something that was decided about a name, or about messages of it one after the other.
type Decision struct {
	At    time.Time `json:"-"` // of the last
	AgeMs int64     `json:"age_ms"`
	Kind  string    `json:"kind"`
	Name  string    `json:"name"`
	What  string    `json:"what"`
	Seq   uint64    `json:"seq,omitempty"`   // of the message; of the last one, if there are several
	First uint64    `json:"first,omitempty"` // of the first of several
	Count uint64    `json:"count,omitempty"` // how many such decisions stand here as one
	By    string    `json:"by,omitempty"`    // id of the node that caused it
	Code  string    `json:"code,omitempty"`
	Text  string    `json:"text,omitempty"` // of a handler's error, or a refusal
}

// The bounds of Rings.
const (
	MaxNames = 256 // names; the one that nothing was decided about for longest goes
	PerName  = 32  // decisions of each; the oldest goes
	maxText  = 256 // bytes of a decision's text
)

// Rings keeps the recent decisions of each name. Its zero value is empty. Not safe for concurrent use.
type Rings struct {
	names map[string][]Decision // oldest first
}

// Note keeps a decision. One that repeats the last of its name, but for the message, is counted with it.
func (r *Rings) Note(d Decision) {
	if len(d.Text) > maxText {
		d.Text = strings.ToValidUTF8(d.Text[:maxText], "")
	}
	d.Count, d.First = 1, d.Seq
	ring, known := r.names[d.Name]
	if n := len(ring); n > 0 && ring[n-1].repeats(d) {
		last := &ring[n-1]
		last.At, last.Seq, last.Count = d.At, d.Seq, last.Count+1
		return
	}
	switch {
	case r.names == nil:
		r.names = map[string][]Decision{}
	case !known && len(r.names) >= MaxNames:
		r.forget()
	case len(ring) >= PerName:
		ring = slices.Delete(ring, 0, 1)
	}
	r.names[d.Name] = append(ring, d)
}

// repeats reports whether o says the same of the same message, or of the one after those that d stands for.
func (d Decision) repeats(o Decision) bool {
	return d.Kind == o.Kind && d.What == o.What && d.By == o.By && d.Code == o.Code && d.Text == o.Text &&
		(o.Seq == d.Seq+1 || o.Seq == d.Seq && d.First == d.Seq)
}

// forget lets the name go that nothing was decided about for longest.
func (r *Rings) forget() {
	oldest, found := "", false
	for name, ring := range r.names {
		if !found || ring[len(ring)-1].At.Before(r.names[oldest][len(r.names[oldest])-1].At) {
			oldest, found = name, true
		}
	}
	delete(r.names, oldest)
}

// Recent lists the decisions about a name, or all with "", oldest first for each name, by the age that they have now.
func (r *Rings) Recent(name string, now time.Time) (out []Decision) {
	if name != "" {
		out = slices.Clone(r.names[name])
	} else {
		for _, n := range sortedKeys(r.names) {
			out = append(out, r.names[n]...)
		}
	}
	for i := range out {
		out[i].AgeMs = now.Sub(out[i].At).Milliseconds()
	}
	return out
}
