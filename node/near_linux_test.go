package node_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/socket"
)

// pipeOf opens a Push at one node and the Pull of its messages at another.
func pipeOf(t *testing.T, from, to *node.Node) (send func(body []byte), receive func() []byte) {
	t.Helper()
	name := "from " + from.Name()
	jobs, err := from.Push(name)
	if err != nil {
		t.Fatal(err)
	}
	work, err := to.Pull(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 30*time.Second)
	return func(body []byte) {
			t.Helper()
			if err := jobs.Send(ctx, body); err != nil {
				t.Fatal(err)
			}
		}, func() []byte {
			t.Helper()
			m, err := work.Recv(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
			return m.Body
		}
}

// carries sends messages of all sizes and reports how many bytes went over QUIC meanwhile,
// at least.
func carries(t *testing.T, from, to *node.Node, send func([]byte), receive func() []byte) (quic uint64) {
	t.Helper()
	before := pathTo(t, from, to)
	for _, size := range []int{0, 1, 1000, 20 << 10, 300 << 10, 3 << 20} { // the larger ones in fragments
		body := bytes.Repeat([]byte{byte(size >> 4), 'x'}, size/2)
		send(body)
		if got := receive(); !bytes.Equal(got, body) {
			t.Fatalf("%d bytes came of a message of %d, or others", len(got), len(body))
		}
	}
	return pathTo(t, from, to).SentBytes - before.SentBytes
}

func pathTo(t *testing.T, from, to *node.Node) node.Path {
	t.Helper()
	p, err := from.Path(to.ID())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const sentByCarries = 3 << 20

// newDoor is a name that no door has: all processes of a host share one space of names.
func newDoor() (name [16]byte) {
	_, _ = rand.Read(name[:]) // it does not fail
	return name
}

// awaitLink blocks until both nodes have the link.
func awaitLink(t *testing.T, a, b *node.Node) {
	t.Helper()
	for _, pair := range [][2]*node.Node{{a, b}, {b, a}} {
		ctx := within(t, 20*time.Second)
		for e := range pair[0].Events(ctx) {
			if e.State == node.Up && e.ID == pair[1].ID() {
				break
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("no link from %s to %s", pair[0].Name(), pair[1].Name())
		}
	}
}

func TestMessagesToANodeOfTheSameHostGoThroughAUnixSocket(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := open(t, mesh, "b", a)
	send, receive := pipeOf(t, a, b)
	awaitLink(t, a, b)
	if n := carries(t, a, b, send, receive); n > sentByCarries/10 {
		t.Errorf("%d bytes went over QUIC", n)
	}
	for _, p := range []node.Path{pathTo(t, a, b), pathTo(t, b, a)} {
		if p.Peer.Via != node.ViaUnix {
			t.Errorf("%s: via %q", p.Peer.Name, p.Peer.Via)
		}
	}
}

// Polled or not, by way of a door or not, the same comes.
func TestNodesThatPollHearTheSame(t *testing.T) {
	for _, udp := range []bool{false, true} {
		mesh := newMesh(t)
		a := openWith(t, node.Config{Name: "a", MeshPEM: mesh, Poll: time.Millisecond, UDPOnly: udp})
		b := openWith(t, node.Config{Name: "b", MeshPEM: mesh, Poll: 10 * time.Millisecond, UDPOnly: udp, Peers: []string{a.Addr().String()}})
		awaitLink(t, a, b)
		send, receive := pipeOf(t, a, b)
		if n := carries(t, a, b, send, receive); n < sentByCarries == udp {
			t.Errorf("udp %t: %d bytes went over QUIC", udp, n)
		}
	}
	for _, poll := range []time.Duration{-1, 11 * time.Millisecond} {
		if _, err := node.Open(t.Context(), node.Config{MeshPEM: newMesh(t), NoMDNS: true, Poll: poll}); err == nil || !strings.Contains(err.Error(), "Poll of") {
			t.Errorf("Poll of %v: %v", poll, err)
		}
	}
}

// openWith opens a node on loopback.
func openWith(t *testing.T, cfg node.Config) *node.Node {
	t.Helper()
	cfg.Listen, cfg.NoMDNS = "127.0.0.1:0", true
	n, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close %s: %v", cfg.Name, err)
		}
	})
	return n
}

func TestANodeThatIsUDPOnlyHasNoDoorAndSeeksNone(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := openWith(t, node.Config{Name: "b", MeshPEM: mesh, UDPOnly: true, Peers: []string{a.Addr().String()}})
	awaitLink(t, a, b)
	for _, pair := range [][2]*node.Node{{a, b}, {b, a}} {
		send, receive := pipeOf(t, pair[0], pair[1])
		if n := carries(t, pair[0], pair[1], send, receive); n < sentByCarries {
			t.Errorf("from %s: %d bytes went over QUIC", pair[0].Name(), n)
		}
		if via := pathTo(t, pair[0], pair[1]).Peer.Via; via != node.ViaUDP {
			t.Errorf("from %s: via %q", pair[0].Name(), via)
		}
	}
}

