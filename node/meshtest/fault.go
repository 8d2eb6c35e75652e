package meshtest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

const (
	// defaultReorderBy is long enough for a busy sender to put many packets into the gap.
	defaultReorderBy = 10 * time.Millisecond
	// defaultBacklog is what a home router or a cellular modem commonly buffers.
	defaultBacklog = 250 * time.Millisecond
)

// Link says what happens to packets on their way from one host to another. The zero Link is perfect: every packet of
// any size arrives at once, in order. Probabilities run from 0 (never) to 1 (always) and are drawn independently for
// every packet; what would be lost at 5 % is also lost at 10 %.
type Link struct {
	// Delay is the time a packet takes. Jitter adds between nothing and Jitter to it, evenly spread. Neither reorders:
	// a packet never overtakes an earlier one, it waits behind it.
	Delay, Jitter time.Duration

	Loss      float64 // probability that a packet vanishes; 1 makes a one-way partition
	Duplicate float64 // probability that a packet arrives twice, the copy with a Jitter of its own
	Corrupt   float64 // probability that one bit of a packet is flipped

	// Reorder is the probability that a packet is held back by ReorderBy on top of its delay, while later ones pass.
	// ReorderBy 0 means 10 ms.
	Reorder   float64
	ReorderBy time.Duration

	// MTU is the size in bytes of the largest IP packet that fits; larger ones vanish without a word. Headers count:
	// 28 bytes with the IPv4 header, 48 with the IPv6 header. 0 means no limit.
	MTU int

	// Rate is what passes in bytes a second, headers counted, all sockets of the two hosts together; 0 means no limit.
	// A packet that would have to wait longer than Backlog for its turn is dropped. Backlog 0 means 250 ms.
	Rate    int
	Backlog time.Duration
}

// check says what is wrong with l, or nil.
func (l Link) check() error {
	for _, p := range []struct {
		name  string
		value float64
	}{{"Loss", l.Loss}, {"Duplicate", l.Duplicate}, {"Corrupt", l.Corrupt}, {"Reorder", l.Reorder}} {
		if !(p.value >= 0 && p.value <= 1) { // written so that NaN fails too
			return fmt.Errorf("meshtest: Link.%s is %v, not a probability from 0 to 1", p.name, p.value)
		}
	}
	if l.Delay < 0 || l.Jitter < 0 || l.ReorderBy < 0 || l.Backlog < 0 {
		return fmt.Errorf("meshtest: negative time in %+v", l)
	}
	if l.MTU < 0 || l.Rate < 0 {
		return fmt.Errorf("meshtest: negative size in %+v", l)
	}
	return nil
}

func (l Link) reorderBy() time.Duration {
	if l.ReorderBy == 0 {
		return defaultReorderBy
	}
	return l.ReorderBy
}

func (l Link) backlog() time.Duration {
	if l.Backlog == 0 {
		return defaultBacklog
	}
	return l.Backlog
}

// fits tells whether an IP packet of size bytes passes.
func (l Link) fits(size int) bool { return l.MTU == 0 || size <= l.MTU }

// sendTime is how long an IP packet of size bytes occupies the link.
func (l Link) sendTime(size int) time.Duration {
	if l.Rate == 0 {
		return 0
	}
	return time.Duration(float64(size) / float64(l.Rate) * float64(time.Second))
}

// ipSize is the size of the IP packet that carries body bytes over UDP to a host.
func ipSize(body int, host netip.Addr) int {
	const udp, ipv4, ipv6 = 8, 20, 40
	if host.Is4() {
		return body + udp + ipv4
	}
	return body + udp + ipv6
}

// fate is the luck of one packet on a link.
type fate struct {
	lost, duplicated, reordered, corrupted bool

	delay     time.Duration // Delay and its share of Jitter
	copyDelay time.Duration // the same for the duplicate
	bit       uint64        // which bit to flip, modulo the bits there are
}

// fate decides what happens to packet number nth of the flow with the given key. Every packet uses up the same draws
// whatever the settings of the link, so that changing one probability leaves the other decisions as they were.
func (l Link) fate(key, nth uint64) fate {
	const draws = 7
	next := nth * draws
	draw := func() uint64 {
		next++
		return scramble(key, next)
	}
	return fate{
		lost:       share(draw()) < l.Loss,
		duplicated: share(draw()) < l.Duplicate,
		reordered:  share(draw()) < l.Reorder,
		corrupted:  share(draw()) < l.Corrupt,
		delay:      l.Delay + time.Duration(share(draw())*float64(l.Jitter)),
		copyDelay:  l.Delay + time.Duration(share(draw())*float64(l.Jitter)),
		bit:        draw(),
	}
}

// flowKey names the packets from one socket address to another, under one seed.
func flowKey(seed uint64, from, to netip.AddrPort) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %v %v", seed, from, to))
	return binary.BigEndian.Uint64(sum[:])
}

// scramble is output number nth of the SplitMix64 generator seeded with key.
func scramble(key, nth uint64) uint64 {
	x := key + nth*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// share maps x evenly onto 0 <= share < 1.
func share(x uint64) float64 { return float64(x>>11) / (1 << 53) }

// flipBit damages body, which must not be empty, in one place.
func flipBit(body []byte, bit uint64) {
	bit %= uint64(len(body)) * 8
	body[bit/8] ^= 1 << (bit % 8)
}
