package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// crc32c bit by bit, as RFC 3720 appendix B.4 tests it: a second opinion on the checksum.
func crc32c(b []byte) uint32 {
	sum := ^uint32(0)
	for _, c := range b {
		sum ^= uint32(c)
		for range 8 {
			sum = sum>>1 ^ 0x82f63b78&-(sum&1)
		}
	}
	return ^sum
}

// withChecksum makes a record of any content, good or bad.
func withChecksum(content []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(len(content)))
	return append(binary.LittleEndian.AppendUint32(b, crc32c(content)), content...)
}

// contentOf is what a record's checksum covers.
func contentOf(record []byte) []byte {
	_, w := binary.Uvarint(record)
	return record[w+4:]
}

func TestTheChecksumIsThatOfRFC3720(t *testing.T) {
	if got := crc32c(make([]byte, 32)); got != 0x8a9136aa {
		t.Fatalf("crc32c of 32 zeroes = %#x, want 0x8a9136aa", got)
	}
	for _, g := range goldenRecords {
		record := AppendRecord(nil, g.record)
		if again := withChecksum(contentOf(record)); !bytes.Equal(again, record) {
			t.Errorf("%+v:\n got % x\nwant % x", g.record, record, again)
		}
	}
}

// block is records of one block, delta 0, 1, ...: their bytes and where each begins.
func block(n int) (b []byte, starts []int) {
	for i := range n {
		starts = append(starts, len(b))
		r := Record{Delta: uint64(i), Body: bytes.Repeat([]byte{byte(i)}, i*7)}
		if i%2 == 1 {
			r.Topic = []byte("zurich.temp")
		}
		if i%3 == 1 {
			r.TTL, r.Headers = time.Minute, AppendHeaders(nil, []Header{{"n", "v"}})
		}
		if i%5 == 1 {
			r.Delay = time.Minute
		}
		b = AppendRecord(b, r)
	}
	return b, append(starts, len(b))
}

func TestAnyRunOfABlockIsReadBehindTheSameBase(t *testing.T) {
	const n, base = 40, 1 << 40 // deltas stay under 128, bodies do not
	b, starts := block(n)
	for from := range n {
		for to := from + 1; to <= n; to++ {
			frame := AppendData(nil, Run{Base: base, Attempt: 1}, b[starts[from]:starts[to]])
			run, records, err := ParseData(payloadOf(t, frame, TypeData))
			if err != nil {
				t.Fatal(err)
			}
			for i := from; i < to; i++ {
				whole, _, _ := NextRecord(b[starts[i]:])
				var r Record
				if r, records, err = NextRecord(records); err != nil || run.Base+r.Delta != base+uint64(i) || !reflect.DeepEqual(r, whole) {
					t.Fatalf("record %d of run %d..%d: seq %d, %+v, error %v", i, from, to-1, run.Base+r.Delta, r, err)
				}
			}
			if len(records) != 0 {
				t.Fatalf("run %d..%d: % x left", from, to-1, records)
			}
		}
	}
}

func TestAFrameBuiltRecordByRecordIsTheSame(t *testing.T) {
	b, starts := block(8)
	run := Run{Redelivered: true, Covers: true, Base: 1000, Attempt: 2, Age: time.Second, From: 990}
	want := AppendData([]byte("before"), run, b)
	for room := range len(want) {
		w := BeginData(append(make([]byte, 0, len("before")+room), "before"...), run)
		for i := range 8 {
			w.Add(b[starts[i]:starts[i+1]])
		}
		if got := w.End(); !bytes.Equal(got, want) {
			t.Fatalf("room for %d bytes:\n got % x\nwant % x", room, got, want)
		}
	}
}

func TestADamagedRecordIsToldAndThoseAfterItAreRead(t *testing.T) {
	b, starts := block(8)
	for i := range 8 {
		for bit := (starts[i] + 1) * 8; bit < starts[i+1]*8; bit++ { // all but the length, which has one byte here
			bad := slices.Clone(b)
			bad[bit/8] ^= 1 << (bit % 8)
			r, rest, err := NextRecord(bad[starts[i]:])
			if !errors.Is(err, ErrChecksum) || !reflect.DeepEqual(r, Record{}) {
				t.Fatalf("record %d with bit %d turned: %+v, error %v, want nothing but ErrChecksum", i, bit-starts[i]*8, r, err)
			}
			if !bytes.Equal(rest, b[starts[i+1]:]) {
				t.Fatalf("record %d with bit %d turned: rest % .20x, want % .20x", i, bit-starts[i]*8, rest, b[starts[i+1]:])
			}
		}
	}
}

