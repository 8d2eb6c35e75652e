package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"peermesh/node/reference"
	disk "peermesh/spool/reference"
)

// What a workload is held against, in the sending child.

// yardstickSize is the size of messages by which a run tells whether the references did
// as well as they should.
const yardstickSize = 100

// rawSide is what a carrier does without us.
type rawSide struct {
	client *reference.Client
	role   benchRole
}

func (r benchRole) openRaw(ctx context.Context) (benchSide, error) {
	creds, err := r.credentials()
	if err != nil {
		return nil, err
	}
	c, err := reference.Dial(ctx, carriers[r.Role], creds, r.To...)
	if err != nil {
		return nil, err
	}
	if r.Role == roleQUICSpread {
		return &spreadSide{c, r}, nil
	}
	return &rawSide{c, r}, nil
}

func (*rawSide) report() benchReport { return benchReport{} }

// burst is messages one way, or requests where there are callers.
func (s *rawSide) burst(ctx context.Context, l limit) (int, error) {
	if s.role.Concurrency == 0 {
		return s.push(ctx, s.role.Size, l)
	}
	m, err := s.client.Mux(ctx, s.role.Concurrency)
	if err != nil {
		return 0, err
	}
	n, err := askers(s.role, l, func(caller int, body []byte) error {
		answer, err := m.Do(caller, body)
		if err == nil && len(answer) != len(body) {
			err = fmt.Errorf("answer of %d bytes to a request of %d", len(answer), len(body))
		}
		return err
	})
	return n, errors.Join(err, m.Close())
}

func (s *rawSide) yard(ctx context.Context, l limit) (int, error) {
	return s.push(ctx, yardstickSize, l)
}

// push counts each copy.
func (s *rawSide) push(ctx context.Context, size int, l limit) (int, error) {
	n, err := s.client.Push(ctx, make([]byte, size), l.begin(math.MaxInt))
	return n * len(s.role.To), err
}

func (s *rawSide) single(ctx context.Context, l limit) (*histogram, error) {
	e, err := s.client.Echo(ctx)
	if err != nil {
		return nil, err
	}
	body := make([]byte, s.role.Size)
	h, err := oneByOne(l, func() error { return e.Do(body) })
	return h, errors.Join(err, e.Close())
}

func (s *rawSide) close() error { return s.client.Close() }

// udpSide is what UDP does, which neither repeats nor orders.
type udpSide struct {
	client *reference.UDPClient
	role   benchRole
}

func (r benchRole) openUDP() (benchSide, error) {
	if len(r.To) != 1 {
		return nil, fmt.Errorf("%d receivers over UDP", len(r.To))
	}
	c, err := reference.DialUDP(r.To[0])
	if err != nil {
		return nil, err
	}
	return &udpSide{c, r}, nil
}

func (*udpSide) report() benchReport { return benchReport{} }

// burst is messages one way, or requests one after the other.
func (s *udpSide) burst(ctx context.Context, l limit) (int, error) {
	body := make([]byte, s.role.Size)
	if s.role.Concurrency == 0 {
		return s.client.Push(ctx, body, l.begin(math.MaxInt))
	}
	h, err := s.single(ctx, l)
	if err != nil {
		return 0, err
	}
	return int(h.n), nil
}

func (s *udpSide) single(ctx context.Context, l limit) (*histogram, error) {
	body := make([]byte, s.role.Size)
	return oneByOne(l, func() error { return s.client.Do(ctx, body) })
}

func (s *udpSide) close() error { return s.client.Close() }

// fileSide is what a disk does: a log, or a plain file.
type fileSide struct {
	file interface {
		One() error
		Burst(ctx context.Context, more func(sent int) (most int)) (int, error)
		Close() error
	}
}

func (r benchRole) openFile() (benchSide, error) {
	path := filepath.Join(r.Dir, r.Role)
	if r.Role == rolePlainFile {
		f, err := disk.CreatePlain(path, r.Size)
		return &fileSide{f}, err
	}
	f, err := disk.Create(path, r.Size)
	return &fileSide{f}, err
}

func (*fileSide) report() benchReport { return benchReport{} }

func (s *fileSide) burst(ctx context.Context, l limit) (int, error) {
	return s.file.Burst(ctx, l.begin(askEvery))
}

func (s *fileSide) single(ctx context.Context, l limit) (*histogram, error) {
	return oneByOne(l, func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.file.One()
	})
}

func (s *fileSide) close() error { return s.file.Close() }
