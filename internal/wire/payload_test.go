package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"peermesh/internal/ranges"
)

// refused reports whether err is what a Parse function says of a bad payload.
func refused(err error) bool {
	return (errors.Is(err, ErrMalformed) || errors.Is(err, ErrTooLong)) && !errors.Is(err, ErrShort)
}

func TestEveryTruncationOfAPayloadIsRefused(t *testing.T) {
	for _, g := range golden {
		payload := payloadOf(t, unhex(g.hex), g.t)
		for n := range len(payload) - g.tail {
			if v, err := codecs[g.t].parse(payload[:n:n]); !refused(err) {
				t.Errorf("%s, %d of %d bytes: %+v, error %v", g.name, n, len(payload), v, err)
			}
		}
		for n := len(payload) - g.tail; n < len(payload); n++ { // a shorter last field is for the caller to judge
			if v, err := codecs[g.t].parse(payload[:n:n]); err != nil {
				t.Errorf("%s, last field cut at %d of %d bytes: %+v, error %v", g.name, n, len(payload), v, err)
			}
		}
	}
}

func TestEveryTruncationOfARecordIsRefused(t *testing.T) {
	for _, g := range goldenRecords {
		whole := unhex(g.hex)
		for n := range whole {
			if r, rest, err := NextRecord(whole[:n:n]); !refused(err) || rest != nil {
				t.Errorf("%d of %d bytes of % x: %+v, rest % x, error %v", n, len(whole), whole, r, rest, err)
			}
		}
	}
}

// The content of a record is cut, but its length and checksum say that this is all of it.
func TestEveryTruncationOfARecordsContentIsRefused(t *testing.T) {
	for _, g := range goldenRecords {
		content := contentOf(unhex(g.hex))
		for n := range len(content) - len(g.record.Body) {
			if r, rest, err := NextRecord(withChecksum(content[:n])); !refused(err) || rest == nil {
				t.Errorf("%d of %d bytes of % x: %+v, rest % x, error %v", n, len(content), content, r, rest, err)
			}
		}
	}
}

func TestEveryTruncationOfHeadersIsRefused(t *testing.T) {
	whole := AppendHeaders(nil, []Header{{"content-type", "text/plain"}, {"", ""}, {"a", "ü"}})
	ends := map[int]bool{0: true, 24: true, 26: true} // of whole headers
	for n := range whole {
		if hs, err := ParseHeaders(whole[:n]); refused(err) == ends[n] {
			t.Errorf("%d of %d bytes: %q, error %v", n, len(whole), hs, err)
		}
	}
}

func TestTrailingBytesAreRefusedExceptWhereANewerVersionMayAddSome(t *testing.T) {
	for _, g := range golden {
		payload := payloadOf(t, unhex(g.hex), g.t)
		longer := append(slices.Clone(payload), 0)
		got, err := codecs[g.t].parse(longer)
		switch g.t {
		case TypeData, TypeFragment, TypeTold: // the last field is all that is left
			if err != nil {
				t.Errorf("%s with a longer last field: %v", g.name, err)
			}
		case TypeHeartbeat: // any padding
			if err != nil || got != g.value {
				t.Errorf("HEARTBEAT with more padding: %+v, error %v", got, err)
			}
		default:
			if codecs[g.t].plus && (err != nil || !reflect.DeepEqual(got, g.value)) {
				t.Errorf("%s with a field of a newer version: error %v\n got %+v\nwant %+v", g.name, err, got, g.value)
			}
			if !codecs[g.t].plus && !refused(err) {
				t.Errorf("%s with a byte too many: %+v, error %v", g.name, got, err)
			}
		}
	}
}

func uv(v uint64) string  { return string(binary.AppendUvarint(nil, v)) }
func str(s string) string { return uv(uint64(len(s))) + s }
func long(n int) string   { return str(strings.Repeat("x", n)) }

var (
	id16 = strings.Repeat("i", 16)
	ed8  = strings.Repeat("e", 8)

	// Payloads up to the field that is tried, and what follows it.
	helloHead    = uv(1) + id16 + id16 + uv(1) + id16 + uv(1)
	attachNames  = id16 + uv(0) + ed8 + uv(0) + attachTail
	attachHead   = uv(1) + "\x01\x03" + id16
	attachTail   = id16 + uv(1) + uv(1) + id16 + uv(1) + uv(1) + str("jobs")
	attachedHead = uv(1) + "\x00" + id16 + id16 + uv(1) + uv(1)
	run          = "\x00" + uv(1) + uv(1) + uv(0)
)

