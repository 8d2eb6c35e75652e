//go:build linux && lab

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// network is a lab: hosts in namespaces, with the command and the lab built.
type network struct {
	t        *testing.T
	lab, bin string
	mesh     string
	name     string
}

// newNetwork makes a lab of that layout, or skips where none can be made.
func newNetwork(t *testing.T, name, layout string) *network {
	t.Helper()
	dir := t.TempDir()
	n := &network{t: t, lab: filepath.Join(dir, "lab"), bin: filepath.Join(dir, "peermesh"), mesh: filepath.Join(dir, "mesh", "mesh.pem"), name: name}
	for out, pkg := range map[string]string{n.lab: "peermesh/internal/lab", n.bin: "."} {
		if b, err := exec.Command("go", "build", "-o", out, pkg).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, b)
		}
	}
	if b, err := n.command("check").CombinedOutput(); err != nil {
		if e, ok := err.(*exec.ExitError); ok && e.ExitCode() == 77 {
			t.Skipf("no lab here: %s", b)
		}
		t.Fatalf("lab check: %v\n%s", err, b)
	}
	n.run("up", layout)
	t.Cleanup(func() { n.run("down") })
	if b, err := exec.Command(n.bin, "init", n.mesh).CombinedOutput(); err != nil {
		t.Fatalf("init: %v\n%s", err, b)
	}
	return n
}

func (n *network) command(args ...string) *exec.Cmd {
	c := exec.Command(n.lab, args...)
	c.Env = append(os.Environ(), "LAB="+n.name)
	return c
}

func (n *network) run(args ...string) {
	n.t.Helper()
	if b, err := n.command(args...).CombinedOutput(); err != nil {
		n.t.Fatalf("lab %v: %v\n%s", args, err, b)
	}
}

// process is the command on a host, with its events.
type process struct {
	cmd    *exec.Cmd
	mu     sync.Mutex
	events []map[string]any
	more   chan struct{}
	ended  chan struct{}
}

// start runs peermesh on a host.
func (n *network) start(host string, stdin string, args ...string) *process {
	n.t.Helper()
	args = append([]string{"exec", host, n.bin}, append(args, "--json", "--mesh", n.mesh, "--name", host)...)
	p := &process{cmd: n.command(args...), more: make(chan struct{}, 1), ended: make(chan struct{})}
	p.cmd.Stdin = strings.NewReader(stdin)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			var e map[string]any
			if json.Unmarshal(s.Bytes(), &e) == nil {
				p.mu.Lock()
				p.events = append(p.events, e)
				p.mu.Unlock()
				select {
				case p.more <- struct{}{}:
				default: // whoever waits will look anyway
				}
			}
		}
	}()
	n.t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		p.cmd.Wait()
	})
	return p
}

// await returns the events so far once ok holds for them.
func (n *network) await(p *process, what string, d time.Duration, ok func([]map[string]any) bool) []map[string]any {
	n.t.Helper()
	late := time.After(d)
	for {
		p.mu.Lock()
		events := slices.Clone(p.events)
		p.mu.Unlock()
		if ok(events) {
			return events
		}
		select {
		case <-p.more:
		case <-p.ended:
			p.mu.Lock()
			events = slices.Clone(p.events)
			p.mu.Unlock()
			if ok(events) {
				return events
			}
			n.t.Fatalf("ended before: %s; events: %v", what, events)
		case <-late:
			n.t.Fatalf("not in %v: %s; %d events, last %v", d, what, len(events), events[max(0, len(events)-3):])
		}
	}
}

func of(events []map[string]any, kind string) (out []map[string]any) {
	for _, e := range events {
		if e["event"] == kind {
			out = append(out, e)
		}
	}
	return out
}

func at(e map[string]any) time.Duration { return time.Duration(e["t"].(float64)) }

// By mDNS alone every node sees every other one up within 3 s of the last ready.
func TestLabFiveHostsFindEachOther(t *testing.T) {
	n := newNetwork(t, "five", "5")
	var all []*process
	for i := range 5 {
		all = append(all, n.start(fmt.Sprintf("h%d", i+1), "", "pull", "work"))
	}
	up := func(events []map[string]any) map[string]time.Duration {
		first := map[string]time.Duration{}
		for _, e := range of(events, "peer") {
			if _, seen := first[e["id"].(string)]; !seen && e["state"] == "up" {
				first[e["id"].(string)] = at(e)
			}
		}
		return first
	}
	var ready, last time.Duration
	for i, p := range all {
		events := n.await(p, "4 peers up", 20*time.Second, func(e []map[string]any) bool { return len(up(e)) == 4 })
		r := at(of(events, "ready")[0])
		ready = max(ready, r)
		for _, when := range up(events) {
			last = max(last, when)
		}
		t.Logf("h%d ready at %v", i+1, r)
	}
	t.Logf("everyone up %v after the last ready", last-ready)
	if last-ready > 3*time.Second {
		t.Errorf("everyone up %v after the last ready, want at most 3 s", last-ready)
	}
}

// A killed puller's unacknowledged work is with the others within 15 s of the kill,
// none lost, each second delivery flagged.
func TestLabKilledPullersWorkGoesToTheOthers(t *testing.T) {
	n := newNetwork(t, "killed", "4")
	pullers := map[string]*process{}
	for _, h := range []string{"h2", "h3", "h4"} {
		pullers[h] = n.start(h, "", "pull", "work", "--work", "20ms", "--prefetch", "64")
	}
	const total = 1500
	push := n.start("h1", "", "push", "work", "--min-pullers", "3", "--count", fmt.Sprint(total), "--size", "100")
	victim := pullers["h2"]
	n.await(victim, "100 messages done", 30*time.Second, func(e []map[string]any) bool { return len(of(e, "done")) >= 100 })
	if err := victim.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-victim.ended
	var killed time.Duration // its last word: the kill came right after
	for _, e := range victim.events {
		killed = max(killed, at(e))
	}
	events := n.await(push, "summary", 60*time.Second, func(e []map[string]any) bool { return len(of(e, "summary")) == 1 })
	if got := len(of(events, "settled")); got != total {
		t.Errorf("%d messages settled, want %d", got, total)
	}
	type key struct{ stream, seq any }
	first, plain := map[key]time.Duration{}, map[key]int{}
	deliveries, again := 0, 0
	var lastAgain time.Duration
	for _, p := range pullers {
		p.mu.Lock()
		for _, e := range of(p.events, "deliver") {
			k := key{e["stream"], e["seq"]}
			deliveries++
			if e["redelivered"] != true {
				plain[k]++
			}
			if p == victim {
				first[k] = at(e)
			}
		}
		p.mu.Unlock()
	}
	for h, p := range pullers {
		if p == victim {
			continue
		}
		p.mu.Lock()
		for _, e := range of(p.events, "deliver") {
			k := key{e["stream"], e["seq"]}
			if _, was := first[k]; !was {
				continue
			}
			again++
			lastAgain = max(lastAgain, at(e))
			if e["redelivered"] != true {
				t.Errorf("%s: second delivery of seq %v is not flagged", h, e["seq"])
			}
		}
		p.mu.Unlock()
	}
	for k, c := range plain {
		if c > 1 {
			t.Errorf("seq %v delivered %d times without the flag", k.seq, c)
		}
	}
	t.Logf("%d deliveries of %d messages, %d of the victim's again, the last %v after the kill", deliveries, total, again, lastAgain-killed)
	if again > 0 && lastAgain-killed > 15*time.Second {
		t.Errorf("the victim's work was with the others %v after the kill, want at most 15 s", lastAgain-killed)
	}
}
