package insight

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Sight is what a node sees and counts at one moment. Its JSON is what the command prints and what nodes tell each
// other; it only grows.
type Sight struct {
	Status     Status      `json:"status"`
	Peers      []Peer      `json:"peers"`
	Sockets    []Socket    `json:"sockets"`
	Candidates []Candidate `json:"candidates"`
	Problems   []Problem   `json:"problems"`
	Events     []Event     `json:"events,omitempty"`    // the recent ones of links, oldest first
	Decisions  []Decision  `json:"decisions,omitempty"` // the recent ones, oldest first for each name
	Message    *Message    `json:"message,omitempty"`   // the one that was asked about, if a Push of this node sent it
	Cut        bool        `json:"cut,omitempty"`       // there was more than fits an answer
}

// Status is who a node is.
type Status struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Namespace   string `json:"namespace"`
	Mesh        string `json:"mesh"`
	Addr        string `json:"addr"`
	Incarnation uint64 `json:"incarnation"`
	Verb        string `json:"verb"`
	PID         int    `json:"pid"`
	Peers       int    `json:"peers"`
	Sockets     int    `json:"sockets"`
	Problems    int    `json:"problems"`
	Policy      uint64 `json:"policy"` // its version; 0: none
	Ledger      Ledger `json:"ledger"` // of all sending sockets

	WallMs    int64 `json:"wall_ms"`        // its wall clock, since 1970
	ExpiresMs int64 `json:"expires_ms"`     // when its certificate runs out, likewise
	Disk      *Disk `json:"disk,omitempty"` // nil without a state directory
}

// Disk is the state of a node's spool.
type Disk struct {
	Used    int64  `json:"used"`
	Quota   int64  `json:"quota,omitempty"`
	Reserve int64  `json:"reserve,omitempty"`
	Failed  string `json:"failed,omitempty"`
	Damage  string `json:"damage,omitempty"`
}

// Ledger is patterns.Ledger.
type Ledger struct {
	Carried  uint64            `json:"carried"`
	Accepted uint64            `json:"accepted"`
	Queued   uint64            `json:"queued"`
	Leased   uint64            `json:"leased"`
	Done     uint64            `json:"done"`
	Dead     uint64            `json:"dead"`
	Expired  uint64            `json:"expired"`
	Dropped  map[string]uint64 `json:"dropped"`
	Handed   uint64            `json:"handed,omitempty"`
}

// Peer is a linked node.
type Peer struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Namespace   string  `json:"namespace"`
	Addr        string  `json:"addr"`
	State       string  `json:"state"` // up: only linked peers are listed
	Incarnation uint64  `json:"incarnation"`
	SinceMs     int64   `json:"since_ms"`          // how long it has been linked
	RTTUs       int64   `json:"rtt_us"`            // 0: not measured yet
	Via         string  `json:"via"`               // unix or udp: how messages travel
	Stripes     int     `json:"stripes,omitempty"` // connections that they are spread over, if they are
	Offers      []Offer `json:"offers"`
}

// Offer is a receiving socket of a peer.
type Offer struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// Socket is an open socket with its counts.
type Socket struct {
	Kind        string     `json:"kind"`
	Name        string     `json:"name"`
	Label       string     `json:"label,omitempty"`
	Ledger      *Ledger    `json:"ledger,omitempty"` // of push, pub, req
	Bytes       uint64     `json:"bytes"`
	OnDisk      uint64     `json:"on_disk,omitempty"` // of what is queued, those that wait on disk alone
	Redelivered uint64     `json:"redelivered"`
	LateDone    uint64     `json:"late_done"`
	Consumers   []Consumer `json:"consumers,omitempty"`
	Received    *Received  `json:"received,omitempty"` // of pull, sub, rep

	Bound      int   `json:"bound,omitempty"`       // messages that a sender's queue takes in memory
	BoundBytes int   `json:"bound_bytes,omitempty"` // likewise
	StillMs    int64 `json:"still_ms,omitempty"`    // how long it has had work and nothing has been settled, or done
}

// Consumer is a receiving socket as its sender knows it.
type Consumer struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Label    string `json:"label,omitempty"`
	Attached bool   `json:"attached"`
	Paused   bool   `json:"paused,omitempty"`
	Leased   int    `json:"leased"`
	Room     uint64 `json:"room"` // messages it would take now
}

// Received counts what a receiving socket has seen.
type Received struct {
	Delivered   uint64 `json:"delivered"`
	Done        uint64 `json:"done"`
	Nacked      uint64 `json:"nacked"`
	Returned    uint64 `json:"returned"`
	Expired     uint64 `json:"expired"`
	Duplicates  uint64 `json:"duplicates"`
	Redelivered uint64 `json:"redelivered"`
	Gaps        uint64 `json:"gaps"`
	Bytes       uint64 `json:"bytes"`
	Queued      int    `json:"queued"`
	Begun       int    `json:"begun"`
	Pipes       int    `json:"pipes"`
	Paused      bool   `json:"paused,omitempty"`
}

// Candidate is an address where a node may be, and what came of trying it.
type Candidate struct {
	Node      string `json:"node,omitempty"`
	Addr      string `json:"addr"`
	Source    string `json:"source"`
	Interface string `json:"interface,omitempty"`
	Verdict   string `json:"verdict"` // linked, or why not; empty: not tried yet
	Code      string `json:"code,omitempty"`
	AgeMs     int64  `json:"age_ms"` // of the verdict
}

