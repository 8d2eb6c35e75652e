package socket

import (
	"context"
	"errors"
	"fmt"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
)

// Journal keeps small named values on disk, for receivers whose done marks must outlive
// the process. The spool is one.
type Journal interface {
	// Note returns the value kept under key, nil if there is none.
	Note(key string) []byte
	// Save keeps values under their keys, nil to forget one, in one transaction. It does
	// not block on the disk; then is called, from another goroutine, once it is known that
	// they are on disk (nil) or will never be known to be.
	Save(values map[string][]byte, then func(error))
}

// keeping is what of a stream is handled and on its way to the journal. Until it is there
// the messages count as held: no answer leaves before the sync that it reports.
//
//	Ack            the journal is free          it is on disk
//	---> acked ----------------------> saving -----------------> done mark, DONE
type keeping struct {
	acked  ackedSet
	saving ackedSet
	bound  []*Message // acked in transactions that are not known to be on disk, in their order
	size   int        // bytes of all of these, see maxUnsaved
	dirty  bool       // in the inbox's list of those that may have something to save
	due    bool       // the note on disk is not what it should be
}

// ackedSet is messages acked and not known to be on disk.
type ackedSet struct {
	seqs  editionSets
	n     int
	bytes int
	told  []*Message // of an inbox whose user asked for them
}

func (a *ackedSet) add(edition, from, to uint64, bytes int) {
	a.seqs.add(edition, from, to)
	a.n += int(to - from + 1)
	a.bytes += bytes
}

func (a *ackedSet) clear() {
	a.seqs.clear()
	a.n, a.bytes, a.told = 0, 0, nil
}

// maxUnsaved and maxUnsavedBytes bound what of a stream is handled and waits for a disk that
// does not answer; at them no credit is granted.
const (
	maxUnsaved      = 1 << 16
	maxUnsavedBytes = 64 << 20
)

// crowded reports whether as much waits for the disk as may.
func (k *keeping) crowded() bool {
	return k.acked.n+k.saving.n+len(k.bound) >= maxUnsaved || k.size >= maxUnsavedBytes
}

// durable reports whether done marks of st are kept on disk.
func (st *stream) durable() bool { return st.level == Durable && st.box.cfg.Journal != nil }

// noteKey is where the done marks of a stream are kept.
func (st *stream) noteKey() string {
	return fmt.Sprintf("done/%s/%x/%x", st.box.cfg.NoteName, st.key.node, st.key.store)
}

// restore reads the done marks that an earlier process left.
func (st *stream) restore() error {
	value := st.box.cfg.Journal.Note(st.noteKey())
	done, err := parseNote(value)
	if err != nil {
		return err
	}
	if !st.memory.Restore(done) {
		return fmt.Errorf("%w: done marks of %d editions", errNote, len(done))
	}
	return nil
}

var errNote = errors.New("socket: done marks on disk are not as they were written")

// parseNote reads what note wrote: DONE frames, one after the other.
func parseNote(b []byte) (out []wire.EditionRanges, err error) {
	for len(b) > 0 {
		t, payload, rest, _, err := wire.Next(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNote, err)
		}
		if t != wire.TypeDone {
			return nil, fmt.Errorf("%w: frame 0x%02x", errNote, byte(t))
		}
		d, err := wire.ParseRanges(payload)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNote, err)
		}
		out = append(out, d)
		b = rest
	}
	return out, nil
}

// note is all done marks of st as they will be when what is on its way is on disk.
func (st *stream) note() (b []byte) {
	marks := map[uint64]*ranges.Set{}
	of := func(edition uint64) *ranges.Set {
		s := marks[edition]
		if s == nil {
			s = &ranges.Set{}
			marks[edition] = s
		}
		return s
	}
	var a wire.Attached
	st.memory.Attached(&a)
	for _, d := range a.Done {
		for _, r := range d.Ranges {
			of(d.Edition).Add(r.From, r.To)
		}
	}
	for edition, r := range st.kept.saving.seqs.all() {
		of(edition).Add(r.From, r.To)
	}
	for _, m := range st.kept.bound {
		of(m.edition).Add(m.seq, m.seq)
	}
	for edition, s := range marks {
		b = wire.AppendRanges(b, wire.TypeDone, wire.EditionRanges{Edition: edition, Ranges: s.Ranges()})
	}
	return b
}

