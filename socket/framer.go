package socket

import (
	"slices"

	"peermesh/internal/wire"
)

const (
	firstBlock = 2 << 10
	lastBlock  = 64 << 10
	maxDelta   = 1<<14 - 1 // two bytes of delta at most
	ownBlock   = lastBlock / 2

	// spareBlocks is how many blocks with nothing that anybody reads are kept while nothing is sent.
	spareBlocks = 4
)

// Framer encodes messages into blocks: each once, whoever will get it. Guarded by
// its owner's mutex.
type Framer struct {
	MaxMessage int

	block  []byte
	base   uint64
	unread func() uint64 // see Recycle
	full   blocks        // of many messages
	large  blocks        // of one
	begun  bool          // a block, since Trim
}

// fullBlock is a block of messages below end.
type fullBlock struct {
	buf []byte
	end uint64
}

// blocks are full, and to be written anew, oldest first.
type blocks struct {
	all   []fullBlock
	bytes int
	most  int // bytes
}

// keep adds one. Beyond the bound the oldest go: somebody reads them, and nothing will be written there.
func (k *blocks) keep(buf []byte, end uint64) {
	k.all = append(k.all, fullBlock{buf[:0], end})
	k.bytes += cap(buf)
	for k.bytes > k.most {
		k.drop()
	}
}

func (k *blocks) drop() []byte {
	buf := k.all[0].buf
	k.bytes -= cap(buf)
	k.all = slices.Delete(k.all, 0, 1)
	return buf
}

// free reports whether the oldest one holds nothing from a seq on.
func (k *blocks) free(unread uint64) bool { return len(k.all) > 0 && k.all[0].end <= unread }

// Recycle has blocks written anew of which nothing is read any more, instead of leaving them to the garbage collector: unread
// tells of a seq below which that is so. Blocks of so many bytes are kept for it at most, and as many of messages that have one
// of their own: what is owed at a time.
func (f *Framer) Recycle(unread func() uint64, bytes int) {
	f.unread, f.full.most, f.large.most = unread, bytes+spareBlocks*lastBlock, bytes
}

// Prepared is a message that was checked and whose headers are encoded, so that
// nothing can fail once it has a seq.
type Prepared struct {
	msg     *Message
	headers []byte
}

// Prepare checks m. It needs no lock.
func (f *Framer) Prepare(m *Message) (Prepared, error) {
	if err := m.check(f.MaxMessage); err != nil {
		return Prepared{}, err
	}
	h, err := m.Headers.encode()
	return Prepared{m, h}, err
}

// Size is about what the message will take of a queue's bound.
func (p Prepared) Size() int {
	return len(p.msg.Body) + len(p.msg.Topic) + len(p.msg.Key) + len(p.headers) + 16
}

// MaxSize is the most that Append writes.
func (p Prepared) MaxSize() int { return p.Size() + 48 }

// Append encodes the message as the one delta seqs above the first of its block.
func (p Prepared) Append(dst []byte, delta uint64) []byte {
	m := p.msg
	if m.Topic == "" && m.Key == "" && m.TTL == 0 && m.Delay == 0 && len(p.headers) == 0 {
		return wire.AppendPlain(dst, delta, m.Body)
	}
	r := wire.Record{Delta: delta, Topic: []byte(m.Topic), Key: []byte(m.Key), TTL: m.TTL, Headers: p.headers, Delay: m.Delay, Body: m.Body}
	return r.AppendTo(dst)
}

// Unframe makes a message of a record. Its body aliases the record.
func Unframe(r wire.Record) (*Message, error) {
	h, err := decodeHeaders(r.Headers)
	if err != nil {
		return nil, err
	}
	return &Message{Body: r.Body, Topic: string(r.Topic), Key: string(r.Key), Headers: h, TTL: r.TTL, Delay: r.Delay}, nil
}

// Frame encodes p as seq. The record is never written again as long as it is read; the next one of its block may be written
// behind it.
func (f *Framer) Frame(p Prepared, seq uint64) (base uint64, record []byte) {
	size := p.Size()
	if size > ownBlock {
		return seq, f.alone(p, seq, size+16)
	}
	if len(f.block)+size+16 > cap(f.block) || seq-f.base > maxDelta {
		f.next(seq, size)
	}
	at := len(f.block)
	f.block = p.Append(f.block, seq-f.base)
	return f.base, f.block[at:]
}

// alone encodes p, of that size at most, in a block of its own. One that travels in fragments is never written over: the pipe
// reads on though it is owed no more.
func (f *Framer) alone(p Prepared, seq uint64, size int) []byte {
	if f.unread == nil || size > wire.MaxRecord {
		return p.Append(make([]byte, 0, size), 0)
	}
	f.begun = true
	var buf []byte
	if f.large.free(f.unread()) {
		buf = f.large.drop()
	}
	if cap(buf) < size || cap(buf)/2 > size {
		buf = make([]byte, 0, size)
	}
	record := p.Append(buf, 0)
	f.large.keep(record, seq+1)
	return record
}

// next begins a block with seq, for a record of that size at least.
func (f *Framer) next(seq uint64, size int) {
	if f.unread != nil && cap(f.block) == lastBlock {
		f.full.keep(f.block, seq)
	}
	f.begun = true
	f.base = seq
	if f.unread != nil && f.full.free(f.unread()) {
		f.block = f.full.drop()
		return
	}
	grown := min(max(2*cap(f.block), firstBlock), lastBlock)
	f.block = make([]byte, 0, max(grown, size+32))
}

// Trim lets blocks go that nobody reads, but for some, if none was begun since it was called last. It is to be called now and
// then.
func (f *Framer) Trim() {
	begun := f.begun
	f.begun = false
	if begun || len(f.full.all) <= spareBlocks && len(f.large.all) == 0 {
		return
	}
	unread := f.unread()
	for f.large.free(unread) {
		f.large.drop()
	}
	for len(f.full.all) > spareBlocks && f.full.all[spareBlocks].end <= unread {
		f.full.drop()
	}
}
