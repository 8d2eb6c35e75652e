// Package reference is what a machine can do without peermesh: the yardsticks that
// "peermesh bench --reference" holds the sockets against.
//
//	Push   the records of a socket, framed as a socket frames them, 64 KiB a write; each
//	       receiver parses every record, checks its checksum and says at the end how many
//	       there were
//	Spread the same, but each record to one of several receivers
//	Echo   one request at a time to and fro
//	Mux    requests of many callers on one stream, each with a number; what comes
//	       together is answered with one write
//
// They run over bare quic-go, with its own configuration and its own packet handling, and
// over TLS 1.3 on TCP, a connection for each stream; both ends know each other by their
// certificates. Over bare UDP there are Push, as many records to a datagram as fit 1,400
// bytes and one system call each, where only what arrives counts, and Echo. There is no
// queue, no answer to a single message and no window but the carrier's, and nothing
// survives the end of a connection: what a socket does beyond this is what it costs
// beyond this.
//
// These programs are frozen: a ratio to one of them means the same in every release only
// as long as it stays as it is.
package reference
