// Package reference is what a disk can do without peermesh: the yardsticks that
// "peermesh bench durable --reference" holds durable messages against.
//
//	WAL    the plainest log that keeps messages: each is written with its length and
//	       checksum, and fdatasync tells that they are there; messages are framed while
//	       the batch before them is on its way
//	Plain  as many bytes, written and synced in batches as large, and nothing else: what
//	       the WAL itself is held against
//
// They have no network, no index and no answers, and forget nothing.
//
// These programs are frozen: a ratio to one of them means the same in every release only
// as long as it stays as it is.
package reference
