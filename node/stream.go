package node

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// stream makes a QUIC stream a socket.Conn.
type stream struct {
	*quic.Stream
	conn     *quic.Conn
	finished atomic.Bool
}

// tryMost is what fits a packet with room to spare: quic-go takes more at once too, but
// slower.
const tryMost = 1024

// RTT is how long a round trip takes, as QUIC has measured it.
func (s *stream) RTT() time.Duration { return s.conn.ConnectionStats().SmoothedRTT }

// TryWrite takes all of b at once or nothing, and never blocks.
func (s *stream) TryWrite(b []byte) (bool, error) {
	if len(b) > tryMost {
		return false, nil
	}
	switch err := s.TryWriteAll(b); {
	case errors.Is(err, quic.ErrWouldBlock):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// CloseWrite ends the writing side; what was written still arrives.
func (s *stream) CloseWrite() error {
	s.finished.Store(true)
	return s.Stream.Close()
}

// Close ends both sides at once, but for what was written before CloseWrite.
func (s *stream) Close() error {
	s.abort()
	return nil
}

// abort is Close, which cannot fail.
func (s *stream) abort() {
	s.CancelRead(0)
	if !s.finished.Load() {
		s.CancelWrite(0)
	}
}