const (
	bad       = "\xff\xfe" // not UTF-8
	twoZeroes = "\x80\x00" // zero, not in shortest form
	huge      = 1 << 62
)

// Each payload is well-formed but for one field. want nil: it is at the limit and still good.
var limits = []struct {
	name    string
	t       Type
	payload string
	want    error
}{
	{"max message at the limit", TypeHello, helloHead + uv(MaxMessage) + str("") + str(""), nil},
	{"max message", TypeHello, helloHead + uv(MaxMessage+1) + str("") + str(""), ErrTooLong},
	{"namespace at the limit", TypeHello, helloHead + uv(1) + long(MaxName) + str(""), nil},
	{"namespace", TypeHello, helloHead + uv(1) + long(MaxName+1) + str(""), ErrTooLong},
	{"name", TypeHello, helloHead + uv(1) + str("") + long(MaxName+1), ErrTooLong},
	{"name of 2^62 bytes", TypeHello, helloHead + uv(1) + str("") + uv(huge), ErrTooLong},
	{"name of 2^64-1 bytes", TypeHello, helloHead + uv(1) + str("") + uv(math.MaxUint64), ErrTooLong},
	{"namespace not UTF-8", TypeHello, helloHead + uv(1) + str(bad) + str(""), ErrMalformed},
	{"policy version not shortest", TypeHello, helloHead + uv(1) + str("") + str("") + twoZeroes, ErrMalformed},
	{"policy at the limit", TypePolicy, long(MaxPolicy), nil},
	{"policy", TypePolicy, long(MaxPolicy + 1), ErrTooLong},
	{"policy not UTF-8", TypePolicy, str(bad), ErrMalformed},
	{"version not shortest", TypeHello, twoZeroes + helloHead[1:] + uv(1) + str("") + str(""), ErrMalformed},

	{"number not shortest", TypeWelcome, twoZeroes, ErrMalformed},
	{"number over 64 bits", TypeWelcome, strings.Repeat("\xff", 9) + "\x02", ErrMalformed},
	{"number of ten bytes and no end", TypeWelcome, strings.Repeat("\xff", 10), ErrMalformed},
	{"number of eleven bytes", TypeWelcome, strings.Repeat("\x80", 10) + "\x01", ErrMalformed},
	{"largest number", TypeWelcome, uv(math.MaxUint64), nil},

	{"code at the limit", TypeRefused, long(MaxName) + str("") + uv(1), nil},
	{"code", TypeRefused, long(MaxName+1) + str("") + uv(1), ErrTooLong},
	{"reason at the limit", TypeRefused, str("") + long(MaxReason) + uv(1), nil},
	{"reason", TypeRefused, str("") + long(MaxReason+1) + uv(1), ErrTooLong},
	{"reason not UTF-8", TypeRefused, str("") + str(bad) + uv(1), ErrMalformed},

	{"kind 0", TypeOffer, uv(1) + "\x00" + str("a") + str("") + "\x00\x00", ErrMalformed},
	{"kind 7", TypeOffer, uv(1) + "\x07" + str("a") + str("") + "\x00\x00", ErrMalformed},
	{"a sender offered", TypeOffer, uv(1) + "\x01" + str("a") + str("") + "\x00\x00", ErrMalformed},
	{"offer flags", TypeOffer, uv(1) + "\x04" + str("a") + str("b") + "\x04\x00", ErrMalformed},
	{"start 4", TypeOffer, uv(1) + "\x04" + str("a") + str("b") + "\x01\x04", ErrMalformed},
	{"exclusive and not durable", TypeOffer, uv(1) + "\x04" + str("a") + str("b") + "\x02\x00", ErrMalformed},
	{"durable Pull", TypeOffer, uv(1) + "\x02" + str("a") + str("b") + "\x01\x00", ErrMalformed},
	{"start of a Pull", TypeOffer, uv(1) + "\x02" + str("a") + str("") + "\x00\x01", ErrMalformed},
	{"durable without a name", TypeOffer, uv(1) + "\x04" + str("a") + str("") + "\x01\x00", ErrMalformed},
	{"label", TypeOffer, uv(1) + "\x04" + str("a") + long(MaxName+1), ErrTooLong},
	{"label not UTF-8", TypeOffer, uv(1) + "\x04" + str("a") + str(bad), ErrMalformed},

	{"peers at the limit", TypePeers, uv(MaxPeers) + strings.Repeat(id16+str(""), MaxPeers), nil},
	{"peers", TypePeers, uv(MaxPeers+1) + strings.Repeat(id16+str(""), MaxPeers+1), ErrTooLong},
	{"peers beyond the payload", TypePeers, uv(3) + strings.Repeat(id16+str(""), 2), ErrMalformed},
	{"2^62 peers", TypePeers, uv(huge), ErrTooLong},
	{"address at the limit", TypePeers, uv(1) + id16 + long(MaxAddr), nil},
	{"address", TypePeers, uv(1) + id16 + long(MaxAddr+1), ErrTooLong},

	{"goaway reason", TypeGoAway, long(MaxReason + 1), ErrTooLong},
	{"goaway reason not UTF-8", TypeGoAway, str(bad), ErrMalformed},
	{"bye with a payload", TypeBye, "\x00", ErrMalformed},

	{"a receiver attaches", TypeAttach, uv(1) + "\x02\x01" + attachNames, ErrMalformed},
	{"kind 9 attaches", TypeAttach, uv(1) + "\x09\x01" + attachNames, ErrMalformed},
	{"level 0", TypeAttach, uv(1) + "\x01\x00" + attachNames, ErrMalformed},
	{"level 4", TypeAttach, uv(1) + "\x01\x04" + attachNames, ErrMalformed},
	{"level 3", TypeAttach, uv(1) + "\x01\x03" + attachNames, nil},
	{"earlier editions at the limit", TypeAttach, attachHead + uv(MaxEditions) + strings.Repeat(ed8+uv(0), MaxEditions+1) + attachTail, nil},
	{"earlier editions", TypeAttach, attachHead + uv(MaxEditions+1) + strings.Repeat(ed8+uv(0), MaxEditions+2) + attachTail, ErrTooLong},
	{"2^62 earlier editions", TypeAttach, attachHead + uv(huge), ErrTooLong},
	{"earlier editions beyond the payload", TypeAttach, attachHead + uv(40) + ed8 + uv(1) + ed8 + uv(1) + attachTail, ErrMalformed},
	{"an edition from 2^64-1", TypeAttach, attachHead + uv(1) + ed8 + uv(5) + ed8 + uv(math.MaxUint64-6) + attachTail, nil},
	{"an edition from 2^64", TypeAttach, attachHead + uv(1) + ed8 + uv(5) + ed8 + uv(math.MaxUint64-5) + attachTail, ErrMalformed},
	{"an edition after the last number", TypeAttach, attachHead + uv(1) + ed8 + uv(math.MaxUint64) + ed8 + uv(0) + attachTail, ErrMalformed},
	{"socket name", TypeAttach, uv(1) + "\x01\x03" + attachNames[:len(attachNames)-5] + long(MaxName+1), ErrTooLong},

	{"unknown run flag", TypeData, "\x04" + run[1:], ErrMalformed},
	{"age at the limit", TypeData, "\x00" + uv(1) + uv(1) + uv(maxAge), nil},
	{"age", TypeData, "\x00" + uv(1) + uv(1) + uv(maxAge+1), ErrTooLong},
	{"age of 2^64-1", TypeData, "\x00" + uv(1) + uv(1) + uv(math.MaxUint64), ErrTooLong},
	{"base not shortest", TypeData, "\x00" + twoZeroes + uv(1) + uv(0), ErrMalformed},

	{"part at the limit", TypeFragment, run + uv(MaxLarge) + uv(0) + strings.Repeat("p", MaxFragment), nil},
	{"part", TypeFragment, run + uv(MaxLarge) + uv(0) + strings.Repeat("p", MaxFragment+1), ErrTooLong},
	{"total", TypeFragment, run + uv(MaxLarge+1) + uv(0) + "p", ErrTooLong},
	{"offset", TypeFragment, run + uv(MaxLarge) + uv(MaxLarge+1) + "p", ErrTooLong},
	{"offset of 2^64-1", TypeFragment, run + uv(1) + uv(math.MaxUint64) + "p", ErrTooLong},
	{"last byte of the record", TypeFragment, run + uv(9) + uv(8) + "p", nil},
	{"part beyond the record", TypeFragment, run + uv(9) + uv(9) + "p", ErrMalformed},
	{"fragment age", TypeFragment, "\x00" + uv(1) + uv(1) + uv(maxAge+1) + uv(9) + uv(0), ErrTooLong},

	{"wanted bytes at the limit", TypeWant, uv(1) + uv(MaxLarge), nil},
	{"wanted bytes", TypeWant, uv(1) + uv(MaxLarge+1), ErrTooLong},
	{"gap up to 2^64-1", TypeGap, uv(1) + uv(math.MaxUint64-1) + "\x01", nil},
	{"gap beyond 2^64", TypeGap, uv(2) + uv(math.MaxUint64-1) + "\x01", ErrMalformed},
	{"gap reason 0", TypeGap, uv(1) + uv(0) + "\x00", ErrMalformed},
	{"gap reason 7", TypeGap, uv(1) + uv(0) + "\x07", ErrMalformed},

	{"a range up to 2^64-1", TypeDone, ed8 + uv(1) + uv(5) + uv(math.MaxUint64-5), nil},
	{"a range beyond 2^64", TypeDone, ed8 + uv(1) + uv(5) + uv(math.MaxUint64-4), ErrMalformed},
	{"all numbers", TypeDone, ed8 + uv(1) + uv(0) + uv(math.MaxUint64), nil},
	{"the last possible range", TypeDone, ed8 + uv(2) + uv(1) + uv(0) + uv(math.MaxUint64-3) + uv(0), nil},
	{"a range from 2^64", TypeDone, ed8 + uv(2) + uv(1) + uv(0) + uv(math.MaxUint64-2) + uv(0), ErrMalformed},
	{"a gap of 2^64-1", TypeDone, ed8 + uv(2) + uv(0) + uv(0) + uv(math.MaxUint64) + uv(0), ErrMalformed},
	{"a range after the last number", TypeDone, ed8 + uv(2) + uv(math.MaxUint64) + uv(0) + uv(0) + uv(0), ErrMalformed},
	{"a range after the last but one", TypeDone, ed8 + uv(2) + uv(math.MaxUint64-1) + uv(0) + uv(0) + uv(0), ErrMalformed},
	{"ranges beyond the payload", TypeConfirm, ed8 + uv(2) + uv(1) + uv(1) + uv(1), ErrMalformed},
	{"2^19 ranges in no bytes", TypeConfirm, ed8 + uv(MaxFrame/2), ErrMalformed},
	{"2^62 ranges", TypeRevoke, uv(huge), ErrTooLong},
	{"2^64-1 ranges", TypeRevoke, uv(math.MaxUint64), ErrTooLong},
	{"range length not shortest", TypeRevoke, uv(1) + uv(1) + twoZeroes, ErrMalformed},
	{"a range cut by a long gap", TypeRevoke, uv(1) + uv(300), ErrMalformed},

	{"editions at the limit", TypeAttached,
		attachedHead + uv(MaxEditions) + strings.Repeat(ed8+uv(0), MaxEditions) + uv(0) + uv(0) + uv(0) + uv(0), nil},
	{"editions", TypeAttached,
		attachedHead + uv(MaxEditions+1) + strings.Repeat(ed8+uv(0), MaxEditions+1) + uv(0) + uv(0) + uv(0) + uv(0), ErrTooLong},
	{"editions beyond the payload", TypeAttached, attachedHead + uv(0) + uv(2) + ed8 + uv(0) + uv(0) + uv(0) + uv(0), ErrMalformed},
	{"2^62 editions", TypeAttached, attachedHead + uv(0) + uv(0) + uv(huge), ErrTooLong},
	{"a bad range in the last edition", TypeAttached,
		attachedHead + uv(0) + uv(0) + uv(1) + ed8 + uv(1) + uv(1) + uv(math.MaxUint64) + uv(0) + uv(0), ErrMalformed},
	{"reject reason", TypeRejected, str("") + long(MaxReason+1), ErrTooLong},

	{"leave reason", TypeLeave, long(MaxReason+1) + uv(0), ErrTooLong},
	{"begun editions", TypeLeave, str("") + uv(MaxEditions+1) + strings.Repeat(ed8+uv(0), MaxEditions+1), ErrTooLong},
	{"begun editions beyond the payload", TypeLeave, str("") + uv(2) + ed8 + uv(0), ErrMalformed},

	{"what of a question", TypeAsk, uv(1) + long(MaxName+1), ErrTooLong},
	{"about of a question at the limit", TypeAsk, uv(1) + str("see") + long(MaxReason), nil},
	{"about of a question", TypeAsk, uv(1) + str("see") + long(MaxReason+1), ErrTooLong},
	{"told nothing, not even flags", TypeTold, "", ErrMalformed},
	{"refused, and more follow", TypeTold, "\x03no", ErrMalformed},
	{"unknown told flag", TypeTold, "\x04", ErrMalformed},
	{"told at the limit", TypeTold, "\x00" + strings.Repeat("x", MaxTold), nil},
	{"told", TypeTold, "\x00" + strings.Repeat("x", MaxTold+1), ErrTooLong},

	{"nack reason 0", TypeNack, "\x00" + uv(0) + ed8 + uv(0) + str(""), ErrMalformed},
	{"nack reason 7", TypeNack, "\x07" + uv(0) + ed8 + uv(0) + str(""), ErrMalformed},
	{"nack delay at the limit", TypeNack, "\x05" + uv(maxAge) + ed8 + uv(0) + str(""), nil},
	{"nack delay", TypeNack, "\x05" + uv(maxAge+1) + ed8 + uv(0) + str(""), ErrTooLong},
	{"nack text", TypeNack, "\x05" + uv(0) + ed8 + uv(0) + long(MaxReason+1), ErrTooLong},
	{"nack text not UTF-8", TypeNack, "\x05" + uv(0) + ed8 + uv(0) + str(bad), ErrMalformed},

	{"patterns at the limit", TypeSubscribe, uv(1) + uv(MaxPatterns) + strings.Repeat(long(MaxPattern), MaxPatterns), nil},
	{"patterns", TypeSubscribe, uv(1) + uv(MaxPatterns+1) + strings.Repeat(str("a"), MaxPatterns+1), ErrTooLong},
	{"patterns beyond the payload", TypeSubscribe, uv(1) + uv(3) + str("") + str(""), ErrMalformed},
	{"2^62 patterns", TypeSubscribe, uv(1) + uv(huge), ErrTooLong},
	{"pattern", TypeSubscribe, uv(1) + uv(1) + long(MaxPattern+1), ErrTooLong},
	{"pattern not UTF-8", TypeSubscribe, uv(1) + uv(1) + str(bad), ErrMalformed},

	{"outcome 0", TypeReply, ed8 + uv(1) + "\x00" + uv(0) + uv(0), ErrMalformed},
	{"outcome 5", TypeReply, ed8 + uv(1) + "\x05" + uv(0) + uv(0), ErrMalformed},
	{"an empty reply", TypeReply, ed8 + uv(1) + "\x04" + uv(0) + uv(0), nil},
	{"reply total at the limit", TypeReply, ed8 + uv(1) + "\x01" + uv(MaxMessage) + uv(MaxMessage-1) + "p", nil},
	{"reply total", TypeReply, ed8 + uv(1) + "\x01" + uv(MaxMessage+1) + uv(0) + "p", ErrTooLong},
	{"reply offset", TypeReply, ed8 + uv(1) + "\x01" + uv(1) + uv(math.MaxUint64) + "p", ErrTooLong},
	{"reply part beyond its total", TypeReply, ed8 + uv(1) + "\x01" + uv(1) + uv(0) + "pp", ErrMalformed},
	{"reply part", TypeReply, ed8 + uv(1) + "\x01" + uv(MaxMessage) + uv(0) + strings.Repeat("p", MaxFragment+1), ErrTooLong},
}

