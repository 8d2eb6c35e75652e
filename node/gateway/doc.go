// Package gateway lets programs in any language use a mesh over HTTP and WebSocket: a Gateway is an http.Handler in
// front of a node.
//
//	g, err := gateway.New(n, gateway.Config{})
//	err = g.Serve(listener, nil)                // or mount it: mux.Handle("/", g)
//
//	curl -d cat.png localhost:7070/v1/push/jobs
//	curl -X POST localhost:7070/v1/pull/jobs    the body; header Peermesh-Ack names where to say it is done
//
//	HTTP client --> check --> route --> socket of the node --> mesh
//	                token,    push pull pub     opened when first asked for,
//	                limits    sub req rep       shared by all clients
//
// The routes, their parameters and answers are told by /openapi.json, which is made of the table that serves them.
//
// # What it promises
//
// A push or publish that was answered with 200 is accepted as Push.Send or Pub.Publish accept it: on disk if the answer
// says level durable. With an Idempotency-Key a repeated push is one message, see Limits.Keys. A message that was pulled
// is leased to whoever has its lease: it is done when an ack of it is answered with 200, and goes elsewhere, flagged,
// when the lease ends without one, because its client died or was too slow. What is taken by a stream goes elsewhere
// as soon as that stream ends. A request ends as Req.Request does, and header Peermesh-Outcome says how.
//
// # Who may ask
//
// Without tokens only this machine: connections that come over loopback or a Unix socket, from no web page of another
// site. With tokens, who has one may do what its rights say, and nobody else anything. See Config.
//
// # Bounds
//
// Everything is bounded by Limits: bodies, one by one and all that are in memory, requests, streams, names, leases,
// keys, and each time that is waited. Bodies take memory as they arrive, not as their headers claim. At a bound the
// answer is a problem (RFC 9457) whose member "next" says what to do.
//
// # Goroutines
//
// A Gateway has one goroutine that closes sockets nobody uses, one for each request that is being answered by a client
// (rep), and those of its WebSockets. Close waits for all of them.
package gateway
