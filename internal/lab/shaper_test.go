//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func within(t *testing.T, what string, got, low, high float64) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %.2f, want %.2f to %.2f", what, got, low, high)
	}
}

func TestShaperKeepsOrderAndSharesUnderJitter(t *testing.T) {
	s := newShaper(Spec{Loss: 0.05, Dup: 0.01, Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Seed: 1}, false)
	now := time.Unix(0, 0)
	var last time.Time
	sent := 0
	for range 100_000 {
		now = now.Add(time.Millisecond)
		for _, c := range s.pass(now, make([]byte, 100)) {
			sent++
			d := c.at.Sub(now)
			if d < 15*time.Millisecond || d > 25*time.Millisecond || c.at.Before(last) {
				t.Fatalf("delay %v, %v after the last one; want 15ms to 25ms, in order", d, c.at.Sub(last))
			}
			last = c.at
		}
	}
	count := s.stats()
	within(t, "lost", float64(count.Lost), 4700, 5300)
	within(t, "duplicated", float64(count.Duplicated), 850, 1050)
	if want := int(count.Packets - count.Lost + count.Duplicated); sent != want {
		t.Errorf("sent %d, want %d as in %v", sent, want, count)
	}
}

func TestShaperWithOneSeedDecidesTheSameAgain(t *testing.T) {
	decisions := func() (at []time.Time) {
		s := newShaper(Spec{Loss: 0.3, Dup: 0.3, Jitter: time.Second, Seed: 42}, false)
		for i := range 100 {
			for _, c := range s.pass(time.Unix(int64(i), 0), make([]byte, 100)) {
				at = append(at, c.at)
			}
		}
		return at
	}
	if a, b := decisions(), decisions(); !slices.Equal(a, b) {
		t.Errorf("got %v, then %v", a, b)
	}
}

func TestShaperHoldsBackOnlyReorderedPackets(t *testing.T) {
	s := newShaper(Spec{Reorder: 1, Seed: 1}, false)
	now := time.Unix(0, 0)
	out := s.pass(now, make([]byte, 100))
	if len(out) != 1 || out[0].at != now.Add(holdBack) || s.stats().Reordered != 1 {
		t.Errorf("got %v and %v, want one packet %v late", out, s.stats(), holdBack)
	}
}

func TestShaperSpreadsABurstOverTheLineAndDropsWhatOverflows(t *testing.T) {
	// 1000 bytes at 8 Mbit/s take 1 ms; a queue of 3 ms has room until the line is taken for longer than that.
	s := newShaper(Spec{Rate: 8_000_000, Queue: 3 * time.Millisecond}, false)
	now := time.Unix(0, 0)
	var got []time.Duration
	for range 10 {
		for _, c := range s.pass(now, make([]byte, 1000)) {
			got = append(got, c.at.Sub(now))
		}
	}
	want := []time.Duration{1e6, 2e6, 3e6, 4e6}
	if !slices.Equal(got, want) || s.stats().Overflow != 6 {
		t.Errorf("got %v and %v, want %v and 6 overflowed", got, s.stats(), want)
	}
}

func TestShaperDropsOnCutLinksAndLongPackets(t *testing.T) {
	cut := newShaper(Spec{}, true)
	if out := cut.pass(time.Unix(0, 0), make([]byte, 100)); len(out) != 0 || cut.stats().Cut != 1 {
		t.Errorf("cut link: got %v and %v, want nothing", out, cut.stats())
	}
	narrow := newShaper(Spec{MTU: 1000}, false)
	if out := narrow.pass(time.Unix(0, 0), make([]byte, 1000+etherHeader)); len(out) != 1 {
		t.Errorf("packet of 1000 bytes over an MTU of 1000: got %v, want it passed", out)
	}
	if out := narrow.pass(time.Unix(0, 0), make([]byte, 1001+etherHeader)); len(out) != 0 || narrow.stats().TooLong != 1 {
		t.Errorf("packet of 1001 bytes over an MTU of 1000: got %v and %v, want nothing", out, narrow.stats())
	}
}

