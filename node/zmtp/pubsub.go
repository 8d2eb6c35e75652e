package zmtp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// A publisher is a PUB or XPUB endpoint: what is published in the mesh goes to those of its peers that have subscribed.
type publisher struct {
	hub      *hub
	sub      *patterns.Sub
	upstream *patterns.Push // of an XPUB; nil: none
	wanted   int            // subscriptions of all lanes; guarded by the hub's mutex
}

func newPublisher(n *node.Node, h *hub) (*publisher, error) {
	// All topics: which of them peers want may change any moment, and is looked at here.
	sub, err := n.Sub(h.end.Name, append([]patterns.Option{patterns.Prefixes("")}, h.end.Options...)...)
	if err != nil {
		return nil, err
	}
	p := &publisher{hub: h, sub: sub}
	if h.end.Upstream != "" {
		if p.upstream, err = n.Push(h.end.Upstream); err != nil {
			return nil, errors.Join(err, sub.Close())
		}
	}
	if h.end.Profile == Durable {
		sub.Pause() // what nobody here wants yet is kept where it is
	}
	h.onSubscribe = p.subscribed
	return p, nil
}

// subscribed hears of a subscription. The hub's mutex is held.
func (p *publisher) subscribed(l *lane, on bool, prefix string) {
	kind, step := byte(0), -1
	if on {
		kind, step = 1, 1
	}
	p.wanted += step
	if p.hub.end.Profile == Durable && !p.hub.closed {
		switch p.wanted {
		case 0:
			p.sub.Pause()
		case step:
			p.sub.Resume()
		}
	}
	if p.upstream != nil {
		p.hub.give(l, []message{{append([]byte{kind}, prefix...)}})
	}
}

func (p *publisher) rest() { p.sub.Pause() }

func (p *publisher) finish(ctx context.Context) error {
	err := p.sub.Shutdown(ctx)
	if p.upstream != nil {
		err = errors.Join(err, p.upstream.Shutdown(ctx))
	}
	return err
}

func (p *publisher) shut() error {
	err := p.sub.Close()
	if p.upstream != nil {
		err = errors.Join(err, p.upstream.Close())
	}
	return err
}

func (p *publisher) ledger() patterns.Ledger {
	if p.upstream == nil {
		return patterns.Ledger{}
	}
	return p.upstream.Stats().Ledger
}

func (p *publisher) work(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if p.upstream != nil {
		wg.Go(func() {
			if err := p.hub.forward(ctx, p.upstream); ctx.Err() == nil {
				p.hub.fail(err)
			}
		})
	}
	for {
		m, err := p.sub.Recv(ctx)
		if err != nil {
			return err
		}
		p.spread(m)
	}
}

// forward pushes what peers send against the stream, until ctx ends.
func (h *hub) forward(ctx context.Context, up *patterns.Push) error {
	to := &puller{hub: h, push: up, headers: begins}
	return to.work(ctx)
}

// spread queues a message for each peer that wants it. A peer without room does not get it, which is counted: nobody waits
// for a slow subscriber.
func (p *publisher) spread(m *socket.Message) {
	h := p.hub
	o := outgoing{message: Parts(m), bytes: len(m.Topic) + len(m.Body)}
	// Durable: handled when each has read it, or is gone. The one more is for those that are still to be queued for.
	left := new(atomic.Int64)
	left.Add(1)
	done := func() {
		if left.Add(-1) == 0 {
			if err := m.Ack(); err != nil && !errors.Is(err, socket.ErrClosed) {
				h.fail(err)
			}
		}
	}
	o.settle = func(f fate) {
		if f != handed {
			h.count(DropPeerGone, 1)
		}
		if h.end.Profile == Durable {
			done()
		}
	}
	h.mu.Lock()
	matched := false
	for _, l := range h.lanes {
		if !l.subs.match(o.message[0]) {
			continue
		}
		matched = true
		if h.end.Profile == Durable {
			left.Add(1)
		}
		if !h.put(l, o) && h.end.Profile == Durable {
			left.Add(-1)
		}
	}
	if !matched {
		h.drop(DropUnmatched, 1)
	}
	h.mu.Unlock()
	done()
}

// A subscriber is a SUB or XSUB endpoint: what its peers publish is published in the mesh.
type subscriber struct {
	hub      *hub
	pub      *patterns.Pub
	upstream *patterns.Pull // of an XSUB; nil: none
	told     *told          // by whom it was told to subscribe, to what; of an XSUB with an upstream
	topics   prefixes       // guarded by the hub's mutex
}

