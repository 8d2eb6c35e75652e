package node

import (
	"context"
	"iter"
	"time"

	"peermesh/internal/identity"
)

// PeerState is what happened to a peer.
type PeerState uint8

// The states of a PeerEvent.
const (
	Up      PeerState = iota + 1 // its link is up
	Down                         // its link ended
	Refused                      // one of the two nodes would not have the other, or a pipe
)

// String is the state's name in events.
func (s PeerState) String() string { return [...]string{"", "up", "down", "refused"}[s&3] }

// PeerEvent tells what happened to a peer.
type PeerEvent struct {
	Time        time.Time
	State       PeerState
	ID          ID // zero when the other side never proved one
	Name        string
	Addr        string
	Incarnation uint64
	Code        identity.Code // of Refused, the same at both ends
	Reason      string        // a sentence; of a remote refusal cleaned for terminals
	Remote      bool          // the other side refused
}

// hub spreads what happens to peers.
type hub struct{ spread[PeerEvent] }

func (h *hub) emit(e PeerEvent) {
	e.Time = time.Now()
	h.spread.emit(e)
}

// Events iterates over what happens to peers from the call on, beginning with an Up for each
// that is there. It ends when ctx does or the node closes, and is to be iterated once. Whoever
// reads too slowly loses the oldest events beyond 1024; EventsDropped counts them.
func (n *Node) Events(ctx context.Context) iter.Seq[PeerEvent] {
	n.mu.Lock()
	var first []PeerEvent
	for _, l := range n.links {
		first = append(first, l.event(Up, "", ""))
	}
	l := n.hub.listen(first, false)
	n.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { n.hub.leave(l) })
	return func(yield func(PeerEvent) bool) {
		defer n.hub.leave(l)
		defer stop()
		for {
			select {
			case <-l.ready:
				for _, e := range n.hub.take(l) {
					if !yield(e) {
						return
					}
				}
			case <-ctx.Done():
				return
			case <-n.done:
				for _, e := range n.hub.take(l) {
					if !yield(e) {
						return
					}
				}
				return
			}
		}
	}
}

// EventsDropped counts events that slow readers of Events have missed.
func (n *Node) EventsDropped() uint64 {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	return n.hub.dropped
}
