package interop

import (
	"context"
	"fmt"
	"testing"

	"peermesh/node"
	"peermesh/node/zmtp"
	"peermesh/patterns"
	"peermesh/socket"
)

func TestWhatPyzmqPublishesIsPublishedInTheMesh(t *testing.T) {
	for _, way := range []string{"bind", "connect"} {
		for _, kind := range []string{"PUB", "XPUB"} {
			t.Run(way+" "+kind, func(t *testing.T) {
				n := mesh(t, node.Config{})
				e, peer := where(t, way)
				e.Type, e.Name, e.Topics = zmtp.SUB, "weather", []string{"zur", "basel.wind", "\xff"}
				b := bridge(t, n, e)
				sub, err := n.Sub("weather", patterns.Prefixes(""))
				if err != nil {
					t.Fatal(err)
				}
				p := py(t, `
s = sock(args[2], args[0], args[1])
def flow():
    while True:
        for m in [b"zurich.temp", b"21"], [b"bern.temp", b"19"], [b"basel.wind.now", b"5", b"m/s"], [b"zurich 3"], [b"\xff\x00", b"raw"]:
            s.send_multipart(m)
        time.sleep(0.02)
threading.Thread(target=flow, daemon=True).start()
stay()
`, peer, b.Addr(0), kind)
				want := map[string]bool{
					`"zurich.temp" ["zurich.temp" "21"]`: true, `"basel.wind.now" ["basel.wind.now" "5" "m/s"]`: true,
					`"zurich 3" ["zurich 3"]`: true, `"zmtp-binary" ["\xff\x00" "raw"]`: true,
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				for seen := make(map[string]bool); len(seen) < len(want); {
					m, err := sub.Recv(ctx)
					if err != nil {
						t.Fatalf("%v, after %v", err, seen)
					}
					got := fmt.Sprintf("%q %q", m.Topic, zmtp.Parts(m))
					if seen[got] = true; !want[got] {
						t.Fatalf("got %s", got)
					}
					if err := m.Ack(); err != nil {
						t.Fatal(err)
					}
				}
				p.kill()
			})
		}
	}
}

func TestPyzmqSubscribersGetWhatTheySubscribedTo(t *testing.T) {
	for _, way := range []string{"bind", "connect"} {
		t.Run(way, func(t *testing.T) {
			n := mesh(t, node.Config{})
			pub, err := n.Pub("weather")
			if err != nil {
				t.Fatal(err)
			}
			e, peer := where(t, way)
			if way == "connect" {
				also, _ := where(t, way)
				e.Connect += "," + also.Connect
			}
			e.Type, e.Name = zmtp.PUB, "weather"
			b := bridge(t, n, e)
			at := addrs(b)
			code := `
s = sock(args[2], args[0], args[1])
if args[2] == "SUB":
    s.setsockopt(zmq.SUBSCRIBE, args[3].encode())
else:
    s.send(b"\x01" + args[3].encode())
say("ready")
while True:
    say(s.recv_multipart())
`
			zurich := py(t, code, peer, at[0], "SUB", "zurich")
			all := py(t, code, peer, at[1], "XSUB", "")
			for _, p := range []*program{zurich, all} {
				p.expect("ready")
			}
			ready(t, b, 2)
			// Subscriptions are on their way: what is published until they are there is for nobody.
			first := map[*program]bool{}
			for i := 0; len(first) < 2; i++ {
				publish(t, pub, "zurich.probe", fmt.Sprint(i))
				for _, p := range []*program{zurich, all} {
					if len(p.lines) > 0 {
						first[p] = true
					}
				}
				await(t, func() bool { return pub.Stats().Ledger.Queued+pub.Stats().Ledger.Leased == 0 || len(first) == 2 }, "a probe settled")
			}
			publish(t, pub, "bern.temp", "19")
			publish(t, pub, "zurich.temp", "21")
			await(t, func() bool { return skipTo(zurich, "[b'zurich.temp', b'21']", "[b'bern.temp', b'19']") }, "zurich's temperature")
			await(t, func() bool { return skipTo(all, "[b'bern.temp', b'19']", "") }, "bern's temperature")
			await(t, func() bool { return skipTo(all, "[b'zurich.temp', b'21']", "") }, "zurich's temperature for all")
		})
	}
}

// skipTo reads lines up to the wanted one. The other one must not come before.
func skipTo(p *program, want, never string) bool {
	for {
		switch got := p.line(); got {
		case want:
			return true
		case never:
			p.t.Fatalf("got %s", got)
		}
	}
}

func publish(t *testing.T, pub *patterns.Pub, topic, body string) {
	t.Helper()
	if _, err := pub.PublishMessage(t.Context(), &socket.Message{Topic: topic, Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

func TestAnXPubXSubBridgeIsAProxy(t *testing.T) {
	n := mesh(t, node.Config{})
	dir := "ipc://" + t.TempDir()
	b := bridge(t, n,
		zmtp.Endpoint{Connect: dir + "/pub", Type: zmtp.XSUB, Name: "news", Upstream: "news.up"},
		zmtp.Endpoint{Bind: dir + "/sub", Type: zmtp.XPUB, Name: "news", Upstream: "news.up"})
	pub := py(t, `
s = sock("XPUB", "bind", args[0])
say(s.recv())
s.send_multipart([b"ab", b"1"])
s.send_multipart([b"b", b"2"])
s.send_multipart([b"ac", b"3"])
say(s.recv())
say(s.recv())
`, b.Addr(0))
	sub := py(t, `
s = sock("XSUB", "connect", args[0])
s.send(b"\x01a")
say(s.recv_multipart())
say(s.recv_multipart())
s.send(b"hello")
s.send(b"\x00a")
stay()
`, b.Addr(1))
	pub.expect(`b'\x01a'`)
	sub.expect("[b'ab', b'1']")
	sub.expect("[b'ac', b'3']")
	pub.expect("b'hello'")
	pub.expect(`b'\x00a'`)
}

// The subscriber is at the bridge of another node, and does nothing when that of the publisher starts again.
func TestAnXSubThatStartsAgainSubscribesForThoseWhoStayed(t *testing.T) {
	left := mesh(t, node.Config{Dir: t.TempDir()})
	right := mesh(t, node.Config{Dir: t.TempDir(), Peers: []string{left.Addr().String()}})
	dir := "ipc://" + t.TempDir()
	from := zmtp.Endpoint{Connect: dir + "/pub", Type: zmtp.XSUB, Name: "news", Upstream: "news.up"}
	first := bridge(t, left, from)
	to := bridge(t, right, zmtp.Endpoint{Bind: dir + "/sub", Type: zmtp.XPUB, Name: "news", Upstream: "news.up"})
	pub := py(t, `
s = sock("XPUB", "bind", args[0])
say(s.recv())
say(s.recv())
say(s.recv())
while True: # what is published before the bridges have met again is for nobody
    s.send_multipart([b"ab", b"1"])
    time.sleep(0.05)
`, first.Addr(0))
	sub := py(t, `
s = sock("SUB", "connect", args[0])
s.setsockopt(zmq.SUBSCRIBE, b"a")
say(s.recv_multipart())
stay()
`, to.Addr(0))
	pub.expect(`b'\x01a'`)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	pub.expect(`b'\x00a'`) // its connection has ended
	bridge(t, left, from)
	pub.expect(`b'\x01a'`)
	sub.expect("[b'ab', b'1']")
}
