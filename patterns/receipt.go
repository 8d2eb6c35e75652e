package patterns

import (
	"context"
	"fmt"
	"math/bits"
	"sync"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/socket"
	"peermesh/spool"
)

// Receipt tells what becomes of one message. Its methods may be called concurrently.
type Receipt struct {
	Stream string
	Seq    uint64

	group spool.Group
	store *spool.Store // nil below level durable
	page  *receiptPage // nil: it is of no message
	slot  uint8
}

// fate is what became of a message, without its seq: so most messages share theirs.
type fate struct {
	state  ledger.State
	reason string
	text   string
	by     string // of done and dead
}

// fate is what became of a message. s.mu must be held.
func (s *sender) fate(st ledger.Settlement) *fate {
	if st.State == ledger.Done {
		return s.done.by(st.By.Node)
	}
	f := &fate{state: st.State, reason: st.Reason, text: st.Text}
	if st.State == ledger.Dead {
		f.by = st.By.Node.String()
	}
	return f
}

// dones are the fates of what is done, by who did it.
type dones map[identity.ID]*fate

// maxDones bounds the receivers remembered.
const maxDones = 1024

func (d *dones) by(id identity.ID) *fate {
	f := (*d)[id]
	if f == nil {
		if *d == nil || len(*d) >= maxDones {
			*d = dones{}
		}
		f = &fate{state: ledger.Done, by: id.String()}
		(*d)[id] = f
	}
	return f
}

// settled is the fate that users are told.
func (f *fate) settled(stream string, seq uint64, sub string) Settled {
	return Settled{Stream: stream, Seq: seq, State: f.state.String(), Reason: f.reason, Sub: sub, By: f.by, Text: f.text}
}

// Stored blocks until the message is on disk, or ctx ends: then it is not known whether
// it will be. Below level durable it returns at once.
func (r *Receipt) Stored(ctx context.Context) error {
	if r.store == nil {
		return nil
	}
	if err := r.store.Wait(ctx, r.group); err != nil {
		return fmt.Errorf("%w: %w", socket.ErrUnknown, err)
	}
	return nil
}

// Done is closed when the message is settled.
func (r *Receipt) Done() <-chan struct{} {
	if r.page == nil {
		return nil
	}
	return r.page.done(r.slot)
}

// Wait blocks until the message is settled or ctx ends, and tells its fate.
func (r *Receipt) Wait(ctx context.Context) (Settled, error) {
	if fate := r.known(); fate != nil {
		return fate.settled(r.Stream, r.Seq, ""), nil
	}
	select {
	case <-r.Done():
		return r.known().settled(r.Stream, r.Seq, ""), nil
	case <-ctx.Done():
		return Settled{}, context.Cause(ctx)
	}
}

func (r *Receipt) known() *fate {
	if r.page == nil {
		return nil
	}
	return r.page.known(r.slot)
}

// receipts are those whose messages are not settled, by seq. They are settled by the page, for seqs come and go in runs. The
// zero value is empty. Safe for concurrent use.
type receipts struct {
	mu    sync.Mutex
	pages map[uint64]*receiptPage // those with receipts that are not settled, by number
	last  *receiptPage            // the newest
	alone map[uint64]*receiptPage // each of one receipt that had no seq when it was given out, by its seq
}

// receiptPage is what became of neighbours. Who has one of their receipts keeps it.
type receiptPage struct {
	number uint64
	open   uint64 // by slot: has a receipt and is not settled; guarded by the mutex of receipts

	mu    sync.Mutex
	fates [receiptSlots]*fate
	waits map[uint8]chan struct{} // by slot, of those that somebody waits for
}

const receiptSlots = 64

// early is a receipt whose seq comes later, with note.
func early(stream string) *Receipt { return &Receipt{Stream: stream, page: &receiptPage{open: 1}} }

// note gives a receipt, if there is one, its seq and keeps it until that is settled.
func (rs *receipts) note(r *Receipt, seq uint64) {
	if r == nil {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.Seq = seq
	if r.page != nil {
		if rs.alone == nil {
			rs.alone = map[uint64]*receiptPage{}
		}
		rs.alone[seq] = r.page
		return
	}
	r.page, r.slot = rs.page(seq/receiptSlots), uint8(seq%receiptSlots)
	r.page.open |= 1 << r.slot
}

// page is that of a number, made if there is none. rs.mu must be held.
func (rs *receipts) page(number uint64) *receiptPage {
	if rs.last != nil && rs.last.number == number {
		return rs.last
	}
	p := rs.pages[number]
	if p == nil {
		p = &receiptPage{number: number}
		if rs.pages == nil {
			rs.pages = map[uint64]*receiptPage{}
		}
		rs.pages[number] = p
	}
	rs.last = p
	return p
}

// settle tells those who wait for messages from..to what became of each.
func (rs *receipts) settle(from, to uint64, fate *fate) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for seq := from; len(rs.alone) > 0 && seq <= to; seq++ {
		if p := rs.alone[seq]; p != nil {
			p.settle(1, fate)
			delete(rs.alone, seq)
		}
	}
	for len(rs.pages) > 0 && from <= to {
		number := from / receiptSlots
		end := min(to, number*receiptSlots+receiptSlots-1)
		if p := rs.pages[number]; p != nil {
			p.settle(^uint64(0)>>(receiptSlots-1-(end-from))<<(from%receiptSlots), fate)
			rs.drop(p)
		}
		from = end + 1
	}
}

// drop lets go of a page of which all is settled. rs.mu must be held.
func (rs *receipts) drop(p *receiptPage) {
	if p.open > 0 {
		return
	}
	delete(rs.pages, p.number)
	if rs.last == p {
		rs.last = nil
	}
}

// settle notes the fate of what has a receipt of these slots. The mutex of receipts must be held.
func (p *receiptPage) settle(these uint64, fate *fate) {
	these &= p.open
	p.open &^= these
	p.mu.Lock()
	defer p.mu.Unlock()
	for left := these; left != 0; left &= left - 1 {
		p.fates[bits.TrailingZeros64(left)] = fate
	}
	for slot, c := range p.waits {
		if these>>slot&1 != 0 {
			close(c)
			delete(p.waits, slot)
		}
	}
}

// known is the fate of a message; nil if it is not settled.
func (p *receiptPage) known(slot uint8) *fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fates[slot]
}

// done is closed when a message is settled.
func (p *receiptPage) done(slot uint8) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fates[slot] != nil {
		return closed
	}
	c := p.waits[slot]
	if c == nil {
		c = make(chan struct{})
		if p.waits == nil {
			p.waits = map[uint8]chan struct{}{}
		}
		p.waits[slot] = c
	}
	return c
}

// closed is what who comes late waits for.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
