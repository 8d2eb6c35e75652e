package topic

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// trieOf gives each pattern its index as value.
func trieOf(t testing.TB, patterns ...string) *Trie[int] {
	trie := new(Trie[int])
	for i, s := range patterns {
		trie.Add(parse(t, s), i)
	}
	return trie
}

// nodes counts the nodes of t's trees besides the roots.
func (t *Trie[V]) nodes() int { return t.byTokens.descendants() + t.byPrefix.descendants() }

func (n *node) descendants() int {
	sum := len(n.kids)
	for _, kid := range n.kids {
		sum += kid.descendants()
	}
	return sum
}

// checkNodes holds the trees to what node promises.
func checkNodes(t interface {
	Helper()
	Fatalf(string, ...any)
}, n *node, root bool) {
	t.Helper()
	if !root && (n.label == "" || len(n.ids) == 0 && len(n.kids) < 2) {
		t.Fatalf("node %q with %d values and %d kids should not be there", n.label, len(n.ids), len(n.kids))
	}
	if !slices.IsSorted(n.ids) || len(n.first) != len(n.kids) {
		t.Fatalf("node %q: ids %v, first bytes %q of %d kids", n.label, n.ids, n.first, len(n.kids))
	}
	seen := map[byte]bool{}
	for i, kid := range n.kids {
		if n.first[i] != kid.label[0] || seen[n.first[i]] {
			t.Fatalf("node %q: first bytes %q, kid %d is %q", n.label, n.first, i, kid.label)
		}
		seen[n.first[i]] = true
		checkNodes(t, kid, false)
	}
}

func TestEachValueIsFoundOnceHoweverManyOfItsPatternsMatch(t *testing.T) {
	trie := new(Trie[string])
	for _, s := range []string{">", "*.temp", "zurich.*", "zurich.temp", "zurich.>", "prefix:", "prefix:zur", "prefix:zurich.temp"} {
		trie.Add(parse(t, s), "many")
	}
	trie.Add(parse(t, "*.*"), "one")
	trie.Add(parse(t, "*.*.*"), "none")
	got := trie.Match("zurich.temp", []string{"many"}) // what the caller has already does not count
	slices.Sort(got[1:])
	if want := []string{"many", "many", "one"}; !slices.Equal(got, want) {
		t.Errorf("Match = %q, want %q", got, want)
	}
}

func TestAddingAPairTwiceIsAddingItOnce(t *testing.T) {
	trie := new(Trie[int])
	p := parse(t, "a.b")
	trie.Add(p, 1)
	trie.Add(p, 1)
	trie.Add(p, 2)
	if trie.Len() != 2 {
		t.Errorf("Len = %d, want 2", trie.Len())
	}
	trie.Remove(p, 1)
	if got := trie.Match("a.b", nil); !slices.Equal(got, []int{2}) {
		t.Errorf("after one Remove Match = %v, want [2]", got)
	}
}

func TestRemovingWhatIsNotThereChangesNothing(t *testing.T) {
	trie := trieOf(t, "a.b.c", "prefix:a.b")
	trie.Remove(parse(t, "a.b"), 0)         // a text that ends inside a label
	trie.Remove(parse(t, "a.b.c.d"), 0)     // that goes on
	trie.Remove(parse(t, "a.x"), 0)         // that turns off
	trie.Remove(parse(t, "x"), 0)           // that never was
	trie.Remove(parse(t, "a.b.c"), 1)       // another's
	trie.Remove(parse(t, "a.b.c"), 7)       // nobody's
	trie.Remove(parse(t, "prefix:a.b."), 1) // of the other kind too
	trie.Remove(parse(t, "prefix:"), 1)
	got := trie.Match("a.b.c", nil)
	slices.Sort(got)
	if trie.Len() != 2 || !slices.Equal(got, []int{0, 1}) {
		t.Errorf("Len = %d, Match = %v, want 2, [0 1]", trie.Len(), got)
	}
}

func TestTheZeroPatternInATriePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Add of the zero Pattern did not panic")
		}
	}()
	new(Trie[int]).Add(Pattern{}, 1)
}

func TestTheOrderDependsOnlyOnWhatWasAddedAndRemoved(t *testing.T) {
	build := func() []int {
		trie := trieOf(t, "a.*", "*.b", ">", "prefix:", "a.b", "*.*", "prefix:a", "a.>")
		trie.Remove(parse(t, ">"), 2)
		trie.Add(parse(t, "*.>"), 9)
		return trie.Match("a.b", nil)
	}
	want := build()
	for range 20 {
		if got := build(); !slices.Equal(got, want) {
			t.Fatalf("Match = %v, then %v", want, got)
		}
	}
}

