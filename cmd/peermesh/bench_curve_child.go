package main

import (
	"context"
	"errors"
	"math"

	"peermesh/node"
	"peermesh/node/reference"
	"peermesh/patterns"
	"peermesh/socket"
)

// What the curves need of children beyond the workloads.

// spreadSide is raw QUIC that sends each message to one server.
type spreadSide struct {
	client *reference.Client
	role   benchRole
}

func (*spreadSide) report() benchReport { return benchReport{} }

func (s *spreadSide) burst(ctx context.Context, l limit) (int, error) {
	return s.client.Spread(ctx, make([]byte, s.role.Size), l.begin(math.MaxInt))
}

func (s *spreadSide) close() error { return s.client.Close() }

// backlogSide puts messages on disk for receivers that dial it.
type backlogSide struct {
	sendSide
	push *patterns.Push
}

func (s *backlogSide) report() benchReport {
	return benchReport{Addrs: []string{s.node.Addr().String()}}
}

// burst puts so many messages on disk; what was sent in time may be told only by their number.
func (s *backlogSide) burst(ctx context.Context, l limit) (int, error) {
	if l.count < 1 {
		return 0, errors.New("a backlog is a number of messages")
	}
	body := make([]byte, s.role.Size)
	ms := make([]*socket.Message, askEvery)
	for i := range ms {
		ms[i] = &socket.Message{Body: body}
	}
	more, sent := limit{count: l.count - 1}.begin(askEvery), 0
	for most := more(0); most > 0; most = more(sent) {
		seqs, err := s.push.PostBatch(ctx, ms[:most])
		sent += len(seqs)
		if err != nil {
			return 0, err
		}
	}
	if err := s.push.Send(ctx, body); err != nil { // on disk, and so is all that was sent before it
		return 0, err
	}
	s.sent += l.count
	return l.count, nil
}

func (s *backlogSide) settle(ctx context.Context) error { return s.flush(ctx) }

// drainSide takes as many messages as it is told to, and no more.
type drainSide struct {
	node *node.Node
	pull *patterns.Pull
}

func (r benchRole) openDrain(ctx context.Context) (benchSide, error) {
	n, err := r.openNode(ctx, "bench-"+r.Role)
	if err != nil {
		return nil, err
	}
	s, err := n.Pull(benchName)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return &drainSide{n, s}, nil
}

func (*drainSide) report() benchReport { return benchReport{} }

func (s *drainSide) burst(ctx context.Context, l limit) (int, error) {
	for n := range l.count {
		m, err := s.pull.Recv(ctx)
		if err == nil {
			err = m.Ack()
		}
		if err != nil {
			return n, err
		}
	}
	return l.count, nil
}

func (s *drainSide) close() error { return s.node.Close() }
