package topic

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Few different tokens, sharing beginnings, so that patterns meet topics and each other.
var (
	words     = []string{"a", "b", "ab", "abc", "ä", "ü"}
	wildWords = append([]string{"*", "*", ">"}, words...)
)

func drawTopic(t *rapid.T) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 1, 5).Draw(t, "topic"), ".")
}

func drawPattern(t *rapid.T) Pattern {
	if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
		topic := drawTopic(t)
		p, err := Prefix(topic[:rapid.IntRange(0, len(topic)).Draw(t, "cut")]) // may cut a character
		if err != nil {
			t.Fatalf("Prefix: %v", err)
		}
		return p
	}
	list := rapid.SliceOfN(rapid.SampledFrom(wildWords), 1, 5).Draw(t, "pattern")
	if i := slices.Index(list, ">"); i >= 0 {
		list = list[:i+1]
	}
	p, err := Parse(strings.Join(list, "."))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return p
}

// drawOdd makes strings that Check refuses as well: a trie agrees with Match on those too.
func drawOdd(t *rapid.T) string {
	return rapid.StringOfN(rapid.SampledFrom([]rune("ab..*>\x00ä")), 0, 8, -1).Draw(t, "odd topic")
}

type pair struct {
	pattern Pattern
	value   int
}

// bruteForce asks every pattern.
func bruteForce(pairs map[pair]bool, topic string) []int {
	var found []int
	for p := range pairs {
		if p.pattern.Match(topic) {
			found = append(found, p.value)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestATrieAgreesWithAskingEveryPattern(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trie, pairs := new(Trie[int]), map[pair]bool{}
		drawPair := func(t *rapid.T) pair { return pair{drawPattern(t), rapid.IntRange(0, 5).Draw(t, "value")} }
		compare := func(t *rapid.T, topic string) {
			got := trie.Match(topic, nil)
			slices.Sort(got)
			if want := bruteForce(pairs, topic); !slices.Equal(got, want) {
				t.Fatalf("topic %q: Match = %v, want %v of %v", topic, got, want, pairs)
			}
		}
		add := func(t *rapid.T) {
			p := drawPair(t)
			trie.Add(p.pattern, p.value)
			pairs[p] = true
		}
		t.Repeat(map[string]func(*rapid.T){
			"add":   add,
			"add 2": add, // oftener than removing
			"remove": func(t *rapid.T) {
				p := drawPair(t)
				trie.Remove(p.pattern, p.value)
				delete(pairs, p)
			},
			"remove all of a value": func(t *rapid.T) {
				v := rapid.IntRange(0, 5).Draw(t, "value")
				for p := range pairs {
					if p.value == v {
						trie.Remove(p.pattern, v)
						delete(pairs, p)
					}
				}
			},
			"match":     func(t *rapid.T) { compare(t, drawTopic(t)) },
			"match odd": func(t *rapid.T) { compare(t, drawOdd(t)) },
			"": func(t *rapid.T) {
				if trie.Len() != len(pairs) {
					t.Fatalf("Len = %d, want %d", trie.Len(), len(pairs))
				}
				checkNodes(t, &trie.byTokens, true)
				checkNodes(t, &trie.byPrefix, true)
			},
		})
	})
}

// Match by its definition: an expansion of the pattern, token by token, instead of the loop that cuts both.
func TestMatchAgreesWithItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, topic := drawPattern(t), drawTopic(t)
		if got, want := p.Match(topic), defined(p, topic); got != want {
			t.Fatalf("%v matches %q = %v, want %v", p, topic, got, want)
		}
	})
}

func defined(p Pattern, topic string) bool {
	if p.kind == prefix {
		return len(p.text) <= len(topic) && topic[:len(p.text)] == p.text
	}
	want, got := strings.Split(p.text, "."), strings.Split(topic, ".")
	if last := len(want) - 1; want[last] == ">" {
		if len(got) <= last {
			return false
		}
		want, got = want[:last], got[:last]
	}
	return slices.EqualFunc(want, got, func(w, g string) bool { return w == "*" || w == g })
}

func FuzzParse(f *testing.F) {
	for _, c := range semantics {
		f.Add(c.pattern)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			if p != (Pattern{}) {
				t.Errorf("Parse(%q) = %v beside its error", s, p)
			}
			return
		}
		text := p.String()
		if len(text) > MaxPatternText {
			t.Errorf("Parse(%q) prints with %d bytes", s, len(text))
		}
		if back, err := Parse(text); err != nil || back != p {
			t.Errorf("Parse(%q) prints as %q, which reads as %v, %v", s, text, back, err)
		}
		if p.kind == tokens && text != s {
			t.Errorf("Parse(%q) prints as %q", s, text)
		}
		// Without its wildcards it is a topic that it matches.
		if topic := strings.NewReplacer("*", "x", ">", "x").Replace(s); p.kind == tokens && (Check(topic) != nil || !p.Match(topic)) {
			t.Errorf("pattern %q and topic %q: Check = %v, Match = %v", s, topic, Check(topic), p.Match(topic))
		}
	})
}

func FuzzMatch(f *testing.F) {
	for _, c := range semantics {
		f.Add(c.pattern+"\n"+c.topic, c.topic)
	}
	f.Fuzz(func(t *testing.T, subscriptions, topic string) {
		trie, pairs := new(Trie[int]), map[pair]bool{}
		for i, s := range strings.Split(subscriptions, "\n") {
			p, err := Parse(s)
			if err != nil {
				if len(s) > MaxBytes {
					continue
				}
				if p, err = Prefix(s); err != nil {
					t.Fatalf("Prefix(%q): %v", s, err)
				}
			}
			trie.Add(p, i%3)
			pairs[pair{p, i % 3}] = true
		}
		got := trie.Match(topic, nil)
		slices.Sort(got)
		if want := bruteForce(pairs, topic); !slices.Equal(got, want) {
			t.Errorf("%q: Match(%q) = %v, want %v", subscriptions, topic, got, want)
		}
		for p := range pairs {
			if Check(topic) == nil && p.pattern.Match(topic) != defined(p.pattern, topic) {
				t.Errorf("%v.Match(%q) = %v", p.pattern, topic, p.pattern.Match(topic))
			}
			trie.Remove(p.pattern, p.value)
		}
		if trie.Len() != 0 || trie.nodes() != 0 {
			t.Errorf("left in the trie: %d pairs, %d nodes", trie.Len(), trie.nodes())
		}
	})
}