// Everyone subscribes to the same, everyone leaves.
func TestManyValuesOfOnePatternComeAndGo(t *testing.T) {
	const n = 10_000
	trie, p := new(Trie[int]), parse(t, "a.>")
	for v := range n {
		trie.Add(p, v)
	}
	if got := trie.Match("a.b", nil); len(got) != n {
		t.Errorf("Match found %d values, want %d", len(got), n)
	}
	for v := range n - 1 {
		trie.Remove(p, v)
	}
	if got := trie.Match("a.b", nil); !slices.Equal(got, []int{n - 1}) {
		t.Errorf("Match = %v, want [%d]", got, n-1)
	}
	if room := cap(trie.byTokens.kid('a').ids); room > 64 {
		t.Errorf("one value keeps room for %d", room)
	}
}

// bomb makes n different patterns of every shape, as a hostile subscriber would.
func bomb(t testing.TB, n int) []Pattern {
	rng := rand.New(rand.NewPCG(1, 2))
	seen, patterns := make(map[Pattern]bool, n), make([]Pattern, 0, n)
	for len(patterns) < n {
		b := make([]string, 1+rng.IntN(MaxTokens))
		for i := range b {
			b[i] = [...]string{"*", "a", "b", "ab", "abc", strconv.Itoa(rng.IntN(1000))}[rng.IntN(6)]
		}
		text := strings.Join(b, ".")
		switch rng.IntN(4) {
		case 0:
			text = "prefix:" + text
		case 1:
			b[len(b)-1] = ">"
			text = strings.Join(b, ".")
		}
		if p := parse(t, text); !seen[p] {
			seen[p] = true
			patterns = append(patterns, p)
		}
	}
	return patterns
}

func TestASubscriptionBombLeavesNothingBehind(t *testing.T) {
	const n = 100_000
	trie, patterns := new(Trie[int]), bomb(t, n)
	for i, p := range patterns {
		trie.Add(p, i%1000)
	}
	if trie.Len() != n {
		t.Errorf("Len = %d, want %d", trie.Len(), n)
	}
	if nodes := trie.nodes(); nodes >= 2*n {
		t.Errorf("%d patterns made %d nodes, want less than twice as many", n, nodes)
	}
	trie.Match("a.b.ab.abc.7", nil)
	for i := range patterns { // leave in another order than they came
		j := (i*7919 + 13) % n
		trie.Remove(patterns[j], j%1000)
		if i%10_000 == 0 {
			checkNodes(t, &trie.byTokens, true)
			checkNodes(t, &trie.byPrefix, true)
		}
	}
	if !reflect.DeepEqual(*trie, Trie[int]{}) {
		t.Errorf("left in the trie: %d pairs, %d nodes, %d values", trie.Len(), trie.nodes(), len(trie.ids))
	}
}

func TestABombAroundOneSubscriptionLeavesOnlyThatOne(t *testing.T) {
	trie := new(Trie[int])
	trie.Add(parse(t, "a.b"), -1)
	trie.Add(parse(t, "prefix:a."), -1)
	patterns := bomb(t, 5_000)
	patterns = slices.DeleteFunc(patterns, func(p Pattern) bool { return p.String() == "a.b" || p.String() == "prefix:a." })
	for i, p := range patterns {
		trie.Add(p, i)
	}
	for i, p := range patterns {
		trie.Remove(p, i)
	}
	if trie.Len() != 2 || trie.nodes() != 2 || len(trie.ids) != 1 {
		t.Errorf("left in the trie: %d pairs, %d nodes, %d values, want 2, 2, 1", trie.Len(), trie.nodes(), len(trie.ids))
	}
	if got := trie.Match("a.b", nil); !slices.Equal(got, []int{-1}) {
		t.Errorf("Match = %v, want [-1]", got)
	}
}

func TestARemovedValueIsLetGoAndItsSlotUsedAgain(t *testing.T) {
	trie := new(Trie[*int])
	a, b := parse(t, "a"), parse(t, "b")
	kept := new(int)
	trie.Add(a, kept)
	for range 100 {
		v := new(int)
		trie.Add(a, v)
		trie.Add(b, v)
		trie.Remove(a, v)
		if got := trie.Match("b", nil); !slices.Equal(got, []*int{v}) {
			t.Fatalf("a value with a pattern left is found as %v", got)
		}
		trie.Remove(b, v)
	}
	for _, s := range trie.slots {
		if s.value != kept && s.value != nil {
			t.Error("a slot still holds a removed value")
		}
	}
	if len(trie.slots) != 2 || len(trie.ids) != 1 {
		t.Errorf("%d slots and %d values, want 2 and 1", len(trie.slots), len(trie.ids))
	}
}

