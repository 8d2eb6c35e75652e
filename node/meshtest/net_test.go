package meshtest_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"
	"peermesh/node/meshtest"
)

// Tests in bubbles show by themselves that nothing is left running; this is for the others.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	lan := meshtest.NewNet(meshtest.NetConfig{})
	defer lan.Close()
	a, err := lan.Listen(netip.MustParseAddrPort("10.0.0.1:9000"))
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := lan.Listen(netip.MustParseAddrPort("10.0.0.2:9000"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := a.WriteTo([]byte("hello"), b.LocalAddr()); err != nil {
		fmt.Println(err)
		return
	}
	buf := make([]byte, 1500)
	n, from, err := b.ReadFrom(buf)
	fmt.Printf("%s from %v, error %v\n", buf[:n], from, err)
	// Output: hello from 10.0.0.1:9000, error <nil>
}

// host is the address of the ith host, from 0.
func host(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 1)}) }

// port is the socket most tests use on host i.
func port(i int) netip.AddrPort { return netip.AddrPortFrom(host(i), 9000) }

func listen(tb testing.TB, n *meshtest.Net, addr netip.AddrPort) net.PacketConn {
	tb.Helper()
	c, err := n.Listen(addr)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func newNet(tb testing.TB, cfg meshtest.NetConfig) *meshtest.Net {
	n := meshtest.NewNet(cfg)
	tb.Cleanup(func() { closeAll(tb, n) })
	return n
}

func closeAll(tb testing.TB, cs ...io.Closer) {
	tb.Helper()
	for _, c := range cs {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	}
}

// twoHosts is a network with sockets on hosts 0 and 1.
func twoHosts(tb testing.TB, cfg meshtest.NetConfig) (n *meshtest.Net, a, b net.PacketConn) {
	n = newNet(tb, cfg)
	return n, listen(tb, n, port(0)), listen(tb, n, port(1))
}

func send(tb testing.TB, from net.PacketConn, to net.Addr, body string) {
	tb.Helper()
	if n, err := from.WriteTo([]byte(body), to); n != len(body) || err != nil {
		tb.Fatalf("WriteTo(%d bytes) = %d, %v", len(body), n, err)
	}
}

// sendNumbered sends the packets 0, 1, ... count-1.
func sendNumbered(tb testing.TB, from net.PacketConn, to net.Addr, count int) {
	tb.Helper()
	for i := range count {
		send(tb, from, to, strconv.Itoa(i))
	}
}

// receive reads packets until none has come for an hour of fake time.
func receive(tb testing.TB, c net.PacketConn) (bodies []string, at []time.Duration) {
	tb.Helper()
	start, buf := time.Now(), make([]byte, 1<<16)
	for {
		if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			tb.Fatal(err)
		}
		n, _, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return bodies, at
		}
		if err != nil {
			tb.Fatal(err)
		}
		bodies, at = append(bodies, string(buf[:n])), append(at, time.Since(start))
	}
}

func numbers(tb testing.TB, bodies []string) []int {
	tb.Helper()
	out := make([]int, len(bodies))
	for i, b := range bodies {
		n, err := strconv.Atoi(b)
		if err != nil {
			tb.Fatal(err)
		}
		out[i] = n
	}
	return out
}

