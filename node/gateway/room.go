package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"
)

// place is which socket of the node.
type place struct {
	kind  socket.Kind
	name  string
	label string // of a durable subscription
}

// rooms are the sockets that are open because clients asked for them: one for all clients that ask for the same. They
// close when nobody has used them for a while, and those that send only when nothing is owed.
type rooms struct {
	mu     sync.Mutex
	open   map[place]*room
	closed bool
	sum    patterns.Ledger // of those that are closed
}

// sock is what all sockets have.
type sock interface {
	Close() error
	Shutdown(context.Context) error
}

// room is one socket and who is in it.
type room struct {
	place  place
	ready  chan struct{} // closed when sock or err is set
	sock   sock
	err    error
	topics []string    // of a durable subscription
	jobs   chan *asked // of a service: from its workers to clients that wait

	linger time.Duration // how long a receiver stays awake after the last client has stopped waiting

	mu      sync.Mutex
	users   int // clients that wait, and messages in their hands
	left    time.Time
	waiting int
	workers []*worker // of a service: those that have begun nothing, no more than clients that wait
	pause   *time.Timer
	old     bool // to be closed as soon as nobody uses it
	gaps    []socket.Gap
	missed  int // gaps beyond those that are kept
}

// maxGaps bounds what is kept to be told to a client.
const maxGaps = 256

// enter opens the socket of a place, or joins those who use it. It blocks while another client opens it; who has
// entered leaves.
func (g *Gateway) enter(p place, open func(*room) (sock, error)) (*room, error) {
	s := &g.rooms
	s.mu.Lock()
	if s.closed || g.ctx.Err() != nil {
		s.mu.Unlock()
		return nil, errLeaving
	}
	if r := s.open[p]; r != nil {
		r.mu.Lock()
		r.users++
		r.mu.Unlock()
		s.mu.Unlock()
		<-r.ready
		return r, r.err
	}
	evicted, full := s.makeRoom(g.config.Load().Limits.Names)
	if full {
		s.mu.Unlock()
		return nil, busy("names", "too many queues, channels and services are in use at a time", "",
			"use fewer names, or raise the gateway's limit of names")
	}
	r := &room{place: p, ready: make(chan struct{}), users: 1}
	s.open[p] = r
	s.mu.Unlock()
	if evicted != nil {
		g.wg.Go(func() {
			evicted.end(g.ctx)
			g.rooms.keep(evicted)
		})
	}
	r.sock, r.err = open(r)
	if r.err != nil {
		s.mu.Lock()
		delete(s.open, p)
		s.mu.Unlock()
	}
	close(r.ready)
	return r, r.err
}

// makeRoom takes out the socket that was not used for the longest time if there are as many as there may be. s.mu must
// be held.
func (s *rooms) makeRoom(most int) (evicted *room, full bool) {
	if len(s.open) < most {
		return nil, false
	}
	for _, r := range s.open {
		if left, idle := r.idle(); idle && (evicted == nil || left.Before(evicted.left)) {
			evicted = r
		}
	}
	if evicted == nil {
		return nil, true
	}
	delete(s.open, evicted.place)
	return evicted, false
}

// idle reports whether nobody uses the socket and nothing is owed by it, and since when.
func (r *room) idle() (since time.Time, idle bool) {
	select {
	case <-r.ready:
	default:
		return since, false
	}
	r.mu.Lock()
	since, idle = r.left, r.users == 0
	r.mu.Unlock()
	if s, sends := r.sock.(sender); idle && sends {
		l := s.Stats().Ledger
		idle = l.Queued+l.Leased == 0 && r.place.kind != wire.Pub
	}
	return since, idle
}

// exit ends one use.
func (r *room) exit() {
	r.mu.Lock()
	r.users--
	r.left = time.Now()
	r.mu.Unlock()
}

// join is one more use by who is in it.
func (r *room) join() {
	r.mu.Lock()
	r.users++
	r.mu.Unlock()
}

// pausing is a receiving socket.
type pausing interface {
	Pause()
	Resume()
}

// wait wakes a receiver up for one more client that has nothing to do.
func (r *room) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting++
	if r.pause != nil {
		r.pause.Stop()
		r.pause = nil
	}
	r.sock.(pausing).Resume()
}

// busy says that a client that waited does so no more. Without any the receiver is paused soon: what it has in store goes
// back, for pullers that are awake.
func (r *room) busy() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	for last := len(r.workers) - 1; last >= r.waiting; last-- { // the first gets the next request
		r.workers[last].stop()
		r.workers = r.workers[:last]
	}
	if r.waiting > 0 {
		return
	}
	if r.linger == 0 {
		r.sock.(pausing).Pause()
		return
	}
	r.pause = time.AfterFunc(r.linger, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.waiting == 0 {
			r.sock.(pausing).Pause()
		}
	})
}

// employ has a worker wait for a request.
func (r *room) employ(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.workers = append(r.workers, w)
}

// begun says that a worker has begun a request. It begins no other.
func (r *room) begun(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.workers = slices.DeleteFunc(r.workers, func(o *worker) bool { return o == w })
	w.stop()
}

// gap keeps a hole in a stream until it is told.
func (r *room) gap(g socket.Gap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.gaps) == maxGaps {
		r.missed++
		return
	}
	r.gaps = append(r.gaps, g)
}

// takeGaps returns the holes that were not told yet, and how many more there were.
func (r *room) takeGaps() ([]socket.Gap, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gaps, missed := r.gaps, r.missed
	r.gaps, r.missed = nil, 0
	return gaps, missed
}

// endWithin bounds how long a socket that nobody uses may take to say goodbye.
const endWithin = 5 * time.Second

// end closes the socket in good order.
func (r *room) end(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, endWithin)
	defer stop()
	_ = r.sock.Shutdown(ctx) // nothing was begun or owed
}

