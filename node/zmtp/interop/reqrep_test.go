package interop

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"peermesh/node"
	"peermesh/node/zmtp"
	"peermesh/patterns"
	"peermesh/socket"
)

// addrs are those of a bridge's first endpoint, at least two: the last one again if there is one only.
func addrs(b *zmtp.Bridge) []string { return strings.Split(b.Addr(0)+","+b.Addr(0), ",") }

// upper serves a service of the mesh.
func upper(t *testing.T, n *node.Node) {
	t.Helper()
	rep, err := n.Rep("upper")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = rep.ServeRequests(t.Context(), func(_ context.Context, m *socket.Message) ([]byte, error) { // until the test ends
			parts := zmtp.Split(m.Body)
			for i := range parts {
				parts[i] = bytes.ToUpper(parts[i])
			}
			return zmtp.Join(parts...), nil
		})
	}()
}

func TestPyzmqRequestsAreAnsweredByTheMesh(t *testing.T) {
	for _, way := range []string{"bind", "connect"} {
		for _, kind := range []zmtp.Type{zmtp.REP, zmtp.ROUTER} {
			t.Run(way+" "+string(kind), func(t *testing.T) {
				n := mesh(t, node.Config{})
				upper(t, n)
				e, peer := where(t, way)
				e.Type, e.Name = kind, "upper"
				b := bridge(t, n, e)
				req := py(t, `
s = sock("REQ", args[0], args[1])
for m in [b"hello"], [b"a", b"b"], [b"", b"x"], [b"y" * (1 << 20)]:
    s.send_multipart(m)
    say(s.recv_multipart() == [p.upper() for p in m])
`, peer, b.Addr(0))
				for range 4 {
					req.expect("True")
				}
				req.kill()
				dealer := py(t, `
s = sock("DEALER", args[0], args[1], IDENTITY=b"me")
for n in range(200):
    s.send_multipart([b"id", b"%d" % n, b"", b"hello %d" % n])
seen = set()
for n in range(200):
    m = s.recv_multipart()
    assert m[0] == b"id" and m[2] == b"" and m[3] == b"HELLO " + m[1], m
    seen.add(m[1])
say(len(seen))
if args[2] == "ROUTER":
    s.send_multipart([b"bare"])
    say(s.recv_multipart())
stay()
`, peer, b.Addr(0), string(kind))
				dealer.expect("200")
				if kind == zmtp.ROUTER {
					dealer.expect("[b'BARE']")
				}
			})
		}
	}
}

func TestRequestsOfTheMeshAreAnsweredByPyzmq(t *testing.T) {
	servers := map[string]string{
		"REP": `
s = sock("REP", args[0], args[1])
say("ready")
while True:
    s.send_multipart([p.upper() for p in s.recv_multipart()])
`,
		"ROUTER": `
s = sock("ROUTER", args[0], args[1])
say("ready")
late = []
while True:
    m = s.recv_multipart()
    at = m.index(b"", 1)
    s.send_multipart(m[:at + 1] + [p.upper() for p in m[at + 1:]])
`,
	}
	for _, way := range []string{"bind", "connect"} {
		for _, kind := range []zmtp.Type{zmtp.REQ, zmtp.DEALER} {
			for server, code := range servers {
				t.Run(fmt.Sprint(way, " ", kind, " to ", server), func(t *testing.T) {
					n := mesh(t, node.Config{})
					e, peer := where(t, way)
					e.Type, e.Name = kind, "upper"
					b := bridge(t, n, e)
					p := py(t, code, peer, b.Addr(0))
					p.expect("ready")
					ready(t, b, 1)
					req, err := n.Req("upper")
					if err != nil {
						t.Fatal(err)
					}
					var wg sync.WaitGroup
					for i := range 100 {
						wg.Go(func() {
							body := zmtp.Join([]byte("a"), fmt.Appendf(nil, "hello %d", i))
							got, err := req.Request(t.Context(), body)
							if want := zmtp.Join([]byte("A"), fmt.Appendf(nil, "HELLO %d", i)); err != nil || !bytes.Equal(got, want) {
								t.Errorf("got %q, %v; want %q", got, err, want)
							}
						})
					}
					wg.Wait()
					big := bytes.Repeat([]byte("x"), 1<<20)
					if got, err := req.Request(t.Context(), big); err != nil || !bytes.Equal(got, bytes.ToUpper(big)) {
						t.Errorf("1 MiB: got %d bytes, %v", len(got), err)
					}
				})
			}
		}
	}
}

func TestRequestsAreSharedOutAmongPyzmqServers(t *testing.T) {
	n := mesh(t, node.Config{})
	b := bridge(t, n, zmtp.Endpoint{Bind: "tcp://127.0.0.1:0", Type: zmtp.DEALER, Name: "who"})
	code := `
s = sock("REP", "connect", args[0])
while True:
    s.recv()
    s.send(args[1].encode())
`
	py(t, code, b.Addr(0), "a")
	py(t, code, b.Addr(0), "b")
	ready(t, b, 2)
	req, err := n.Req("who", patterns.Queue(1000, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for range 100 {
		got, err := req.Request(t.Context(), []byte("who"))
		if err != nil {
			t.Fatal(err)
		}
		count[string(got)]++
	}
	if count["a"] != 50 || count["b"] != 50 {
		t.Errorf("got %v, want 50 each: in turns", count)
	}
}
