package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/node/zmtp"
	"peermesh/patterns"
	"peermesh/socket"
)

// A zeromqWorld has two meshes: the one of a sidecar, and one that joins it by ZeroMQ only, for a bridge is a ZeroMQ program
// like any other to another bridge.
type zeromqWorld struct {
	*testing.T
	dir  string
	mesh string     // file of the sidecar's mesh
	far  *node.Node // of the other mesh
	http string     // where the gateway of the sidecar that was started last is
}

func newZeroMQWorld(t *testing.T) *zeromqWorld {
	t.Helper()
	dir, err := os.MkdirTemp("", "zmq") //nolint:usetesting // the path of a Unix socket has a hundred bytes, and TempDir's a test's whole name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	w := &zeromqWorld{T: t, dir: dir, mesh: filepath.Join(dir, "mesh.pem")}
	w.far = w.node("far.pem", "")
	return w
}

// node opens a node of the mesh in a file, which is made if it is not there.
func (w *zeromqWorld) node(mesh, state string) *node.Node {
	w.Helper()
	path := filepath.Join(w.dir, mesh)
	if _, err := identity.CreateMesh(path); err != nil && !errors.Is(err, os.ErrExist) {
		w.Fatal(err)
	}
	if state != "" {
		state = filepath.Join(w.dir, state)
	}
	n, err := node.Open(w.Context(), node.Config{Mesh: path, Dir: state, NoMDNS: true, Listen: "127.0.0.1:0"})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := n.Close(); err != nil {
			w.Error(err)
		}
	})
	return n
}

// program is an endpoint of the far mesh: a ZeroMQ program.
func (w *zeromqWorld) program(kind zmtp.Type, name, connect string) *zmtp.Bridge {
	w.Helper()
	b, err := zmtp.New(w.far, zmtp.Config{Endpoints: []zmtp.Endpoint{{Type: kind, Name: name, Connect: connect}}})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := b.Close(); err != nil {
			w.Error(err)
		}
	})
	return b
}

// at is the address of a socket in the world's folder.
func (w *zeromqWorld) at(name string) string { return "ipc://" + filepath.Join(w.dir, name) }

