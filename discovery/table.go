package discovery

import (
	"slices"
	"time"
)

// When a candidate is lost: unseen in so many questions and for so long. It takes both, since the fast
// questions come quicker than an answer is sure to get through, and the calm ones slower.
const (
	lostAfterQuestions = 4
	lostAfterTime      = 120 * time.Second
)

// maxCandidates bounds the table; further candidates are counted and ignored until some are lost. A made-up
// answer costs nothing, so somebody on the link can fill it; that hides new nodes from mDNS and no more.
const maxCandidates = 4096

// table knows the candidates and forgets those that stay away. It is pure: told the time and what was
// heard, it returns the events.
type table struct {
	patience int // how many times as long as usual it takes to be lost; 0 is 1
	known    map[spot]*sighting
	refused  uint64 // candidates ignored because the table was full
}

type sighting struct {
	candidate Candidate
	alive     time.Time // last seen, or last known to be linked
	missed    int       // questions since it was last seen
}

// close ends one question: heard is what answered, linked says which nodes have a link, and deaf says on
// which interfaces nothing could be asked, so that silence there means nothing. It returns what was found
// and then what was lost, each in the order of compareCandidates.
func (t *table) close(now time.Time, heard []Candidate, deaf map[string]bool, linked func(node string) bool) []Event {
	if t.known == nil {
		t.known = make(map[spot]*sighting)
	}
	for _, s := range t.known {
		if !deaf[s.candidate.Interface] {
			s.missed++
		}
	}
	var found []Candidate
	for _, c := range heard {
		if t.see(now, c) {
			found = append(found, c)
		}
	}
	lost := t.forget(now, linked)
	return append(events(Found, found), events(Lost, lost)...)
}

// see takes in one sighting and says whether it is news.
func (t *table) see(now time.Time, c Candidate) bool {
	s, ok := t.known[c.spot()]
	if !ok {
		if len(t.known) >= maxCandidates {
			t.refused++
			return false
		}
		s = &sighting{}
		t.known[c.spot()] = s
	}
	news := s.candidate != c
	s.candidate, s.alive, s.missed = c, now, 0
	return news
}

// forget removes what stayed away for too long. A linked candidate lives on whether it answers or not, and
// for the full time after its link ended.
func (t *table) forget(now time.Time, linked func(node string) bool) []Candidate {
	var lost []Candidate
	patience := max(t.patience, 1)
	for at, s := range t.known {
		switch {
		case linked(s.candidate.Node):
			s.alive = now
		case s.missed >= patience*lostAfterQuestions && now.Sub(s.alive) >= time.Duration(patience)*lostAfterTime:
			lost = append(lost, s.candidate)
			delete(t.known, at)
		}
	}
	return lost
}

// events returns an event of the kind for each candidate, in order.
func events(kind Kind, candidates []Candidate) []Event {
	slices.SortStableFunc(candidates, compareCandidates)
	list := make([]Event, len(candidates))
	for i, c := range candidates {
		list[i] = Event{Kind: kind, Candidate: c}
	}
	return list
}

// first returns the first candidate of an interface in the order of compareCandidates.
func (t *table) first(iface string) (Candidate, bool) {
	var list []Candidate
	for _, s := range t.known {
		if s.candidate.Interface == iface {
			list = append(list, s.candidate)
		}
	}
	if len(list) == 0 {
		return Candidate{}, false
	}
	return slices.MinFunc(list, compareCandidates), true
}
