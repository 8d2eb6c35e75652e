package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// discoverVerb is `peermesh discover`.
type discoverVerb struct {
	explain bool
	once    bool
}

func discoverCommand(a *app) *cobra.Command {
	var v discoverVerb
	cmd := &cobra.Command{
		Use:     "discover",
		GroupID: groupSee,
		Short:   "Addresses where nodes may be, and what came of trying each",
		Long: `Prints each address that the node of --dir, or a new node, has heard of and what came of it, as
it happens and until told to leave. --once looks around for --timeout (3s), prints all and ends.`,
		Example: `  peermesh discover --dir state
  peermesh discover --once --explain`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return v.run(cmd.Context(), a) },
	}
	cmd.Flags().BoolVar(&v.explain, "explain", false, "also what stands in the way, and what to do about it")
	cmd.Flags().BoolVar(&v.once, "once", false, "print what is known and end")
	return cmd
}

// discoverEvery is how often a watching discover looks for news.
const discoverEvery = 250 * time.Millisecond

func (v *discoverVerb) run(ctx context.Context, a *app) (err error) {
	s, patience, err := a.openSight(ctx, "discover")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if v.once {
		if pause(ctx, patience) != nil {
			return nil // told to leave
		}
		seen, err := s.look(ctx, "")
		if err != nil {
			return err
		}
		return v.show(a, seen)
	}
	if d := a.global.timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return v.follow(ctx, a, s)
}

// show prints everything known.
func (v *discoverVerb) show(a *app, seen view) error {
	var rows [][]string
	for _, c := range seen.Candidates {
		a.events.emit("candidate", c)
		rows = append(rows, a.candidateRow(c))
	}
	if v.explain {
		for _, p := range seen.Problems {
			a.events.emit("problem", p)
		}
	}
	if a.events != nil {
		return nil
	}
	if len(rows) == 0 {
		a.note("no address is known; --peer host:port names one")
	}
	if err := table(a.stdout, "ADDRESS SOURCE INTERFACE NODE VERDICT", rows); err != nil || !v.explain {
		return err
	}
	return v.reasons(a, seen)
}

// reasons prints what stands in the way and what helps.
func (v *discoverVerb) reasons(a *app, seen view) error {
	var lines []string
	for _, p := range seen.Problems {
		lines = append(lines, "problem: "+problemText(p))
	}
	for _, c := range seen.Candidates {
		if cure := cures[c.Code]; cure != "" {
			lines = append(lines, c.Addr+": "+cure)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := a.stdout.Write([]byte(strings.Join(slices.Compact(lines), "\n") + "\n"))
	return err
}

// cures say what to do about a refusal, by its code.
var cures = map[string]string{
	"mesh":        "if the two nodes belong together, give both the same --mesh FILE",
	"certificate": "look at --mesh on the other side: it shows no certificate of this mesh",
	"expired":     "look at the clocks of both hosts; on a machine that joined run: peermesh cert renew",
	"identity":    "look who has that address now: it is not the node that was expected there",
	"version":     "update the older of the two: they have no protocol version in common",
	"policy":      "ask for a rule that allows it: the policy does not; peermesh policy test WHO VERB NAME tries one",
	"duplicate":   "end one of the two processes with that identity; was a state directory copied?",
	"incarnation": "start that node again: its state directory is older than what this one remembers of it",
}

func (a *app) candidateRow(c candidateView) []string {
	verdict, colour := oneLine(c.Verdict), red
	switch {
	case verdict == "":
		verdict, colour = "not tried yet", dim
	case verdict == "linked":
		colour = green
	case c.Code != "":
		verdict = "refused (" + oneLine(c.Code) + "): " + verdict
	}
	return []string{c.Addr, c.Source, oneLine(c.Interface), c.Node, a.paint(colour, verdict)}
}

// follow prints what is new, line by line, until ctx ends.
func (v *discoverVerb) follow(ctx context.Context, a *app, s sight) error {
	told := map[string]string{} // by address, source and interface: the last row printed
	for wait := time.Duration(0); pause(ctx, wait) == nil; wait = discoverEvery {
		seen, err := s.look(ctx, "")
		if err != nil {
			return unlessTold(ctx, err)
		}
		now := map[string]string{}
		for _, c := range seen.Candidates {
			key := strings.Join([]string{c.Addr, c.Source, c.Interface}, " ")
			row := a.candidateRow(c)
			now[key] = strings.Join(row, "  ")
			if now[key] == told[key] {
				continue
			}
			a.events.emit("candidate", c)
			if err := a.line(now[key]); err != nil {
				return err
			}
		}
		for _, p := range seen.Problems {
			key := "problem " + p.Source + " " + p.Interface
			now[key] = problemText(p)
			if !v.explain || now[key] == told[key] {
				continue
			}
			a.events.emit("problem", p)
			if err := a.line("problem: " + now[key]); err != nil {
				return err
			}
		}
		told = now
	}
	return nil
}

// line prints a line of text, unless stdout carries events.
func (a *app) line(s string) error {
	if a.events != nil {
		return nil
	}
	_, err := a.stdout.Write([]byte(s + "\n"))
	return err
}