func TestPacketArrivesUnchanged(t *testing.T) {
	_, a, b := twoHosts(t, meshtest.NetConfig{})
	body := []byte("first")
	if _, err := a.WriteTo(body, b.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	copy(body, "other") // the network must have its own copy
	buf := make([]byte, 100)
	n, from, err := b.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "first" || from.String() != "10.0.0.1:9000" {
		t.Errorf("got %q from %v, error %v", buf[:n], from, err)
	}
	if _, ok := from.(*net.UDPAddr); !ok {
		t.Errorf("address is a %T, want *net.UDPAddr", from)
	}
}

func TestShortBufferCutsPacket(t *testing.T) {
	_, a, b := twoHosts(t, meshtest.NetConfig{})
	send(t, a, b.LocalAddr(), "long packet")
	send(t, a, b.LocalAddr(), "next")
	buf := make([]byte, 4)
	for _, want := range []string{"long", "next"} {
		if n, _, err := b.ReadFrom(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v, want %q", buf[:n], err, want)
		}
	}
}

func TestMappedAddressIsTheSameHost(t *testing.T) {
	_, a, b := twoHosts(t, meshtest.NetConfig{})
	send(t, a, &net.UDPAddr{IP: net.ParseIP("::ffff:10.0.0.2"), Port: 9000}, "hi")
	if _, from, err := b.ReadFrom(make([]byte, 9)); err != nil || from.String() != "10.0.0.1:9000" {
		t.Errorf("from %v, error %v", from, err)
	}
}

func TestListenRefusesBadAddresses(t *testing.T) {
	n := newNet(t, meshtest.NetConfig{})
	for _, addr := range []netip.AddrPort{
		{}, netip.MustParseAddrPort("0.0.0.0:1"), netip.MustParseAddrPort("[::]:1"), netip.MustParseAddrPort("224.0.0.251:5353"),
	} {
		if c, err := n.Listen(addr); err == nil {
			t.Errorf("Listen(%v) = %v, want an error", addr, c.LocalAddr())
		}
	}
}

func TestAddressIsTakenUntilClose(t *testing.T) {
	n := newNet(t, meshtest.NetConfig{})
	first := listen(t, n, port(0))
	if _, err := n.Listen(port(0)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("second Listen: %v, want EADDRINUSE", err)
	}
	closeAll(t, first)
	second := listen(t, n, port(0))
	closeAll(t, first) // again: must not take the address from second
	if _, err := n.Listen(port(0)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("Listen after a double Close of the former owner: %v, want EADDRINUSE", err)
	}
	closeAll(t, second)
}

func TestPortZeroPicksFreePorts(t *testing.T) {
	n := newNet(t, meshtest.NetConfig{})
	listen(t, n, netip.AddrPortFrom(host(0), 49153))
	for _, want := range []string{"10.0.0.1:49152", "10.0.0.1:49154"} {
		if got := listen(t, n, netip.AddrPortFrom(host(0), 0)).LocalAddr().String(); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestWriteRefusesWhatUDPCannotCarry(t *testing.T) {
	n, a, b := twoHosts(t, meshtest.NetConfig{})
	for name, write := range map[string]func() (int, error){
		"too long":    func() (int, error) { return a.WriteTo(make([]byte, 65508), b.LocalAddr()) },
		"nil address": func() (int, error) { return a.WriteTo(nil, (*net.UDPAddr)(nil)) },
		"no IP":       func() (int, error) { return a.WriteTo(nil, &net.UDPAddr{Port: 1}) },
		"not UDP":     func() (int, error) { return a.WriteTo(nil, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 9000}) },
	} {
		if _, err := write(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if s := n.Stats(); s.Sent != 0 {
		t.Errorf("%d sent, want 0", s.Sent)
	}
	send(t, a, b.LocalAddr(), string(make([]byte, 65507)))
}

func TestReadDeadlineEndsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := twoHosts(t, meshtest.NetConfig{})
		start := time.Now()
		if err := a.SetReadDeadline(start.Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _, err := a.ReadFrom(nil)
		var netErr net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &netErr) || !netErr.Timeout() {
			t.Errorf("error %v, want a net.Error that is a deadline exceeded", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v, want 3s", took)
		}
	})
}

func TestPassedDeadlineHidesQueueUntilCleared(t *testing.T) {
	_, a, b := twoHosts(t, meshtest.NetConfig{})
	send(t, a, b.LocalAddr(), "hi")
	if err := b.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want a deadline exceeded", err)
	}
	if _, err := b.WriteTo(nil, a.LocalAddr()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v, want a deadline exceeded", err)
	}
	if err := b.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, _, err := b.ReadFrom(make([]byte, 9)); n != 2 || err != nil {
		t.Errorf("read after clearing: %d, %v", n, err)
	}
	send(t, b, a.LocalAddr(), "back")
}

func TestNewDeadlineMovesWaitingRead(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second time.Duration // since the start; the second is set after 1 s
		want          time.Duration
	}{
		{"set", 0, 3 * time.Second, 3 * time.Second},
		{"sooner", time.Hour, 3 * time.Second, 3 * time.Second},
		{"later", 2 * time.Second, 5 * time.Second, 5 * time.Second},
		{"at once", time.Hour, time.Second, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, _ := twoHosts(t, meshtest.NetConfig{})
				start := time.Now()
				set := func(d time.Duration) {
					if err := a.SetReadDeadline(start.Add(d)); err != nil {
						t.Error(err)
					}
				}
				if tt.first > 0 {
					set(tt.first)
				}
				time.AfterFunc(time.Second, func() { set(tt.second) })
				_, _, err := a.ReadFrom(nil)
				if took := time.Since(start); took != tt.want || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%v after %v, want a deadline exceeded after %v", err, took, tt.want)
				}
			})
		})
	}
}

// A deadline replaced at the instant it passes must not end reads under the new one.
func TestReplacedDeadlineStaysReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := twoHosts(t, meshtest.NetConfig{})
		for range 2000 {
			passes := time.Now().Add(time.Second)
			if err := a.SetReadDeadline(passes); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // both wake now
			next := passes.Add(time.Second)
			if err := a.SetReadDeadline(next); err != nil {
				t.Fatal(err)
			}
			if _, _, err := a.ReadFrom(nil); !time.Now().Equal(next) {
				t.Fatalf("read ended %v early with %v", time.Until(next), err)
			}
		}
	})
}

func TestCloseEndsReadsAndWrites(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*meshtest.Net, net.PacketConn) error
	}{
		{"socket", func(_ *meshtest.Net, c net.PacketConn) error { return c.Close() }},
		{"network", func(n *meshtest.Net, _ net.PacketConn) error { return n.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, a, b := twoHosts(t, meshtest.NetConfig{})
				send(t, b, a.LocalAddr(), "never read")
				waiting := make(chan error)
				go func() {
					_, _, err := b.ReadFrom(nil)
					waiting <- err
				}()
				synctest.Wait()
				for range 2 {
					if err := errors.Join(tt.end(n, a), tt.end(n, b)); err != nil {
						t.Fatal(err)
					}
				}
				_, _, readErr := a.ReadFrom(nil)
				_, writeErr := a.WriteTo(nil, b.LocalAddr())
				for op, err := range map[string]error{
					"waiting read": <-waiting, "read": readErr, "write": writeErr,
					"SetDeadline": a.SetDeadline(time.Time{}), "SetWriteDeadline": a.SetWriteDeadline(time.Time{}),
				} {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("%s: %v, want net.ErrClosed", op, err)
					}
				}
			})
		})
	}
}

func TestClosedNetRefusesListen(t *testing.T) {
	n := meshtest.NewNet(meshtest.NetConfig{})
	closeAll(t, n, n)
	if _, err := n.Listen(port(0)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v, want net.ErrClosed", err)
	}
}

func TestFullQueueDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{Queue: 3})
		sendNumbered(t, a, b.LocalAddr(), 5)
		if got, _ := receive(t, b); !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("got %v, want the first 3", got)
		}
		sendNumbered(t, a, b.LocalAddr(), 3) // there is room again
		if got, _ := receive(t, b); len(got) != 3 {
			t.Errorf("got %v, want 3 more", got)
		}
		if s := n.Stats(); s.Full != 2 || s.Delivered != 6 {
			t.Errorf("full %d, delivered %d, want 2 and 6", s.Full, s.Delivered)
		}
	})
}

func TestDelayIsKeptToTheNanosecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Delay: 20*time.Millisecond + 1}})
		for range 3 {
			send(t, a, b.LocalAddr(), "x")
			time.Sleep(5 * time.Millisecond)
		}
		want := []time.Duration{20*time.Millisecond + 1, 25*time.Millisecond + 1, 30*time.Millisecond + 1}
		_, at := receive(t, b)
		for i := range at {
			at[i] += 15 * time.Millisecond // receive began then
		}
		if !slices.Equal(at, want) {
			t.Errorf("arrived at %v, want %v", at, want)
		}
	})
}

func TestJitterSpreadsButKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Delay: time.Second, Jitter: 100 * time.Millisecond}})
		var sent []time.Time
		var got []time.Duration
		start := time.Now()
		var reader sync.WaitGroup
		reader.Go(func() {
			bodies, at := receive(t, b)
			if !slices.IsSorted(numbers(t, bodies)) || len(bodies) != 200 {
				t.Errorf("order broken: %v", bodies)
			}
			got = at
		})
		for i := range 200 {
			sent = append(sent, time.Now())
			send(t, a, b.LocalAddr(), strconv.Itoa(i))
			time.Sleep(20 * time.Millisecond)
		}
		reader.Wait()
		seen := map[time.Duration]bool{}
		for i, at := range got {
			delay := at - sent[i].Sub(start)
			if delay < time.Second || delay > 1100*time.Millisecond {
				t.Errorf("packet %d took %v", i, delay)
			}
			seen[delay] = true
		}
		if len(seen) < 100 {
			t.Errorf("only %d different delays in 200 packets", len(seen))
		}
	})
}

func TestReorderedPacketIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Reorder: 0.2}})
		sendNumbered(t, a, b.LocalAddr(), 500)
		bodies, at := receive(t, b)
		s := n.Stats()
		if len(bodies) != 500 || s.Reordered == 0 {
			t.Fatalf("%d of 500 arrived, %d of them reordered", len(bodies), s.Reordered)
		}
		order := numbers(t, bodies)
		prompt := len(order) - int(s.Reordered)
		if !slices.IsSorted(order[:prompt]) || at[prompt-1] != 0 {
			t.Errorf("the %d packets left alone must come first and in order: %v", prompt, order)
		}
		if at[prompt] != 10*time.Millisecond {
			t.Errorf("the first late packet took %v, want the default of 10ms", at[prompt])
		}
	})
}

func TestDuplicateArrivesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Duplicate: 1, Delay: time.Second}})
		sendNumbered(t, a, b.LocalAddr(), 2)
		if got, _ := receive(t, b); !slices.Equal(got, []string{"0", "0", "1", "1"}) {
			t.Errorf("got %v", got)
		}
		if s := n.Stats(); s.Sent != 2 || s.Duplicated != 2 || s.Delivered != 4 {
			t.Errorf("%+v", s)
		}
	})
}

func TestDuplicateHasItsOwnJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Duplicate: 1, Jitter: time.Second}})
		var apart int
		for range 100 {
			send(t, a, b.LocalAddr(), "x")
			if _, at := receive(t, b); len(at) == 2 && at[0] != at[1] {
				apart++
			}
		}
		if apart < 25 || apart > 75 {
			t.Errorf("%d of 100 copies came after the original, want about half", apart)
		}
	})
}

func TestCorruptFlipsOneBit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Corrupt: 1}})
		for range 50 {
			send(t, a, b.LocalAddr(), string(make([]byte, 20)))
		}
		send(t, a, b.LocalAddr(), "") // nothing to damage
		got, _ := receive(t, b)
		places := map[string]bool{}
		for _, body := range got[:50] {
			var ones int
			for _, c := range []byte(body) {
				for ; c != 0; c &= c - 1 {
					ones++
				}
			}
			if ones != 1 {
				t.Errorf("%d bits flipped in %x", ones, body)
			}
			places[body] = true
		}
		if len(places) < 25 {
			t.Errorf("50 packets were damaged in only %d places", len(places))
		}
		if s := n.Stats(); s.Corrupted != 50 || len(got) != 51 {
			t.Errorf("%d corrupted, %d arrived, want 50 and 51", s.Corrupted, len(got))
		}
	})
}

func TestMTUCountsHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, meshtest.NetConfig{Default: meshtest.Link{MTU: 1280}})
		for _, tt := range []struct {
			from, to string
			largest  int
		}{
			{"10.0.0.1:1", "10.0.0.2:1", 1252},
			{"[fd00::1]:1", "[fd00::2]:1", 1232},
		} {
			a, b := listen(t, n, netip.MustParseAddrPort(tt.from)), listen(t, n, netip.MustParseAddrPort(tt.to))
			send(t, a, b.LocalAddr(), string(make([]byte, tt.largest)))
			send(t, a, b.LocalAddr(), string(make([]byte, tt.largest+1)))
			if got, _ := receive(t, b); len(got) != 1 || len(got[0]) != tt.largest {
				t.Errorf("%v: %d packets arrived, want only the one of %d bytes", tt.to, len(got), tt.largest)
			}
		}
		if s := n.Stats(); s.TooBig != 2 {
			t.Errorf("%d too big, want 2", s.TooBig)
		}
	})
}

