package spool

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// What Open finds to be lost of a queue is kept until ForgetLost, as a note of the store's own:
//
//	key    'w' 0 "lost" 0 | name of the queue
//	fields ranges: the distance from the end of the one before and the length less one, as uvarints
//
// It is written in the transaction that takes note of the damage.
const (
	lostPrefix = "\x00lost\x00"

	// maxLost bounds the ranges that are kept of a queue. Those above are told by the Open that
	// found them alone.
	maxLost = 1 << 16
)

// ForgetLost says that everybody has been told who must hear what Open found to be lost of q. Until
// that is on disk each Open tells it again.
func (c *Change) ForgetLost(q *Queue) {
	if c.g == nil || q.closed || len(q.lost) == 0 {
		return
	}
	q.lost = nil
	c.put(lostPrefix+q.name, nil)
}

// keepLost has what is lost of q written.
func (c *Change) keepLost(q *Queue) {
	if c.g != nil && len(q.lost) > 0 {
		c.put(lostPrefix+q.name, sealLost(q.lost))
	}
}

func sealLost(lost []SeqRange) (b []byte) {
	var end uint64
	for _, r := range lost[:min(len(lost), maxLost)] {
		b = binary.AppendUvarint(b, r.From-end)
		b = binary.AppendUvarint(b, r.To-r.From)
		end = r.To
	}
	return b
}

func parseLost(b []byte) (lost []SeqRange, err error) {
	r := uvarints{b, nil}
	var end uint64
	for len(r.rest) > 0 && r.err == nil {
		from := end + r.next(MaxSeq-end)
		to := from + r.next(MaxSeq-from)
		if r.err == nil && from == end {
			return nil, fmt.Errorf("%w: a range begins where the one before ends", ErrDamaged)
		}
		lost = append(lost, SeqRange{from, to})
		end = to
	}
	return lost, r.err
}

// loadLost takes in what earlier Opens found to be lost and nobody has been told of.
func (found *tally) loadLost(note string, fields []byte) error {
	name, ok := strings.CutPrefix(note, lostPrefix)
	if !ok {
		return nil
	}
	lost, err := parseLost(fields)
	if err != nil {
		return fmt.Errorf("what queue %q has lost: %w", clip([]byte(name)), err)
	}
	found.untold[name] = lost
	return nil
}

// recallLost adds what is still to be told to what was found now.
func (s *Store) recallLost(found *tally) {
	for name, lost := range found.untold {
		q := s.queues[name]
		if q == nil {
			continue // it is kept, should the name come back
		}
		for _, r := range lost {
			q.lost, _ = insert(q.lost, r)
		}
	}
}
