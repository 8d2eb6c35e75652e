// Package discovery finds addresses where other nodes may be. It says where to look, never whom to
// trust: everything it reports is a hint that anybody on the network could have made up, and the node
// proves who is there when it dials.
//
// There are two sources, which report to a function of the caller as [Event]s:
//
//	MDNS    asks the local network with multicast and answers when asked
//	Static  addresses and DNS names that somebody wrote down
//
// A node asks on each of its interfaces, over IPv4 and over IPv6, and hears from everybody on that link:
//
//	    ask: who is _peermesh._udp.local?          (multicast, from a port of its own)
//	a ──────────────────────────────────────▶ b, c, d
//	    PTR ID._peermesh._udp.local                (unicast, back to that port)
//	    SRV ID.local port
//	    TXT v=1 id=ID m=MESH p=PORT e=INCARNATION n=NONCE a0=ADDRS a1=ADDRS ...
//	a ◀────────────────────────────────────── b, c, d, each for itself
//
// The TXT record alone says everything; the others are there because mDNS wants them and because other
// programs (avahi-browse, dns-sd) can then list nodes. Each a-string holds the addresses of one interface
// of the answering node. A host with several interfaces cannot tell on which of them a question came
// (Linux hands it to every listener), so it always tells all, and the asker keeps the groups that lie on
// the link where it asked.
//
// Questions go out at once and after 1, 2, 4, 8 and 16 seconds, then every 30 seconds or so. A change of
// the interfaces, or [MDNS.Refresh], starts the fast questions again. There is no announcing and no
// farewell: a candidate that is not linked is lost when it stayed away for 4 questions and 120 seconds.
//
// What mDNS cannot do here: cross a router; find anybody over IPv4 on a machine with neither a default route
// nor one for multicast (IPv6 needs none); tell a question from this link from one that was sent from afar to
// port 5353, which a firewall should drop, as for every mDNS program.
//
// What goes wrong (no route for multicast, port 5353 taken, no network at all) is a Problem event and is
// tried again; it never ends a Run. Discovery may be wrong, late and incomplete. It is bounded: at most 16
// interfaces, 1024 answers to a question, 16 addresses in an answer, 4096 candidates.
package discovery
