package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestEveryPrefixOfAFrameIsShort(t *testing.T) {
	frames := [][]byte{AppendData(nil, Run{}, make([]byte, 200)), AppendData(nil, Run{}, make([]byte, 1<<14))}
	for _, g := range golden {
		frames = append(frames, unhex(g.hex))
	}
	for _, frame := range frames {
		for n := range frame {
			_, payload, rest, need, err := Next(frame[:n])
			if !errors.Is(err, ErrShort) || payload != nil || rest != nil {
				t.Fatalf("type %#x, %d of %d bytes: payload % x, rest % x, error %v; want only ErrShort", frame[0], n, len(frame), payload, rest, err)
			}
			if need <= n || need > len(frame) {
				t.Fatalf("type %#x, %d of %d bytes: need %d, want more than there is and at most the frame", frame[0], n, len(frame), need)
			}
		}
	}
}

func TestOnceTheLengthIsReadNeedIsTheWholeFrame(t *testing.T) {
	for _, n := range []int{1, 127, 128, 1<<14 - 1, 1 << 14, 1 << 17, MaxFrame} {
		frame := seal(append(make([]byte, maxPrefix), make([]byte, n)...), 0, TypeData)
		head := len(frame) - n
		if _, _, _, need, err := Next(frame[:head]); need != len(frame) || !errors.Is(err, ErrShort) {
			t.Errorf("head of a frame of %d bytes: need %d, error %v", len(frame), need, err)
		}
	}
}

func TestNextLeavesTheFollowingFrames(t *testing.T) {
	var stream []byte
	for _, g := range golden {
		stream = append(stream, unhex(g.hex)...)
	}
	rest := stream
	for _, g := range golden {
		typ, payload, after, need, err := Next(rest)
		if err != nil || typ != g.t {
			t.Fatalf("%s: type %#x, error %v", g.name, typ, err)
		}
		if want := unhex(g.hex); need != len(want) || !bytes.HasSuffix(want, payload) || len(after) != len(rest)-len(want) {
			t.Fatalf("%s: need %d, payload % x, %d bytes left of %d; frame % x", g.name, need, payload, len(after), len(rest), want)
		}
		if cap(payload) != len(payload) {
			t.Fatalf("%s: an append to the payload would write into the next frame", g.name)
		}
		rest = after
	}
	if len(rest) != 0 {
		t.Fatalf("% x left", rest)
	}
}

func TestNextRefusesWhatNoPeerWrites(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"length 2^62", "11 808080808080808040", ErrTooLong},
		{"length 2^64-1", "11 ffffffffffffffffff01", ErrTooLong},
		{"length MaxFrame+1", "11 81808002", ErrTooLong},
		{"length over 64 bits", "11 ffffffffffffffffff02", ErrMalformed},
		{"length of eleven bytes", "11 8080808080808080808000", ErrMalformed},
		{"zero in two bytes", "09 8000", ErrMalformed},
		{"one in three bytes", "05 818000 05", ErrMalformed},
	} {
		b := unhex(c.hex)
		if _, payload, rest, _, err := Next(b); !errors.Is(err, c.want) || errors.Is(err, ErrShort) || payload != nil || rest != nil {
			t.Errorf("%s: Next(% x) = % x, % x, %v, want %v", c.name, b, payload, rest, err, c.want)
		}
	}
}

// A frame is built in place behind whatever dst holds; its prefix may take fewer bytes than were kept for it.
func TestSealMakesTheSameFrameWhateverRoomDstHas(t *testing.T) {
	before := []byte("before")
	for _, n := range []int{0, 1, 126, 127, 128, 129, 1<<14 - 1, 1 << 14, 1<<14 + 1} {
		payload := bytes.Repeat([]byte("p"), n)
		payload = append(payload, 'q') // so that a shift by one shows
		want := append(binary.AppendUvarint([]byte("before\x11"), uint64(n+1)), payload...)
		for _, room := range []int{0, 1, 2, 3, 4, 5, n, n + 1, n + 4, n + 5, n + 64} {
			dst := append(make([]byte, 0, len(before)+room), before...)
			dst, at := open(dst)
			got := seal(append(dst, payload...), at, TypeData)
			if !bytes.Equal(got, want) {
				t.Fatalf("payload of %d bytes, room for %d: frame differs\n got % .40x\nwant % .40x", n+1, room, got, want)
			}
		}
	}
}

func TestEveryFrameIsTheSameWhateverRoomDstHas(t *testing.T) {
	for _, g := range golden {
		want := append([]byte("before"), unhex(g.hex)...)
		for room := range len(want) {
			dst := append(make([]byte, 0, len("before")+room), "before"...)
			if got := codecs[g.t].write(dst, g.value); !bytes.Equal(got, want) {
				t.Fatalf("%s, room for %d bytes:\n got % x\nwant % x", g.name, room, got, want)
			}
		}
	}
}

func TestTheLargestFrameIsMadeAndALargerOnePanics(t *testing.T) {
	largest := AppendData(nil, Run{}, make([]byte, MaxFrame-4))
	if payload := payloadOf(t, largest, TypeData); len(payload) != MaxFrame {
		t.Errorf("payload of %d bytes, want %d", len(payload), MaxFrame)
	}
	defer func() {
		if recover() == nil {
			t.Error("a frame of MaxFrame+1 bytes was made: no peer would read it")
		}
	}()
	AppendData(nil, Run{}, make([]byte, MaxFrame-3))
}

func TestClipYieldsWhatAStringOfThatLimitMayHold(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abc", 2, "ab"},
		{"abc", 0, ""},
		{"añb", 2, "a"},
		{"añb", 3, "añ"},
		{"日本", 5, "日"},
		{"日本", 2, ""},
		{"a\xffb", 10, "a\uFFFDb"},
		{"a\xffb", 3, "a"},
		{"\x80\x80", 4, "\uFFFD"},
	} {
		if got := Clip(c.in, c.n); got != c.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", c.in, c.n, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s, n := string(rapid.SliceOf(rapid.Byte()).Draw(t, "s")), rapid.IntRange(0, 40).Draw(t, "n")
		if got := Clip(s, n); len(got) > n || !utf8.ValidString(got) {
			t.Fatalf("Clip(%q, %d) = %q", s, n, got)
		}
	})
}
