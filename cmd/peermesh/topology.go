package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"peermesh/internal/insight"

	"github.com/spf13/cobra"
)

// topologyVerb is `peermesh topology`.
type topologyVerb struct {
	seeing
	dot, mermaid bool
}

func topologyCommand(a *app) *cobra.Command {
	var v topologyVerb
	cmd := &cobra.Command{
		Use:     "topology",
		GroupID: groupSee,
		Short:   "Who is linked to whom, and what flows between them",
		Long: `Draws the nodes and links that the node of --dir and those it is linked to see, with the names that
are pushed, published and asked between them: as a table, for Graphviz (--dot) or as a Mermaid
flowchart (--mermaid). Without --dir a new node looks around for --timeout (3s). --node NAME draws
what that peer sees alone.`,
		Example: `  peermesh topology --dir state
  peermesh topology --dir state --dot | dot -Tsvg > mesh.svg
  peermesh topology --mermaid`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return v.run(cmd.Context(), a) },
	}
	v.registerNode(cmd)
	cmd.Flags().BoolVar(&v.dot, "dot", false, "print it for Graphviz")
	cmd.Flags().BoolVar(&v.mermaid, "mermaid", false, "print it as a Mermaid flowchart")
	return cmd
}

func (v *topologyVerb) run(ctx context.Context, a *app) (err error) {
	if v.dot && v.mermaid {
		return usagef("give --dot or --mermaid, not both")
	}
	from, err := v.open(ctx, a, "topology")
	if err != nil {
		return unlessTold(ctx, err)
	}
	defer func() { err = errors.Join(err, from.close()) }()
	if ctx.Err() != nil {
		return nil // told to leave
	}
	var views []view
	if v.node != "" {
		one, err := from.look(ctx, v.node)
		if err != nil {
			return unlessTold(ctx, err)
		}
		views = []view{one}
	} else if views, err = from.topology(ctx); err != nil {
		return unlessTold(ctx, err)
	}
	return a.showGraph(insight.Draw(views), v)
}

func (a *app) showGraph(g insight.Graph, v *topologyVerb) error {
	for _, n := range g.Nodes {
		a.events.emit("node", n)
	}
	for _, l := range g.Links {
		a.events.emit("link", l)
	}
	for _, f := range g.Flows {
		a.events.emit("flow", f)
	}
	switch {
	case a.events != nil:
		return nil
	case v.dot:
		return writeDot(a.stdout, g)
	case v.mermaid:
		return writeMermaid(a.stdout, g)
	}
	var rows [][]string
	for _, l := range g.Links {
		rows = append(rows, []string{oneLine(g.Label(l.A)), oneLine(g.Label(l.B)), oneLine(strings.Join(g.Between(l), ", "))})
	}
	if len(rows) == 0 {
		a.note("no links; peermesh discover --explain shows what was tried")
	}
	return table(a.stdout, "NODE NODE FLOWS", rows)
}

func writeDot(w io.Writer, g insight.Graph) error {
	lines := []string{"graph mesh {"}
	for _, n := range g.Nodes {
		lines = append(lines, fmt.Sprintf("  %s [label=%s];", dotQuote(n.ID), dotQuote(oneLine(g.Label(n.ID)))))
	}
	for _, l := range g.Links {
		lines = append(lines, fmt.Sprintf("  %s -- %s [label=%s];", dotQuote(l.A), dotQuote(l.B), dotQuote(oneLine(strings.Join(g.Between(l), ", ")))))
	}
	_, err := io.WriteString(w, strings.Join(append(lines, "}"), "\n")+"\n")
	return err
}

// dotQuote is a string of the DOT language: only the quote and the backslash are special in it.
func dotQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func writeMermaid(w io.Writer, g insight.Graph) error {
	lines := []string{"flowchart LR"}
	number := func(id string) string {
		return "n" + strconv.Itoa(slices.IndexFunc(g.Nodes, func(n insight.GraphNode) bool { return n.ID == id }))
	}
	for _, n := range g.Nodes {
		lines = append(lines, fmt.Sprintf("  %s[\"%s\"]", number(n.ID), mermaidText(g.Label(n.ID))))
	}
	for _, l := range g.Links {
		link := " --- "
		if flows := g.Between(l); len(flows) > 0 {
			link = fmt.Sprintf(" ---|\"%s\"| ", mermaidText(strings.Join(flows, ", ")))
		}
		lines = append(lines, "  "+number(l.A)+link+number(l.B))
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// mermaidText has entities where Mermaid would see syntax.
func mermaidText(s string) string {
	return strings.NewReplacer(`"`, "#quot;", "#", "#35;", "<", "#lt;", ">", "#gt;", ";", "#59;").Replace(oneLine(s))
}
