package topic

import "strings"

// Trie is a set of (pattern, value) pairs that finds the values whose patterns match a topic. Its zero value is empty
// and ready for use. It must not be copied once used, and is not safe for concurrent use: even Match writes, so two
// calls of Match need a lock that excludes, not one that shares.
//
// It keeps a value once, whatever the number of its patterns, and lets go of it with its last pattern; the room for
// values is kept for others until the trie is empty. V should be small: a pointer or a number.
type Trie[V comparable] struct {
	byTokens, byPrefix node

	ids   map[V]uint32 // where in slots a value is
	slots []slot[V]    // the nodes refer to values by index
	free  []uint32     // slots not in use

	pairs  int
	lookup uint64 // number of the latest Match
}

// slot holds a value and when it was last found, so that Match returns it once without searching.
type slot[V comparable] struct {
	value    V
	patterns int    // how many pairs it is in; 0 in a free slot
	found    uint64 // by which lookup
}

// Add puts (p, v) into the set. It is a set: adding a pair again changes nothing, and one Remove takes it out. Add
// panics if p is the zero Pattern.
func (t *Trie[V]) Add(p Pattern, v V) {
	n := t.root(p).reach(p.text)
	id, known := t.ids[v]
	if !known {
		id = t.admit(v)
	}
	if n.addID(id) {
		t.slots[id].patterns++
		t.pairs++
	}
}

// Remove takes (p, v) out of the set; if it is not in the set, nothing changes. The memory of a pattern goes with its
// last pair, and all of it with the last pair of the trie. Remove panics if p is the zero Pattern.
func (t *Trie[V]) Remove(p Pattern, v V) {
	root := t.root(p)
	id, known := t.ids[v]
	if !known || !root.drop(p.text, id) {
		return
	}
	t.pairs--
	if t.pairs == 0 {
		*t = Trie[V]{}
		return
	}
	if t.slots[id].patterns--; t.slots[id].patterns == 0 {
		t.dismiss(id)
	}
}

// Match appends to dst each value that has a pattern matching topic, once however many of its patterns match and
// whatever dst holds already, and returns the result. It agrees with [Pattern.Match] on every string, and like that
// expects that [Check] accepts topic. The order is unspecified; it depends only on the calls of Add and Remove so far.
//
// It allocates only to let dst grow.
func (t *Trie[V]) Match(topic string, dst []V) []V {
	t.lookup++
	dst = t.matchTokens(&t.byTokens, topic, dst)
	return t.matchPrefixes(topic, dst)
}

// Len returns how many pairs the set holds.
func (t *Trie[V]) Len() int { return t.pairs }

// matchTokens appends the values at and below n. Rest is what the texts down to n have left of the topic.
func (t *Trie[V]) matchTokens(n *node, rest string, dst []V) []V {
	if rest == "" {
		dst = t.collect(n.ids, dst)
	}
	if len(n.kids) == 0 {
		return dst
	}
	// A label can begin with a wildcard only where a token begins, in the pattern and hence in the topic.
	for _, wildcard := range [...]byte{'*', '>'} {
		dst = t.matchKid(n.kid(wildcard), rest, dst)
	}
	if rest != "" && rest[0] != '*' && rest[0] != '>' { // a topic that Check refuses: these are done
		dst = t.matchKid(n.kid(rest[0]), rest, dst)
	}
	return dst
}

// matchKid is matchTokens for a kid, which may be nil, whose label is still to be followed.
func (t *Trie[V]) matchKid(kid *node, rest string, dst []V) []V {
	if kid == nil {
		return dst
	}
	rest, ok := follow(kid.label, rest)
	if !ok {
		return dst
	}
	return t.matchTokens(kid, rest, dst)
}

func (t *Trie[V]) matchPrefixes(topic string, dst []V) []V {
	n := &t.byPrefix
	for {
		dst = t.collect(n.ids, dst)
		if topic == "" {
			return dst
		}
		n = n.kid(topic[0])
		if n == nil || !strings.HasPrefix(topic, n.label) {
			return dst
		}
		topic = topic[len(n.label):]
	}
}

// collect appends the values that this lookup has not found yet.
func (t *Trie[V]) collect(ids []uint32, dst []V) []V {
	for _, id := range ids {
		if s := &t.slots[id]; s.found != t.lookup {
			s.found = t.lookup
			dst = append(dst, s.value)
		}
	}
	return dst
}

// root returns the root of the tree p belongs to.
func (t *Trie[V]) root(p Pattern) *node {
	switch p.kind {
	case tokens:
		return &t.byTokens
	case prefix:
		return &t.byPrefix
	default:
		panic("topic: the zero Pattern in a Trie: make patterns with Parse or Prefix")
	}
}

// admit gives v a slot.
func (t *Trie[V]) admit(v V) uint32 {
	var id uint32
	if n := len(t.free); n > 0 {
		id, t.free = t.free[n-1], t.free[:n-1]
	} else {
		id = uint32(len(t.slots))
		t.slots = append(t.slots, slot[V]{})
	}
	t.slots[id].value = v
	if t.ids == nil {
		t.ids = make(map[V]uint32)
	}
	t.ids[v] = id
	return id
}

// dismiss frees a slot, whose value is then not held any more.
func (t *Trie[V]) dismiss(id uint32) {
	delete(t.ids, t.slots[id].value)
	t.slots[id] = slot[V]{}
	t.free = append(t.free, id)
}