func TestADamagedLengthYieldsNoRecordThatWasNotWritten(t *testing.T) {
	b, starts := block(8)
	for i := range 8 {
		for bit := range 8 {
			bad := slices.Clone(b)
			bad[starts[i]] ^= 1 << bit
			for rest, n := bad[starts[i]:], 0; len(rest) > 0; n++ {
				r, after, err := NextRecord(rest)
				if err == nil && !bytes.Contains(b, AppendRecord(nil, r)) {
					t.Fatalf("length of record %d with bit %d turned: %+v was never written", i, bit, r)
				}
				if n == 0 && err == nil {
					t.Fatalf("length of record %d with bit %d turned: nobody noticed", i, bit)
				}
				rest = after
			}
		}
	}
}

func TestARecordsContentIsHeldToItsLimits(t *testing.T) {
	topic, key, ttl, headers := "\x00\x01", "\x00\x02", "\x00\x04", "\x00\x08" // delta 0, flags
	delay := "\x00\x10"
	for _, c := range []struct {
		name, content string
		want          error
	}{
		{"nothing", "", ErrMalformed},
		{"no flags", "\x00", ErrMalformed},
		{"delta not shortest", twoZeroes + "\x00", ErrMalformed},
		{"delta over 64 bits", strings.Repeat("\xff", 9) + "\x02\x00", ErrMalformed},
		{"largest delta", uv(math.MaxUint64) + "\x00", nil},
		{"unknown flag", "\x00\x20", ErrMalformed},
		{"topic at the limit", topic + long(MaxName), nil},
		{"topic", topic + long(MaxName+1), ErrTooLong},
		{"topic of 2^62 bytes", topic + uv(huge), ErrTooLong},
		{"topic beyond the record", topic + uv(9) + "abc", ErrMalformed},
		{"topic not UTF-8", topic + str(bad), ErrMalformed},
		{"empty topic", topic + str(""), ErrMalformed},
		{"key", key + long(MaxName+1), ErrTooLong},
		{"key not UTF-8", key + str(bad), ErrMalformed},
		{"empty key", key + str(""), ErrMalformed},
		{"TTL at the limit", ttl + uv(maxAge), nil},
		{"TTL", ttl + uv(maxAge+1), ErrTooLong},
		{"TTL 0", ttl + uv(0), ErrMalformed},
		{"delay at the limit", delay + uv(maxAge), nil},
		{"delay", delay + uv(maxAge+1), ErrTooLong},
		{"delay 0", delay + uv(0), ErrMalformed},
		{"delay not there", delay, ErrMalformed},
		{"headers at the limit", headers + long(MaxHeaders), nil},
		{"headers", headers + long(MaxHeaders+1), ErrTooLong},
		{"headers beyond the record", headers + uv(2) + "a", ErrMalformed},
		{"no headers", headers + uv(0), ErrMalformed},
	} {
		r, rest, err := NextRecord(append(withChecksum([]byte(c.content)), "next"...))
		if !errors.Is(err, c.want) || errors.Is(err, ErrShort) || string(rest) != "next" {
			t.Errorf("%s: %+v, rest %q, error %v, want %v", c.name, r, rest, err, c.want)
		}
		if err != nil && !reflect.DeepEqual(r, Record{}) {
			t.Errorf("%s: %+v with an error", c.name, r)
		}
	}
}

func TestARecordsLengthIsCheckedBeforeItIsUsed(t *testing.T) {
	for _, c := range []struct {
		name, record string
		want         error
	}{
		{"2^62", uv(huge) + "1234", ErrTooLong},
		{"2^64-1", uv(math.MaxUint64) + "1234", ErrTooLong},
		{"one over the limit", uv(MaxLarge+1) + "1234", ErrTooLong},
		{"limit, and not there", uv(MaxLarge) + "1234", ErrMalformed},
		{"not shortest", "\x82\x00" + string(withChecksum([]byte("\x00\x00"))[1:]), ErrMalformed},
		{"over 64 bits", strings.Repeat("\xff", 9) + "\x02", ErrMalformed},
	} {
		if r, rest, err := NextRecord([]byte(c.record)); !errors.Is(err, c.want) || errors.Is(err, ErrShort) || rest != nil {
			t.Errorf("%s: %+v, rest % x, error %v, want %v", c.name, r, rest, err, c.want)
		}
	}
}

