package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Every value is sealed alike, whatever its version, so that damage is told from a newer version:
//
//	version (1) | fields, big endian | crc32c over key, version and fields (4)
//
// Keys:
//
//	m S          the store record, written with every commit
//	m r stream   what a stream has reserved
//	m n node     the highest incarnation of a node
//	m q queue    where a queue stands
//	m h queue id who may hold records of a queue
//	q            blocks: see block.go; where they lie: see segment.go
//	s            what is settled of a block: see settle.go
//	w name       a note
//	x            writes to be carried out: see pack.go
//	~            waste: see reclaim.go
//
// A change that an older program would misread, such as a new kind of key, raises formatVersion.
const (
	formatVersion = 2

	sumSize     = 4
	sealSize    = 1 + sumSize
	storeSize   = 16 + 6*8
	streamSize  = 4 * 8
	peerSize    = 8
	metaPrefix  = 'm'
	kindStore   = 'S'
	kindStream  = 'r'
	kindPeer    = 'n'
	keyOverhead = 2 // prefix and kind
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// storeRecord is the state of the whole store, and the proof that the other records are all there.
type storeRecord struct {
	id          [16]byte
	incarnation uint64 // 1..maxIncarnation
	commits     uint64 // this one included
	records     uint64 // how many other small records there are
	blocks      uint64 // how many keys of blocks there are
	digest      uint64 // sum of the checksums of those records and of the keys of those blocks
	wall        int64  // of this commit, Unix nanoseconds
}

// streamRecord says which seqs of a stream may have been used: all up to end.
// gapTo < lowest <= end+1; without a gap gapFrom and gapTo are 0.
type streamRecord struct {
	end            uint64
	lowest         uint64
	gapFrom, gapTo uint64
}

func storeKey() []byte { return []byte{metaPrefix, kindStore} }

func streamKey(stream string) []byte {
	return append([]byte{metaPrefix, kindStream}, stream...)
}

func peerKey(node [16]byte) []byte {
	return append([]byte{metaPrefix, kindPeer}, node[:]...)
}

func (r storeRecord) seal() []byte {
	b := append(begin(storeSize), r.id[:]...)
	b = binary.BigEndian.AppendUint64(b, r.incarnation)
	b = binary.BigEndian.AppendUint64(b, r.commits)
	b = binary.BigEndian.AppendUint64(b, r.records)
	b = binary.BigEndian.AppendUint64(b, r.blocks)
	b = binary.BigEndian.AppendUint64(b, r.digest)
	b = binary.BigEndian.AppendUint64(b, uint64(r.wall))
	return finish(storeKey(), b)
}

func parseStore(value []byte) (storeRecord, error) {
	f, err := unseal(storeKey(), value, storeSize)
	if err != nil {
		return storeRecord{}, err
	}
	r := storeRecord{
		id:          [16]byte(f[:16]),
		incarnation: binary.BigEndian.Uint64(f[16:]),
		commits:     binary.BigEndian.Uint64(f[24:]),
		records:     binary.BigEndian.Uint64(f[32:]),
		blocks:      binary.BigEndian.Uint64(f[40:]),
		digest:      binary.BigEndian.Uint64(f[48:]),
		wall:        int64(binary.BigEndian.Uint64(f[56:])),
	}
	if r.incarnation == 0 || r.incarnation >= maxIncarnation || r.commits == 0 {
		return storeRecord{}, fmt.Errorf("%w: incarnation %d at commit %d is out of bounds", ErrDamaged, r.incarnation, r.commits)
	}
	return r, nil
}

func (r streamRecord) seal(stream string) []byte {
	b := begin(streamSize)
	b = binary.BigEndian.AppendUint64(b, r.end)
	b = binary.BigEndian.AppendUint64(b, r.lowest)
	b = binary.BigEndian.AppendUint64(b, r.gapFrom)
	b = binary.BigEndian.AppendUint64(b, r.gapTo)
	return finish(streamKey(stream), b)
}

func parseStream(stream string, value []byte) (streamRecord, error) {
	f, err := unseal(streamKey(stream), value, streamSize)
	if err != nil {
		return streamRecord{}, err
	}
	r := streamRecord{
		end:     binary.BigEndian.Uint64(f),
		lowest:  binary.BigEndian.Uint64(f[8:]),
		gapFrom: binary.BigEndian.Uint64(f[16:]),
		gapTo:   binary.BigEndian.Uint64(f[24:]),
	}
	if !r.valid() {
		return streamRecord{}, fmt.Errorf("%w: end %d, lowest %d, gap %d to %d contradict each other", ErrDamaged, r.end, r.lowest, r.gapFrom, r.gapTo)
	}
	return r, nil
}

func (r streamRecord) valid() bool {
	gap := r.gapFrom == 0 && r.gapTo == 0 || 0 < r.gapFrom && r.gapFrom <= r.gapTo
	return gap && r.gapTo < r.lowest && r.end <= MaxSeq && r.lowest <= r.end+1
}

func sealPeer(node [16]byte, incarnation uint64) []byte {
	return finish(peerKey(node), binary.BigEndian.AppendUint64(begin(peerSize), incarnation))
}

func parsePeer(node [16]byte, value []byte) (incarnation uint64, err error) {
	f, err := unseal(peerKey(node), value, peerSize)
	if err != nil {
		return 0, err
	}
	incarnation = binary.BigEndian.Uint64(f)
	if incarnation == 0 {
		return 0, fmt.Errorf("%w: incarnation 0 is never written", ErrDamaged)
	}
	return incarnation, nil
}

// begin starts a value whose fields will take size bytes.
func begin(size int) []byte {
	return append(make([]byte, 0, size+sealSize), formatVersion)
}

func finish(key, b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, checksum(key, b))
}

// unseal checks a value with fields of a fixed size and returns them; they alias it.
func unseal(key, value []byte, size int) ([]byte, error) {
	f, err := unsealAny(key, value)
	if err == nil && len(f) != size {
		err = fmt.Errorf("%w: a value of %d bytes in format %d", ErrDamaged, len(value), formatVersion)
	}
	return f, err
}

// unsealAny checks a value and returns its fields, which alias it.
func unsealAny(key, value []byte) ([]byte, error) {
	if len(value) < sealSize {
		return nil, fmt.Errorf("%w: a value of %d bytes", ErrDamaged, len(value))
	}
	body := value[:len(value)-sumSize]
	if checksum(key, body) != sumOf(value) {
		return nil, fmt.Errorf("%w: the checksum does not match", ErrDamaged)
	}
	if body[0] == 0 {
		return nil, fmt.Errorf("%w: a value of %d bytes in format 0", ErrDamaged, len(value))
	}
	if body[0] != formatVersion {
		return nil, fmt.Errorf("%w: format %d, known is %d", ErrVersion, body[0], formatVersion)
	}
	return body[1:], nil
}

func checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

// sumOf returns the checksum a sealed value ends with; 0 for no value.
func sumOf(value []byte) uint32 {
	if len(value) < sumSize {
		return 0
	}
	return binary.BigEndian.Uint32(value[len(value)-sumSize:])
}