// configure writes the sidecar's file with a list of endpoints.
func (w *zeromqWorld) configure(endpoints ...string) {
	w.Helper()
	text := "gateway: {listen: \"127.0.0.1:0\"}\ndrain: 1m\nzeromq: {endpoints: [" + strings.Join(endpoints, ", ") + "]}\n"
	if err := os.WriteFile(filepath.Join(w.dir, "sidecar.yaml"), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// binding is an endpoint in that file.
func binding(kind, name, at string) string {
	return fmt.Sprintf("{type: %s, name: %s, bind: %q}", kind, name, at)
}

// A running is a sidecar as a process.
type running struct {
	*testing.T
	cmd   *exec.Cmd
	lines chan string // closed when it has ended
}

// sidecar starts one that knows of a peer, and waits until it is ready.
func (w *zeromqWorld) sidecar(peer *node.Node) *running {
	w.Helper()
	cmd := exec.Command("peermesh", "sidecar", "--json", "--config", "sidecar.yaml", "--dir", "state", "--mesh", w.mesh, "--peer", peer.Addr().String())
	cmd.Dir, cmd.Env, cmd.Stderr = w.dir, home(w.dir), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	s := &running{T: w.T, cmd: cmd, lines: make(chan string, 1<<12)} // more than it prints
	go func() {
		defer close(s.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			s.lines <- scan.Text()
		}
	}()
	w.Cleanup(func() {
		_ = cmd.Process.Kill() // most have ended
		_ = cmd.Wait()         // and say how elsewhere
	})
	var up gatewayEvent
	if err := json.Unmarshal([]byte(s.await(`"event":"gateway"`)), &up); err != nil {
		w.Fatal(err)
	}
	w.http = up.Addr
	return s
}

// await returns the next line that has a text in it.
func (s *running) await(text string) string {
	s.Helper()
	late := time.After(2 * patience)
	for {
		select {
		case line, ok := <-s.lines:
			switch {
			case !ok:
				s.Fatalf("it ended and did not print %s", text)
			case strings.Contains(line, text):
				return line
			}
		case <-late:
			s.Fatalf("it did not print %s", text)
		}
	}
}

// kill ends it as kill -9 does, and waits until it is gone.
func (s *running) kill() {
	s.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	for range s.lines {
	}
	_ = s.cmd.Wait() // killed is what it says
}

func (s *running) tell(signal os.Signal) {
	s.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.Fatal(err)
	}
}

// get asks the gateway.
func (w *zeromqWorld) get(path string) (status int, body string) {
	w.Helper()
	res, err := http.Get("http://" + w.http + path)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// accepted is how many messages the sidecar's Push has accepted in this life.
func (w *zeromqWorld) accepted(queue string) uint64 {
	w.Helper()
	_, text := w.get("/v1/status")
	var status struct {
		Sockets []struct {
			Kind, Name string
			Ledger     *patterns.Ledger
		}
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		w.Fatal(err)
	}
	for _, s := range status.Sockets {
		if s.Kind == "push" && s.Name == queue && s.Ledger != nil {
			return s.Ledger.Accepted
		}
	}
	return 0
}

// recv takes the next message, and acks it.
func (w *zeromqWorld) recv(p *patterns.Pull) *socket.Message {
	w.Helper()
	ctx, stop := context.WithTimeout(w.Context(), 2*patience)
	defer stop()
	m, err := p.Recv(ctx)
	if err != nil {
		w.Fatal(err)
	}
	if err := m.Ack(); err != nil {
		w.Fatal(err)
	}
	return m
}

// number reads what a test has sent.
func (w *zeromqWorld) number(m *socket.Message) (n int) {
	w.Helper()
	if _, err := fmt.Sscanf(string(m.Body), "message %d", &n); err != nil {
		w.Fatalf("%q: %v", m.Body, err)
	}
	return n
}

// post sends messages with the numbers from first to before last.
func (w *zeromqWorld) post(p *patterns.Push, first, last int) {
	w.Helper()
	for n := first; n < last; n++ {
		if err := p.Send(w.Context(), fmt.Appendf(nil, "message %d", n)); err != nil {
			w.Fatal(err)
		}
	}
}

func must[S any](s S, err error) S {
	if err != nil {
		panic(err)
	}
	return s
}

// What ZeroMQ programs get of the mesh survives their sidecar: the sender keeps what is not confirmed.
func TestASidecarThatIsKilledLosesNothingThatTheMeshSendsToZeroMQPrograms(t *testing.T) {
	const all = 1500
	w := newZeroMQWorld(t)
	near := w.node("mesh.pem", "near")
	jobs := must(near.Push("jobs")) // durable
	at := w.at("socket")
	w.configure(binding("push", "jobs", at))
	results := must(w.far.Pull("results"))
	w.program(zmtp.PULL, "results", at)
	s := w.sidecar(near)
	w.post(jobs, 0, all)
	seen := map[int]int{}
	for len(seen) < all {
		n := w.number(w.recv(results))
		seen[n]++
		if first := seen[n] == 1; first && (len(seen) == all/3 || len(seen) == 2*all/3) {
			s.kill()
			s = w.sidecar(near)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*patience)
	defer stop()
	if err := jobs.Flush(ctx); err != nil {
		t.Error(err)
	}
	if l := jobs.Stats().Ledger; l.Done != all {
		t.Errorf("got %+v, want %d done", l, all)
	}
}

// What ZeroMQ programs have brought into the mesh, and its disk has, survives the sidecar.
func TestASidecarThatIsKilledKeepsWhatZeroMQProgramsHaveBrought(t *testing.T) {
	const all, kept = 3000, 1000
	w := newZeroMQWorld(t)
	near := w.node("mesh.pem", "")
	at := w.at("socket")
	w.configure(binding("pull", "jobs", at))
	s := w.sidecar(near)
	w.program(zmtp.PUSH, "out", at)
	out := must(w.far.Push("out"))
	w.post(out, 0, kept)
	for until := time.Now().Add(2 * patience); w.accepted("jobs") < kept; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d of %d came", w.accepted("jobs"), kept)
		}
	}
	// The groups of the disk are in order, so what came before this answer is on it.
	res, err := http.Post("http://"+w.http+"/v1/push/fence", "", strings.NewReader("x"))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	w.post(out, kept, 2*kept) // some of it is under way
	s.kill()
	w.sidecar(near)
	w.post(out, 2*kept, all)

	gaps := 0
	pull := must(near.Pull("jobs", patterns.OnGap(func(socket.Gap) { gaps++ })))
	next := 0 // of what was on the disk
	for last := false; !last || next < kept; {
		switch n := w.number(w.recv(pull)); {
		case n == next && n < kept:
			next++
		case n > next && next < kept:
			t.Fatalf("number %d comes and %d has not: the disk had it", n, next)
		case n == all-1:
			last = true
		}
	}
	if gaps > 0 {
		t.Errorf("the mesh states %d gaps: it had accepted what is missing", gaps)
	}
}

func TestReloadLeavesEndpointsThatStayAlone(t *testing.T) {
	w := newZeroMQWorld(t)
	near := w.node("mesh.pem", "")
	stays := binding("pull", "jobs", w.at("stays"))
	w.configure(stays, binding("pull", "old", w.at("goes")))
	s := w.sidecar(near)
	program := w.program(zmtp.PUSH, "out", w.at("stays"))
	out := must(w.far.Push("out"))
	pull := must(near.Pull("jobs"))
	w.post(out, 0, 1)
	if n := w.number(w.recv(pull)); n != 0 {
		t.Errorf("got %d, want 0", n)
	}
	w.configure(stays, binding("pull", "new", w.at("comes")))
	s.tell(syscall.SIGHUP)
	s.await(`"event":"reload","ok":true}`)
	w.post(out, 1, 2)
	if n := w.number(w.recv(pull)); n != 1 {
		t.Errorf("got %d, want 1", n)
	}
	if got := program.Stats()[0]; got.Accepted != 1 || got.Lost != 0 {
		t.Errorf("%+v: the connection of the endpoint that stays did not stay", got)
	}
	w.program(zmtp.PUSH, "more", w.at("comes"))
	w.post(must(w.far.Push("more")), 2, 3)
	if n := w.number(w.recv(must(near.Pull("new")))); n != 2 {
		t.Errorf("got %d, want 2", n)
	}
	if status, text := w.get("/readyz"); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	_, figures := w.get("/metrics")
	for _, want := range []string{`peermesh_zeromq_received_messages_total{name="jobs",type="pull"} 2`, `peermesh_zeromq_peers{name="new",type="pull"} 1`,
		`peermesh_sender_accepted_messages_total{kind="push",name="jobs"} 2`, "peermesh_gateway_requests 1"} {
		if !strings.Contains(figures, want+"\n") {
			t.Errorf("/metrics has no %s:\n%s", want, figures)
		}
	}
	// One whose address is taken makes the sidecar not ready, and names itself.
	w.configure(stays, binding("pull", "new", w.at("state"))) // which is a folder
	s.tell(syscall.SIGHUP)
	s.await(`"event":"reload","ok":true,"failed":"zeromq: pull new: `)
	if status, text := w.get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "pull new") {
		t.Errorf("%d %s", status, text)
	}
}

