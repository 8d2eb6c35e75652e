package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"peermesh/patterns"
)

// Config says who may ask a Gateway and how much. The zero value works: everything for this machine, nothing for
// others.
type Config struct {
	// Tokens are who may ask, and for what. None: everybody on this machine, for everything.
	Tokens []Token

	// Open serves who comes from elsewhere even without TLS or tokens. Only for networks where everybody is trusted:
	// tokens and messages travel in plain text.
	Open bool

	// Executed says how often requests to a service may be executed; those not named: patterns.Once.
	Executed map[string]patterns.Execution

	// Prefetch is how many messages of a queue the gateway takes from each sender before clients have acked them.
	// Default 64. A small number is fair to pullers elsewhere, a large one serves large batches.
	Prefetch int

	Lease  time.Duration // how long a client may work on a message before it must ack or extend; default 30 s
	Limits Limits

	// Ready says what of the program around the gateway is not as it should be: then /readyz says 503 and why. It must not
	// block. nil: the gateway and its node are all there is.
	Ready func() error

	// Metrics is served at /metrics, to tokens with the right See: that of package node/metrics, for example. nil: there is
	// no such route. What New was given stays until the end.
	Metrics http.Handler

	Logger *slog.Logger // nil: none
}

// Limits bound what clients can make a gateway hold. The zero value of a field is its default.
type Limits struct {
	Body     int64 // bytes of one body; default 8 MiB
	Bodies   int64 // bytes of all bodies that are being received or sent; default 64 MiB; beyond: 503
	Header   int   // bytes of a request's header, when served by Serve; default 128 KiB; beyond: 431
	Conns    int   // connections, when served by Serve; default 1024; beyond: the longest idle one is closed, else 503
	Requests int   // under way at a time, those that wait for messages included; default 1024; beyond: 503
	Streams  int   // server-sent events and WebSockets among them; default 512; beyond: 503
	Names    int   // sockets open at a time; default 256; at it unused ones close, else 503
	Leases   int   // messages and requests in the hands of clients; default 4096; beyond: 503

	// Keys is how many Idempotency-Keys are remembered, default 16,384: a push that is repeated after that many
	// others with a key is a new message. Those of durable pushes are on disk, written with the message, and outlive
	// the process; others live as long as the Gateway.
	Keys int

	Wait      time.Duration // the longest that a poll may wait, default 1 min
	Send      time.Duration // the longest that a push or publish waits for room, default 10 s; beyond: 503
	Deadline  time.Duration // the longest deadline of a request, default 10 min
	MaxLease  time.Duration // the longest lease, default 1 h
	ReadTime  time.Duration // for a body to arrive, default 30 s; beyond: 408
	WriteTime time.Duration // for a client to take an answer or an event, default 30 s; beyond: its connection ends
	Idle      time.Duration // a connection without a request, and a receiving socket without a client; default 1 min
}

// Defaults of Config and Limits.
const (
	defaultPrefetch = 64
	defaultLease    = 30 * time.Second
	maxPrefetch     = 1 << 16
	maxBody         = 64 << 20 // no node takes more
	headerTime      = 5 * time.Second
	keepalive       = 15 * time.Second // between signs of life on a stream without messages
)

// Check says whether New would take the configuration.
func (c Config) Check() error {
	_, err := c.complete()
	return err
}

// complete fills in the defaults and checks the rest.
func (c Config) complete() (Config, error) {
	fill(&c.Prefetch, defaultPrefetch)
	fill(&c.Lease, defaultLease)
	l := &c.Limits
	fill(&l.Body, 8<<20)
	fill(&l.Bodies, 64<<20)
	fill(&l.Header, 128<<10)
	fill(&l.Conns, 1024)
	fill(&l.Requests, 1024)
	fill(&l.Streams, 512)
	fill(&l.Names, 256)
	fill(&l.Leases, 4096)
	fill(&l.Keys, 1<<14)
	for _, d := range []struct {
		d        *time.Duration
		standard time.Duration
	}{{&l.Wait, time.Minute}, {&l.Send, 10 * time.Second}, {&l.Deadline, 10 * time.Minute}, {&l.MaxLease, time.Hour},
		{&l.ReadTime, 30 * time.Second}, {&l.WriteTime, 30 * time.Second}, {&l.Idle, time.Minute}} {
		fill(d.d, d.standard)
		if *d.d < 0 {
			return c, fmt.Errorf("gateway: a time of %v", *d.d)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, c.check()
}

// fill sets what is zero.
func fill[T comparable](v *T, standard T) {
	var zero T
	if *v == zero {
		*v = standard
	}
}

func (c Config) check() error {
	l := c.Limits
	switch {
	case c.Prefetch < 1 || c.Prefetch > maxPrefetch:
		return fmt.Errorf("gateway: prefetch of %d: 1 to %d", c.Prefetch, maxPrefetch)
	case c.Lease < time.Second || c.Lease > l.MaxLease:
		return fmt.Errorf("gateway: lease of %v: 1s to %v", c.Lease, l.MaxLease)
	case l.Body < 1 || l.Body > maxBody:
		return fmt.Errorf("gateway: body limit of %d bytes: 1 to %d", l.Body, maxBody)
	case l.Bodies < l.Body:
		return fmt.Errorf("gateway: %d bytes for all bodies cannot hold one of %d", l.Bodies, l.Body)
	case min(l.Header, l.Conns, l.Requests, l.Streams, l.Names, l.Leases, l.Keys) < 1:
		return errors.New("gateway: a limit below 1")
	case l.Header < 4<<10:
		return fmt.Errorf("gateway: header limit of %d bytes, at least 4096", l.Header)
	}
	for name, e := range c.Executed {
		if e < patterns.Once || e > patterns.OnceDurable {
			return fmt.Errorf("gateway: service %q: unknown execution %d", name, e)
		}
	}
	for i, t := range c.Tokens {
		if err := t.check(); err != nil {
			return fmt.Errorf("gateway: token %d: %w", i+1, err)
		}
	}
	return nil
}
