//go:build linux

package main

import "encoding/binary"

// finishChecksum fills in the checksum that the kernel left to the (virtual) hardware. b is a frame with its
// offload header, which says so: where the sum starts, and how far behind that it is to be put.
func finishChecksum(b []byte) {
	const needsChecksum = 1
	if b[0]&needsChecksum == 0 {
		return
	}
	start := int(binary.NativeEndian.Uint16(b[6:]))
	at := start + int(binary.NativeEndian.Uint16(b[8:]))
	frame := b[offloadHeader:]
	if at+2 > len(frame) {
		return
	}
	// The field holds the sum of the pseudo header, so that adding up everything from start is enough.
	putChecksum(frame[at:], ^fold(add(0, frame[start:])))
}

// putChecksum stores a UDP or TCP checksum. Zero would mean "none" in UDP; all ones is the same number.
func putChecksum(b []byte, sum uint16) {
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b, sum)
}

// add and fold compute the Internet checksum's sum (RFC 1071).
func add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// corrupt flips one bit of a frame: in the payload of a UDP packet, mending its checksum so that the program
// gets to see the damage; else anywhere behind the Ethernet header.
func corrupt(frame []byte, intn func(int) int) {
	udp := udpHeader(frame)
	from := etherHeader
	if udp > 0 {
		from = udp + 8
	}
	if len(frame) <= from {
		return
	}
	bit := intn((len(frame) - from) * 8)
	i := from + bit/8
	if udp == 0 {
		frame[i] ^= 1 << (bit % 8)
		return
	}
	word := i - (i-udp)%2 // the checksum adds up pairs of bytes, counted from its header
	before := fold(add(0, frame[word:min(word+2, len(frame))]))
	frame[i] ^= 1 << (bit % 8)
	after := fold(add(0, frame[word:min(word+2, len(frame))]))
	if sum := binary.BigEndian.Uint16(frame[udp+6:]); sum != 0 { // RFC 1624, equation 3
		putChecksum(frame[udp+6:], ^fold(uint32(^sum)+uint32(^before)+uint32(after)))
	}
}

// udpHeader finds the UDP header with some payload behind it in a frame; 0 if there is none to be found
// without reading IP options.
func udpHeader(frame []byte) int {
	const udp = 17
	kind := func() uint16 { return binary.BigEndian.Uint16(frame[12:]) }
	switch {
	case len(frame) > 42 && kind() == 0x0800 && frame[14] == 0x45 && frame[23] == udp:
		return 34
	case len(frame) > 62 && kind() == 0x86dd && frame[20] == udp:
		return 54
	}
	return 0
}
