package spool

import (
	"errors"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"encoding/binary"
)

func sampleBlock() *block {
	s := &Store{profile: sizesOf(ProfileEdge)}
	q := &Queue{s: s, name: "jobs", rec: queueRecord{id: 3, trim: 10, next: 50, mark: 7}}
	return &block{
		q: q, base: 11, last: 40, edition: 99, size: 300, parts: 1, left: 30, at: time.Unix(0, 12345),
		settled: []SeqRange{{12, 15}, {20, 20}}, tries: []Try{{11, 3, 1}, {30, 1 << 31, 0}}, through: 44,
		buf: append(make([]byte, blockHead), "records"...),
	}
}

func TestBlockKeyRoundTrips(t *testing.T) {
	b := sampleBlock()
	want := blockKey{queue: 3, base: 11, last: 40, edition: 99, part: 0, parts: 1, size: 300}
	if k, err := parseBlockKey(b.key(0)); err != nil || k != want {
		t.Errorf("got %+v, %v, want %+v", k, err, want)
	}
	for n := range blockKeySize {
		flipped := b.key(0)
		flipped[n] ^= 1
		if _, err := parseBlockKey(flipped); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d flipped: %v", n, err)
		}
		if _, err := parseBlockKey(b.key(0)[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestBlockUnderAnotherKeyIsDamaged(t *testing.T) {
	b := sampleBlock()
	o := b.seal()[0]
	if at, data, err := parseBlock(o.key, o.value); err != nil || string(data) != "records" || at.UnixNano() != 12345 {
		t.Errorf("%q at %v, %v", data, at, err)
	}
	other := *b
	other.edition++
	if _, _, err := parseBlock(other.key(0), o.value); !errors.Is(err, ErrDamaged) {
		t.Errorf("a block of another edition: %v", err)
	}
}

func TestPartsAddUpToTheRecord(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 100} {
		b := sampleBlock()
		b.parts = 3
		record := strings.Repeat("r", size)
		b.buf = append(make([]byte, blockHead), record...)
		var all string
		for _, o := range b.seal() {
			_, data, err := parseBlock(o.key, o.value)
			must(t, err)
			all += string(data)
		}
		if all != record {
			t.Errorf("%d bytes in three parts come back as %q", size, all)
		}
	}
}

func TestSettlementsRoundTrip(t *testing.T) {
	b := sampleBlock()
	key := settleKey(3, 11)
	value := b.sealSettled()
	again := &block{q: b.q, base: 11, last: 40, left: 30}
	must(t, again.parseSettled(key, value))
	if again.left != 25 || again.through != 44 || string(again.sealSettled()) != string(value) {
		t.Errorf("got %+v", again)
	}
	for n := range value {
		flipped := append([]byte(nil), value...)
		flipped[n] ^= 1
		if err := (&block{q: b.q, base: 11, last: 40, left: 30}).parseSettled(key, flipped); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d flipped: %v", n, err)
		}
	}
}

func FuzzParseBlockKey(f *testing.F) {
	f.Add(sampleBlock().key(0))
	f.Fuzz(func(t *testing.T, key []byte) {
		if len(key) == blockKeySize {
			binary.BigEndian.PutUint32(key[blockKeySize-4:], crc32.Checksum(key[:blockKeySize-4], castagnoli))
		}
		k, err := parseBlockKey(key)
		if err != nil {
			return
		}
		b := block{q: &Queue{rec: queueRecord{id: k.queue}}, base: k.base, last: k.last, edition: k.edition, size: k.size, parts: k.parts}
		if string(b.key(k.part)) != string(key) {
			t.Errorf("%x parses to %+v, whose key is %x", key, k, b.key(k.part))
		}
	})
}

func FuzzParseBlock(f *testing.F) {
	o := sampleBlock().seal()[0]
	f.Add(o.key, o.value)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, v := range [][]byte{value, finish(key, value[:len(value):len(value)])} {
			if _, data, err := parseBlock(key, v); err == nil && len(data) != len(v)-blockHead-blockTail {
				t.Errorf("%x holds %d bytes", v, len(data))
			}
		}
	})
}

func FuzzParseSettled(f *testing.F) {
	f.Add(uint64(11), uint64(40), sampleBlock().sealSettled())
	f.Fuzz(func(t *testing.T, base, last uint64, value []byte) {
		base, last = base%MaxSeq+1, last%MaxSeq+1
		if last < base || last-base >= maxBlockCount {
			return
		}
		q := &Queue{rec: queueRecord{id: 3}}
		key := settleKey(3, base)
		for _, v := range [][]byte{value, finish(key, value[:len(value):len(value)])} {
			b := &block{q: q, base: base, last: last, left: last - base + 1}
			if b.parseSettled(key, v) != nil {
				continue
			}
			again := &block{q: q, base: base, last: last, left: last - base + 1}
			if s := b.sealSettled(); s != nil {
				if err := again.parseSettled(key, s); err != nil || again.left != b.left {
					t.Errorf("%x parses to %+v, which does not: %v", v, b, err)
				}
			}
		}
	})
}

func FuzzParseQueue(f *testing.F) {
	f.Add("jobs", queueRecord{3, 10, 50, 7}.seal("jobs"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		for _, v := range [][]byte{b, finish(queueKey(name), b[:len(b):len(b)])} {
			if r, err := parseQueue(name, v); err == nil && (string(r.seal(name)) != string(v) || r.trim >= r.next) {
				t.Errorf("%x parses to %+v", v, r)
			}
		}
	})
}

func FuzzParseHolders(f *testing.F) {
	key := holdersKey(3)
	f.Add(finish(key, append(begin(16), sampleNode[:]...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range [][]byte{b, finish(key, b[:len(b):len(b)])} {
			if ids, err := parseHolders(key, v); err == nil && (len(ids) > MaxHolders || 16*len(ids) != len(v)-sealSize) {
				t.Errorf("%x parses to %d holders", v, len(ids))
			}
		}
	})
}
