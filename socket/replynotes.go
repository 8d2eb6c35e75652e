package socket

import (
	"encoding/binary"
	"strings"
	"time"

	"peermesh/internal/wire"
)

// What a replier keeps on disk, under keys that begin with NoteName:
//
//	key    name 0 | node 16 | store 16                             of a stream
//	value  when it was last heard of, unix seconds u64 | flags u8 (1 = mortal)
//
//	key    name 0 | node 16 | store 16 | edition u64 | seq u64     of a request
//	value  0                                                       STARTED
//	value  outcome u8 | bytes of the body u64 | first part of the body
//
//	key    that of the request | number of the part u32            of a long reply
//	value  the part
//
// Integers are big-endian, so that keys come in order.
const (
	started   = 0
	replyPart = 1 << 20 // of a body; a note cannot hold a reply of any size

	streamKeySize  = 16 + 16
	requestKeySize = streamKeySize + 8 + 8
	partKeySize    = requestKeySize + 4
	replyHead      = 1 + 8
	recordSize     = 8 + 1
)

// record is what is known of a stream that is on disk.
type record struct {
	seen   time.Time // by the wall clock
	mortal bool      // its requester has no state directory: its stream ends with it
	bytes  int       // of its replies, while it is not in memory
}

func (r *record) value() []byte {
	v := binary.BigEndian.AppendUint64(nil, uint64(max(r.seen.Unix(), 0)))
	if r.mortal {
		return append(v, 1)
	}
	return append(v, 0)
}

// parseRecord reads a record. One that is not as it was written counts as new: rather kept
// for too long.
func parseRecord(v []byte, now time.Time) *record {
	if len(v) != recordSize {
		return &record{seen: now}
	}
	return &record{seen: time.Unix(int64(min(binary.BigEndian.Uint64(v), 1<<40)), 0), mortal: v[8] == 1}
}

func (b *Inbox) notePrefix() string { return b.cfg.NoteName + "\x00" }

func (b *Inbox) streamKey(k streamKey) string {
	return b.notePrefix() + string(k.node[:]) + string(k.store[:])
}

func (st *stream) requestKey(id requestID) string {
	k := binary.BigEndian.AppendUint64([]byte(st.box.streamKey(st.key)), id.Edition)
	return string(binary.BigEndian.AppendUint64(k, id.Seq))
}

// partKey is where a part of a reply is kept; the first one is under the request's key.
func (st *stream) partKey(id requestID, part int) string {
	k := st.requestKey(id)
	if part == 0 {
		return k
	}
	return string(binary.BigEndian.AppendUint32([]byte(k), uint32(part)))
}

// parts is in how many notes a reply of so many bytes is kept.
func parts(bytes int) int { return max((bytes+replyPart-1)/replyPart, 1) }

// replyNotes is a reply as it is kept.
func (st *stream) replyNotes(id requestID, r reply) map[string][]byte {
	notes := make(map[string][]byte, parts(len(r.body)))
	for part := range parts(len(r.body)) {
		var v []byte
		if part == 0 {
			v = binary.BigEndian.AppendUint64([]byte{byte(r.outcome)}, uint64(len(r.body)))
		}
		from := part * replyPart
		notes[st.partKey(id, part)] = append(v, r.body[from:min(from+replyPart, len(r.body))]...)
	}
	return notes
}

// loadRecords reads which streams are on disk.
func (b *Inbox) loadRecords() {
	now, prefix := time.Now().Round(0), b.notePrefix()
	for key, value := range b.cfg.Replies.Notes(prefix) {
		rest := key[len(prefix):]
		if len(rest) < streamKeySize {
			continue
		}
		var k streamKey
		copy(k.node[:], rest)
		copy(k.store[:], rest[16:])
		switch r := b.records[k]; {
		case len(rest) == streamKeySize:
			b.records[k] = parseRecord(value, now)
		case r != nil: // a stream's record comes before its requests
			n := len(value)
			if len(rest) == requestKeySize {
				n = max(n-replyHead, 0)
			}
			r.bytes += n
			b.cached += n
		}
	}
}

// recalled is a request as it was found on disk, part by part.
type recalled struct {
	id      requestID
	key     string  // of its first note
	outcome Outcome // 0: begun, and that is all that is known
	total   uint64  // bytes of the body
	body    []byte
}

// parseReplyNote reads the first note of a request. One that is not as it was written
// counts as STARTED: no more than that is known.
func parseReplyNote(v []byte) (o Outcome, total uint64, part []byte) {
	if len(v) < replyHead {
		return 0, 0, nil
	}
	o, total, part = Outcome(v[0]), binary.BigEndian.Uint64(v[1:]), v[replyHead:]
	if o < wire.OK || o > wire.Indeterminate || total > wire.MaxMessage || uint64(len(part)) > total {
		return 0, 0, nil
	}
	return o, total, part
}

// recall gives a new stream what an earlier process has left of it, and erases what the
// requester has settled: the seqs below start. The inbox's mutex must be held.
func (st *stream) recall(start uint64) error {
	b := st.box
	r := b.records[st.key]
	if r == nil {
		return nil
	}
	b.cached -= r.bytes
	r.bytes = 0
	st.recorded, st.unsaid = true, false
	prefix := b.streamKey(st.key)
	var last *recalled
	for key, value := range b.cfg.Replies.Notes(prefix) {
		switch len(key) - len(prefix) + streamKeySize {
		case requestKeySize:
			if err := st.remember(last); err != nil {
				return err
			}
			n := key[len(prefix):]
			last = &recalled{id: requestID{Edition: binary.BigEndian.Uint64([]byte(n)), Seq: binary.BigEndian.Uint64([]byte(n[8:]))}, key: key}
			last.outcome, last.total, last.body = parseReplyNote(value)
			if last.id.Seq < start {
				last = nil
				b.erased[key] = struct{}{}
			}
		case partKeySize: // keys come in order: it belongs to the one before, or to nothing
			if last != nil && strings.HasPrefix(key, last.key) {
				last.body = append(last.body, value...)
			} else {
				b.erased[key] = struct{}{}
			}
		}
	}
	b.flush()
	return st.remember(last)
}

// remember notes what was recalled: a reply to send again, or that there will be none. The
// inbox's mutex must be held.
func (st *stream) remember(r *recalled) error {
	if r == nil {
		return nil
	}
	fresh, err := st.memory.Arrive(r.id.Edition, r.id.Seq)
	if err != nil || !fresh {
		return err
	}
	if r.outcome == 0 || uint64(len(r.body)) != r.total {
		st.memory.Lose(r.id.Edition, r.id.Seq)
		st.lost[r.id] = struct{}{}
		return nil
	}
	st.memory.Done(r.id.Edition, r.id.Seq)
	st.replies.Put(r.id, reply{r.outcome, r.body})
	st.cache(len(r.body))
	return nil
}
