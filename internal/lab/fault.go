//go:build linux

package main

import (
	"cmp"
	"flag"
	"io"
	"maps"
	"slices"
	"strings"
)

// breakLinks handles partition, heal and impair: it edits l.Links and then brings the relay in line with them.
func (l *Lab) breakLinks(cmd string, args []string) error {
	if err := l.editLinks(cmd, args); err != nil {
		return err
	}
	return l.apply()
}

// editLinks notes in l.Links what partition, heal or impair was asked to do.
func (l *Lab) editLinks(cmd string, args []string) error {
	if cmd == "heal" && len(args) == 0 {
		for _, link := range l.Links {
			link.Cut = false
		}
		return nil
	}
	if cmd == "impair" && len(args) == 1 && args[0] == "clear" {
		for _, link := range l.Links {
			link.Spec = Spec{}
		}
		return nil
	}
	if len(args) < 2 {
		return usagef("%s: want two hosts; try: lab help", cmd)
	}
	rest := args[2:]
	cleared := cmd == "impair" && len(rest) > 0 && rest[0] == "clear"
	if cleared {
		rest = rest[1:]
	}
	var spec Spec
	flags := flag.NewFlagSet(cmd, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it
	oneway := flags.Bool("oneway", false, "only from A to B")
	parse := flags.Parse
	if cmd == "impair" && !cleared {
		parse = func(args []string) error { return spec.parse(flags, args) }
	}
	if err := parse(rest); err != nil {
		return usagef("%s: %v", cmd, err)
	}
	if flags.NArg() > 0 {
		return usagef("%s: unexpected %q", cmd, flags.Arg(0))
	}
	directions, err := l.directions(args[0], args[1], *oneway)
	if err != nil {
		return usagef("%s: %v", cmd, err)
	}
	for _, d := range directions {
		link := l.linkTo(d.from, d.to)
		switch cmd {
		case "partition":
			link.Cut = true
		case "heal":
			link.Cut = false
		case "impair":
			link.Spec = spec // zero when cleared
		}
	}
	return nil
}

type direction struct{ from, to string }

// directions lists what lies between two sides, each a host, a list of them, or all.
func (l *Lab) directions(a, b string, oneway bool) ([]direction, error) {
	as, err := l.hosts(a)
	if err != nil {
		return nil, err
	}
	bs, err := l.hosts(b)
	if err != nil {
		return nil, err
	}
	switch {
	case a == everyone && b == everyone: // each packet once, as it is sent
		oneway, as = true, nil
		for _, h := range l.Hosts {
			as = append(as, h.Name)
		}
	case a == everyone && b == routerName, a == routerName && b == everyone:
		return nil, usagef("name the hosts, not all, with the router")
	}
	var ds []direction
	for _, x := range as {
		for _, y := range bs {
			if x == y {
				return nil, usagef("%s on both sides", x)
			}
			ds = append(ds, direction{x, y})
			if !oneway {
				ds = append(ds, direction{y, x})
			}
		}
	}
	return ds, nil
}

// A Rule applies a link's faults to the frames that it matches: those that the host sends (Out) or is about
// to get, to or from the given peer. With no MAC and no IPs it matches every frame.
type Rule struct {
	Key  string // of the link, "h1>h2"
	Out  bool
	MAC  string
	IPs  []string
	Cut  bool
	Spec Spec
}

// rules says which faults are made at which host. The first rule that matches a frame counts, so those for
// one peer come before those for all. Links without faults are forgotten.
func (l *Lab) rules() (map[string][]Rule, error) {
	maps.DeleteFunc(l.Links, func(_ string, link *Link) bool { return *link == Link{} })
	keys := slices.SortedFunc(maps.Keys(l.Links), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	at := map[string][]Rule{}
	for _, key := range keys {
		host, r, err := l.rule(key)
		if err != nil {
			return nil, err
		}
		at[host] = append(at[host], r)
	}
	return at, nil
}

func rank(key string) int {
	if strings.Contains(key, everyone) {
		return 1
	}
	return 0
}

// rule says at which host the faults of a link are made, and on what. In one subnet that is at the receiver,
// by the sender's hardware address, which covers multicast. Between subnets it is at the sender, by address,
// unless the receiver's address is hidden by NAT.
func (l *Lab) rule(key string) (at string, r Rule, err error) {
	from, to, _ := strings.Cut(key, ">")
	r = Rule{Key: key, Cut: l.Links[key].Cut, Spec: l.Links[key].Spec}
	if to == everyone {
		r.Out = true
		return from, r, nil
	}
	if from == everyone {
		return to, r, nil
	}
	x, err := l.host(from)
	if err != nil {
		return "", r, err
	}
	y, err := l.host(to)
	if err != nil {
		return "", r, err
	}
	switch {
	case from == routerName:
		r.MAC = mac(y.Subnet, routerLast)
		return to, r, nil
	case to == routerName:
		r.Out, r.MAC = true, mac(x.Subnet, routerLast)
		return from, r, nil
	case x.Subnet == y.Subnet:
		r.MAC = x.mac()
		return to, r, nil
	case l.Subnets[y.Subnet-1].NAT:
		r.IPs = []string{x.ip4(), x.ip6()}
		return to, r, nil
	}
	r.Out, r.IPs = true, []string{y.ip4(), y.ip6()}
	return from, r, nil
}
