//go:build linux

package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
)

// exec becomes a command on a host. It returns only if that is impossible.
func (l *Lab) exec(args []string) error {
	if _, err := l.host(args[0]); err != nil {
		return err
	}
	path, err := exec.LookPath("ip")
	if err != nil {
		return err
	}
	argv := append([]string{"ip", "netns", "exec", l.namespace(args[0])}, args[1:]...)
	return syscall.Exec(path, argv, os.Environ())
}

// link pulls or plugs a host's cable.
func (l *Lab) link(args []string) error {
	name, state := args[0], args[1]
	h, err := l.host(name)
	if err != nil {
		return err
	}
	admin := len(args) > 2 && args[2] == "--admin"
	if name == routerName || state != "down" && state != "up" || len(args) > 2 && !admin {
		return usagef("link: want a host other than the router, down or up, and at most --admin")
	}
	if !admin {
		return ip("-n", l.switchboard(), "link", "set", h.Name, state)
	}
	if err := ip("-n", l.namespace(name), "link", "set", "eth0", state); err != nil {
		return err
	}
	if state == "down" {
		return nil
	}
	// Going down, the kernel dropped these.
	lost := fmt.Sprintf("addr replace %s/112 dev eth0 nodad\n", h.ip6()) + h.routes("replace")
	return script(l.namespace(name), "", lost)
}

// changeAddress moves a host to its other addresses, and prints them.
func (l *Lab) changeAddress(args []string) error {
	h, err := l.host(args[0])
	if err != nil {
		return err
	}
	if h.Name == routerName {
		return usagef("change-address: not for the router")
	}
	batch := h.addresses("del")
	if h.Last > otherOffset {
		h.Last -= otherOffset
	} else {
		h.Last += otherOffset
	}
	batch += h.addresses("add") + h.routes("replace")
	if err := script(l.namespace(h.Name), "", batch); err != nil {
		return err
	}
	fmt.Println(h.ip4(), h.ip6())
	return l.apply() // links to other subnets are known by address
}

// attach gives a host one more interface, in another subnet.
func (l *Lab) attach(args []string) error {
	h, err := l.host(args[0])
	if err != nil {
		return err
	}
	s, err := strconv.Atoi(args[1])
	if err != nil || s < 1 || s > len(l.Subnets) || h.Name == routerName {
		return usagef("attach: want a host other than the router, and a subnet from 1 to %d", len(l.Subnets))
	}
	// The host's number is free for it in every subnet but those that it is in.
	if s == h.Subnet || slices.Contains(h.Attached, s) {
		return usagef("attach: %s is in subnet %d already", h.Name, s)
	}
	h.Attached = append(h.Attached, s)
	n, number := len(h.Attached), h.number()
	dev, port := fmt.Sprintf("eth%d", n), fmt.Sprintf("%s.%d", h.Name, n)
	inside := l.cable(dev, port, mac(s, number)) +
		fmt.Sprintf("addr add 10.77.%d.%d/24 brd + dev %s\naddr add fd77::%d:%d/112 dev %s nodad\n", s, number, dev, s, number, dev)
	if err := script(l.namespace(h.Name), "", inside); err != nil {
		return err
	}
	if err := ip("-n", l.switchboard(), "link", "set", port, "master", fmt.Sprintf("br%d", s), "up"); err != nil {
		return err
	}
	return l.save()
}

func (l *Lab) printNamespace(args []string) error {
	if _, err := l.host(args[0]); err != nil {
		return err
	}
	fmt.Println(l.namespace(args[0]))
	return nil
}

func (l *Lab) printAddress(args []string) error {
	h, err := l.host(args[0])
	if err != nil {
		return err
	}
	kind := "4"
	if len(args) > 1 {
		kind = args[1]
	}
	switch kind {
	case "4":
		fmt.Println(h.ip4())
	case "6":
		fmt.Println(h.ip6())
	case "ll":
		fmt.Println(h.linkLocal())
	default:
		return usagef("addr: want 4, 6 or ll, not %q", kind)
	}
	return nil
}

func (l *Lab) list([]string) error {
	for _, h := range l.Hosts {
		nat := ""
		if l.Subnets[h.Subnet-1].NAT {
			nat = " nat"
		}
		fmt.Printf("%-4s %-12s subnet%d %-12s %-14s %s%s\n", h.Name, l.namespace(h.Name), h.Subnet, h.ip4(), h.ip6(),
			h.linkLocal(), nat)
	}
	for _, key := range slices.Sorted(maps.Keys(l.Links)) {
		fmt.Printf("%s: %s\n", key, l.Links[key])
	}
	return nil
}

func (l *Lab) printStats([]string) error {
	if !slices.ContainsFunc(l.Hosts, func(h *Host) bool { return h.Inlined }) {
		return nil // no faults, no relay, nothing counted
	}
	stats, err := l.ask(request{})
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(stats)) {
		fmt.Printf("%-10s %s\n", key, stats[key])
	}
	return nil
}
