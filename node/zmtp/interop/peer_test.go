package interop

import (
	"bufio"
	"bytes"
	_ "embed"
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

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/node/zmtp"
)

//go:embed testdata/prelude.py
var prelude string

//go:embed testdata/peer.c
var peerC []byte

// patience bounds waits for things that must come. It is no measure of anything.
const patience = 60 * time.Second

// python finds an interpreter that has pyzmq.
var python = sync.OnceValues(func() (string, error) {
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import zmq").Run() == nil {
			return name, nil
		}
	}
	return "", errors.New("no python3 with pyzmq here; on Debian: apt-get install python3-zmq")
})

// compiled builds peer.c once for all tests.
var compiled = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "zmtp-interop")
	if err != nil {
		return "", err
	}
	folders = append(folders, dir)
	bin := filepath.Join(dir, "peer")
	cmd := exec.Command("gcc", "-O2", "-x", "c", "-o", bin, "-", "-lzmq")
	cmd.Stdin = bytes.NewReader(peerC)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New("gcc with zmq.h does not work here; on Debian: apt-get install gcc libc6-dev libzmq3-dev: " + firstLine(out, err))
	}
	return bin, nil
})

// folders are what TestMain takes away.
var folders []string

func TestMain(m *testing.M) {
	if spec := os.Getenv(childSpec); spec != "" {
		child(spec)
		return
	}
	code := m.Run()
	for _, dir := range folders {
		_ = os.RemoveAll(dir) // it is temporary either way
	}
	os.Exit(code)
}

func firstLine(out []byte, err error) string {
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(line) + " " + err.Error()
}

// A program is a process that speaks ZeroMQ.
type program struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	said  bytes.Buffer // on standard error; whole when it has been waited for
	once  sync.Once
}

// py starts a Python program behind the prelude.
func py(t testing.TB, code string, args ...string) *program {
	t.Helper()
	name, err := python()
	if err != nil {
		t.Skip(err)
	}
	return run(t, name, append([]string{"-u", "-c", prelude + code}, args...)...)
}

// c starts the C program.
func c(t testing.TB, args ...string) *program {
	t.Helper()
	bin, err := compiled()
	if err != nil {
		t.Skip(err)
	}
	return run(t, bin, args...)
}

func run(t testing.TB, name string, args ...string) *program {
	t.Helper()
	cmd := exec.Command(name, args...)
	p := &program{t: t, cmd: cmd, lines: make(chan string, 1<<16)}
	cmd.Stderr = io.MultiWriter(os.Stderr, &p.said)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.stdin = in
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the program as kill -9 does.
func (p *program) kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		_ = p.cmd.Wait()         // killed is what it says
		_ = p.stdin.Close()
	})
}

// libzmqAsserts is why a test that kills the other end may have to be begun anew: libzmq 4.3 now and then meets an error of
// its connection where it takes it for impossible, and ends its process.
const libzmqAsserts = "libzmq has ended its program by an assertion of its own"

// despiteLibzmq runs a test, again if libzmq ends its program: three times at most.
func despiteLibzmq(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if _, err := python(); err != nil {
		t.Skip(err)
	}
	for range 3 {
		ended := false
		t.Run("run", func(t *testing.T) {
			defer func() { ended = t.Skipped() }()
			test(t)
		})
		if !ended {
			return
		}
	}
	t.Errorf("three times: %s", libzmqAsserts)
}

// excuse ends the program, and skips the test if libzmq had done so before.
func (p *program) excuse() {
	p.t.Helper()
	p.kill() // it is waited for
	if strings.Contains(p.said.String(), "Assertion failed") {
		p.t.Skip(libzmqAsserts)
	}
}

// finish ends the program's input, waits for its end, and returns the processor time that it took.
func (p *program) finish() (cpu time.Duration) {
	p.t.Helper()
	p.once.Do(func() {
		overdue := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() }) // Wait tells
		defer overdue.Stop()
		err := p.stdin.Close()
		for range p.lines { // Wait must come after the last read
		}
		if err = errors.Join(err, p.cmd.Wait()); err != nil {
			p.t.Errorf("%s: %v", p.cmd.Path, err)
		}
		cpu = p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	})
	return cpu
}

// line waits for the next line that the program prints.
func (p *program) line() string {
	p.t.Helper()
	select {
	case s, ok := <-p.lines:
		if !ok {
			p.excuse()
			p.t.Fatal("the program has ended")
		}
		return s
	case <-time.After(patience):
		p.t.Fatal("the program says nothing")
	}
	return ""
}

func (p *program) expect(want string) {
	p.t.Helper()
	if got := p.line(); got != want {
		p.t.Fatalf("the program says %q, want %q", got, want)
	}
}

// mesh is a node on this machine; peers are the addresses of others.
func mesh(t testing.TB, cfg node.Config) *node.Node {
	t.Helper()
	cfg.NoMDNS, cfg.Listen = true, "127.0.0.1:0"
	cfg.MeshPEM = credential()
	n, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// credential is that of the mesh of all tests.
var credential = sync.OnceValue(func() []byte {
	m, err := identity.NewMesh(time.Now())
	if err != nil {
		panic(err)
	}
	pem, err := m.Marshal()
	if err != nil {
		panic(err)
	}
	return pem
})

// bridge opens a bridge for the test.
func bridge(t testing.TB, n *node.Node, endpoints ...zmtp.Endpoint) *zmtp.Bridge {
	t.Helper()
	b, err := zmtp.New(n, zmtp.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// await waits for something that is bound to happen and that no event tells of.
func await(t testing.TB, happened func() bool, what string, args ...any) {
	t.Helper()
	for until := time.Now().Add(patience); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never: "+what, args...)
		}
	}
}

// freePort is one that was free a moment ago, for programs that cannot tell which they got.
func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err == nil {
		err = ln.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return port
}
