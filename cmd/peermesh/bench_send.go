package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// limit ends a burst: after so many messages, or without a count after some time.
type limit struct {
	count int
	d     time.Duration
}

// share is what one of several senders does of it.
func (l limit) share(i, of int) limit {
	if l.count > 0 {
		l.count = (l.count + of - 1 - i) / of
		l.d = 0
	}
	return l
}

// begin starts the clock. The result tells a sender that has sent so many how many
// it may send before it asks again: at most step, and 0 at the end.
func (l limit) begin(step int) func(sent int) int {
	if l.d == 0 {
		return func(sent int) int { return min(l.count-sent, step) }
	}
	began := time.Now()
	return func(int) int {
		if time.Since(began) >= l.d {
			return 0
		}
		return step
	}
}

// each runs so many at a time and joins their errors.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// askEvery is how many messages a sender sends between two looks at the clock.
const askEvery = 64

// openSender opens a node and its sending socket, and waits until the receivers' are
// there.
func (r benchRole) openSender(ctx context.Context) (side benchSide, err error) {
	n, err := r.openNode(ctx, "bench-"+r.Role)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	switch r.Role {
	case rolePub:
		s, err := n.Pub(benchName, patterns.OnOverflow(patterns.Block))
		if err != nil {
			return nil, err
		}
		send := func(ctx context.Context, body []byte) error { return s.Publish(ctx, benchName, body) }
		return &sendSide{node: n, role: r, copies: len(r.To), send: send, flush: s.Flush, stats: s.Stats}, s.WaitMatching(ctx, benchName, len(r.To))
	case roleReq:
		s, err := n.Req(benchName)
		if err != nil {
			return nil, err
		}
		return &askSide{node: n, role: r, ask: s.Request}, s.WaitReady(ctx, 1)
	}
	s, err := n.Push(benchName)
	if err != nil {
		return nil, err
	}
	out := sendSide{node: n, role: r, copies: 1, send: s.Send, flush: s.Flush, stats: s.Stats}
	if r.Role == rolePush {
		return &out, s.WaitReady(ctx, max(r.Ready, 1))
	}
	if r.Role == roleBacklog {
		return &backlogSide{out, s}, nil
	}
	out.send = func(ctx context.Context, body []byte) error {
		_, err := s.Post(ctx, &socket.Message{Body: body})
		return err
	}
	return &durableSide{out, s}, s.WaitReady(ctx, 1)
}

// sendSide sends one way: push and pub.
type sendSide struct {
	node   *node.Node
	role   benchRole
	copies int // of each message
	send   func(context.Context, []byte) error
	flush  func(context.Context) error
	stats  func() patterns.SenderStats
	sent   int
}

func (*sendSide) report() benchReport { return benchReport{} }

func (s *sendSide) burst(ctx context.Context, l limit) (int, error) {
	sent := make([]int, s.role.Concurrency)
	err := each(s.role.Concurrency, func(i int) error {
		body := make([]byte, s.role.Size)
		more := l.share(i, s.role.Concurrency).begin(askEvery)
		for most := more(0); most > 0; most = more(sent[i]) {
			for range most {
				if err := s.send(ctx, body); err != nil {
					return err
				}
			}
			sent[i] += most
		}
		return nil
	})
	n := 0
	for _, k := range sent {
		n += k * s.copies
	}
	s.sent += n
	if err != nil {
		return 0, err
	}
	return n, s.flush(ctx)
}

// paced sends what is due, and sleeps until more is. A message carries the time at
// which Send was called.
func (s *sendSide) paced(ctx context.Context, l limit, rate float64) (int, error) {
	body := make([]byte, max(s.role.Size, stampSize))
	clock := newHostClock()
	began := time.Now()
	sent := 0
	more := l.begin(1)
	for ; more(sent) > 0; sent++ {
		due := began.Add(time.Duration(float64(sent*s.copies) / rate * 1e9))
		for wait := time.Until(due); wait > 0; wait = time.Until(due) {
			nap(wait)
		}
		binary.BigEndian.PutUint64(body, uint64(clock.now()))
		if err := s.send(ctx, body); err != nil {
			return 0, err
		}
	}
	s.sent += sent * s.copies
	return sent * s.copies, s.flush(ctx)
}

