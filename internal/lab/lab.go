//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Lab is what the state file holds. Its namespaces are NAME-h1, NAME-h2, ..., NAME-router, and NAME-sw,
// which holds one bridge (br1, br2, ...) a subnet and the other end of every cable (h1, h2, ..., router1, ...).
// Nothing is made in the namespace that the lab is run from.
type Lab struct {
	Name    string
	Subnets []Subnet
	Hosts   []*Host
	Links   map[string]*Link // by "h1>h2", "h1>all" or "all>h1"
}

// A Subnet is one bridge. Its number, from 1, is its place in the list and the third part of its addresses.
type Subnet struct {
	NAT bool // behind the router's NAT
}

// A Host is one namespace with a cable to the bridge of its subnet.
type Host struct {
	Name     string
	Subnet   int   // from 1
	Last     int   // last part of the addresses
	Inlined  bool  // the cable leads to the relay, not to the bridge
	Attached []int // subnets of eth1, eth2, ...
}

// A Link is one direction between two hosts, with its faults.
type Link struct {
	Cut  bool
	Spec Spec
}

func (k *Link) String() string {
	if k.Cut {
		return "cut"
	}
	return k.Spec.String()
}

const (
	maxHosts    = 120 // so that N and N+120 are both good last parts of an address, below the router's
	maxSubnets  = 9
	routerLast  = 254
	routerName  = "router"
	everyone    = "all"
	otherOffset = 120 // change-address switches between N and N+120
)

func (h *Host) ip4() string { return fmt.Sprintf("10.77.%d.%d", h.Subnet, h.Last) }
func (h *Host) ip6() string { return fmt.Sprintf("fd77::%d:%d", h.Subnet, h.Last) }

// number is N of the host hN. Hardware and link-local address are made of it, and so never change.
func (h *Host) number() int {
	if h.Name == routerName {
		return routerLast
	}
	n, err := strconv.Atoi(h.Name[1:])
	if err != nil {
		panic("lab: a host named " + h.Name)
	}
	return n
}

func (h *Host) mac() string       { return mac(h.Subnet, h.number()) }
func (h *Host) linkLocal() string { return fmt.Sprintf("fe80::77:ff:fe00:%x", h.Subnet<<8|h.number()) }

func mac(subnet, number int) string { return fmt.Sprintf("02:77:00:00:%02x:%02x", subnet, number) }

// namespace is where a host lives; the switch is the namespace of the bridges.
func (l *Lab) namespace(host string) string { return l.Name + "-" + host }
func (l *Lab) switchboard() string          { return l.Name + "-sw" }

func (l *Lab) host(name string) (*Host, error) {
	if name == routerName {
		return &Host{Name: routerName, Subnet: 1, Last: routerLast}, nil
	}
	for _, h := range l.Hosts {
		if h.Name == name {
			return h, nil
		}
	}
	return nil, usagef("no host %q (there are h1 to h%d and router)", name, len(l.Hosts))
}

// hosts checks the names in "h1", "h1,h2" or "all". It leaves "all" as it is.
func (l *Lab) hosts(list string) ([]string, error) {
	if list == everyone {
		return []string{everyone}, nil
	}
	names := strings.Split(list, ",")
	for _, n := range names {
		if _, err := l.host(n); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// linkTo is the link of one direction, made if there is none yet.
func (l *Lab) linkTo(from, to string) *Link {
	key := from + ">" + to
	if l.Links[key] == nil {
		l.Links[key] = &Link{}
	}
	return l.Links[key]
}

const stateRoot = "/run/peermesh-lab"

func stateDir(name string) string { return filepath.Join(stateRoot, name) }

// lock waits until no other command works on the lab of that name.
func lock(name string) (unlock func(), err error) {
	if err := os.MkdirAll(stateRoot, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(stateDir(name)+".lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { _ = f.Close() }, nil // nothing was written to it
}

func load(name string) (*Lab, error) {
	b, err := os.ReadFile(filepath.Join(stateDir(name), "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no lab %q; make one with: lab up N", name)
	}
	if err != nil {
		return nil, err
	}
	l := &Lab{Links: map[string]*Link{}}
	return l, json.Unmarshal(b, l)
}

// save replaces the state file in one step, so that a killed command leaves the old one.
func (l *Lab) save() error {
	b, err := json.MarshalIndent(l, "", " ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(stateDir(l.Name), "state.tmp")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(stateDir(l.Name), "state.json"))
}
