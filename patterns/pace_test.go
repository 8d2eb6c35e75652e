package patterns

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/socket"
)

func TestWhoIsHeldBack(t *testing.T) {
	const many, above, below = pacedMessages + 1, pacedBytes + 1, pacedBytes - pacedStep
	began := time.Now()
	var p pace
	for i, step := range []struct {
		at       time.Duration
		messages int
		bytes    uint64
		want     string
	}{
		{0, many, below, "false false"},
		{0, pacedMessages, above, "false false"}, // few large ones
		{0, many, pacedBytes, "false false"},
		{0, many, above, "true true"},
		{1, many, above, "true false"},
		{2, many, below + 1, "true false"},
		{3, many, below, "false false"},
		{3, many, below + 1, "false false"},
		{4, many, above, "true true"}, // anew
		{13, many, above, "true false"},
		{14, many, above, "false false"}, // its patience is over
		{15, many, 4 * above, "false false"},
		{20, many, above, "false false"},
		{21, many, below, "false false"},
		{21, many, above, "true true"},
		{22, pacedMessages, above, "false false"},
		{23, many, above, "true true"},
	} {
		holds, first := p.holds(step.messages, step.bytes, func() time.Time { return began.Add(step.at * time.Millisecond) })
		equal(t, fmt.Sprintf("step %d: held back, and the first", i), fmt.Sprint(holds, first), step.want)
	}
}

// burst sends messages of 8 KiB until the queue takes no more of them without waiting for pullers, and reports how long it took.
func burst(t *testing.T, s *Push, ctx context.Context) time.Duration {
	began, body := time.Now(), make([]byte, 8<<10)
	for size := 0; size <= s.set.queueBytes-9<<10; size = int(s.Stats().Bytes) {
		if err := s.Send(ctx, body); err != nil {
			t.Fatalf("with %d bytes queued: %v", size, err)
		}
	}
	return time.Since(began)
}

func TestABurstWaitsOnceAndThenHasAllTheRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newNode(t, 'a').push()
		equal(t, "time", burst(t, s, long(t)), pacePatience)
		matches(t, "one more", s.Send(within(t, time.Second), make([]byte, 16<<10)), context.DeadlineExceeded)
	})
}

func TestWhoHasNoTimeIsNotHeldBackWhileThereIsRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := newNode(t, 'a').push()
		equal(t, "time", burst(t, s, ctx), 0)
		matches(t, "one more", s.Send(ctx, make([]byte, 16<<10)), context.Canceled)
	})
}

func TestAQueueOfAGivenSizeIsNotPaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newNode(t, 'a').push(Queue(DefaultQueue, DefaultQueueBytes))
		equal(t, "time", burst(t, s, long(t)), 0)
	})
}

func TestSendersToAFastPullerAreHeldBackBeforeTheQueueIsFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, rs, _ := line(t, 1, nil, nil)
		const total = 4096
		go func() {
			for range total {
				m, err := rs[0].Recv(t.Context())
				if err != nil {
					return
				}
				m.Ack()
			}
		}()
		body, most := make([]byte, 8<<10), uint64(0)
		for range total {
			if err := s.Send(long(t), body); err != nil {
				t.Fatal(err)
			}
			most = max(most, s.Stats().Bytes)
		}
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		if most > pacedBytes || most < pacedBytes/2 {
			t.Errorf("%d bytes were queued at most, want somewhat below %d", most, pacedBytes)
		}
		synctest.Wait()
		equal(t, "done", balanced(t, s).Done, total)
	})
}

func TestAQueueOfSeveralPullersIsNotPaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, _, _ := line(t, 2, nil, []Option{Prefetch(1)})
		equal(t, "time", burst(t, s, long(t)), 0)
	})
}

func TestASenderThatIsHeldBackLearnsThatTheSocketIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newNode(t, 'a').push()
		ended := make(chan error)
		go func() {
			for {
				if err := s.Send(t.Context(), make([]byte, 8<<10)); err != nil {
					ended <- err
					return
				}
			}
		}()
		synctest.Wait() // it is held back; its patience is not over
		if bytes := s.Stats().Bytes; bytes > pacedBytes {
			t.Errorf("%d bytes queued", bytes)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		matches(t, "Send", <-ended, socket.ErrClosed)
	})
}
