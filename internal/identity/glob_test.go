package identity

import (
	"testing"

	"pgregory.net/rapid"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		glob, s string
		want    bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "x.y", true}, {"a*", "a", true}, {"a*", "ba", false},
		{"*a", "ba", true}, {"*a", "ab", false}, {"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "aXbYc", true},
		{"a*b*c", "acb", false}, {"a**c", "ac", true}, {"a*bc*c", "abcbc", true}, {"*b*b", "b", false}, {"[a]", "a", false},
	} {
		if got := Glob(c.glob).Match(c.s); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.glob, c.s, got, c.want)
		}
	}
}

// The slow way: a glob matches s if one of its halves' cuts does.
func slowGlob(g, s string) bool {
	switch {
	case g == "":
		return s == ""
	case g[0] == '*':
		return slowGlob(g[1:], s) || s != "" && slowGlob(g, s[1:])
	}
	return s != "" && g[0] == s[0] && slowGlob(g[1:], s[1:])
}

func TestGlobAgreesWithTheSlowWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := rapid.StringMatching(`[ab*]{0,7}`).Draw(t, "glob")
		s := rapid.StringMatching(`[ab]{0,8}`).Draw(t, "text")
		if got, want := Glob(g).Match(s), slowGlob(g, s); got != want {
			t.Fatalf("%q matches %q: %v, want %v", g, s, got, want)
		}
	})
}
