package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary doubles as the command, so that scripts run it as a process.
func TestMain(m *testing.M) {
	// Scripts wait more than they work, so more than one a processor run at a time.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err) // the flag is the testing package's
	}
	testscript.Main(m, map[string]func(){"peermesh": main})
}

// TestScripts runs testdata/script: each file shows commands and what they print.
// Beside testscript's own commands there are
//
//	code N ARG...     runs peermesh ARG..., which must exit with N
//	up NAME ARG...    starts peermesh ARG... with --json and waits until it is ready; its
//	                  address is $NAME_addr, its node id $NAME_id
//	begin NAME ARG... starts peermesh ARG... with --json
//	learn VAR NAME EVENT KEY
//	                  waits for that event of NAME; $VAR is its KEY
//	await NAME RE     waits until a line that NAME printed matches
//	tell NAME SIGNAL  sends TERM, KILL or HUP
//	ended NAME N      waits until NAME has ended, with N; what it printed is in NAME.out and
//	                  NAME.err
//	count N RE FILE   N lines of FILE match
//	ends FILE         the first line of FILE is a ready event, the last one a summary
//
// $FREE_ADDR is an address to listen on again and again, which no other process takes meanwhile.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many processes")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("GORACE", "atexit_sleep_ms=50") // at the end of each process; 1000 by default
			env.Setenv("PEERMESH_NO_MDNS", "true")
			env.Setenv("PEERMESH_LISTEN", "127.0.0.1:0")
			env.Setenv("FREE_ADDR", freeAddr(env.T()))
			env.Values[scriptedKey{}] = map[string]*scripted{}
			return nil
		},
		Condition: func(cond string) (bool, error) { return false, errors.New("unknown condition " + cond) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "up": scriptUp, "await": scriptAwait, "tell": scriptTell, "ended": scriptEnded, "count": scriptCount,
			"ends": scriptEnds, "begin": scriptBegin, "learn": scriptLearn,
		},
	})
}

// patience is how long a script waits for something that must happen.
const patience = 30 * time.Second

type scriptedKey struct{}

// scripted is a process that a script started.
type scripted struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	read sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{}
	lines   []string
	stderr  bytes.Buffer
}

func allScripted(ts *testscript.TestScript) map[string]*scripted {
	return ts.Value(scriptedKey{}).(map[string]*scripted)
}

func scriptedAs(ts *testscript.TestScript, name string) *scripted {
	c := allScripted(ts)[name]
	if c == nil {
		ts.Fatalf("nothing called %s was started", name)
	}
	return c
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: code N ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	switch err := ts.Exec("peermesh", args[1:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func scriptUp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: up NAME ARG...")
	}
	name := args[0]
	c := begin(ts, name, append(args[1:], "--name", name)...)
	var ready struct{ ID, Addr string }
	ts.Check(json.Unmarshal([]byte(c.await(ts, regexp.MustCompile(`"event":"ready"`))), &ready))
	ts.Setenv(name+"_addr", ready.Addr)
	ts.Setenv(name+"_id", ready.ID)
}

func scriptBegin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: begin NAME ARG...")
	}
	begin(ts, args[0], args[1:]...)
}

func scriptLearn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: learn VAR NAME EVENT KEY")
	}
	line := scriptedAs(ts, args[1]).await(ts, regexp.MustCompile(`"event":"`+regexp.QuoteMeta(args[2])+`"`))
	fields := map[string]any{}
	ts.Check(json.Unmarshal([]byte(line), &fields))
	ts.Setenv(args[0], fmt.Sprint(fields[args[3]]))
}

