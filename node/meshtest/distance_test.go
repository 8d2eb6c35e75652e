package meshtest_test

import (
	"fmt"
	"testing"
	"time"

	"peermesh/node/meshtest"
	"peermesh/patterns"
)

// A sender far away is not held up by what a receiver lets it have unanswered: with the 256 messages that it may have at
// first, 60,000 would take as long as 234 round trips.
func TestManyMessagesGoAFarWayInAFewRoundTrips(t *testing.T) {
	const rtt, count = 200 * time.Millisecond, 60_000
	inBubble(t, meshtest.Config{Seed: 1, Link: meshtest.Link{Delay: rtt / 2}}, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		m.AwaitLinks(a, b)
		jobs, work := must[*patterns.Push](t)(a.Push("jobs")), must[*patterns.Pull](t)(b.Pull("jobs"))
		ctx := within(t, time.Hour)
		began := time.Now()
		go func() {
			for i := range count {
				if err := jobs.Send(ctx, fmt.Append(nil, i)); err != nil {
					t.Errorf("send %d: %v", i, err)
					return
				}
			}
		}()
		for i := range count {
			m, err := work.Recv(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Body) != fmt.Sprint(i) {
				t.Fatalf("message %d is %s", i, m.Body)
			}
			time.Sleep(rtt / 2000) // all of it is 30 round trips of work
			check(t, m.Ack())
		}
		if took := time.Since(began); took > 60*rtt {
			t.Errorf("%d messages took %v, or %d round trips", count, took, took/rtt)
		} else {
			t.Logf("%v, or %d round trips", took, took/rtt)
		}
	})
}
