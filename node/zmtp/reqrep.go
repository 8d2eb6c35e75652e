package zmtp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"unicode/utf8"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// HeaderIdentity is, in a request that came by a ROUTER endpoint, the identity that its peer has given itself, if that is
// UTF-8.
const HeaderIdentity = "zmtp-identity"

// unwrap takes the address envelope off a message: what stands before the first empty part.
func unwrap(m message) (envelope [][]byte, data message, ok bool) {
	at := slices.IndexFunc(m, func(part []byte) bool { return len(part) == 0 })
	if at < 0 || at == len(m)-1 {
		return nil, nil, false
	}
	return m[:at], m[at+1:], true
}

// wrap puts an envelope and its delimiter before data.
func wrap(envelope, data [][]byte) message {
	return slices.Concat(envelope, [][]byte{{}}, data)
}

// An asker is a REP or ROUTER endpoint: requests of its peers are asked in the mesh.
type asker struct {
	hub *hub
	req *patterns.Req
}

func newAsker(n *node.Node, h *hub) (*asker, error) {
	req, err := n.Req(h.end.Name, h.end.Options...)
	return &asker{h, req}, err
}

func (a *asker) rest() {}

func (a *asker) finish(ctx context.Context) error { return a.req.Shutdown(ctx) }

func (a *asker) shut() error { return a.req.Close() }

func (a *asker) ledger() patterns.Ledger { return a.req.Stats().Ledger }

