package main

import (
	"context"
	"errors"
	"flag"
	"slices"
	"strconv"
	"time"

	"peermesh/internal/history"
)

// backlog is `prove backlog`: all is stored before anybody is there to take it. After a process that is killed while it
// stores more, such a store is open again in no time; then all is delivered once and in order, and the disk is given
// back.
type backlog struct {
	count   int
	more    int
	size    int
	opening time.Duration
	left    int64
}

func backlogFlags(f *flag.FlagSet) func(context.Context, *bed) error {
	var v backlog
	f.IntVar(&v.count, "count", 1_000_000, "messages")
	f.IntVar(&v.more, "more", 20_000, "at least so many more in each life that is killed")
	f.IntVar(&v.size, "size", 600, "bytes of each")
	f.DurationVar(&v.opening, "opening", 300*time.Millisecond, "time in which the store must be open again, process start included")
	f.Int64Var(&v.left, "left", 2<<20, "bytes that the drained store may take")
	return func(ctx context.Context, b *bed) error { return v.play(ctx, b) } // with what the flags will have set
}

// givenBack is how soon after the last message the disk must have been given back.
const givenBack = 2 * time.Second

func (v backlog) play(ctx context.Context, b *bed) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("it takes too long"))
	defer cancel()
	b.run.Drained = true
	store := b.path("push")
	began := time.Now()
	push, err := b.start(history.Life{Role: "push", Store: store}, queue, "--detach", "--count", strconv.Itoa(v.count),
		"--size", strconv.Itoa(v.size))
	if err != nil {
		return err
	}
	if err := push.finish(ctx, 0); err != nil {
		return err
	}
	size, err := allocated(store)
	if err != nil {
		return err
	}
	b.found("stored %d messages in %v, %d MB", push.sent.Load(), time.Since(began).Round(time.Millisecond), size>>20)
	stored := push.sent.Load()
	if err := v.reopen(ctx, b, store, &stored); err != nil {
		return err
	}
	return v.deliver(ctx, b, store, stored)
}

// reopen kills a process that stores more, and measures how long the next one takes to open the store. The machine may
// be busy with other things, so the best of a few counts.
func (v backlog) reopen(ctx context.Context, b *bed, store string, stored *int64) error {
	var took []time.Duration
	for i := range 5 {
		push, err := b.start(history.Life{Role: "push", Store: store}, queue, "--detach", "--count", "100000000", "--size", strconv.Itoa(v.size),
			"--seed", strconv.Itoa(i+1))
		if err != nil {
			return err
		}
		if err := push.until(ctx, func() bool { return push.sent.Load() >= int64(v.more) }); err != nil {
			return err
		}
		push.kill()
		*stored += push.sent.Load()
		c, err := b.start(history.Life{Role: "forward", Store: store})
		if err != nil {
			return err
		}
		if err := c.ready(ctx); err != nil {
			return err
		}
		took = append(took, c.opening.Round(time.Millisecond))
		c.kill()
	}
	best := slices.Min(took)
	b.expect(best <= v.opening, "opened within %v after kill -9, at most %v, with %d messages waiting; %v", best, v.opening, *stored, took)
	return nil
}

// deliver has everything delivered, and watches the disk. What a killed process was about to store may be there or not.
func (v backlog) deliver(ctx context.Context, b *bed, store string, stored int64) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	began := time.Now()
	pull, err := b.start(history.Life{Role: "pull", Store: b.path("pull")}, queue, "--listen", addr, "--concurrency", "256")
	if err != nil {
		return err
	}
	// The disk must be given back while the store is open, so the sender stays until its stdin ends.
	push, release, err := b.hold(history.Life{Role: "push", Store: store}, queue, "--peer", addr)
	if err != nil {
		return err
	}
	if err := pull.until(ctx, func() bool { return pull.done.Load() >= stored }); err != nil {
		return errors.Join(err, release())
	}
	last := time.Now()
	took := last.Sub(began)
	b.found("delivered in %v, %.0f a second", took.Round(time.Millisecond), float64(stored)/took.Seconds())
	if err := errors.Join(v.shrinks(ctx, b, store, last), release()); err != nil {
		return err
	}
	if err := push.finish(ctx, 0); err != nil {
		return err
	}
	b.expect(pull.delivered.Load() >= stored, "%d messages known to be stored, %d deliveries", stored, pull.delivered.Load())
	return pull.stop(ctx)
}

// shrinks waits until the disk has been given back.
func (v backlog) shrinks(ctx context.Context, b *bed, store string, since time.Time) error {
	for {
		size, err := allocated(store)
		if err != nil {
			return err
		}
		took := time.Since(since)
		if size <= v.left || took > givenBack {
			b.expect(size <= v.left, "%d kB on disk %v after the last message", size>>10, took.Round(time.Millisecond))
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
