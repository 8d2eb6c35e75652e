package main

import (
	"context"

	"peermesh/internal/topic"
	"peermesh/internal/wire"
	"peermesh/patterns"

	"github.com/spf13/cobra"
)

// subVerb is `peermesh sub`.
type subVerb struct {
	receiveFlags
	count   uint64
	durable string
	from    string
	nul     bool
}

func subCommand(a *app) *cobra.Command {
	var v subVerb
	cmd := &cobra.Command{
		Use:     "sub CHANNEL [PATTERN...]",
		GroupID: groupTalk,
		Short:   "Subscribe to topics and print the bodies that come",
		Long: `Prints the body of each message of CHANNEL whose topic matches a PATTERN. In a pattern * is
exactly one token and > at the end one or more; no pattern is every topic. Quote them from the shell.

With --durable the publishers keep what this subscription has not handled, for its name: while it
is away, and over their own restarts. They need a --dir for that, and so does a subscriber that is
to remember what it has handled. Several subscribers of one name share its messages.`,
		Args: arguments(1, -1, "a CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd.Context(), a, cmd, args[0], args[1:]) },
	}
	v.register(cmd)
	f := cmd.Flags()
	f.Uint64Var(&v.count, "count", 0, "end after `N` messages (default: none)")
	f.StringVar(&v.durable, "durable", "", "`name` of a subscription that publishers keep (default: none, it lasts as long as this process)")
	f.StringVar(&v.from, "from", "new", "where a durable subscription begins at a publisher that does not know it, `new`, earliest or last: the retained values")
	f.BoolVarP(&v.nul, "null", "0", false, "end bodies with NUL, not with a line break")
	return cmd
}

func (v *subVerb) run(ctx context.Context, a *app, cmd *cobra.Command, channel string, topics []string) error {
	opts, err := v.check(cmd, channel, topics)
	if err != nil {
		return err
	}
	t, err := a.talk(ctx, "sub", channel, false)
	if err != nil {
		return err
	}
	r := newReceiver(t, &v.receiveFlags)
	s, err := t.node.Sub(channel, append(opts, r.options(true)...)...)
	if err != nil {
		return t.end(ending{}, err)
	}
	t.ready()
	w := taking{receiver: r, socket: s, count: v.count, separator: separator(v.nul), most: 1}
	err = w.all()
	return t.end(ending{socket: s, after: w.finish, seen: s.Stats}, err)
}

// check holds the command line to the rules before anything is opened.
func (v *subVerb) check(cmd *cobra.Command, channel string, topics []string) ([]patterns.Option, error) {
	from, known := map[string]patterns.Position{"new": patterns.New, "earliest": patterns.Earliest, "last": patterns.LastValue}[v.from]
	switch {
	case !known:
		return nil, usagef("--from %q: new, earliest or last", v.from)
	case v.durable == "" && cmd.Flags().Changed("durable"):
		return nil, usagef("--durable needs a name, by which the subscription is found again, as in --durable dash")
	case v.durable == "" && from != patterns.New:
		return nil, usagef("--from %s is for a subscription that publishers keep; give it a name with --durable too", v.from)
	case v.count == 0 && cmd.Flags().Changed("count"):
		return nil, usagef("--count 0 has nothing to do; leave it out to go on without end")
	}
	if err := checkName(wire.Sub, channel); err != nil {
		return nil, err
	}
	if len(topics) > wire.MaxPatterns {
		return nil, usagef("%d patterns, at most %d", len(topics), wire.MaxPatterns)
	}
	if _, err := topic.ParseAll(topics); err != nil {
		return nil, usagef("%w", err)
	}
	opts, err := v.options(cmd)
	if v.durable != "" {
		opts = append(opts, patterns.DurableName(v.durable), patterns.From(from))
	}
	return append(opts, patterns.Topics(topics...)), err
}
