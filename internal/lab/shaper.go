//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Stats counts the Ethernet frames of one direction of a link, since its faults were last changed.
type Stats struct {
	Packets, Bytes                   uint64 // that came in
	Cut, Lost, TooLong, Overflow     uint64 // of these, dropped
	Duplicated, Reordered, Corrupted uint64
}

func (s Stats) String() string {
	return fmt.Sprintf("packets=%d bytes=%d cut=%d lost=%d toolong=%d overflow=%d duplicated=%d reordered=%d corrupted=%d",
		s.Packets, s.Bytes, s.Cut, s.Lost, s.TooLong, s.Overflow, s.Duplicated, s.Reordered, s.Corrupted)
}

// holdBack is how much later than due a reordered packet is sent.
const holdBack = 10 * time.Millisecond

// A shaper decides what becomes of the packets of one direction of a link. It has no clock of its own. Safe
// for concurrent use.
type shaper struct {
	spec Spec
	cut  bool

	mu    sync.Mutex
	rng   *rand.Rand
	free  time.Time // when the rate-limited line is free again
	last  time.Time // when the last packet in order is due
	count Stats
}

func newShaper(spec Spec, cut bool) *shaper {
	seed := spec.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	return &shaper{spec: spec, cut: cut, rng: rand.New(rand.NewPCG(seed, 0))}
}

func (s *shaper) stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// A departure is a copy of a frame and when it is to be sent.
type departure struct {
	at    time.Time
	frame []byte
}

// pass returns what is to be sent of a frame that comes at now. The copies may share memory with the frame.
func (s *shaper) pass(now time.Time, frame []byte) []departure {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.Packets++
	s.count.Bytes += uint64(len(frame))
	switch {
	case s.cut:
		s.count.Cut++
		return nil
	case s.spec.MTU > 0 && len(frame) > s.spec.MTU+etherHeader:
		s.count.TooLong++
		return nil
	case s.chance(s.spec.Loss):
		s.count.Lost++
		return nil
	}
	copies := 1
	if s.chance(s.spec.Dup) {
		s.count.Duplicated++
		copies = 2
	}
	var out []departure
	for range copies {
		at, ok := s.due(now, len(frame))
		if !ok {
			s.count.Overflow++
			continue
		}
		f := frame
		if s.chance(s.spec.Corrupt) {
			s.count.Corrupted++
			f = bytes.Clone(frame)
			corrupt(f, s.rng.IntN)
		}
		out = append(out, departure{at, f})
	}
	return out
}

// due says when a packet leaves the line, unless the queue before it is full. s.mu must be held.
func (s *shaper) due(now time.Time, size int) (at time.Time, ok bool) {
	at = now
	if s.spec.Rate > 0 {
		if s.free.Before(now) {
			s.free = now
		}
		if s.free.Sub(now) > s.spec.Queue {
			return at, false
		}
		s.free = s.free.Add(time.Duration(int64(size) * 8 * int64(time.Second) / s.spec.Rate))
		at = s.free
	}
	at = at.Add(s.spec.Delay)
	if s.spec.Jitter > 0 {
		at = at.Add(time.Duration(s.rng.Int64N(2*int64(s.spec.Jitter)+1)) - s.spec.Jitter)
	}
	if at.Before(s.last) {
		at = s.last
	}
	if s.chance(s.spec.Reorder) {
		s.count.Reordered++
		return at.Add(holdBack), true
	}
	s.last = at
	return at, true
}

// chance throws the dice. s.mu must be held.
func (s *shaper) chance(p float64) bool { return p > 0 && s.rng.Float64() < p }
