package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"peermesh/internal/history"
)

// bedConfig says where a bed stands.
type bedConfig struct {
	binary   string
	dir      string
	seed     uint64
	out      io.Writer // what was found
	progress io.Writer // what is being done
}

// bed is where a proof takes place: a work folder, the command, and all processes that were started.
type bed struct {
	bedConfig
	mesh     string
	random   *rand.Rand
	run      history.Run
	children []*child
	undo     []func() error // what was mounted
	problems []string       // promises broken that the history does not show
}

// queue is the one queue of every proof.
const queue = "jobs"

// newBed makes a work folder, and the command if none is given.
func newBed(ctx context.Context, c bedConfig) (*bed, error) {
	b := &bed{bedConfig: c, random: rand.New(rand.NewPCG(c.seed, 0))}
	var err error
	if b.dir == "" {
		b.dir, err = os.MkdirTemp("", "prove-")
	} else {
		err = os.Mkdir(b.dir, 0o755)
	}
	if err != nil {
		return nil, err
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return nil, err
	}
	b.mesh = filepath.Join(b.dir, "mesh.pem")
	if b.binary == "" {
		b.binary = filepath.Join(b.dir, "peermesh")
		if err := build(ctx, b.binary); err != nil {
			return nil, err
		}
	}
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return nil, err
	}
	_, err = b.ask(ctx, "init", b.mesh)
	return b, err
}

// build builds the command; it must be called inside the module.
func build(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", to, "peermesh/cmd/peermesh")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, text)
	}
	return nil
}

// ask runs a verb that takes no part in the history to its end, and returns what it printed.
func (b *bed) ask(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.binary, args...)
	cmd.Env = b.environ()
	text, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("peermesh %s: %w", strings.Join(args, " "), err)
	}
	return string(text), nil
}

// environ is an environment in which nothing of this machine's user is found.
func (b *bed) environ() []string {
	env := []string{"HOME=" + b.dir}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if name != "HOME" && !strings.HasPrefix(name, "PEERMESH_") && !strings.HasPrefix(name, "XDG_") {
			env = append(env, kv)
		}
	}
	return env
}

// prove plays a scenario, ends what still runs, and judges the history.
func (b *bed) prove(ctx context.Context, play func(context.Context, *bed) error) error {
	began := time.Now()
	err := play(ctx, b)
	for _, c := range b.children {
		c.kill()
	}
	for i := len(b.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, b.undo[i]())
	}
	if _, skip := errors.AsType[errSkip](err); skip {
		return err
	}
	b.run.Drained = b.run.Drained && err == nil // what went wrong on the way is told as that, not as thousands of losses
	if err := b.save(); err != nil {
		return err
	}
	report, unread := judgeFolder(b.dir)
	if unread != nil {
		return errors.Join(err, unread)
	}
	if len(b.run.Lives) > 0 {
		fmt.Fprint(b.out, report)
	}
	for _, p := range b.problems {
		err = errors.Join(err, errors.New(p))
	}
	if bad := report.Violated(); len(bad) > 0 {
		err = errors.Join(err, fmt.Errorf("violated: %s", strings.Join(bad, ", ")))
	}
	if err == nil {
		b.found("kept, in %v", time.Since(began).Round(time.Second/10))
	}
	return err
}

// runFile says what each log in a work folder is of.
const runFile = "run.json"

func (b *bed) save() error {
	text, err := json.MarshalIndent(b.run, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, runFile), append(text, '\n'), 0o644)
}

// judgeFolder judges the history in a work folder.
func judgeFolder(dir string) (*history.Report, error) {
	text, err := os.ReadFile(filepath.Join(dir, runFile))
	if err != nil {
		return nil, err
	}
	var run history.Run
	if err := json.Unmarshal(text, &run); err != nil {
		return nil, fmt.Errorf("%s: %w", runFile, err)
	}
	return history.Check(os.DirFS(dir), run)
}

// found prints a finding.
func (b *bed) found(format string, args ...any) { fmt.Fprintf(b.out, format+"\n", args...) }

// doing tells what is being done.
func (b *bed) doing(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// expect notes a promise that the history does not show, with the figure that shows it.
func (b *bed) expect(ok bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if ok {
		b.found("ok: %s", text)
		return
	}
	b.found("BROKEN: %s", text)
	b.problems = append(b.problems, text)
}

// path is a place in the work folder.
func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

// freeAddr is an address on loopback that nobody has. A receiver keeps it through all its lives.
func freeAddr() (string, error) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.LocalAddr().String(), nil
}

// between draws a time.
func (b *bed) between(low, high time.Duration) time.Duration {
	return low + time.Duration(b.random.Int64N(int64(high-low)))
}
