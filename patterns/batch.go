package patterns

import (
	"context"

	"peermesh/socket"
)

// SendBatch sends messages in order with one wait for the disk at level durable, and none
// below. It returns the seqs of those that were accepted: all of them, or those before the
// one that was refused, with the reason. If ctx ends while it waits for the disk, the error
// matches socket.ErrUnknown, and each may be kept and sent or not. It does not keep ms.
func (p *Push) SendBatch(ctx context.Context, ms []*socket.Message) (seqs []uint64, err error) {
	seqs = make([]uint64, 0, len(ms))
	var last *Receipt
	for _, m := range ms {
		r, rerr := p.Post(ctx, m)
		if rerr != nil {
			err = rerr
			break
		}
		seqs, last = append(seqs, r.Seq), r
	}
	if last == nil {
		return seqs, err
	}
	if serr := last.Stored(ctx); serr != nil { // groups reach the disk in order
		return seqs, serr
	}
	return seqs, err
}

// AckAll acks messages, in order. It returns the first error, and goes on after it.
func AckAll(ms []*socket.Message) error {
	var first error
	for _, m := range ms {
		if err := m.Ack(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
