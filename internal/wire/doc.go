// Package wire turns frames into bytes and bytes into frames. It is pure: no
// I/O, no clock, no goroutine, no state. Every Append function appends one whole
// frame to a slice; every Parse function reads one frame's payload and returns
// an error, never a panic, for whatever bytes the network may hold. Slices in a
// parsed value alias the input; the caller keeps it alive and unchanged.
//
// # Frames
//
//	+------+----------------+---------...
//	| type | length uvarint | payload          length <= MaxFrame
//	+------+----------------+---------...
//
// Integers are unsigned LEB128 ("uvarint", as in encoding/binary), at most ten
// bytes and in shortest form; "u64" is eight bytes big-endian; "id" is sixteen
// bytes; "str" is a uvarint length and UTF-8 bytes; durations are milliseconds.
// A payload may be followed by bytes a newer minor version added: only the frames
// marked + allow that, in all others trailing bytes are an error.
//
// # Control stream (the first stream of a link)
//
//	HELLO+    version | node id | mesh id | incarnation | nonce id | link number |
//	          max message | namespace str | name str | [1 + version of the policy
//	          [host id | door id | ticket id [connections of a spread pipe]]]
//	WELCOME   highest incarnation seen
//	REFUSED   code str | reason str | highest incarnation seen
//	OFFER+    socket | kind u8 | name str | label str | flags u8 | start u8 | [seq]
//	          1 = durable subscription, 2 = exclusive; seq with start 3 alone
//	WITHDRAW  socket
//	PEERS     count | { node id | address str }
//	HEARTBEAT number | flags u8 (1 = echo) | padding: the frame is >= 100 bytes
//	GOAWAY    reason str
//	POLICY    text str                     (signed by the mesh, see internal/policy)
//	BYE       (empty: answer to GOAWAY, nothing is owed on this side any more)
//
// Both ends send HELLO. The node with the lower id then sends WELCOME on the one
// link it keeps. HEARTBEATs are answered with their echo; they have at least 100
// bytes because a restarted peer only answers packets of some size with a
// stateless reset.
//
// # Pipe streams, sender to receiver
//
//	ATTACH+    socket | kind u8 | level u8 | store id | spans | nonce id |
//	           incarnation | attach number | receiver store last met id |
//	           start seq | reply credit | name str
//	DATA       run header | records
//	FRAGMENT   run header | total | offset | part of one record
//	WANT       seq | record bytes          (before the fragments of a large message)
//	GAP        from | length - 1 | reason u8   (never will be sent again)
//	CONFIRM    edition u64 | ranges        (settled at the sender: forget the mark)
//	RENEWED    number
//	REVOKE     ranges                      (drop what is not begun, cancel what is)
//	SUBSCRIBED version | first seq
//	REPLYCREDIT bytes since ATTACH
//	DETACH     reason str
//	SPREAD     bundle | connections        (how the stream goes on from here)
//
//	run header: flags u8 | base seq | attempt | age ms | [from seq]
//	            1 = redelivered, 2 = from is there: this run says everything
//	            about the seqs from..its last record
//
// # Pipe streams, receiver to sender
//
//	ATTACHED+  attach number | flags u8 (1 = forgotten) | store id | nonce id |
//	           window messages | window bytes |
//	           done editions | held editions | lost editions |
//	           subscription version | count | { pattern str }
//	REJECTED   code str | reason str       (instead of ATTACHED)
//	DONE       edition u64 | ranges
//	NACK       reason u8 | delay ms | edition u64 | ranges | text str
//	CREDIT     messages since ATTACHED | bytes since ATTACHED
//	RENEW      number
//	GRANT      seq                         (send the fragments now)
//	SUBSCRIBE  version | count | { pattern str }
//	REPLY      edition u64 | seq | outcome u8 | total | offset | part of the body
//	LEAVE      reason str | begun editions (the receiver's socket closes)
//	UNSUBSCRIBE (empty: the durable subscription is no more; answered with DETACH)
//	PAUSE      (empty: nothing more for now, whatever credit there is)
//	RESUME     (empty: PAUSE is over)
//
// # Question streams
//
//	ASK+       version | what str | about str
//	TOLD       flags u8 (1 = refused, 2 = more follow) | bytes
//
// A node asks another what that one sees: ASK is the first frame of a stream, where
// ATTACH stands in that of a pipe, and the only one of its side. What a TOLD holds, JSON or
// the reason of a refusal, is not the wire's business.
//
// # Stripes
//
// A pipe that carries much may be spread over several connections. Each further one begins
// with a stream on which both ends say JOIN: the ticket of the HELLO that the other one sent,
// and which of the link's further connections this is, from 1. A further stream on it is a
// part of a pipe and begins with STRIPE; nothing but that pipe's bytes follows, one way.
//
//	JOIN      ticket id | number u8
//	STRIPE    bundle
//
// In the stream of the pipe SPREAD, between two other frames, says that what comes next is
// cut into blocks of 64 KiB, which go in turns to the stream of the pipe and to those of the
// bundle, in the order of their connections' numbers. The SPREAD of one connection says that all
// goes to the stream of the pipe again.
//
//	editions: count | { edition u64 | ranges }
//	spans:    count of earlier editions | { edition u64 | gap } | edition u64 | gap
//	          gap: of the first one its first seq; of each other the distance from
//	          the first seq of the one before, less the one that is certain.
//	          Where a frame of the sender's names no edition, a seq means the message
//	          of the edition that owns it; a block is of one edition.
//	ranges:   count | { gap | length - 1 }, ascending, disjoint, not adjacent
//	          gap: of the first range its from; of each other the seqs that are
//	          missing between it and the one before, less the one that is certain
//
// # Record and block
//
// A message is encoded once. The same bytes go to the wire, to a resend and to
// the spool:
//
//	+----------+--------+---------------+----------+---------------------+------+
//	| n uvarint| crc32c | delta uvarint | flags u8 | optional fields     | body |
//	+----------+--------+---------------+----------+---------------------+------+
//	            4 bytes  \_____________ n bytes, covered by crc32c (RFC 3720) ___/
//	     little-endian
//
//	flags: 1 topic str, 2 key str, 4 TTL ms, 8 headers (uvarint length | {str, str}),
//	       16 delay ms
//
// A field that is there is neither empty nor zero: one message has one encoding.
// seq = base + delta, where base is the first seq of the block the record was
// framed in. So a record does not depend on its neighbours: any run of records of
// a block can be sliced and sent behind a run header that names the base. What
// varies per send (attempt, flags, age) stands in that header.
package wire
