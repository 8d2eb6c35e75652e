package patterns

import (
	"context"

	"peermesh/socket"
	"peermesh/spool"
)

// SendBatch sends messages in order with one wait for the disk at level durable, and none
// below. It returns the seqs of those that were accepted: all of them, or those before the
// one that was refused, with the reason. If ctx ends while it waits for the disk, the error
// matches socket.ErrUnknown, and each may be kept and sent or not. It does not keep ms.
func (p *Push) SendBatch(ctx context.Context, ms []*socket.Message) (seqs []uint64, err error) {
	seqs, group, err := p.batch(ctx, ms)
	if group == 0 {
		return seqs, err
	}
	if serr := p.Stored(ctx, group); serr != nil { // groups reach the disk in order
		return seqs, serr
	}
	return seqs, err
}

// PostBatch is SendBatch that does not wait for the disk: at level durable the messages are there by and by, in their
// order.
func (p *Push) PostBatch(ctx context.Context, ms []*socket.Message) (seqs []uint64, err error) {
	seqs, _, err = p.batch(ctx, ms)
	return seqs, err
}

// batch accepts messages in order until one is refused. group is the one in which the last of them goes to the disk; 0: none
// does, or nobody waits for it.
func (p *Push) batch(ctx context.Context, ms []*socket.Message) (seqs []uint64, group spool.Group, err error) {
	seqs = make([]uint64, 0, len(ms))
	if p.journal != nil {
		for _, m := range ms {
			seq, g, err := p.PostWith(ctx, m, func(*spool.Change) {})
			if err != nil {
				return seqs, group, p.refused(err)
			}
			seqs, group = append(seqs, seq), g
		}
		return seqs, group, nil
	}
	for len(ms) > 0 && err == nil {
		n := min(len(ms), lockedBatch)
		seqs, err = p.acceptAll(ctx, ms[:n], seqs)
		ms = ms[n:]
	}
	return seqs, 0, p.refused(err)
}

// lockedBatch is how many messages of a batch are accepted while the lock is held: others want it too.
const lockedBatch = 128

// acceptAll makes messages owed in order, with one dispatch for all, and appends the seqs of those that are.
func (p *Push) acceptAll(ctx context.Context, ms []*socket.Message, seqs []uint64) (_ []uint64, err error) {
	p.mu.Lock()
	for _, m := range ms {
		var prepared socket.Prepared
		if prepared, err = p.prepare(m); err != nil {
			break
		}
		var seq uint64
		if seq, err = p.accept(ctx, m, prepared, nil); err != nil {
			break
		}
		seqs = append(seqs, seq)
	}
	turn := p.box.DispatchHere()
	p.mu.Unlock()
	turn.Take()
	return seqs, err
}

// RecvBatch is Recv that takes what is there: it fills ms, until the bodies come to so many bytes, and returns how many
// messages those are, at least one. The caller must Ack or Nack each; AckAll does many at a time. Until then all of them
// are in hand here, so take no more than can be handled soon.
func (p *Pull) RecvBatch(ctx context.Context, ms []*socket.Message, bytes int) (n int, err error) {
	return p.box.RecvBatch(ctx, ms, bytes)
}

// AckAll acks messages, in order. It returns the first error, and goes on after it.
func AckAll(ms []*socket.Message) error { return socket.AckAll(ms) }
