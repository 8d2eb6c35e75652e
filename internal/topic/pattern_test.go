package topic

import (
	"strings"
	"testing"
)

// parse reads a pattern that the test knows to be good.
func parse(t testing.TB, s string) Pattern {
	t.Helper()
	p, err := Parse(s)
	if err != nil {
		t.Fatalf("Parse(%q): %v", s, err)
	}
	return p
}

// The contract, one line each.
var semantics = []struct {
	pattern, topic string
	want           bool
}{
	{"zurich.temp", "zurich.temp", true},
	{"zurich.temp", "zurich.tem", false},
	{"zurich.temp", "zurich.temps", false},
	{"zurich.temp", "zurich", false},
	{"zurich.temp", "zurich.temp.max", false},
	{"zurich.temp", "Zurich.temp", false},
	{"zürich.temp", "zürich.temp", true},
	{"zürich.temp", "zurich.temp", false},
	{"zurich temp", "zurich temp", true},

	{"*", "zurich", true},
	{"*", "zurich.temp", false},
	{"*.temp", "zurich.temp", true},
	{"*.temp", "temp", false},
	{"*.temp", "ch.zurich.temp", false},
	{"*.temp", "zurich.tempo", false},
	{"ch.*.temp", "ch.zurich.temp", true},
	{"ch.*.temp", "ch.temp", false},
	{"ch.*.temp", "ch.a.b.temp", false},
	{"ch.*", "ch.zurich", true},
	{"ch.*", "ch", false},
	{"ch.*", "chur", false},
	{"*.*", "a.b", true},
	{"*.*", "a", false},
	{"*.*", "a.b.c", false},

	{">", "a", true},
	{">", "a.b.c", true},
	{"a.>", "a", false},
	{"a.>", "a.b", true},
	{"a.>", "a.b.c", true},
	{"a.>", "ab", false},
	{"a.>", "ab.c", false},
	{"a.>", "A.b", false},
	{"*.>", "a", false},
	{"*.>", "a.b", true},
	{"*.>", "a.b.c", true},
	{"a.*.>", "a.b", false},
	{"a.*.>", "a.b.c", true},
	{"*.b.>", "a.b.c.d", true},
	{"*.b.>", "a.c.c.d", false},

	{"prefix:", "a", true},
	{"prefix:", "a.b", true},
	{"prefix:zur", "zurich.temp", true},
	{"prefix:zur", "zur", true},
	{"prefix:zur", "zu", false},
	{"prefix:zur", "Zurich", false},
	{"prefix:zur", "ch.zurich", false},
	{"prefix:zurich.", "zurich.temp", true},
	{"prefix:zurich.", "zurich", false},
	{"prefix:zurich.t", "zurich.temp", true},
	{"prefix:*", "a", false},
	{"prefix:a.>", "a.b", false},
	{`prefix:z\xc3`, "zürich", true}, // half of the ü
}

func TestPatternsMatchAsTheContractSays(t *testing.T) {
	for _, c := range semantics {
		if err := Check(c.topic); err != nil {
			t.Errorf("Check(%q): %v", c.topic, err)
		}
		p := parse(t, c.pattern)
		if got := p.Match(c.topic); got != c.want {
			t.Errorf("%q matches %q = %v, want %v", c.pattern, c.topic, got, c.want)
		}
		var trie Trie[int]
		trie.Add(p, 1)
		if got := len(trie.Match(c.topic, nil)) == 1; got != c.want {
			t.Errorf("a trie of %q matches %q = %v, want %v", c.pattern, c.topic, got, c.want)
		}
	}
}

func TestNoPatternsMeanEveryTopic(t *testing.T) {
	for _, texts := range [][]string{nil, {}} {
		got, err := ParseAll(texts)
		if err != nil || len(got) != 1 || got[0] != parse(t, ">") {
			t.Errorf("ParseAll(%#v) = %v, %v, want >", texts, got, err)
		}
	}
	got, err := ParseAll([]string{"a.*", "prefix:b"})
	if err != nil || len(got) != 2 || got[0] != parse(t, "a.*") || got[1] != parse(t, "prefix:b") {
		t.Errorf("ParseAll(a.*, prefix:b) = %v, %v", got, err)
	}
	if got, err := ParseAll([]string{"a", "b..c"}); err == nil || got != nil {
		t.Errorf("ParseAll(a, b..c) = %v, %v, want an error alone", got, err)
	}
}

func TestTheZeroPatternMatchesNothing(t *testing.T) {
	var p Pattern
	for _, topic := range []string{"", "a", "a.b"} {
		if p.Match(topic) {
			t.Errorf("the zero Pattern matches %q", topic)
		}
	}
	if p.String() != "" {
		t.Errorf("the zero Pattern's text is %q", p.String())
	}
}

func TestRawPrefixesOfAnyBytesHaveAPrintableTextThatReadsBack(t *testing.T) {
	for raw, want := range map[string]string{
		"":                              `prefix:`,
		"zur":                           `prefix:zur`,
		"zurich.":                       `prefix:zurich.`,
		"a.>":                           `prefix:a.>`,
		"prefix:":                       `prefix:prefix:`,
		"zür":                           `prefix:zür`,
		"\xff\x00":                      `prefix:\xff\x00`,
		"\x1b[31m":                      `prefix:\x1b[31m`,
		`say "a\b"`:                     `prefix:say \"a\\b\"`,
		"\u202e":                        `prefix:\u202e`,
		strings.Repeat("\xff", 255):     `prefix:` + strings.Repeat(`\xff`, 255),
		"\U0010ffff\n" + "two\r\nlines": `prefix:\U0010ffff\ntwo\r\nlines`,
	} {
		p, err := Prefix(raw)
		if err != nil {
			t.Errorf("Prefix(%q): %v", raw, err)
			continue
		}
		if got := p.String(); got != want || len(got) > MaxPatternText {
			t.Errorf("Prefix(%q) prints as %s, want %s", raw, got, want)
		}
		if back, err := Parse(p.String()); err != nil || back != p {
			t.Errorf("Parse(%s) = %v, %v, want %v", p, back, err, p)
		}
	}
}

