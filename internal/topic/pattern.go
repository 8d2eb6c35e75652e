package topic

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxPatternText bounds the text of any pattern, which a reader of the wire allows at most: a raw prefix of MaxBytes
// bytes, each written as an escape of four.
const MaxPatternText = len(prefixMark) + 4*MaxBytes

type kind uint8

const (
	none   kind = iota // the zero Pattern
	tokens             // text is tokens, "*" and ">" among them
	prefix             // text is the raw bytes a topic begins with
)

// Pattern is what a subscription asks for. [Parse] and [Prefix] make one; the zero Pattern matches no topic. Patterns
// can be compared with ==, are equal exactly if their texts are, and may be used concurrently.
type Pattern struct {
	kind kind
	text string
}

// Parse reads the text form of a pattern: tokens with "*" and ">" among them, or "prefix:" and a raw prefix written as
// between the quotes of a Go string ("prefix:zur", "prefix:\xff"). The error says what is wrong and what to do. The
// pattern does not hold on to s.
func Parse(s string) (Pattern, error) {
	if s == "" {
		return Pattern{}, errors.New(`topic: the pattern is empty: use ">" for every topic`)
	}
	if escaped, ok := strings.CutPrefix(s, prefixMark); ok {
		return parsePrefix(escaped)
	}
	if err := checkText("pattern", s); err != nil {
		return Pattern{}, err
	}
	if err := checkTokens("pattern", s); err != nil {
		return Pattern{}, err
	}
	if err := checkWildcards(s); err != nil {
		return Pattern{}, err
	}
	return Pattern{tokens, strings.Clone(s)}, nil
}

// ParseAll reads the patterns of one subscription. No texts at all mean ">": every topic. The first bad text is the
// error.
func ParseAll(texts []string) ([]Pattern, error) {
	if len(texts) == 0 {
		return []Pattern{{tokens, ">"}}, nil
	}
	all := make([]Pattern, 0, len(texts))
	for _, s := range texts {
		p, err := Parse(s)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// Prefix returns the pattern that matches every topic beginning with the bytes raw; "" matches every topic. Any bytes
// will do, half a character included; the only error is more than [MaxBytes] of them. The pattern does not hold on to
// raw.
func Prefix(raw string) (Pattern, error) {
	if len(raw) > MaxBytes {
		return Pattern{}, fmt.Errorf("topic: the prefix has %d bytes, more than any topic: use at most %d", len(raw), MaxBytes)
	}
	return Pattern{prefix, strings.Clone(raw)}, nil
}

// String returns the text of p, from which [Parse] makes p again. It is safe to log: whatever is not printable in a raw
// prefix is escaped. The zero Pattern, which has no text, returns "".
func (p Pattern) String() string {
	if p.kind != prefix {
		return p.text
	}
	quoted := strconv.Quote(p.text)
	return prefixMark + quoted[1:len(quoted)-1]
}

// Match tells whether p matches topic, of which it expects that [Check] accepts it. Of any other topic it takes the
// text between two dots for a token, so "*" matches an empty one. To match many patterns at once use a [Trie], which
// agrees with Match on every string.
func (p Pattern) Match(topic string) bool {
	switch p.kind {
	case tokens:
		return matchTokens(p.text, topic)
	case prefix:
		return strings.HasPrefix(topic, p.text)
	default:
		return false
	}
}

func matchTokens(pattern, topic string) bool {
	for {
		want, wantRest, wantMore := strings.Cut(pattern, ".")
		got, gotRest, gotMore := strings.Cut(topic, ".")
		switch {
		case want == ">":
			return true
		case want != "*" && want != got:
			return false
		case !wantMore || !gotMore:
			return wantMore == gotMore
		}
		pattern, topic = wantRest, gotRest
	}
}

// checkWildcards checks that "*" and ">" are whole tokens of s, and that ">" is the last.
func checkWildcards(s string) error {
	for rest, more := s, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		switch {
		case token == ">" && more:
			return fmt.Errorf(`topic: pattern %q goes on after ">": end it there, or use "*" for exactly one token`, s)
		case len(token) > 1 && strings.ContainsAny(token, "*>"):
			return fmt.Errorf(`topic: pattern %q has "*" or ">" inside the token %q: let it be a whole token, `+
				`or subscribe to a raw prefix with %q`, s, token, prefixMark)
		}
	}
	return nil
}

// parsePrefix reads what follows "prefix:".
func parsePrefix(escaped string) (Pattern, error) {
	if n := len(prefixMark) + len(escaped); n > MaxPatternText {
		return Pattern{}, fmt.Errorf("topic: the pattern has %d bytes: use at most %d", n, MaxPatternText)
	}
	raw, err := strconv.Unquote(`"` + escaped + `"`)
	if err != nil || !utf8.ValidString(escaped) { // Unquote would replace what is not UTF-8
		return Pattern{}, fmt.Errorf(`topic: pattern %q cannot be read after %q: write \" for a quote, \\ for a backslash, `+
			`\n for a new line and \xff for a byte that is not UTF-8`, prefixMark+escaped, prefixMark)
	}
	return Prefix(raw)
}
