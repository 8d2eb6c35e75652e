package main

import (
	"encoding/hex"
	"testing"
)

func TestGeneratedBodyIsCounterThenChaCha8(t *testing.T) {
	// The bytes after the counter are those of math/rand/v2 for the key
	// 00000000000000070000000000000003 followed by 16 zero bytes.
	tests := []struct {
		seed, n uint64
		size    int
		want    string
	}{
		{7, 3, 0, ""},
		{7, 3, 1, "03"},
		{7, 0x0102030405060708, 3, "060708"},
		{7, 3, 8, "0000000000000003"},
		{7, 3, 12, "0000000000000003" + "af427313"},
		{7, 3, 24, "0000000000000003" + "af427313318e014a2af91070548c566d"},
	}
	for _, tt := range tests {
		b := bodies{seed: tt.seed}
		if got := hex.EncodeToString(b.append(nil, tt.n, tt.size)); got != tt.want {
			t.Errorf("seed %d, n %d, size %d: got %s, want %s", tt.seed, tt.n, tt.size, got, tt.want)
		}
	}
}

func TestGeneratedBodiesAreRecognised(t *testing.T) {
	sender, receiver, stranger := bodies{seed: 7}, bodies{seed: 7}, bodies{seed: 8}
	for n := range uint64(100) {
		body := sender.append(nil, n, int(8+n))
		if !receiver.recognises(body) {
			t.Errorf("body %d of %d bytes is not recognised", n, len(body))
		}
		if n > 0 && stranger.recognises(body) {
			t.Errorf("body %d of %d bytes is recognised under another seed", n, len(body))
		}
		if n > 0 {
			body[len(body)-1] ^= 1
			if receiver.recognises(body) {
				t.Errorf("body %d of %d bytes is recognised with its last bit turned", n, len(body))
			}
		}
	}
	if !receiver.recognises([]byte("short")) {
		t.Error("a body without room for a counter holds nothing to check, and was found wrong")
	}
}

func TestHashIsHeadOfSHA256(t *testing.T) {
	for body, want := range map[string]string{"": "e3b0c44298fc1c14", "abc": "ba7816bf8f01cfea"} {
		if got := hashOf([]byte(body)); got != want {
			t.Errorf("%q: got %s, want %s", body, got, want)
		}
	}
}
