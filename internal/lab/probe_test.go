//go:build linux && lab

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The test binary doubles as the lab command and as both ends of a UDP probe, so that the tests need nothing
// built beforehand.
func TestMain(m *testing.M) {
	switch role := os.Getenv("LAB_TEST_AS"); role {
	case "lab":
		main()
	case "sink", "source":
		play := sink
		if role == "source" {
			play = source
		}
		if err := play(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

const testLab = "labtest"

// as is this binary in one of its roles.
func as(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "LAB_TEST_AS="+role, "LAB="+testLab)
	return cmd
}

// lab runs a lab command and returns what it printed. A machine that can have no lab skips the test.
func lab(t *testing.T, args ...string) string {
	t.Helper()
	cmd := as(t, "lab", args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == exitSkip {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Fatalf("lab %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func newLab(t *testing.T, spec string) {
	t.Helper()
	lab(t, "check")
	t.Cleanup(func() { lab(t, "down") })
	lab(t, "up", spec)
}

const sinkPort = 7777

// sink prints, once no more packets come, how they came.
func sink([]string) error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: sinkPort})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetReadBuffer(4 << 20); err != nil {
		return err
	}
	fmt.Println("ready")
	count := tally{seen: map[uint64]bool{}}
	buf := make([]byte, 2000)
	patience := 1500 * time.Millisecond // at first the source is still starting
	for {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := c.Read(buf)
		if err != nil {
			break
		}
		count.add(time.Now(), buf[:n])
		patience = 300 * time.Millisecond
	}
	fmt.Println(count)
	return nil
}

// A tally sums up the packets that came.
type tally struct {
	seen                 map[uint64]bool
	top                  uint64
	dup, late, bad, size int
	first, last          time.Time
	delays               []time.Duration
}

func (c *tally) add(now time.Time, packet []byte) {
	seq, sent, ok := open(packet)
	if !ok {
		c.bad++
		return
	}
	if len(c.delays) == 0 {
		c.first = now
	}
	c.last = now
	c.size += len(packet) + 28
	c.delays = append(c.delays, now.Sub(sent))
	switch {
	case c.seen[seq]:
		c.dup++
	case seq < c.top:
		c.late++
	}
	c.seen[seq] = true
	c.top = max(c.top, seq)
}

// String has no means: one stall of a busy machine would spoil them.
func (c tally) String() string {
	slices.Sort(c.delays)
	ms := func(share float64) float64 {
		if len(c.delays) == 0 {
			return 0
		}
		return float64(c.delays[int(share*float64(len(c.delays)-1))].Microseconds()) / 1e3
	}
	mbit := 0.0
	if len(c.delays) > 1 {
		mbit = float64(c.size) * 8 / c.last.Sub(c.first).Seconds() / 1e6
	}
	return fmt.Sprintf("unique=%d dup=%d late=%d bad=%d mbit=%.2f min=%.2f median=%.2f p90=%.2f",
		len(c.seen), c.dup, c.late, c.bad, mbit, ms(0), ms(0.5), ms(0.9))
}

const (
	probeHeader = 32 // number, time, and both again with every bit flipped, so that any damage shows
	filling     = 0xa5
)

func seal(packet []byte, seq uint64, sent time.Time) {
	ns := uint64(sent.UnixNano())
	binary.BigEndian.PutUint64(packet, seq)
	binary.BigEndian.PutUint64(packet[8:], ns)
	binary.BigEndian.PutUint64(packet[16:], ^seq)
	binary.BigEndian.PutUint64(packet[24:], ^ns)
	for i := probeHeader; i < len(packet); i++ {
		packet[i] = filling
	}
}

func open(packet []byte) (seq uint64, sent time.Time, ok bool) {
	if len(packet) < probeHeader {
		return 0, sent, false
	}
	seq, ns := binary.BigEndian.Uint64(packet), binary.BigEndian.Uint64(packet[8:])
	ok = seq == ^binary.BigEndian.Uint64(packet[16:]) && ns == ^binary.BigEndian.Uint64(packet[24:])
	for _, b := range packet[probeHeader:] {
		ok = ok && b == filling
	}
	return seq, time.Unix(0, int64(ns)), ok
}

// source sends COUNT packets of SIZE bytes to ADDR, one each INTERVAL.
func source(args []string) error {
	addr, number, length, interval := args[0], args[1], args[2], args[3]
	count, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(length)
	if err != nil {
		return err
	}
	every, err := time.ParseDuration(interval)
	if err != nil {
		return err
	}
	c, err := net.Dial("udp", net.JoinHostPort(addr, strconv.Itoa(sinkPort)))
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, size)
	start := time.Now()
	for i := range count {
		time.Sleep(time.Until(start.Add(time.Duration(i) * every)))
		seal(b, uint64(i), time.Now())
		_, _ = c.Write(b) // a host cut off cannot send, which is what some tests want to see
	}
	return nil
}

// on is this binary in one of its roles on a host of the lab.
func on(t *testing.T, host, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := as(t, role, args...)
	path, err := exec.LookPath("ip")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = append([]string{"ip", "netns", "exec", testLab + "-" + host}, append([]string{cmd.Path}, args...)...)
	cmd.Path = path
	return cmd
}

// measure sends packets from one host to another, and returns what the sink found.
func measure(t *testing.T, from, to, addr string, count, size int, every time.Duration) map[string]float64 {
	t.Helper()
	receiver := on(t, to, "sink")
	out, err := receiver.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := receiver.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("sink on %s: %q, %v, %v", to, lines.Text(), lines.Err(), receiver.Wait())
	}
	sender := on(t, from, "source", addr, strconv.Itoa(count), strconv.Itoa(size), every.String())
	if o, err := sender.CombinedOutput(); err != nil {
		t.Fatalf("source on %s: %v\n%s", from, err, o)
	}
	lines.Scan()
	found := lines.Text()
	if err := receiver.Wait(); err != nil {
		t.Fatalf("sink on %s: %v", to, err)
	}
	t.Logf("%s to %s, %d packets: %s", from, addr, count, found)
	m := map[string]float64{}
	for _, f := range strings.Fields(found) {
		key, value, _ := strings.Cut(f, "=")
		if m[key], err = strconv.ParseFloat(value, 64); err != nil {
			t.Fatalf("sink on %s: %q: %v", to, found, err)
		}
	}
	if len(m) == 0 {
		t.Fatalf("sink on %s found %q", to, found)
	}
	return m
}
