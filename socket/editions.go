package socket

import (
	"iter"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// editionSets are seqs by edition. There is mostly one: emptied, the last one is kept for
// the next seq. The zero value is empty.
type editionSets struct{ sets []editionSet }

type editionSet struct {
	edition uint64
	seqs    ranges.Set
}

func (s *editionSets) add(edition, from, to uint64) {
	for i := len(s.sets) - 1; i >= 0; i-- {
		if s.sets[i].edition == edition {
			s.sets[i].seqs.Add(from, to)
			return
		}
	}
	if n := len(s.sets); n == 1 && s.sets[0].seqs.Count() == 0 {
		s.sets[0].edition = edition
	} else {
		s.sets = append(s.sets, editionSet{edition: edition})
	}
	s.sets[len(s.sets)-1].seqs.Add(from, to)
}

func (s *editionSets) empty() bool {
	return len(s.sets) == 0 || len(s.sets) == 1 && s.sets[0].seqs.Count() == 0
}

// all yields what is in s, by edition.
func (s *editionSets) all() iter.Seq2[uint64, ranges.Range] {
	return func(yield func(uint64, ranges.Range) bool) {
		for i := range s.sets {
			for _, r := range s.sets[i].seqs.Ranges() {
				if !yield(s.sets[i].edition, r) {
					return
				}
			}
		}
	}
}

// take calls f for each edition and empties s. What f gets is valid during the call.
func (s *editionSets) take(f func(wire.EditionRanges)) {
	for i := range s.sets {
		if e := &s.sets[i]; e.seqs.Count() > 0 {
			f(wire.EditionRanges{Edition: e.edition, Ranges: e.seqs.Ranges()})
		}
	}
	s.clear()
}

func (s *editionSets) clear() {
	if len(s.sets) > 1 {
		s.sets = s.sets[:1]
	}
	for i := range s.sets {
		s.sets[i].seqs.Clear()
	}
}
