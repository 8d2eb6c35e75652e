package zmtp

import (
	"context"
	"errors"
	"sync"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"
)

const (
	takeAtOnce = 512                    // messages from peers, in one turn
	fullRetry  = 200 * time.Millisecond // when the disk has no room
)

var errPeerLeft = errors.New("zmtp: the ZeroMQ peer left, and may have read it")

// A puller is a PULL endpoint: what its peers push goes to a queue of the mesh.
type puller struct {
	hub  *hub
	push *patterns.Push
}

func newPuller(n *node.Node, h *hub) (*puller, error) {
	push, err := n.Push(h.end.Name, h.end.Options...)
	return &puller{h, push}, err
}

func (p *puller) rest() { p.hub.close() }

func (p *puller) finish(ctx context.Context) error { return p.push.Shutdown(ctx) }

func (p *puller) shut() error { return p.push.Close() }

func (p *puller) work(ctx context.Context) error {
	var batch []arrival
	for {
		var err error
		if batch, err = p.hub.take(ctx, batch[:0], takeAtOnce); err != nil {
			return err
		}
		for _, a := range batch {
			if err := p.hub.accept(ctx, a.message, p.send); err != nil {
				return err
			}
		}
		clear(batch)
	}
}

// send gives a message to the mesh. At level durable it does not wait for the disk: nobody would hear of it, and the
// queue is in order either way.
func (p *puller) send(ctx context.Context, m message) error {
	body := &socket.Message{Body: Join(m...)}
	_, _, err := p.push.PostWith(ctx, body, func(*spool.Change) {})
	if errors.Is(err, socket.ErrNotDurable) {
		_, err = p.push.SendMessage(ctx, body)
	}
	return err
}

// accept brings a message of a peer into the mesh by send. While the disk has no room it waits, and so do the peers. What
// the mesh does not want is dropped and counted; an error is the end.
func (h *hub) accept(ctx context.Context, m message, send func(context.Context, message) error) error {
	for waiting := false; ; waiting = true {
		err := send(ctx, m)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, spool.ErrSpoolFull):
			if !waiting {
				h.stall()
			}
			select {
			case <-time.After(fullRetry):
				continue
			case <-ctx.Done():
			}
			h.count(DropShutdown)
			return context.Cause(ctx)
		case errors.Is(err, socket.ErrTooLarge), errors.Is(err, socket.ErrQueueFull):
			h.count(DropRefused)
			return nil
		}
		h.count(DropShutdown)
		return err
	}
}

func (h *hub) stall() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.stalled++
}

// A pusher is a PUSH endpoint: messages of a queue go to its peers, each to one.
type pusher struct {
	hub  *hub
	pull *patterns.Pull

	mu    sync.Mutex
	again []*socket.Message // unsent when their peer left
	came  socket.Event      // again has something
}

func newPusher(n *node.Node, h *hub) (*pusher, error) {
	pull, err := n.Pull(h.end.Name, h.end.Options...)
	if err != nil {
		return nil, err
	}
	if h.end.Profile == Durable {
		pull.Pause() // work is for others while no peer is here
		h.onPeers = func(connected int) {
			if connected == 0 {
				pull.Pause()
			} else {
				pull.Resume()
			}
		}
	}
	return &pusher{hub: h, pull: pull}, nil
}

func (p *pusher) rest() {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	p.hub.onPeers = nil
	p.pull.Pause()
}

func (p *pusher) finish(ctx context.Context) error { return p.pull.Shutdown(ctx) }

func (p *pusher) shut() error { return p.pull.Close() }

func (p *pusher) work(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { p.reassign(ctx) })
	for {
		m, err := p.pull.Recv(ctx)
		if err != nil {
			return err
		}
		if err := p.assign(ctx, m); err != nil {
			return err
		}
	}
}

// assign queues a message for a peer, or gives it back while there is none.
func (p *pusher) assign(ctx context.Context, m *socket.Message) error {
	err := p.hub.assign(ctx, p.outgoing(m), p.hub.end.Profile == Durable)
	switch {
	case errors.Is(err, errNoPeer):
		return m.Nack(errNoPeer)
	case err == nil && p.hub.end.Profile == Classic: // it stands in the peer's queue
		return m.Ack()
	}
	return err
}

// reassign gives what was not sent to other peers, until ctx ends.
func (p *pusher) reassign(ctx context.Context) {
	for {
		p.mu.Lock()
		again, wait := p.again, p.came.Wait()
		p.again = nil
		p.mu.Unlock()
		for _, m := range again {
			if err := p.assign(ctx, m); err != nil {
				return // the socket closes: what was not answered goes elsewhere
			}
		}
		if len(again) > 0 {
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return
		}
	}
}

// outgoing makes what is queued for a peer of a message of the mesh.
func (p *pusher) outgoing(m *socket.Message) outgoing {
	o := outgoing{message: Split(m.Body), bytes: len(m.Body)}
	if p.hub.end.Profile == Classic {
		o.settle = func(f fate) {
			if f != handed {
				p.hub.count(DropPeerGone)
			}
		}
		return o
	}
	o.settle = func(f fate) { p.settle(m, f) }
	return o
}

// settle answers a message once its fate at the peer is known. After the socket has closed there is nobody to answer: the
// message goes elsewhere.
func (p *pusher) settle(m *socket.Message, f fate) {
	var err error
	switch f {
	case handed:
		err = m.Ack()
	case doubtful:
		err = m.Nack(errPeerLeft)
	case unsent:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.again = append(p.again, m)
		p.came.Fire()
	}
	if err != nil && !errors.Is(err, socket.ErrClosed) {
		p.hub.fail(err)
	}
}
