//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A request to the relay process: what it should do from now on, or with Set false, nothing. It answers
// either with its counters, so a request that sets nothing also asks whether it is there.
type request struct {
	Set   bool
	Ports map[string][]Rule // by host
}

type reply struct {
	Err   string
	Stats map[string]Stats // by the key of the link
}

// apply brings the relay in line with l.Links: it is plugged into the cables that have faults and taken out
// of the others. Then the lab's state is saved.
func (l *Lab) apply() error {
	ports, err := l.rules()
	if err != nil {
		return err
	}
	plug, unplug, err := l.replug(ports)
	if err != nil {
		return err
	}
	if plug != "" {
		if err := script(l.switchboard(), "", plug); err != nil {
			return err
		}
		if err := l.startRelay(); err != nil {
			return err
		}
	}
	// A relay that is gone is missed only if it is still needed.
	if _, err := l.ask(request{Set: true, Ports: ports}); err != nil && len(ports) > 0 {
		return fmt.Errorf("the relay does not answer (lab down, then up): %w", err)
	}
	if unplug != "" {
		if err := script(l.switchboard(), "", unplug); err != nil {
			return err
		}
	}
	return l.save()
}

// replug notes which hosts change over to the relay and which back to their bridge, and returns the lines for
// ip at the switch that do so: plug before the relay is told, unplug after.
func (l *Lab) replug(ports map[string][]Rule) (plug, unplug string, err error) {
	var in, out strings.Builder
	for _, h := range l.Hosts {
		inline := len(ports[h.Name]) > 0
		if inline == h.Inlined {
			continue
		}
		h.Inlined = inline
		segments := "65535"
		if inline {
			segments = "1" // frames must reach the relay as they would be on a wire
			fmt.Fprintf(&in, "link add r.%[1]s type veth peer name q.%[1]s\nlink set q.%[1]s gso_max_segs 1 master br%[2]d up\nlink set r.%[1]s up\nlink set %[1]s nomaster\n", h.Name, h.Subnet)
		} else {
			fmt.Fprintf(&out, "link del r.%[1]s\nlink set %[1]s master br%[2]d\n", h.Name, h.Subnet)
		}
		if err := ip("-n", l.namespace(h.Name), "link", "set", "eth0", "gso_max_segs", segments); err != nil {
			return "", "", err
		}
	}
	return in.String(), out.String(), nil
}

func (l *Lab) socket() string { return filepath.Join(stateDir(l.Name), "relay.sock") }

// startRelay starts the relay process in the switch's namespace, if it does not run yet, and waits until it
// answers. The process outlives this command; lab down ends it with everything else in that namespace.
func (l *Lab) startRelay() error {
	if _, err := l.ask(request{}); err == nil {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(stateDir(l.Name), "relay.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("ip", "netns", "exec", l.switchboard(), self, "relay", l.socket())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	for range 200 {
		if _, err := l.ask(request{}); err == nil {
			return cmd.Process.Release()
		}
		time.Sleep(10 * time.Millisecond)
	}
	said, err := os.ReadFile(log.Name())
	return errors.Join(fmt.Errorf("the relay did not start: %s", bytes.TrimSpace(said)), err)
}

// ask sends the relay a request and returns its counters.
func (l *Lab) ask(req request) (map[string]Stats, error) {
	c, err := net.Dial("unix", l.socket())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(c).Encode(req); err != nil {
		return nil, err
	}
	var answer reply
	if err := json.NewDecoder(c).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Err != "" {
		return nil, fmt.Errorf("relay: %s", answer.Err)
	}
	return answer.Stats, nil
}

// askTimeout bounds a request on either side: it is answered at once or never.
const askTimeout = 5 * time.Second

// relayMain is the relay process. It serves one request after another, until it is killed.
func relayMain(socket string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		return err
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	r := &relay{ports: map[string]*port{}}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		if err := r.serve(c); err != nil {
			fmt.Fprintln(os.Stderr, "lab relay:", err)
		}
	}
}

// A relay is the ports that have faults. Only relayMain's goroutine touches it.
type relay struct {
	ports map[string]*port // by host
}

// serve answers one request.
func (r *relay) serve(c net.Conn) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return err
	}
	var req request
	if err := json.NewDecoder(c).Decode(&req); err != nil {
		return err
	}
	answer := reply{Stats: map[string]Stats{}}
	if req.Set {
		if err := r.set(req.Ports); err != nil {
			answer.Err = err.Error()
		}
	}
	for _, p := range r.ports {
		for _, a := range *p.rules.Load() {
			answer.Stats[a.Key] = a.shaper.stats()
		}
	}
	return json.NewEncoder(c).Encode(answer)
}

// set puts the ports in line with what is wanted.
func (r *relay) set(wanted map[string][]Rule) error {
	for host, p := range r.ports {
		if len(wanted[host]) == 0 {
			p.close()
			delete(r.ports, host)
		}
	}
	for host, rules := range wanted {
		p := r.ports[host]
		if p == nil {
			var err error
			if p, err = openPort(host); err != nil {
				return err
			}
			r.ports[host] = p
		}
		if err := p.follow(rules); err != nil {
			return err
		}
	}
	return nil
}
