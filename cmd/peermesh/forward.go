package main

import (
	"context"
	"errors"

	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/patterns"

	"github.com/spf13/cobra"
)

func forwardCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "forward",
		GroupID: groupTalk,
		Short:   "Deliver what earlier runs have left on disk",
		Long: `Runs the node of --dir until nothing that it keeps there waits or is in hand any more, in any
queue of its namespace. What push --detach has stored, or a push that was ended, is delivered by
this one. Dead letters stay where they are: see peermesh dlq.`,
		Example: `  peermesh push jobs --dir state --detach < lines
  peermesh forward --dir state`,
		Args: arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.forward(cmd.Context()) },
	}
}

func (a *app) forward(ctx context.Context) error {
	if a.global.dir == "" {
		return usagef("give the --dir whose messages are to be delivered")
	}
	t, err := a.talk(ctx, "forward", a.global.dir, true)
	if err != nil {
		return err
	}
	f := newFates(t)
	c, err := openConvoy(t.node, f)
	if err != nil {
		return t.end(ending{told: f.close}, errors.Join(err, c.Close()))
	}
	t.ready()
	return t.end(ending{socket: c, told: f.close, ledger: c.ledger}, c.flush(t.ctx))
}

// carrier is a socket that delivers what is on disk.
type carrier interface {
	closer
	Flush(context.Context) error
	Stats() patterns.SenderStats
}

// convoy is the sockets of all queues and channels of a node.
type convoy []carrier

// openConvoy opens a socket for each queue and each channel on disk that belongs to the
// node's namespace. After an error those that were opened are returned with it.
func openConvoy(n *node.Node, f *fates) (c convoy, err error) {
	for _, q := range n.Spool().Queues() {
		if q.Namespace != n.Namespace() {
			continue
		}
		switch {
		case q.Kind == node.QueuePush && patterns.CheckName(wire.Push, q.Name) == nil:
			p, err := f.openKept(q.Name, f.options()...)
			if err != nil {
				return c, err
			}
			c = append(c, p)
		case q.Kind == node.QueuePub && patterns.CheckName(wire.Pub, q.Name) == nil:
			p, err := n.Pub(q.Name, append(f.options(), patterns.OnLoss(f.lose))...)
			if err != nil {
				return c, err
			}
			c = append(c, p)
		}
	}
	return c, nil
}

// flush waits until nothing is owed, or the first queue fails.
func (c convoy) flush(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	_ = c.each(func(p carrier) error { // the first error is ctx's
		err := p.Flush(ctx)
		if err != nil {
			stop(err)
		}
		return err
	})
	return context.Cause(ctx)
}

// Shutdown is that of all sockets.
func (c convoy) Shutdown(ctx context.Context) error {
	return c.each(func(p carrier) error { return p.Shutdown(ctx) })
}

// Close is that of all sockets.
func (c convoy) Close() error { return c.each(carrier.Close) }

// each calls f for all at once and joins the errors.
func (c convoy) each(f func(carrier) error) error {
	return each(len(c), func(i int) error { return f(c[i]) })
}

// ledger sums those of all sockets.
func (c convoy) ledger() (sum patterns.Ledger) {
	for _, p := range c {
		sum.Add(p.Stats().Ledger)
	}
	return sum
}
