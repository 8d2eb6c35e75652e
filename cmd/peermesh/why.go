package main

import (
	"context"
	"errors"
	"strings"

	"peermesh/internal/insight"
	"peermesh/node"

	"github.com/spf13/cobra"
)

func whyCommand(a *app) *cobra.Command {
	var s seeing
	cmd := &cobra.Command{
		Use:     "why QUEUE/SEQ | NAME | NODE",
		GroupID: groupSee,
		Short:   "Why a message, a queue or service, or a node is as it is, and what helps",
		Long: `Says the cause in a sentence, the evidence for it, and a cure. It asks the node that runs with
--dir DIR, and that one asks the others it is linked to; --node NAME has that peer reason instead.
Without --dir a new node looks around for --timeout (3s) first.

QUEUE/SEQ is a message: push --json prints its seq. NAME is a queue, channel or service. NODE is a
node's name, id or address. Exit code 0 when nothing is wrong, otherwise 1.`,
		Example: `  peermesh why jobs/17 --dir state
  peermesh why jobs --dir state
  peermesh why resizer-1 --peer 10.0.0.5:4000`,
		Args: arguments(1, 1, "one QUEUE/SEQ, NAME or NODE"),
		RunE: func(cmd *cobra.Command, args []string) error { return runWhy(cmd.Context(), a, &s, args[0]) },
	}
	s.registerNode(cmd)
	return cmd
}

func runWhy(ctx context.Context, a *app, s *seeing, question string) (err error) {
	from, err := s.open(ctx, a, "why")
	if err != nil {
		return unlessTold(ctx, err)
	}
	defer func() { err = errors.Join(err, from.close()) }()
	if ctx.Err() != nil {
		return nil // told to leave
	}
	found, err := from.why(ctx, s.node, question)
	if err != nil {
		return unlessTold(ctx, err)
	}
	return a.showAnswer(found)
}

func (a *app) showAnswer(found node.Answer) error {
	a.events.emit("why", found)
	lines := []string{"why: " + oneLine(found.Cause)}
	for _, e := range found.Evidence {
		lines = append(lines, "  seen: "+oneLine(e))
	}
	if found.Cure != "" {
		lines = append(lines, "  cure: "+a.paint(green, oneLine(found.Cure)))
	}
	if err := a.line(strings.Join(lines, "\n")); err != nil {
		return err
	}
	if found.Code != insight.CodeOK {
		return failf(exitFailed, "%s: %s", oneLine(found.Subject), found.Code)
	}
	return nil
}