func (s *sendSide) close() error {
	l := s.stats().Ledger
	err := s.node.Close()
	if l.Done != uint64(s.sent) || !l.Balanced() {
		err = errors.Join(err, failf(exitLoss, "%d messages were sent, and the ledger says %+v", s.sent, l))
	}
	return err
}

// askSide asks and waits: req.
type askSide struct {
	node *node.Node
	role benchRole
	ask  func(context.Context, []byte) ([]byte, error)
}

func (*askSide) report() benchReport { return benchReport{} }

func (s *askSide) burst(ctx context.Context, l limit) (int, error) {
	return askers(s.role, l, func(_ int, body []byte) error { return s.once(ctx, body) })
}

// askers runs the role's number of callers that each ask one request after the other.
func askers(r benchRole, l limit, ask func(caller int, body []byte) error) (int, error) {
	asked := make([]int, r.Concurrency)
	err := each(r.Concurrency, func(i int) error {
		body := make([]byte, r.Size)
		more := l.share(i, r.Concurrency).begin(1)
		for ; more(asked[i]) > 0; asked[i]++ {
			if err := ask(i, body); err != nil {
				return err
			}
		}
		return nil
	})
	n := 0
	for _, k := range asked {
		n += k
	}
	return n, err
}

func (s *askSide) once(ctx context.Context, body []byte) error {
	answer, err := s.ask(ctx, body)
	if err == nil && len(answer) != len(body) {
		err = fmt.Errorf("answer of %d bytes to a request of %d", len(answer), len(body))
	}
	return err
}

func (s *askSide) single(ctx context.Context, l limit) (*histogram, error) {
	body := make([]byte, s.role.Size)
	return oneByOne(l, func() error { return s.once(ctx, body) })
}

func (s *askSide) close() error { return s.node.Close() }

// oneByOne repeats do and returns how long each took.
func oneByOne(l limit, do func() error) (*histogram, error) {
	h := &histogram{}
	more := l.begin(1)
	for n := 0; more(n) > 0; n++ {
		began := time.Now()
		if err := do(); err != nil {
			return nil, err
		}
		h.record(time.Since(began))
	}
	return h, nil
}

// durableSide sends messages by way of the disk. One counts when it was on disk at the
// sender, handled and marked on disk at the receiver, and settled on disk at the sender
// again.
type durableSide struct {
	sendSide
	push *patterns.Push
}

// benchWindow bounds the messages of a burst that are not settled yet; so does the bound on the bytes that a
// socket holds at level memory, so that both levels have as much under way.
const benchWindow = 1 << 15

// burst has many messages on their way at a time.
func (s *durableSide) burst(ctx context.Context, l limit) (int, error) {
	m := socket.Message{Body: make([]byte, s.role.Size)}
	window := make([]*patterns.Receipt, max(1, min(benchWindow, patterns.DefaultQueueBytes/(s.role.Size+1))))
	more, sent := l.begin(askEvery), 0
	for most := more(0); most > 0; most = more(sent) {
		for range most {
			slot := &window[sent%len(window)]
			if *slot != nil {
				if _, err := (*slot).Wait(ctx); err != nil {
					return 0, err
				}
			}
			r, err := s.push.Post(ctx, &m)
			if err != nil {
				return 0, err
			}
			*slot = r
			sent++
			s.sent++
		}
	}
	return sent, s.flush(ctx)
}

// single sends messages one after the other, each when the one before is on disk.
func (s *durableSide) single(ctx context.Context, l limit) (*histogram, error) {
	body := make([]byte, s.role.Size)
	h, err := oneByOne(l, func() error {
		s.sent++
		return s.push.Send(ctx, body)
	})
	if err != nil {
		return nil, err
	}
	return h, s.flush(ctx)
}