// sweep closes what nobody has used for a while.
func (s *rooms) sweep(now time.Time, after time.Duration) {
	s.mu.Lock()
	var over []*room
	for p, r := range s.open {
		since, idle := r.idle()
		if !idle {
			continue
		}
		_, receives := r.sock.(pausing)
		r.mu.Lock()
		if receives && (r.old || now.Sub(since) > after) {
			over = append(over, r)
			delete(s.open, p)
		}
		r.mu.Unlock()
	}
	s.mu.Unlock()
	for _, r := range over {
		r.end(context.Background())
	}
}

// renew has every receiver opened anew when nobody uses it.
func (s *rooms) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.open {
		r.mu.Lock()
		r.old = true
		r.mu.Unlock()
	}
}

// sender is a socket that sends.
type sender interface{ Stats() patterns.SenderStats }

// keep adds what a socket that has closed has counted to the sum.
func (s *rooms) keep(r *room) {
	sent, sends := r.sock.(sender)
	if !sends {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.Add(sent.Stats().Ledger)
}

// ledger sums those of all sockets that send or have sent.
func (s *rooms) ledger() (sum patterns.Ledger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Add(s.sum)
	for _, r := range s.open {
		select {
		case <-r.ready:
		default:
			continue
		}
		if sent, sends := r.sock.(sender); sends && r.err == nil {
			sum.Add(sent.Stats().Ledger)
		}
	}
	return sum
}

// close closes all, as end does it.
func (s *rooms) close(end func(sock) error) error {
	s.mu.Lock()
	s.closed = true
	var all []*room
	for _, r := range s.open {
		all = append(all, r)
	}
	clear(s.open)
	s.mu.Unlock()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, r := range all {
		wg.Go(func() {
			<-r.ready
			if r.err == nil {
				errs[i] = end(r.sock)
				s.keep(r)
			}
		})
	}
	wg.Wait()
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...)
}

// pushTo is the sending end of a queue.
func (g *Gateway) pushTo(name string) (*room, *patterns.Push, error) {
	r, err := g.enter(place{kind: wire.Push, name: name}, func(*room) (sock, error) { return g.node.Push(name) })
	if err != nil {
		return nil, nil, err
	}
	return r, r.sock.(*patterns.Push), nil
}

// pubTo is the sending end of a channel.
func (g *Gateway) pubTo(name string) (*room, *patterns.Pub, error) {
	r, err := g.enter(place{kind: wire.Pub, name: name}, func(*room) (sock, error) { return g.node.Pub(name) })
	if err != nil {
		return nil, nil, err
	}
	return r, r.sock.(*patterns.Pub), nil
}

// reqTo is the asking end of a service.
func (g *Gateway) reqTo(name string) (*room, *patterns.Req, error) {
	r, err := g.enter(place{kind: wire.Req, name: name}, func(*room) (sock, error) {
		level := patterns.Once
		if e, ok := g.config.Load().Executed[name]; ok {
			level = e
		}
		return g.node.Req(name, patterns.Executed(level))
	})
	if err != nil {
		return nil, nil, err
	}
	return r, r.sock.(*patterns.Req), nil
}

// lingerFor keeps a puller awake between two polls of a client that works fast.
const lingerFor = 250 * time.Millisecond

// pullFrom is the receiving end of a queue. It begins paused.
func (g *Gateway) pullFrom(name string) (*room, error) {
	return g.enter(place{kind: wire.Pull, name: name}, func(r *room) (sock, error) {
		r.linger = lingerFor
		p, err := g.node.Pull(name, patterns.Prefetch(g.config.Load().Prefetch), patterns.OnGap(r.gap),
			patterns.OnDone(g.leases.final), patterns.OnNack(g.leases.final))
		if err == nil {
			p.Pause()
		}
		return p, err
	})
}

// repFor is the answering end of a service. It begins paused, and is awake only while a client waits.
func (g *Gateway) repFor(name string) (*room, *patterns.Rep, error) {
	r, err := g.enter(place{kind: wire.Rep, name: name}, func(r *room) (sock, error) {
		r.jobs = make(chan *asked)
		p, err := g.node.Rep(name, patterns.Concurrency(1), patterns.Prefetch(g.config.Load().Prefetch))
		if err == nil {
			p.Pause()
		}
		return p, err
	})
	if err != nil {
		return nil, nil, err
	}
	return r, r.sock.(*patterns.Rep), nil
}

// subTo is a subscription: with a durable name shared by all clients that use it, otherwise the client's own.
func (g *Gateway) subTo(name, durable string, topics []string, opts []patterns.Option) (*room, error) {
	opts = append(opts, patterns.Topics(topics...), patterns.Prefetch(g.config.Load().Prefetch), patterns.OnDone(g.leases.final),
		patterns.OnNack(g.leases.final))
	if durable == "" {
		r := &room{place: place{kind: wire.Sub, name: name}, users: 1, ready: make(chan struct{})}
		close(r.ready)
		s, err := g.node.Sub(name, append(opts, patterns.OnGap(r.gap))...)
		r.sock = s
		return r, err
	}
	r, err := g.enter(place{wire.Sub, name, durable}, func(r *room) (sock, error) {
		r.linger, r.topics = lingerFor, topics
		s, err := g.node.Sub(name, append(opts, patterns.OnGap(r.gap), patterns.DurableName(durable))...)
		if err == nil {
			s.Pause()
		}
		return s, err
	})
	if err == nil && !slices.Equal(r.topics, topics) {
		r.exit()
		return nil, problem(409, "topics", "another client of this gateway has that durable subscription with other topics",
			fmt.Sprintf("%q", r.topics), "ask for the same topics, or use another durable name")
	}
	return r, err
}
