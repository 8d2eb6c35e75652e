package zmtp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

// golden are frames as RFC 37 draws them.
var golden = []struct {
	name  string
	bytes string
	frame frame
}{
	{"a short last frame", "00 02 6869", frame{body: []byte("hi")}},
	{"an empty frame with more to come", "01 00", frame{more: true, body: []byte{}}},
	{"a long frame", "02 0000000000000100" + strings.Repeat("61", 256), frame{body: bytes.Repeat([]byte("a"), 256)}},
	{"a long frame with more to come", "03 0000000000000100" + strings.Repeat("61", 256), frame{more: true, body: bytes.Repeat([]byte("a"), 256)}},
	{"PING with a time to live of 1 s", "04 09 04 50494e47 000a 6869", frame{command: true, body: []byte("\x04PING\x00\x0ahi")}},
	{"PONG", "04 07 04 504f4e47 6869", frame{command: true, body: []byte("\x04PONGhi")}},
	{"SUBSCRIBE", "04 0b 09 535542534352494245 61", frame{command: true, body: []byte("\x09SUBSCRIBEa")}},
	{"CANCEL", "04 08 06 43414e43454c 61", frame{command: true, body: []byte("\x06CANCELa")}},
	{
		"READY of a DEALER, the worked example", "04 29 05 5245414459" +
			"0b 536f636b65742d54797065 00000006 4445414c4552" + "08 4964656e74697479 00000000",
		frame{command: true, body: []byte("\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00")},
	},
}

func unhex(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f frame) flags() (flags byte) {
	if f.more {
		flags |= flagMore
	}
	if f.command {
		flags |= flagCommand
	}
	return flags
}

func TestFramesAreAsTheRFCDrawsThem(t *testing.T) {
	for _, g := range golden {
		want := unhex(t, g.bytes)
		if got := appendFrame(nil, g.frame.flags(), g.frame.body); !bytes.Equal(got, want) {
			t.Errorf("%s: got % x, want % x", g.name, got, want)
		}
		f, n, err := parseFrame(append(slices.Clone(want), 0xaa), 1<<20)
		if err != nil || n != len(want) || f.more != g.frame.more || f.command != g.frame.command || !bytes.Equal(f.body, g.frame.body) {
			t.Errorf("%s: got %+v, %d bytes, %v", g.name, f, n, err)
		}
		for cut := range want {
			if f, n, err := parseFrame(want[:cut], 1<<20); n != 0 || err != nil {
				t.Errorf("%s, %d of %d bytes: got %+v, %d, %v; want to be asked for more", g.name, cut, len(want), f, n, err)
			}
		}
	}
}

func TestCommandsAreAsTheRFCDrawsThem(t *testing.T) {
	if got, want := appendPing(nil, 10, []byte("hi")), unhex(t, golden[4].bytes); !bytes.Equal(got, want) {
		t.Errorf("PING: got % x, want % x", got, want)
	}
	if got, want := appendCommand(nil, cmdSubscribe, []byte("a")), unhex(t, golden[6].bytes); !bytes.Equal(got, want) {
		t.Errorf("SUBSCRIBE: got % x, want % x", got, want)
	}
	ready := appendProperty(appendProperty(nil, property{"Socket-Type", "DEALER"}), property{"Identity", ""})
	if got, want := appendCommand(nil, cmdReady, ready), unhex(t, golden[8].bytes); !bytes.Equal(got, want) {
		t.Errorf("READY: got % x, want % x", got, want)
	}
}

