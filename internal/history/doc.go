// Package history holds what processes of the peermesh command have printed against what peermesh promises.
//
// Each process prints one JSON object a line for everything that happens to it (the command's --json), with the time
// on a clock that all processes of the machine share. The log of one process is a [Life]; processes are killed and
// started again on the same state directory, so one sender or puller leaves several. All lives together are a [Run]:
//
//	push, life 1   ready  send sent  send sent  send |  killed: the third Send is unknown
//	push, life 2                                        ready  settled settled        summary
//	pull, life 1   ready        deliver done  deliver |  killed: whether that one was handled is unknown
//	pull, life 2                                             ready  deliver(flagged) done  summary
//
// [Check] reads such a run once and gives a verdict on each promise that can be seen from outside; the numbers are
// those of the invariants in the delivery contract:
//
//	I1   no loss: what was sent at durable has a fate once all is drained
//	I2   no phantom: what is delivered was sent, with that hash
//	I3   at most one delivery of a message is not flagged; none comes at a store after its own durable done
//	I5   first deliveries to a single receiver come in the order of sending
//	I6   a place (stream, seq) is given to one payload, for ever
//	I7   settled stays settled: one fate, and nothing is dispatched after it
//	I8   nobody is said to have handled what it was never given
//	I10  nothing that an outdated process sends is accepted any more
//	I11  at-most-once requests are executed at most once, and outcomes tell the truth
//	I12  a subscription's deliveries and gaps leave no hole, and do not overlap
//	I13  ledgers balance, and count what the events say
//	I16  the run has drained
//	I18  a gap is told before the next message
//	flags  in a run with kills fewer than 30 % of the deliveries are flagged
//
// A process that is killed takes with it what it had not printed, so the absence of an event says something only where
// its author ended by itself. Check allows for exactly that and nothing more: a message without a printed fate is lost
// unless somebody had it in hand, and a sender that could have been told of it was killed afterwards. What cannot be
// seen from outside is not judged: fsyncs, leases, memory.
//
// Check takes time in proportion to the events and about 200 bytes for each message. It has no goroutines and reads
// no clock.
package history
