package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"peermesh/internal/insight"

	"github.com/spf13/cobra"
)

func statusCommand(a *app) *cobra.Command {
	var s seeing
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: groupSee,
		Short:   "Who a node is, and its counts",
		Long: `Shows the node that runs with --dir DIR. Without --dir a new node looks around for --timeout
(3s) and shows itself.`,
		Example: `  peermesh status --dir state
  peermesh status --dir state --node resizer-1`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), a, "status", a.showStatus)
		},
	}
	s.register(cmd)
	return cmd
}

func (a *app) showStatus(v view) error {
	if a.events != nil {
		a.events.emit("status", v.Status)
		return nil
	}
	s := v.Status
	rows := [][]string{
		{"node", oneLine(s.Name) + " " + s.ID},
		{"mesh", s.Mesh},
		{"namespace", oneLine(s.Namespace)},
		{"address", s.Addr},
		{"incarnation", strconv.FormatUint(s.Incarnation, 10)},
		{"process", fmt.Sprintf("%d (%s)", s.PID, s.Verb)},
		{"policy", policyText(s.Policy)},
		{"peers", strconv.Itoa(s.Peers)},
		{"sockets", strconv.Itoa(s.Sockets)},
		{"ledger", ledgerText(s.Ledger)},
	}
	for _, p := range v.Problems {
		rows = append(rows, []string{"problem", a.paint(red, problemText(p))})
	}
	return table(a.stdout, "", rows)
}

func problemText(p problemView) string {
	where := p.Source
	if p.Interface != "" {
		where += " on " + oneLine(p.Interface)
	}
	return where + ": " + oneLine(p.Reason)
}

func peersCommand(a *app) *cobra.Command {
	var s seeing
	cmd := &cobra.Command{
		Use:     "peers",
		GroupID: groupSee,
		Short:   "The nodes that are linked, and what they offer",
		Long: `Lists the peers of the node that runs with --dir DIR. Without --dir a new node looks around for
--timeout (3s) and lists whom it met.`,
		Example: `  peermesh peers --dir state --watch
  peermesh peers --peer 10.0.0.5:4000`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), a, "peers", a.showPeers)
		},
	}
	s.register(cmd)
	return cmd
}

func (a *app) showPeers(v view) error {
	var rows [][]string
	for _, p := range v.Peers {
		a.events.emit("peer", p)
		var offers []string
		for _, o := range p.Offers {
			offers = append(offers, o.Kind+" "+oneLine(o.Name))
		}
		rtt := ""
		if p.RTTUs > 0 {
			rtt = brief(time.Duration(p.RTTUs) * time.Microsecond)
		}
		up := brief(time.Duration(p.SinceMs) * time.Millisecond)
		rows = append(rows, []string{oneLine(p.Name), p.ID, p.Addr, up, rtt, viaText(p), strings.Join(offers, ", ")})
	}
	if a.events != nil {
		return nil
	}
	if len(rows) == 0 {
		a.note("no peers; peermesh discover --explain shows what was tried")
	}
	return table(a.stdout, "NAME ID ADDRESS UP RTT VIA OFFERS", rows)
}

// viaText says how messages to and from a peer travel, and over how many connections if they are spread.
func viaText(p insight.Peer) string {
	if p.Stripes == 0 {
		return p.Via
	}
	return fmt.Sprintf("%s x%d", p.Via, p.Stripes)
}

func policyText(version uint64) string {
	if version == 0 {
		return "none"
	}
	return "version " + strconv.FormatUint(version, 10)
}
