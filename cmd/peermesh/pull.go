package main

import (
	"context"
	"errors"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"

	"github.com/spf13/cobra"
)

// pullVerb is `peermesh pull`.
type pullVerb struct {
	receiveFlags
	execFlags
	count       uint64
	ack         string
	work        time.Duration
	failEvery   uint64
	concurrency int
	nul         bool
}

func pullCommand(a *app) *cobra.Command {
	var v pullVerb
	cmd := &cobra.Command{
		Use:     "pull QUEUE",
		GroupID: groupTalk,
		Short:   "Take messages of a queue and print their bodies",
		Long: `Takes messages of QUEUE and prints each body on a line, or runs a command for each. A message
is acknowledged once it is printed, or the command has ended well; otherwise somebody else gets it.`,
		Args: arguments(1, 1, "one QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), a, cmd, args[0]) },
	}
	v.receiveFlags.register(cmd)
	v.execFlags.register(cmd, "run `command` for each message, body on its stdin; exit 0 acknowledges")
	f := cmd.Flags()
	f.Uint64Var(&v.count, "count", 0, "end after `N` messages (default: none)")
	f.StringVar(&v.ack, "ack", "auto", "`how`, auto or never: never leaves messages unanswered, so that others get them at the end")
	f.DurationVar(&v.work, "work", 0, "`time` that each message takes")
	f.Uint64Var(&v.failEvery, "fail-every", 0, "give each `N`th delivery back as failed")
	f.IntVar(&v.concurrency, "concurrency", 1, "handle `N` messages at a time")
	f.BoolVarP(&v.nul, "null", "0", false, "end bodies with NUL, not with a line break")
	return cmd
}

func (v *pullVerb) run(ctx context.Context, a *app, cmd *cobra.Command, queue string) error {
	opts, err := v.check(cmd, queue)
	if err != nil {
		return err
	}
	program, err := v.execFlags.open(cmd, a.stderr)
	if err != nil {
		return err
	}
	log, err := v.openLog()
	if err != nil {
		return err
	}
	w := taking{count: v.count, never: v.ack == "never", failEvery: v.failEvery, separator: separator(v.nul), work: v.work,
		program: program, log: log, most: v.concurrency}
	return errors.Join(v.take(ctx, a, queue, opts, &w), log.close())
}

// take opens the socket and lets w take messages from it.
func (v *pullVerb) take(ctx context.Context, a *app, queue string, opts []patterns.Option, w *taking) error {
	t, err := a.talk(ctx, "pull", queue, false)
	if err != nil {
		return err
	}
	w.receiver = newReceiver(t, &v.receiveFlags)
	p, err := t.node.Pull(queue, append(opts, w.options(true)...)...)
	if err != nil {
		return t.end(ending{}, err)
	}
	t.ready()
	w.socket = p
	err = w.all()
	return t.end(ending{socket: p, abrupt: w.never, after: w.finish, seen: p.Stats}, err)
}

// check holds the command line to the rules before anything is opened.
func (v *pullVerb) check(cmd *cobra.Command, queue string) ([]patterns.Option, error) {
	if err := checkName(wire.Pull, queue); err != nil {
		return nil, err
	}
	switch {
	case v.ack != "auto" && v.ack != "never":
		return nil, usagef("--ack %q: auto or never", v.ack)
	case v.work < 0:
		return nil, usagef("--work %v is negative; give a time like 20ms", v.work)
	case v.concurrency < 1 || v.concurrency > 1<<16:
		return nil, usagef("--concurrency %d: 1 to 65536", v.concurrency)
	case v.count == 0 && cmd.Flags().Changed("count"):
		return nil, usagef("--count 0 has nothing to do; leave it out to go on without end")
	case v.log != "" && v.command == "":
		return nil, usagef("--exec-log is for --exec; give that too")
	}
	return v.options(cmd)
}

// separator is what ends a message in a text stream.
func separator(nul bool) byte {
	if nul {
		return 0
	}
	return '\n'
}
