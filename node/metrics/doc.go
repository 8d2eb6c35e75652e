// Package metrics shows a node to Prometheus: the ledger of each name, queues, windows, links and
// the spool.
//
//	m := metrics.New(n)
//	http.Handle("/metrics", m)          // or registry.MustRegister(m)
//
// Everything is read from the node's own counts when it is asked for; between scrapes it costs
// nothing. Latencies are the exception, for whoever wants them: see Metrics.OnDone and
// Metrics.Request. What each metric means stands in its HELP, and all of them in
// docs/monitoring/README.md, beside a dashboard and alert rules. A program that has a gateway or a
// bridge around its node tells of them by Config; this package does not know them.
//
// # Counts and the ledger
//
// Of each sending socket, at every scrape and but for what is folded,
//
//	carried + accepted = owed{queued} + owed{leased} + the sum of settled over fate and reason
//
// Counters begin at 0 when a socket or link does, as Prometheus expects. A Pub counts copies, one
// for each subscription.
//
// # Bounds
//
// Names, subscriptions and peers are labels. Of each at most Config.MaxNames, MaxSubscriptions and
// MaxPeers have series of their own in one scrape, those that came first; all others are folded
// into the label "other", and peermesh_folded counts them. Sockets of one kind and name, which
// Subs may be, are summed. In "other" messages are summed and times are the longest; its counters
// never fall, and miss what a socket there counted that was closed and opened again between two
// scrapes. All other labels have values from a fixed list.
package metrics
