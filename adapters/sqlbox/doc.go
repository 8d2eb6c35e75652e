// Package sqlbox joins a mesh and a database: what a message changes in the database happens
// exactly once, and a message that belongs to a change of the database is sent if and only if
// that change is committed.
//
//	          +------------ one transaction -----------+
//	Pull ---> | inbox: id of the message    your rows  | ---> Ack
//	          +----------------------------------------+
//	          +------------ one transaction -----------+
//	          | your rows    outbox: the message       | ---> Relay ---> Push
//	          +----------------------------------------+
//
// # Inbox
//
// Inbox.Handle runs a handler in a transaction that also records the message's id. A message
// whose id is there already is acked without running the handler. The id is recorded before
// the handler runs, so of two processes that got the same message one waits for the other's
// transaction; and only while the message is certainly nobody else's (Message.Held), so none
// can come after everybody has forgotten it. This holds for any number of pullers of a queue
// that share the database, whether they have a state directory or not.
//
// Ids are forgotten when the sender has confirmed that it will never send the message again,
// never because of their age. What a process leaves that is killed in between is forgotten
// when the sender's stream attaches the next time; what belongs to a sender that never comes
// back stays until Forget.
//
// # Outbox
//
// Outbox.Send writes a message into a table in the caller's transaction. Outbox.Relay moves
// what was committed into a durable Push, in the order of the rows' ids, and deletes it. The
// ids of the batch are kept in the node's state directory in the transaction that sends it
// (Node.Tx), so a relay that dies between the two disks sends nothing twice. That is why an
// outbox belongs to one state directory at a time: when it is lost, Release lets another one
// go on, and the batch that was in doubt, if any, comes twice, with the same HeaderOutboxID.
// Ids are given when rows are written and not when they are committed: of two transactions that
// run at the same time either may come first.
//
// Both keep to SQL that SQLite and PostgreSQL understand, and to no driver.
package sqlbox
