package patterns

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// waits fails a message n times and returns how long it was away each time.
func waits(t *testing.T, r receives, n int) (out []time.Duration) {
	t.Helper()
	for range n {
		m := recv(t, r, "bad")
		if err := m.Nack(errors.New("boom")); err != nil {
			t.Fatal(err)
		}
		failed := time.Now()
		m = recv(t, r, "bad")
		out = append(out, time.Since(failed).Round(10*time.Millisecond))
		if err := m.NackAfter(errors.New("boom"), time.Millisecond); err != nil { // does not count for the time, but as a delivery
			t.Fatal(err)
		}
	}
	return out
}

func TestBackOffGoesFromTheFirstToTheLongest(t *testing.T) {
	for name, c := range map[string]struct {
		opts []Option
		want []time.Duration
	}{
		"as usual": {nil, []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 1600 * time.Millisecond, 6400 * time.Millisecond}},
		"as asked": {[]Option{Backoff(2*time.Second, 5*time.Second)}, []time.Duration{2 * time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, rs, _ := line(t, 1, c.opts, nil)
				send(t, s, "bad")
				same(t, "away", waits(t, rs[0], 4), c.want)
			})
			bubble(t, func(t *testing.T) {
				p, rs, _ := channel(t, 1, c.opts, nil)
				publish(t, p, "a", "bad")
				same(t, "away from a subscription", waits(t, rs[0], 4), c.want)
			})
			bubble(t, func(t *testing.T) {
				a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
				p, s := a.pub(c.opts...), b.durable("s")
				connect(a.node, p, b.node, s)
				ready(t, p, 1)
				publish(t, p, "a", "bad")
				same(t, "away from a durable subscription", waits(t, s, 4), c.want)
			})
		})
	}
}

func TestAMessageThatAlwaysFailsDiesAfterTheWaitsThatBackoffSays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told fates
		s, rs, _ := line(t, 1, []Option{OnSettled(told.note)}, nil)
		send(t, s, "bad")
		began := time.Now()
		for range DefaultMaxDeliver {
			m, err := rs[0].Recv(long(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Nack(errors.New("boom")); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		same(t, "fate", told.told(), []string{"1 dead"})
		same(t, "time", fmt.Sprint(time.Since(began).Round(time.Second)), "51s")
		same(t, "deliveries", rs[0].Stats().Delivered, DefaultMaxDeliver)
	})
}