func TestBadFramesAreRefusedBeforeAnythingIsAllocated(t *testing.T) {
	for _, c := range []struct {
		bytes string
		want  error
	}{
		{"08 00", errReserved},
		{"80 00", errReserved},
		{"05 00", errMoreCommand},
		{"02 4000000000000000", errTooLarge},
		{"02 ffffffffffffffff", errTooLarge},
		{"06 7fffffffffffffff", errTooLarge},
		{"00 65", errTooLarge},
	} {
		b := unhex(t, c.bytes)
		if _, _, err := parseFrame(b, 100); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.bytes, err, c.want)
		}
		if n := testing.AllocsPerRun(10, func() { _, _, _, _ = parseHead(b, 100) }); n > 6 { // the error's text
			t.Errorf("%s: %v allocations", c.bytes, n)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, g := range golden {
		f.Add(unhex(f, g.bytes))
	}
	f.Add([]byte("\x02\x40\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, n, err := parseFrame(b, 1<<16)
		if err != nil || n == 0 {
			return
		}
		if n > len(b) || len(fr.body) > 1<<16 {
			t.Fatalf("%d bytes of %d, a body of %d", n, len(b), len(fr.body))
		}
		again, _, err := parseFrame(appendFrame(nil, fr.flags(), fr.body), 1<<16)
		if err != nil || again.more != fr.more || again.command != fr.command || !bytes.Equal(again.body, fr.body) {
			t.Fatalf("%+v comes back as %+v, %v", fr, again, err)
		}
		if fr.command {
			if c, err := parseCommand(fr.body); err == nil {
				_, _ = parseMetadata(c.data)
				_, _, _ = parsePing(c.data)
			}
		}
	})
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("hello"))
	f.Add(slices.Clone(magic))
	f.Add(Join([]byte("a"), []byte("b")))
	f.Add(Join(Join([]byte("a"), nil)))
	f.Add(Join(Join(Join([]byte("a"), nil))))
	f.Fuzz(func(t *testing.T, body []byte) {
		parts := Split(body)
		if len(parts) == 0 {
			t.Fatal("no parts")
		}
		if got := Join(parts...); !bytes.Equal(got, body) {
			t.Fatalf("%x is split into %x, and joined to %x", body, parts, got)
		}
		// Any bytes are the parts of some message, too.
		var cut [][]byte
		for rest := body; ; {
			n := 0
			if len(rest) > 0 {
				n = min(int(rest[0])%7, len(rest))
			}
			cut = append(cut, rest[:n])
			if rest = rest[max(n, min(1, len(rest))):]; len(rest) == 0 {
				break
			}
		}
		if got := Split(Join(cut...)); !slices.EqualFunc(got, cut, bytes.Equal) {
			t.Fatalf("%x comes back as %x", cut, got)
		}
	})
}

func TestPartsAndBodiesAreInverse(t *testing.T) {
	for _, parts := range [][][]byte{
		{[]byte("one")},
		{nil},
		{[]byte("two"), []byte("parts")},
		{nil, nil, nil},
		{magic},
		{Join([]byte("a"), []byte("b"))},
		{Join(Join([]byte("a"), []byte("b")))},
		{bytes.Repeat([]byte("x"), 300), nil, bytes.Repeat([]byte("y"), 255)},
	} {
		body := Join(parts...)
		if got := Split(body); !slices.EqualFunc(got, parts, bytes.Equal) {
			t.Errorf("%x becomes %x", parts, got)
		}
	}
	deep := []byte("x")
	for range 100_000 {
		deep = append(slices.Clone(magic), appendFrame(nil, 0, deep[:min(len(deep), 60)])...)
	}
	if got := Join(Split(deep)...); !bytes.Equal(got, deep) {
		t.Errorf("%d bytes nested deep do not come back", len(deep))
	}
}

func TestPublicationsAndPartsAreInverse(t *testing.T) {
	for _, c := range []struct {
		parts [][]byte
		topic string
		whole bool
	}{
		{[][]byte{[]byte("zurich.temp"), []byte("21")}, "zurich.temp", false},
		{[][]byte{[]byte("zurich.temp"), nil}, "zurich.temp", false},
		{[][]byte{[]byte("a"), []byte("b"), []byte("c")}, "a", false},
		{[][]byte{[]byte("10001 21 60")}, "10001 21 60", true},
		{[][]byte{nil}, TopicBinary, true},
		{[][]byte{nil, []byte("x")}, TopicBinary, true},
		{[][]byte{[]byte("a.*"), []byte("x")}, "a", true},
		{[][]byte{[]byte("a..b"), []byte("x")}, "a", true},
		{[][]byte{[]byte(".b"), []byte("x")}, TopicBinary, true},
		{[][]byte{[]byte("prefix:a"), []byte("x")}, TopicBinary, true},
		{[][]byte{{0, 1, 2}, []byte("x")}, TopicBinary, true},
		{[][]byte{[]byte("ab\xff"), []byte("x")}, "ab", true},
		{[][]byte{bytes.Repeat([]byte("a"), 300), []byte("x")}, strings.Repeat("a", 255), true},
		{[][]byte{[]byte(strings.Repeat("a.", 40)), []byte("x")}, strings.TrimSuffix(strings.Repeat("a.", 32), "."), true},
	} {
		m := Publication(c.parts...)
		if _, whole := m.Headers[HeaderWhole]; m.Topic != c.topic || whole != c.whole {
			t.Errorf("%q: got topic %q, whole %v; want %q, %v", c.parts, m.Topic, whole, c.topic, c.whole)
		}
		if got := Parts(m); !slices.EqualFunc(got, c.parts, bytes.Equal) {
			t.Errorf("%q comes back as %q", c.parts, got)
		}
	}
}
