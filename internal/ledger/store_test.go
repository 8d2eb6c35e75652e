package ledger

import (
	"slices"
	"time"

	"peermesh/internal/marks"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// store is what the sender of a durable stream has on disk, and what its owner must keep
// around a ledger so that it survives:
//
//   - A message is on disk before the ledger hears of it.
//   - Fates and the mark the ledger wants are written together. Once they are on disk the
//     ledger is told (Release, SetMark), never before.
//   - Who is dialled is on disk before the ATTACH.
//   - What was not settled on disk is appended anew in the next life, as unknown if it is
//     not above the mark, with the seqs that each earlier edition owns.
//
// And a receiver's disk adds to the rules of the type world:
//
//   - A done mark is on disk before it is told, by DONE or ATTACHED: until then the message
//     counts as held.
//   - A disk that was lost is another store.
type store struct {
	id      byte
	items   []Item // not settled there, by seq
	settled ranges.Set
	mark    uint64
	holders [3]bool // which nodes may have messages

	met     [3]bool    // dialled, and in no write yet
	dirty   ranges.Set // settled in memory
	fetched ranges.Set // delayed ones that went to the ledger when their time had come
	writing bool       // a write is under way, with
	wrote   ranges.Set // these fates
	raise   uint64     // and this mark; 0: the one there was
	batch   uint64     // its number
}

func (s *store) clone() *store {
	if s == nil {
		return nil
	}
	n := *s
	n.items = slices.Clone(s.items)
	n.settled, n.dirty, n.wrote, n.fetched = s.settled.Clone(), s.dirty.Clone(), s.wrote.Clone(), s.fetched.Clone()
	return &n
}

// meets notes who is dialled.
func (s *store) meets(node int, later bool) {
	if later {
		s.met[node] = true
		return
	}
	s.holders[node] = true
}

func (s *store) put(it Item, now time.Time) {
	it.Accepted = now
	s.items = append(s.items, it)
}

// load tells a new life what the store knows of the earlier ones.
func (w *world) load(m *Mode) {
	s := w.store
	s.dirty.Clear()
	s.writing, s.met = false, [3]bool{}
	if w.without.settledRead {
		s.settled.Clear()
	}
	s.items = slices.DeleteFunc(s.items, func(it Item) bool { return s.settled.Contains(it.Seq) })
	m.First, m.Marked, m.Staged = w.nextSeq, !w.without.mark, !w.without.stage
	for i, first := range w.firsts[:w.life-1] {
		if w.owns(byte(i+1), s.items) {
			m.Editions = append(m.Editions, wire.EditionSpan{Edition: uint64(i + 1), First: first})
		}
	}
	for i, r := range w.nodes {
		if s.holders[i] && !w.without.unknownWait && r.con != nil {
			m.Holders = append(m.Holders, r.con.Who.Node)
		}
	}
}

// owns reports whether one of the messages was accepted in that life.
func (w *world) owns(life byte, items []Item) bool {
	return slices.ContainsFunc(items, func(it Item) bool { return w.birth(it.Seq) == life })
}

// append hands what is on disk to the ledger of a new life.
func (w *world) append() {
	s := w.store
	if w.without.markRead {
		s.mark = 0
	}
	w.l.SetMark(s.mark)
	for _, it := range s.items {
		it.Unknown = it.Seq <= s.mark && (it.NotBefore.IsZero() || s.fetched.Contains(it.Seq))
		w.l.Append(it.absent(), w.now)
	}
}

// absent is it as the ledger gets it first: the record of one that has a delay stays on disk,
// unless it may have been dispatched.
func (it Item) absent() Item {
	if !it.NotBefore.IsZero() && !it.Unknown {
		it.Absent, it.Record = true, nil
	}
	return it
}

// fetch brings what has come due to the ledger.
func (w *world) fetch() {
	for _, seq := range w.l.TakeDue(nil, w.nextSeq) {
		w.store.fetched.Add(seq, seq)
		i := slices.IndexFunc(w.store.items, func(it Item) bool { return it.Seq == seq })
		w.l.Fill(seq, w.store.items[i].Base, w.store.items[i].Record)
	}
}

// beginSync begins to write what there is to write, and raises the mark up to seq if
// that is not 0.
func (w *world) beginSync(mark uint64) {
	s := w.store
	if s.writing || mark == 0 && !w.l.Unsealed() && s.dirty.Count() == 0 {
		return
	}
	s.batch++
	w.l.Seal(s.batch)
	s.wrote, s.raise, s.writing = s.dirty.Clone(), mark, true
	s.dirty.Clear()
}

// sync: what was being written is on disk.
func (w *world) sync() {
	s := w.store
	if !s.writing {
		return
	}
	s.writing = false
	s.settled.AddSet(&s.wrote)
	for seq := range s.wrote.Each() {
		w.ghost(w.birth(seq), seq).final = true
	}
	if !w.without.settledRead {
		s.items = slices.DeleteFunc(s.items, func(it Item) bool { return s.settled.Contains(it.Seq) })
	}
	for i := range s.met {
		s.holders[i] = s.holders[i] || s.met[i]
	}
	s.wrote.Clear()
	w.l.Release(s.batch)
	if s.mark = max(s.mark, s.raise); s.mark > 0 {
		w.l.SetMark(s.mark)
	}
	s.raise = 0
}

// hasTail reports whether the last message that was put is not settled on disk.
func (w *world) hasTail() bool {
	n := len(w.store.items)
	return n > 0 && w.store.items[n-1].Seq == w.nextSeq-1
}

// loseTail restarts the sender with a disk that has lost the last message. Another one
// takes its seq.
func (w *world) loseTail() {
	s := w.store
	last := len(s.items) - 1
	w.nextSeq = s.items[last].Seq
	s.items = s.items[:last]
	w.restartSender()
	w.put("", 0, 0)
}

// wipeSender restarts the sender with an empty disk: its streams are others from now on,
// and what receivers remember of the old ones concerns nobody.
func (w *world) wipeSender() {
	for _, r := range w.nodes {
		for _, k := range r.links {
			k.open, k.there, k.up, k.down = false, false, nil, nil
		}
		w.clean(r)
		*r = receiver{con: r.con, nonce: r.nonce, disk: r.disk, window: r.window, memory: new(marks.Stream)}
	}
	for i := range w.firsts {
		w.firsts[i], w.ghosts[i] = 1, nil
	}
	w.store, w.nextSeq = &store{id: w.store.id + 1}, 1
	w.begin()
}

// owedFrom is the Start of an ATTACH.
func (w *world) owedFrom() uint64 {
	if w.without.start {
		return w.l.Lowest()
	}
	return w.l.Start()
}

// storeOf is the store id of a receiver.
func (w *world) storeOf(r *receiver) [16]byte {
	if w.keeps {
		return [16]byte{0: r.disk, 1: 1}
	}
	return nonceOf(r.nonce)
}

// save writes the done marks of what was handled, and tells them.
func (w *world) save(r *receiver) {
	if len(r.acked) == 0 {
		return
	}
	i := slices.Index(w.nodes, r)
	for _, it := range r.acked {
		g := w.ghost(it.life, it.seq)
		g.kept, g.at[i].kept = true, true
	}
	var told wire.Attached
	r.memory.Attached(&told)
	r.saved = told.Done
	for _, it := range r.acked {
		r.saved = append(r.saved, run(it.edition, it.seq))
	}
	for _, it := range r.acked {
		if !w.without.ackEarly {
			w.answer(r, it)
		}
	}
	r.acked = nil
	w.grant(r)
}

// wipe restarts a receiver that has lost its disk.
func (w *world) wipe(r *receiver) {
	i := slices.Index(w.nodes, r)
	if !w.without.store {
		r.disk++
		for _, gs := range w.ghosts {
			for n := range gs {
				gs[n].at[i] = place{}
			}
		}
	}
	r.saved = nil
	w.restart(r)
}

// endPast: the time that the leases of earlier lives may last is over, everywhere.
func (w *world) endPast() {
	for _, r := range w.nodes {
		if r.lessor < w.life {
			r.until = time.Time{}
		}
		for _, k := range r.links {
			if k.greeted && k.life < w.life {
				k.asked = time.Time{}
				clear(k.renews)
			}
		}
	}
	w.l.endPast()
}
