package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

// lockedWriter lets several goroutines write whole pieces.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// isTerminal reports whether v, a stream of the process, is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// note tells people on stderr how things go. Scripts that asked for --json, and
// whoever asked for quiet, are spared.
func (a *app) note(format string, args ...any) {
	if !a.global.quiet && !a.global.json {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// oneLine makes a text of any origin fit for one line of a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.TrimRight(s, "\n"))
}

// The colours.
const (
	green = "32"
	red   = "31"
	dim   = "2"
)

// paint colours s for a terminal that wants colour.
func (a *app) paint(colour, s string) string {
	if a.environ["NO_COLOR"] != "" || a.environ["TERM"] == "dumb" || !isTerminal(a.stdout) {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// table prints rows of cells in aligned columns, below a header if there is one. Only
// the last column may be painted: colours count as text in the others.
func table(w io.Writer, header string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if header != "" {
		fmt.Fprintln(t, strings.ReplaceAll(header, " ", "\t"))
	}
	for _, cells := range rows {
		for i, c := range cells {
			if c == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// brief rounds a duration to what a person reads.
func brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Second).String()
}

// reasons are the keys of a ledger's drops, in order.
func reasons(dropped map[string]uint64) []string { return slices.Sorted(maps.Keys(dropped)) }
