package zmtp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"

	"peermesh/node"
	"peermesh/patterns"
)

// Bridge joins ZeroMQ sockets to a node. Safe for concurrent use.
type Bridge struct {
	runs   []*run
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
	err    error
}

// A run is an endpoint that is up.
type run struct {
	hub  *hub
	door *door
	lns  []net.Listener
	side side
}

// A side is the part of an endpoint that is turned to the mesh.
type side interface {
	// work moves messages between hub and mesh until ctx ends or the mesh socket closes.
	work(ctx context.Context) error
	// rest begins a shutdown: nothing new is taken, from the mesh or from peers; what is in hand goes on.
	rest()
	// finish waits until what the mesh sockets have in hand is settled, or ctx ends, and closes them.
	finish(ctx context.Context) error
	// shut closes the mesh sockets.
	shut() error
	// ledger is that of the mesh socket that sends; zero if none does. It may be asked after shut.
	ledger() patterns.Ledger
}

// New opens the endpoints of a bridge on n, whose sockets it opens too; n outlives the bridge. It returns when every
// address is bound; connections come by and by, and again when they are lost. On an error nothing is left open.
func New(n *node.Node, cfg Config) (*Bridge, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Bridge{}
	for _, e := range cfg.Endpoints {
		r, err := start(n, e, log)
		if err != nil {
			return nil, errors.Join(err, b.release())
		}
		b.runs = append(b.runs, r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	for _, r := range b.runs {
		b.wg.Go(func() { r.knock(ctx) })
		b.wg.Go(func() {
			if err := r.side.work(ctx); ctx.Err() == nil {
				log.Error("zmtp: endpoint stopped", "at", r.hub.addr, "err", err)
				r.hub.fail(err)
			}
		})
	}
	return b, nil
}

// start binds an endpoint and opens its mesh sockets.
func start(n *node.Node, e Endpoint, log *slog.Logger) (*run, error) {
	e, err := e.settle()
	if err != nil {
		return nil, err
	}
	r := &run{hub: newHub(e)}
	var at []string
	for _, a := range addresses(e.Bind) {
		ln, err := listen(a)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("zmtp: %w", err), r.unbind())
		}
		r.lns = append(r.lns, ln)
		at = append(at, bound(ln))
	}
	r.hub.addr = strings.Join(append(at, addresses(e.Connect)...), ",")
	r.door = &door{hub: r.hub, log: log}
	if r.side, err = sideOf(n, r.hub); err != nil {
		return nil, errors.Join(fmt.Errorf("zmtp: %s: %w", r.hub.addr, err), r.unbind())
	}
	return r, nil
}

// unbind closes the listeners; those that are closed already are none of its business.
func (r *run) unbind() error {
	var all []error
	for _, ln := range r.lns {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

func bound(ln net.Listener) string {
	if ln.Addr().Network() == "unix" {
		return "ipc://" + ln.Addr().String()
	}
	return "tcp://" + ln.Addr().String()
}

func sideOf(n *node.Node, h *hub) (side, error) {
	switch h.end.Type {
	case PULL:
		return newPuller(n, h)
	case PUSH:
		return newPusher(n, h)
	case SUB, XSUB:
		return newSubscriber(n, h)
	case PUB, XPUB:
		return newPublisher(n, h)
	case REP, ROUTER:
		return newAsker(n, h)
	}
	return newAnswerer(n, h)
}

// knock brings peers until ctx ends.
func (r *run) knock(ctx context.Context) {
	var wg sync.WaitGroup
	for _, ln := range r.lns {
		wg.Go(func() { r.door.accept(ctx, ln) })
	}
	for _, at := range addresses(r.hub.end.Connect) {
		wg.Go(func() { r.door.connect(ctx, at) })
	}
	wg.Wait()
}

// Addr is where an endpoint is bound, and connects to, by its index in Config: with the ports that it got, separated by
// commas.
func (b *Bridge) Addr(endpoint int) string { return b.runs[endpoint].hub.addr }

// Stats tells what each endpoint has done, in the order of Config.
func (b *Bridge) Stats() []Stats {
	all := make([]Stats, 0, len(b.runs))
	for _, r := range b.runs {
		all = append(all, r.hub.snapshot())
	}
	return all
}

// Ledger sums what became of everything that peers have brought into the mesh. It may be asked after Close.
func (b *Bridge) Ledger() (sum patterns.Ledger) {
	for _, r := range b.runs {
		sum.Add(r.side.ledger())
	}
	return sum
}

// Shutdown takes nothing new, neither from the mesh nor from peers that send, waits until peers have read what waits for
// them and the mesh is done with what they have sent, or ctx ends, and closes. What was not read by then goes back to the
// mesh; see Shutdown of the mesh sockets for what was not settled there.
func (b *Bridge) Shutdown(ctx context.Context) error {
	for _, r := range b.runs {
		r.side.rest()
	}
	var all []error
	for _, r := range b.runs {
		err := r.hub.drained(ctx)
		if err == nil {
			err = r.side.finish(ctx)
		}
		if err == nil {
			err = r.hub.drained(ctx) // what came back meanwhile
		}
		if err != nil {
			all = append(all, fmt.Errorf("zmtp: %s: %w", r.hub.addr, err))
		}
	}
	return errors.Join(append(all, b.Close())...)
}

// Close ends the bridge now: connections, then the mesh sockets. Messages that peers have not read go back to the mesh,
// at profile Durable; what came from peers and the mesh does not have yet is lost, and counted. It waits for every
// goroutine and may be called twice; then it returns what the first call returned.
func (b *Bridge) Close() error {
	b.once.Do(func() {
		b.cancel()
		for _, r := range b.runs {
			r.hub.close()
		}
		b.wg.Wait()
		for _, r := range b.runs {
			r.hub.clear()
		}
		b.err = b.release()
	})
	return b.err
}

// release closes listeners and mesh sockets.
func (b *Bridge) release() error {
	var all []error
	for _, r := range b.runs {
		all = append(all, r.unbind(), r.side.shut())
	}
	return errors.Join(all...)
}