func TestRateSpacesPacketsAndDropsBeyondBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := meshtest.Link{Rate: 1000, Backlog: 250 * time.Millisecond, Delay: time.Second}
		n, a, b := twoHosts(t, meshtest.NetConfig{Default: link})
		for range 10 {
			send(t, a, b.LocalAddr(), string(make([]byte, 72))) // 100 ms each with headers
		}
		_, at := receive(t, b)
		want := []time.Duration{1100 * time.Millisecond, 1200 * time.Millisecond, 1300 * time.Millisecond}
		if !slices.Equal(at, want) { // the fourth would wait 300 ms
			t.Errorf("arrived at %v, want %v", at, want)
		}
		if s := n.Stats(); s.Backlog != 7 {
			t.Errorf("%d dropped, want 7", s.Backlog)
		}
		send(t, a, b.LocalAddr(), string(make([]byte, 1472))) // an idle link takes any packet
		if _, at := receive(t, b); !slices.Equal(at, []time.Duration{2500 * time.Millisecond}) {
			t.Errorf("large packet arrived at %v, want 2.5s", at)
		}
	})
}

func TestPacketsUnderWayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Delay: time.Second}})
		for range 1<<16 + 5 {
			send(t, a, b.LocalAddr(), "")
		}
		if s := n.Stats(); s.Flying != 1<<16 || s.Backlog != 5 {
			t.Errorf("%d under way, %d dropped, want 65536 and 5", s.Flying, s.Backlog)
		}
	})
}

func TestLinksAreDirected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{})
		n.SetLink(host(0), host(1), meshtest.Link{Loss: 1})
		send(t, a, b.LocalAddr(), "lost")
		send(t, b, a.LocalAddr(), "arrives")
		if got, _ := receive(t, b); len(got) != 0 {
			t.Errorf("b got %v, want nothing", got)
		}
		if got, _ := receive(t, a); len(got) != 1 {
			t.Errorf("a got %v, want one packet", got)
		}
		there, back := n.LinkStats(host(0), host(1)), n.LinkStats(host(1), host(0))
		if there.Lost != 1 || there.Delivered != 0 || back.Lost != 0 || back.Delivered != 1 {
			t.Errorf("there %+v, back %+v", there, back)
		}
		if s := n.LinkStats(host(1), host(2)); s != (meshtest.Stats{}) {
			t.Errorf("unused link has %+v", s)
		}
	})
}

func TestSetDefaultLeavesOwnLinksAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{})
		c := listen(t, n, port(2))
		n.SetLink(host(0), host(1), meshtest.Link{Delay: time.Second})
		send(t, a, c.LocalAddr(), "before")
		n.SetDefault(meshtest.Link{Delay: 2 * time.Second})
		send(t, a, b.LocalAddr(), "own")
		send(t, a, c.LocalAddr(), "default")
		if _, at := receive(t, b); !slices.Equal(at, []time.Duration{time.Second}) {
			t.Errorf("own link took %v, want 1s", at)
		}
		if got, _ := receive(t, c); !slices.Equal(got, []string{"before", "default"}) {
			t.Errorf("c got %v", got)
		}
	})
}

func TestFasterLinkOvertakesPacketsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Delay: time.Minute}})
		send(t, a, b.LocalAddr(), "slow")
		n.SetDefault(meshtest.Link{Delay: time.Second})
		send(t, a, b.LocalAddr(), "faster")
		n.SetLink(host(0), host(1), meshtest.Link{})
		send(t, a, b.LocalAddr(), "at once")
		bodies, at := receive(t, b)
		if !slices.Equal(bodies, []string{"at once", "faster", "slow"}) || !slices.Equal(at, []time.Duration{0, time.Second, time.Minute}) {
			t.Errorf("got %v at %v", bodies, at)
		}
	})
}

func TestBadSettingsPanic(t *testing.T) {
	for _, l := range []meshtest.Link{
		{Loss: -0.1}, {Loss: math.NaN()}, {Duplicate: 1.1}, {Corrupt: 2}, {Reorder: math.Inf(1)},
		{Delay: -1}, {Jitter: -1}, {ReorderBy: -1}, {Backlog: -1}, {MTU: -1}, {Rate: -1},
	} {
		n := newNet(t, meshtest.NetConfig{})
		for name, set := range map[string]func(){
			"NewNet":     func() { newNet(t, meshtest.NetConfig{Default: l}) },
			"SetDefault": func() { n.SetDefault(l) },
			"SetLink":    func() { n.SetLink(host(0), host(1), l) },
		} {
			if !panics(set) {
				t.Errorf("%s accepted %+v", name, l)
			}
		}
	}
	if !panics(func() { newNet(t, meshtest.NetConfig{Queue: -1}) }) {
		t.Error("NewNet accepted a negative queue")
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestPartitionCutsBothWaysUntilHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{})
		c := listen(t, n, port(2))
		n.Partition([]netip.Addr{host(0)}, []netip.Addr{host(1)})
		talk := func() (toA, toB, toC []string) {
			for _, from := range []net.PacketConn{a, b, c} {
				for _, to := range []net.PacketConn{a, b, c} {
					send(t, from, to.LocalAddr(), from.LocalAddr().String()[:8])
				}
			}
			toA, _ = receive(t, a)
			toB, _ = receive(t, b)
			toC, _ = receive(t, c)
			return toA, toB, toC
		}
		toA, toB, toC := talk()
		if fmt.Sprint(toA, toB, toC) != "[10.0.0.1 10.0.0.3] [10.0.0.2 10.0.0.3] [10.0.0.1 10.0.0.2 10.0.0.3]" {
			t.Errorf("partitioned: %v %v %v", toA, toB, toC)
		}
		if s := n.Stats(); s.Cut != 2 {
			t.Errorf("%d cut, want 2", s.Cut)
		}
		n.Heal()
		if toA, toB, toC = talk(); len(toA) != 3 || len(toB) != 3 || len(toC) != 3 {
			t.Errorf("healed: %v %v %v", toA, toB, toC)
		}
		n.Isolate(host(2))
		toA, toB, toC = talk()
		if fmt.Sprint(toA, toB, toC) != "[10.0.0.1 10.0.0.2] [10.0.0.1 10.0.0.2] [10.0.0.3]" {
			t.Errorf("isolated: %v %v %v", toA, toB, toC)
		}
		n.Heal()
		if toA, toB, toC = talk(); len(toA) != 3 || len(toB) != 3 || len(toC) != 3 {
			t.Errorf("healed again: %v %v %v", toA, toB, toC)
		}
	})
}

func TestPartitionStopsPacketsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Delay: time.Second}})
		send(t, a, b.LocalAddr(), "due during the partition")
		time.Sleep(500 * time.Millisecond)
		send(t, a, b.LocalAddr(), "due after it")
		n.Partition([]netip.Addr{host(0)}, []netip.Addr{host(1)})
		time.Sleep(700 * time.Millisecond)
		send(t, a, b.LocalAddr(), "sent during it")
		n.Heal()
		if got, _ := receive(t, b); !slices.Equal(got, []string{"due after it"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestPacketToNobodyVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := twoHosts(t, meshtest.NetConfig{Default: meshtest.Link{Delay: time.Second}})
		send(t, a, net.UDPAddrFromAddrPort(port(9)), "no such host")
		send(t, a, b.LocalAddr(), "closed on arrival")
		closeAll(t, b)
		time.Sleep(2 * time.Second)
		send(t, a, b.LocalAddr(), "for the next owner")
		if got, _ := receive(t, listen(t, n, port(1))); !slices.Equal(got, []string{"for the next owner"}) {
			t.Errorf("got %v", got)
		}
		if s := n.Stats(); s.Nobody != 2 || s.Delivered != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// arrivals sends count numbered packets to host to and returns the numbers as they arrive. If noisy, other sockets of
// both hosts talk in between.
func arrivals(t *testing.T, cfg meshtest.NetConfig, to, count int, noisy bool) (arrived []int, stats meshtest.Stats) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, cfg)
		a, b := listen(t, n, port(0)), listen(t, n, port(to))
		other := listen(t, n, netip.AddrPortFrom(host(0), 1))
		for i := range count {
			send(t, a, b.LocalAddr(), strconv.Itoa(i))
			for range i % 3 {
				if noisy {
					send(t, other, net.UDPAddrFromAddrPort(netip.AddrPortFrom(host(to), 1)), "")
					send(t, b, a.LocalAddr(), "")
				}
			}
		}
		bodies, _ := receive(t, b)
		arrived, stats = numbers(t, bodies), n.Stats()
	})
	return arrived, stats
}

func TestSameSeedSameFate(t *testing.T) {
	cfg := meshtest.NetConfig{Seed: 7, Default: meshtest.Link{
		Loss: 0.1, Duplicate: 0.05, Reorder: 0.1, Delay: time.Millisecond, Jitter: time.Millisecond,
	}}
	first, _ := arrivals(t, cfg, 1, 1000, false)
	if again, _ := arrivals(t, cfg, 1, 1000, false); !slices.Equal(first, again) {
		t.Error("the same packets under the same seed met another fate")
	}
	if noisy, _ := arrivals(t, cfg, 1, 1000, true); !slices.Equal(first, noisy) {
		t.Error("packets of other sockets changed the fate of these")
	}
	if elsewhere, _ := arrivals(t, cfg, 2, 1000, false); slices.Equal(first, elsewhere) {
		t.Error("two links share one fate")
	}
	cfg.Seed = 8
	if other, _ := arrivals(t, cfg, 1, 1000, false); slices.Equal(first, other) {
		t.Error("another seed brought the same fate")
	}
}

func TestMoreLossKeepsEarlierLosses(t *testing.T) {
	var before []int
	for _, loss := range []float64{0, 0.01, 0.1, 0.5, 1} {
		kept, _ := arrivals(t, meshtest.NetConfig{Default: meshtest.Link{Loss: loss}}, 1, 4000, false)
		for _, i := range kept {
			if _, ok := slices.BinarySearch(before, i); before != nil && !ok {
				t.Errorf("packet %d was lost at a lower loss than %v but not now", i, loss)
			}
		}
		before = kept
	}
}

