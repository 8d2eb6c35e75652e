package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"
)

// piping is `prove pipeline`: numbers pass through a pipeline of processes, each of which acks what it took, sends it
// on and counts it in one transaction. All of them are killed in turn, and in the end all have counted each number
// once.
//
//	source --> stage --> stage --> stage --> sink
type piping struct {
	kills   int
	hops    int
	rate    float64
	perKill int
	drain   time.Duration
}

func pipelineFlags(f *flag.FlagSet) func(context.Context, *bed) error {
	var v piping
	f.IntVar(&v.kills, "kills", 100, "kill `N` times, everybody about as often")
	f.IntVar(&v.hops, "hops", 3, "stages between source and sink")
	f.Float64Var(&v.rate, "rate", 300, "numbers a second")
	f.IntVar(&v.perKill, "per-kill", 20, "at least `N` numbers at the sink for each kill on average, else it shows nothing")
	f.DurationVar(&v.drain, "drain", 2*time.Minute, "time in which all must be counted after the last kill")
	return func(ctx context.Context, b *bed) error { return v.play(ctx, b) } // with what the flags will have set
}

func (v piping) play(ctx context.Context, b *bed) error {
	line, err := v.line(b)
	if err != nil {
		return err
	}
	for _, a := range line {
		if err := a.take(b); err != nil {
			return err
		}
	}
	if err := v.fire(ctx, b, line); err != nil {
		return err
	}
	steps := stepsOf(b)
	made, err := v.drained(ctx, b, line)
	if err != nil {
		return err
	}
	return v.figures(ctx, b, line, made, steps)
}

// line makes the parts of the pipeline. Each listens where the one before it looks.
func (v piping) line(b *bed) ([]*actor, error) {
	var line []*actor
	next := ""
	for i := v.hops + 1; i >= 0; i-- { // from the sink back to the source
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		from, to := []string{"--from", "hop-" + strconv.Itoa(i)}, []string{"--to", "hop-" + strconv.Itoa(i+1), "--peer", next}
		role, args := "stage", []string{"--listen", addr}
		switch i {
		case v.hops + 1:
			role, args = "sink", append(args, from...)
		case 0:
			role, args = "source", append(append(args, to...), "--rate", fmt.Sprint(v.rate))
		default:
			args = append(append(args, from...), to...)
		}
		next = addr
		line = append([]*actor{{role: role, store: b.path("part-" + strconv.Itoa(i)), args: func() []string { return args }}}, line...)
	}
	return line, nil
}

// take starts the next life of a part.
func (a *actor) take(b *bed) (err error) {
	a.child, err = b.play(a.role, a.store, a.args()...)
	return err
}

// fire kills in rounds in which everybody's turn comes once. A third of those who begin anew are killed again at once,
// which is before much is ready.
func (v piping) fire(ctx context.Context, b *bed, line []*actor) error {
	var round []int
	for kills := 0; kills < v.kills; {
		if len(round) == 0 {
			round = b.random.Perm(len(line))
		}
		if err := pause(ctx, b.between(20*time.Millisecond, 1500*time.Millisecond)); err != nil {
			return err
		}
		a := line[round[0]]
		round = round[1:]
		for again := true; again && kills < v.kills; {
			if err := a.killed(b); err != nil {
				return err
			}
			if kills++; kills%50 == 0 {
				b.doing("%d kills", kills)
			}
			if again = b.random.IntN(3) == 0 && kills < v.kills; again {
				a.brief++
				if err := pause(ctx, b.between(5*time.Millisecond, 300*time.Millisecond)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// killed kills a part, which must not have ended by itself, and starts its next life.
func (a *actor) killed(b *bed) error {
	if err := a.child.alive(); err != nil {
		return err
	}
	a.child.kill()
	a.kills++
	return a.take(b)
}

// stepsOf is how many numbers have been counted at the sink so far, as far as was told.
func stepsOf(b *bed) (n int64) {
	for _, c := range b.children {
		if c.role == "sink" {
			n += c.steps.Load()
		}
	}
	return n
}

// drained lets the source make no more and the rest go on, until the sink has counted as much as was made; then it has
// everybody end.
func (v piping) drained(ctx context.Context, b *bed, line []*actor) (made tally, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, v.drain, errors.New("not everything has come to the end in time"))
	defer cancel()
	first, last := line[0], line[len(line)-1]
	if err := first.child.stop(ctx); err != nil {
		return made, err
	}
	if made, err = b.tally(ctx, first.store); err != nil {
		return made, err
	}
	args := first.args()
	args[len(args)-1] = "0"
	if first.child, err = b.play(first.role, first.store, args...); err != nil {
		return made, err
	}
	b.doing("draining")
	if err := last.child.until(ctx, func() bool { return last.child.furthest.Load() >= int64(made.Count) }); err != nil {
		return made, err
	}
	for _, a := range line {
		if err := a.child.stop(ctx); err != nil {
			return made, err
		}
	}
	return made, nil
}

// tally is what the part with that state directory has counted.
func (b *bed) tally(ctx context.Context, store string) (t tally, err error) {
	c, err := b.play("tally", store)
	if err != nil {
		return t, err
	}
	if err := c.finish(ctx, 0); err != nil {
		return t, err
	}
	text, err := os.ReadFile(c.log())
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(text, &t)
}

// figures holds all tallies to what was made.
func (v piping) figures(ctx context.Context, b *bed, line []*actor, made tally, steps int64) error {
	kills, brief := 0, 0
	for i, a := range line {
		kills, brief = kills+a.kills, brief+a.brief
		t, err := b.tally(ctx, a.store)
		if err != nil {
			return err
		}
		b.expect(t.Count == made.Count && t.Kinds == made.Count && t.Highest == made.Count && t.Again == 0,
			"part %d, a %s, killed %d times: %d of %d numbers counted, %d different ones up to %d, %d twice",
			i, a.role, a.kills, t.Count, made.Count, t.Kinds, t.Highest, t.Again)
	}
	b.expect(kills == v.kills, "%d kills, %d of them in the first 300 ms of a life", kills, brief)
	b.expect(steps >= int64(v.perKill*v.kills), "%d numbers came to the end between kills, %.0f for each", steps, float64(steps)/float64(max(kills, 1)))
	return nil
}