func TestShaperCorruptsACopy(t *testing.T) {
	s := newShaper(Spec{Corrupt: 1, Seed: 1}, false)
	frame := make([]byte, 100)
	out := s.pass(time.Unix(0, 0), frame)
	if len(out) != 1 || flipped(out[0].frame, frame) != 1 {
		t.Fatalf("got %v, want one copy with one bit flipped", out)
	}
	if !bytes.Equal(frame, make([]byte, 100)) {
		t.Errorf("the caller's frame changed: %x", frame)
	}
}

func flipped(a, b []byte) int {
	n := 0
	for i := range a {
		n += bits.OnesCount8(a[i] ^ b[i])
	}
	return n
}

// udpFrame is an Ethernet frame with a UDP packet, its checksum left to the hardware: the field holds the sum
// of the pseudo header.
func udpFrame(v6 bool, payload []byte) (frame []byte, udp int) {
	length := 8 + len(payload)
	pseudo := uint32(17 + length)
	if v6 {
		frame = append(make([]byte, 12), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64)
		frame = append(frame, net.ParseIP("fd77::1:1")...)
		frame = append(frame, net.ParseIP("fd77::1:2")...)
		pseudo = add(pseudo, frame[22:54])
	} else {
		frame = append(make([]byte, 12), 0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 1, 1, 10, 77, 1, 2)
		pseudo = add(pseudo, frame[26:34])
	}
	udp = len(frame)
	frame = binary.BigEndian.AppendUint16(frame, 7777)
	frame = binary.BigEndian.AppendUint16(frame, 7778)
	frame = binary.BigEndian.AppendUint16(frame, uint16(length))
	frame = binary.BigEndian.AppendUint16(frame, fold(pseudo))
	return append(frame, payload...), udp
}

// good checks a UDP checksum: with the pseudo header, everything adds up to all ones.
func good(frame []byte, udp int) bool {
	addresses := frame[26:34]
	if udp == 54 {
		addresses = frame[22:54]
	}
	return fold(add(add(uint32(17+len(frame)-udp), addresses), frame[udp:])) == 0xffff
}

func TestCorruptedUDPStillReachesTheProgram(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, v6 := range []bool{false, true} {
		for size := 1; size < 40; size++ {
			payload := make([]byte, size)
			for i := range payload {
				payload[i] = byte(rng.Uint32())
			}
			bare, udp := udpFrame(v6, payload)
			withHeader := append(make([]byte, offloadHeader), bare...)
			withHeader[0] = 1
			binary.NativeEndian.PutUint16(withHeader[6:], uint16(udp))
			binary.NativeEndian.PutUint16(withHeader[8:], 6)
			finishChecksum(withHeader)
			whole := withHeader[offloadHeader:]
			if !good(whole, udp) {
				t.Fatalf("IPv6 %v, %d bytes: finishChecksum left a wrong checksum: %x", v6, size, whole)
			}
			for range 50 {
				damaged := bytes.Clone(whole)
				corrupt(damaged, rng.IntN)
				if n := flipped(damaged[udp+8:], payload); n != 1 {
					t.Fatalf("IPv6 %v, %d bytes: %d bits of the payload flipped, want 1", v6, size, n)
				}
				if !good(damaged, udp) {
					t.Fatalf("IPv6 %v, %d bytes: the checksum was not mended: %x", v6, size, damaged)
				}
			}
		}
	}
}

func TestFinishChecksumLeavesOtherFramesAlone(t *testing.T) {
	for name, header := range map[string]func([]byte){
		"complete already":  func([]byte) {},
		"beyond the frame":  func(b []byte) { b[0] = 1; binary.NativeEndian.PutUint16(b[6:], 60000) },
		"across its end":    func(b []byte) { b[0] = 1; binary.NativeEndian.PutUint16(b[6:], 99) },
		"offset beyond end": func(b []byte) { b[0] = 1; binary.NativeEndian.PutUint16(b[8:], 60000) },
	} {
		b := bytes.Repeat([]byte{0x5a}, offloadHeader+100)
		clear(b[:offloadHeader])
		header(b)
		want := bytes.Clone(b)
		finishChecksum(b)
		if !bytes.Equal(b, want) {
			t.Errorf("%s: got %x, want %x", name, b, want)
		}
	}
}

