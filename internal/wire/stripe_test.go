package wire

import (
	"bytes"
	"errors"
	"testing"
)

func TestNobodySpreadsOverMoreConnectionsThanThereMayBe(t *testing.T) {
	for _, payload := range []string{"\x01\x00", "\x01\x05", "\x01\xff"} {
		if s, err := ParseSpread([]byte(payload)); !errors.Is(err, ErrMalformed) {
			t.Errorf("SPREAD % x: %+v, %v", payload, s, err)
		}
	}
	for _, number := range []byte{0, MaxStripes, 255} {
		if j, err := ParseJoin(append(make([]byte, 16), number)); !errors.Is(err, ErrMalformed) {
			t.Errorf("JOIN of number %d: %+v, %v", number, j, err)
		}
	}
}

func TestAScannerRefusesLengthsThatNoFrameHas(t *testing.T) {
	for _, b := range []string{"\x11\xff\xff\xff\xff\x7f", "\x11\x81\x80\x80\x02", "\x11\x80\x00", "\x11\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		if n, err := new(Scanner).Until([]byte(b), TypeSpread); err == nil {
			t.Errorf("% x: %d bytes, no error", b, n)
		}
	}
}

// FuzzScanner: however a stream is cut into pieces, a scanner finds in it what Next finds.
func FuzzScanner(f *testing.F) {
	stream := AppendNumber(nil, TypeRenewed, 300)
	stream = AppendText(stream, TypeDetach, "a reason in some words")
	stream = AppendSpread(stream, Spread{Bundle: 1, Connections: 3})
	f.Add(append(stream, AppendEmpty(nil, TypePause)...), uint8(1))
	f.Add(AppendSpread(AppendText(nil, TypeDetach, string(bytes.Repeat([]byte("x"), 400))), Spread{Bundle: 1, Connections: 2}), uint8(7))
	f.Add([]byte("\x1b\x02\x01\x01"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		want, rest := len(b), b
		var bad error
		for len(rest) > 0 {
			if Type(rest[0]) == TypeSpread {
				want = len(b) - len(rest)
				break
			}
			_, _, after, _, err := Next(rest)
			if err != nil {
				if !errors.Is(err, ErrShort) {
					bad = err
				}
				break
			}
			rest = after
		}
		var s Scanner
		got := 0
		for at := 0; at < len(b); {
			next := b[at:min(len(b), at+1+int(piece))]
			n, err := s.Until(next, TypeSpread)
			if err != nil && bad == nil && !errors.Is(err, ErrTooLong) { // which shows before the length is whole
				t.Fatalf("% x: %v", b, err)
			}
			if err != nil {
				return
			}
			got += n
			at += n
			if n < len(next) {
				break
			}
		}
		if bad == nil && got != want {
			t.Errorf("% x in pieces of %d: found at %d, want %d", b, 1+int(piece), got, want)
		}
	})
}
