package topic

import (
	"bytes"
	"slices"
	"strings"
)

// node is a node of a radix tree over patterns' texts. The text of a node is its ancestors' labels and its own, one
// after the other; the patterns with exactly that text have their values in ids. Apart from the root, whose label is
// empty, each node has values or at least two kids, so a tree of n texts has less than 2n nodes besides the root.
type node struct {
	label string
	first []byte   // first[i] is the first byte of kids[i].label: all different
	kids  []*node  // in no particular order
	ids   []uint32 // values, rising
}

// kid returns the node below n whose label begins with c, or nil.
func (n *node) kid(c byte) *node {
	if i := bytes.IndexByte(n.first, c); i >= 0 {
		return n.kids[i]
	}
	return nil
}

// reach returns the node whose text is n's and text after it, made if it was not there.
func (n *node) reach(text string) *node {
	for text != "" {
		i := bytes.IndexByte(n.first, text[0])
		if i < 0 {
			leaf := &node{label: text}
			n.adopt(leaf)
			return leaf
		}
		shared := sharedBytes(n.kids[i].label, text)
		n.split(i, shared)
		n, text = n.kids[i], text[shared:]
	}
	return n
}

func (n *node) adopt(kid *node) {
	n.first = append(n.first, kid.label[0])
	n.kids = append(n.kids, kid)
}

// split makes the label of kid i end after at bytes. What it had more of moves into a node between.
func (n *node) split(i, at int) {
	kid := n.kids[i]
	if at == len(kid.label) {
		return
	}
	upper := &node{label: kid.label[:at]}
	kid.label = kid.label[at:]
	upper.adopt(kid)
	n.kids[i] = upper
}

// drop takes id away from the node whose text is n's and text after it, and tidies up on the way back. It returns false
// if id was not there.
func (n *node) drop(text string, id uint32) bool {
	if text == "" {
		return n.dropID(id)
	}
	i := bytes.IndexByte(n.first, text[0])
	if i < 0 {
		return false
	}
	rest, ok := strings.CutPrefix(text, n.kids[i].label)
	if !ok || !n.kids[i].drop(rest, id) {
		return false
	}
	n.tidy(i)
	return true
}

// tidy removes kid i if nothing is left of it, and joins it with its only kid if it has no values of its own.
func (n *node) tidy(i int) {
	kid := n.kids[i]
	switch {
	case len(kid.ids) > 0:
	case len(kid.kids) == 0:
		n.first = slices.Delete(n.first, i, i+1)
		n.kids = slices.Delete(n.kids, i, i+1)
	case len(kid.kids) == 1:
		only := kid.kids[0]
		only.label = kid.label + only.label
		n.kids[i] = only
	}
}

// addID returns false if id was there already.
func (n *node) addID(id uint32) bool {
	i, found := slices.BinarySearch(n.ids, id)
	if !found {
		n.ids = slices.Insert(n.ids, i, id)
	}
	return !found
}

// dropID returns false if id was not there.
func (n *node) dropID(id uint32) bool {
	i, found := slices.BinarySearch(n.ids, id)
	if !found {
		return false
	}
	n.ids = slices.Delete(n.ids, i, i+1)
	if cap(n.ids) > 64 && len(n.ids) < cap(n.ids)/4 { // many values have gone: give their room back
		n.ids = slices.Clone(n.ids)
	}
	return true
}

// sharedBytes returns how many bytes a and b have in common at their beginnings.
func sharedBytes(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// follow walks label, part of a token pattern, along topic, and returns what is left of topic behind it. It returns
// false if they differ. Label and topic both begin where their texts so far agree.
func follow(label, topic string) (rest string, ok bool) {
	for i := range len(label) {
		switch c := label[i]; {
		case c == '>': // the last byte of every text it is in
			return "", true
		case c == '*':
			topic = topic[tokenEnd(topic):]
		case topic == "" || topic[0] != c:
			return "", false
		default:
			topic = topic[1:]
		}
	}
	return topic, true
}

// tokenEnd returns how long the first token of s is.
func tokenEnd(s string) int {
	if i := strings.IndexByte(s, '.'); i >= 0 {
		return i
	}
	return len(s)
}
