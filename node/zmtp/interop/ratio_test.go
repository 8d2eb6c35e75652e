package interop

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/zmtp"
	"peermesh/patterns"
	"peermesh/socket"
)

// BenchmarkBridge measures messages of 100 bytes from a ZeroMQ program that pushes, through a bridge and the mesh, to a Pull
// in Go that acknowledges each (in), and from a Push in Go the other way to a ZeroMQ program that pulls (out), with the Go end
// on another node (link) or on that of the bridge (node); and beside it, in turns in the same run, the same program pushing
// to its like that pulls, with nothing but libzmq between them. All go over TCP on this machine; the bridge is a process of
// its own, at level memory, and the Go end works in batches. "ratio" is the median of the rounds; "cpu-s/M" is the processor
// time of the bridge's process for a million messages, and "libzmq-cpu-s/M" that of the two programs without it: these drift
// less where others use the machine. ZMTP_MESSAGES and ZMTP_ROUNDS say how much, ZMTP_PROFILE names a folder for CPU
// profiles of the bridge's process.
func BenchmarkBridge(b *testing.B) {
	messages, rounds := setting(b, "ZMTP_MESSAGES", 1_000_000), setting(b, "ZMTP_ROUNDS", 3)
	for _, l := range []language{
		{
			"C",
			func(at string) *program { return c(b, "push", "connect", at, strconv.Itoa(messages), "100") },
			func(how, at string) *program { return c(b, "pull", how, at, strconv.Itoa(messages)) },
		},
		{
			"pyzmq",
			func(at string) *program { return py(b, pushes, "connect", at, strconv.Itoa(messages), "100") },
			func(how, at string) *program { return py(b, counts, how, at, strconv.Itoa(messages)) },
		},
	} {
		for _, way := range []struct {
			name string
			as   zmtp.Type
			run  func(b *testing.B, messages int, l language, as zmtp.Type) timing
		}{
			{"in/link", zmtp.PULL, overALink}, {"in/node", zmtp.PULL, onOneNode},
			{"out/link", zmtp.PUSH, overALink}, {"out/node", zmtp.PUSH, onOneNode},
		} {
			b.Run(l.name+"/"+way.name, func(b *testing.B) {
				for b.Loop() {
					var ratios, bridge, libzmq []float64
					for range rounds {
						plain, bridged := plainly(b, l), way.run(b, messages, l, way.as)
						million := float64(messages) / 1e6
						ratios = append(ratios, plain.took.Seconds()/bridged.took.Seconds())
						bridge, libzmq = append(bridge, bridged.cpu.Seconds()/million), append(libzmq, plain.cpu.Seconds()/million)
						b.Logf("plain libzmq %v, bridge and mesh %v; cpu %v, and the bridge's %v", plain.took, bridged.took, plain.cpu, bridged.cpu)
					}
					b.ReportMetric(median(ratios), "ratio")
					b.ReportMetric(median(bridge), "cpu-s/M")
					b.ReportMetric(median(libzmq), "libzmq-cpu-s/M")
				}
			})
		}
	}
}

// A language is how programs in it push and pull the benchmark's messages.
type language struct {
	name string
	push func(at string) *program // connects
	pull func(how, at string) *program
}

// A timing is how long the messages took from the first that arrived to the last, and the processor time of those who passed
// them on.
type timing struct{ took, cpu time.Duration }

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
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

// plainly is what libzmq does by itself.
func plainly(b *testing.B, l language) (t timing) {
	at := "tcp://127.0.0.1:" + freePort(b)
	pull := l.pull("bind", at)
	pull.expect("ready")
	push := l.push(at)
	t.took = pull.times()
	t.cpu = push.finish() + pull.finish()
	return t
}

// times is how long the program that pulls took for all but its first message.
func (p *program) times() time.Duration {
	p.t.Helper()
	p.expect("first")
	begun := time.Now()
	p.expect("got")
	return time.Since(begun)
}

// peers starts the program that the messages of a bridge of that type, which binds to at, come from or go to.
func (l *language) peers(at string, as zmtp.Type) *program {
	if as == zmtp.PULL {
		return l.push(at)
	}
	p := l.pull("connect", at)
	p.expect("ready")
	return p
}

// overALink is what bridge and mesh do with a node at each end of a link: the bridge's in a process of its own, and the other
// here.
func overALink(b *testing.B, messages int, l language, as zmtp.Type) (t timing) {
	n := mesh(b, node.Config{})
	at := "tcp://127.0.0.1:" + freePort(b)
	bridge := launch(b, n, b.TempDir(), childConfig{Bind: at, Type: as})
	peer := l.peers(at, as)
	if as == zmtp.PULL {
		var begun time.Time
		if err := pullAll(b.Context(), n, messages, func() { begun = time.Now() }); err != nil {
			b.Fatal(err)
		}
		t.took = time.Since(begun)
	} else {
		sent := make(chan error, 1)
		go func() { sent <- pushAll(b.Context(), n, messages) }()
		t.took = peer.times()
		if err := <-sent; err != nil {
			b.Fatal(err)
		}
	}
	peer.finish()
	t.cpu = bridge.finish()
	if err := n.Close(); err != nil {
		b.Error(err)
	}
	return t
}

// onOneNode is the same with the Go end on the bridge's node, as in a service that embeds it.
func onOneNode(b *testing.B, messages int, l language, as zmtp.Type) (t timing) {
	n := mesh(b, node.Config{}) // takes no part
	at := "tcp://127.0.0.1:" + freePort(b)
	bridge := launch(b, n, b.TempDir(), childConfig{Bind: at, Type: as, Messages: messages})
	peer := l.peers(at, as)
	if as == zmtp.PULL {
		t.took = bridge.times()
	} else {
		t.took = peer.times()
	}
	bridge.expect("settled")
	peer.finish()
	t.cpu = bridge.finish()
	if err := n.Close(); err != nil {
		b.Error(err)
	}
	return t
}

const atOnce = 512 // messages of a batch at the Go end

// pullAll acknowledges so many messages, and calls first when the first is there.
func pullAll(ctx context.Context, n *node.Node, messages int, first func()) error {
	pull, err := n.Pull("jobs", patterns.Prefetch(1<<16))
	if err != nil {
		return err
	}
	ms := make([]*socket.Message, atOnce)
	for got := 0; got < messages; {
		k, err := pull.RecvBatch(ctx, ms, 1<<20)
		if err != nil {
			return err
		}
		if got == 0 {
			first()
		}
		for _, m := range ms[:k] {
			if len(m.Body) != 100 {
				return fmt.Errorf("got %q", m.Body)
			}
		}
		if err := patterns.AckAll(ms[:k]); err != nil {
			return err
		}
		got += k
	}
	return nil
}

// pushAll sends so many messages, and returns when each is settled: the peer's library has read it.
func pushAll(ctx context.Context, n *node.Node, messages int) error {
	push, err := n.Push("jobs")
	if err != nil {
		return err
	}
	batch := slices.Repeat([]*socket.Message{{Body: bytes.Repeat([]byte("."), 100)}}, atOnce)
	for left := messages; left > 0; {
		seqs, err := push.PostBatch(ctx, batch[:min(left, len(batch))])
		if err != nil {
			return err
		}
		left -= len(seqs)
	}
	if err := push.Flush(ctx); err != nil {
		return err
	}
	if done := push.Stats().Ledger.Done; done != uint64(messages) {
		return fmt.Errorf("%d messages were handled, want %d", done, messages)
	}
	return nil
}
