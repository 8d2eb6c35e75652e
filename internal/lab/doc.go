// Command lab builds throw-away networks of hosts on one Linux machine, and breaks them on request: what
// discovery, connections and delivery do on a bad network can then be tested without any other machine.
//
// A host is a network namespace. The hosts of a subnet hang on a bridge, multicast included; a router joins
// the subnets and lets no multicast through, so that mDNS stays in its subnet; a subnet can be behind NAT.
// "lab up 2,nat:1" makes this:
//
//	h1   h2                  h3
//	 |    |                   |
//	br1--br1---- router ----br2      10.77.1.0/24, fd77::1:0/112 | 10.77.2.0/24, fd77::2:0/112
//	             hides br2
//
// The kernel's own fault injection (netem) is often missing, so the lab brings a stand-in. The cable of a
// host with faults is taken off its bridge, and one relay process a lab carries its Ethernet frames across,
// losing, delaying, doubling, reordering, damaging or throttling them:
//
//	host eth0 <-cable-> h1  (relay)  r.h1 <-cable-> q.h1 on the bridge
//
// Hosts without faults stay on the bridge and never meet the relay.
//
// Everything lives in namespaces of the lab's own, named after it (pm-h1, pm-router, pm-sw), and goes with
// "lab down". Outside them nothing is touched, save that a big lab raises the kernel's limit of neighbour
// table entries, which all namespaces share. A lab needs root and the ip command, for NAT also nft; where
// it cannot be made, "lab check" says why and exits with 77, which a test takes as: skip.
//
// The commands are listed in README.md.
package main

// exitSkip tells a caller that no lab can be made on this machine, so that a test is skipped and not failed.
const exitSkip = 77
