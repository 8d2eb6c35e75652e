package main

import (
	"fmt"
	"strings"

	"peermesh/internal/insight"

	"github.com/spf13/cobra"
)

func socketsCommand(a *app) *cobra.Command {
	var s seeing
	cmd := &cobra.Command{
		Use:     "sockets",
		GroupID: groupSee,
		Short:   "A node's sockets: ledgers, drops by reason, consumers",
		Long: `Lists the sockets of the node that runs with --dir DIR, with what became of their messages and
who is attached. Without --dir a new node lists what the peers it meets offer.`,
		Example: `  peermesh sockets --dir state --watch
  peermesh sockets --dir state --node resizer-1 --json`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.global.dir == "" && s.node == "" {
				return s.run(cmd.Context(), a, "sockets", a.showOffers)
			}
			return s.run(cmd.Context(), a, "sockets", a.showSockets)
		},
	}
	s.register(cmd)
	return cmd
}

func (a *app) showSockets(v view) error {
	var rows [][]string
	for _, s := range v.Sockets {
		a.events.emit("socket", s)
		name := oneLine(s.Name)
		if s.Label != "" {
			name += " (" + s.Label + ")"
		}
		if s.Received != nil {
			rows = append(rows, []string{s.Kind, name, receivedText(*s.Received)})
			continue
		}
		counts := ledgerText(*s.Ledger)
		if s.OnDisk > 0 {
			counts += fmt.Sprintf("; %d wait on disk alone", s.OnDisk)
		}
		rows = append(rows, []string{s.Kind, name, counts})
		for _, c := range s.Consumers {
			rows = append(rows, []string{" ", " ", a.consumerText(c)})
		}
	}
	if a.events != nil {
		return nil
	}
	if len(rows) == 0 {
		a.note("no sockets")
	}
	return table(a.stdout, "KIND NAME COUNTS", rows)
}

// showOffers is sockets from outside: what peers can be sent.
func (a *app) showOffers(v view) error {
	var rows [][]string
	for _, p := range v.Peers {
		for _, o := range p.Offers {
			a.events.emit("offer", struct {
				offerView
				ID   string `json:"id"`
				Peer string `json:"peer"`
			}{o, p.ID, p.Name})
			rows = append(rows, []string{o.Kind, oneLine(o.Name), oneLine(p.Name), p.ID})
		}
	}
	if a.events != nil {
		return nil
	}
	if len(rows) == 0 {
		a.note("no peer offers anything; with --dir a running node shows its own sockets")
	}
	return table(a.stdout, "KIND NAME PEER ID", rows)
}

// ledgerText is a ledger in one line: both sides of the balance, zeros left out.
func ledgerText(l insight.Ledger) string {
	text := fmt.Sprintf("%d accepted", l.Accepted)
	add := func(n uint64, what string) {
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, what)
		}
	}
	add(l.Carried, "carried over")
	add(l.Queued, "queued")
	add(l.Leased, "leased")
	add(l.Done, "done")
	add(l.Dead, "dead")
	add(l.Expired, "expired")
	for _, reason := range reasons(l.Dropped) {
		add(l.Dropped[reason], "dropped ("+reason+")")
	}
	add(l.Handed, "handed over")
	return text
}

func receivedText(r receivedView) string {
	parts := []string{fmt.Sprintf("%d delivered", r.Delivered), fmt.Sprintf("%d done", r.Done)}
	add := func(n uint64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(uint64(r.Queued), "queued")
	add(uint64(r.Begun), "begun")
	add(r.Nacked, "given back by the handler")
	add(r.Returned, "returned unbegun")
	add(r.Expired, "expired")
	add(r.Redelivered, "delivered again")
	add(r.Duplicates, "duplicates suppressed")
	add(r.Gaps, "in gaps")
	add(uint64(r.Pipes), "pipes")
	return strings.Join(parts, ", ")
}

func (a *app) consumerText(c consumerView) string {
	name, state := oneLine(c.Name), a.paint(green, "attached")
	if name == "" {
		name = "unknown"
	}
	if c.Label != "" {
		name += "/" + oneLine(c.Label)
	}
	switch {
	case !c.Attached:
		state = a.paint(red, "away")
	case c.Paused:
		state = a.paint(red, "paused")
	}
	return fmt.Sprintf("-> %s %s, %d leased, %s", name, shortID(c.ID), c.Leased, state)
}
