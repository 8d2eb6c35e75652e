package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"

	"peermesh/internal/history"
)

// killing is `prove kill`: a sender and pullers live for a while that is drawn, are killed, and begin a new life.
type killing struct {
	kills, pushKills, pullKills int
	pullers                     int
	rate                        int
	size                        int
	perKill                     int
	drain                       time.Duration
}

func killFlags(f *flag.FlagSet) func(context.Context, *bed) error {
	var k killing
	f.IntVar(&k.kills, "kills", 300, "at least `N` kills")
	f.IntVar(&k.pushKills, "push-kills", 100, "at least `N` of them of the sender")
	f.IntVar(&k.pullKills, "pull-kills", 100, "at least `N` of them of a puller")
	f.IntVar(&k.pullers, "pullers", 2, "so many pullers; order is promised to one alone")
	f.IntVar(&k.rate, "rate", 2000, "messages a second")
	f.IntVar(&k.size, "size", 100, "bytes of a message")
	f.IntVar(&k.perKill, "per-kill", 50, "at least `N` deliveries for each kill on average, else it shows nothing")
	f.DurationVar(&k.drain, "drain", 2*time.Minute, "time in which all must have drained after the last kill")
	return func(ctx context.Context, b *bed) error { return k.play(ctx, b) } // with what the flags will have set
}

// actor is one that is killed and begins anew.
type actor struct {
	role  string
	store string
	args  func() []string
	child *child
	dies  time.Time
	kills int
	brief int // lives of less than half a second
}

func (k killing) play(ctx context.Context, b *bed) error {
	cast, err := k.cast(b)
	if err != nil {
		return err
	}
	if err := k.fire(ctx, b, cast); err != nil {
		return err
	}
	if err := drain(ctx, b, cast, k.drain); err != nil {
		return err
	}
	k.figures(b, cast)
	return nil
}

// cast makes the sender, which is the first, and the pullers.
func (k killing) cast(b *bed) ([]*actor, error) {
	push := &actor{role: "push", store: b.path("push")}
	cast := []*actor{push}
	var peers []string
	for i := range k.pullers {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		peers = append(peers, "--peer", addr)
		cast = append(cast, &actor{role: "pull", store: b.path("pull-" + strconv.Itoa(i+1)), args: k.pulls(b, addr)})
	}
	lives := 0
	push.args = func() []string {
		lives++ // each life sends bodies of its own
		return append([]string{queue, "--count", "100000000", "--size", strconv.Itoa(k.size), "--seed", strconv.Itoa(lives),
			"--rate", strconv.Itoa(k.rate)}, peers...)
	}
	return cast, nil
}

// pulls draws how a puller works in its next life: one by one or many at a time, quickly or slowly.
func (k killing) pulls(b *bed, addr string) func() []string {
	return func() []string {
		ways := [][]string{
			{},
			{"--concurrency", "8", "--work", "2ms"},
			{"--concurrency", "64", "--work", "10ms", "--prefetch", "128"},
			{"--prefetch", "16"},
		}
		return append([]string{queue, "--listen", addr}, ways[b.random.IntN(len(ways))]...)
	}
}

// lifetime draws how long a life lasts: a third of the lives are over within half a second, which is before much is
// ready.
func (k killing) lifetime(b *bed) (d time.Duration, brief bool) {
	switch b.random.IntN(20) {
	case 0, 1, 2, 3, 4, 5, 6, 7, 8: // more than a third, to be sure
		return b.between(10*time.Millisecond, 480*time.Millisecond), true
	case 9, 10, 11, 12, 13, 14, 15:
		return b.between(500*time.Millisecond, 1500*time.Millisecond), false
	}
	return b.between(1500*time.Millisecond, 3*time.Second), false
}

// begin starts the next life of an actor.
func (a *actor) begin(b *bed) (err error) {
	a.child, err = b.start(history.Life{Role: a.role, Store: a.store}, a.args()...)
	return err
}

// begin starts a life whose end is drawn.
func (k killing) begin(b *bed, a *actor) error {
	life, brief := k.lifetime(b)
	a.dies = time.Now().Add(life)
	if brief {
		a.brief++
	}
	return a.begin(b)
}

// fire kills until there were enough kills of everybody.
func (k killing) fire(ctx context.Context, b *bed, cast []*actor) error {
	for _, a := range cast {
		if err := k.begin(b, a); err != nil {
			return err
		}
	}
	for told := 0; !k.enough(cast); {
		next := cast[0]
		for _, a := range cast {
			if a.dies.Before(next.dies) {
				next = a
			}
		}
		if err := pause(ctx, time.Until(next.dies)); err != nil {
			return err
		}
		if err := next.child.alive(); err != nil {
			return err
		}
		next.child.kill()
		next.kills++
		if err := k.begin(b, next); err != nil {
			return err
		}
		if push, pull := kills(cast); push+pull >= told+50 {
			told = push + pull
			b.doing("%d kills", told)
		}
	}
	for _, a := range cast {
		a.child.kill()
		a.kills++
	}
	return nil
}

// kills counts them.
func kills(cast []*actor) (push, pull int) {
	for _, a := range cast {
		if a.role == "push" {
			push += a.kills
		} else {
			pull += a.kills
		}
	}
	return push, pull
}

func (k killing) enough(cast []*actor) bool {
	push, pull := kills(cast)
	return push >= k.pushKills && pull >= k.pullKills && push+pull >= k.kills
}

// drain lets everybody live until nothing is owed any more.
func drain(ctx context.Context, b *bed, cast []*actor, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errors.New("not everything has drained in time"))
	defer cancel()
	b.run.Drained, b.run.Healed, b.run.Within = true, monotonic(), int64(within)
	var pullers []*child
	var peers []string
	for _, a := range cast[1:] {
		args := a.args()
		c, err := b.start(history.Life{Role: a.role, Store: a.store}, args...)
		if err != nil {
			return err
		}
		pullers = append(pullers, c)
		peers = append(peers, "--peer", args[2])
	}
	f, err := b.start(history.Life{Role: "forward", Store: cast[0].store}, peers...)
	if err != nil {
		return err
	}
	b.doing("draining")
	if err := f.finish(ctx, 0); err != nil {
		return err
	}
	for _, c := range pullers {
		if err := c.stop(ctx); err != nil {
			return err
		}
	}
	return nil
}

// figures are what makes the run worth something.
func (k killing) figures(b *bed, cast []*actor) {
	push, pull := kills(cast)
	var delivered int64
	for _, c := range b.children {
		delivered += c.delivered.Load()
	}
	brief := 0
	for _, a := range cast {
		brief += a.brief
	}
	all := push + pull
	b.expect(push >= k.pushKills && pull >= k.pullKills && all >= k.kills, "%d kills, %d of the sender and %d of pullers", all, push, pull)
	b.expect(float64(brief) >= k.share()*float64(all), "%d of %d lives lasted less than half a second", brief, all)
	b.expect(delivered >= int64(k.perKill*all), "%d deliveries, %.0f for each kill", delivered, float64(delivered)/float64(max(all, 1)))
}

// share is the part of the lives that must have been brief.
func (k killing) share() float64 {
	if k.kills < 100 {
		return 0 // too few to tell
	}
	return 1. / 3
}

// pause waits, or ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped: %w", context.Cause(ctx))
	}
}
