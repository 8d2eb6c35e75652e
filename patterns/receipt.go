package patterns

import (
	"context"
	"fmt"
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

	mu   sync.Mutex
	fate *fate         // nil: not settled
	done chan struct{} // made when somebody waits
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

// settle tells who waits.
func (r *Receipt) settle(fate *fate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fate = fate
	if r.done != nil {
		close(r.done)
	}
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.fate != nil {
			close(r.done)
		}
	}
	return r.done
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
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fate
}

// receipts are those whose messages are not settled, by seq. They are kept in pages, for seqs
// come and go in runs. The zero value is empty.
type receipts struct {
	pages map[uint64]*receiptPage
	last  *receiptPage // used last
	n     int
}

type receiptPage struct {
	number uint64
	n      int
	of     [256]*Receipt
}

// page returns the page of a seq, nil if there is none.
func (rs *receipts) page(seq uint64) *receiptPage {
	number := seq / uint64(len(receiptPage{}.of))
	if rs.last == nil || rs.last.number != number {
		p := rs.pages[number]
		if p == nil {
			return nil
		}
		rs.last = p
	}
	return rs.last
}

// put keeps r under its seq.
func (rs *receipts) put(r *Receipt) {
	p := rs.page(r.Seq)
	if p == nil {
		p = &receiptPage{number: r.Seq / uint64(len(p.of))}
		if rs.pages == nil {
			rs.pages = map[uint64]*receiptPage{}
		}
		rs.pages[p.number], rs.last = p, p
	}
	p.of[r.Seq%uint64(len(p.of))] = r
	p.n++
	rs.n++
}

// note gives a receipt, if there is one, its seq and keeps it.
func (rs *receipts) note(r *Receipt, seq uint64) {
	if r != nil {
		r.Seq = seq
		rs.put(r)
	}
}

// take takes out the receipt of a seq; nil if there is none.
func (rs *receipts) take(seq uint64) *Receipt {
	if rs.n == 0 {
		return nil
	}
	p := rs.page(seq)
	if p == nil {
		return nil
	}
	slot := &p.of[seq%uint64(len(p.of))]
	r := *slot
	if r == nil {
		return nil
	}
	*slot = nil
	rs.n--
	if p.n--; p.n == 0 {
		delete(rs.pages, p.number)
		rs.last = nil
	}
	return r
}