func TestTheLongestRecordOfTheLargestMessageFits(t *testing.T) {
	full := Record{Delta: math.MaxUint64, Topic: bytes.Repeat([]byte("t"), MaxName), Key: bytes.Repeat([]byte("k"), MaxName),
		TTL: math.MaxInt64, Headers: bytes.Repeat([]byte("h"), MaxHeaders), Delay: math.MaxInt64}
	overhead := len(AppendRecord(nil, full)) + 1 // a body of 2^26 bytes makes the length one byte longer
	if overhead+MaxMessage > MaxLarge {
		t.Errorf("MaxLarge is %d bytes over MaxMessage, a record takes up to %d", MaxLarge-MaxMessage, overhead)
	}
}

func TestShortTimesAreNotTakenForNone(t *testing.T) {
	for _, c := range []struct{ in, want time.Duration }{
		{-time.Hour, 0},
		{0, 0},
		{1, time.Millisecond},
		{time.Millisecond, time.Millisecond},
		{time.Millisecond + 1, 2 * time.Millisecond},
		{time.Hour, time.Hour},
		{math.MaxInt64, math.MaxInt64 / time.Millisecond * time.Millisecond},
	} {
		r, _, err := NextRecord(AppendRecord(nil, Record{TTL: c.in, Delay: c.in}))
		if err != nil || r.TTL != c.want || r.Delay != c.want {
			t.Errorf("TTL and delay %v arrive as %v and %v, error %v, want %v", c.in, r.TTL, r.Delay, err, c.want)
		}
		n, err := ParseNack(payloadOf(t, AppendNack(nil, Nack{Reason: NackHandler, Delay: c.in}), TypeNack))
		if err != nil || n.Delay != c.want {
			t.Errorf("delay %v arrives as %v, error %v, want %v", c.in, n.Delay, err, c.want)
		}
	}
}

// An age is rounded down: nothing expires early.
func TestAnAgeArrivesInWholeMilliseconds(t *testing.T) {
	for _, c := range []struct{ in, want time.Duration }{
		{-time.Hour, 0},
		{time.Millisecond - 1, 0},
		{1500 * time.Microsecond, time.Millisecond},
		{math.MaxInt64, math.MaxInt64 / time.Millisecond * time.Millisecond},
	} {
		run, _, err := ParseData(payloadOf(t, AppendData(nil, Run{Age: c.in}, nil), TypeData))
		if err != nil || run.Age != c.want {
			t.Errorf("age %v arrives as %v, error %v, want %v", c.in, run.Age, err, c.want)
		}
	}
}

func TestARecordTakesAtMostFourBytesOverItsChecksum(t *testing.T) {
	for _, c := range []struct {
		body  int
		delta uint64
	}{{16, 0}, {16, 127}, {16, 16383}, {100, 0}, {100, 16383}, {1024, 0}, {1024, 127}} {
		record := AppendRecord(nil, Record{Delta: c.delta, Body: make([]byte, c.body)})
		if over := len(record) - c.body - 4; over > 4 {
			t.Errorf("body of %d bytes, delta %d: %d bytes over body and checksum, want at most 4", c.body, c.delta, over)
		}
	}
}

func TestAppendingToAFieldLeavesItsNeighboursAlone(t *testing.T) {
	frame := AppendData(nil, Run{}, slices.Concat(unhex(goldenRecords[4].hex), unhex(hexRecord)))
	before := slices.Clone(frame)
	_, records, err := ParseData(payloadOf(t, frame, TypeData))
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := NextRecord(records)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range [][]byte{r.Topic, r.Key, r.Headers, r.Body} {
		_ = append(field, '!')
	}
	if !bytes.Equal(frame, before) {
		t.Errorf("frame was\n% x\nand is\n% x", before, frame)
	}
}

func TestReadingDataAllocatesNothing(t *testing.T) {
	b, _ := block(40)
	frame := AppendData(nil, Run{Covers: true, Base: 1, From: 1}, b)
	var bytesSeen, recordsSeen int
	if allocs := testing.AllocsPerRun(100, func() {
		_, payload, _, _, err := Next(frame)
		if err != nil {
			t.Fatal(err)
		}
		_, records, err := ParseData(payload)
		if err != nil {
			t.Fatal(err)
		}
		for len(records) > 0 {
			var r Record
			if r, records, err = NextRecord(records); err != nil {
				t.Fatal(err)
			}
			bytesSeen += len(r.Body)
			recordsSeen++
		}
	}); allocs != 0 {
		t.Errorf("%v allocations for a DATA frame of 40 records, want none", allocs)
	}
	if recordsSeen%40 != 0 || bytesSeen == 0 {
		t.Errorf("%d records with %d bytes seen", recordsSeen, bytesSeen)
	}
}