// A node made to panic when a lookup looks for its kids shows that lookups of other topics never get there.
func TestAMatchDoesNotLookBelowWhatDiffers(t *testing.T) {
	trie := trieOf(t, "zurich.temp", "*.temp", "basel.a", "basel.b", "*.rain.a", "*.rain.b", "prefix:basel.a", "prefix:basel.b")
	for _, n := range []*node{
		trie.byTokens.kid('b'),          // basel.
		trie.byTokens.kid('*').kid('r'), // *.rain.
		trie.byPrefix.kid('b'),          // basel.
	} {
		if len(n.kids) != 2 {
			t.Fatalf("node %q has %d kids: the trie is not of the shape this test is about", n.label, len(n.kids))
		}
		n.first, n.kids = []byte("\x00*>ab"), n.kids[:1]
	}
	got := trie.Match("zurich.temp", nil)
	slices.Sort(got)
	if !slices.Equal(got, []int{0, 1}) {
		t.Errorf("Match = %v, want [0 1]", got)
	}
	for _, topic := range []string{"basel.a", "zurich.rain.a"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Match(%q) did not look below what agrees: this test shows nothing", topic)
				}
			}()
			trie.Match(topic, nil)
		}()
	}
}

// Where "*" of the topic finds "*" of the patterns both as a wildcard and as itself, a lookup that follows both ways
// doubles at each level and does not end.
func TestATopicOfWildcardsIsWalkedOnlyOneWay(t *testing.T) {
	trie := new(Trie[int])
	for n := range MaxTokens {
		trie.Add(parse(t, strings.Repeat("*.", n)+"b"), n)
	}
	if got := trie.Match(strings.Repeat("*.", MaxTokens-1)+"b", nil); !slices.Equal(got, []int{MaxTokens - 1}) {
		t.Errorf("Match = %v, want [%d]", got, MaxTokens-1)
	}
}

func TestAMatchAllocatesNothing(t *testing.T) {
	trie := trieOf(t, "a.*", "*.b", ">", "prefix:", "a.b", "*.*", "prefix:a", "a.>")
	for i := range 1000 {
		trie.Add(parse(t, fmt.Sprintf("x%d.>", i)), 100+i)
	}
	dst := make([]int, 0, 64)
	if n := testing.AllocsPerRun(1000, func() { dst = trie.Match("a.b", dst[:0]) }); n > 0 {
		t.Errorf("%v allocations a Match, want 0", n)
	}
	if len(dst) != 8 {
		t.Errorf("Match found %d values, want 8", len(dst))
	}
}

// Subscriptions that do not match: the time must not grow with them.
func BenchmarkMatchThreeAmong(b *testing.B) {
	for _, others := range []int{0, 1_000, 100_000} {
		b.Run(strconv.Itoa(others), func(b *testing.B) {
			trie := trieOf(b, "ch.zurich.*.temp", "ch.>", "prefix:ch.zu")
			for i := range others {
				trie.Add(parse(b, fmt.Sprintf("ch.city-%d.*.temp", i)), i)
				trie.Add(parse(b, fmt.Sprintf("prefix:city-%d", i)), i)
			}
			var dst []int
			b.ReportAllocs()
			for b.Loop() {
				dst = trie.Match("ch.zurich.station-17.temp", dst[:0])
			}
			if len(dst) != 3 {
				b.Fatalf("%d values", len(dst))
			}
		})
	}
}

// Everyone wants the message: what matters is the cost for each.
func BenchmarkMatchAThousandValues(b *testing.B) {
	trie := new(Trie[int])
	for i := range 1000 {
		trie.Add(parse(b, "ch.>"), i)
		trie.Add(parse(b, "prefix:ch"), i)
	}
	var dst []int
	b.ReportAllocs()
	for b.Loop() {
		dst = trie.Match("ch.zurich", dst[:0])
	}
}

// The worst case: 2^14 patterns of "a" and "*" that agree with the topic until the last token.
func BenchmarkMatchPatternsThatDifferLate(b *testing.B) {
	trie := new(Trie[int])
	for i := range 1 << 14 {
		var text strings.Builder
		for bit := range 14 {
			text.WriteString([...]string{"a.", "*."}[i>>bit&1])
		}
		trie.Add(parse(b, text.String()+"x"), i)
	}
	topic := strings.Repeat("a.", 14) + "y"
	b.ReportAllocs()
	for b.Loop() {
		if got := trie.Match(topic, nil); got != nil {
			b.Fatal(got)
		}
	}
}

func BenchmarkAddRemoveAmongAHundredThousand(b *testing.B) {
	trie := new(Trie[int])
	for i, p := range bomb(b, 100_000) {
		trie.Add(p, i)
	}
	p := parse(b, "ch.zurich.*.temp")
	b.ReportAllocs()
	for b.Loop() {
		trie.Add(p, -1)
		trie.Remove(p, -1)
	}
}
