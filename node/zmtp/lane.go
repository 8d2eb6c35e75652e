package zmtp

import (
	"slices"
)

// An outgoing is a message for a peer, or a subscription in its place between them: wire. settle is called once, with no lock held, and must not block; nil: nobody asks.
type outgoing struct {
	message
	wire   []byte
	bytes  int
	settle func(fate)
}

// A fate is what became of an outgoing message.
type fate uint8

const (
	handed   fate = iota + 1 // the peer's library has read it, or if it does not tell, this machine's network has taken it
	unsent                   // the peer left, and no byte of it was written
	doubtful                 // the peer left, and may have read it
)

// settlement is a fate that is to be told when no lock is held.
type settlement struct {
	outgoing
	fate fate
}

func tell(settled []settlement) {
	for _, s := range settled {
		if s.settle != nil {
			s.settle(s.fate)
		}
	}
}

// A lane is the double queue of one peer. All of it is guarded by its hub's mutex.
//
//	out: put -> waiting -> (written) owed -> handed
//	in:  read -> in -> taken
//
// That of a bound endpoint lives as long as its connection. That of a connecting one is made with the endpoint and lives
// as long; connections come and go.
type lane struct {
	id       string // the peer's identity, or one made up here; of no other lane
	standing bool   // lives without a connection
	conn     *conn  // nil: not connected

	waiting  []outgoing
	owed     []outgoing // written, and the peer has not told that it has read it
	outBytes int        // of both

	in      []message
	inBytes int

	subs prefixes // PUB, XPUB
}

// full reports whether nothing more may be put. An empty queue takes any message.
func (l *lane) full(e *Endpoint, bytes int) bool {
	n := len(l.waiting) + len(l.owed)
	return n > 0 && (n >= e.Queue || l.outBytes+bytes > e.QueueBytes)
}

// put queues a message.
func (l *lane) put(o outgoing) {
	l.waiting = append(l.waiting, o)
	l.outBytes += o.bytes
	if l.conn != nil {
		l.conn.wake()
	}
}

// send takes messages of about limit bytes to be written now: they are owed.
func (l *lane) send(limit int) []outgoing {
	n, bytes := 0, 0
	for n < len(l.waiting) && bytes < limit {
		bytes += l.waiting[n].bytes + maxHead
		n++
	}
	sent := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	l.owed = append(l.owed, sent...)
	return sent
}

// read settles the oldest n of what is owed.
func (l *lane) read(n int) (settled []settlement) {
	for _, o := range l.owed[:n] {
		l.outBytes -= o.bytes
		settled = append(settled, settlement{o, handed})
	}
	l.owed = slices.Delete(l.owed, 0, n)
	return settled
}

// giveUp empties the outgoing queue, or of a lane that stands and keeps what waits only what was written.
func (l *lane) giveUp(keep bool) (settled []settlement) {
	for _, o := range l.owed {
		settled = append(settled, settlement{o, doubtful})
		l.outBytes -= o.bytes
	}
	l.owed = nil
	if keep {
		return settled
	}
	for _, o := range l.waiting {
		settled = append(settled, settlement{o, unsent})
		l.outBytes -= o.bytes
	}
	l.waiting = nil
	return settled
}

// give queues messages that came.
func (l *lane) give(ms []message) {
	l.in = append(l.in, ms...)
	for _, m := range ms {
		l.inBytes += m.size()
	}
}

// take takes the oldest message that came.
func (l *lane) take() message {
	m := l.in[0]
	l.in = l.in[1:]
	l.inBytes -= m.size()
	if len(l.in) == 0 {
		l.in = nil
	}
	return m
}

// brimming reports whether no more may come.
func (l *lane) brimming(e *Endpoint) bool {
	return len(l.in) >= e.Queue || l.inBytes >= e.QueueBytes
}
