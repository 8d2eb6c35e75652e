// Package node makes a process a member of a mesh: it proves who it is, finds the
// other nodes, keeps one QUIC link to each, and brings the pipes of the sockets it
// opens. Messages themselves pass between package socket and a QUIC stream; the node
// is not on their way.
//
//	n, err := node.Open(ctx, node.Config{})   // the user's default mesh, mDNS, no state
//	jobs, err := n.Push("jobs")
//	err = jobs.Send(ctx, []byte("cat.png"))
//
// # Links
//
// Both ends of a new connection first judge the other's certificate, before a byte
// of any stream; then both say HELLO on the first stream, and the node with the lower
// id sends WELCOME on the one link it keeps of those between the two processes. Only
// then the link is up. A refusal has a code and a reason at both ends, see PeerEvent.
//
// # Goroutines
//
// All are started by the node and gone when Close returns: the accept loop, one per
// place to dial, the discovery sources, and per link one that reads and one that
// writes control frames and one that accepts streams; per pipe one reads and one
// writes.
package node
