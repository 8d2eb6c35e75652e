package marks

import "peermesh/internal/wire"

// Restore gives an empty stream the done marks that an earlier process kept on disk. It
// reports false, and changes nothing, for more editions than there may be.
func (s *Stream) Restore(done []wire.EditionRanges) bool {
	if len(done) > wire.MaxEditions {
		return false
	}
	for _, d := range done {
		e, err := s.of(d.Edition)
		if err != nil {
			return false
		}
		for _, r := range d.Ranges {
			e.done.Add(r.From, r.To)
		}
	}
	return true
}
