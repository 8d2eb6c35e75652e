// Package ledger is a sender's memory of what it owes: every message of one
// stream for one consumer group, from acceptance to a stated fate. It is the
// sending half of DELIVERY.md as a pure state machine: no goroutine, no clock, no
// I/O; time is passed in, and the owner's mutex guards it.
//
//	          Append
//	            |
//	            v          dispatch               Done
//	+-------> QUEUED ----------------> LEASED -----------> DONE
//	|           |  |                     |
//	|           |  +--> EXPIRED          +--> DEAD (MaxDeliver used up)
//	|           +-----> DROPPED          |
//	+------------------------------------+
//	  Nack, not here, lease over, consumer gone: attempt + 1
//
// A consumer is one remote receiving socket. It outlives its pipes: what was
// dispatched to it stays leased while a pipe is being replaced, and the ATTACHED of
// the new pipe tells done, held and (the rest) not here.
//
// A delivery is flagged as redelivered unless every earlier dispatch of that
// message was answered "not here" by the very process it had been dispatched to.
// The processes a message may still lie at are its suspects. It is never sent to one
// of them while that may still have it, for the answer to the old lease could be taken
// for one to the new; and only they can answer for it: anything else is [ErrForged].
//
// A stream that outlives its sender is the owner's to keep on disk. The ledger tells it what
// to write before what, see [Mode]: settlements before marks are confirmed and holes
// stated ([Ledger.Seal]), and the dispatch mark before anything is sent ([Ledger.SetMark]).
// After a restart the owner appends what is not settled on disk. What the mark says was
// dispatched is unknown ([Item]): it waits until all who may have it have said so.
//
// Messages of which nothing is individual stand in rows, which cost next to nothing; they
// behave as each would on its own.
//
// Order: what was never dispatched goes out by seq; what came back goes first, by
// seq too. A message with a key waits while an earlier one of that key is
// unsettled, and a key keeps to one consumer by rendezvous hashing while the set of
// consumers stays the same.
package ledger
