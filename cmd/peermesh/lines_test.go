package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"peermesh/socket"

	"go.uber.org/goleak"
)

// readLines takes everything a stream holds, lines that are too long as "!".
func readLines(t testing.TB, r io.Reader, separator byte, limit int) ([]string, error) {
	t.Helper()
	s := newLineSource(r, separator, limit)
	defer s.close()
	var got []string
	for {
		line, err := s.next(t.Context())
		switch {
		case errors.Is(err, io.EOF):
			return got, nil
		case errors.Is(err, socket.ErrTooLarge):
			got = append(got, "!")
		case err != nil:
			return got, err
		default:
			got = append(got, string(line))
		}
	}
}

func TestLinesBecomeMessages(t *testing.T) {
	defer goleak.VerifyNone(t)
	long := strings.Repeat("x", 3*lineChunk)
	tests := []struct {
		name, in  string
		separator byte
		want      []string
	}{
		{"nothing", "", '\n', nil},
		{"one", "a\n", '\n', []string{"a"}},
		{"an empty line is an empty message", "a\n\nb\n", '\n', []string{"a", "", "b"}},
		{"only an empty line", "\n", '\n', []string{""}},
		{"carriage returns stay", "a\r\n\r\n", '\n', []string{"a\r", "\r"}},
		{"a last line without its end counts", "a\nb", '\n', []string{"a", "b"}},
		{"NUL", "a\nb\x00\x00c", 0, []string{"a\nb", "", "c"}},
		{"longer than a read", "a\n" + long + "\nb\n", '\n', []string{"a", long, "b"}},
		{"longer than the limit", "a\n" + long + long + "\nb\n" + long + long, '\n', []string{"a", "!", "b", "!"}},
	}
	for _, tt := range tests {
		readers := map[string]io.Reader{"whole": strings.NewReader(tt.in), "data with EOF": iotest.DataErrReader(strings.NewReader(tt.in))}
		if len(tt.in) < 100 {
			readers["byte by byte"] = iotest.OneByteReader(strings.NewReader(tt.in))
		}
		for how, r := range readers {
			got, err := readLines(t, r, tt.separator, 4*lineChunk)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%s, %s: got %.80q, %v; want %.80q", tt.name, how, got, err, tt.want)
			}
		}
	}
}

func TestHalfALineOfAFailedReadIsNoMessage(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader("whole\nhal"), iotest.ErrReader(broken))
	got, err := readLines(t, r, '\n', 100)
	if !errors.Is(err, broken) || !slices.Equal(got, []string{"whole"}) {
		t.Errorf("got %q, %v; want the whole line and the error", got, err)
	}
}

func TestLineSourceLeftInTheMiddleLetsItsReaderGo(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, w := io.Pipe()
	s := newLineSource(r, '\n', 100)
	ctx, cancel := context.WithCancelCause(t.Context())
	told := errors.New("told to leave")
	cancel(told)
	if line, err := s.next(ctx); !errors.Is(err, told) {
		t.Errorf("got %q, %v; want the cause of the context", line, err)
	}
	s.close()
	w.Close()
}

func FuzzLinesAgreeWithSplit(f *testing.F) {
	f.Add([]byte("a\n\nb\r\nc"), 3, byte('\n'))
	f.Add([]byte("a\x00"), 1, byte(0))
	f.Add([]byte("\n\n"), 2, byte('\n'))
	f.Fuzz(func(t *testing.T, in []byte, piece int, separator byte) {
		var want []string
		for _, line := range bytes.SplitAfter(in, []byte{separator}) {
			if len(line) > 0 {
				want = append(want, string(bytes.TrimSuffix(line, []byte{separator})))
			}
		}
		got, err := readLines(t, &piecewise{in, max(piece, 1)}, separator, len(in)+1)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q in pieces of %d at %q: got %q, %v; want %q", in, piece, separator, got, err, want)
		}
	})
}

// piecewise is a reader of pieces.
type piecewise struct {
	rest []byte
	size int
}

func (p *piecewise) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
