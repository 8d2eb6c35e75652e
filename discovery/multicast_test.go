package discovery

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// needMulticast skips the test unless a multicast packet comes back to this machine.
func needMulticast(t *testing.T) {
	t.Helper()
	group := &net.UDPAddr{IP: group4.IP, Port: 53535} // not the port of mDNS: nobody else should hear it
	listener, err := net.ListenMulticastUDP("udp4", nil, group)
	if err != nil {
		t.Skipf("multicast does not work here: %v", err)
	}
	defer listener.Close()
	sender, err := net.DialUDP("udp4", nil, group)
	if err != nil {
		t.Skipf("multicast does not work here: %v", err)
	}
	defer sender.Close()
	word := rand.Text()
	if _, err := sender.Write([]byte(word)); err != nil {
		t.Skipf("multicast does not work here: %v", err)
	}
	if err := listener.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for {
		n, err := listener.Read(buf)
		if err != nil {
			t.Skipf("multicast does not come back to this machine: %v", err)
		}
		if string(buf[:n]) == word {
			return
		}
	}
}

func TestTwoNodesFindEachOtherOverRealMulticast(t *testing.T) {
	needMulticast(t)
	ctx, cancel := context.WithCancel(t.Context())
	node := func() (Advert, <-chan Event, <-chan error) {
		self := Advert{Node: nodeEncoding.EncodeToString([]byte(rand.Text())[:16]), Port: 4477, Incarnation: 7, Nonce: [4]byte{1}}
		events := make(chan Event, 1000)
		m := NewMDNS(MDNSConfig{
			Advert: func() Advert { return self },
			Handle: func(e Event) { events <- e },
		})
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		return self, events, done
	}
	a, heardByA, doneA := node()
	b, heardByB, doneB := node()
	await := func(who Advert, events <-chan Event) {
		for {
			select {
			case e := <-events:
				t.Logf("%s: %s %s %v %v", who.Node[:4], e.Kind, e.Interface, e.Candidate, e.Err)
				if e.Kind == Found && e.Candidate.Node == who.Node && e.Candidate.Incarnation == who.Incarnation {
					return
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%s was not found", who.Node)
			}
		}
	}
	await(b, heardByA)
	await(a, heardByB)
	cancel()
	for _, done := range []<-chan error{doneA, doneB} {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	}
}

func TestAnInterfaceThatIsGoneIsAnErrorNotAPanic(t *testing.T) {
	gone := Interface{Index: 1 << 30, Name: "gone0", Flags: usual, Addrs: eth0("10.0.0.1/24", "fe80::1/64").Addrs}
	m := NewMDNS(MDNSConfig{}).lan
	if err := m.check(gone); err == nil {
		t.Error("check found nothing wrong")
	}
	if stop, err := m.serve(gone, &zone{}); err == nil {
		stop()
		t.Error("serve worked")
	}
	for _, f := range gone.families() {
		if replies, err := m.ask(t.Context(), gone, f); err == nil {
			t.Errorf("ask over %s worked: %v", f, replies)
		}
	}
}

func TestPlainErrorsHaveNoAddresses(t *testing.T) {
	err := plain(&net.OpError{Op: "write", Net: "udp", Source: &net.UDPAddr{Port: 50123}, Err: syscall.EPERM})
	if got, want := err.Error(), "write: operation not permitted"; got != want || !errors.Is(err, syscall.EPERM) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := errors.New("odd"); plain(err) != err {
		t.Error("another error was changed")
	}
}
