package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"peermesh/internal/identity"

	"go.uber.org/goleak"
)

// inProcess runs the command in this process.
type inProcess struct {
	mesh string
	wg   sync.WaitGroup
}

func newInProcess(t *testing.T) *inProcess {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	p := &inProcess{mesh: filepath.Join(t.TempDir(), "mesh.pem")}
	if _, err := identity.CreateMesh(p.mesh); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs the command to its end.
func (p *inProcess) run(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) (code int, stderr string) {
	var errs bytes.Buffer
	args = append([]string{"--mesh", p.mesh, "--no-mdns", "--listen", "127.0.0.1:0"}, args...)
	code = run(ctx, args, stdin, stdout, &errs, nil)
	return code, errs.String()
}

// start runs the command beside the test and returns its address and what it will
// print from then on; rest closes when it has ended.
func (p *inProcess) start(ctx context.Context, t *testing.T, args ...string) (addr string, rest <-chan string) {
	t.Helper()
	r, w := io.Pipe()
	lines := make(chan string, 1<<13) // more than any test makes it print
	p.wg.Go(func() {
		if code, stderr := p.run(ctx, strings.NewReader(""), w, append(args, "--json")...); code != 0 {
			t.Errorf("%q: exit %d: %s", args, code, stderr)
		}
		w.Close()
	})
	p.wg.Go(func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	})
	_, addr, ok := strings.Cut(<-lines, `"addr":"`)
	if !ok {
		t.Fatalf("%q printed no ready event", args)
	}
	addr, _, _ = strings.Cut(addr, `"`)
	return addr, lines
}

// brokenAfter is a stdout that takes so many writes.
type brokenAfter struct {
	writes int
	kept   bytes.Buffer
}

func (b *brokenAfter) Write(p []byte) (int, error) {
	if b.writes == 0 {
		return 0, errors.New("no reader")
	}
	b.writes--
	return b.kept.Write(p)
}

func TestPullWhoseStdoutBreaksLeavesItsMessagesToOthers(t *testing.T) {
	p := newInProcess(t)
	const total = 1000
	args := []string{"push", "lines"}
	for i := range total {
		args = append(args, fmt.Sprint(i))
	}
	addr, done := p.start(t.Context(), t, args...)
	first := &brokenAfter{writes: 3}
	if code, stderr := p.run(t.Context(), nil, first, "pull", "lines", "--peer", addr, "-0"); code != exitFailed ||
		!strings.Contains(stderr, "peermesh pull: stdout: no reader\n") {
		t.Errorf("exit %d, want %d: %s", code, exitFailed, stderr)
	}
	written := bytes.Count(first.kept.Bytes(), []byte{0})
	var second bytes.Buffer
	if code, stderr := p.run(t.Context(), nil, &second, "pull", "lines", "--peer", addr, "--count", fmt.Sprint(total-written), "-0"); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for range done { // push ends by itself: everything is settled
	}
	p.wg.Wait()
	if written == 0 || written == total {
		t.Fatalf("%d of %d messages were written before stdout broke; the test shows nothing", written, total)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	p := newInProcess(t)
	ctx, leave := context.WithCancel(t.Context())
	addr, _ := p.start(ctx, t, "rep", "upper", "--echo")
	var answer bytes.Buffer
	if code, stderr := p.run(t.Context(), nil, &answer, "req", "upper", "--peer", addr, "hello"); code != 0 || answer.String() != "hello\n" {
		t.Errorf("exit %d, %q: %s", code, answer.String(), stderr)
	}
	leave()
	p.wg.Wait() // with exit 0, as start checks
}

func TestNothingStaysBehindWhenANodeCannotBeOpened(t *testing.T) {
	p := newInProcess(t)
	for _, args := range [][]string{
		{"push", "q", "a", "--listen", "203.0.113.1:1"},
		{"push", "q", "a", "--name", "a\x00b"},
		{"pull", "q", "--mesh", filepath.Join(t.TempDir(), "none.pem")},
	} {
		var out bytes.Buffer
		code, stderr := p.run(t.Context(), strings.NewReader(""), &out, args...)
		if code == 0 || out.Len() > 0 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %q, %q; want a failure in one line", args, code, out.String(), stderr)
		}
	}
}

func TestSecondSignalLeavesAtOnce(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals")
	}
	dir := t.TempDir()
	cmd := exec.Command("peermesh", "push", "q", "a", "--no-mdns", "--listen", "127.0.0.1:0")
	cmd.Env = append(cmd.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := 0
	for s := bufio.NewScanner(stderr); s.Scan(); {
		if strings.HasPrefix(s.Text(), "push q: node ") || strings.Contains(s.Text(), "told to leave; finishing") {
			told++
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if got, want := cmd.ProcessState.ExitCode(), exitSignal+int(syscall.SIGTERM); got != want || told != 2 {
		t.Errorf("after %d signals: %v, want exit %d", told, err, want)
	}
}
