package main

import (
	"context"
	"errors"
	"flag"
	"strconv"
	"time"

	"peermesh/internal/history"
)

// filling is `prove full`: the sender's file system fills up while nobody pulls. It says so at once and lives; what it
// has accepted is delivered when pullers come, and then there is room again.
type filling struct {
	size   int
	bytes  int
	rounds int
}

func fullFlags(f *flag.FlagSet) func(context.Context, *bed) error {
	var v filling
	f.IntVar(&v.size, "size", 8192, "bytes of a message")
	f.IntVar(&v.bytes, "bytes", 48<<20, "bytes of the file system")
	f.IntVar(&v.rounds, "rounds", 2, "fill and drain `N` times")
	return func(ctx context.Context, b *bed) error { return v.play(ctx, b) } // with what the flags will have set
}

// atOnce bounds the time from a Send to its refusal.
const atOnce = time.Second

func (v filling) play(ctx context.Context, b *bed) error {
	if err := needRoot(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("it takes too long"))
	defer cancel()
	small, err := b.mountTmpfs("small", v.bytes)
	if err != nil {
		return err
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	b.run.Drained = true
	for round := range v.rounds {
		if err := v.fill(ctx, b, small, 2*round); err != nil {
			return err
		}
		if err := v.empty(ctx, b, small, addr); err != nil {
			return err
		}
	}
	return v.accept(ctx, b, small, addr)
}

// push starts a sender whose bodies are its own.
func (v filling) push(b *bed, store string, seed, count int, args ...string) (*child, error) {
	return b.start(history.Life{Role: "push", Store: store}, append([]string{queue, "--count", strconv.Itoa(count),
		"--size", strconv.Itoa(v.size), "--seed", strconv.Itoa(seed)}, args...)...)
}

// fill sends until nothing more is taken, and then once more.
func (v filling) fill(ctx context.Context, b *bed, store string, seed int) error {
	for try := range 2 {
		c, err := v.push(b, store, seed+try, 2*v.bytes/v.size, "--detach")
		if err != nil {
			return err
		}
		const storage = 5
		if err := c.finish(ctx, storage); err != nil {
			return err
		}
		b.expect(try > 0 || c.sent.Load() > 0, "%s: %d accepted, then exit code %d", c.name, c.sent.Load(), storage)
		if err := v.refusedAtOnce(b, c); err != nil {
			return err
		}
	}
	return nil
}

// refusedAtOnce looks at how long the sender took to refuse.
func (v filling) refusedAtOnce(b *bed, c *child) error {
	sends, err := events(b, c, "send")
	if err != nil {
		return err
	}
	refused, err := events(b, c, "refused")
	if err != nil {
		return err
	}
	if len(refused) == 0 || len(sends) == 0 {
		b.expect(false, "%s: refused is printed", c.name)
		return nil
	}
	first := refused[0]
	took := time.Duration(first.T - sends[min(int(first.N), len(sends)-1)].T)
	b.expect(first.Def && took <= atOnce, "%s: refused (%s) within %v", c.name, first.Code, took.Round(time.Millisecond))
	return nil
}

// empty delivers all that was accepted.
func (v filling) empty(ctx context.Context, b *bed, store, addr string) error {
	pull, err := b.start(history.Life{Role: "pull", Store: b.path("pull")}, queue, "--listen", addr)
	if err != nil {
		return err
	}
	forward, err := b.start(history.Life{Role: "forward", Store: store}, "--peer", addr)
	if err != nil {
		return err
	}
	if err := forward.finish(ctx, 0); err != nil {
		return err
	}
	return pull.stop(ctx)
}

// accept sends as usual on a file system that was full and has been drained.
func (v filling) accept(ctx context.Context, b *bed, store, addr string) error {
	const count = 100
	c, err := v.push(b, store, 1000, count, "--detach")
	if err != nil {
		return err
	}
	if err := c.finish(ctx, 0); err != nil {
		return err
	}
	b.expect(c.sent.Load() == count, "drained, it accepts again: %d", c.sent.Load())
	return v.empty(ctx, b, store, addr)
}
