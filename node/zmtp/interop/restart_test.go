package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/zmtp"
	"peermesh/patterns"
	"peermesh/socket"
)

// childSpec is the environment variable that makes this test binary a process with a node and a bridge.
const childSpec = "PEERMESH_ZMTP_CHILD"

// childProfile names a folder for the CPU profiles of such processes, for "go tool pprof".
const childProfile = "ZMTP_PROFILE"

type childConfig struct {
	Dir, Mesh, Peer string // without a Dir: level memory
	Bind            string
	Type            zmtp.Type
	Messages        int // so many go through the bridge to this process, or from it: of the benchmark; 0: none
}

// child is a sidecar of its own process: it says "up", and lives until its input ends.
func child(spec string) {
	defer profile(os.Getenv(childProfile))()
	var cfg childConfig
	check(json.Unmarshal([]byte(spec), &cfg))
	n, err := node.Open(context.Background(), node.Config{
		Dir: cfg.Dir, Mesh: cfg.Mesh, Peers: []string{cfg.Peer}, Listen: "127.0.0.1:0", NoMDNS: true,
	})
	check(err)
	b, err := zmtp.New(n, zmtp.Config{Endpoints: []zmtp.Endpoint{{Bind: cfg.Bind, Type: cfg.Type, Name: "jobs"}}})
	check(err)
	fmt.Println("up")
	if cfg.Messages > 0 {
		check(exchange(n, cfg))
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	check(err)
	check(b.Close())
	check(n.Close())
}

// profile leaves a CPU profile in a new file of dir, unless that is empty, when the function that it returns is called.
func profile(dir string) (end func()) {
	if dir == "" {
		return func() {}
	}
	f, err := os.CreateTemp(dir, "bridge-*.cpu")
	check(err)
	check(pprof.StartCPUProfile(f))
	return func() {
		pprof.StopCPUProfile()
		check(f.Close())
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// exchange takes the benchmark's messages, or sends them, and says so as the programs do.
func exchange(n *node.Node, cfg childConfig) error {
	if cfg.Type == zmtp.PUSH {
		if err := pushAll(context.Background(), n, cfg.Messages); err != nil {
			return err
		}
	} else {
		if err := pullAll(context.Background(), n, cfg.Messages, func() { fmt.Println("first") }); err != nil {
			return err
		}
		fmt.Println("got")
	}
	fmt.Println("settled")
	return nil
}

// sidecar starts a child whose node knows of n, and keeps its state in dir.
func sidecar(t *testing.T, n *node.Node, dir string, e zmtp.Endpoint) *program {
	t.Helper()
	return launch(t, n, dir, childConfig{Dir: filepath.Join(dir, "state"), Bind: e.Bind, Type: e.Type})
}

// launch starts a child whose node knows of n; the credential of the mesh goes to dir.
func launch(t testing.TB, n *node.Node, dir string, cfg childConfig) *program {
	t.Helper()
	cfg.Mesh, cfg.Peer = filepath.Join(dir, "mesh"), n.Addr().String()
	if err := os.WriteFile(cfg.Mesh, credential(), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(childSpec, string(spec))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := run(t, self)
	if err := os.Unsetenv(childSpec); err != nil {
		t.Fatal(err)
	}
	p.expect("up")
	return p
}

func TestASidecarKilledInMidStreamLosesNothingOfWhatTheMeshSends(t *testing.T) {
	despiteLibzmq(t, killedWhileTheMeshSends)
}

func killedWhileTheMeshSends(t *testing.T) {
	const all = 3000
	dir := t.TempDir()
	n := mesh(t, node.Config{Dir: filepath.Join(dir, "sender")})
	push, err := n.Push("jobs") // durable
	if err != nil {
		t.Fatal(err)
	}
	at := "ipc://" + dir + "/zmq"
	p := py(t, pulls, "connect", at) // libzmq connects again by itself
	p.expect("ready")
	e := zmtp.Endpoint{Bind: at, Type: zmtp.PUSH, Name: "jobs"}
	bridge := sidecar(t, n, dir, e)
	go func() {
		for i := range all {
			if _, err := push.Post(t.Context(), &socket.Message{Body: fmt.Appendf(nil, "%d ", i)}); err != nil {
				t.Error(err)
			}
		}
	}()
	seen := make(map[int]int)
	for len(seen) < all {
		i, err := strconv.Atoi(p.line())
		if err != nil {
			t.Fatal(err)
		}
		seen[i]++
		if len(seen) == all/3 && seen[i] == 1 || len(seen) == 2*all/3 && seen[i] == 1 {
			bridge.kill()
			bridge = sidecar(t, n, dir, e)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := push.Flush(ctx); err != nil {
		t.Error(err)
	}
	if l := push.Stats().Ledger; l.Done != all {
		t.Errorf("got %+v, want all done", l)
	}
	twice := 0
	for _, times := range seen {
		twice += times - 1
	}
	t.Logf("2 kills: %d messages, all there; %d came twice", all, twice)
}

func TestASidecarKilledInMidStreamLosesOnlyWhatTheMeshHadNotAccepted(t *testing.T) {
	despiteLibzmq(t, killedWhilePyzmqSends)
}

func killedWhilePyzmqSends(t *testing.T) {
	const all = 20000
	dir := t.TempDir()
	n := mesh(t, node.Config{})
	gaps := 0
	pull, err := n.Pull("jobs", patterns.OnGap(func(socket.Gap) { gaps++ }))
	if err != nil {
		t.Fatal(err)
	}
	at := "ipc://" + dir + "/zmq"
	e := zmtp.Endpoint{Bind: at, Type: zmtp.PULL, Name: "jobs"}
	bridge := sidecar(t, n, dir, e)
	p := py(t, `
s = sock("PUSH", args[0], args[1])
n = 0
while n < int(args[2]):
    s.send(number(n, 100))
    n += 1
    if n % 100 == 0:
        time.sleep(0.002)
say("sent")
stay()
`, "connect", at, strconv.Itoa(all))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	last, holes, flagged := -1, 0, 0
	for received := 0; last < all-1; received++ {
		m, err := pull.Recv(ctx)
		if err != nil {
			p.excuse()
			t.Fatalf("after number %d: %v", last, err)
		}
		var i int
		if _, err := fmt.Sscanf(string(m.Body[:20]), "%d ", &i); err != nil {
			t.Fatal(err)
		}
		switch {
		case m.Redelivered() && i <= last:
			flagged++
		case i <= last:
			t.Fatalf("number %d comes after %d, and is not flagged", i, last)
		case i > last+1:
			holes++
		}
		last = max(last, i)
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		if received == all/4 || received == all/2 {
			bridge.kill()
			bridge = sidecar(t, n, dir, e)
		}
	}
	p.expect("sent")
	if holes > 2 {
		t.Errorf("%d holes after 2 kills", holes)
	}
	if gaps > 0 {
		t.Errorf("the mesh states %d gaps: it had accepted what is missing", gaps)
	}
	t.Logf("2 kills: %d holes in what pyzmq sent, %d flagged again, no gap in the mesh", holes, flagged)
}

func TestBothEndsOfAConnectionMayRestart(t *testing.T) {
	for _, way := range []string{"bind", "connect"} {
		t.Run(way, func(t *testing.T) {
			n := mesh(t, node.Config{})
			pull, err := n.Pull("jobs")
			if err != nil {
				t.Fatal(err)
			}
			at := "ipc://" + t.TempDir() + "/zmq"
			e, peer := zmtp.Endpoint{Bind: at, Type: zmtp.PULL, Name: "jobs"}, "connect"
			if way == "connect" {
				e, peer = zmtp.Endpoint{Connect: at, Type: zmtp.PULL, Name: "jobs"}, "bind"
			}
			b, err := zmtp.New(n, zmtp.Config{Endpoints: []zmtp.Endpoint{e}})
			if err != nil {
				t.Fatal(err)
			}
			p := py(t, pushes, peer, at, "100", "50")
			if got := numbers(t.Context(), t, pull, 100); !slices.Equal(got, upTo(100)) {
				t.Errorf("first: %v", got)
			}
			p.kill() // the peer restarts
			p = py(t, pushes, peer, at, "100", "50")
			if got := numbers(t.Context(), t, pull, 100); !slices.Equal(got, upTo(100)) {
				t.Errorf("after the peer's restart: %v", got)
			}
			p.kill()
			p = py(t, `
s = sock("PUSH", args[0], args[1])
say("ready")
for line in sys.stdin:
    for n in range(100):
        s.send(number(n, 50))
`, peer, at)
			p.expect("ready")
			ready(t, b, 1)
			if err := b.Close(); err != nil { // the bridge restarts
				t.Fatal(err)
			}
			b = bridge(t, n, e)
			ready(t, b, 1)
			if _, err := p.stdin.Write([]byte("go\n")); err != nil {
				t.Fatal(err)
			}
			if got := numbers(t.Context(), t, pull, 100); !slices.Equal(got, upTo(100)) {
				t.Errorf("after the bridge's restart: %v", got)
			}
		})
	}
}

func TestWhatAKilledPyzmqPullerHadNotReadGoesToAnother(t *testing.T) {
	n := mesh(t, node.Config{})
	push, err := n.Push("jobs", patterns.Backoff(time.Millisecond, time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	b := bridge(t, n, zmtp.Endpoint{Bind: "tcp://127.0.0.1:0", Type: zmtp.PUSH, Name: "jobs"})
	stuck := py(t, `
s = sock("PULL", "connect", args[0], RCVHWM=1)
say("ready")
s.recv()
say("one")
time.sleep(1000)
`, b.Addr(0))
	stuck.expect("ready")
	ready(t, b, 1)
	const all = 2000
	body := make([]byte, 4096) // more than the buffers of two sockets hold
	for i := range all {
		if err := push.Send(t.Context(), append(fmt.Appendf(nil, "%d ", i), body...)); err != nil {
			t.Fatal(err)
		}
	}
	stuck.expect("one")
	p := py(t, pulls, "connect", b.Addr(0))
	p.expect("ready")
	ready(t, b, 2)
	stuck.kill()
	// What the killed one's library had read is the only thing that may be missing: its own queue, and what it had received.
	const least = all - 400
	seen := make(map[string]bool)
	await(t, func() bool {
		for len(p.lines) > 0 {
			seen[p.line()] = true
		}
		l := push.Stats().Ledger
		return l.Accepted == l.Done && len(seen) >= least // done is what the library has; the program prints it later
	}, "all done, and nearly all printed by the other one")
}
