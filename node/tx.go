package node

import (
	"context"

	"peermesh/patterns"
)

// Tx is what a function that Node.Tx runs may do: Ack, Send, Post, Put, PutSeq and Get.
type Tx = patterns.Tx

// Tx runs f and brings what it asks for to the disk in one write: acks of messages that
// Pulls and Subs of this node received at level durable, messages to be sent by its durable
// Pushes, and small named values. All of it happens or nothing does, also across a crash: no message leaves and no
// sender hears of an ack before all of it is on disk. An error of f, or of one of its calls,
// undoes everything; the messages then still wait for their answer.
//
//	err := n.Tx(ctx, func(tx *node.Tx) error {
//		tx.Put("count", next(tx.Get("count")))
//		tx.Send(out, &socket.Message{Body: convert(m.Body)})
//		return tx.Ack(m)
//	})
//
// So a hop of a pipeline is done exactly once for each message, as long as one node pulls
// from each queue and keeps its Dir. Where several share a queue, a message that comes
// flagged (Redelivered) may have been handled by another of them that has fallen silent: no
// disk knows of the other.
//
// The functions of a node run one after the other, so that each sees what those before it
// have put; they must not wait for anything slow, nor for another Tx. The waits for the disk
// are shared: from many goroutines, say those of Pull.Handle, many transactions go in one
// write. After an answer in a transaction the Ack that Handle does is without effect.
//
// Tx blocks until everything is on disk. If ctx ends while it waits for that, the error
// matches socket.ErrUnknown: the transaction may be kept or not, and the process that is up
// goes on as if it were. On every other error nothing has happened: socket.ErrNoDir without
// a Dir, spool.ErrSpoolFull, socket.ErrAnswered for a message that was answered meanwhile,
// net.ErrClosed. Without an operation Tx does not wait. Safe for concurrent use.
func (n *Node) Tx(ctx context.Context, f func(tx *Tx) error) error { return n.txs.Run(ctx, f) }

// Get returns a copy of the value that a transaction gave key, nil if it has none. It waits
// until what it returns is on disk, or ctx ends; within a transaction use Tx.Get. Values
// belong to the node's Dir and namespace. Without a Dir the error is socket.ErrNoDir.
func (n *Node) Get(ctx context.Context, key string) ([]byte, error) { return n.txs.Get(ctx, key) }
