package spool

import (
	"encoding/hex"
	"errors"
	"testing"
)

var (
	sampleStore  = storeRecord{id: [16]byte{0: 0xaa, 15: 0xbb}, incarnation: 7, commits: 300, records: 2, blocks: 5, digest: 1 << 33, wall: 1795312800000000000}
	sampleStream = streamRecord{end: 65536, lowest: 9, gapFrom: 3, gapTo: 5}
	sampleNode   = [16]byte{0: 1, 15: 2}
)

var sampleMark = markEntry{
	id: sampleStore.id, incarnation: 7, possible: 300, certain: 299,
	queues: map[uint64]markedQueue{3: {"jobs", 5, 500}},
}

func TestGoldenRecords(t *testing.T) {
	for name, tt := range map[string]struct {
		got  []byte
		want string
	}{
		"store":     {sampleStore.seal(), "02aa0000000000000000000000000000bb0000000000000007000000000000012c00000000000000020000000000000005000000020000000018ea3b7ac8b64000a05709d8"},
		"stream":    {sampleStream.seal("jobs"), "020000000000010000000000000000000900000000000000030000000000000005d94b9ab1"},
		"peer":      {sealPeer(sampleNode, 42), "02000000000000002a627d8c9c"},
		"queue":     {queueRecord{3, 10, 50, 7}.seal("jobs"), "020000000000000003000000000000000a000000000000003200000000000000075b8cc2e9"},
		"block key": {sampleBlock().key(0), "710000000000000003000000000000000b00000001000000000000002800000000000000630000012cccefcab5"},
		"block":     {sampleBlock().seal()[0].value, "0200000000000030397265636f726473fc1f3017"},
		"settled":   {sampleBlock().sealSettled(), "02040201030500020003011380808080080043fe7985"},
		"mark":      {sampleMark.append(markFiles.seal(nil), nil, 0), "706d73706f6f6c0a00023c85995a0000001f7f03fa5caa0000000000000000000000000000bb07ac02ab02010305f403046a6f6273"},
	} {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	if r, err := parseStore(sampleStore.seal()); err != nil || r != sampleStore {
		t.Errorf("store: got %+v, %v", r, err)
	}
	for _, want := range []streamRecord{sampleStream, {lowest: 1}, {end: MaxSeq, lowest: MaxSeq + 1, gapFrom: 1, gapTo: MaxSeq}} {
		if r, err := parseStream("jobs", want.seal("jobs")); err != nil || r != want {
			t.Errorf("stream: got %+v, %v, want %+v", r, err, want)
		}
	}
	if n, err := parsePeer(sampleNode, sealPeer(sampleNode, 42)); err != nil || n != 42 {
		t.Errorf("peer: got %d, %v", n, err)
	}
}

func TestTruncatedOrFlippedRecordsAreDamaged(t *testing.T) {
	parsers := map[string]struct {
		value []byte
		parse func([]byte) error
	}{
		"store":  {sampleStore.seal(), func(b []byte) error { _, err := parseStore(b); return err }},
		"stream": {sampleStream.seal("jobs"), func(b []byte) error { _, err := parseStream("jobs", b); return err }},
		"peer":   {sealPeer(sampleNode, 42), func(b []byte) error { _, err := parsePeer(sampleNode, b); return err }},
	}
	for name, p := range parsers {
		for n := range p.value {
			if err := p.parse(p.value[:n]); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
			flipped := append([]byte(nil), p.value...)
			flipped[n] ^= 1
			if err := p.parse(flipped); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s with byte %d flipped: %v", name, n, err)
			}
		}
		if err := p.parse(append(append([]byte(nil), p.value...), 0)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
}

func TestRecordUnderAnotherKeyIsDamaged(t *testing.T) {
	if _, err := parseStream("other", sampleStream.seal("jobs")); !errors.Is(err, ErrDamaged) {
		t.Errorf("stream: %v", err)
	}
	if _, err := parsePeer([16]byte{9}, sealPeer(sampleNode, 42)); !errors.Is(err, ErrDamaged) {
		t.Errorf("peer: %v", err)
	}
}

func TestSealedNonsenseIsDamaged(t *testing.T) {
	for _, r := range []streamRecord{
		{},                              // lowest 0
		{end: 5, lowest: 7},             // a hole between
		{end: MaxSeq + 1, lowest: 1},    // beyond the numbers
		{end: 5, lowest: 3, gapTo: 2},   // a gap from 0
		{end: 5, lowest: 3, gapFrom: 2}, // a gap to 0
		{end: 9, lowest: 8, gapFrom: 5, gapTo: 4},
		{end: 9, lowest: 5, gapFrom: 1, gapTo: 5}, // a gap within the present use
	} {
		if _, err := parseStream("jobs", r.seal("jobs")); !errors.Is(err, ErrDamaged) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	for _, r := range []storeRecord{{commits: 1}, {incarnation: 1}, {incarnation: maxIncarnation, commits: 1}} {
		if _, err := parseStore(r.seal()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := parsePeer(sampleNode, sealPeer(sampleNode, 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("peer seen at 0: %v", err)
	}
}

// sealVersion seals fields as another version would.
func sealVersion(key []byte, version byte, fields ...byte) []byte {
	return finish(key, append([]byte{version}, fields...))
}

func TestVersionIsToldFromDamage(t *testing.T) {
	for version, want := range map[byte]error{0: ErrDamaged, 1: ErrVersion, formatVersion + 1: ErrVersion, 255: ErrVersion} {
		if _, err := parseStore(sealVersion(storeKey(), version, 1, 2, 3)); !errors.Is(err, want) {
			t.Errorf("store record of version %d: %v, want %v", version, err, want)
		}
	}
}

func FuzzParseStore(f *testing.F) {
	f.Add(sampleStore.seal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseStore(b); err == nil && string(r.seal()) != string(b) {
			t.Errorf("%x parses to %+v, which seals to %x", b, r, r.seal())
		}
		// The same bytes with a true checksum get past it.
		if r, err := parseStore(finish(storeKey(), b[:len(b):len(b)])); err == nil && r.incarnation == 0 {
			t.Errorf("%x: incarnation 0", b)
		}
	})
}

func FuzzParseStream(f *testing.F) {
	f.Add("jobs", sampleStream.seal("jobs"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		for _, v := range [][]byte{b, finish(streamKey(name), b[:len(b):len(b)])} {
			r, err := parseStream(name, v)
			if err != nil {
				continue
			}
			if string(r.seal(name)) != string(v) {
				t.Errorf("%x parses to %+v, which seals to %x", v, r, r.seal(name))
			}
			if !r.resumed().valid() || !r.forgotten(r.lowest).valid() {
				t.Errorf("%+v has no valid successor", r)
			}
		}
	})
}

func FuzzParsePeer(f *testing.F) {
	f.Add(sampleNode[:], sealPeer(sampleNode, 42))
	f.Fuzz(func(t *testing.T, id, b []byte) {
		var node [16]byte
		copy(node[:], id)
		for _, v := range [][]byte{b, finish(peerKey(node), b[:len(b):len(b)])} {
			n, err := parsePeer(node, v)
			if err == nil && (n == 0 || string(sealPeer(node, n)) != string(v)) {
				t.Errorf("%x parses to %d, which seals to %x", v, n, sealPeer(node, n))
			}
		}
	})
}
