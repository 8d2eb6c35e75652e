package main

import (
	"context"
	"errors"
	"flag"
	"strconv"
	"time"

	"peermesh/internal/history"
)

// requesting is `prove requests`: repliers are killed while they execute. Each request has one outcome, which is true,
// and what may be executed once at most is.
type requesting struct {
	kills    int
	repliers int
	count    int
	rate     int
	level    string
	deadline time.Duration
}

func requestsFlags(f *flag.FlagSet) func(context.Context, *bed) error {
	var r requesting
	f.IntVar(&r.kills, "kills", 50, "at least `N` kills of a replier")
	f.IntVar(&r.repliers, "repliers", 2, "so many repliers")
	f.IntVar(&r.count, "count", 30_000, "requests")
	f.IntVar(&r.rate, "rate", 1000, "requests a second")
	f.StringVar(&r.level, "level", "once", "idempotent, once or once-durable")
	f.DurationVar(&r.deadline, "deadline", 2*time.Second, "time for each request")
	return func(ctx context.Context, b *bed) error { return r.play(ctx, b) } // with what the flags will have set
}

// executions is the file in which all repliers note what they execute.
const executions = "executions.log"

func (r requesting) play(ctx context.Context, b *bed) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("it takes too long"))
	defer cancel()
	var cast []*actor
	args := []string{queue, "--count", strconv.Itoa(r.count), "--rate", strconv.Itoa(r.rate), "--level", r.level, "--concurrency", "256",
		"--deadline", r.deadline.String()}
	for i := range r.repliers {
		addr, err := freeAddr()
		if err != nil {
			return err
		}
		args = append(args, "--peer", addr)
		cast = append(cast, &actor{role: "rep", store: b.path("rep-" + strconv.Itoa(i+1)), args: func() []string {
			return []string{queue, "--listen", addr, "--echo", "--exec-log", executions}
		}})
	}
	b.run.ExecLogs = []string{executions}
	for _, a := range cast {
		if err := a.begin(b); err != nil {
			return err
		}
	}
	requester, err := b.start(history.Life{Role: "req", Store: b.path("req"), Level: r.level}, args...)
	if err != nil {
		return err
	}
	kills, err := r.fire(ctx, b, cast, requester)
	if err != nil {
		return err
	}
	b.expect(kills >= r.kills, "%d kills", kills)
	return r.figures(b, requester)
}

// fire kills repliers until the requester has all its outcomes.
func (r requesting) fire(ctx context.Context, b *bed, cast []*actor, requester *child) (kills int, err error) {
	for {
		next := time.NewTimer(b.between(50*time.Millisecond, 800*time.Millisecond))
		select {
		case <-requester.ended:
			next.Stop()
			const someFailed = 1
			if end := requester.wait(); end.How == history.Exited && end.Code <= someFailed {
				return kills, nil
			}
			return kills, requester.alive()
		case <-ctx.Done():
			next.Stop()
			return kills, context.Cause(ctx)
		case <-next.C:
		}
		a := cast[b.random.IntN(len(cast))]
		if err := a.child.alive(); err != nil {
			return kills, err
		}
		a.child.kill()
		kills++
		if err := a.begin(b); err != nil {
			return kills, err
		}
	}
}

// figures shows what came of the requests.
func (r requesting) figures(b *bed, requester *child) error {
	replies, err := events(b, requester, "reply")
	if err != nil {
		return err
	}
	outcomes := map[string]int{}
	for _, e := range replies {
		outcomes[e.Outcome]++
	}
	b.expect(len(replies) == r.count, "%d requests, %d outcomes", r.count, len(replies))
	b.expect(outcomes["ok"]*2 > r.count, "%d ok, %d failed, %d in doubt", outcomes["ok"], outcomes["failed"], outcomes["indeterminate"])
	return nil
}
