package main

import (
	"slices"
	"strings"
	"testing"
)

func TestCommandIsSplitIntoWords(t *testing.T) {
	tests := []struct {
		in   string
		want []string // nil: an error
	}{
		{"tr a-z A-Z", []string{"tr", "a-z", "A-Z"}},
		{"  a\t b\n", []string{"a", "b"}},
		{`echo 'one word' "and another" a\ third`, []string{"echo", "one word", "and another", "a third"}},
		{`echo '' ""`, []string{"echo", "", ""}},
		{`a'b'"c"`, []string{"abc"}},
		{`'a\b' "a\"b"`, []string{`a\b`, `a"b`}},
		{`$HOME *`, []string{"$HOME", "*"}},
		{"", []string{}},
		{`echo "x`, nil},
		{`echo 'x`, nil},
		{`echo x\`, nil},
	}
	for _, tt := range tests {
		got, err := words(tt.in)
		if (err != nil) != (tt.want == nil) || !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func FuzzWordsKeepEveryPlainWord(f *testing.F) {
	f.Add("a b", "tr a-z 'A Z'")
	f.Add("", `"a\"" b\`)
	f.Fuzz(func(t *testing.T, word, rest string) {
		if _, err := words(rest); err != nil || !isPlain(rest) {
			return
		}
		quoted := "'" + strings.ReplaceAll(strings.ToValidUTF8(word, "?"), "'", `'\''`) + "' " + rest
		got, err := words(quoted)
		if err != nil || got[0] != strings.ToValidUTF8(word, "?") || !slices.Equal(got[1:], strings.Fields(rest)) {
			t.Errorf("%q: got %q, %v", quoted, got, err)
		}
	})
}

// isPlain reports whether s has nothing that words treats otherwise than
// strings.Fields.
func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r > '~' || r < ' ' && r != '\t' && r != '\n' || strings.ContainsRune(`'"\`, r)
	})
}

func TestTailKeepsTheLastLine(t *testing.T) {
	var last tail
	for _, s := range []string{strings.Repeat("x", 2*maxTail), "\nfirst", " second\n", "third\n\n"} {
		if _, err := last.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := last.line(), "third"; got != want || len(last.kept) > maxTail {
		t.Errorf("got %q of %d bytes, want %q of at most %d", got, len(last.kept), want, maxTail)
	}
}
