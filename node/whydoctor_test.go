package node_test

import (
	"net"
	"testing"
	"time"

	"peermesh/internal/insight"
	"peermesh/internal/probe"
)

// doctor probes an address and returns the first line that says that something is wrong.
func doctor(t *testing.T, addr string) said {
	t.Helper()
	began := time.Now()
	checks := probe.Addresses(t.Context(), []string{addr})
	if took := time.Since(began); took > patience {
		t.Errorf("the doctor took %v, at most %v", took, patience)
	}
	return worst(t, checks...)
}

func worst(t *testing.T, checks ...insight.Check) said {
	t.Helper()
	for _, c := range checks {
		if t.Logf("%+v", c); c.Verdict == insight.Fail || c.Verdict == insight.Warn {
			return said{"doctor", c.Code, c.Text, c.Cure}
		}
	}
	t.Fatalf("nothing is wrong: %+v", checks)
	return said{}
}

// silence is an address where packets arrive and nothing is said, as behind a firewall.
func silence(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// narrow is the address of a way to a node on which packets of more than that many bytes vanish.
func narrow(t *testing.T, to string, most int) string {
	t.Helper()
	in, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	asker := make(chan net.Addr, 1)
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 2048)
		for {
			n, from, err := in.ReadFrom(buf)
			if err != nil {
				return
			}
			select {
			case asker <- from:
			default:
			}
			if n <= most {
				out.Write(buf[:n])
			}
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 2048)
		var to net.Addr
		for {
			n, err := out.Read(buf)
			if err != nil {
				return
			}
			select {
			case to = <-asker:
			default:
			}
			in.WriteTo(buf[:n], to)
		}
	}()
	t.Cleanup(func() {
		in.Close()
		out.Close()
		<-done
		<-done
	})
	return in.LocalAddr().String()
}
