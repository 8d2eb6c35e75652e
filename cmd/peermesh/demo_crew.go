package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// The queues, channels and services of the demo.
const (
	demoJobs    = "jobs"    // push/pull, shared by three workers
	demoLetters = "letters" // push/pull, for one who is away for a while
	demoParcels = "parcels" // push/pull, durable, from one who is killed and comes back
	demoWeather = "weather" // pub/sub
	demoTicks   = "ticks"   // pub/sub at level best effort
	demoPrice   = "price"   // req/rep, idempotent
	demoBook    = "book"    // req/rep, at most once
)

// demoWork is how long a job or a request takes.
const demoWork = 40 * time.Millisecond

// crewRole says who a member of the crew is and how it finds the others.
type crewRole struct {
	Name     string   `json:"name"`
	Mesh     string   `json:"mesh"` // the credential of a mesh made for this run
	Dir      string   `json:"dir,omitempty"`
	SpoolKey string   `json:"spool_key,omitempty"`
	MDNS     bool     `json:"mdns,omitempty"`
	Peers    []string `json:"peers,omitempty"` // without mDNS
	Sends    bool     `json:"sends,omitempty"` // parcels; otherwise it works
}

func (r crewRole) config(a *app) node.Config {
	c := node.Config{Name: r.Name, Namespace: "demo", Dir: r.Dir, SpoolKeyFile: r.SpoolKey, MeshPEM: []byte(r.Mesh), Logger: a.logger()}
	if !r.MDNS {
		c.NoMDNS, c.Listen, c.Peers = true, "127.0.0.1:0", r.Peers
	}
	return c
}

// crew is a node that works: in this process, or all there is to another one.
type crew struct {
	role    crewRole
	node    *node.Node
	tell    func(entry)
	working sync.WaitGroup
}

// openCrew opens the node of a role; what it is to do comes after. tell gets an entry
// before each message is begun and after it has ended, from several goroutines.
func openCrew(ctx context.Context, a *app, role crewRole, tell func(entry)) (*crew, error) {
	n, err := node.Open(ctx, role.config(a))
	if err != nil {
		return nil, err
	}
	return &crew{role: role, node: n, tell: func(e entry) { e.by = role.Name; tell(e) }}, nil
}

// serve makes it a worker and a replier.
func (c *crew) serve() error {
	// With few jobs in hand each worker leaves the rest to the others.
	if err := c.pull(demoJobs, 4, demoWork, patterns.Prefetch(16)); err != nil {
		return err
	}
	for _, service := range []string{demoPrice, demoBook} {
		rep, err := c.node.Rep(service)
		if err != nil {
			return err
		}
		c.run(func(ctx context.Context) error {
			return rep.ServeRequests(ctx, func(ctx context.Context, m *socket.Message) ([]byte, error) {
				return []byte(c.role.Name), c.handle(ctx, service, m, demoWork)
			})
		})
	}
	return nil
}

// pull makes it a worker, with several messages at a time.
func (c *crew) pull(queue string, most int, takes time.Duration, opts ...patterns.Option) error {
	p, err := c.node.Pull(queue, opts...)
	if err != nil {
		return err
	}
	c.run(func(ctx context.Context) error {
		return p.Handle(ctx, most, func(ctx context.Context, m *socket.Message) error { return c.handle(ctx, queue, m, takes) })
	})
	return nil
}

// subscribe makes it a subscriber; its entries are at the pattern, or without one at the
// channel.
func (c *crew) subscribe(channel string, wants ...string) error {
	at := channel
	var opts []patterns.Option
	if len(wants) > 0 {
		at, opts = wants[0], []patterns.Option{patterns.Topics(wants...)}
	}
	s, err := c.node.Sub(channel, opts...)
	if err != nil {
		return err
	}
	c.run(func(ctx context.Context) error {
		return s.Handle(ctx, 1, func(ctx context.Context, m *socket.Message) error { return c.handle(ctx, at, m, 0) })
	})
	return nil
}

// run runs a handler loop until its socket closes.
func (c *crew) run(loop func(context.Context) error) {
	c.working.Go(func() { _ = loop(context.Background()) }) // it ends with its socket, and says only that
}

// handle handles a message: its body is its number.
func (c *crew) handle(ctx context.Context, at string, m *socket.Message, takes time.Duration) error {
	n, err := strconv.Atoi(string(m.Body))
	if err != nil {
		return fmt.Errorf("a body that is no number: %w", err)
	}
	c.tell(entry{At: at, N: n, Flagged: m.Redelivered()})
	if err := pause(ctx, takes); err != nil {
		return err // revoked, or the node closes
	}
	c.tell(entry{At: at, N: n, End: true})
	return nil
}

// leave ends the node in good order: what was begun is finished.
func (c *crew) leave(ctx context.Context) error {
	err := c.node.Shutdown(ctx)
	c.working.Wait()
	return err
}

// close ends the node now.
func (c *crew) close() error {
	err := c.node.Close()
	c.working.Wait()
	return err
}

// numbered is the body of message n.
func numbered(n int) []byte { return []byte(strconv.Itoa(n)) }

func (c *crew) ready() *readyEvent { return readyOf(c.node) }

func readyOf(n *node.Node) *readyEvent {
	return &readyEvent{n.ID().String(), n.Name(), n.Addr().String(), n.Incarnation()}
}