func TestRuleMatchesTheFarEndsAddress(t *testing.T) {
	v4, _ := udpFrame(false, []byte("x"))
	v6, _ := udpFrame(true, []byte("x"))
	copy(v4, []byte{2, 0x77, 0, 0, 1, 2, 2, 0x77, 0, 0, 1, 1}) // to h2, from h1
	arp := append(make([]byte, 12), 0x08, 0x06)
	for name, tc := range map[string]struct {
		rule  Rule
		frame []byte
		want  bool
	}{
		"every frame":           {Rule{}, arp, true},
		"from a MAC":            {Rule{MAC: "02:77:00:00:01:01"}, v4, true},
		"from another MAC":      {Rule{MAC: "02:77:00:00:01:02"}, v4, false},
		"to a MAC":              {Rule{Out: true, MAC: "02:77:00:00:01:02"}, v4, true},
		"from an address":       {Rule{IPs: []string{"10.77.1.1", "fd77::1:1"}}, v4, true},
		"to an address":         {Rule{Out: true, IPs: []string{"10.77.1.2", "fd77::1:2"}}, v4, true},
		"to another address":    {Rule{Out: true, IPs: []string{"10.77.1.1", "fd77::1:1"}}, v4, false},
		"from an IPv6 address":  {Rule{IPs: []string{"10.77.1.1", "fd77::1:1"}}, v6, true},
		"to an IPv6 address":    {Rule{Out: true, IPs: []string{"10.77.1.2", "fd77::1:2"}}, v6, true},
		"no address in the ARP": {Rule{IPs: []string{"10.77.1.1", "fd77::1:1"}}, arp, false},
		"cut short":             {Rule{IPs: []string{"10.77.1.1", "fd77::1:1"}}, v4[:30], false},
	} {
		t.Run(name, func(t *testing.T) {
			var p port
			p.rules.Store(&[]*activeRule{})
			if err := p.follow([]Rule{tc.rule}); err != nil {
				t.Fatal(err)
			}
			if got := p.shaperFor(tc.rule.Out, tc.frame) != nil; got != tc.want {
				t.Errorf("%+v on %x: got %v, want %v", tc.rule, tc.frame, got, tc.want)
			}
			if p.shaperFor(!tc.rule.Out, tc.frame) != nil {
				t.Errorf("%+v matched the other direction too", tc.rule)
			}
		})
	}
}

func TestUnchangedRuleKeepsItsCounters(t *testing.T) {
	var p port
	p.rules.Store(&[]*activeRule{})
	loss := func(share float64) []Rule { return []Rule{{Key: "all>h1", Spec: Spec{Loss: share}}} }
	follow := func(rules []Rule) *shaper {
		t.Helper()
		if err := p.follow(rules); err != nil {
			t.Fatal(err)
		}
		return p.shaperFor(false, make([]byte, 100))
	}
	first := follow(loss(0.5))
	if again := follow(loss(0.5)); again != first {
		t.Error("the same rule began anew")
	}
	if changed := follow(loss(0.6)); changed == first {
		t.Error("a changed rule kept the old faults")
	}
}

// arrivals notes when frames are written.
type arrivals struct {
	start time.Time
	got   []string
}

func (a *arrivals) Write(b []byte) (int, error) {
	a.got = append(a.got, time.Since(a.start).String()+" "+string(b))
	return len(b), nil
}

func TestDelayQueueSendsWhenDueInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &arrivals{start: time.Now()}
		q := newDelayQueue(a)
		in := func(d time.Duration, frame string) { q.send(a.start, a.start.Add(d), []byte(frame)) }
		in(30*time.Millisecond, "late")
		in(0, "now")
		in(10*time.Millisecond, "early")
		in(20*time.Millisecond, "b")
		in(20*time.Millisecond, "c")
		in(time.Hour, "never")
		time.Sleep(time.Minute)
		in(time.Minute+time.Millisecond, "after a rest")
		time.Sleep(time.Minute)
		q.close()
		want := []string{"0s now", "10ms early", "20ms b", "20ms c", "30ms late", "1m0.001s after a rest"}
		if !slices.Equal(a.got, want) {
			t.Errorf("got %q, want %q", a.got, want)
		}
	})
}
