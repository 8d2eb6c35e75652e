package insight

import (
	"cmp"
	"slices"
)

// Graph is who is linked to whom, and what flows there, as far as the sights tell.
type Graph struct {
	Nodes []GraphNode
	Links []Link
	Flows []Flow
}

// GraphNode is a node that somebody sees.
type GraphNode struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// Link joins two nodes; A is less than B.
type Link struct {
	A     string `json:"a"`
	B     string `json:"b"`
	RTTUs int64  `json:"rtt_us"` // as one of the two has measured it; 0: not yet
}

// Flow is what a node sends to another.
type Flow struct {
	From string `json:"from"`
	To   string `json:"to"`
	Kind string `json:"kind"` // push, pub or req
	Name string `json:"name"`
}

// Draw joins what several nodes see.
func Draw(sights []Sight) Graph {
	nodes, links, flows := map[string]GraphNode{}, map[[2]string]Link{}, map[Flow]bool{}
	for _, s := range sights {
		nodes[s.Status.ID] = GraphNode{s.Status.ID, s.Status.Name, s.Status.Namespace}
		for _, p := range s.Peers {
			if _, known := nodes[p.ID]; !known {
				nodes[p.ID] = GraphNode{p.ID, p.Name, p.Namespace}
			}
			l := Link{min(s.Status.ID, p.ID), max(s.Status.ID, p.ID), p.RTTUs}
			if old := links[[2]string{l.A, l.B}]; old.RTTUs > 0 {
				l = old
			}
			links[[2]string{l.A, l.B}] = l
		}
		for _, o := range s.Sockets {
			for _, c := range o.Consumers {
				if c.Attached && c.ID != s.Status.ID {
					flows[Flow{s.Status.ID, c.ID, o.Kind, o.Name}] = true
				}
			}
		}
	}
	var g Graph
	for _, id := range sortedKeys(nodes) {
		g.Nodes = append(g.Nodes, nodes[id])
	}
	for _, l := range links {
		g.Links = append(g.Links, l)
	}
	for f := range flows {
		g.Flows = append(g.Flows, f)
	}
	slices.SortFunc(g.Links, func(a, b Link) int { return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B)) })
	slices.SortFunc(g.Flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return g
}

// Label is what a node is called in a drawing: its name, and what tells it from others of that name.
func (g Graph) Label(id string) string {
	i := slices.IndexFunc(g.Nodes, func(n GraphNode) bool { return n.ID == id })
	if i < 0 {
		return id
	}
	n := g.Nodes[i]
	label := nameOr(n.Name, "unknown")
	if slices.ContainsFunc(g.Nodes, func(o GraphNode) bool { return o.Name == n.Name && o.ID != id }) {
		label += " " + id[:min(len(id), shortest)]
	}
	if slices.ContainsFunc(g.Nodes, func(o GraphNode) bool { return o.Namespace != n.Namespace }) {
		label += " (" + n.Namespace + ")"
	}
	return label
}

// Between tells what flows over a link, in words.
func (g Graph) Between(l Link) (out []string) {
	for _, f := range g.Flows {
		switch {
		case f.From == l.A && f.To == l.B:
			out = append(out, f.Kind+" "+f.Name+" ->")
		case f.From == l.B && f.To == l.A:
			out = append(out, f.Kind+" "+f.Name+" <-")
		}
	}
	return out
}
