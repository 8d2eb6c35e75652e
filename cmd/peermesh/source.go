package main

import (
	"context"
	"io"
	"math"
	"time"

	"peermesh/node"

	"github.com/spf13/cobra"
)

// source yields the bodies to send, one after the other. A body is valid until the
// following call. io.EOF ends it, and so does the cause of ctx. Whoever opened it
// closes it.
type source interface {
	next(ctx context.Context) ([]byte, error)
	close()
}

// sourceFlags say what to send: arguments win over --count over stdin.
type sourceFlags struct {
	count uint64
	size  int
	seed  uint64
	rate  float64
	nul   bool
}

func (s *sourceFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint64Var(&s.count, "count", 0, "generate `N` bodies")
	f.IntVar(&s.size, "size", 100, "of that many `bytes` each, with --count")
	f.Uint64Var(&s.seed, "seed", 0, "other bodies for another `number`, with --count")
	f.Float64Var(&s.rate, "rate", 0, "send at most `R` messages a second")
	f.BoolVarP(&s.nul, "null", "0", false, "messages on stdin end with NUL, not with a line break")
}

// maxBody is the longest body that a node takes by default.
const maxBody = node.DefaultMaxMessage

func (s *sourceFlags) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	switch {
	case s.size < 0 || s.size > maxBody:
		return usagef("--size %d: 0 to %d bytes", s.size, maxBody)
	case s.rate < 0 || math.IsNaN(s.rate):
		return usagef("--rate %v: a number of messages a second", s.rate)
	case !given("count") && (given("size") || given("seed")):
		return usagef("--size and --seed are for generated bodies; give --count too")
	}
	return nil
}

// open returns the source that args and flags ask for.
func (s *sourceFlags) open(a *app, cmd *cobra.Command, args []string) source {
	switch {
	case len(args) > 0:
		list := argumentSource(args)
		return &list
	case cmd.Flags().Changed("count"):
		return &generatedSource{bodies: bodies{seed: s.seed}, count: s.count, size: s.size}
	}
	if isTerminal(a.stdin) {
		a.note("one message a line; Ctrl-D ends")
	}
	separator := byte('\n')
	if s.nul {
		separator = 0
	}
	return newLineSource(a.stdin, separator, maxBody)
}

// argumentSource sends the command line's arguments.
type argumentSource []string

func (s *argumentSource) next(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(*s) == 0 {
		return nil, io.EOF
	}
	body := []byte((*s)[0])
	*s = (*s)[1:]
	return body, nil
}

func (s *argumentSource) close() {}

// generatedSource makes bodies up.
type generatedSource struct {
	bodies  bodies
	n       uint64
	count   uint64
	size    int
	scratch []byte
}

func (s *generatedSource) next(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.n == s.count {
		return nil, io.EOF
	}
	s.scratch = s.bodies.append(s.scratch[:0], s.n, s.size)
	s.n++
	return s.scratch, nil
}

func (s *generatedSource) close() {}

// pacer holds a source to a rate: message n goes out n/rate seconds after the first,
// and what is late catches up.
type pacer struct {
	rate  float64 // 0: as fast as it goes
	began time.Time
	n     int64
}

// wait blocks until the next message is due, or ctx ends.
func (p *pacer) wait(ctx context.Context) error {
	if p.rate == 0 {
		return nil
	}
	if p.n == 0 {
		p.began = time.Now()
	}
	due := p.began.Add(time.Duration(float64(p.n) / p.rate * float64(time.Second)))
	p.n++
	return pause(ctx, time.Until(due))
}

// pause waits for d, or ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
