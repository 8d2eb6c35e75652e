package node

import "context"

// Topology is what this node and those that it is linked to see; see Why for whom it asks, and how
// long it blocks. This node's own sight is the first.
func (n *Node) Topology(ctx context.Context) []Sight {
	return append([]Sight{n.Look("")}, n.seeOthers(ctx, "")...)
}
