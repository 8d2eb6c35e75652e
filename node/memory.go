package node

import (
	"strconv"
	"sync"
	"time"

	"peermesh/internal/insight"
	"peermesh/socket"
)

// lookEvery is how often a node looks which of its sockets get on with their work.
const lookEvery = 2 * time.Second

// memory is what a node remembers for those who ask why: the recent decisions of each
// name, and which sockets do not get on. Nothing of it is on a message's way.
type memory struct {
	mu     sync.Mutex
	rings  insight.Rings
	stills insight.Stills

	decided spread[insight.Decision]
	logs    spread[string]
}

// note keeps a decision. It may be called with the lock of a socket held.
func (m *memory) note(d insight.Decision) {
	d.At = time.Now()
	m.mu.Lock()
	m.rings.Note(d)
	m.mu.Unlock()
	m.decided.emit(d)
}

// denied notes a pipe that one of the two ends would not have.
func (n *Node) denied(kind socket.Kind, name string, peer ID, r *socket.Rejection) {
	d := insight.Decision{Kind: kind.String(), Name: clean(name), What: insight.Denied, By: peer.String(), Code: string(r.Code), Text: clean(r.Reason)}
	if r.Remote {
		d.By = n.ID().String()
	}
	n.memory.note(d)
}

// watchWork looks at the sockets again and again until the node closes.
func (n *Node) watchWork() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			works := map[string]insight.Work{}
			for _, s := range n.Sockets() {
				works[s.key()] = s.work()
			}
			n.memory.mu.Lock()
			n.memory.stills.Look(works, now)
			n.memory.mu.Unlock()
		case <-n.ctx.Done():
			return
		}
	}
}

func (s SocketInfo) key() string { return strconv.Itoa(int(s.Kind)) + s.Name + "\x00" + s.Label }

// work is what a socket has in hand and has done. What was only given back unbegun is not
// done.
func (s SocketInfo) work() insight.Work {
	if r := s.Receiver; r != nil {
		return insight.Work{Owed: r.Begun, Over: r.Done + r.Nacked + r.Released}
	}
	l := s.Sender.Ledger
	over := l.Done + l.Dead + l.Expired
	for _, dropped := range l.Dropped {
		over += dropped
	}
	return insight.Work{Owed: int(l.Queued + l.Leased), Over: over}
}