func TestChancesKeepTheirShares(t *testing.T) {
	const count = 4000
	for _, p := range []float64{0, 0.01, 0.2, 0.5, 1} {
		near := func(name string, got, of uint64) {
			share := float64(got) / float64(of)
			if slack := 4 * math.Sqrt(p*(1-p)/float64(of)); math.Abs(share-p) > slack {
				t.Errorf("%s %v happened to %d of %d", name, p, got, of)
			}
		}
		cfg := meshtest.NetConfig{Default: meshtest.Link{Loss: p}, Queue: 2 * count}
		_, s := arrivals(t, cfg, 1, count, false)
		near("Loss", s.Lost, count)
		cfg.Default = meshtest.Link{Duplicate: p, Reorder: p, Corrupt: p}
		synctest.Test(t, func(t *testing.T) {
			n, a, b := twoHosts(t, cfg)
			sendNumbered(t, a, b.LocalAddr(), count)
			s = n.Stats()
		})
		near("Duplicate", s.Duplicated, count)
		near("Reorder", s.Reordered, count)
		near("Corrupt", s.Corrupted, count)
	}
}

// What happened to one packet must not decide what happens to the next.
func TestChancesAreIndependent(t *testing.T) {
	const count = 4000
	got, _ := arrivals(t, meshtest.NetConfig{Default: meshtest.Link{Loss: 0.3, Duplicate: 0.3}}, 1, count, false)
	var copies [count + 1]int
	for _, i := range got {
		copies[i]++
	}
	var doubled, thenLost int
	for i := range count - 1 {
		if copies[i] == 2 {
			doubled++
			if copies[i+1] == 0 {
				thenLost++
			}
		}
	}
	if share := float64(thenLost) / float64(doubled); share < 0.2 || share > 0.4 {
		t.Errorf("%d of %d duplicated packets were followed by a lost one, want about 0.3", thenLost, doubled)
	}
}

// TestStatsBalance drives a network at random and checks the ledger after every step.
func TestStatsBalance(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			n := newNet(t, meshtest.NetConfig{Seed: seed, Queue: 20})
			rng := mrand.New(mrand.NewPCG(seed, 0))
			var conns []net.PacketConn
			for i := range 4 {
				conns = append(conns, listen(t, n, port(i)))
			}
			for step := range 500 {
				x, y := rng.IntN(4), rng.IntN(5) // nobody listens on host 4
				switch rng.IntN(12) {
				case 0:
					n.Partition([]netip.Addr{host(x)}, []netip.Addr{host(y)})
				case 1:
					n.Isolate(host(x))
				case 2:
					n.Heal()
				case 3:
					n.SetLink(host(x), host(y), meshtest.Link{
						Loss: rng.Float64(), Duplicate: rng.Float64(), Corrupt: rng.Float64(), Reorder: rng.Float64(),
						Delay: time.Duration(rng.IntN(1e9)), Jitter: time.Duration(rng.IntN(1e9)),
						MTU: rng.IntN(2000), Rate: rng.IntN(1e5),
					})
				case 4:
					time.Sleep(time.Duration(rng.IntN(1e9)))
				case 5:
					receive(t, conns[x])
				default:
					for range rng.IntN(20) {
						send(t, conns[x], net.UDPAddrFromAddrPort(port(y)), string(make([]byte, rng.IntN(1500))))
					}
				}
				checkBalance(t, n.Stats(), step)
			}
			closeAll(t, n)
			checkBalance(t, n.Stats(), -1)
			if s := n.Stats(); s.Flying != 0 {
				t.Errorf("%d under way after Close", s.Flying)
			}
		})
	}
}

func checkBalance(t *testing.T, s meshtest.Stats, step int) {
	t.Helper()
	if in, out := s.Sent+s.Duplicated, s.Delivered+s.Lost+s.Cut+s.TooBig+s.Backlog+s.Full+s.Nobody+s.Flying; in != out {
		t.Errorf("step %d: %d in, %d out: %+v", step, in, out, s)
	}
}

// For the race detector: real time, all methods, from all sides.
func TestAllMethodsMayRunAtOnce(t *testing.T) {
	link := meshtest.Link{Delay: 50 * time.Microsecond, Jitter: 100 * time.Microsecond, Duplicate: 0.1, Reorder: 0.1, ReorderBy: time.Millisecond}
	n, a, b := twoHosts(t, meshtest.NetConfig{Default: link})
	comesAndGoes := netip.AddrPortFrom(host(0), 1)
	var readers, others sync.WaitGroup
	for _, c := range []net.PacketConn{a, b} {
		for range 2 {
			readers.Go(func() {
				for buf := make([]byte, 100); ; {
					if _, _, err := c.ReadFrom(buf); errors.Is(err, net.ErrClosed) {
						return
					}
				}
			})
		}
		others.Go(func() {
			for range 2000 {
				for _, to := range []net.Addr{a.LocalAddr(), b.LocalAddr(), net.UDPAddrFromAddrPort(comesAndGoes)} {
					if _, err := c.WriteTo([]byte("x"), to); err != nil {
						t.Error(err)
					}
				}
			}
		})
		others.Go(func() {
			for i := range 200 {
				if err := c.SetReadDeadline(time.Now().Add(time.Duration(i%20) * time.Microsecond)); err != nil {
					t.Error(err)
				}
			}
			if err := c.SetReadDeadline(time.Time{}); err != nil { // or the readers keep everybody from the rest
				t.Error(err)
			}
		})
	}
	others.Go(func() {
		for range 200 {
			n.SetLink(host(0), host(1), link)
			n.SetDefault(link)
			n.Partition([]netip.Addr{host(0)}, []netip.Addr{host(1)})
			n.Isolate(host(0))
			n.Heal()
			checkBalance(t, n.Stats(), 0)
			c, err := n.Listen(comesAndGoes)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := c.WriteTo([]byte("x"), a.LocalAddr()); err != nil {
				t.Error(err)
			}
			closeAll(t, c)
		}
	})
	others.Wait()
	closeAll(t, a, b)
	readers.Wait()
}

