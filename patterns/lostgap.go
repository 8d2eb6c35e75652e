package patterns

import (
	"errors"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
	"peermesh/spool"
)

// tellGap states the gap that an earlier life left, for a socket that leaves alone what
// waits on disk under its name.
func (p *Push) tellGap() error {
	if p.gap == nil {
		return nil
	}
	var state spool.QueueState
	if p.env.Store != nil {
		q, found, err := p.env.Store.OpenQueue(p.seqs)
		switch {
		case errors.Is(err, spool.ErrInUse): // somebody feeds it: what he owes is not known
			return nil
		case err != nil:
			return err
		}
		q.Close()
		state = found
	}
	p.stateGap(state)
	return nil
}

// stateGap states the gap that an earlier life left: what it gave out, did not settle, and
// did not leave on disk either will never be sent.
func (p *Push) stateGap(onDisk spool.QueueState) {
	if p.gap == nil {
		return
	}
	var settled, gone ranges.Set
	for _, r := range onDisk.Settled {
		settled.Add(r.From, r.To)
	}
	gone.Add(p.gap.From, p.gap.To)
	for owed := range settled.Missing(p.gap.From, min(p.gap.To, max(onDisk.Next, 1)-1)) {
		gone.Remove(owed.From, owed.To)
	}
	for _, r := range onDisk.Lost { // that is stated as what it is
		gone.Remove(r.From, r.To)
	}
	for _, r := range gone.Ranges() {
		p.hole(r.From, r.To, wire.GapIncarnation)
	}
}
