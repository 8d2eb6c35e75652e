package socket

import (
	"cmp"
	"slices"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// Confirmed says that the sender of a stream has settled the messages From..To for good: none
// of them will ever be sent again, to anybody. What a receiver remembers of them elsewhere,
// to know them again, it may forget.
type Confirmed struct {
	Stream   string // as Message.Stream
	Edition  uint64 // as Message.Edition; 0: of every edition
	From, To uint64
}

// maxConfirmed bounds the streams and editions of which confirmations are kept until somebody
// asks; one more and all are forgotten. Each stream tells how far it is when it attaches again.
const maxConfirmed = 1 << 12

type confirmedOf struct {
	stream  string
	edition uint64
}

// Confirmed returns what senders have confirmed since it was last called, and at the first
// call how far their streams are. It does not block. One caller gets it all.
func (b *Inbox) Confirmed() []Confirmed {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.confirms == nil {
		b.confirms = map[confirmedOf]*ranges.Set{}
		for _, st := range b.streams {
			if st.cur != nil && st.cur.attach.Start > 0 {
				b.confirm(st, upTo(st.cur.attach))
			}
		}
	}
	var out []Confirmed
	for of, set := range b.confirms {
		for _, r := range set.Ranges() {
			out = append(out, Confirmed{Stream: of.stream, Edition: of.edition, From: r.From, To: r.To})
		}
	}
	clear(b.confirms)
	slices.SortFunc(out, func(a, b Confirmed) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Edition, b.Edition), cmp.Compare(a.From, b.From))
	})
	return out
}

// upTo is what an ATTACH confirms: all below its Start.
func upTo(a wire.Attach) wire.EditionRanges {
	return wire.EditionRanges{Edition: a.Edition, Ranges: []ranges.Range{{To: a.Start - 1}}}
}

// confirm keeps a confirmation for Confirmed, once that was called. b.mu must be held.
func (b *Inbox) confirm(st *stream, c wire.EditionRanges) {
	if b.confirms == nil {
		return
	}
	for _, r := range c.Ranges {
		of := confirmedOf{st.label, c.Edition}
		if r.From == 0 { // below Start, where a seq was settled in whatever edition it had
			of.edition = 0
		}
		set := b.confirms[of]
		if set == nil {
			if len(b.confirms) >= maxConfirmed {
				clear(b.confirms)
			}
			set = &ranges.Set{}
			b.confirms[of] = set
		}
		set.Add(r.From, r.To)
	}
}

// Edition tells messages apart that have the same Seq because the sender's disk lost the end
// of the stream in between. (Stream, Edition, Seq) identifies a message for good.
func (m *Message) Edition() uint64 {
	if m.delivery == nil {
		return 0
	}
	return m.edition
}

// Held reports whether the message is certainly nobody else's at this moment: it is not
// answered, and its sender has not leased it to another receiver. It is false when the sender
// was not heard of for some seconds.
func (m *Message) Held() bool {
	if m.delivery == nil {
		return false
	}
	b := m.in.box
	b.mu.Lock()
	defer b.mu.Unlock()
	m.in.collect()
	return !m.over() && !b.closed && (m.in.level == BestEffort || b.clock() <= m.in.until && !m.in.doubtful.Contains(m.seq))
}

// doubt: a new pipe is known to the sender. If the leases were over by then, what is begun may
// have gone elsewhere meanwhile. The inbox's mutex must be held.
func (st *stream) doubt() {
	if st.box.clock() <= st.until {
		return
	}
	for _, held := range st.memory.Begun() {
		for _, r := range held.Ranges {
			st.doubtful.Add(r.From, r.To)
		}
	}
	for seq := range st.nacks { // answered, and only not known to be read
		st.doubtful.Remove(seq, seq)
	}
}
