package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"peermesh/internal/insight"
)

// A probe is a QUIC packet of a version that nobody speaks (RFC 9000, 6.3): whoever speaks QUIC at that address answers
// with a Version Negotiation packet, and nothing else comes of it.
//
//	1100 0000 | version 0x1a2a3a4a | 8 | 8 bytes | 8 | 8 bytes | zeros up to the size
const (
	probeVersion = "\x1a\x2a\x3a\x4a"
	probeID      = 8
	probeHead    = 1 + 4 + 2*(1+probeID)
)

// probeSizes are the payloads tried: that of the smallest packets of QUIC, those of IPv6's smallest and a common
// tunnel's links, and the largest that QUIC tries. An IPv4 packet has 28 bytes more.
var probeSizes = []int{1200, 1252, 1352, 1452}

const (
	ipHeaders  = 28 // IPv4 and UDP
	probeTries = 3
	probeWait  = 300 * time.Millisecond
)

// makeProbe makes a probe of that size with random ids.
func makeProbe(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b[5:probeHead]) // never fails
	b[0] = 0xc0
	copy(b[1:], probeVersion)
	b[5], b[6+probeID] = probeID, probeID
	return b
}

// answersProbe reports whether b is the Version Negotiation packet that answers probe: a long header, version 0, and
// the two ids in each other's place.
func answersProbe(b, probe []byte) bool {
	return len(b) >= probeHead && b[0]&0x80 != 0 && [4]byte(b[1:5]) == [4]byte{} && b[5] == probeID && b[6+probeID] == probeID &&
		[probeID]byte(b[6:]) == [probeID]byte(probe[7+probeID:]) && [probeID]byte(b[7+probeID:]) == [probeID]byte(probe[6:])
}

// Addresses probes all addresses at once, for about a second at most, and has one line for each, or two.
func Addresses(ctx context.Context, addrs []string) (checks []insight.Check) {
	if len(addrs) == 0 {
		return []insight.Check{{Name: "udp", Verdict: insight.Skip, Text: "no address is known; --peer HOST:PORT names one"}}
	}
	reaches := make([]insight.Reach, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() { reaches[i] = Address(ctx, addr) })
	}
	wg.Wait()
	for _, r := range reaches {
		checks = append(checks, insight.CheckReach(r))
		if r.Answer || r.Largest > 0 {
			checks = append(checks, insight.CheckMTU(r))
		}
	}
	return checks
}

// Address sends probes of all sizes to an address, host:port. It blocks for about a second at most, less when ctx
// ends.
func Address(ctx context.Context, addr string) insight.Reach {
	r := insight.Reach{Addr: addr}
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", addr)
	if err != nil {
		r.Err = err
		return r
	}
	defer c.Close()
	release := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // ends the reading below
	defer release()
	keepWhole(c)
	for _, size := range probeSizes {
		r.Tried = append(r.Tried, size+ipHeaders)
		rtt, err := probe(ctx, c, size)
		switch {
		case err == nil:
			if !r.Answer {
				r.Answer, r.RTT = true, rtt
			}
			r.Largest = size + ipHeaders
		case errors.Is(err, syscall.ECONNREFUSED):
			r.Closed = true
			return r
		case errors.Is(err, syscall.EMSGSIZE):
			return r // the host itself knows that it does not fit
		case !isTimeout(err):
			r.Err = err
			return r
		default:
			return r // larger ones will not be answered either
		}
	}
	return r
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// probe sends a probe until it is answered, at most some times.
func probe(ctx context.Context, c net.Conn, size int) (time.Duration, error) {
	var last error
	buf := make([]byte, 2048)
	for range probeTries {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		p := makeProbe(size)
		began := time.Now()
		if _, err := c.Write(p); err != nil {
			return 0, err
		}
		if err := c.SetReadDeadline(began.Add(probeWait)); err != nil {
			return 0, err
		}
		for {
			n, err := c.Read(buf)
			if err != nil {
				last = err
				break
			}
			if answersProbe(buf[:n], p) {
				return time.Since(began), nil
			}
		}
		if !isTimeout(last) {
			return 0, last
		}
	}
	return 0, last
}

// Buffers asks for socket buffers of that many bytes and sees what comes of it.
func Buffers(asked int) insight.Check {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return insight.Check{Name: "buffers", Verdict: insight.Fail, Code: "udp", Text: err.Error(), Cure: "let this process open UDP sockets"}
	}
	defer c.Close()
	receive, send, err := askBuffers(c, asked)
	if err != nil {
		return insight.Check{Name: "buffers", Verdict: insight.Skip, Text: err.Error()}
	}
	return insight.CheckBuffers(asked, receive, send)
}

// Offload asks what the kernel can do for UDP.
func Offload() insight.Check {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return insight.Check{Name: "offload", Verdict: insight.Skip, Text: err.Error()}
	}
	defer c.Close()
	return insight.CheckOffload(askOffload(c))
}

// multicastGroup is one of this host's own scope (RFC 2365), so that the question bothers nobody.
var multicastGroup = net.IPv4(239, 255, 77, 77)

// Multicast hears on each of the interfaces that list returns (net.Interfaces, usually) whether its own multicast
// comes back. It blocks for a second at most on each, and looks at no more once ctx has ended.
func Multicast(ctx context.Context, list func() ([]net.Interface, error)) (checks []insight.Check) {
	ifaces, err := list()
	if err != nil {
		return []insight.Check{insight.CheckMulticast("", err)}
	}
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		ip := ipv4Of(i)
		switch {
		case ip == nil:
		case i.Flags&net.FlagMulticast == 0:
			checks = append(checks, insight.CheckMulticast(i.Name, errors.New("the interface does no multicast")))
		case ctx.Err() == nil:
			checks = append(checks, insight.CheckMulticast(i.Name, hearMulticast(i, ip)))
		}
	}
	if len(checks) == 0 {
		return []insight.Check{insight.CheckNoMulticast()}
	}
	return checks
}

func ipv4Of(i net.Interface) net.IP {
	addrs, err := i.Addrs()
	if err != nil {
		return nil // it went
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP
		}
	}
	return nil
}

// hearMulticast sends a datagram to the group from the interface's address, which makes it leave there, and waits for
// it to be heard.
func hearMulticast(i net.Interface, ip net.IP) error {
	in, err := net.ListenMulticastUDP("udp4", &i, &net.UDPAddr{IP: multicastGroup})
	if err != nil {
		return fmt.Errorf("the group cannot be joined: %w", err)
	}
	defer in.Close()
	out, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip})
	if err != nil {
		return err
	}
	defer out.Close()
	question := makeProbe(64)
	to := &net.UDPAddr{IP: multicastGroup, Port: in.LocalAddr().(*net.UDPAddr).Port}
	buf := make([]byte, 128)
	for range probeTries {
		if _, err := out.WriteToUDP(question, to); err != nil {
			return fmt.Errorf("a question cannot be sent: %w", err)
		}
		if err := in.SetReadDeadline(time.Now().Add(probeWait)); err != nil {
			return err
		}
		for {
			n, _, err := in.ReadFromUDP(buf)
			if err != nil {
				break // late
			}
			if string(buf[:n]) == string(question) {
				return nil
			}
		}
	}
	return errors.New("a question that was sent there was not heard")
}
