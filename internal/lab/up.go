//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// design reads what "lab up" was asked for, such as "3,2,nat:2".
func design(name, spec string) (*Lab, error) {
	l := &Lab{Name: name, Links: map[string]*Link{}}
	for item := range strings.SplitSeq(spec, ",") {
		count, nat := strings.CutPrefix(item, "nat:")
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 || n > maxHosts {
			return nil, usagef("up: %q: want a number of hosts up to %d, or nat:NUMBER", item, maxHosts)
		}
		l.Subnets = append(l.Subnets, Subnet{NAT: nat})
		for range n {
			i := len(l.Hosts) + 1
			l.Hosts = append(l.Hosts, &Host{Name: fmt.Sprintf("h%d", i), Subnet: len(l.Subnets), Last: i})
		}
		if len(l.Hosts) > maxHosts || len(l.Subnets) > maxSubnets {
			return nil, usagef("up: at most %d hosts and %d subnets", maxHosts, maxSubnets)
		}
	}
	if l.Subnets[0].NAT {
		return nil, usagef("up: the first subnet is the outside and cannot be nat")
	}
	return l, nil
}

// up makes a lab. One of that name that exists goes first, so up twice gives a fresh lab.
func up(name, spec string) (err error) {
	l, err := design(name, spec)
	if err != nil {
		return err
	}
	if err := down(name); err != nil {
		return err
	}
	if err := os.MkdirAll(stateDir(name), 0o755); err != nil {
		return err
	}
	if err := l.save(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, down(name))
		}
	}()
	if err := growNeighbourTables(len(l.Hosts)); err != nil {
		fmt.Fprintln(os.Stderr, "lab: the kernel's neighbour tables stay small, hosts may lose sight of each other:", err)
	}
	if err := l.buildSwitch(); err != nil {
		return err
	}
	if err := l.buildRouter(); err != nil {
		return err
	}
	return l.buildHosts()
}