// endpoint is one QUIC host: what it takes to dial, listen and be closed.
type endpoint struct {
	tls       *tls.Config
	pc        net.PacketConn
	transport *quic.Transport
	listener  *quic.Listener
}

// newEndpoint listens on host i with a fresh self-signed identity; both sides of a handshake show one.
func newEndpoint(tb testing.TB, n *meshtest.Net, i int, qc *quic.Config) *endpoint {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		tb.Fatal(err)
	}
	e := &endpoint{
		tls: &tls.Config{
			NextProtos:             []string{"meshtest"},
			Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
			ClientAuth:             tls.RequireAnyClientCert,
			InsecureSkipVerify:     true, // the test is about packets, any identity will do
			SessionTicketsDisabled: true,
		},
		pc: listen(tb, n, port(i)),
	}
	e.transport = &quic.Transport{Conn: e.pc}
	if e.listener, err = e.transport.Listen(e.tls, qc); err != nil {
		tb.Fatal(err)
	}
	return e
}

func (e *endpoint) close(tb testing.TB) {
	tb.Helper()
	closeAll(tb, e.listener, e.transport, e.pc)
}

// pair is two endpoints with a connection between them.
func pair(tb testing.TB, n *meshtest.Net, qc *quic.Config) (dialed, accepted *quic.Conn) {
	tb.Helper()
	a, b := newEndpoint(tb, n, 0, qc), newEndpoint(tb, n, 1, qc)
	dialed, err := a.transport.Dial(tb.Context(), b.pc.LocalAddr(), a.tls, qc)
	if err != nil {
		tb.Fatal(err)
	}
	if accepted, err = b.listener.Accept(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := dialed.CloseWithError(0, ""); err != nil {
			tb.Error(err)
		}
		<-accepted.Context().Done()
		a.close(tb)
		b.close(tb)
	})
	return dialed, accepted
}

// transfer sends size bytes on a stream of its own, checks them, and waits for the answer.
func transfer(tb testing.TB, from, to *quic.Conn, size int) {
	tb.Helper()
	want := make([]byte, size)
	if _, err := rand.Read(want); err != nil {
		tb.Fatal(err)
	}
	var receiver sync.WaitGroup
	receiver.Go(func() {
		s, err := to.AcceptStream(tb.Context())
		if err != nil {
			tb.Error(err)
			return
		}
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, want) {
			tb.Errorf("received %d bytes of %d, equal %v, error %v", len(got), size, bytes.Equal(got, want), err)
		}
		_, err = s.Write([]byte("ok"))
		if err := errors.Join(err, s.Close()); err != nil {
			tb.Error(err)
		}
	})
	s, err := from.OpenStreamSync(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	_, err = s.Write(want)
	if err := errors.Join(err, s.Close()); err != nil {
		tb.Fatal(err)
	}
	if answer, err := io.ReadAll(s); err != nil || string(answer) != "ok" {
		tb.Errorf("answer %q, error %v", answer, err)
	}
	receiver.Wait()
}

func TestQUICBulkArrivesWholeOverBadLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, meshtest.NetConfig{Seed: 1, Default: meshtest.Link{
			Delay: 10 * time.Millisecond, Jitter: 2 * time.Millisecond,
			Loss: 0.10, Duplicate: 0.05, Reorder: 0.05, Corrupt: 0.01, MTU: 1400,
		}})
		dialed, accepted := pair(t, n, &quic.Config{HandshakeIdleTimeout: time.Minute})
		transfer(t, dialed, accepted, 400_000)
		transfer(t, accepted, dialed, 400_000)
		s := n.Stats()
		if s.Lost == 0 || s.Duplicated == 0 || s.Reordered == 0 || s.Corrupted == 0 {
			t.Errorf("the link was not bad: %+v", s)
		}
		t.Logf("%+v", s)
	})
}

func TestQUICRunsAtTheRateOfTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, meshtest.NetConfig{Default: meshtest.Link{Delay: 10 * time.Millisecond, Rate: 100_000}})
		dialed, accepted := pair(t, n, nil)
		start := time.Now()
		transfer(t, dialed, accepted, 500_000)
		if took := time.Since(start); took < 5*time.Second || took > 8*time.Second {
			t.Errorf("500 kB at 100 kB/s took %v of fake time", took)
		}
	})
}

var outage = &quic.Config{MaxIdleTimeout: 10 * time.Second, KeepAlivePeriod: 3 * time.Second}

// Probes of a silent path come at doubling intervals, so the last one before the idle timeout may be as early as half
// of it: with no other traffic, only a partition shorter than that is sure to be survived.
func TestQUICSurvivesPartitionShorterThanIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, meshtest.NetConfig{Default: meshtest.Link{Delay: 5 * time.Millisecond}})
		dialed, accepted := pair(t, n, outage)
		time.Sleep(time.Hour) // keep-alives hold it
		n.Partition([]netip.Addr{host(0)}, []netip.Addr{host(1)})
		healed := time.AfterFunc(4*time.Second, n.Heal)
		defer healed.Stop()
		start := time.Now()
		transfer(t, dialed, accepted, 1000)
		if took := time.Since(start); took < 4*time.Second {
			t.Errorf("a transfer through a partition of 4s took only %v", took)
		}
		if n.Stats().Cut == 0 {
			t.Error("the partition stopped nothing")
		}
	})
}

func TestQUICEndsInPartitionLongerThanIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, meshtest.NetConfig{Default: meshtest.Link{Delay: 5 * time.Millisecond}})
		dialed, accepted := pair(t, n, outage)
		time.Sleep(time.Second)
		n.Isolate(host(1))
		start := time.Now()
		for _, c := range []*quic.Conn{dialed, accepted} {
			<-c.Context().Done()
			if cause := context.Cause(c.Context()); !errors.As(cause, new(*quic.IdleTimeoutError)) {
				t.Errorf("ended with %v, want an idle timeout", cause)
			}
		}
		if took := time.Since(start); took < 5*time.Second || took > 15*time.Second {
			t.Errorf("ended after %v, want about 10s", took)
		}
	})
}

func TestQUICDialFailsOnPathBelowItsPacketSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, meshtest.NetConfig{Default: meshtest.Link{MTU: 1250}})
		a, b := newEndpoint(t, n, 0, nil), newEndpoint(t, n, 1, nil)
		defer a.close(t)
		defer b.close(t)
		if _, err := a.transport.Dial(t.Context(), b.pc.LocalAddr(), a.tls, nil); err == nil {
			t.Error("default packets of 1280 bytes passed an MTU of 1250")
		}
	})
}

// Outside a bubble the same runs in real time.
func TestQUICRunsInRealTime(t *testing.T) {
	n := meshtest.NewNet(meshtest.NetConfig{Seed: 1, Default: meshtest.Link{Delay: 500 * time.Microsecond, Loss: 0.01}})
	t.Cleanup(func() { closeAll(t, n) })
	dialed, accepted := pair(t, n, nil)
	transfer(t, dialed, accepted, 300_000)
}

// patient lets 1,225 handshakes that start at one instant in real time wait for a busy machine.
var patient = &quic.Config{HandshakeIdleTimeout: time.Minute, MaxIdleTimeout: time.Minute}

// fullMesh connects every two of count hosts, each link proved by an answer from the far end, then takes all down.
func fullMesh(tb testing.TB, n *meshtest.Net, count int) {
	tb.Helper()
	endpoints := make([]*endpoint, count)
	var accepting, dialing sync.WaitGroup
	for i := range endpoints {
		e := newEndpoint(tb, n, i, patient)
		endpoints[i] = e
		accepting.Go(func() {
			for {
				c, err := e.listener.Accept(tb.Context())
				if err != nil { // the listener was closed
					return
				}
				accepting.Go(func() { answer(tb, c) })
			}
		})
	}
	links := make(chan *quic.Conn, count*(count-1)/2)
	for i, from := range endpoints {
		for _, to := range endpoints[i+1:] {
			dialing.Go(func() {
				c, err := dial(tb.Context(), from, to)
				if err != nil {
					tb.Error(err)
					return
				}
				links <- c
			})
		}
	}
	dialing.Wait()
	if len(links) != cap(links) {
		tb.Errorf("%d links up, want %d", len(links), cap(links))
	}
	close(links)
	for c := range links {
		if err := c.CloseWithError(0, ""); err != nil {
			tb.Error(err)
		}
	}
	for _, e := range endpoints {
		e.close(tb)
	}
	accepting.Wait()
}

// dial connects and asks for an answer. Many dials at one instant overrun the listener's accept queue of 32, which
// refuses the rest, if need be after Dial has succeeded: those are tried again.
func dial(ctx context.Context, from, to *endpoint) (*quic.Conn, error) {
	for {
		c, err := from.transport.Dial(ctx, to.pc.LocalAddr(), from.tls, patient)
		if err == nil {
			if err = ask(ctx, c); err == nil {
				return c, nil
			}
		}
		var refused *quic.TransportError
		if !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
			return nil, err
		}
	}
}

func ask(ctx context.Context, c *quic.Conn) error {
	s, err := c.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Write([]byte("?")); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	_, err = io.ReadAll(s)
	return err
}

// answer closes the first stream of c with a byte on it.
func answer(tb testing.TB, c *quic.Conn) {
	s, err := c.AcceptStream(tb.Context())
	if err != nil {
		tb.Error(err)
		return
	}
	_, err = s.Write([]byte("!"))
	if err := errors.Join(err, s.Close()); err != nil {
		tb.Error(err)
	}
}

func TestFullMeshOfFiftyComesUp(t *testing.T) {
	count := 50
	if testing.Short() {
		count = 10
	}
	start := time.Now() // real, the bubble's clock is not
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, meshtest.NetConfig{Seed: 1, Default: meshtest.Link{Delay: 20 * time.Millisecond, Loss: 0.02}})
		fake := time.Now()
		fullMesh(t, n, count)
		t.Logf("up and down again in %v of fake time: %+v", time.Since(fake), n.Stats())
	})
	t.Logf("%v of real time", time.Since(start))
}

// BenchmarkFullMesh is one mesh of 50 nodes up and down: 1,225 connections with mutual TLS, on a perfect network in
// real time.
func BenchmarkFullMesh(b *testing.B) {
	for b.Loop() {
		n := meshtest.NewNet(meshtest.NetConfig{})
		fullMesh(b, n, 50)
		closeAll(b, n)
	}
}

// BenchmarkPacket is one packet of QUIC's size written and read, at once and after a delay.
func BenchmarkPacket(b *testing.B) {
	for name, link := range map[string]meshtest.Link{"direct": {}, "delayed": {Delay: time.Microsecond}} {
		b.Run(name, func(b *testing.B) {
			_, x, y := twoHosts(b, meshtest.NetConfig{Default: link})
			body, buf := make([]byte, 1280), make([]byte, 1500)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.WriteTo(body, y.LocalAddr()); err != nil {
					b.Fatal(err)
				}
				if _, _, err := y.ReadFrom(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
