package patterns

import (
	"context"
	"fmt"

	"peermesh/socket"
	"peermesh/spool"
)

// Backlog lends the queue that the socket has on disk, or its dead letters, and tells
// where that stands: to look into, and to settle dead letters. nil if nothing of it is kept
// on disk.
// Once the socket has closed, reading is spool.ErrClosed.
func (p *Push) Backlog(dead bool) (*spool.Queue, spool.QueueState) {
	j := p.disk()
	if j == nil {
		return nil, spool.QueueState{}
	}
	q := j.queue
	if dead {
		q = j.dead
	}
	return q, q.State()
}

// PostWith is SendMessage at level durable that does not wait for the disk: the message is
// there once the group is. What with does goes there in the same transaction. Below level
// durable the error matches socket.ErrNotDurable.
func (p *Push) PostWith(ctx context.Context, m *socket.Message, with func(*spool.Change)) (seq uint64, g spool.Group, err error) {
	if p.journal == nil {
		return 0, 0, socket.ErrNotDurable
	}
	prepared, err := p.prepare(m)
	if err != nil {
		return 0, 0, err
	}
	c, err := p.journal.join(ctx, m)
	if err != nil {
		return 0, 0, err
	}
	defer c.End()
	if seq, err = p.journal.put(c, prepared, m); err != nil {
		return 0, 0, err
	}
	with(c)
	return seq, c.Group(), nil
}

// Stored blocks until a group of PostWith is on disk. If ctx ends before, the error matches
// socket.ErrUnknown.
func (p *Push) Stored(ctx context.Context, g spool.Group) error {
	if err := p.journal.store.Wait(ctx, g); err != nil {
		return fmt.Errorf("%w: %w", socket.ErrUnknown, err)
	}
	return nil
}