// keep notes that m was handled; it is done when that is on disk. b.mu must be held.
func (b *Inbox) keep(m *Message) {
	st := m.in
	st.keepRun(m.edition, m.seq, m.seq, len(m.Body))
	if b.cfg.OnDone != nil {
		st.kept.acked.told = append(st.kept.acked.told, m)
	}
	b.list(st)
	b.save()
}

// keepRun is keep for the messages from..to, of so many bytes, of a stream that is saved soon. The inbox's mutex must be
// held.
func (st *stream) keepRun(edition, from, to uint64, bytes int) {
	st.kept.acked.add(edition, from, to, bytes)
	st.kept.size += bytes
	st.box.unsaved += int(to - from + 1)
}

// mark makes the note of st be written. b.mu must be held.
func (b *Inbox) mark(st *stream) {
	st.kept.due = true
	b.list(st)
	b.save()
}

// list has the next save look for what st has to keep. b.mu must be held.
func (b *Inbox) list(st *stream) {
	if !st.kept.dirty {
		st.kept.dirty = true
		b.dirty = append(b.dirty, st)
	}
}

// save writes the notes of all streams that need it, unless that is under way: what is
// acked meanwhile goes along in the next one. b.mu must be held.
func (b *Inbox) save() {
	if b.saving || len(b.dirty) == 0 || b.failed != nil {
		return
	}
	streams := b.dirty
	b.dirty = nil
	values := make(map[string][]byte, len(streams))
	for _, st := range streams {
		k := &st.kept
		st.collect()
		k.dirty = false
		if k.acked.n == 0 && !k.due {
			continue
		}
		k.due = false
		k.saving, k.acked = k.acked, k.saving
		values[st.noteKey()] = st.note()
	}
	if len(values) == 0 {
		return
	}
	b.saving = true
	b.cfg.Journal.Save(values, func(err error) { b.saved(streams, err) })
}

// saved: what was saving is on disk, and is told; or the journal failed, and nothing more
// is handed out.
func (b *Inbox) saved(streams []*stream, err error) {
	b.mu.Lock()
	b.saving = false
	if err != nil {
		b.fail(err)
		b.mu.Unlock()
		return
	}
	var told []*Message
	for _, st := range streams {
		told = append(told, st.saved()...)
	}
	if b.unsaved == 0 {
		b.settled.Fire()
	}
	b.save()
	b.mu.Unlock()
	if b.cfg.OnDone != nil {
		for _, m := range told {
			b.cfg.OnDone(m)
		}
	}
}

// saved turns what was saving into done marks, and returns those whose user is to be told. The inbox's mutex must be held.
func (st *stream) saved() (told []*Message) {
	k := &st.kept
	for edition, r := range k.saving.seqs.all() {
		st.done(edition, r.From, r.To)
	}
	st.box.unsaved -= k.saving.n
	k.size -= k.saving.bytes
	told = k.saving.told
	k.saving.clear()
	return told
}

// done makes done marks of the messages from..to, which are on disk as such now, and tells the sender. The inbox's mutex
// must be held.
func (st *stream) done(edition, from, to uint64) {
	st.memory.DoneRun(edition, from, to)
	if st.cur != nil {
		st.cur.markDone(edition, from, to)
		st.cur.pipe.kick()
	}
}

// fail ends the inbox's work: what is handled can no longer be kept. b.mu must be held.
func (b *Inbox) fail(err error) {
	if b.failed == nil {
		b.failed = fmt.Errorf("%w: %w", ErrStorage, err)
		b.reclaim()
		for _, st := range b.streams {
			st.collect() // and no ack is taken without the lock any more
		}
		close(b.broken)
		b.dismiss()
	}
}

// awaitSaved waits until what was acked is on disk, the journal failed or ctx ends: only
// then can it be told.
func (b *Inbox) awaitSaved(ctx context.Context) {
	for {
		b.mu.Lock()
		n, settled := b.unsaved, b.settled.Wait()
		b.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-settled:
		case <-b.broken:
			return
		case <-ctx.Done():
			return
		}
	}
}
