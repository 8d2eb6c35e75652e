package patterns

import (
	"fmt"
	"maps"
	"unicode"
	"unicode/utf8"

	"peermesh/internal/insight"
	"peermesh/internal/ledger"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// Env is what a node gives its sockets.
type Env struct {
	Local  socket.Local
	Seqs   Seqs
	Store  *spool.Store // nil without a state directory
	Closed func()       // called once, when the socket has closed
	Label  string       // of a Sub: tells it from the node's other subscriptions of the channel

	// Note is told what is decided against a message, with a lock held; nil: nobody listens.
	Note func(insight.Decision)
}

// Seqs says which seqs a stream may use: never one twice, whatever happens to the
// process. The spool keeps this across restarts; a node without a state directory
// keeps it in memory.
type Seqs interface {
	Resume(stream string) (spool.Reservation, error)
	Reserve(stream string, lowest, end uint64) error
	Release(stream string, next, lowest uint64) error
	// Forget drops the statement of a gap that receivers have been told.
	Forget(stream string, upTo uint64) error
}

// Ledger counts what became of a sender's messages: Accepted = Queued + Leased +
// Done + Dead + Expired + the sum of Dropped at every snapshot. For Pub it counts
// copies: one per subscription that matched.
type Ledger struct {
	Carried  uint64            `json:"carried"` // found unsettled at open
	Accepted uint64            `json:"accepted"`
	Queued   uint64            `json:"queued"`
	Leased   uint64            `json:"leased"`
	Done     uint64            `json:"done"`
	Dead     uint64            `json:"dead"`
	Expired  uint64            `json:"expired"`
	Dropped  map[string]uint64 `json:"dropped"`
	Handed   uint64            `json:"handed,omitempty"` // best effort, outside the balance
}

// Add sums ledgers.
func (l *Ledger) Add(o Ledger) {
	l.Carried += o.Carried
	l.Accepted += o.Accepted
	l.Queued += o.Queued
	l.Leased += o.Leased
	l.Done += o.Done
	l.Dead += o.Dead
	l.Expired += o.Expired
	l.Handed += o.Handed
	if l.Dropped == nil {
		l.Dropped = map[string]uint64{}
	}
	for k, v := range o.Dropped {
		l.Dropped[k] += v
	}
}

// Balanced reports whether the ledger's two sides are equal.
func (l Ledger) Balanced() bool {
	sum := l.Queued + l.Leased + l.Done + l.Dead + l.Expired
	for _, v := range l.Dropped {
		sum += v
	}
	return l.Carried+l.Accepted == sum
}

// ledgerOf translates counts.
func ledgerOf(c ledger.Counts, bestEffort bool) Ledger {
	l := Ledger{Accepted: c.Accepted, Queued: c.Queued, Leased: c.Leased, Done: c.Done, Dead: c.Dead, Expired: c.Expired,
		Dropped: maps.Clone(c.Dropped), Handed: c.Handed}
	if bestEffort { // in the balance stands only what was given up before it was handed
		l.Accepted, l.Queued, l.Leased = c.Expired, 0, 0
		for _, v := range c.Dropped {
			l.Accepted += v
		}
	}
	return l
}

// SenderStats describes a Push, Pub or Req.
type SenderStats struct {
	Ledger      Ledger                 `json:"ledger"`
	Bytes       uint64                 `json:"bytes"`             // of what is queued and leased
	Delayed     uint64                 `json:"delayed,omitempty"` // of the queued: wait for the end of their Delay, as far as they were looked at
	OnDisk      uint64                 `json:"on_disk,omitempty"` // Push: of what is queued, those that wait on disk alone
	Redelivered uint64                 `json:"redelivered"`
	LateDone    uint64                 `json:"late_done"`
	Bound       int                    `json:"-"` // messages that the queue takes in memory
	BoundBytes  int                    `json:"-"` // likewise
	Consumers   []socket.ConsumerStats `json:"-"`

	Subscriptions []SubscriptionStats `json:"subscriptions,omitempty"` // of a durable Pub, in no order
}

// SubscriptionStats describes a durable subscription at its publisher.
type SubscriptionStats struct {
	Name     string `json:"name"`
	Attached int    `json:"attached"` // subscribers
	Owed     uint64 `json:"owed"`     // messages that are not settled, as far as they were looked at
	Bytes    uint64 `json:"bytes"`    // of their records
	Expelled bool   `json:"expelled,omitempty"`
}

// statsOf translates counts.
func statsOf(c ledger.Counts, bestEffort bool) SenderStats {
	return SenderStats{Ledger: ledgerOf(c, bestEffort), Bytes: c.Bytes, Redelivered: c.Redelivered, LateDone: c.LateDone}
}

// add sums all but the consumers and the subscriptions.
func (s *SenderStats) add(o SenderStats) {
	s.Ledger.Add(o.Ledger)
	s.Bytes += o.Bytes
	s.OnDisk += o.OnDisk
	s.Redelivered += o.Redelivered
	s.LateDone += o.LateDone
}

// CheckName holds a socket's name to the rules: 1 to 255 bytes of UTF-8 without
// control characters.
func CheckName(kind wire.Kind, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("patterns: a %v socket needs a name", kind)
	case len(name) > wire.MaxName:
		return fmt.Errorf("patterns: name of %d bytes, at most %d", len(name), wire.MaxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("patterns: name %q is not UTF-8", name)
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("patterns: name %q holds a control character", name)
		}
	}
	return nil
}
