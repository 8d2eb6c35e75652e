package patterns

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"peermesh/internal/identity"
	"peermesh/internal/ranges"
	"peermesh/internal/topic"
	"peermesh/internal/wire"
	"peermesh/spool"
)

// viewNote is a durable subscription as it lies on disk: one note, written in the same
// change as what it goes with.
//
//	version u8 = 1 | flags u8 (1 = expelled, 2 = begins with last values) | first | mark | counted | owed | bytes |
//	unseen from | unseen length | settled set | own set | count | { gap set } |
//	count | { try: seq, attempts, deliveries } | count | { holder id } |
//	count | { version: first | count | { pattern str } }
//
//	set: count | { distance from the one before, length - 1 }
//
// All numbers are uvarints. The store seals and checks notes, so what does not parse was
// written by something else.
type viewNote struct {
	expelled bool
	values   bool         // it will begin with the retained messages
	first    uint64       // what was published before is not its business
	mark     uint64       // the dispatch mark
	counted  uint64       // owed and bytes are of the messages up to this one
	owed     uint64       // copies
	bytes    uint64       // of their records
	unseen   ranges.Range // of these no copies were counted; From 0: none
	settled  ranges.Set   // from first on; what is not wanted may be in it
	own      ranges.Set   // messages for this subscription alone, and not settled
	gaps     holes
	tries    map[uint64]spool.Try
	holders  []identity.ID
	versions versions
}

// holes are what will never come, by reason.
type holes [wire.GapDropped + 1]ranges.Set

const (
	viewNoteVersion = 1
	noteExpelled    = 1
	noteValues      = 2
)

func (n *viewNote) append(dst []byte) []byte {
	dst = append(dst, viewNoteVersion, 0)
	if n.expelled {
		dst[len(dst)-1] |= noteExpelled
	}
	if n.values {
		dst[len(dst)-1] |= noteValues
	}
	for _, v := range []uint64{n.first, n.mark, n.counted, n.owed, n.bytes, n.unseen.From, n.unseen.To} {
		dst = binary.AppendUvarint(dst, v)
	}
	dst = appendSet(dst, &n.settled)
	dst = appendSet(dst, &n.own)
	for i := range n.gaps {
		dst = appendSet(dst, &n.gaps[i])
	}
	dst = binary.AppendUvarint(dst, uint64(len(n.tries)))
	for _, seq := range slices.Sorted(maps.Keys(n.tries)) {
		dst = binary.AppendUvarint(dst, seq)
		dst = binary.AppendUvarint(dst, uint64(n.tries[seq].Attempts))
		dst = binary.AppendUvarint(dst, uint64(n.tries[seq].Deliveries))
	}
	dst = binary.AppendUvarint(dst, uint64(len(n.holders)))
	for _, h := range n.holders {
		dst = append(dst, h[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(n.versions)))
	for _, v := range n.versions {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, v.first), uint64(len(v.patterns)))
		for _, text := range texts(v.patterns) {
			dst = append(binary.AppendUvarint(dst, uint64(len(text))), text...)
		}
	}
	return dst
}

func appendSet(dst []byte, s *ranges.Set) []byte {
	dst = binary.AppendUvarint(dst, uint64(s.Len()))
	last := uint64(0)
	for _, r := range s.Ranges() {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, r.From-last), r.To-r.From)
		last = r.To
	}
	return dst
}

var errViewNote = errors.New("patterns: a durable subscription on disk is not as it was written")

func parseViewNote(b []byte) (*viewNote, error) {
	r := noteReader{b: b}
	n := &viewNote{tries: map[uint64]spool.Try{}}
	if v := r.byte(); v > viewNoteVersion {
		return nil, fmt.Errorf("%w: version %d", errViewNote, v)
	}
	flags := r.byte()
	n.expelled, n.values = flags&noteExpelled != 0, flags&noteValues != 0
	for _, v := range []*uint64{&n.first, &n.mark, &n.counted, &n.owed, &n.bytes, &n.unseen.From, &n.unseen.To} {
		*v = r.uvarint()
	}
	r.set(&n.settled)
	r.set(&n.own)
	for i := range n.gaps {
		r.set(&n.gaps[i])
	}
	for range r.count() {
		t := spool.Try{Seq: r.uvarint(), Attempts: uint32(r.uvarint()), Deliveries: uint32(r.uvarint())}
		n.tries[t.Seq] = t
	}
	for range r.count() {
		var id identity.ID
		copy(id[:], r.bytes(len(id)))
		n.holders = append(n.holders, id)
	}
	for range r.count() {
		v := version{first: r.uvarint()}
		for range r.count() {
			p, err := topic.Parse(string(r.bytes(r.count())))
			if err != nil {
				r.bad = true
				break
			}
			v.patterns = append(v.patterns, p)
		}
		n.versions = append(n.versions, v)
	}
	sorted := slices.IsSortedFunc(n.versions, func(a, b version) int { return cmp.Compare(a.first, b.first) })
	if r.bad || len(r.b) > 0 || n.unseen.From > n.unseen.To || !sorted {
		return nil, errViewNote
	}
	return n, nil
}

// noteReader reads numbers until something is wrong; then all that follows is zero.
type noteReader struct {
	b   []byte
	bad bool
}

func (r *noteReader) bytes(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *noteReader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *noteReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count is a number of things that take a byte each at least.
func (r *noteReader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *noteReader) set(s *ranges.Set) {
	last := uint64(0)
	for i := range r.count() {
		from := last + r.uvarint()
		to := from + r.uvarint()
		if from < last || to < from || i > 0 && from <= last+1 {
			r.bad, r.b = true, nil
			return
		}
		s.Add(from, to)
		last = to
	}
}
