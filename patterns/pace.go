package patterns

import "time"

const (
	pacedBytes    = 3 << 19   // a queue that holds more than these
	pacedMessages = 128       // and more than these is paced
	pacedStep     = 128 << 10 // until it holds so much less
	pacePatience  = 10 * time.Millisecond
)

// pace holds back those who send to one fast receiver before their queue is full: a long queue is then only memory that
// has left the processor's caches when it is read. Whoever fills a queue that is not emptied that fast is not held back,
// beyond one pacePatience: a burst still finds all the room there is. It decides only; the zero value is ready for use.
type pace struct {
	held  bool // and since when
	since time.Time
	slow  bool // the queue has not been emptied in time
}

// holds reports whether a message that would leave the queue with so many messages and bytes is to wait. began reports
// whether it is the first that does: the question is to be asked again after pacePatience at the latest.
func (p *pace) holds(messages int, bytes uint64, now func() time.Time) (holds, began bool) {
	switch {
	case messages <= pacedMessages || bytes <= pacedBytes-pacedStep:
		*p = pace{}
		return false, false
	case p.slow || !p.held && bytes <= pacedBytes:
		return false, false
	case !p.held:
		*p = pace{held: true, since: now()}
		return true, true
	}
	p.slow = now().Sub(p.since) >= pacePatience
	return !p.slow, false
}
