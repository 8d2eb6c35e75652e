package marks

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// MaxUnconfirmed is the default bound of done marks of one stream: at it no credit
// is granted.
const MaxUnconfirmed = 1 << 18

// scattered is how many ranges are removed one by one; more of them in one pass over
// the marks, or a sender could make each cost as much as all the marks there are.
const scattered = 16

// ErrFenced is a frame or ATTACH of a pipe that a newer one has replaced.
var ErrFenced = errors.New("superseded by a newer attach of the stream")

// Stream is the memory of one sender's stream. The zero value is a stream never
// heard of. Not safe for concurrent use.
type Stream struct {
	incarnation uint64
	nonce       [16]byte
	number      uint64 // of the newest ATTACH
	known       bool
	editions    []*edition          // oldest first; mostly one
	last        *edition            // found last
	index       map[uint64]*edition // of more than a few
	duplicates  uint64
}

// edition is the memory of what was framed in one life of the sender's store.
type edition struct {
	id   uint64
	done ranges.Set // handled, not confirmed
	held ranges.Set // queued or begun
	lost ranges.Set // begun, and its outcome will never be known (Rep)
}

func (e *edition) empty() bool {
	return e.done.Count() == 0 && e.held.Count() == 0 && e.lost.Count() == 0
}

// Known reports whether the stream has ever attached.
func (s *Stream) Known() bool { return s.known }

// Pipe identifies a pipe by the ATTACH that opened it.
type Pipe struct {
	incarnation uint64
	nonce       [16]byte
	number      uint64
}

// Attach fences every older pipe of the stream: from now on only the returned one
// may change anything. It is ErrFenced when a newer one is already there.
func (s *Stream) Attach(a wire.Attach) (Pipe, error) {
	if s.known {
		older := a.Incarnation < s.incarnation ||
			a.Incarnation == s.incarnation && a.Nonce == s.nonce && a.Number <= s.number
		if older {
			return Pipe{}, ErrFenced
		}
	}
	s.incarnation, s.nonce, s.number, s.known = a.Incarnation, a.Nonce, a.Number, true
	if a.Start > 0 {
		for _, e := range s.editions { // settled at the sender whatever the edition, or it would still be owed
			e.done.Remove(0, a.Start-1)
			e.lost.Remove(0, a.Start-1)
		}
	}
	s.prune()
	return Pipe{s.incarnation, s.nonce, s.number}, nil
}

// Current reports whether p is the newest pipe.
func (s *Stream) Current(p Pipe) bool {
	return p == Pipe{s.incarnation, s.nonce, s.number}
}

// Attached fills in what ATTACHED tells of this stream.
func (s *Stream) Attached(a *wire.Attached) {
	for _, e := range s.editions {
		for _, part := range []struct {
			set *ranges.Set
			out *[]wire.EditionRanges
		}{{&e.done, &a.Done}, {&e.held, &a.Held}, {&e.lost, &a.Lost}} {
			if part.set.Count() > 0 {
				*part.out = append(*part.out, wire.EditionRanges{Edition: e.id, Ranges: part.set.Append(nil)})
			}
		}
	}
}

// few is how many editions are looked through one by one.
const few = 8

func (s *Stream) find(id uint64) *edition {
	if s.last != nil && s.last.id == id {
		return s.last
	}
	e := s.index[id]
	if s.index == nil {
		for _, o := range s.editions {
			if o.id == id {
				e = o
			}
		}
	}
	if e != nil {
		s.last = e
	}
	return e
}

func (s *Stream) of(id uint64) (*edition, error) {
	if e := s.find(id); e != nil {
		return e, nil
	}
	if len(s.editions) == wire.MaxEditions {
		s.prune()
		if len(s.editions) == wire.MaxEditions {
			return nil, fmt.Errorf("stream with more than %d unconfirmed editions", wire.MaxEditions)
		}
	}
	e := &edition{id: id}
	s.editions = append(s.editions, e)
	switch {
	case s.index != nil:
		s.index[id] = e
	case len(s.editions) > few:
		s.index = make(map[uint64]*edition, 2*few)
		for _, o := range s.editions {
			s.index[o.id] = o
		}
	}
	return e, nil
}

// prune forgets editions of which nothing is remembered, but for the newest: the
// next message will be of that one.
func (s *Stream) prune() {
	if n := len(s.editions) - 1; n > 0 {
		newest := s.editions[n]
		s.editions = append(slices.DeleteFunc(s.editions[:n], s.drop), newest)
		if len(s.editions) <= few {
			s.index = nil
		}
	}
}

// drop reports whether e is empty, and if so makes it not be found any more.
func (s *Stream) drop(e *edition) bool {
	if !e.empty() {
		return false
	}
	delete(s.index, e.id)
	if s.last == e {
		s.last = nil
	}
	return true
}

