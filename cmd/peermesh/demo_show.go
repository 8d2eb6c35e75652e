package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// demoShow tells people on stderr how the demo goes: what has happened, a line each,
// and on a terminal how things stand, in a last line that is written over and over.
type demoShow struct {
	app    *app
	out    *os.File // the terminal; nil: there is none
	status func() string

	mu    sync.Mutex
	drawn bool
}

func newDemoShow(a *app, status func() string) *demoShow {
	s := &demoShow{app: a, status: status}
	if l, ok := a.stderr.(*lockedWriter); ok && isTerminal(l.w) && a.environ["TERM"] != "dumb" && !a.global.quiet && !a.global.json {
		s.out = l.w.(*os.File)
	}
	return s
}

// say tells what has happened, in the words of one pattern.
func (s *demoShow) say(pattern, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	label := fmt.Sprintf("%-9s", pattern)
	if s.out != nil {
		label = s.app.paint(dim, label)
	}
	s.app.note("%s  %s", label, fmt.Sprintf(format, args...))
}

// run draws the last line until ctx ends.
func (s *demoShow) run(ctx context.Context) {
	if s.out == nil {
		return
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.draw()
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			s.erase()
			return
		}
	}
}

// draw writes the last line anew, cut to the terminal's width: it could not be erased
// if it took two.
func (s *demoShow) draw() {
	line := s.status()
	if width, _, err := term.GetSize(int(s.out.Fd())); err == nil && len(line) >= width {
		line = line[:max(width-1, 0)]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	fmt.Fprint(s.app.stderr, line)
	s.drawn = true
}

// erase takes the last line away. s.mu must be held.
func (s *demoShow) erase() {
	if s.drawn {
		fmt.Fprint(s.app.stderr, "\r\x1b[K")
		s.drawn = false
	}
}

// printDemo prints what came of the demo: per pattern the two sides of its ledger and
// what happened, and at the end whether that is as promised.
func (a *app) printDemo(r *demoResult) error {
	var text strings.Builder
	for _, p := range r.patterns() {
		fmt.Fprintf(&text, "%-9s  %s\n", p.name, sides(p.Ledger))
		for _, line := range p.story {
			fmt.Fprintf(&text, "%-9s  %s\n", "", line)
		}
	}
	levels := strings.Join(r.Levels[:max(len(r.Levels)-1, 0)], ", ") + " and " + strings.Join(r.Levels[max(len(r.Levels)-1, 0):], "")
	fmt.Fprintf(&text, "demo       %d nodes, found by %s; levels %s; %s\n", r.Nodes, r.Discovery, levels, brief(r.Took))
	if dir := a.global.dir; dir != "" {
		fmt.Fprintf(&text, "           each node's directory is in %s\n", dir)
	}
	for _, f := range r.Faults {
		fmt.Fprintf(&text, "%s      %s\n", a.paint(red, "fault"), f)
	}
	if r.OK {
		fmt.Fprintf(&text, "%s         nothing was lost, and nothing was done twice but what carl had begun, flagged\n", a.paint(green, "ok"))
	}
	_, err := io.WriteString(a.stdout, text.String())
	return err
}
