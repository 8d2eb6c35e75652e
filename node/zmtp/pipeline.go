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

	headers socket.Headers // of the first message
}

func newPuller(n *node.Node, h *hub) (*puller, error) {
	push, err := n.Push(h.end.Name, h.end.Options...)
	return &puller{hub: h, push: push}, err
}

func (p *puller) rest() { p.hub.close() }

func (p *puller) finish(ctx context.Context) error { return p.push.Shutdown(ctx) }

func (p *puller) shut() error { return p.push.Close() }

func (p *puller) ledger() patterns.Ledger { return p.push.Stats().Ledger }

func (p *puller) work(ctx context.Context) error {
	var batch []arrival
	room := make([]socket.Message, takeAtOnce)
	ms := make([]*socket.Message, takeAtOnce)
	for i := range room {
		ms[i] = &room[i]
	}
	for {
		var err error
		if batch, err = p.hub.take(ctx, batch[:0], takeAtOnce); err != nil {
			return err
		}
		for i, a := range batch {
			room[i].Body = Join(a.message...)
		}
		// At level durable it does not wait for the disk: nobody would hear of it, and the queue is in order either way.
		if err := p.hub.accept(ctx, len(batch), func(from int) (int, error) {
			ms[from].Headers = p.headers
			seqs, err := p.push.PostBatch(ctx, ms[from:len(batch)])
			if len(seqs) > 0 {
				p.headers = nil
			}
			return len(seqs), err
		}); err != nil {
			return err
		}
		clear(batch)
		clear(room[:len(batch)])
	}
}

// accept brings n messages of peers into the mesh by send, which begins with the one it is told and says how many it has
// sent. While the disk has no room it waits, and so do the peers. What the mesh does not want is dropped and counted; an
// error is the end.
func (h *hub) accept(ctx context.Context, n int, send func(from int) (int, error)) error {
	for at, waiting := 0, false; at < n; {
		sent, err := send(at)
		if at += sent; sent > 0 {
			waiting = false
		}
		switch {
		case err == nil:
		case errors.Is(err, spool.ErrSpoolFull):
			if !waiting {
				h.stall()
			}
			waiting = true
			select {
			case <-time.After(fullRetry):
				continue
			case <-ctx.Done():
			}
			h.count(DropShutdown, n-at)
			return context.Cause(ctx)
		case errors.Is(err, socket.ErrTooLarge), errors.Is(err, socket.ErrQueueFull):
			h.count(DropRefused, 1)
			at, waiting = at+1, false
		default:
			h.count(DropShutdown, n-at)
			return err
		}
	}
	return nil
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
	p := &pusher{hub: h, pull: pull}
	h.settle = p.settle
	return p, nil
}

func (p *pusher) rest() {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	p.hub.onPeers = nil
	p.pull.Pause()
}

func (p *pusher) finish(ctx context.Context) error { return p.pull.Shutdown(ctx) }

func (p *pusher) shut() error { return p.pull.Close() }

func (p *pusher) ledger() patterns.Ledger { return patterns.Ledger{} }

func (p *pusher) work(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { p.reassign(ctx) })
	var ms [takeAtOnce]*socket.Message
	var os []outgoing
	for {
		room, bytes := p.hub.room() // what finds none is not taken from other pullers
		n, err := p.pull.RecvBatch(ctx, ms[:min(room, len(ms))], bytes)
		if err != nil {
			return err
		}
		os = appendOutgoing(os[:0], ms[:n])
		if err := p.assign(ctx, os, ms[:n]); err != nil {
			return err
		}
		clear(os)
		clear(ms[:n])
	}
}

// assign queues messages for peers, or gives them back while there is none.
func (p *pusher) assign(ctx context.Context, os []outgoing, ms []*socket.Message) error {
	n, err := p.hub.assign(ctx, os, p.hub.end.Profile == Durable)
	if p.hub.end.Profile == Classic { // they stand in the peer's queue
		err = errors.Join(err, patterns.AckAll(ms[:n]))
	}
	if errors.Is(err, errNoPeer) {
		return each(ms[n:], (*socket.Message).Release)
	}
	return err
}

// each answers messages. It returns the first error, and goes on after it.
func each(ms []*socket.Message, answer func(*socket.Message) error) (first error) {
	for _, m := range ms {
		if err := answer(m); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// reassign gives what was not sent to other peers, until ctx ends.
func (p *pusher) reassign(ctx context.Context) {
	for {
		p.mu.Lock()
		again, wait := p.again, p.came.Wait()
		p.again = nil
		p.mu.Unlock()
		if len(again) > 0 {
			if err := p.assign(ctx, appendOutgoing(nil, again), again); err != nil {
				return // the socket closes: what was not answered goes elsewhere
			}
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return
		}
	}
}

// appendOutgoing makes what is queued for peers of messages of the mesh.
func appendOutgoing(dst []outgoing, ms []*socket.Message) []outgoing {
	single := make([][]byte, len(ms)) // most messages are of one part: one allocation for all of those
	for i, m := range ms {
		parts, ok := split(m.Body)
		if !ok {
			single[i] = m.Body
			parts = single[i : i+1 : i+1]
		}
		dst = append(dst, outgoing{message: parts, bytes: len(m.Body), of: m})
	}
	return dst
}

// settle answers messages once their fate at the peer is known. After the socket has closed there is nobody to answer: they
// go elsewhere.
func (p *pusher) settle(ms []*socket.Message, f fate) {
	var err error
	switch {
	case p.hub.end.Profile == Classic: // they are answered
		if f != handed {
			p.hub.count(DropPeerGone, len(ms))
		}
	case f == handed:
		err = patterns.AckAll(ms)
	case f == doubtful:
		err = each(ms, func(m *socket.Message) error { return m.Nack(errPeerLeft) })
	case f == unsent:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.again = append(p.again, ms...)
		p.came.Fire()
	}
	if err != nil && !errors.Is(err, socket.ErrClosed) {
		p.hub.fail(err)
	}
}
