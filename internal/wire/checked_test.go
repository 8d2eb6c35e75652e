package wire

import (
	"bytes"
	"testing"
)

func TestWhatWasCheckedIsReadAgainAsItWas(t *testing.T) {
	b, _ := block(40)
	for rest := b; len(rest) > 0; {
		r, after, err := NextRecord(rest)
		if err != nil {
			t.Fatal(err)
		}
		body, then := NextChecked(rest)
		if !bytes.Equal(body, r.Body) || cap(body) != cap(r.Body) || len(then) != len(after) {
			t.Fatalf("record %d: body % x and %d bytes behind it, want % x and %d", r.Delta, body, len(then), r.Body, len(after))
		}
		rest = then
	}
}

func TestWhatWasNeverCheckedIsNotReadAsIfItWere(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a record with an empty topic was read")
		}
	}()
	NextChecked(withChecksum([]byte{0, recTopic, 0, 'x'})) // an empty topic
}
