package main

import (
	"context"
	"errors"
	"io"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/spool"
)

// walk goes through what waits in a queue.
type walk struct {
	loan    node.Loan
	block   func(spool.Block)                          // may be nil
	damaged func(from, to uint64, reason string) error // what cannot be read
}

// each visits the messages from a seq on, until visit wants no more or ctx ends.
func (w *walk) each(ctx context.Context, from uint64, visit func(b spool.Block, seq uint64, r wire.Record) (more bool, err error)) error {
	settled := settledOf(w.loan)
	for ctx.Err() == nil {
		b, err := w.loan.Read(from)
		var damage *spool.DamagedError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &damage):
			if err := w.lose(settled, max(from, damage.From), damage.To, damage.Err.Error()); err != nil {
				return err
			}
			from = damage.To + 1
			continue
		case err != nil:
			return err
		}
		if w.block != nil {
			w.block(b)
		}
		more, err := w.records(b, max(from, b.Base), settled, visit)
		if !more || err != nil {
			return err
		}
		from = b.Last + 1
	}
	return context.Cause(ctx)
}

// records visits those of one block from next on that are not settled.
func (w *walk) records(b spool.Block, next uint64, settled *ranges.Set, visit func(spool.Block, uint64, wire.Record) (bool, error)) (bool, error) {
	const reason = "a record's checksum does not match"
	for data := b.Data; len(data) > 0; {
		r, rest, err := wire.NextRecord(data)
		if errors.Is(err, wire.ErrChecksum) {
			data = rest // it shows as a hole before the next one
			continue
		}
		if err != nil {
			break
		}
		data = rest
		seq := b.Base + r.Delta
		if seq < next || seq > b.Last {
			continue
		}
		if err := w.lose(settled, next, seq-1, reason); err != nil {
			return false, err
		}
		next = seq + 1
		if settled.Contains(seq) {
			continue
		}
		if more, err := visit(b, seq, r); !more || err != nil {
			return false, err
		}
	}
	return true, w.lose(settled, next, b.Last, reason)
}

// lose tells of what in from..to waits and cannot be read.
func (w *walk) lose(settled *ranges.Set, from, to uint64, reason string) error {
	if from > to {
		return nil
	}
	for gap := range settled.Missing(from, to) {
		if err := w.damaged(gap.From, gap.To, reason); err != nil {
			return err
		}
	}
	return nil
}

// settledOf is what of a queue is settled.
func settledOf(loan node.Loan) *ranges.Set {
	set := new(ranges.Set)
	for _, r := range loan.State.Settled {
		set.Add(r.From, r.To)
	}
	return set
}
