// Package slots keeps values by the seq of a message.
//
// Seqs rise one by one, and what is kept is mostly of the newest few thousand. So a seq names its own place in a table: nothing
// is hashed, and neighbours lie side by side in memory. A value whose place is taken lies in a map of Go: there are few of
// those, unless somebody chose the seqs so that they collide.
package slots

import "iter"

const (
	fewest = 64      // slots of the smallest table
	spared = 4 << 10 // a table of so many is kept, however few values there are
)

// Key tells a message from all others of its stream.
type Key struct{ Edition, Seq uint64 }

// Map is values of messages. Its memory grows with them, and goes back when the map is empty and most of it was not needed
// since it was empty before. The zero value is empty. Not safe for concurrent use.
type Map[V any] struct {
	table []slot[V] // a power of two of them, at least twice as many as there are values
	rest  map[Key]V // whose slots were taken by others
	n     int
	most  int // that n has been since the map was empty
}

type slot[V any] struct {
	key   Key
	taken bool
	value V
}

// Len is how many values there are.
func (m *Map[V]) Len() int { return m.n }

// Get returns a message's value; ok tells whether it has one.
func (m *Map[V]) Get(k Key) (v V, ok bool) {
	if m.n == 0 {
		return v, false
	}
	if s := m.slot(k); s.taken && s.key == k {
		return s.value, true
	}
	v, ok = m.rest[k]
	return v, ok
}

// Put gives a message a value, in the place of the one that it has.
func (m *Map[V]) Put(k Key, v V) {
	if 2*m.n >= len(m.table) {
		m.grow()
	}
	s := m.slot(k)
	switch _, aside := m.rest[k]; {
	case s.taken && s.key == k:
		s.value = v
		return
	case aside:
		m.rest[k] = v
		return
	}
	m.n++
	m.most = max(m.most, m.n)
	m.place(k, v)
}

// Take removes a message's value and returns it; ok tells whether it had one.
func (m *Map[V]) Take(k Key) (v V, ok bool) {
	if v, ok = m.Get(k); !ok {
		return v, false
	}
	if s := m.slot(k); s.taken && s.key == k {
		*s = slot[V]{}
	} else {
		delete(m.rest, k)
	}
	if m.n--; m.n == 0 {
		m.shrink()
	}
	return v, true
}

// All ranges over the values, in no order. Meanwhile values may be taken, and none put.
func (m *Map[V]) All() iter.Seq2[Key, V] {
	return func(yield func(Key, V) bool) {
		table := m.table
		for i := range table {
			if s := &table[i]; s.taken && !yield(s.key, s.value) {
				return
			}
		}
		for k, v := range m.rest {
			if !yield(k, v) {
				return
			}
		}
	}
}

// slot is where a message has its place. There is a table.
func (m *Map[V]) slot(k Key) *slot[V] { return &m.table[k.Seq&uint64(len(m.table)-1)] }

func (m *Map[V]) place(k Key, v V) {
	if s := m.slot(k); !s.taken {
		*s = slot[V]{k, true, v}
		return
	}
	if m.rest == nil {
		m.rest = map[Key]V{}
	}
	m.rest[k] = v
}

func (m *Map[V]) grow() {
	old := Map[V]{table: m.table, rest: m.rest}
	m.table, m.rest = make([]slot[V], max(2*len(m.table), fewest)), nil
	for k, v := range old.All() {
		m.place(k, v)
	}
}

// shrink gives back what was not needed lately. The map is empty.
func (m *Map[V]) shrink() {
	if len(m.table) > max(8*m.most, spared) {
		m.table = nil
	}
	m.rest, m.most = nil, 0
}