func TestEveryFieldIsHeldToItsLimit(t *testing.T) {
	for _, c := range limits {
		_, err := codecs[c.t].parse([]byte(c.payload))
		if !errors.Is(err, c.want) || errors.Is(err, ErrShort) {
			t.Errorf("type %#x, %s: error %v, want %v", byte(c.t), c.name, err, c.want)
		}
	}
}

// A count or length that the payload cannot hold is found out before room is made for it.
func TestABadPayloadCostsNoMemory(t *testing.T) {
	for _, c := range limits {
		if c.want == nil || len(c.payload) > 1024 {
			continue
		}
		payload := []byte(c.payload)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := codecs[c.t].parse(payload)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<10 {
			t.Errorf("type %#x, %s: %d bytes allocated for a payload of %d, error %v", byte(c.t), c.name, used, len(payload), err)
		}
	}
}

func TestOverlongSentencesAreCutNotRefused(t *testing.T) {
	long := strings.Repeat("ü", MaxReason)
	cut := strings.Repeat("ü", MaxReason/2)
	for _, c := range []struct {
		t        Type
		in, want any
	}{
		{TypeGoAway, long, cut},
		{TypeRefused, Refused{Code: "c\xff", Reason: long}, Refused{Code: "c\uFFFD", Reason: cut}},
		{TypeRejected, Rejected{Code: "c\xff", Reason: long}, Rejected{Code: "c\uFFFD", Reason: cut}},
		{TypeNack, Nack{Reason: NackHandler, Text: long}, Nack{Reason: NackHandler, Text: cut}},
	} {
		got, err := codecs[c.t].parse(payloadOf(t, codecs[c.t].write(nil, c.in), c.t))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("type %#x: error %v\n got %+v\nwant %+v", byte(c.t), err, got, c.want)
		}
	}
}

