package patterns

import (
	"testing"
	"time"

	"peermesh/socket"
)

// acceptedAgo is how long ago a message that is owed was accepted, as its sender says.
func (p *Push) acceptedAgo(t *testing.T, seq uint64) time.Duration {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	look, ok := p.box.Ledger().Look(seq)
	if !ok {
		t.Fatalf("message %d is not owed", seq)
	}
	return time.Since(look.Accepted)
}

// The clock is not read for each message of a burst, but none is said to be much older than it is.
func TestAMessageIsAboutAsOldAsItIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		send := func(s *Push, m socket.Message) uint64 {
			t.Helper()
			m.Body = []byte("x")
			seq, err := s.SendMessage(long(t), &m)
			if err != nil {
				t.Fatal(err)
			}
			return seq
		}
		alone := newNode(t, 3).push()
		for range 3 {
			if ago := alone.acceptedAgo(t, send(alone, socket.Message{})); ago != 0 {
				t.Errorf("with nobody there a message is %v old when it is sent", ago)
			}
			time.Sleep(time.Hour)
		}
		s, _, _ := line(t, 1, nil, []Option{Prefetch(1)})
		for range 3 { // more than the puller has room for
			send(s, socket.Message{})
		}
		for range 40 {
			time.Sleep(time.Second)
			if ago := s.acceptedAgo(t, send(s, socket.Message{})); ago > socket.RenewEvery {
				t.Errorf("behind others a message is %v old when it is sent", ago)
			}
			if ago := s.acceptedAgo(t, send(s, socket.Message{TTL: time.Hour})); ago != 0 {
				t.Errorf("one with a TTL is %v old when it is sent", ago)
			}
		}
	})
}