// growNeighbourTables makes room for hosts that all know each other. The tables are shared by all namespaces
// and hold 1024 entries by default: too few for 30 hosts.
func growNeighbourTables(hosts int) error {
	want := 4 * hosts * hosts
	if want <= 1024 {
		return nil
	}
	for _, version := range []string{"ipv4", "ipv6"} {
		for _, limit := range []string{"gc_thresh3", "gc_thresh2"} { // the hard one first: it bounds the other
			file := "/proc/sys/net/" + version + "/neigh/default/" + limit
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if have, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && have >= want {
				continue
			}
			if err := os.WriteFile(file, []byte(strconv.Itoa(want)), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	noIPv6  = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6\n"
	noDAD   = "for i in all default; do echo 0 >/proc/sys/net/ipv6/conf/$i/accept_dad; done\n"
	forward = "echo 1 >/proc/sys/net/ipv4/ip_forward\necho 1 >/proc/sys/net/ipv6/conf/all/forwarding\n"
)

func (l *Lab) buildSwitch() error {
	if err := ip("netns", "add", l.switchboard()); err != nil {
		return skipError{"no network namespaces: " + err.Error()}
	}
	var batch strings.Builder
	for i := range l.Subnets {
		fmt.Fprintf(&batch, "link add br%d type bridge forward_delay 0 stp_state 0 mcast_snooping 0\nlink set br%d up\n", i+1, i+1)
	}
	if err := script(l.switchboard(), noIPv6, batch.String()); err != nil {
		return skipError{"cannot make bridges: " + err.Error()}
	}
	return nil
}

func (l *Lab) buildRouter() error {
	router := l.namespace(routerName)
	if err := ip("netns", "add", router); err != nil {
		return err
	}
	var inside, plugs strings.Builder
	var hidden []int
	inside.WriteString("link set lo up\n")
	for i, s := range l.Subnets {
		n := i + 1
		inside.WriteString(l.cable(fmt.Sprintf("eth%d", i), fmt.Sprintf("router%d", n), mac(n, routerLast)))
		fmt.Fprintf(&inside, "addr add 10.77.%d.%d/24 brd + dev eth%d\n", n, routerLast, i)
		fmt.Fprintf(&inside, "addr add fd77::%d:%d/112 dev eth%d nodad\n", n, routerLast, i)
		fmt.Fprintf(&plugs, "link set router%d master br%d up\n", n, n)
		if s.NAT {
			hidden = append(hidden, i)
		}
	}
	if err := script(router, noDAD+forward, inside.String()); err != nil {
		return err
	}
	if err := script(l.switchboard(), "", plugs.String()); err != nil {
		return err
	}
	if len(hidden) == 0 {
		return nil
	}
	return hideSubnets(router, hidden)
}

func (l *Lab) buildHosts() error {
	var plugs strings.Builder
	for _, h := range l.Hosts {
		if err := ip("netns", "add", l.namespace(h.Name)); err != nil {
			return err
		}
		inside := "link set lo up\n" + l.cable("eth0", h.Name, h.mac()) + h.addresses("add") + h.routes("add")
		if err := script(l.namespace(h.Name), noDAD, inside); err != nil {
			return err
		}
		fmt.Fprintf(&plugs, "link set %s master br%d up\n", h.Name, h.Subnet)
	}
	return script(l.switchboard(), "", plugs.String())
}

// cable lays a cable from an interface of the namespace that the lines run in to a port of the switch.
func (l *Lab) cable(dev, port, hw string) string {
	return fmt.Sprintf("link add %s address %s type veth peer name %s netns %s\nlink set %s up\n", dev, hw, port, l.switchboard(), dev)
}

func (h *Host) addresses(verb string) string {
	nodad := ""
	if verb == "add" {
		nodad = " nodad"
	}
	return fmt.Sprintf("addr %s %s/24 brd + dev eth0\naddr %s %s/112 dev eth0%s\n", verb, h.ip4(), verb, h.ip6(), nodad)
}

func (h *Host) routes(verb string) string {
	return fmt.Sprintf("route %s default via 10.77.%d.%d\nroute %s default via fd77::%d:%d\n",
		verb, h.Subnet, routerLast, verb, h.Subnet, routerLast)
}

// down removes whatever there is of the lab, also after a crash half-way.
func down(name string) error {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return fmt.Errorf("ip netns list: %w", err)
	}
	spaces := ownNamespaces(name, string(out))
	endProcesses(spaces)
	for _, ns := range spaces {
		if err := ip("netns", "del", ns); err != nil {
			return err
		}
	}
	return os.RemoveAll(stateDir(name))
}

// ownNamespaces picks the lab's namespaces from what ip netns list prints.
func ownNamespaces(name, list string) []string {
	var own []string
	for line := range strings.Lines(list) {
		ns, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest, ours := strings.CutPrefix(ns, name+"-")
		if ours && (rest == "sw" || rest == routerName || isHostName(rest)) {
			own = append(own, ns)
		}
	}
	return own
}

func isHostName(s string) bool {
	digits, ok := strings.CutPrefix(s, "h")
	n, err := strconv.Atoi(digits)
	return ok && err == nil && n >= 1
}

// endProcesses ends what runs in the namespaces, the relay included: asked first, killed if that takes
// longer than half a second.
func endProcesses(spaces []string) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if !signalAll(spaces, sig) {
			return
		}
		for range 20 {
			time.Sleep(25 * time.Millisecond)
			if !signalAll(spaces, 0) {
				return
			}
		}
	}
}

// signalAll signals the processes in the namespaces; it reports whether there were any.
func signalAll(spaces []string, sig syscall.Signal) (found bool) {
	for _, ns := range spaces {
		out, err := exec.Command("ip", "netns", "pids", ns).Output()
		if err != nil {
			continue // a namespace that was never finished holds no process
		}
		for _, p := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(p); err == nil && pid != os.Getpid() {
				found = true
				_ = syscall.Kill(pid, sig) // one that is gone meanwhile is what we want
			}
		}
	}
	return found
}