// begin starts a process of the script.
func begin(ts *testscript.TestScript, name string, args ...string) *scripted {
	path, err := lookPath(ts)
	ts.Check(err)
	c := &scripted{name: name, cmd: exec.Command(path, append(args, "--json")...), done: make(chan struct{}), changed: make(chan struct{})}
	c.cmd.Dir = ts.MkAbs(".")
	for _, key := range []string{"HOME", "PATH", "TMPDIR", "GORACE", "PEERMESH_NO_MDNS", "PEERMESH_LISTEN", "PEERMESH_PEER", "PEERMESH_GATEWAY_LISTEN"} {
		c.cmd.Env = append(c.cmd.Env, key+"="+ts.Getenv(key))
	}
	stdout, err := c.cmd.StdoutPipe()
	ts.Check(err)
	c.cmd.Stderr = &lockedWriter{w: &c.stderr}
	ts.Check(c.cmd.Start())
	allScripted(ts)[name] = c
	c.read.Go(func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			c.mu.Lock()
			c.lines = append(c.lines, s.Text())
			close(c.changed)
			c.changed = make(chan struct{})
			c.mu.Unlock()
		}
	})
	go func() {
		c.read.Wait()
		_ = c.cmd.Wait() // its code is read from the process state
		close(c.done)
	}()
	ts.Defer(func() {
		_ = c.cmd.Process.Kill() // most have ended by now
		<-c.done
	})
	return c
}

// lookPath finds the command where testscript put it.
func lookPath(ts *testscript.TestScript) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, "peermesh")
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", errors.New("peermesh is not in PATH")
}

// await returns the first line that matches, as soon as there is one.
func (c *scripted) await(ts *testscript.TestScript, re *regexp.Regexp) string {
	late := time.After(patience)
	for seen := 0; ; {
		c.mu.Lock()
		lines, changed := c.lines, c.changed
		c.mu.Unlock()
		for ; seen < len(lines); seen++ {
			if re.MatchString(lines[seen]) {
				return lines[seen]
			}
		}
		select {
		case <-changed:
		case <-late:
			ts.Fatalf("%s did not print %v:\n%s\n%s", c.name, re, strings.Join(lines, "\n"), c.stderr.String())
		case <-c.done:
			c.mu.Lock()
			more := len(c.lines) > seen
			c.mu.Unlock()
			if !more {
				ts.Fatalf("%s ended (%v) and did not print %v:\n%s\n%s", c.name, c.cmd.ProcessState, re, strings.Join(lines, "\n"), c.stderr.String())
			}
		}
	}
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await NAME RE")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	scriptedAs(ts, args[0]).await(ts, re)
}

func scriptTell(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "KILL": os.Kill, "HUP": syscall.SIGHUP}
	if neg || len(args) != 2 || signals[args[1]] == nil {
		ts.Fatalf("usage: tell NAME TERM|KILL|HUP")
	}
	ts.Check(scriptedAs(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func scriptEnded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended NAME N")
	}
	c := scriptedAs(ts, args[0])
	select {
	case <-c.done:
	case <-time.After(patience):
		ts.Fatalf("%s did not end:\n%s\n%s", c.name, strings.Join(c.lines, "\n"), c.stderr.String())
	}
	out := strings.Join(append(c.lines, ""), "\n")
	ts.Check(os.WriteFile(ts.MkAbs(c.name+".out"), []byte(out), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(c.name+".err"), c.stderr.Bytes(), 0o600))
	if got := strconv.Itoa(c.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s ended with %s, want %s:\n%s\n%s", c.name, got, args[1], out, c.stderr.String())
	}
}

// linesOf are the lines of a file, of stdout or of stderr.
func linesOf(ts *testscript.TestScript, file string) []string {
	return strings.Split(strings.TrimSuffix(ts.ReadFile(file), "\n"), "\n")
}

func scriptCount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: count N RE FILE")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	got := 0
	for _, line := range linesOf(ts, args[2]) {
		if re.MatchString(line) {
			got++
		}
	}
	if got != want {
		ts.Fatalf("%d lines of %s match %v, want %d:\n%s", got, args[2], re, want, ts.ReadFile(args[2]))
	}
}

func scriptEnds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ends FILE")
	}
	lines := linesOf(ts, args[0])
	for i, kind := range map[int]string{0: "ready", len(lines) - 1: "summary"} {
		var e struct {
			V     int
			T     int64
			Event string
		}
		if err := json.Unmarshal([]byte(lines[i]), &e); err != nil || e.Event != kind || e.V != 1 || e.T <= 0 {
			ts.Fatalf("line %d of %s is no %s event of version 1: %s", i+1, args[0], kind, lines[i])
		}
	}
}