func TestWhoHasNoTicketIsShutOut(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := open(t, mesh, "b", a)
	awaitLink(t, a, b)
	var all sync.WaitGroup
	for _, shown := range []string{"0123456789abcdef", "0123456789abcdef and more", "short", ""} {
		all.Go(func() {
			c, err := net.DialUnix("unix", nil, a.Door())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, werr := c.Write([]byte(shown))
			derr := c.SetReadDeadline(time.Now().Add(20 * time.Second))
			said, err := io.ReadAll(c)
			if len(said) > 0 || errors.Is(err, os.ErrDeadlineExceeded) || werr != nil || derr != nil {
				t.Errorf("who shows %q was told %q, then %v", shown, said, errors.Join(werr, derr, err))
			}
		})
	}
	all.Wait()
	send, receive := pipeOf(t, b, a) // and the door is still open
	if n := carries(t, b, a, send, receive); n > sentByCarries/10 {
		t.Errorf("%d bytes went over QUIC", n)
	}
}

func TestADoorThatLeadsNowhereCostsNothing(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := open(t, mesh, "b", a)
	awaitLink(t, a, b)
	a.LeadTo(b.ID(), newDoor())
	send, receive := pipeOf(t, a, b)
	if n := carries(t, a, b, send, receive); n < sentByCarries {
		t.Errorf("%d bytes went over QUIC", n)
	}
	if via := pathTo(t, a, b).Peer.Via; via != node.ViaUDP {
		t.Errorf("via %q", via)
	}
}

func TestSomebodyElseAtTheDoorLearnsNothing(t *testing.T) {
	mesh := newMesh(t)
	a := open(t, mesh, "a")
	b := open(t, mesh, "b", a)
	awaitLink(t, a, b)
	door := newDoor()
	ln, err := net.ListenUnix("unix", node.DoorAddr(door))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	heard := make(chan []byte, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			heard <- []byte(err.Error())
			return
		}
		defer c.Close()
		ticket := make([]byte, 16)
		_, _ = io.ReadFull(c, ticket) // its length is checked
		_, _ = c.Write([]byte("0123456789abcdef"))
		rest, _ := io.ReadAll(c)
		heard <- append(ticket, rest...)
	}()
	a.LeadTo(b.ID(), door)
	send, receive := pipeOf(t, a, b)
	if n := carries(t, a, b, send, receive); n < sentByCarries {
		t.Errorf("%d bytes went over QUIC", n)
	}
	if h := <-heard; len(h) != 16 {
		t.Errorf("it heard %q", h)
	}
}

func TestAPeerOfThisHostThatIsKilledIsMissedAtOnce(t *testing.T) {
	mesh, dir := newMesh(t), t.TempDir()
	a := open(t, mesh, "a")
	for file, text := range map[string][]byte{"mesh": mesh, "peer": []byte(a.Addr().String())} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := within(t, 60*time.Second)
	events := a.Events(ctx)
	child := exec.Command(os.Args[0])
	child.Env, child.Stderr = append(os.Environ(), pullingChild+"="+dir), os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := a.Push("jobs")
	if err == nil {
		err = jobs.Send(ctx, []byte("hello"))
	}
	said, rerr := bufio.NewReader(out).ReadString('\n')
	kill := child.Process.Kill()
	_ = child.Wait() // it was killed
	if err := errors.Join(err, rerr, kill); err != nil || said != "hello\n" {
		t.Fatalf("the child said %q, %v", said, err)
	}
	for e := range events {
		if e.State == node.Down {
			if e.Reason != "its process is gone" { // and not: timeout: no recent network activity
				t.Errorf("down: %s", e.Reason)
			}
			break
		}
	}
	if err := ctx.Err(); err != nil {
		t.Fatal(err)
	}
}

var _ socket.Conn = (*node.NearStream)(nil)

// nearPair returns the two ends of a stream, the first polled for so long.
func nearPair(t *testing.T, poll time.Duration) (*node.NearStream, *net.UnixConn) {
	t.Helper()
	addr := node.DoorAddr(newDoor())
	ln, err := net.ListenUnix("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.DialUnix("unix", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	s, err := node.NewNearStream(near, poll)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.Close(), far.Close() }) // a test may have closed them
	return s, far
}

func TestAPolledStreamReadsAsAnyOther(t *testing.T) {
	for _, poll := range []time.Duration{0, time.Microsecond, time.Hour} { // asleep before it comes, or awake
		s, far := nearPair(t, poll)
		go func() {
			for i := range 100 {
				time.Sleep(10 * time.Microsecond) // or all of it is there before the first look
				if _, err := far.Write([]byte{byte(i)}); err != nil {
					t.Error(err)
				}
			}
			far.Close()
		}()
		got, err := io.ReadAll(s)
		if err != nil || len(got) != 100 || got[99] != 99 {
			t.Errorf("poll %v: % x, %v", poll, got, err)
		}
		s, _ = nearPair(t, poll)
		ended := make(chan error)
		go func() {
			_, err := s.Read(make([]byte, 1))
			ended <- err
		}()
		s.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("poll %v: closed while it was read: %v", poll, err)
		}
	}
}

func TestAUnixSocketTakesAllAtOnceOrNothing(t *testing.T) {
	s, far := nearPair(t, 0)
	var written []byte
	refused := 0
	for i := 0; refused < 100; i++ {
		b := bytes.Repeat([]byte{byte(i)}, 1+i*7919%(16<<10))
		ok, err := s.TryWrite(b)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			refused++
			continue
		}
		written = append(written, b...)
	}
	if ok, err := s.TryWrite(make([]byte, 1<<20)); ok || err != nil {
		t.Errorf("a megabyte at once: %t, %v", ok, err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, written) {
		t.Errorf("%d bytes came of %d, %v", len(got), len(written), err)
	}
}
