package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"peermesh/internal/history"
)

// child is one process of the command, and what is known of it while it lives.
type child struct {
	bed     *bed
	name    string // of its log
	role    string
	index   int // among the lives of the run; -1: it is not judged as one
	cmd     *exec.Cmd
	began   time.Time
	read    sync.WaitGroup // the reading of its stdout
	readErr error          // of that; read once read is over
	over    bool           // it was waited for
	end     history.End    // then

	opened chan struct{} // closed when it has printed ready
	ended  chan struct{} // closed when it has closed its stdout

	delivered, done, sent, settled, refused, steps atomic.Int64 // events so far
	furthest                                       atomic.Int64 // the highest step
	opening                                        time.Duration
}

// start starts a verb with nothing on its stdin. What it prints goes to a log of its own.
func (b *bed) start(l history.Life, args ...string) (*child, error) {
	return b.startVerb(nil, l, args)
}

// play starts a part. What it prints is for the proof itself, not for the history.
func (b *bed) play(role, store string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return b.startOn(nil, role, append([]string{self, partVerb, role, "--dir", store}, args...))
}

// hold starts a verb whose stdin stays open until it is released.
func (b *bed) hold(l history.Life, args ...string) (c *child, release func() error, err error) {
	stdin, hold, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	c, err = b.startVerb(stdin, l, args)
	if err = errors.Join(err, stdin.Close()); err != nil {
		return nil, nil, errors.Join(err, hold.Close())
	}
	return c, hold.Close, nil
}

// startVerb starts a verb of the command, as one more life of the run.
func (b *bed) startVerb(stdin *os.File, l history.Life, args []string) (*child, error) {
	args = append([]string{b.binary, l.Role}, append(args, "--json", "--no-mdns")...)
	if l.Store != "" {
		args = append(args, "--dir", l.Store)
	}
	c, err := b.startOn(stdin, l.Role, args)
	if err != nil {
		return nil, err
	}
	c.index = len(b.run.Lives)
	l.Log, l.End = c.name+".json", history.End{How: history.Killed}
	b.run.Lives = append(b.run.Lives, l)
	return c, nil
}

// startOn starts a program and its arguments on a stdin of its own; nil is an empty one.
func (b *bed) startOn(stdin *os.File, role string, args []string) (*child, error) {
	c := &child{bed: b, role: role, index: -1, opened: make(chan struct{}), ended: make(chan struct{})}
	c.name = fmt.Sprintf("%03d-%s", len(b.children)+1, role)
	log, err := os.Create(b.path(c.name + ".json"))
	if err != nil {
		return nil, err
	}
	stderr, err := os.Create(b.path(c.name + ".err"))
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	// The process has its own.
	defer stderr.Close()
	args = append(args, "--mesh", b.mesh)
	c.cmd = exec.Command(args[0], args[1:]...)
	c.cmd.Env, c.cmd.Stderr, c.cmd.Dir = b.environ(), stderr, b.dir
	if stdin != nil {
		c.cmd.Stdin = stdin
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	c.began = time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	b.children = append(b.children, c)
	c.read.Go(func() {
		defer close(c.ended)
		c.readErr = errors.Join(c.copy(bufio.NewReaderSize(stdout, 1<<16), log), log.Close())
	})
	return c, nil
}

// log is where what it prints is kept.
func (c *child) log() string { return c.bed.path(c.name + ".json") }

// counted are the events that are counted while they come.
func (c *child) counted() map[string]*atomic.Int64 {
	return map[string]*atomic.Int64{"deliver": &c.delivered, "done": &c.done, "sent": &c.sent, "settled": &c.settled, "refused": &c.refused,
		"step": &c.steps}
}

// copy writes what the process prints to its log, and counts.
func (c *child) copy(from *bufio.Reader, to *os.File) error {
	w := bufio.NewWriterSize(to, 1<<16)
	counted := c.counted()
	for {
		line, err := from.ReadSlice('\n')
		if _, werr := w.Write(line); werr != nil {
			return werr
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return w.Flush() // the process has closed it, or is gone
		}
		_, rest, _ := bytes.Cut(line, []byte(`"event":"`))
		kind, _, _ := bytes.Cut(rest, []byte(`"`))
		if n := counted[string(kind)]; n != nil {
			n.Add(1)
		}
		if string(kind) == "step" {
			c.furthest.Store(max(c.furthest.Load(), int64(numberIn(line, "n"))))
		}
		if string(kind) == "ready" {
			c.opening = time.Since(c.began)
			close(c.opened)
		}
	}
}

// kill ends the process with SIGKILL, if it has not ended yet.
func (c *child) kill() {
	if !c.over {
		_ = c.cmd.Process.Kill() // it may have ended meanwhile
		c.wait()
	}
}

// wait waits for the end of the process, and notes it.
func (c *child) wait() history.End {
	if c.over {
		return c.end
	}
	c.read.Wait()
	err := c.cmd.Wait()
	c.over, c.end = true, history.End{How: history.Killed}
	var exit *exec.ExitError
	switch {
	case err == nil:
		c.end = history.End{How: history.Exited}
	case errors.As(err, &exit) && exit.Exited():
		c.end = history.End{How: history.Exited, Code: exit.ExitCode()}
	}
	if c.index >= 0 {
		c.bed.run.Lives[c.index].End = c.end
	}
	return c.end
}

// finish waits for a process that ends by itself with that exit code, and kills it if ctx ends.
func (c *child) finish(ctx context.Context, code int) error {
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.kill()
		return fmt.Errorf("%s: %w", c.name, context.Cause(ctx))
	}
	end := c.wait()
	switch {
	case end.How != history.Exited:
		return fmt.Errorf("%s: ended by a signal: %s: %s", c.name, c.cmd.ProcessState, c.lastWords())
	case end.Code != code:
		return fmt.Errorf("%s: exit code %d, want %d: %s", c.name, end.Code, code, c.lastWords())
	case c.readErr != nil:
		return fmt.Errorf("%s: %w", c.name, c.readErr)
	}
	return nil
}

// stop asks the process to leave, once it is there to hear it, and waits until it has left.
func (c *child) stop(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return c.finish(ctx, 0)
}

// alive returns an error if the process has ended by itself.
func (c *child) alive() error {
	select {
	case <-c.ended:
		return fmt.Errorf("%s: ended by itself: %v: %s", c.name, c.wait(), c.lastWords())
	default:
		return nil
	}
}

// ready waits until the process is there.
func (c *child) ready(ctx context.Context) error {
	select {
	case <-c.opened:
		return nil
	case <-c.ended:
		return c.alive()
	case <-ctx.Done():
		return fmt.Errorf("%s: not ready: %w", c.name, context.Cause(ctx))
	}
}

// lastWords are the end of its stderr, and of a crash the reason, which stands before the stacks.
func (c *child) lastWords() string {
	text, err := os.ReadFile(c.bed.path(c.name + ".err"))
	if err != nil {
		return err.Error()
	}
	text, _, _ = bytes.Cut(text, []byte("\ngoroutine "))
	const most = 1000
	return strings.TrimSpace(string(text[max(len(text)-most, 0):]))
}

// until waits until ok holds, looking now and then, or ctx ends or the process does.
func (c *child) until(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-c.ended:
			if ok() {
				return nil
			}
			return c.alive()
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", c.name, context.Cause(ctx))
		}
	}
	return nil
}