func newSubscriber(n *node.Node, h *hub) (*subscriber, error) {
	pub, err := n.Pub(h.end.Name, append([]patterns.Option{patterns.Durability(socket.Memory)}, h.end.Options...)...)
	if err != nil {
		return nil, err
	}
	s := &subscriber{hub: h, pub: pub}
	for _, t := range h.end.Topics {
		if _, err := s.topics.add(t); err != nil {
			return nil, errors.Join(err, pub.Close())
		}
	}
	if h.end.Upstream != "" {
		if s.upstream, err = n.Pull(h.end.Upstream); err != nil {
			return nil, errors.Join(err, pub.Close())
		}
		s.told = newTold(n, &h.end)
		if err := s.told.load(context.Background(), s.remember); err != nil {
			return nil, errors.Join(err, s.shut())
		}
	}
	h.greet = s.greet
	return s, nil
}

// greet tells a new peer all subscriptions. The hub's mutex is held.
func (s *subscriber) greet(c *conn) (wire []byte) {
	for _, prefix := range s.topics.all() {
		wire = append(wire, subscription(c, true, prefix)...)
	}
	return wire
}

// subscription is a subscription, or the end of one, as the peer's version has it.
func subscription(c *conn, on bool, prefix string) []byte {
	switch {
	case c.peer.minor == 0 && on:
		return appendFrame(nil, 0, append([]byte{1}, prefix...))
	case c.peer.minor == 0:
		return appendFrame(nil, 0, append([]byte{0}, prefix...))
	case on:
		return appendCommand(nil, cmdSubscribe, []byte(prefix))
	}
	return appendCommand(nil, cmdCancel, []byte(prefix))
}

func (s *subscriber) rest() {
	if s.upstream != nil {
		s.upstream.Pause()
	}
	s.hub.close()
}

func (s *subscriber) finish(ctx context.Context) error {
	err := s.pub.Shutdown(ctx)
	if s.upstream != nil {
		err = errors.Join(err, s.upstream.Shutdown(ctx))
	}
	return err
}

func (s *subscriber) shut() error {
	err := s.pub.Close()
	if s.upstream != nil {
		err = errors.Join(err, s.upstream.Close())
	}
	return err
}

func (s *subscriber) ledger() patterns.Ledger { return s.pub.Stats().Ledger }

func (s *subscriber) work(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.upstream != nil {
		wg.Go(func() {
			if err := s.relay(ctx); ctx.Err() == nil {
				s.hub.fail(err)
			}
		})
	}
	var batch []arrival
	for {
		var err error
		if batch, err = s.hub.take(ctx, batch[:0], takeAtOnce); err != nil {
			return err
		}
		if err := s.hub.accept(ctx, len(batch), func(from int) (sent int, err error) {
			if _, err = s.pub.PublishMessage(ctx, Publication(batch[from].message...)); err == nil {
				sent = 1
			}
			return sent, err
		}); err != nil {
			return err
		}
		clear(batch)
	}
}

// relay sends upstream what the mesh says: subscriptions, and messages to all peers.
func (s *subscriber) relay(ctx context.Context) error {
	for {
		m, err := s.upstream.Recv(ctx)
		if err != nil {
			return err
		}
		if m.Headers[headerBegins] != "" {
			if err := s.told.forget(ctx, m.From(), func(prefix string) error { return s.subscribe(false, prefix) }); err != nil {
				return err
			}
		}
		if err := s.hear(ctx, m); err != nil {
			return err
		}
	}
}

// hear does what a message says, and answers it.
func (s *subscriber) hear(ctx context.Context, m *socket.Message) error {
	parts := Split(m.Body)
	on, prefix, ok := asSubscription(parts)
	if !ok {
		s.send(parts)
		return m.Ack()
	}
	if err := s.subscribe(on, prefix); err != nil {
		return m.Nack(err)
	}
	return s.told.note(ctx, m, on, prefix)
}

// remember has a subscription of an earlier life.
func (s *subscriber) remember(prefix string) error {
	_, err := s.topics.add(prefix)
	return err
}

// subscribe subscribes at every peer, now and later, or ends that.
func (s *subscriber) subscribe(on bool, prefix string) error {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	var changed bool
	if on {
		var err error
		if changed, err = s.topics.add(prefix); err != nil {
			return err
		}
	} else {
		changed = s.topics.remove(prefix)
	}
	for _, l := range s.hub.lanes {
		if changed && l.conn != nil {
			l.put(outgoing{wire: subscription(l.conn, on, prefix), bytes: len(prefix)})
		}
	}
	return nil
}

// send queues a message for every peer. One without room does not get it.
func (s *subscriber) send(parts [][]byte) {
	o := outgoing{message: slices.Clone(parts), bytes: message(parts).size()}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for _, l := range s.hub.lanes {
		s.hub.put(l, o)
	}
}
