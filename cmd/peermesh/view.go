package main

import (
	"peermesh/internal/insight"
	"peermesh/node"
)

// view is what a node sees and counts at one moment: what the verbs that see print,
// and what a running node tells through its control socket.
type (
	view          = insight.Sight
	offerView     = insight.Offer
	socketView    = insight.Socket
	consumerView  = insight.Consumer
	candidateView = insight.Candidate
	problemView   = insight.Problem
	receivedView  = insight.Received
)

// viewOf takes a snapshot of a node; verb is what runs it.
func viewOf(n *node.Node, verb string) view {
	v := n.Look("")
	v.Status.Verb = verb
	return v
}
