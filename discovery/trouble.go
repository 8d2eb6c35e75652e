package discovery

import (
	"maps"
	"slices"
	"strings"
)

// trouble turns what is wrong, said again at every try, into one Problem when it begins or changes and one
// Solved when it ends. An interface can have several troubles at a time, each under its own name; its
// Problem joins them.
type trouble struct {
	source string                      // Candidate.Source of the events
	open   map[string]map[string]error // interface, name of the trouble
	told   map[string]string           // interface, text of the last Problem
}

// set notes that the named trouble of an interface is err now; nil ends it. Errors must not have texts
// that vary from try to try.
func (t *trouble) set(iface, name string, err error) {
	if err == nil {
		delete(t.open[iface], name)
		return
	}
	if t.open == nil {
		t.open = make(map[string]map[string]error)
	}
	if t.open[iface] == nil {
		t.open[iface] = make(map[string]error)
	}
	t.open[iface][name] = err
}

// clear ends all troubles of an interface, as when it goes away.
func (t *trouble) clear(iface string) { delete(t.open, iface) }

// news returns what changed since the last call, by interface.
func (t *trouble) news() []Event {
	if t.told == nil {
		t.told = make(map[string]string)
	}
	var list []Event
	for _, iface := range slices.Sorted(maps.Keys(t.open)) {
		err := joined(t.open[iface])
		if err == nil || err.Error() == t.told[iface] {
			continue
		}
		t.told[iface] = err.Error()
		list = append(list, Event{Kind: Problem, Candidate: Candidate{Source: t.source}, Interface: iface, Err: err})
	}
	for _, iface := range slices.Sorted(maps.Keys(t.told)) {
		if len(t.open[iface]) > 0 {
			continue
		}
		delete(t.told, iface)
		delete(t.open, iface)
		list = append(list, Event{Kind: Solved, Candidate: Candidate{Source: t.source}, Interface: iface})
	}
	return list
}

// joined returns the errors as one, in the order of their names; nil if there are none.
func joined(errs map[string]error) error {
	var list joinedError
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		list = append(list, errs[name])
	}
	return list.orNil()
}

// joinedError is several errors in one line; errors.Join would make several.
type joinedError []error

// orNil returns e as an error, nil if it is empty and its one error if it is alone.
func (e joinedError) orNil() error {
	switch len(e) {
	case 0:
		return nil
	case 1:
		return e[0]
	}
	return e
}

// Error returns the texts of all, with semicolons between.
func (e joinedError) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap lets errors.Is and errors.As look into each.
func (e joinedError) Unwrap() []error { return e }
