package topic

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxBytes is how long a topic, a token pattern or a raw prefix may be: its length fits one byte of a record.
	MaxBytes = 255

	// MaxTokens is how many tokens a topic or pattern may have: far more than any hierarchy people name, and the bound on
	// how often a lookup can branch into "*" and a literal.
	MaxTokens = 32
)

// prefixMark begins the text of a raw prefix pattern.
const prefixMark = "prefix:"

// Check returns nil if topic may be published, and otherwise an error that says what is wrong and what to do. It does
// not allocate for a good topic.
func Check(topic string) error {
	if topic == "" {
		return errors.New(`topic: the topic is empty: give at least one token, such as "zurich.temp"`)
	}
	if err := checkText("topic", topic); err != nil {
		return err
	}
	if strings.HasPrefix(topic, prefixMark) {
		return fmt.Errorf("topic: topic %q begins with %q, which marks a raw prefix pattern: choose another first token",
			topic, prefixMark)
	}
	if strings.ContainsAny(topic, "*>") {
		return fmt.Errorf(`topic: topic %q contains "*" or ">": they are for patterns, publish to one exact topic`, topic)
	}
	return checkTokens("topic", topic)
}

// checkText checks what needs no look at tokens. What names the kind of text, for the error.
func checkText(what, s string) error {
	if len(s) > MaxBytes {
		return fmt.Errorf("topic: the %s has %d bytes: use at most %d", what, len(s), MaxBytes)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("topic: %s %q is not valid UTF-8: encode it as UTF-8", what, s)
	}
	for i, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("topic: %s %q has a control character (%U) at byte %d: remove it", what, s, r, i)
		}
	}
	return nil
}

// checkTokens checks the number of tokens and that none is empty.
func checkTokens(what, s string) error {
	if n := strings.Count(s, ".") + 1; n > MaxTokens {
		return fmt.Errorf("topic: %s %q has %d tokens: use at most %d", what, s, n, MaxTokens)
	}
	switch {
	case s[0] == '.':
		return fmt.Errorf(`topic: %s %q begins with ".": remove it, or put a token before it`, what, s)
	case s[len(s)-1] == '.':
		return fmt.Errorf(`topic: %s %q ends with ".": remove it, or put a token behind it`, what, s)
	case strings.Contains(s, ".."):
		return fmt.Errorf(`topic: %s %q has an empty token: remove one "." of "..", or put a token between`, what, s)
	}
	return nil
}