func (a *asker) work(ctx context.Context) error {
	under := a.hub.end.Concurrency
	if a.hub.end.Type == REP && a.hub.end.Profile == Classic {
		under = 1
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	seats := make(chan struct{}, under)
	var one []arrival
	for {
		select {
		case seats <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var err error
		if one, err = a.hub.take(ctx, one[:0], 1); err != nil {
			return err
		}
		request := one[0]
		wg.Go(func() {
			defer func() { <-seats }()
			a.ask(ctx, request)
		})
	}
}

// ask asks one request and brings the answer back.
func (a *asker) ask(ctx context.Context, r arrival) {
	h := a.hub
	envelope, data, delimited := unwrap(r.message)
	if !delimited {
		if h.end.Type == REP {
			h.count(DropMalformed, 1)
			return
		}
		data = r.message // a DEALER may do without
	}
	ctx, cancel := context.WithTimeout(ctx, h.end.Timeout)
	defer cancel()
	h.mu.Lock()
	who := r.from.id
	h.mu.Unlock()
	m := &socket.Message{Body: Join(data...)}
	if h.end.Type == ROUTER && who[0] != 0 && utf8.ValidString(who) {
		m.Headers = socket.Headers{HeaderIdentity: who}
	}
	reply, err := a.req.RequestMessage(ctx, m)
	answer := Split(reply.Body)
	if err != nil {
		if h.end.ErrorReply == nil {
			answer = nil
		} else {
			answer = h.end.ErrorReply(err)
		}
		if len(answer) == 0 {
			h.count(DropRequestFail, 1)
			return
		}
	}
	if delimited {
		answer = wrap(envelope, answer)
	}
	h.reply(r.from, who, outgoing{message: answer, bytes: message(answer).size(), settle: func(f fate) {
		if f != handed {
			h.count(DropPeerGone, 1)
		}
	}})
}

// reply queues an answer for the lane that asked. A ROUTER goes by the identity: a peer that has come back with it gets
// what it had asked for.
func (h *hub) reply(l *lane, id string, o outgoing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end.Type == ROUTER {
		if at := slices.IndexFunc(h.lanes, func(l *lane) bool { return l.id == id }); at >= 0 {
			l = h.lanes[at]
		}
	}
	h.put(l, o)
}

// An answerer is a REQ or DEALER endpoint: requests of the mesh are answered by its peers.
type answerer struct {
	hub *hub
	rep *patterns.Rep

	// Guarded by the hub's mutex.
	number uint64
	asked  map[uint64]*question
}

// A question is a request at a peer. It is guarded by the hub's mutex, but for answer.
type question struct {
	lane   *lane
	handed bool
	answer chan answer // of size 1; gets one
}

type answer struct {
	data message
	err  error
}

var (
	errMaybe     = fmt.Errorf("zmtp: the ZeroMQ peer left: %w", patterns.ErrIndeterminate)
	errDiscarded = patterns.NotExecuted(errors.New("zmtp: the ZeroMQ peer left, and the request was discarded"))
	errRetry     = errors.New("zmtp: the ZeroMQ peer left, and was not asked")
	errUnasked   = errors.New("zmtp: no ZeroMQ peer was asked")
	errSlow      = errors.New("zmtp: the peer did not answer in time, and its answer must not be taken for that of the next request")
)

func newAnswerer(n *node.Node, h *hub) (*answerer, error) {
	under := h.end.Concurrency
	if h.end.Type == REQ {
		under = 1
	}
	rep, err := n.Rep(h.end.Name, append([]patterns.Option{patterns.Concurrency(under)}, h.end.Options...)...)
	if err != nil {
		return nil, err
	}
	a := &answerer{hub: h, rep: rep, asked: make(map[uint64]*question)}
	if h.end.Profile == Durable {
		rep.Pause() // requests are for others while no peer is here
	}
	h.onPeers = a.peers
	return a, nil
}

// peers hears that peers came or went. The hub's mutex is held.
func (a *answerer) peers(connected int) {
	for _, q := range a.asked {
		if q.handed && q.lane != nil && q.lane.conn == nil {
			q.tell(answer{err: errMaybe})
		}
	}
	switch {
	case a.hub.end.Profile == Classic || a.hub.closed:
	case connected == 0:
		a.rep.Pause()
	default:
		a.rep.Resume()
	}
}

func (q *question) tell(a answer) {
	select {
	case q.answer <- a:
	default: // it has one
	}
}

func (a *answerer) rest() {
	a.hub.mu.Lock()
	defer a.hub.mu.Unlock()
	a.hub.onPeers = nil
	a.rep.Pause()
}

func (a *answerer) finish(ctx context.Context) error { return a.rep.Shutdown(ctx) }

func (a *answerer) shut() error { return a.rep.Close() }

func (a *answerer) ledger() patterns.Ledger { return patterns.Ledger{} }

func (a *answerer) work(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wg.Go(func() { cancel(a.collect(ctx)) })
	return a.rep.ServeRequests(ctx, a.answer)
}

// answer has a request of the mesh answered by a peer.
func (a *answerer) answer(ctx context.Context, m *socket.Message) ([]byte, error) {
	for {
		data, err := a.question(ctx, Split(m.Body))
		switch {
		case errors.Is(err, errRetry):
			continue
		case errors.Is(err, errUnasked):
			return nil, m.Release() // for others, or later
		case err != nil:
			return nil, err
		}
		return Join(data...), nil
	}
}

// question asks one peer, and waits for what it says. It waits for a peer at profile classic only.
func (a *answerer) question(ctx context.Context, data [][]byte) (message, error) {
	h := a.hub
	q := &question{answer: make(chan answer, 1)}
	h.mu.Lock()
	a.number++
	id := a.number
	a.asked[id] = q
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(a.asked, id)
	}()

	var envelope [][]byte
	if h.end.Type == DEALER {
		envelope = [][]byte{binary.BigEndian.AppendUint64(nil, id)}
	}
	o := outgoing{message: wrap(envelope, data), bytes: message(data).size(), settle: func(f fate) { a.settled(q, f) }}
	l, err := h.assignTo(ctx, o, h.end.Profile == Durable, &q.lane)
	if err != nil {
		return nil, errUnasked
	}
	select {
	case got := <-q.answer:
		return got.data, got.err
	case <-ctx.Done():
	}
	if h.end.Type == REQ {
		h.mu.Lock()
		c := l.conn
		h.mu.Unlock()
		if c != nil {
			c.end(errSlow)
		}
	}
	return nil, fmt.Errorf("zmtp: %w: %w", context.Cause(ctx), patterns.ErrIndeterminate)
}

// settled hears what became of a question on its way.
func (a *answerer) settled(q *question, f fate) {
	a.hub.mu.Lock()
	defer a.hub.mu.Unlock()
	switch f {
	case handed:
		if q.handed = true; q.lane.conn == nil {
			q.tell(answer{err: errMaybe})
		}
	case unsent:
		if a.hub.end.Profile == Classic {
			a.hub.drop(DropPeerGone, 1)
			q.tell(answer{err: errDiscarded})
			break
		}
		q.tell(answer{err: errRetry})
	case doubtful:
		q.tell(answer{err: errMaybe})
	}
}

// collect takes answers until ctx ends.
func (a *answerer) collect(ctx context.Context) error {
	var batch []arrival
	for {
		var err error
		if batch, err = a.hub.take(ctx, batch[:0], takeAtOnce); err != nil {
			return err
		}
		a.hub.mu.Lock()
		for _, r := range batch {
			a.hear(r)
		}
		a.hub.mu.Unlock()
		clear(batch)
	}
}

// hear gives an answer to who asked. The hub's mutex must be held.
func (a *answerer) hear(r arrival) {
	envelope, data, ok := unwrap(r.message)
	if !ok {
		a.hub.drop(DropMalformed, 1)
		return
	}
	if a.hub.end.Type == REQ {
		for _, q := range a.asked { // one at most
			if q.lane == r.from && len(envelope) == 0 {
				q.tell(answer{data: data})
				return
			}
		}
		a.hub.drop(DropUnasked, 1)
		return
	}
	if len(envelope) != 1 || len(envelope[0]) != 8 {
		a.hub.drop(DropUnasked, 1)
		return
	}
	id := binary.BigEndian.Uint64(envelope[0])
	q := a.asked[id]
	switch {
	case q != nil && q.lane == r.from:
		q.tell(answer{data: data})
	case q == nil && id > 0 && id <= a.number:
		a.hub.drop(DropLate, 1)
	default:
		a.hub.drop(DropUnasked, 1)
	}
}