func TestReadingAFragmentOrReplyAllocatesNothing(t *testing.T) {
	fragment := payloadOf(t, AppendFragment(nil, Fragment{Total: MaxFragment, Part: make([]byte, MaxFragment)}), TypeFragment)
	reply := payloadOf(t, AppendReply(nil, Reply{Outcome: OK, Total: MaxFragment, Part: make([]byte, MaxFragment)}), TypeReply)
	if allocs := testing.AllocsPerRun(100, func() {
		f, err := ParseFragment(fragment)
		if err != nil || len(f.Part) != MaxFragment {
			t.Fatal(len(f.Part), err)
		}
		r, err := ParseReply(reply)
		if err != nil || len(r.Part) != MaxFragment {
			t.Fatal(len(r.Part), err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations for a FRAGMENT and a REPLY, want none", allocs)
	}
}

func TestWritingIntoALargeEnoughBufferAllocatesNothing(t *testing.T) {
	r := Record{Delta: 9, Topic: []byte("zurich.temp"), Key: []byte("cat"), TTL: time.Hour,
		Headers: AppendHeaders(nil, []Header{{"a", "b"}}), Body: make([]byte, 100)}
	records, frame := make([]byte, 0, 64<<10), make([]byte, 0, 64<<10)
	if allocs := testing.AllocsPerRun(100, func() {
		records, frame = records[:0], frame[:0]
		for range 100 {
			records = AppendRecord(records, r)
		}
		frame = AppendData(frame, Run{Base: 1, Attempt: 1}, records)
		w := BeginData(frame[:0], Run{Base: 1, Attempt: 1})
		w.Add(records)
		frame = w.End()
	}); allocs != 0 {
		t.Errorf("%v allocations for 100 records and their DATA frame, want none", allocs)
	}
	if cap(records) != 64<<10 || cap(frame) != 64<<10 {
		t.Errorf("buffers of %d and %d bytes: they were to be large enough", cap(records), cap(frame))
	}
}

// Writing record after record grows the buffer as append does, not each time.
func TestWritingIntoAGrowingBufferAllocatesSeldom(t *testing.T) {
	r := Record{Body: make([]byte, 100)}
	if allocs := testing.AllocsPerRun(10, func() {
		var b []byte
		for range 1000 {
			b = AppendRecord(b, r)
		}
	}); allocs > 100 {
		t.Errorf("%v allocations for 1000 records, want a few", allocs)
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(genRecord, 1, 8).Draw(t, "records")
		var b []byte
		for _, r := range want {
			b = AppendRecord(b, r)
		}
		for i, r := range want {
			got, rest, err := NextRecord(b)
			if err != nil || !reflect.DeepEqual(got, r) {
				t.Fatalf("record %d: error %v\n got %+v\nwant %+v", i, err, got, r)
			}
			if again := AppendRecord(nil, got); !bytes.Equal(again, b[:len(b)-len(rest)]) {
				t.Fatalf("record %d encoded again:\n got % x\nwant % x", i, again, b[:len(b)-len(rest)])
			}
			b = rest
		}
		if len(b) != 0 {
			t.Fatalf("% x left", b)
		}
	})
}

func TestHeadersComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(genHeader, 1, 8).Draw(t, "headers")
		got, err := ParseHeaders(AppendHeaders(nil, want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("error %v\n got %q\nwant %q", err, got, want)
		}
	})
	if got, err := ParseHeaders(nil); err != nil || got != nil {
		t.Errorf("no headers: %q, error %v", got, err)
	}
}

func TestHeadersThatAreNotUTF8AreRefused(t *testing.T) {
	for _, b := range []string{str(bad) + str(""), str("") + str(bad), uv(huge), str("a") + uv(MaxHeaders+1), "\x81\x00" + "a" + str("")} {
		if hs, err := ParseHeaders([]byte(b)); !refused(err) || hs != nil {
			t.Errorf("%q: %q, error %v", b, hs, err)
		}
	}
}

func TestAPlainRecordIsOneWithABodyAlone(t *testing.T) {
	for _, delta := range []uint64{0, 1, 127, 128, 1<<14 - 1, math.MaxUint64} {
		for _, size := range []int{0, 1, 121, 122, 127, 128, 16 << 10, 1 << 20} {
			body := bytes.Repeat([]byte{7}, size)
			got, want := AppendPlain([]byte("before"), delta, body), AppendRecord([]byte("before"), Record{Delta: delta, Body: body})
			if !bytes.Equal(got, want) {
				t.Errorf("delta %d, %d bytes: the two differ", delta, size)
			}
		}
	}
}