// The end waits until what programs have brought is in the mesh: here on the disk, from where the next start delivers it.
func TestTheEndOfASidecarKeepsWhatZeroMQProgramsHaveBrought(t *testing.T) {
	const all = 500
	w := newZeroMQWorld(t)
	near := w.node("mesh.pem", "")
	at := w.at("socket")
	w.configure(binding("pull", "jobs", at))
	s := w.sidecar(near)
	program := w.program(zmtp.PUSH, "out", at)
	w.post(must(w.far.Push("out")), 0, all)
	for until := time.Now().Add(2 * patience); program.Stats()[0].Confirmed < all; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%+v", program.Stats())
		}
	}
	s.tell(syscall.SIGTERM)
	var summary struct{ Ledger patterns.Ledger }
	if err := json.Unmarshal([]byte(s.await(`"event":"summary"`)), &summary); err != nil {
		t.Fatal(err)
	}
	if summary.Ledger.Accepted != all {
		t.Errorf("got %+v, want %d accepted", summary.Ledger, all)
	}
	for range s.lines {
	}
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
	w.configure() // the gateway delivers it, too
	w.sidecar(near)
	pull := must(near.Pull("jobs"))
	for n := range all {
		if got := w.number(w.recv(pull)); got != n {
			t.Fatalf("got %d, want %d", got, n)
		}
	}
}

func FuzzEndpointsAreSoundOrBlamedOnALine(f *testing.F) {
	for _, text := range []string{
		"zeromq: {endpoints: [{type: pull, name: jobs, bind: 'tcp://127.0.0.1:0'}]}",
		"zeromq:\n  endpoints:\n    - type: push\n      limits: {heartbeat: often}\n",
		"zeromq:\n  endpoints:\n    - &a {type: pub, name: a, connect: ipc://a, durable: b}\n    - *a\n",
		"a: &a {type: rep, name: a, bind: ipc://a, executed: twice}\nzeromq: {endpoints: [*a]}",
		"zeromq: {endpoints: [{}, {<<: {type: sub}}]}",
		"? zeromq\n: endpoints: [{type: xsub, name: \"\\0\", upstream: a, prefetch: -1}]",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeConfig(data)
		if err != nil {
			return
		}
		all, err := s.Sections.ZeroMQ.plan()
		if err == nil {
			if len(all) != len(s.Sections.ZeroMQ.Endpoints) {
				t.Errorf("%q: %d endpoints of %d", data, len(all), len(s.Sections.ZeroMQ.Endpoints))
			}
			return
		}
		var w *wrongValue
		if !errors.As(err, &w) || exitCode(err) != exitUsage {
			t.Fatalf("%q: %v blames no key", data, err)
		}
		if line := lineOf(data, w.key); line != "" && !strings.HasPrefix(line, ":") {
			t.Errorf("%q: %s is on line %q", data, w.key, line)
		}
	})
}
