package zmtp

import "peermesh/socket"

// An outgoing is a message for a peer, or a subscription in its place between them: wire.
type outgoing struct {
	message
	wire  []byte
	bytes int

	// Who is told the fate, once, with no lock held; it must not block. Neither: nobody asks.
	settle func(fate)
	of     *socket.Message // for the hub's settle
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

// tell tells fates, in order, those of messages of the mesh that follow each other together. No lock may be held.
func (h *hub) tell(settled []settlement) {
	for len(settled) > 0 {
		s, n := settled[0], 1
		switch {
		case s.of != nil:
			for n < len(settled) && settled[n].of != nil && settled[n].fate == s.fate {
				n++
			}
			ms := make([]*socket.Message, n)
			for i := range ms {
				ms[i] = settled[i].of
			}
			h.settle(ms, s.fate)
		case s.settle != nil:
			s.settle(s.fate)
		}
		settled = settled[n:]
	}
}

// A lane is the double queue of one peer. All of it is guarded by its hub's mutex.
//
//	out: put -> waiting -> written, and owed -> handed
//	in:  read -> in -> taken
//
// That of a bound endpoint lives as long as its connection. That of a connecting one is made with the endpoint and lives
// as long; connections come and go.
type lane struct {
	id       string // the peer's identity, or one made up here; of no other lane
	standing bool   // lives without a connection
	conn     *conn  // nil: not connected

	out      fifo[outgoing]
	owed     int // how many of out, the oldest, are written, and the peer has not told that it has read them
	outBytes int

	in      fifo[message]
	inBytes int

	subs prefixes // PUB, XPUB
}

// waiting is how many messages are not written yet.
func (l *lane) waiting() int { return l.out.len() - l.owed }

// full reports whether nothing more may be put. An empty queue takes any message.
func (l *lane) full(e *Endpoint, bytes int) bool {
	n := l.out.len()
	return n > 0 && (n >= e.Queue || l.outBytes+bytes > e.QueueBytes)
}

// put queues a message.
func (l *lane) put(o outgoing) {
	l.out.push(o)
	l.outBytes += o.bytes
	if l.conn != nil {
		l.conn.wake()
	}
}

// send appends messages of about limit bytes to dst, to be written now: they are owed.
func (l *lane) send(dst []outgoing, limit int) []outgoing {
	waiting := l.out.all()[l.owed:]
	n, bytes := 0, 0
	for n < len(waiting) && bytes < limit {
		bytes += waiting[n].bytes + maxHead
		n++
	}
	l.owed += n
	return append(dst, waiting[:n]...)
}

// read settles the oldest n of what is owed, and appends that to dst.
func (l *lane) read(dst []settlement, n int) []settlement {
	for _, o := range l.out.all()[:n] {
		l.outBytes -= o.bytes
		dst = append(dst, settlement{o, handed})
	}
	l.owed -= n
	l.out.drop(n)
	return dst
}

// giveUp empties the outgoing queue, or of a lane that stands and keeps what waits only what was written.
func (l *lane) giveUp(keep bool) (settled []settlement) {
	for i, o := range l.out.all() {
		f := unsent
		if i < l.owed {
			f = doubtful
		} else if keep {
			break
		}
		settled = append(settled, settlement{o, f})
		l.outBytes -= o.bytes
	}
	l.out.drop(len(settled))
	l.owed = 0
	return settled
}

// give queues messages that came.
func (l *lane) give(ms []message) {
	l.in.push(ms...)
	for _, m := range ms {
		l.inBytes += m.size()
	}
}

// take takes the oldest message that came.
func (l *lane) take() message {
	m := l.in.all()[0]
	l.in.drop(1)
	l.inBytes -= m.size()
	return m
}

// brimming reports whether no more may come.
func (l *lane) brimming(e *Endpoint) bool {
	return l.in.len() >= e.Queue || l.inBytes >= e.QueueBytes
}
