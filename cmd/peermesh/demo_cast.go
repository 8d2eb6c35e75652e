package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// demoCast is who plays in the demo.
//
//	office   sends, publishes and asks
//	anna     works, answers, and subscribes to *.temp
//	ben      works, answers, and subscribes to basel.>
//	carl     works and answers, in a process of its own, until he is killed
//	dora     reads letters, and is away for a while
//	erik     with --dir: sends parcels to anna, in a process of its own, until he is killed
type demoCast struct {
	app  *app
	mesh string // the credential of a mesh made for this run
	mdns bool   // how they look for each other
	tell func(entry)

	office          *node.Node
	jobs, letters   *patterns.Push
	weather, ticks  *patterns.Pub
	price, book     *patterns.Req
	anna, ben, dora *crew
	carl            *child
}

// The subscriptions.
const (
	annaWants = "*.temp"
	benWants  = "basel.>"
)

// whoIsKilled is the member of the crew that ends half-way.
const whoIsKilled = "carl"

const (
	// mdnsPatience is how long the nodes may take to find each other by mDNS. Where it
	// works it takes them a second.
	mdnsPatience = 5 * time.Second
	// loopbackPatience is how long they may take when they know where to look.
	loopbackPatience = 15 * time.Second
)

// errNotMet is that not all nodes have found each other in time.
var errNotMet = errors.New("not all nodes have found each other")

// assemble opens all nodes and waits until they have found each other: by mDNS, or
// where that does not work by being told the office's address.
func assemble(ctx context.Context, a *app, tell func(entry)) (*demoCast, error) {
	mesh, err := identity.NewMesh(time.Now())
	if err != nil {
		return nil, err
	}
	pem, err := mesh.Marshal()
	if err != nil {
		return nil, err
	}
	if !a.global.noMDNS {
		c, err := (&demoCast{app: a, mesh: string(pem), mdns: true, tell: tell}).open(ctx, mdnsPatience)
		if !errors.Is(err, errNotMet) {
			return c, err
		}
		a.note("by mDNS within %v: %s; so they are told where to look", mdnsPatience, oneLine(err.Error()))
	}
	return (&demoCast{app: a, mesh: string(pem), tell: tell}).open(ctx, loopbackPatience)
}

// open opens everything, or nothing.
func (c *demoCast) open(ctx context.Context, patience time.Duration) (*demoCast, error) {
	met, cancel := context.WithTimeoutCause(ctx, patience, errNotMet)
	defer cancel()
	err := c.openOffice(met)
	if err == nil {
		err = c.openCrew(met)
	}
	if err == nil {
		err = c.meet(met)
	}
	if err != nil {
		return nil, errors.Join(c.reason(err), c.close())
	}
	return c, nil
}

// reason says what stands in the way of discovery, if that is what failed.
func (c *demoCast) reason(err error) error {
	if !errors.Is(err, errNotMet) || c.office == nil {
		return err
	}
	for _, p := range c.office.Problems() {
		err = fmt.Errorf("%w (%s: %w)", err, strings.TrimSpace(p.Source+" "+p.Interface), p.Err)
	}
	return err
}

// errUnfinished is a directory that would bring its own messages into the play.
var errUnfinished = usagef("--dir holds messages of a demo that was cut short; give another one")

// durable reports whether there are directories to keep messages in.
func (c *demoCast) durable() bool { return c.app.global.dir != "" }

// role is that of a member of this name.
func (c *demoCast) role(name string) crewRole {
	r := crewRole{Name: name, Mesh: c.mesh, MDNS: c.mdns}
	if c.app.global.dir != "" {
		r.Dir, r.SpoolKey = filepath.Join(c.app.global.dir, name), c.app.global.spoolKey
	}
	if !c.mdns && c.office != nil {
		r.Peers = []string{c.office.Addr().String()}
	}
	return r
}

func (c *demoCast) openOffice(ctx context.Context) (err error) {
	if c.office, err = node.Open(ctx, c.role("office").config(c.app)); err != nil {
		return err
	}
	n := c.office
	if c.jobs, err = n.Push(demoJobs); err != nil { // durable with --dir
		return err
	}
	if left := c.jobs.Stats().Ledger.Carried; left > 0 {
		return errUnfinished
	}
	if c.letters, err = n.Push(demoLetters, patterns.Durability(socket.Memory)); err != nil {
		return err
	}
	if c.weather, err = n.Pub(demoWeather, patterns.Durability(socket.Memory)); err != nil {
		return err
	}
	if c.ticks, err = n.Pub(demoTicks, patterns.Durability(socket.BestEffort)); err != nil {
		return err
	}
	if c.price, err = n.Req(demoPrice, patterns.Executed(patterns.Idempotent)); err != nil {
		return err
	}
	c.book, err = n.Req(demoBook, patterns.Executed(patterns.Once))
	return err
}

func (c *demoCast) openCrew(ctx context.Context) (err error) {
	if c.carl, err = c.app.startChild(ctx, c.role(whoIsKilled), c.tell); err != nil {
		return err
	}
	if c.anna, err = openCrew(ctx, c.app, c.role("anna"), c.tell); err != nil {
		return err
	}
	if c.ben, err = openCrew(ctx, c.app, c.role("ben"), c.tell); err != nil {
		return err
	}
	err = errors.Join(c.anna.serve(), c.anna.subscribe(demoWeather, annaWants), c.anna.subscribe(demoTicks),
		c.ben.serve(), c.ben.subscribe(demoWeather, benWants))
	if err == nil && c.durable() {
		err = c.anna.pull(demoParcels, 2, demoWork, patterns.Prefetch(8))
	}
	if err != nil {
		return err
	}
	return c.openDora(ctx)
}

// openDora lets dora come, for the first time or again.
func (c *demoCast) openDora(ctx context.Context) (err error) {
	if c.dora, err = openCrew(ctx, c.app, c.role("dora"), c.tell); err != nil {
		return err
	}
	return c.dora.pull(demoLetters, 1, 0)
}

// meet waits until everybody is there.
func (c *demoCast) meet(ctx context.Context) error {
	for _, wait := range []func() error{
		func() error { return c.jobs.WaitReady(ctx, 3) },
		func() error { return c.price.WaitReady(ctx, 3) },
		func() error { return c.book.WaitReady(ctx, 3) },
		func() error { return c.letters.WaitReady(ctx, 1) },
		func() error { return c.weather.WaitMatching(ctx, "basel.temp", 2) }, // which both want
		func() error { return c.ticks.WaitReady(ctx, 1) },
	} {
		if err := wait(); err != nil {
			return err
		}
	}
	return nil
}

// ready describes every node.
func (c *demoCast) ready() []readyEvent {
	return []readyEvent{*readyOf(c.office), *c.anna.ready(), *c.ben.ready(), c.carl.ready, *c.dora.ready()}
}

// leave ends all in good order: what is owed is settled first. carl is gone.
func (c *demoCast) leave(ctx context.Context) error {
	err := c.office.Shutdown(ctx)
	for _, m := range []*crew{c.anna, c.ben, c.dora} {
		err = errors.Join(err, m.leave(ctx))
	}
	return err
}

// close ends whatever is open, now.
func (c *demoCast) close() error {
	var err error
	if c.carl != nil {
		err = c.carl.leave()
	}
	for _, m := range []*crew{c.anna, c.ben, c.dora} {
		if m != nil {
			err = errors.Join(err, m.close())
		}
	}
	if c.office != nil {
		err = errors.Join(err, c.office.Close())
	}
	return err
}