func TestAPrefixAndTokensOfTheSameTextDiffer(t *testing.T) {
	p, err := Prefix("a.b")
	if err != nil {
		t.Fatal(err)
	}
	if tokens := parse(t, "a.b"); p == tokens || p.String() == tokens.String() {
		t.Errorf("%v and %v are the same", p, tokens)
	}
}

func TestBadPatternsAreRefusedWithAdvice(t *testing.T) {
	for _, c := range []struct{ pattern, want string }{
		{"", `use ">" for every topic`},
		{".a", `begins with "."`},
		{"a.", `ends with "."`},
		{".", `begins with "."`},
		{"a..b", `empty token`},
		{"a.>.b", `goes on after ">"`},
		{">.>", `goes on after ">"`},
		{"te*", `"*" or ">" inside the token "te*"`},
		{"a.**", `inside the token "**"`},
		{"a.b>", `inside the token "b>"`},
		{"a.*>", `inside the token "*>"`},
		{"a\x00b", `control character (U+0000) at byte 1`},
		{"a\u0085b", `control character (U+0085) at byte 1`},
		{"a.\x1b[31m", `control character (U+001B) at byte 2`},
		{"a\xff", `not valid UTF-8`},
		{strings.Repeat("a", MaxBytes+1), `has 256 bytes: use at most 255`},
		{strings.Repeat("a.", MaxTokens) + "a", `has 33 tokens: use at most 32`},
		{`prefix:\`, `cannot be read`},
		{`prefix:a"b`, `write \" for a quote`},
		{`prefix:\q`, `cannot be read`},
		{"prefix:\xff", `\xff for a byte that is not UTF-8`},
		{"prefix:" + strings.Repeat("a", MaxBytes+1), `has 256 bytes`},
		{"prefix:" + strings.Repeat(`\u0061`, MaxBytes), `has 1537 bytes: use at most 1027`},
	} {
		p, err := Parse(c.pattern)
		if err == nil {
			t.Errorf("Parse(%.40q) = %v, want an error", c.pattern, p)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "topic: ") {
			t.Errorf("Parse(%.40q): %q does not say %q", c.pattern, err, c.want)
		}
		if p != (Pattern{}) {
			t.Errorf("Parse(%.40q) = %v beside its error", c.pattern, p)
		}
	}
	if p, err := Prefix(strings.Repeat("a", MaxBytes+1)); err == nil {
		t.Errorf("Prefix of %d bytes = %v, want an error", MaxBytes+1, p)
	}
}

func TestBadTopicsAreRefusedWithAdvice(t *testing.T) {
	for _, c := range []struct{ topic, want string }{
		{"", `give at least one token`},
		{".a", `begins with "."`},
		{"a.", `ends with "."`},
		{".", `begins with "."`},
		{"a..b", `empty token`},
		{"*", `publish to one exact topic`},
		{"a.>", `publish to one exact topic`},
		{"a.b*", `publish to one exact topic`},
		{"a\x00b", `control character (U+0000) at byte 1`},
		{"a\nb", `control character (U+000A) at byte 1`},
		{"a\x7f", `control character (U+007F) at byte 1`},
		{"é\u009b", `control character (U+009B) at byte 2`},
		{"a\xff", `not valid UTF-8`},
		{"prefix:a", `choose another first token`},
		{strings.Repeat("a", MaxBytes+1), `has 256 bytes: use at most 255`},
		{strings.Repeat("a.", MaxTokens) + "a", `has 33 tokens: use at most 32`},
	} {
		err := Check(c.topic)
		if err == nil {
			t.Errorf("Check(%.40q) = nil, want an error", c.topic)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "topic: ") {
			t.Errorf("Check(%.40q): %q does not say %q", c.topic, err, c.want)
		}
	}
}

func TestTopicsUpToTheBoundsMayBePublishedAndSubscribed(t *testing.T) {
	for _, topic := range []string{
		"a", "zurich.temp", "zürich.温度", "a b", "a-b_c/d:e", "x.prefix:", "prefix", "👨‍👩‍👧", `say "a\b"`,
		strings.Repeat("a", MaxBytes),
		strings.Repeat("a.", MaxTokens-1) + "a",
	} {
		if err := Check(topic); err != nil {
			t.Errorf("Check(%.40q): %v", topic, err)
			continue
		}
		if p := parse(t, topic); !p.Match(topic) || p.String() != topic {
			t.Errorf("the pattern %q does not match the topic of the same text", p)
		}
	}
}

func TestCheckingAndMatchingAllocateNothing(t *testing.T) {
	topic := "ch.zürich.station-17.temp"
	patterns := []Pattern{parse(t, "ch.*.*.temp"), parse(t, "ch.>"), parse(t, "prefix:ch."), parse(t, topic)}
	n := testing.AllocsPerRun(100, func() {
		if Check(topic) != nil {
			t.Fatal("a good topic is refused")
		}
		for _, p := range patterns {
			if !p.Match(topic) {
				t.Fatalf("%v does not match %v", p, topic)
			}
		}
	})
	if n > 0 {
		t.Errorf("%v allocations a topic, want 0", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := Check("ch.zurich.station-17.temp"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatternMatch(b *testing.B) {
	p := parse(b, "ch.*.*.temp")
	b.ReportAllocs()
	for b.Loop() {
		if !p.Match("ch.zurich.station-17.temp") {
			b.Fatal("no match")
		}
	}
}
