// Command prove shows that the peermesh command keeps its promises: it builds the command, runs senders and receivers
// of it as processes on this machine, does them harm, and gives all that they have printed to the checker in
// [peermesh/internal/history].
//
//	prove kill         kill -9 of sender and receivers, hundreds of times
//	prove power        power cuts: both stores on file systems of their own, which lose all that was not synced
//	prove full         a file system of 48 MB that fills up
//	prove poison       a message that crashes whoever handles it
//	prove backlog      a million messages stored before anybody is there, by processes that are killed
//	prove requests     repliers killed while they execute
//	prove pipeline     numbers through five processes, each killed again and again, counted in transactions
//	prove subscribers  a million messages to four durable subscribers, of which one is away for a third
//	prove all          all of these, one after the other, some twenty minutes
//	prove check        judges the logs that an earlier run has left
//
// What the command does not offer (transactions, limits of subscriptions, many messages on their way to the disk at a
// time) is tried with parts: this program again, as a process on the library. Proofs that consist of parts count for
// themselves, and leave nothing to check again.
//
// The processes never share anything but loopback, and only processes that prove has started are signalled. Everything
// lies in one work folder: a log for each life of each process, and run.json, which says what each log is of. The folder
// is removed when the promises were kept, and kept when not.
//
// What happens when is drawn from --seed; what the machine makes of it is not.
//
// Exit code 0: kept. 1: broken. 2: usage. 77: cannot be tried on this machine, and why.
package main
