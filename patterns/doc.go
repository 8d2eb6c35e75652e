// Package patterns has the sockets that users hold: Push and Pull share work out,
// Pub and Sub spread news, Req and Rep ask and answer. Sockets of opposite kinds and
// the same name, in one namespace, find each other by themselves; a node makes them
// and brings their pipes.
//
// # What is promised
//
// A message that Send accepted at level Memory is handled by one receiver, or its
// fate is stated: done, dead, expired or dropped with a reason, in the counts of
// Stats and to whoever asked (OnSettled, Post). It is delivered again, flagged, when
// a receiver dies with it in hand or gives it back. To one live receiver messages
// come in order, once. BestEffort hands messages to the link and promises nothing.
//
// A Push keeps a message with a Delay until that is over; meanwhile others pass it, those of
// its Key too, of which one is in hand at a time. Then it stands where its seq puts it: before
// all that waits and was sent later.
//
// A request ends in one of four ways, and what is said is the truth: answered, or
// answered with an error (executed once), certainly not executed, or indeterminate. How
// often it may be executed is the requester's choice, Executed: at most once while the
// replier's process lives, at most once whatever happens to it, or until it is answered.
//
// A Pub at level durable keeps its channel on disk, once, and each durable subscription
// (DurableName) is a queue view of that: a Push to one group of subscribers, with the same
// promises, over restarts of both sides. It begins with the first attach, with Expect, or
// where From says, and ends with Unsubscribe. What it will never get is stated as a gap
// before its next message. Ephemeral subscriptions have a bounded queue in memory.
//
// # What is left to others
//
// Who may connect is the node's business; where messages lie while nobody is up is
// memory here, bounded by Queue, and at level durable a [spool.Store]. A Push at level
// memory that has a store spills: to it goes what nobody can take, or memory has no room for,
// and what is owed when the socket closes. The next life goes on with it, and states what it
// has not found there. A Pub or Req at level memory does not spill.
package patterns
