// Package socket joins one local socket and one remote one: the Message, the pipe
// its frames move over, the window that is promised in advance, and the answers.
//
//	Outbox (ledger) -- out ==== pipe over a byte stream ==== in -- Inbox (marks)
//	    DATA, CONFIRM, GAP, REVOKE  --->      <---  DONE, NACK, CREDIT, RENEW, REPLY
//
// An Outbox is the sending half of a socket: a ledger of what is owed and the pipes
// that drain it. An Inbox is the receiving half: the memory of every stream that
// came, and the queue of what is not yet begun. Which of several receivers gets a
// message, what a topic is, and how long a caller waits, are the business of package
// patterns; where pipes come from is that of package node.
//
// The receiver announces how many messages and bytes it can hold, and the sender
// never exceeds that. So the goroutine that reads a pipe never waits for the user,
// answers always flow, and nothing deadlocks. A pipe runs over any Conn: a QUIC
// stream, or memory between two sockets of one node.
//
// Delivery is as the README's promises say; byte layouts are drawn in internal/wire.
package socket
