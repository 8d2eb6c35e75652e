// Command peermesh sends, receives and looks around in a mesh from a terminal or a
// script.
//
//	peermesh pull jobs > out                  # one terminal
//	peermesh push jobs < lines                # another: nothing else to set up
//	peermesh req upper hello                  # asks whoever runs: peermesh rep upper --exec 'tr a-z A-Z'
//	peermesh push jobs --dir state --detach   # keeps them on disk for: peermesh forward --dir state
//	peermesh peers                            # who is there
//
// # How it is put together
//
// main only passes the process's surroundings to run, which does everything and can
// be tested. Each verb has a file of its own. The verbs that talk (push, pull, pub,
// sub, req, rep, forward) share the type talk: a node, what ends the run, and how it ends. The
// verbs that see (status, peers, sockets, discover, ping) share the type sight: the
// node of --dir through its control socket, or a node opened to look around. The verbs
// that look after what is on disk (spool, dlq) share the type tending: an order that is
// carried out in the state directory, or by the node that runs with it. The verbs that
// secure (init, invite, join, cert, policy, revoke) work on the mesh credential and the
// policy beside it. sidecar runs a node and
// package gateway from the sections of the configuration file (sidecar_config.go).
//
// # What scripts may rely on
//
// Exit codes (exit.go) and what --json prints (events.go). Text for people may change
// freely. stdout carries data only.
package main