func TestAHeartbeatHasAtLeastAHundredBytes(t *testing.T) {
	for _, n := range []uint64{0, 1, 127, 128, 1 << 40, math.MaxUint64} {
		if frame := AppendHeartbeat(nil, Heartbeat{Number: n, Echo: true}); len(frame) < 100 {
			t.Errorf("HEARTBEAT %d has %d bytes: no stateless reset would answer it", n, len(frame))
		}
	}
}

// The receiver allows 2^18 marks a stream; the worst of these sets has a hole beside every mark.
func TestAnAttachedWithAsManyMarksAsAStreamMayHaveFits(t *testing.T) {
	done := make([]ranges.Range, 1<<18)
	for i := range done {
		seq := uint64(i+1) * (1<<14 + 1) // 2^14 - 1 as a gap: two bytes
		done[i] = ranges.Range{From: seq, To: seq}
	}
	want := Attached{Done: []EditionRanges{{edition, done}}}
	got, err := ParseAttached(payloadOf(t, AppendAttached(nil, want), TypeAttached))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("error %v, %d marks read, want %d", err, len(got.Done), len(done))
	}
}

func TestAsManyOfTheLongestPatternsAsAllowedFitAFrame(t *testing.T) {
	want := Subscription{Version: math.MaxUint64, Patterns: slices.Repeat([]string{strings.Repeat("x", MaxPattern)}, MaxPatterns)}
	if got, err := ParseSubscribe(payloadOf(t, AppendSubscribe(nil, want), TypeSubscribe)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("error %v, %d patterns read, want %d", err, len(got.Patterns), MaxPatterns)
	}
}