// Arrive takes a message in hand. It reports false for one that is held or done
// already: that one is dropped, and its answer comes or came by itself.
func (s *Stream) Arrive(edition, seq uint64) (bool, error) {
	e, err := s.of(edition)
	if err != nil {
		return false, err
	}
	if seq == 0 {
		return false, errors.New("message with seq 0")
	}
	if e.held.Contains(seq) || e.done.Contains(seq) || e.lost.Contains(seq) {
		s.duplicates++
		return false, nil
	}
	e.held.Add(seq, seq)
	return true, nil
}

// ArriveRun is Arrive for the messages from..to at once, if none of them is held or
// done; otherwise it changes nothing and reports false.
func (s *Stream) ArriveRun(edition, from, to uint64) (bool, error) {
	e, err := s.of(edition)
	if err != nil {
		return false, err
	}
	if from == 0 || from > to || e.held.Overlaps(from, to) || e.done.Overlaps(from, to) || e.lost.Overlaps(from, to) {
		return false, nil
	}
	e.held.Add(from, to)
	return true, nil
}

// Done turns a held message into a done mark.
func (s *Stream) Done(edition, seq uint64) { s.DoneRun(edition, seq, seq) }

// DoneRun is Done for the messages from..to, which must all be held.
func (s *Stream) DoneRun(edition, from, to uint64) {
	if e := s.find(edition); e != nil {
		e.held.Remove(from, to)
		e.done.Add(from, to)
	}
}

// Return lets go of a held message that was not handled.
func (s *Stream) Return(edition, seq uint64) {
	if e := s.find(edition); e != nil {
		e.held.Remove(seq, seq)
	}
}

// Lose notes that a held message was begun and that its outcome will never be
// known.
func (s *Stream) Lose(edition, seq uint64) {
	if e := s.find(edition); e != nil {
		e.held.Remove(seq, seq)
		e.lost.Add(seq, seq)
	}
}

// Confirm forgets marks that the sender has durably settled.
func (s *Stream) Confirm(c wire.EditionRanges) {
	e := s.find(c.Edition)
	if e == nil {
		return
	}
	if len(c.Ranges) > scattered {
		var told ranges.Set
		for _, r := range c.Ranges {
			told.Add(r.From, r.To)
		}
		e.done.RemoveSet(&told)
		e.lost.RemoveSet(&told)
	} else {
		for _, r := range c.Ranges {
			e.done.Remove(r.From, r.To)
			e.lost.Remove(r.From, r.To)
		}
	}
	if e.empty() {
		s.prune()
	}
}

// IsDone reports whether there is a done mark that is not confirmed.
func (s *Stream) IsDone(edition, seq uint64) bool {
	e := s.find(edition)
	return e != nil && e.done.Contains(seq)
}

// Missing yields the parts of from to to, in order, of which nothing is here, of
// whatever edition: neither in hand nor done and unconfirmed.
func (s *Stream) Missing(from, to uint64) iter.Seq[ranges.Range] {
	return func(yield func(ranges.Range) bool) {
		var here []ranges.Range
		for _, e := range s.editions {
			here = overlapping(overlapping(here, &e.done, from, to), &e.held, from, to)
		}
		slices.SortFunc(here, func(a, b ranges.Range) int { return cmp.Compare(a.From, b.From) })
		for _, r := range here {
			if from < r.From && !yield(ranges.Range{From: from, To: r.From - 1}) || r.To >= to {
				return
			}
			from = max(from, r.To+1)
		}
		yield(ranges.Range{From: from, To: to})
	}
}

// overlapping appends the ranges of set that have something of from to to.
func overlapping(dst []ranges.Range, set *ranges.Set, from, to uint64) []ranges.Range {
	rs := set.Ranges()
	for _, r := range rs[sort.Search(len(rs), func(i int) bool { return rs[i].To >= from }):] {
		if r.From > to {
			break
		}
		dst = append(dst, r)
	}
	return dst
}

// Begun tells what is held, for LEAVE: by then all of it was begun.
func (s *Stream) Begun() (out []wire.EditionRanges) {
	for _, e := range s.editions {
		if e.held.Count() > 0 {
			out = append(out, wire.EditionRanges{Edition: e.id, Ranges: e.held.Append(nil)})
		}
	}
	return out
}

// Held is the number of messages queued or begun here.
func (s *Stream) Held() (n uint64) {
	for _, e := range s.editions {
		n += e.held.Count()
	}
	return n
}

// Unconfirmed is the number of done marks not yet confirmed.
func (s *Stream) Unconfirmed() (n uint64) {
	for _, e := range s.editions {
		n += e.done.Count() + e.lost.Count()
	}
	return n
}

// Duplicates is the number of messages dropped because they were here already.
func (s *Stream) Duplicates() uint64 { return s.duplicates }

// Number is the ATTACH's number.
func (p Pipe) Number() uint64 { return p.number }
