// Package zmtp is a bridge between ZeroMQ programs and the mesh: sockets that speak ZMTP 3 to libzmq, and hand what
// they get to the sockets of a node. A program that uses ZeroMQ joins the mesh unchanged.
//
//	b, err := zmtp.New(n, zmtp.Config{Endpoints: []zmtp.Endpoint{
//		{Bind: "tcp://127.0.0.1:5555", Type: zmtp.PULL, Name: "jobs"}, // what ZeroMQ programs PUSH goes to the queue "jobs"
//		{Bind: "tcp://127.0.0.1:5556", Type: zmtp.PUSH, Name: "jobs"}, // and from there to those that PULL
//	}})
//
//	zmq PUSH == ZMTP ==> [ PULL endpoint --> mesh Push "jobs" ] ~~~ mesh ~~~> [ mesh Pull "jobs" --> PUSH endpoint ] == ZMTP ==> zmq PULL
//
// # Types
//
// An endpoint has the type of the ZeroMQ socket that it is, so its peers have the opposite one:
//
//	endpoint      its peers     the mesh
//	PULL          PUSH          Push: each message is sent to the queue
//	PUSH          PULL          Pull: each message goes to one peer, in turns
//	SUB, XSUB     PUB, XPUB     Pub: each message is published
//	PUB, XPUB     SUB, XSUB     Sub: each message goes to the peers that subscribed
//	REP, ROUTER   REQ, DEALER   Req: each request is asked in the mesh, its answer goes back to the peer
//	REQ, DEALER   REP, ROUTER   Rep: requests of the mesh are answered by peers, in turns
//
// # What is promised
//
// Inside the mesh what the README promises. Between the bridge and a ZeroMQ program only what ZMTP lets one know, which
// docs/ZEROMQ.md states case by case. In short: bytes that a program has given to its own ZeroMQ socket are nobody's
// until the bridge has read them; and a message for a peer counts as handled, at profile Durable, when the peer has
// answered a PING that was written behind it: then its ZeroMQ library has read it, not yet its program. Until then the
// message is owed: if the peer leaves it goes to another one, or back to the mesh. Each message that is dropped is
// counted by reason, see Stats.
//
// # What is left to others
//
// The only security mechanism is NULL: no authentication and no encryption, so an endpoint stays on this machine unless
// it is Public. The identity of the node stands for everything behind its bridge.
//
// Of the library go-zeromq/zmq4 only the handshake is used, behind checks of our own; framing is here.
package zmtp
