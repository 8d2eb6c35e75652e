package probe

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"peermesh/internal/insight"
)

// answering is a UDP socket that answers as a QUIC server does a version it does not speak; mangle may spoil it.
func answering(t *testing.T, mangle func([]byte) []byte) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			p := buf[:n]
			b := slices.Concat([]byte{0x80, 0, 0, 0, 0, probeID}, p[7+probeID:probeHead], []byte{probeID}, p[6:6+probeID], []byte{0, 0, 0, 1})
			c.WriteTo(mangle(b), from)
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return c.LocalAddr().String()
}

func TestOnlyTheAnswerToOurOwnProbeCounts(t *testing.T) {
	p := makeProbe(1200)
	good := slices.Concat([]byte{0xff, 0, 0, 0, 0, probeID}, p[7+probeID:probeHead], []byte{probeID}, p[6:6+probeID])
	if !answersProbe(good, p) {
		t.Fatal("the answer is not taken")
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x80
		if i > 0 && answersProbe(bad, p) {
			t.Errorf("byte %d spoilt: taken", i)
		}
		if answersProbe(good[:i], p) {
			t.Errorf("%d bytes of it: taken", i)
		}
	}
	if bad := append([]byte{0x7f}, good[1:]...); answersProbe(bad, p) {
		t.Error("a short header is taken")
	}
}

func TestAProbeTellsAnAnswerFromRefusalAndSilence(t *testing.T) {
	plain := func(b []byte) []byte { return b }
	if r := Address(t.Context(), answering(t, plain)); !r.Answer || r.Largest != 1480 || r.RTT <= 0 {
		t.Errorf("an answer: %+v", r)
	}
	if r := Address(t.Context(), answering(t, func(b []byte) []byte { b[8]++; return b })); r.Answer || r.Closed || r.Err != nil {
		t.Errorf("somebody else's answer: %+v", r)
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := c.LocalAddr().String()
	c.Close()
	if r := Address(t.Context(), free); !r.Closed || r.Answer {
		t.Errorf("a port where nobody listens: %+v", r)
	}
	if r := Address(t.Context(), "no port"); r.Err == nil {
		t.Errorf("no address: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := Address(ctx, free); r.Answer {
		t.Errorf("after the end: %+v", r)
	}
}

func TestADirectoryIsMeasuredAndLeftAsItWas(t *testing.T) {
	dir := t.TempDir()
	s := Disk(dir)
	if s.Err != nil || s.Free <= 0 || s.Total < s.Free || s.Sync <= 0 {
		t.Errorf("%+v", s)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left there: %v, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := Disk(file); s.Err == nil {
		t.Errorf("a file in its place: %+v", s)
	}
	if n := Newest(dir); n.IsZero() || n.After(time.Now().Add(time.Minute)) {
		t.Errorf("newest %v", n)
	}
	if n := Newest(filepath.Join(dir, "nothing")); !n.IsZero() {
		t.Errorf("newest of nothing %v", n)
	}
}

func TestAHostWithoutMulticastIsTold(t *testing.T) {
	checks := Multicast(t.Context(), func() ([]net.Interface, error) {
		return []net.Interface{{Name: "lo", Flags: net.FlagUp | net.FlagLoopback}, {Name: "down0"}}, nil
	})
	if len(checks) != 1 || checks[0].Verdict != insight.Warn || checks[0].Cure == "" {
		t.Errorf("%+v", checks)
	}
}

func TestWhatTheKernelGrantsIsReadBack(t *testing.T) {
	if c := Buffers(64 << 10); c.Verdict != insight.Fine {
		t.Errorf("64 KiB: %+v", c)
	}
	if c := Offload(); c.Text == "" {
		t.Errorf("%+v", c)
	}
}