// Problem is why discovery works less well than it could.
type Problem struct {
	Source    string `json:"source"`
	Interface string `json:"interface,omitempty"`
	Reason    string `json:"reason"`
}

// Event is what happened to a peer.
type Event struct {
	AgeMs  int64  `json:"age_ms"`
	ID     string `json:"id"` // empty when the other side never proved one
	Name   string `json:"name"`
	Addr   string `json:"addr"`
	State  string `json:"state"` // up, down or refused
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	Remote bool   `json:"remote,omitempty"` // the other side refused
}

// Message is where a message stands at its sender.
type Message struct {
	Seq        uint64 `json:"seq"`
	Next       uint64 `json:"next"`  // the seq that the next message gets
	State      string `json:"state"` // queued, leased, done, dead, expired, dropped, settled (which way is not known) or unknown
	Waits      string `json:"waits,omitempty"`
	Attempt    uint32 `json:"attempt"`
	Deliveries uint32 `json:"deliveries"`
	MaxDeliver int    `json:"max_deliver,omitempty"`
	By         string `json:"by,omitempty"` // the node that has it
	AgeMs      int64  `json:"age_ms,omitempty"`
	DueMs      int64  `json:"due_ms,omitempty"`     // until it may be sent
	ExpiresMs  int64  `json:"expires_ms,omitempty"` // until its TTL is over
}

// What a queued message waits for, Message.Waits.
const (
	WaitsDelay   = "delay"   // the end of its delay, or of its back-off if Deliveries > 0
	WaitsKey     = "key"     // an earlier message of its key, or room at the consumer of its key
	WaitsEarlier = "earlier" // those who may have it since an earlier life of its sender
	WaitsDisk    = "disk"    // its turn to be read from the disk
	WaitsTurn    = "turn"    // a consumer with room
)

var errSight = errors.New("insight: not what a node sees")

// ParseSight reads what another node told. The bytes come from the network.
func ParseSight(b []byte) (s Sight, err error) {
	if err := json.Unmarshal(b, &s); err != nil {
		return Sight{}, fmt.Errorf("%w: %w", errSight, err)
	}
	return s, nil
}

// Marshal writes a sight in at most limit bytes: the ends of its longest lists are left out until it fits.
func (s Sight) Marshal(limit int) ([]byte, error) {
	for {
		b, err := json.Marshal(s)
		if err != nil || len(b) <= limit {
			return b, err
		}
		if !s.halve() {
			return nil, fmt.Errorf("insight: a sight does not fit %d bytes", limit)
		}
		s.Cut = true
	}
}

// halve cuts the longest list; it reports false when there is nothing to cut.
func (s *Sight) halve() bool {
	offers, consumers := 0, 0
	for _, p := range s.Peers {
		offers += len(p.Offers)
	}
	for _, o := range s.Sockets {
		consumers += len(o.Consumers)
	}
	longest := max(len(s.Peers)+offers, len(s.Sockets)+consumers, len(s.Candidates), len(s.Problems), len(s.Events), len(s.Decisions))
	switch longest {
	case 0:
		return false
	case len(s.Peers) + offers:
		s.Peers = append([]Peer(nil), s.Peers[:(len(s.Peers)+1)/2]...)
		for i := range s.Peers {
			s.Peers[i].Offers = s.Peers[i].Offers[:len(s.Peers[i].Offers)/2]
		}
		if len(s.Peers) == 1 && offers == 0 {
			s.Peers = nil
		}
	case len(s.Sockets) + consumers:
		s.Sockets = append([]Socket(nil), s.Sockets[:(len(s.Sockets)+1)/2]...)
		for i := range s.Sockets {
			s.Sockets[i].Consumers = s.Sockets[i].Consumers[:len(s.Sockets[i].Consumers)/2]
		}
		if len(s.Sockets) == 1 && consumers == 0 {
			s.Sockets = nil
		}
	case len(s.Candidates):
		s.Candidates = s.Candidates[:len(s.Candidates)/2]
	case len(s.Problems):
		s.Problems = s.Problems[:len(s.Problems)/2]
	case len(s.Events):
		s.Events = s.Events[(len(s.Events)+1)/2:] // the newest stay
	default:
		s.Decisions = s.Decisions[(len(s.Decisions)+1)/2:]
	}
	return true
}

// About is the part of a sight that concerns one name; of other sockets only what they are called stays, and of the
// links all.
func (s Sight) About(name string) Sight {
	out := s
	out.Sockets, out.Decisions = nil, nil
	for _, o := range s.Sockets {
		switch {
		case o.Name == name:
		case o.Ledger != nil:
			o = Socket{Kind: o.Kind, Name: o.Name, Ledger: &Ledger{}}
		default:
			o = Socket{Kind: o.Kind, Name: o.Name}
		}
		out.Sockets = append(out.Sockets, o)
	}
	for _, d := range s.Decisions {
		if d.Name == name {
			out.Decisions = append(out.Decisions, d)
		}
	}
	return out
}

// ms is a duration told in milliseconds, in words.
func ms(n int64) time.Duration {
	d := time.Duration(n) * time.Millisecond
	switch {
	case d >= time.Minute:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d
}
