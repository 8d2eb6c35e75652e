package main

import (
	"context"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"

	"github.com/spf13/cobra"
)

// pushVerb is `peermesh push`.
type pushVerb struct {
	sendFlags
	key        string
	delay      time.Duration
	minPullers int
	detach     bool
}

func pushCommand(a *app) *cobra.Command {
	var v pushVerb
	cmd := &cobra.Command{
		Use:     "push QUEUE [BODY...]",
		GroupID: groupTalk,
		Short:   "Send messages, each to one puller",
		Long: `Sends each BODY, or each line of stdin, to one of the pullers of QUEUE. Ends when every
message is settled: handled by a puller, or its other fate stated.

With --dir messages are kept on disk until they are settled; with --durability memory too, those
that nobody can take yet. What an earlier run has left there is sent on as well, and with --detach
the run ends when everything is on disk: the next one with the same --dir, or peermesh forward,
delivers it.`,
		Args: arguments(1, -1, "a QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), a, cmd, args[0], args[1:]) },
	}
	v.register(cmd, patterns.Block.String(), "best-effort, memory or durable: how much a message survives (default: durable with --dir, else memory)")
	f := cmd.Flags()
	f.StringVar(&v.key, "key", "", "messages of one `key` are handled one after the other")
	f.DurationVar(&v.delay, "delay", 0, "keep each message for that `time` before it is delivered; others pass it (default: none)")
	f.IntVar(&v.minPullers, "min-pullers", 0, "wait for `N` ready pullers first")
	f.BoolVar(&v.detach, "detach", false, "end when everything is on disk; needs --dir")
	return cmd
}

func (v *pushVerb) run(ctx context.Context, a *app, cmd *cobra.Command, queue string, args []string) error {
	opts, m, err := v.check(a, cmd, queue)
	if err != nil {
		return err
	}
	t, err := a.talk(ctx, "push", queue, true)
	if err != nil {
		return err
	}
	f := newFates(t)
	open := t.node.Push
	if a.global.dir != "" && v.level != socket.BestEffort {
		open = f.openKept
	}
	p, err := open(queue, append(opts, f.options()...)...)
	if err != nil {
		return t.end(ending{told: f.close}, err)
	}
	t.ready()
	err = p.WaitReady(t.ctx, v.minPullers)
	if err == nil {
		s := sending{talk: t, socket: p, send: p.SendMessage, fates: f, level: v.level, pace: pacer{rate: v.source.rate},
			keepGoing: v.keepGoing, detach: v.detach}
		if v.level == socket.Durable {
			s.post = func(ctx context.Context, m *socket.Message) (uint64, func(context.Context) error, error) {
				seq, group, err := p.PostWith(ctx, m, func(*spool.Change) {}) // a receipt would be kept until it is settled
				return seq, func(ctx context.Context) error { return p.Stored(ctx, group) }, err
			}
		}
		err = s.all(v.source.open(a, cmd, args), m)
	}
	return t.end(ending{socket: p, abrupt: v.detach, told: f.close, ledger: func() patterns.Ledger { return p.Stats().Ledger }}, err)
}

// check holds the command line to the rules before anything is opened.
func (v *pushVerb) check(a *app, cmd *cobra.Command, queue string) (opts []patterns.Option, m socket.Message, err error) {
	if v.minPullers < 0 {
		return nil, m, usagef("--min-pullers %d is negative; give 0 or more", v.minPullers)
	}
	if err := checkName(wire.Push, queue); err != nil {
		return nil, m, err
	}
	usual := socket.Memory
	if a.global.dir != "" {
		usual = socket.Durable
	}
	if opts, err = v.options(cmd, usual); err != nil {
		return nil, m, err
	}
	switch durable := v.level == socket.Durable; {
	case durable && a.global.dir == "":
		return nil, m, usagef("--durability durable needs a state directory; give --dir too")
	case durable && v.overflow != patterns.Block.String() && v.overflow != patterns.Refuse.String():
		return nil, m, usagef("--overflow %s: what is durable is not dropped; give --durability memory too, or block or refuse", v.overflow)
	case v.detach && a.global.dir == "":
		return nil, m, usagef("--detach needs a state directory in which the messages stay; give --dir too")
	case v.delay < 0 || v.delay > socket.MaxDelay || v.delay > 0 && v.delay < time.Millisecond:
		return nil, m, usagef("--delay %v: from 1ms to %v", v.delay, socket.MaxDelay)
	case v.delay > 0 && v.level == socket.BestEffort:
		return nil, m, usagef("--delay keeps messages here, and --durability %s does not", v.durability)
	case v.detach && !durable:
		return nil, m, usagef("--detach waits until messages are on disk, and --durability %s does not", v.durability)
	}
	m, err = v.message()
	m.Key, m.Delay = v.key, v.delay
	return opts, m, err
}

// checkName holds the name of a queue, channel or service to the rules.
func checkName(kind socket.Kind, name string) error {
	if err := patterns.CheckName(kind, name); err != nil {
		return usagef("%w", err)
	}
	return nil
}
