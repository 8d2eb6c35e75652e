package patterns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"peermesh/socket"
)

func batchOf(bodies ...string) (ms []*socket.Message) {
	for _, b := range bodies {
		ms = append(ms, &socket.Message{Body: []byte(b)})
	}
	return ms
}

func TestABatchIsSentInOrderAndAckedTogether(t *testing.T) {
	for _, durable := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			var s *Push
			var from *node
			if durable {
				k := newKept(t, 'a', t.TempDir())
				s, from = k.push(), k.node
			} else {
				from = newNode(t, 'a')
				s = from.push()
			}
			b := newNode(t, 'b')
			r := b.pull()
			connect(from, s, b, r)
			seqs, err := s.SendBatch(long(t), batchOf("1", "2", "3"))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "seqs", seqs, []uint64{1, 2, 3})
			var got []*socket.Message
			for _, body := range []string{"1", "2", "3"} {
				got = append(got, recv(t, r, body))
			}
			if err := AckAll(got); err != nil {
				t.Error(err)
			}
			if err := s.Flush(long(t)); err != nil {
				t.Error(err)
			}
			same(t, "done", balanced(t, s).Done, 3)
		})
	}
}

func TestABatchSaysWhichOfItWasAccepted(t *testing.T) {
	s := newNode(t, 'a').push(Queue(2, 1<<20), OnOverflow(Refuse))
	seqs, err := s.SendBatch(t.Context(), batchOf("1", "2", "3"))
	matches(t, "SendBatch", err, socket.ErrQueueFull)
	same(t, "accepted", fmt.Sprint(seqs), "[1 2]")
}

func TestABatchThatIsNotWaitedForHasAnUnknownOutcome(t *testing.T) {
	s := newKept(t, 'a', t.TempDir()).push()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.SendBatch(ctx, batchOf("1"))
	matches(t, "SendBatch", err, context.Canceled)
}

func TestAckAllGoesOnAfterAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, nil, nil)
		send(t, s, "1")
		m := recv(t, rs[0], "1")
		err := AckAll([]*socket.Message{{}, m})
		if err == nil || errors.Is(err, net.ErrClosed) {
			t.Errorf("a message that was not received: %v", err)
		}
		if err := s.Flush(long(t)); err != nil {
			t.Error(err)
		}
	})
}
