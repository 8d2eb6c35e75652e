package history

import (
	"fmt"
	"strings"

	"peermesh/internal/ranges"
)

// place is where an event stands: a life and a line of its log, both from 1. The zero place is nowhere.
type place struct{ life, line uint32 }

func (p place) known() bool { return p.life != 0 }

// living is what the events say about one life.
type living struct {
	Life
	id          string // of its node
	incarnation uint64
	ready       int64 // when it said so
	readyAt     place
	calls       map[uint64]call // sends, by n, of which nothing more is known yet
	open        uint64          // how many of these there were at its end
	firstOpen   place           // the first of them
	sent        uint64          // accepted, outside best effort
	settled     map[string]uint64
	ledger      ledger // of its summary
	ended       int64  // when it printed that
	summary     place
	intakes     map[*copies]*intake
	last        *intake // the one used last
}

// call is a Send that was begun.
type call struct {
	hash uint64
	t    int64
	at   place
}

// intake is what one life has received of one stream.
type intake struct {
	of      *copies
	group   *order
	highest uint64     // of the deliveries without a flag
	at      place      // of that
	told    ranges.Set // gaps
	closed  ranges.Set // the gaps in which nothing may be delivered any more
}

// order watches the deliveries without a flag at one store.
type order struct {
	seq uint64
	at  place
}

// stream is one sender's messages for one name.
type stream struct {
	label    string
	node     string // of the sender
	kind     string // push, pub or req
	messages table[message]
	groups   map[string]*copies // by subscription; a queue has one, without a name
	levels   map[string]bool    // at which it was sent
}

// message is what its sender and its body say about it.
type message struct {
	sentHash, seenHash uint64 // of what was sent, and of what was delivered
	begun              int64  // when Send was called
	sent, seen         place
	durable, handed    bool
}

// copies is what became of a stream's messages in one subscription or queue.
type copies struct {
	stream   *stream
	sub      string
	receipts table[receipt]
	orders   map[string]*order // by store
	disorder []disorder        // breaks I5 if there is one store only
	some     bool              // not every message is meant for it
	gaps     ranges.Set        // told to anybody
}

// disorder is a first delivery after one of a later message.
type disorder struct {
	before, after uint64
	at            []place
}

// receipt is what became of one message.
type receipt struct {
	state     string
	by        string
	settled   place
	settledAt int64
	unflagged place
	first     handling
	more      *[]handling
}

// handling is what one life has done with one message.
type handling struct {
	life              uint32 // 0: none
	deliver, done     uint32 // lines
	again             uint32 // line of a delivery after done
	t                 int64  // of the first delivery
	doneT             int64
	deliveries, flags uint32
}

// in returns the handling by a life, a new one if need be. Lives are read one after the other, so only the latest can
// be meant.
func (r *receipt) in(life uint32) *handling {
	if r.first.life == 0 {
		r.first.life = life
	}
	if r.first.life == life {
		return &r.first
	}
	if r.more == nil {
		r.more = new([]handling)
	}
	if n := len(*r.more); n == 0 || (*r.more)[n-1].life != life {
		*r.more = append(*r.more, handling{life: life})
	}
	return &(*r.more)[len(*r.more)-1]
}

// handlings are all there are, by life.
func (r *receipt) handlings() []handling {
	switch {
	case r.first.life == 0:
		return nil
	case r.more == nil:
		return []handling{r.first}
	}
	return append([]handling{r.first}, *r.more...)
}

// splitLabel reads a stream's label: nodeid.storeid.namespace.kind.name.
func splitLabel(label string) (node, kind string, err error) {
	parts := strings.SplitN(label, ".", 5)
	if len(parts) != 5 {
		return "", "", fmt.Errorf("stream %q, want node.store.namespace.kind.name", label)
	}
	return parts[0], parts[3], nil
}

// group is the copies of a stream in one subscription.
func (s *stream) group(sub string) *copies {
	c := s.groups[sub]
	if c == nil {
		c = &copies{stream: s, sub: sub, orders: map[string]*order{}}
		s.groups[sub] = c
	}
	return c
}

// durable says whether m, of which perhaps no sent is known, was sent at durable.
func (s *stream) durable(m *message) bool {
	return m.durable || !m.sent.known() && s.levels["durable"] && len(s.levels) == 1
}
