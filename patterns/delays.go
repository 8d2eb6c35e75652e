package patterns

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// Delayed messages of a stream on disk. Their records stay there: the ledger has an entry for
// each and asks for the record when the time has come. So they take next to no room from the
// others, which pass them.
//
//	given --> absent --time--> due --read--> on the due mark's way --sync--> filled in
//
// After a restart each message up to the dispatch mark counts as dispatched. Delayed ones below
// it mostly were not, for the mark passes them by. So those have a mark of their own, the
// [dueMark]: what comes after it in the order of dues was never dispatched.
type delays struct {
	coming  atomic.Int64 // accepted in this life, and not in the ledger
	absent  atomic.Int64 // in the ledger
	before  uint64       // the dispatch mark of earlier lives
	mark    dueMark      // on disk
	marking []groupDue   // on their way, with what they are for
}

// maxDelayed bounds the delayed messages of a stream on disk, each of which takes some 170
// bytes of memory (BenchmarkDelayed of internal/ledger). At it a message with a delay is refused (socket.ErrQueueFull).
const maxDelayed = 1 << 18

// crowded reports whether no delayed message may be added.
func (d *delays) crowded() bool { return d.coming.Load()+d.absent.Load() >= maxDelayed }

// dueMark is a place in the order of dues: the time, by the wall clock of the disk's commits,
// and the seq. It is on disk before anything up to there is dispatched. It only rises.
type dueMark struct {
	at  int64 // Unix time in ns
	seq uint64
}

func (m dueMark) compare(o dueMark) int {
	return cmp.Or(cmp.Compare(m.at, o.at), cmp.Compare(m.seq, o.seq))
}

// dueOf is where a record stands that was committed at that time.
func dueOf(committed time.Time, seq uint64, delay time.Duration) dueMark {
	return dueMark{committed.Add(min(delay, socket.MaxDelay)).UnixNano(), seq}
}

const (
	dueMarkVersion = 1
	dueMarkSize    = 1 + 8 + 8
)

// append writes the mark as it lies on disk: version u8 = 1 | at u64 | seq u64, big-endian.
func (m dueMark) append(dst []byte) []byte {
	dst = append(dst, dueMarkVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.at))
	return binary.BigEndian.AppendUint64(dst, m.seq)
}

// parseDueMark reads a mark. What it cannot read stands for the highest one, with which
// nothing is taken for not dispatched that was.
func parseDueMark(b []byte) dueMark {
	switch {
	case b == nil:
		return dueMark{}
	case len(b) != dueMarkSize || b[0] != dueMarkVersion:
		return dueMark{math.MaxInt64, math.MaxUint64}
	}
	return dueMark{int64(binary.BigEndian.Uint64(b[1:])), binary.BigEndian.Uint64(b[9:])}
}

func dueMarkKey(q *spool.Queue) string { return "due\x00" + q.Name() }

func readDueMark(t *tail) dueMark { return parseDueMark(t.store.Note(dueMarkKey(t.queue))) }

// groupDue is what may be filled in when a due mark is on disk.
type groupDue struct {
	group spool.Group
	mark  dueMark
	items []ledger.Item
}

// withoutRecord is a delayed message as the ledger gets it first.
func withoutRecord(it ledger.Item) ledger.Item {
	it.Record, it.Absent = nil, true
	return it
}

// delayed is it, read from a block that was committed at that time, with its delay. It comes
// with its record only if an earlier life may have dispatched it.
func (f *feed) delayed(it ledger.Item, committed time.Time, r wire.Record) ledger.Item {
	it.NotBefore = since(it.Accepted, min(r.Delay, socket.MaxDelay))
	if it.Seq <= f.delays.before && dueOf(committed, it.Seq, r.Delay).compare(f.delays.mark) <= 0 {
		return it
	}
	return withoutRecord(it)
}

