package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"peermesh/patterns"

	"github.com/spf13/cobra"
)

func demoCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: groupSee,
		Short:   "Show the main job on this machine: nodes that meet, work, and lose one of them",
		Long: `Runs five nodes on this machine, in a mesh of their own. One sends, publishes and asks; the
others work, subscribe and answer; one of them is a process of its own that is killed half-way,
and one is away for a while. At the end stands the ledger, and whether it is as promised: every
message handled once, and twice only where the killed one had begun it, flagged.

The nodes find each other by mDNS, or where that does not work over loopback. It takes some 15
seconds: a worker that says nothing is given 10 before its work goes elsewhere. Exit code 0 means
that all was as promised.

Without --dir the levels are memory and best-effort. With it each node has a directory of its own
below that one, the jobs are durable, and erik, one more process, sends parcels that are on disk
when he says so: he is killed, and comes back to deliver what he had kept. --mesh, --name,
--namespace, --listen and --peer play no part.`,
		Example: `  peermesh demo
  peermesh demo --json | jq .patterns`,
		Args: arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context()) },
	}
	cmd.AddCommand(workerCommand(a))
	return cmd
}

// demoWithin bounds a whole run: what is not settled by then never will be.
const demoWithin = 55 * time.Second

var errDemoStuck = fmt.Errorf("the demo did not end within %v", demoWithin)

// demo is one run.
type demo struct {
	app   *app
	cast  *demoCast
	diary *diary
	show  *demoShow

	inquiries []*inquiry
	erik      *child        // nil without --dir
	parcels   *parcels      // nil without --dir
	killed    chan struct{} // closed when carl was
	killedAt  time.Time     // set before that
}

// demo runs the demo and prints what came of it.
func (a *app) demo(told context.Context) error {
	ctx, stop := context.WithCancelCause(told)
	defer stop(nil)
	bounded, cancel := context.WithTimeoutCause(ctx, demoWithin, errDemoStuck)
	defer cancel()
	if d := a.global.timeout; d > 0 {
		bounded, cancel = context.WithTimeoutCause(bounded, time.Until(a.began.Add(d)), errTimeout)
		defer cancel()
	}
	a.events.tell(func(err error) { stop(fmt.Errorf("stdout: %w", err)) })
	defer a.events.tell(nil)
	d := &demo{app: a, diary: newDiary(), killed: make(chan struct{})}
	d.show = newDemoShow(a, d.status)
	r, err := d.run(bounded)
	switch {
	case errors.Is(err, errTimeout):
		return failf(exitTimeout, "%v is over and the demo is not", a.global.timeout)
	case err != nil && told.Err() != nil:
		return failf(exitFailed, "told to leave before the end")
	case err != nil:
		return openError(a.global, err)
	}
	a.events.emit("summary", r)
	if a.events == nil {
		if err := a.printDemo(r); err != nil {
			return err
		}
	}
	if n := len(r.Faults); n > 0 {
		return failf(exitFailed, "not as promised (%d): %s", n, r.Faults[0])
	}
	return nil
}

// run lets everybody meet and play, and then looks at what came of it. It leaves
// nothing behind.
func (d *demo) run(ctx context.Context) (r *demoResult, err error) {
	began := time.Now()
	if d.cast, err = assemble(ctx, d.app, d.diary.write); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.cast.close())
		}
	}()
	for _, ready := range d.cast.ready() {
		d.app.events.emit("ready", ready)
	}
	d.show.say("demo", "office, anna, ben and dora run here, carl is process %d; they found each other by %s in %s",
		d.cast.carl.pid(), d.found(), brief(time.Since(began)))
	if d.cast.durable() {
		if err := d.startErik(ctx); err != nil {
			return nil, err
		}
	}
	if err := d.play(ctx); err != nil {
		return nil, err
	}
	r = d.result()
	r.Took = time.Since(began)
	return r, d.cast.leave(ctx)
}

// play runs all scenes at once, until all have ended or one has failed.
func (d *demo) play(ctx context.Context) error {
	d.inquiries = []*inquiry{
		{service: demoPrice, req: d.cast.price, patience: patterns.DefaultDeadline},
		{service: demoBook, req: d.cast.book, patience: bookWithin},
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var showing, playing sync.WaitGroup
	watched, unwatch := context.WithCancel(ctx)
	showing.Go(func() { d.show.run(watched) })
	scenes := []func(context.Context) error{d.shareWork, d.awayAndBack, d.spreadNews, d.answerQuestions, d.killOne}
	if d.cast.durable() {
		scenes = append(scenes, d.keepParcels)
	}
	for _, scene := range scenes {
		playing.Go(func() {
			if err := scene(ctx); err != nil {
				stop(err)
			}
		})
	}
	playing.Wait()
	unwatch()
	showing.Wait()
	return context.Cause(ctx)
}

// found says how the nodes met.
func (d *demo) found() string {
	if d.cast.mdns {
		return "mDNS"
	}
	return "static peers on loopback"
}

// status is how things stand, in a line.
func (d *demo) status() string {
	line := fmt.Sprintf("push/pull %d of %d done | pub/sub %d of %d | req/rep", d.diary.ended(demoJobs)+d.diary.ended(demoLetters),
		jobCount+letterCount, d.diary.ended(annaWants)+d.diary.ended(benWants), len(expected(annaWants))+len(expected(benWants)))
	for _, a := range d.inquiries {
		done, asked := a.progress()
		line += fmt.Sprintf(" %s %d of %d", a.service, done, asked)
	}
	select {
	case <-d.killed:
		line += fmt.Sprintf(" | carl is dead since %d s", int(time.Since(d.killedAt).Seconds()))
	default:
	}
	return line
}
