package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// One member of the crew is a process of its own, so that it can be killed: the same
// executable with the hidden verb "demo worker", one JSON object a line.
//
//	demo                         worker
//	  crewRole      ------------>  opens its node and its sockets
//	                <------------  childLine with Ready
//	                <------------  childLine with an Entry, and so on
//	  end of stdin  ------------>  leaves
//
// Stdin ends with the process that holds its other end, so the worker never outlives
// the demo, whatever becomes of that.

// childLine is one line of what the worker says.
type childLine struct {
	Ready *readyEvent `json:"ready,omitempty"`
	Entry *entry      `json:"entry,omitempty"`
	Err   string      `json:"err,omitempty"` // why there will be no more
}

// child is the worker process as the demo sees it.
type child struct {
	name  string
	ready readyEvent
	cmd   *exec.Cmd
	stdin io.Closer
	read  sync.WaitGroup
	gone  bool
}

// startChild runs this executable once more as a worker, and returns when it is ready.
// tell gets what it writes down.
func (a *app) startChild(ctx context.Context, role crewRole, tell func(entry)) (*child, error) {
	cmd, err := a.again(context.WithoutCancel(ctx), "demo", "worker")
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{name: role.Name, cmd: cmd, stdin: stdin}
	first := make(chan childLine, 1)
	c.read.Go(func() { c.listen(stdout, first, tell) })
	if err := c.begin(ctx, stdin, role, first); err != nil {
		c.kill()
		return nil, fmt.Errorf("worker process %s: %w", role.Name, err)
	}
	return c, nil
}

// begin tells the worker its role and waits until it plays it.
func (c *child) begin(ctx context.Context, stdin io.Writer, role crewRole, first <-chan childLine) error {
	if err := json.NewEncoder(stdin).Encode(role); err != nil {
		return err
	}
	select {
	case l := <-first:
		switch {
		case l.Err != "":
			return errors.New(l.Err)
		case l.Ready == nil:
			return errors.New("it ended before it was ready")
		}
		c.ready = *l.Ready
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// listen reads what the worker says until it is gone. What a killed process has
// written is still in the pipe, and half a line at its end means nothing.
func (c *child) listen(stdout io.Reader, first chan<- childLine, tell func(entry)) {
	lines := json.NewDecoder(stdout)
	for {
		var l childLine
		err := lines.Decode(&l)
		if l.Entry != nil {
			l.Entry.by = c.name
			tell(*l.Entry)
		}
		if l.Ready != nil || err != nil {
			select {
			case first <- l:
			default: // it was ready long ago
			}
		}
		if err != nil {
			return
		}
	}
}

// pid is the worker's process id.
func (c *child) pid() int { return c.cmd.Process.Pid }

// kill ends the worker without a word (SIGKILL), and returns when all that it wrote
// down has been read.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended, and that is as good
	c.read.Wait()
	_ = c.cmd.Wait() // that it was killed is no news
	c.gone = true
}

// leaveWithin is how long a worker may take to leave.
const leaveWithin = 5 * time.Second

// leave ends the worker in good order, unless it was killed.
func (c *child) leave() error {
	if c.gone {
		return nil
	}
	err := c.stdin.Close()
	late := time.AfterFunc(leaveWithin, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	c.read.Wait()
	return errors.Join(err, c.cmd.Wait())
}

// workerCommand is the hidden verb.
func workerCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "worker",
		Hidden: true,
		Args:   arguments(0, 0, "nothing"),
		RunE:   func(cmd *cobra.Command, _ []string) error { return beChild(a) },
	}
}

// beChild plays the role it is told until stdin ends. Ctrl-C at the terminal reaches it
// too, and is for the demo to act on.
func beChild(a *app) error {
	orders := json.NewDecoder(a.stdin)
	var role crewRole
	if err := orders.Decode(&role); err != nil {
		return fmt.Errorf("role: %w", err)
	}
	var mu sync.Mutex
	out := json.NewEncoder(a.stdout)
	say := func(l childLine) error {
		mu.Lock()
		defer mu.Unlock()
		return out.Encode(l)
	}
	c, err := openCrew(context.Background(), a, role, func(e entry) {
		_ = say(childLine{Entry: &e}) // the demo is gone: stdin says so too
	})
	if err != nil {
		return errors.Join(err, say(childLine{Err: err.Error()}))
	}
	if role.Sends {
		err = c.send()
	} else {
		err = c.serve()
	}
	if err == nil {
		err = say(childLine{Ready: c.ready()})
	}
	if err == nil {
		_, err = io.Copy(io.Discard, a.stdin)
	}
	return errors.Join(err, c.close())
}
