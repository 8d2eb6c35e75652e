package interop

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"peermesh/node"
	"peermesh/node/zmtp"
	"peermesh/patterns"
)

const pushes = `
s = sock("PUSH", args[0], args[1])
for n in range(int(args[2])):
    s.send(number(n, int(args[3])))
say("sent")
stay()
`

const pulls = `
s = sock("PULL", args[0], args[1])
say("ready")
while True:
    say(s.recv().split(b" ")[0].decode())
`

// where are the two ways of an endpoint and what its peers do.
func where(t *testing.T, way string) (e zmtp.Endpoint, peer string) {
	if way == "bind" {
		return zmtp.Endpoint{Bind: "tcp://127.0.0.1:0"}, "connect"
	}
	return zmtp.Endpoint{Connect: "ipc://" + t.TempDir() + "/zmq.sock"}, "bind"
}

// numbers receives n messages and returns the numbers that they begin with.
func numbers(ctx context.Context, t *testing.T, pull *patterns.Pull, n int) []int {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got := make([]int, 0, n)
	for len(got) < n {
		m, err := pull.Recv(ctx)
		if err != nil {
			t.Fatalf("after %d messages of %d: %v", len(got), n, err)
		}
		text, _, _ := strings.Cut(string(m.Body), " ")
		i, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, i)
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func TestWhatPyzmqPushesIsPulledInTheMeshInOrder(t *testing.T) {
	for _, way := range []string{"bind", "connect"} {
		t.Run(way, func(t *testing.T) {
			n := mesh(t, node.Config{})
			e, peer := where(t, way)
			e.Type, e.Name = zmtp.PULL, "jobs"
			b := bridge(t, n, e)
			pull, err := n.Pull("jobs")
			if err != nil {
				t.Fatal(err)
			}
			p := py(t, pushes, peer, b.Addr(0), "5000", "100")
			if got := numbers(t.Context(), t, pull, 5000); !slices.Equal(got, upTo(5000)) {
				t.Errorf("got %v", got)
			}
			p.expect("sent")
		})
	}
}

func TestWhatCPushesIsPulledInTheMeshInOrder(t *testing.T) {
	n := mesh(t, node.Config{})
	b := bridge(t, n, zmtp.Endpoint{Bind: "tcp://127.0.0.1:0", Type: zmtp.PULL, Name: "jobs"})
	pull, err := n.Pull("jobs")
	if err != nil {
		t.Fatal(err)
	}
	p := c(t, "push", "connect", b.Addr(0), "20000", "100")
	if got := numbers(t.Context(), t, pull, 20000); !slices.Equal(got, upTo(20000)) {
		t.Errorf("got %v", got)
	}
	p.expect("sent")
}

func TestWhatTheMeshPushesIsPulledByCOnce(t *testing.T) {
	n := mesh(t, node.Config{})
	e, peer := where(t, "connect")
	e.Type, e.Name = zmtp.PUSH, "jobs"
	b := bridge(t, n, e)
	push, err := n.Push("jobs")
	if err != nil {
		t.Fatal(err)
	}
	p := c(t, "pull", peer, b.Addr(0), "20000")
	for i := range 20000 {
		if err := push.Send(t.Context(), fmt.Appendf(nil, "%d ", i)); err != nil {
			t.Fatal(err)
		}
	}
	p.expect("ready")
	p.expect("first")
	p.expect("got")
	if err := push.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if got := push.Stats().Ledger; got.Done != 20000 {
		t.Errorf("got %+v, want all done", got)
	}
}

func TestTwoPyzmqPullersShareFairlyWhatTheMeshPushes(t *testing.T) {
	const all = 4000
	for _, way := range []string{"bind", "connect"} {
		t.Run(way, func(t *testing.T) {
			n := mesh(t, node.Config{})
			push, err := n.Push("jobs")
			if err != nil {
				t.Fatal(err)
			}
			e, peer := where(t, way)
			if way == "connect" {
				also, _ := where(t, way)
				e.Connect += "," + also.Connect
			}
			e.Type, e.Name = zmtp.PUSH, "jobs"
			b := bridge(t, n, e)
			at := strings.Split(b.Addr(0)+","+b.Addr(0), ",")
			programs := []*program{py(t, pulls, peer, at[0]), py(t, pulls, peer, at[1])}
			for _, p := range programs {
				p.expect("ready")
			}
			ready(t, b, 2)
			for i := range all {
				if err := push.Send(t.Context(), fmt.Appendf(nil, "%d ", i)); err != nil {
					t.Fatal(err)
				}
			}
			seen := make(map[string]int)
			shares := make([]int, 2)
			for i := range all {
				var line string
				select {
				case line = <-programs[0].lines:
					shares[0]++
				case line = <-programs[1].lines:
					shares[1]++
				case <-t.Context().Done():
				}
				if seen[line]++; line == "" || seen[line] > 1 {
					t.Fatalf("message %d is %q, for the %d. time", i, line, seen[line])
				}
			}
			if least := min(shares[0], shares[1]); least < all/3 {
				t.Errorf("shares of %v", shares)
			}
			if err := push.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// ready waits until a bridge's first endpoint has so many peers.
func ready(t *testing.T, b *zmtp.Bridge, peers int) {
	t.Helper()
	await(t, func() bool { return b.Stats()[0].Peers >= peers }, "%d peers", peers)
}

func TestPartsAndLargeBodiesComeThroughUnchanged(t *testing.T) {
	n := mesh(t, node.Config{})
	dir := "ipc://" + t.TempDir()
	b := bridge(t, n,
		zmtp.Endpoint{Bind: dir + "/in", Type: zmtp.PULL, Name: "jobs"},
		zmtp.Endpoint{Bind: dir + "/out", Type: zmtp.PUSH, Name: "jobs"},
		zmtp.Endpoint{Bind: dir + "/copy", Type: zmtp.PULL, Name: "copy"})
	pull, err := n.Pull("copy")
	if err != nil {
		t.Fatal(err)
	}
	p := py(t, `
import hashlib
out, back, copy = sock("PUSH", "connect", args[0]), sock("PULL", "connect", args[1]), sock("PUSH", "connect", args[2])
def big(n, size):
    return hashlib.shake_256(b"%d" % n).digest(size)
messages = [
    [b"one"], [b""], [b"a", b"b"], [b"", b""], [b"", b"x", b"", b"y" * 300, b""],
    [b"\xff\x00ZMTP\x00\xfe"], [b"\xff\x00ZMTP\x00\xfe\x01\x01a\x00\x01b"],
    [big(1, 1 << 20)], [b"head", big(2, 1 << 20), big(3, 70000), b"tail"], [b"%d" % n for n in range(1000)],
]
for m in messages:
    out.send_multipart(m)
    got = back.recv_multipart()
    say("same" if got == m else "sent %r, got %r" % ([p[:40] for p in m], [p[:40] for p in got]))
for m in messages:
    copy.send_multipart(m)
stay()
`, b.Addr(0), b.Addr(1), b.Addr(2))
	for range 10 {
		p.expect("same")
	}
	var got [][][]byte
	for range 10 {
		m, err := pull.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, zmtp.Split(m.Body))
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	if want := [][]byte{nil, []byte("x"), nil, bytes.Repeat([]byte("y"), 300), nil}; !slices.EqualFunc(got[4], want, bytes.Equal) {
		t.Errorf("in Go: got %q, want %q", got[4], want)
	}
	if len(got[7]) != 1 || len(got[7][0]) != 1<<20 || len(got[8]) != 4 || len(got[9]) != 1000 {
		t.Errorf("in Go: got %d, %d and %d parts", len(got[7]), len(got[8]), len(got[9]))
	}
}
