package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"peermesh/internal/insight"
	"peermesh/node"

	"github.com/spf13/cobra"
)

func eventsCommand(a *app) *cobra.Command {
	return followCommand(a, "events", "What happens at a node: peers, refusals, messages that fail",
		`Prints what happened lately at the node that runs with --dir DIR, or at its peer --node NAME, and
what happens from now on, until told to leave: peers that come, go or are refused; messages that
handlers give back, that die or expire; sends that are refused. --timeout ends it too.`,
		`  peermesh events --dir state
  peermesh events --dir state --node resizer-1 --json`)
}

func logsCommand(a *app) *cobra.Command {
	return followCommand(a, "logs", "The log of a node, here or elsewhere in the mesh",
		`Prints the last lines of the log of the node that runs with --dir DIR, or of its peer --node NAME,
whatever its own --log-level, and the lines to come, until told to leave. --timeout ends it too.`,
		`  peermesh logs --dir state
  peermesh logs --dir state --node resizer-1`)
}

func followCommand(a *app, verb, short, long, example string) *cobra.Command {
	var s seeing
	cmd := &cobra.Command{
		Use:     verb,
		GroupID: groupSee,
		Short:   short,
		Long:    long + " Without\n--dir a new node asks, for which it needs the address of one: --peer, or mDNS.",
		Example: example,
		Args:    arguments(0, 0, "no arguments"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runFollow(cmd.Context(), a, &s, verb) },
	}
	s.registerNode(cmd)
	return cmd
}

func runFollow(ctx context.Context, a *app, s *seeing, verb string) (err error) {
	if a.global.dir == "" && s.node == "" {
		return usagef("%s needs --dir of a running node, or --node of a peer: peermesh peers lists them", verb)
	}
	from, err := s.open(ctx, a, verb)
	if err != nil {
		return unlessTold(ctx, err)
	}
	defer func() { err = errors.Join(err, from.close()) }()
	if d := a.global.timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return unlessTold(ctx, from.follow(ctx, s.node, verb == "logs", a.showNews))
}

// showNews prints what happened.
func (a *app) showNews(n node.News) error {
	switch {
	case n.Event != nil:
		a.events.emit("peer", n.Event)
		return a.line(ago(n.Event.AgeMs) + eventText(*n.Event))
	case n.Decision != nil:
		a.events.emit("decision", n.Decision)
		return a.line(ago(n.Decision.AgeMs) + decisionText(*n.Decision))
	}
	a.events.emit("log", struct {
		Line string `json:"line"`
	}{n.Log})
	return a.line(oneLine(n.Log))
}

// ago is when something happened, by this host's clock.
func ago(ms int64) string {
	return time.Now().Add(-time.Duration(ms) * time.Millisecond).Format("15:04:05.000 ")
}

func eventText(e insight.Event) string {
	who := oneLine(e.Name)
	if who == "" {
		who = "unknown"
	}
	text := fmt.Sprintf("peer %s %s at %s %s", who, shortID(e.ID), e.Addr, e.State)
	if e.Code != "" {
		text += " (" + oneLine(e.Code) + ")"
	}
	if e.Remote {
		text += " by the other side"
	}
	if e.Reason != "" {
		text += ": " + oneLine(e.Reason)
	}
	return text
}

func decisionText(d insight.Decision) string {
	text := d.Kind + " " + oneLine(d.Name)
	if d.Seq > 0 {
		text += fmt.Sprintf("/%d", d.Seq)
	}
	text += " " + d.What
	if d.Code != "" {
		text += " (" + oneLine(d.Code) + ")"
	}
	if d.By != "" {
		text += " by " + shortID(d.By)
	}
	if d.Text != "" {
		text += ": " + oneLine(d.Text)
	}
	return text
}
