package main

import (
	"context"
	"errors"
	"flag"
	"time"

	"peermesh/internal/history"
)

// cutting is `prove power`: sender and puller have a disk each, and again and again the power of one or both is cut.
// Whoever loses his disk is stopped first, so that nothing he has printed is younger than the cut; then he is killed,
// and lives again on what the disk has kept.
type cutting struct {
	cuts  int
	rate  int
	size  int
	drain time.Duration
}

func powerFlags(f *flag.FlagSet) func(context.Context, *bed) error {
	var p cutting
	f.IntVar(&p.cuts, "cuts", 50, "cut `N` times")
	f.IntVar(&p.rate, "rate", 1000, "messages a second")
	f.IntVar(&p.size, "size", 200, "bytes of a message")
	f.DurationVar(&p.drain, "drain", 2*time.Minute, "time in which all must have drained after the last cut")
	return func(ctx context.Context, b *bed) error { return p.play(ctx, b) } // with what the flags will have set
}

// powered is an actor on a disk of its own.
type powered struct {
	*actor
	disk *disk
}

const diskBytes = 1 << 30

func (p cutting) play(ctx context.Context, b *bed) error {
	if err := needRoot(); err != nil {
		return err
	}
	cast, err := (killing{pullers: 1, rate: p.rate, size: p.size}).cast(b)
	if err != nil {
		return err
	}
	var all []powered
	for _, a := range cast {
		d, err := b.newDisk(ctx, a.role+"-disk", diskBytes)
		if err != nil {
			return err
		}
		a.store = d.dir + "/state"
		all = append(all, powered{a, d})
		if err := a.begin(b); err != nil {
			return err
		}
	}
	for i := range p.cuts {
		if err := pause(ctx, b.between(100*time.Millisecond, 1200*time.Millisecond)); err != nil {
			return err
		}
		if err := p.cut(ctx, b, p.hit(b, all)); err != nil {
			return err
		}
		if (i+1)%10 == 0 {
			b.doing("%d cuts", i+1)
		}
	}
	for _, a := range cast {
		a.child.kill()
	}
	if err := drain(ctx, b, cast, p.drain); err != nil {
		return err
	}
	cuts := 0
	for _, l := range b.run.Lives {
		if l.End.How == history.PowerCut {
			cuts++
		}
	}
	b.expect(cuts >= p.cuts, "%d cuts, after which %d lives lost their disk", p.cuts, cuts)
	return nil
}

// hit draws who loses his disk: the sender, the puller, or both.
func (p cutting) hit(b *bed, all []powered) []powered {
	switch b.random.IntN(3) {
	case 0:
		return all[:1]
	case 1:
		return all[1:]
	}
	return all
}

// cut cuts the power of some, and lets them begin again.
func (p cutting) cut(ctx context.Context, b *bed, hit []powered) error {
	for _, a := range hit {
		if err := errors.Join(a.child.alive(), a.child.freeze()); err != nil {
			return err
		}
	}
	for _, a := range hit {
		if err := a.disk.cut(); err != nil {
			return err
		}
		a.child.kill()
		b.run.Lives[a.child.index].End = history.End{How: history.PowerCut}
	}
	for _, a := range hit {
		if err := a.disk.again(ctx); err != nil {
			return err
		}
		if err := a.begin(b); err != nil {
			return err
		}
	}
	return nil
}