func TestEveryKindHasItsOpposite(t *testing.T) {
	for send, receive := range map[Kind]Kind{Push: Pull, Pub: Sub, Req: Rep} {
		if send.Opposite() != receive || receive.Opposite() != send || !send.Sends() || receive.Sends() || !send.Valid() || !receive.Valid() {
			t.Errorf("%v and %v: opposites %v and %v", send, receive, send.Opposite(), receive.Opposite())
		}
	}
	for _, k := range []Kind{0, 7, 255} {
		if k.Valid() || k.Sends() {
			t.Errorf("%v is taken for a kind", k)
		}
	}
}

func TestEveryValueHasAName(t *testing.T) {
	for _, c := range []struct {
		v    fmt.Stringer
		want string
	}{
		{Push, "push"}, {Pull, "pull"}, {Pub, "pub"}, {Sub, "sub"}, {Req, "req"}, {Rep, "rep"}, {Kind(0), "kind(0)"}, {Kind(7), "kind(7)"},
		{GapExpired, "expired"}, {GapRetention, "retention"}, {GapDead, "dead"}, {GapCorrupt, "corrupt"},
		{GapIncarnation, "incarnation"}, {GapDropped, "dropped"}, {GapReason(0), "reason(0)"}, {GapReason(255), "reason(255)"},
		{OK, "ok"}, {Error, "error"}, {Failed, "failed"}, {Indeterminate, "indeterminate"}, {Outcome(0), "outcome(0)"}, {Outcome(5), "outcome(5)"},
	} {
		if got := c.v.String(); got != c.want {
			t.Errorf("%T %d is called %q, want %q", c.v, c.v, got, c.want)
		}
	}
}
