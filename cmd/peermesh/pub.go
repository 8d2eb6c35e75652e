package main

import (
	"context"
	"errors"
	"time"

	"peermesh/internal/topic"
	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/spf13/cobra"
)

// pubVerb is `peermesh pub`.
type pubVerb struct {
	sendFlags
	minSubscribers int
	retain         bool
	detach         bool
}

func pubCommand(a *app) *cobra.Command {
	var v pubVerb
	cmd := &cobra.Command{
		Use:     "pub CHANNEL TOPIC [BODY...]",
		GroupID: groupTalk,
		Short:   "Publish messages to every subscription that matches a topic",
		Long: `Publishes each BODY, or each line of stdin, under TOPIC to every subscription of CHANNEL that
matches it. Waits for a peer, and then a moment for a subscription. Ends when every subscriber
has what it is owed. A subscriber that is slower than stdin loses the oldest messages, and is
told so; --overflow block waits for the slowest instead.

With --dir messages are kept on disk for the durable subscriptions that match (sub --durable) until
each has handled them. With --detach the run ends when everything is on disk: the next one with the
same --dir, or peermesh forward, delivers it.`,
		Args: arguments(2, -1, "a CHANNEL and a TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return v.run(cmd.Context(), a, cmd, args[0], args[1], args[2:])
		},
	}
	v.register(cmd, patterns.DropOldest.String(), "best-effort, memory or durable: how much a message survives (default: durable with --dir, else memory)")
	f := cmd.Flags()
	f.IntVar(&v.minSubscribers, "min-subscribers", 0, "wait for `N` ready subscriptions that match first")
	f.BoolVar(&v.retain, "retain", false, "keep the last message as the topic's value; needs --dir")
	f.BoolVar(&v.detach, "detach", false, "end when everything is on disk; needs --dir")
	return cmd
}

func (v *pubVerb) run(ctx context.Context, a *app, cmd *cobra.Command, channel, name string, args []string) error {
	opts, m, err := v.check(a, cmd, channel, name)
	if err != nil {
		return err
	}
	t, err := a.talk(ctx, "pub", channel, true)
	if err != nil {
		return err
	}
	f := newFates(t)
	p, err := t.node.Pub(channel, append(opts, f.options()...)...)
	if err != nil {
		return t.end(ending{told: f.close}, err)
	}
	t.ready()
	switch {
	case cmd.Flags().Changed("min-subscribers"):
		err = p.WaitMatching(t.ctx, name, v.minSubscribers)
	case !v.detach:
		err = t.awaitSubscriber(p, name)
	}
	if err == nil {
		send := p.PublishMessage
		if v.retain {
			send = p.PublishRetained
		}
		s := sending{talk: t, socket: p, send: send, fates: f, level: v.level, pace: pacer{rate: v.source.rate},
			keepGoing: v.keepGoing, detach: v.detach}
		err = s.all(v.source.open(a, cmd, args), m)
	}
	return t.end(ending{socket: p, abrupt: v.detach, told: f.close, ledger: func() patterns.Ledger { return p.Stats().Ledger }}, err)
}

// check holds the command line to the rules before anything is opened.
func (v *pubVerb) check(a *app, cmd *cobra.Command, channel, name string) (opts []patterns.Option, m socket.Message, err error) {
	if v.minSubscribers < 0 {
		return nil, m, usagef("--min-subscribers %d is negative; give 0 or more", v.minSubscribers)
	}
	if err := checkName(wire.Pub, channel); err != nil {
		return nil, m, err
	}
	if err := topic.Check(name); err != nil {
		return nil, m, usagef("%w", err)
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
	case v.retain && !durable:
		return nil, m, usagef("--retain keeps the value on disk; give --dir too")
	case v.detach && !durable:
		return nil, m, usagef("--detach leaves messages on disk; give --dir too")
	}
	m, err = v.message()
	m.Topic = name
	return opts, m, err
}

// settleIn is how long a first peer has to show a subscription before messages are
// published to nobody.
const settleIn = time.Second

var errNobody = errors.New("no subscription")

// awaitSubscriber waits for a peer, and from then on for a subscription that matches,
// but not for long: nobody subscribed is a state of affairs, no peer yet is not.
func (t *talk) awaitSubscriber(p *patterns.Pub, name string) error {
	ctx, cancel := context.WithCancelCause(t.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-t.met:
			if pause(ctx, settleIn) == nil {
				cancel(errNobody)
			}
		case <-ctx.Done():
		}
	}()
	err := p.WaitMatching(ctx, name, 1)
	cancel(nil)
	<-done
	if errors.Is(err, errNobody) {
		t.app.note("pub: no subscription of %s matches %s", oneLine(t.name), oneLine(name))
		return nil
	}
	return err
}
