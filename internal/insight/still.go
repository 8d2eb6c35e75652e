package insight

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Work is what a socket has to do and has done so far.
type Work struct {
	Owed int    // now: begun and not answered, or accepted and not settled
	Over uint64 // ever: answered, or settled
}

// Stills notices sockets that have work and do not get on with it. Its zero value is empty. Not safe for
// concurrent use.
type Stills struct {
	known map[string]still
}

type still struct {
	work  Work
	since time.Time // nothing was finished since, and there was work all the time
}

// Look takes what all sockets have to do now, by any key of theirs; those that are not there any more are forgotten.
func (s *Stills) Look(works map[string]Work, now time.Time) {
	next := make(map[string]still, len(works))
	for key, w := range works {
		old, known := s.known[key]
		if !known || w.Over != old.work.Over || w.Owed == 0 || old.work.Owed == 0 {
			old.since = now
		}
		next[key] = still{w, old.since}
	}
	s.known = next
}

// For is how long the socket has had work and has finished none, as far as was looked; 0 if it has since, or has none.
func (s *Stills) For(key string, w Work, now time.Time) time.Duration {
	old, known := s.known[key]
	if !known || w.Owed == 0 || old.work.Owed == 0 || w.Over != old.work.Over {
		return 0
	}
	return now.Sub(old.since)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
