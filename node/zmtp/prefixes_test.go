package zmtp

import (
	"errors"
	"strconv"
	"testing"
)

func TestWhatWasSubscribedTwiceIsCancelledTwice(t *testing.T) {
	var p prefixes
	for i, want := range []bool{true, false} {
		if got, err := p.add("a"); got != want || err != nil {
			t.Errorf("subscription %d: got %v, %v; want %v", i, got, err, want)
		}
	}
	if p.remove("a") || !p.match([]byte("abc")) {
		t.Error("one of two cancelled ends both")
	}
	if !p.remove("a") || p.match([]byte("abc")) {
		t.Error("two of two cancelled do not end it")
	}
	if p.remove("a") {
		t.Error("a third one counts")
	}
}

func TestPrefixesAreComparedByteByByte(t *testing.T) {
	var p prefixes
	for _, s := range []string{"zur", "b\x00", "geneva.temp"} {
		if _, err := p.add(s); err != nil {
			t.Fatal(err)
		}
	}
	for topic, want := range map[string]bool{
		"zurich": true, "zur": true, "zu": false, "Zurich": false, "b\x00\xff": true, "b": false, "": false, "geneva": false,
	} {
		if got := p.match([]byte(topic)); got != want {
			t.Errorf("%q: got %v, want %v", topic, got, want)
		}
	}
	if _, err := p.add(""); err != nil || !p.match(nil) {
		t.Errorf("the empty prefix does not match the empty topic: %v", err)
	}
}

func TestAPeerCannotSubscribeWithoutEnd(t *testing.T) {
	var p prefixes
	for i := range maxPrefixes {
		if _, err := p.add(strconv.Itoa(i)); err != nil {
			t.Fatalf("subscription %d: %v", i, err)
		}
	}
	if _, err := p.add("one more"); !errors.Is(err, errSubscriptions) {
		t.Errorf("number: got %v", err)
	}
	p = prefixes{}
	if _, err := p.add(string(make([]byte, maxPrefixBytes+1))); !errors.Is(err, errSubscriptions) {
		t.Errorf("bytes: got %v", err)
	}
}
