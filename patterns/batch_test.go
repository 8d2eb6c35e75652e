package patterns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"

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
	cutShort(t, "SendBatch", func(ctx context.Context) error {
		_, err := s.SendBatch(ctx, batchOf("1"))
		return err
	})
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

// What was accepted of a batch goes out before the rest waits for room, or there would never be any.
func TestABatchLargerThanTheQueueIsSentAsRoomComesFree(t *testing.T) {
	for _, disk := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			var s *Push
			var from *node
			ctx := long(t)
			if disk { // the part that does not fit memory goes there
				k := newKept(t, 'a', t.TempDir())
				s, from = k.push(Durability(socket.Memory), Queue(2, 1<<20)), k.node
			} else {
				from = newNode(t, 'a')
				s = from.push(Queue(2, 1<<20))
				ctx = within(t, socket.RenewEvery/2) // it is not the heartbeat that brings it on its way
			}
			b := newNode(t, 'b')
			r := b.pull()
			connect(from, s, b, r)
			if err := s.WaitReady(long(t), 1); err != nil {
				t.Fatal(err)
			}
			sent := make(chan error, 1)
			go func() {
				seqs, err := s.PostBatch(ctx, batchOf("1", "2", "3", "4", "5", "6", "7"))
				if err == nil && len(seqs) != 7 {
					err = fmt.Errorf("%v were accepted, want 7", seqs)
				}
				sent <- err
			}()
			for i := range 7 {
				m, err := r.Recv(ctx)
				if err != nil {
					t.Fatalf("message %d: %v, and PostBatch: %v", i+1, err, <-sent)
				}
				same(t, "body", string(m.Body), fmt.Sprint(i+1))
				if err := m.Ack(); err != nil {
					t.Error(err)
				}
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if err := s.Flush(long(t)); err != nil {
				t.Error(err)
			}
			same(t, "done", balanced(t, s).Done, 7)
		})
	}
}

func TestPostBatchSaysWhichOfItWasAccepted(t *testing.T) {
	s := newNode(t, 'a').push(Queue(2, 1<<20), OnOverflow(Refuse))
	seqs, err := s.PostBatch(t.Context(), batchOf("1", "2", "3"))
	matches(t, "PostBatch", err, socket.ErrQueueFull)
	same(t, "accepted", seqs, []uint64{1, 2})
	large := batchOf("1", "2", "3")
	large[1].Body = make([]byte, 64<<20)
	seqs, err = newNode(t, 'b').push().PostBatch(t.Context(), large)
	matches(t, "PostBatch", err, socket.ErrTooLarge)
	same(t, "accepted", seqs, []uint64{1})
}

func TestPostBatchDoesNotWaitForTheDisk(t *testing.T) {
	s := newKept(t, 'a', t.TempDir()).push()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // SendBatch is cut short by it
	seqs, err := s.PostBatch(ctx, batchOf("1", "2"))
	if err != nil {
		t.Error(err)
	}
	same(t, "accepted", seqs, []uint64{1, 2})
	same(t, "accepted", s.Stats().Ledger.Accepted, 2)
}

func TestRecvBatchTakesWhatIsThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, nil, nil)
		r := rs[0]
		if _, err := s.SendBatch(long(t), batchOf("aa", "bb", "cc", "dd", "ee")); err != nil {
			t.Fatal(err)
		}
		got := []*socket.Message{recv(t, r, "aa")} // all of them are here
		synctest.Wait()
		ms := make([]*socket.Message, 3)
		for _, want := range []struct {
			bytes  int
			bodies string
		}{{3, "[bb cc]"}, {0, "[dd]"}, {100, "[ee]"}} {
			n, err := r.RecvBatch(long(t), ms, want.bytes)
			if err != nil {
				t.Fatal(err)
			}
			var bodies []string
			for _, m := range ms[:n] {
				bodies = append(bodies, string(m.Body))
			}
			same(t, fmt.Sprintf("a batch of %d bytes", want.bytes), fmt.Sprint(bodies), want.bodies)
			got = append(got, ms[:n]...)
		}
		if n, err := r.RecvBatch(long(t), nil, 1); n != 0 || err != nil {
			t.Errorf("into nothing: %d, %v", n, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		n, err := r.RecvBatch(ctx, ms, 1)
		matches(t, "with nothing there", err, context.Canceled)
		same(t, "messages", n, 0)
		if err := AckAll(got); err != nil {
			t.Error(err)
		}
		if err := s.Flush(long(t)); err != nil {
			t.Error(err)
		}
	})
}

func TestAckAllAcksAcrossSocketsAndTellsEach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newNode(t, 'a')
		s := a.push()
		var done []string
		told := OnDone(func(m *socket.Message) { done = append(done, string(m.Body)) }) // by AckAll, here
		var rs []*Pull
		for _, id := range []byte{'b', 'c'} {
			n := newNode(t, id)
			r := n.pull(told)
			connect(a, s, n, r)
			rs = append(rs, r)
		}
		if err := s.WaitReady(long(t), 2); err != nil {
			t.Fatal(err)
		}
		if _, err := s.SendBatch(long(t), batchOf("1", "2", "3", "4")); err != nil {
			t.Fatal(err)
		}
		var all []*socket.Message
		for range 2 {
			for _, r := range rs { // in turns, so that each is followed by one of the other
				m, err := r.Recv(long(t))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, m)
			}
		}
		if err := AckAll(append(all, all[0])); err != nil { // a second answer is without effect
			t.Error(err)
		}
		if err := s.Flush(long(t)); err != nil {
			t.Error(err)
		}
		same(t, "done", balanced(t, s).Done, 4)
		same(t, "told", len(done), 4)
	})
}
