package identity

import "strings"

// Glob is a pattern of labels, in which * stands for any run of characters, none included.
type Glob string

// Match reports whether the pattern fits the whole of s.
func (g Glob) Match(s string) bool {
	first, rest, wild := strings.Cut(string(g), "*")
	if !wild {
		return s == first
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] { // the leftmost place leaves the most to the others
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s = s[at+len(part):]
	}
	return strings.HasSuffix(s, last)
}
