package interop

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/zmtp"
	"peermesh/patterns"
)

// BenchmarkPushThroughTheBridge measures messages of 100 bytes from a ZeroMQ program that pushes, through a bridge and the
// mesh, to a Pull in Go on another node, each acknowledged; and beside it, in turns in the same run, the same program pushing
// to its like that pulls, with nothing but libzmq between them. "ratio" is the median of the rounds. ZMTP_MESSAGES and
// ZMTP_ROUNDS say how much.
func BenchmarkPushThroughTheBridge(b *testing.B) {
	messages, rounds := setting(b, "ZMTP_MESSAGES", 1_000_000), setting(b, "ZMTP_ROUNDS", 3)
	for _, language := range []struct {
		name       string
		push, pull func(at string) *program
	}{
		{
			"C",
			func(at string) *program { return c(b, "push", "connect", at, strconv.Itoa(messages), "100") },
			func(at string) *program { return c(b, "pull", "bind", at, strconv.Itoa(messages)) },
		},
		{
			"pyzmq",
			func(at string) *program { return py(b, pushes, "connect", at, strconv.Itoa(messages), "100") },
			func(at string) *program { return py(b, counts, "bind", at, strconv.Itoa(messages)) },
		},
	} {
		b.Run(language.name, func(b *testing.B) {
			for b.Loop() {
				var ratios []float64
				for range rounds {
					plain := plainRate(b, messages, language.push, language.pull)
					bridged := bridgedRate(b, messages, language.push)
					ratios = append(ratios, bridged/plain)
					b.Logf("plain libzmq %.0f/s, bridge and mesh %.0f/s: %.2f", plain, bridged, bridged/plain)
				}
				slices.Sort(ratios)
				b.ReportMetric(ratios[len(ratios)/2], "ratio")
			}
		})
	}
}

// counts pulls in Python as the C program does.
const counts = `
s = sock("PULL", args[0], args[1])
say("ready")
s.recv()
say("first")
for n in range(int(args[2]) - 1):
    s.recv()
say("got")
stay()
`

func setting(b *testing.B, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s is %q", name, text)
	}
	return n
}

// plainRate is what libzmq does by itself, from its first message to its last.
func plainRate(b *testing.B, n int, pusher, puller func(at string) *program) float64 {
	at := "tcp://127.0.0.1:" + freePort(b)
	pull := puller(at)
	pull.expect("ready")
	push := pusher(at)
	pull.expect("first")
	begun := time.Now()
	pull.expect("got")
	took := time.Since(begun)
	push.kill()
	pull.kill()
	return float64(n) / took.Seconds()
}

// bridgedRate is what the bridge and the mesh do: two nodes, a link between them, and every message acknowledged.
func bridgedRate(b *testing.B, n int, pusher func(at string) *program) float64 {
	ours := mesh(b, node.Config{})
	theirs := mesh(b, node.Config{Peers: []string{ours.Addr().String()}})
	z, err := zmtp.New(ours, zmtp.Config{Endpoints: []zmtp.Endpoint{{Bind: "tcp://127.0.0.1:0", Type: zmtp.PULL, Name: "jobs"}}})
	if err != nil {
		b.Fatal(err)
	}
	pull, err := theirs.Pull("jobs", patterns.Prefetch(1<<16))
	if err != nil {
		b.Fatal(err)
	}
	await(b, func() bool { return len(theirs.Peers()) > 0 }, "a link")
	push := pusher(z.Addr(0))
	var begun time.Time
	for i := range n {
		m, err := pull.Recv(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if i == 0 {
			begun = time.Now()
		}
		if len(m.Body) != 100 {
			b.Fatalf("message %d is %q", i, m.Body)
		}
		if err := m.Ack(); err != nil {
			b.Fatal(err)
		}
	}
	took := time.Since(begun)
	push.kill()
	for _, end := range []func() error{z.Close, theirs.Close, ours.Close} {
		if err := end(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / took.Seconds()
}
