package main

import (
	"strings"
	"testing"
)

func FuzzConfigIsValuesOrOneLine(f *testing.F) {
	f.Add([]byte("name: a\npeer:\n  - 127.0.0.1:1\nno-mdns: true\n"))
	f.Add([]byte("pear: 1\n"))
	f.Add([]byte("{name: ["))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := parseConfig(data)
		if err == nil {
			return
		}
		if text := err.Error(); values != nil || !strings.HasPrefix(text, ":") || strings.Contains(text, "\n") {
			t.Errorf("%q: got %v, %q; want no values and one line that begins with a colon", data, values, text)
		}
	})
}
