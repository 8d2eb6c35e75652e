package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"peermesh/internal/insight"
	"peermesh/internal/probe"
	"peermesh/node"

	"github.com/spf13/cobra"
)

func doctorCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		GroupID: groupSee,
		Short:   "What stands in the way on this host: network, clock, certificate, disk",
		Long: `Measures what a node needs and prints a line for each check, with its cure: UDP to each known
address and the largest packets that get through, socket buffers, GSO, GRO and ECN, multicast on each
interface, the clock, the certificate, refusals, and with --dir the disk and the spool.

It asks the node that runs with --dir DIR; if none does, and without --dir, a new node looks around
for --timeout (3s). Exit code 1 if a check fails; what only warns works, and less well than it could.`,
		Example: `  peermesh doctor --dir state
  peermesh doctor --peer 10.0.0.5:4000 --json`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context()) },
	}
}

// maxProbed bounds the addresses that the doctor probes.
const maxProbed = 16

func (a *app) doctor(ctx context.Context) error {
	failed := 0
	show := func(checks ...insight.Check) error {
		for _, c := range checks {
			a.events.emit("check", c)
			if c.Verdict == insight.Fail {
				failed++
			}
			if err := a.line(a.checkText(c)); err != nil {
				return err
			}
		}
		return nil
	}
	visits := []func(context.Context, insight.Sight) []insight.Check{
		func(context.Context, insight.Sight) []insight.Check {
			return []insight.Check{probe.Buffers(insight.WantedBuffer), probe.Offload()}
		},
		func(ctx context.Context, _ insight.Sight) []insight.Check {
			return probe.Multicast(ctx, net.Interfaces)
		},
		func(ctx context.Context, s insight.Sight) []insight.Check {
			return probe.Addresses(ctx, a.addresses(s))
		},
		func(_ context.Context, s insight.Sight) []insight.Check { return insight.CheckPeers(s) },
		func(context.Context, insight.Sight) []insight.Check { return a.checkState() },
	}
	seen, first, err := a.examine(ctx)
	if err != nil {
		return unlessTold(ctx, err)
	}
	if err := show(first...); err != nil {
		return err
	}
	for _, visit := range visits {
		select {
		case <-ctx.Done():
			return nil // told to leave
		default:
		}
		if err := show(visit(ctx, seen)...); err != nil {
			return err
		}
	}
	if failed > 0 {
		return failf(exitFailed, "%d checks failed", failed)
	}
	return nil
}

func (a *app) checkText(c insight.Check) string {
	colour := map[insight.Verdict]string{insight.Fine: green, insight.Fail: red, insight.Warn: red, insight.Skip: dim}[c.Verdict]
	text := oneLine(c.Name) + ": " + oneLine(c.Text)
	if c.Cure != "" {
		text += "; cure: " + oneLine(c.Cure)
	}
	return a.paint(colour, string(c.Verdict)) + strings.Repeat(" ", 5-len(c.Verdict)) + text
}

// examine looks at the node of --dir or a new one: what it sees, its certificate, its clock beside those of its peers,
// and its spool.
func (a *app) examine(ctx context.Context) (seen insight.Sight, checks []insight.Check, err error) {
	views, err := a.views(ctx)
	if err != nil {
		if _, told := errors.AsType[*failure](err); told && ctx.Err() == nil && exitCode(err) != exitUsage {
			return seen, []insight.Check{{Name: "node", Verdict: insight.Fail, Code: "node", Text: err.Error(),
				Cure: "put that right first: no node can run like this"}}, nil
		}
		return seen, nil, err
	}
	seen = views[0]
	now := time.Now()
	clock := insight.Clock{Now: now, Unsynced: probe.ClockUnsynced()}
	if a.global.dir != "" {
		clock.Newest = probe.Newest(a.global.dir)
	}
	for _, v := range views[1:] {
		clock.Peers = append(clock.Peers, insight.Skew{Name: v.Status.Name, By: time.Duration(v.Status.WallMs-now.UnixMilli()) * time.Millisecond})
	}
	checks = append(checks, insight.CheckCertificate(seen.Status.Mesh, time.UnixMilli(seen.Status.ExpiresMs), now, nil), insight.CheckClock(clock))
	if seen.Status.Disk != nil {
		checks = append(checks, insight.CheckSpool(*seen.Status.Disk))
	}
	return seen, checks, nil
}

// views are what the node of --dir and its peers see, or a new node that looks around: of --dir if nobody runs there.
func (a *app) views(ctx context.Context) ([]view, error) {
	if a.global.dir != "" {
		far := &farSight{newControlClient(a.global.dir)}
		views, err := far.topology(ctx)
		if err := errors.Join(err, far.close()); err == nil || exitCode(err) != exitUnreachable {
			return views, err
		}
	}
	n, err := node.Open(ctx, a.nodeConfig())
	if err != nil {
		return nil, failf(exitCode(err), "%w", openError(a.global, err))
	}
	patience := lookFor
	if a.global.timeout > 0 {
		patience = a.global.timeout
	}
	a.note("looking around for %v", patience)
	_ = pause(ctx, patience) // who was told to leave sees to that
	return n.Topology(ctx), n.Close()
}

// addresses are those worth a probe: of --peer, and those that were heard of and did not come to a link.
func (a *app) addresses(s insight.Sight) (out []string) {
	out = slices.Clone(a.global.peers)
	for _, c := range s.Candidates {
		out = append(out, c.Addr)
	}
	for _, p := range s.Peers {
		out = append(out, p.Addr)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxProbed)]
}

// checkState looks at the disk below the state directory.
func (a *app) checkState() []insight.Check {
	if a.global.dir == "" {
		return []insight.Check{{Name: "disk", Verdict: insight.Skip, Text: "no --dir: nothing is kept on disk"}}
	}
	return []insight.Check{insight.CheckDisk(probe.Disk(a.global.dir))}
}