// lookForDue has the loader fetch what is due, if there is somebody to get it and some room.
func (f *feed) lookForDue() {
	led := f.box.Ledger()
	if n := int64(led.Absent()); n != f.delays.absent.Load() {
		f.delays.absent.Store(n)
	}
	if _, due := led.NextDue(); !due || len(f.delays.marking) > 0 || led.Ready() == 0 {
		return
	}
	messages, bytes := f.inMemory()
	if most, mostBytes := f.most, f.tail.owner.set.queueBytes; messages <= most-most/8 && bytes <= uint64(mostBytes-mostBytes/8) {
		f.tail.hungry()
	}
}

// loadDue reads a block with messages that are due, without the lock. It reports whether
// there may be more.
func (f *feed) loadDue() bool {
	t := f.tail
	s := t.owner
	s.mu.Lock()
	from, due := f.box.Ledger().NextDue()
	wanted := due && t.failure() == nil && !s.closed && !f.crowded() && len(f.delays.marking) == 0 && f.box.Ledger().Ready() > 0
	s.mu.Unlock()
	if !wanted {
		return false
	}
	b, err := t.queue.Read(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if err := f.fetch(b, err); err != nil {
		t.fail(err)
		s.changed.Fire()
		return false
	}
	f.box.Dispatch()
	return true
}

// fetch takes what is due of a block. It is filled in at once if the due mark on disk is high
// enough, or when it is.
func (f *feed) fetch(b spool.Block, err error) error {
	var damaged *spool.DamagedError
	last := b.Last
	switch {
	case errors.Is(err, io.EOF):
		last = math.MaxUint64
	case errors.As(err, &damaged):
		last = damaged.To
	case err != nil:
		return err
	}
	seqs := f.box.Ledger().TakeDue(nil, last)
	due := groupDue{items: make([]ledger.Item, 0, len(seqs))}
	for data := b.Data; len(data) > 0 && len(seqs) > 0; {
		r, rest, err := wire.NextRecord(data)
		if err != nil && !errors.Is(err, wire.ErrChecksum) {
			break
		}
		raw := data[:len(data)-len(rest)]
		data = rest
		seq := b.Base + r.Delta
		at, found := slices.BinarySearch(seqs, seq)
		if err != nil || !found {
			continue
		}
		f.loseDue(seqs[:at])
		seqs = seqs[at+1:]
		due.items = append(due.items, ledger.Item{Seq: seq, Base: b.Base, Record: slices.Clone(raw)}) // the rest of the block may go
		if m := dueOf(b.At, seq, r.Delay); m.compare(due.mark) > 0 {
			due.mark = m
		}
	}
	f.loseDue(seqs)
	f.whenMarked(due)
	return nil
}

// loseDue settles delayed messages that the disk has lost.
func (f *feed) loseDue(seqs []uint64) {
	for _, seq := range seqs {
		f.box.Ledger().Lose(seq)
		f.tail.owner.lost(seq, seq)
	}
}

// whenMarked fills messages in as soon as the due mark is on disk.
func (f *feed) whenMarked(due groupDue) {
	if due.mark.compare(f.delays.mark) <= 0 {
		f.fill(due)
		return
	}
	c := f.tail.store.Begin()
	defer c.End()
	f.books.write(c, ruling{due: due.mark})
	f.tail.ask(c)
	due.group = c.Group()
	f.delays.marking = append(f.delays.marking, due)
}

// fetched: what was handed to the store up to group g is on disk.
func (f *feed) fetched(g spool.Group) {
	n := 0
	for ; n < len(f.delays.marking) && f.delays.marking[n].group <= g; n++ {
		f.delays.mark = f.delays.marking[n].mark
		f.fill(f.delays.marking[n])
	}
	f.delays.marking = slices.Delete(f.delays.marking, 0, n)
}

func (f *feed) fill(due groupDue) {
	for _, it := range due.items {
		f.box.Ledger().Fill(it.Seq, it.Base, it.Record)
	}
}

// onlyDelayed reports whether nothing is owed but what waits for its time.
func (f *feed) onlyDelayed() bool {
	n, _ := f.box.Ledger().Owed()
	return n == f.box.Ledger().Early() && f.waiting() == 0 && len(f.fates) == 0 && len(f.staged) == 0
}
