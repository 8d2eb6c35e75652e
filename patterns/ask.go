package patterns

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"peermesh/internal/ledger"
	"peermesh/socket"
)

// States of a message that is not settled, and what is said of one about which too little is
// known; the others are those of Settled.
const (
	StateAccepted = "accepted" // on its way to the disk
	StateStored   = "stored"   // on disk, and nobody has it: it waits for a puller, a back-off or its delay
	StateSent     = "sent"     // a puller has it, or may have it since an earlier life of this node
	StateSettled  = "settled"  // over; which fate it met is not known any more
	StateUnknown  = "unknown"  // not of this stream, or not on disk: it was never accepted, or the kill was faster
)

// Status tells where a message stands.
type Status struct {
	Stream string
	Seq    uint64
	State  string // done, dead, expired, dropped, or one of the constants above
}

// ID names the message for good, "STREAM/SEQ": Push.Ask takes it in this life of the node and
// in later ones. It is the original-id of a dead letter, too. It has at most 1,024 bytes.
func (r *Receipt) ID() string { return r.Stream + "/" + strconv.FormatUint(r.Seq, 10) }

// maxReceiptID bounds what ID returns: a stream's label has two ids, namespace, kind and name.
const maxReceiptID = 1024

var errReceiptID = errors.New("patterns: not the ID of a receipt, STREAM/SEQ")

// parseReceiptID takes an ID apart.
func parseReceiptID(id string) (stream string, seq uint64, err error) {
	i := strings.LastIndexByte(id, '/')
	if len(id) > maxReceiptID || i < 1 || !utf8.ValidString(id) {
		return "", 0, errReceiptID
	}
	seq, err = strconv.ParseUint(id[i+1:], 10, 64)
	if err != nil || seq == 0 || strconv.FormatUint(seq, 10) != id[i+1:] {
		return "", 0, errReceiptID
	}
	return id[:i], seq, nil
}

// Ask tells where the message stands whose receipt, of this life or an earlier one, had that ID.
// It says what is on this node's disk, and guesses nothing: of a kill it may cost what was done
// in the last few seconds that it was, then the message is only StateSettled. So are messages that
// were settled by other means (peermesh spool purge), and the oldest ones where fates alternate
// more than 16,384 times. Who has done it is told to the receipt itself and to OnSettled alone. It does
// not block. Below level durable the error matches socket.ErrNotDurable; one that is no ID is an
// error.
func (p *Push) Ask(id string) (Status, error) {
	stream, seq, err := parseReceiptID(id)
	if err != nil {
		return Status{}, err
	}
	if p.journal == nil {
		return Status{}, fmt.Errorf("patterns: push %q: Ask: %w", p.name, socket.ErrNotDurable)
	}
	s := Status{Stream: stream, Seq: seq, State: StateUnknown}
	if stream == p.stream {
		p.mu.Lock()
		defer p.mu.Unlock()
		s.State = p.journal.standing(seq)
	}
	return s, nil
}

// standing is where the message of a seq stands. The sender's mutex must be held.
func (j *journal) standing(seq uint64) string {
	if seq >= j.stored {
		if j.arrivals.has(seq) {
			return StateAccepted
		}
		return StateUnknown
	}
	switch s, owed := j.box.Ledger().Standing(seq); {
	case owed && s == ledger.Leased:
		return StateSent
	case owed, seq >= j.next && !j.earlier.Contains(seq):
		return StateStored
	}
	switch fate := j.settling(seq); fate { // it is not on disk yet
	case ledger.Queued:
	case ledger.Done, ledger.Dead:
		return StateSent
	default:
		return StateStored
	}
	if fate := j.outcomes.of(seq); fate != "" {
		return fate
	}
	return StateSettled
}

// settling is the fate of a message that is known and not on disk; Queued if there is none.
func (f *feed) settling(seq uint64) ledger.State {
	for i := range f.fates {
		if f.fates[i].has(seq) {
			return f.fates[i].State
		}
	}
	for i := range f.staged {
		if f.staged[i].has(seq) {
			return f.staged[i].State
		}
	}
	return ledger.Queued
}

// has reports whether the message of that seq is in the run.
func (r *fateRun) has(seq uint64) bool { return seq-r.Seq < r.n }

// has reports whether the message of that seq is on its way to the disk.
func (a *arrivals) has(seq uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.groups {
		if items := a.groups[i].items; len(items) > 0 && seq <= items[len(items)-1].last() {
			return true // all from the first on are, and what lies below is on disk
		}
	}
	return false
}
