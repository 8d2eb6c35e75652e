package patterns

import (
	"testing"
	"testing/synctest"
	"time"

	"peermesh/socket"
)

// later sends a message that is delayed.
func later(t testing.TB, p *Push, body string, delay time.Duration) {
	t.Helper()
	if _, err := p.SendMessage(long(t), &socket.Message{Body: []byte(body), Delay: delay}); err != nil {
		t.Fatal(err)
	}
}

// At level memory a delayed message waits on disk, and others go on in memory.
func TestADelayedMessageAtLevelMemoryWaitsOnDiskAndOutlivesAKill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newNode(t, 'b')
		var seen spillStates
		s, r := a.memory(OnSpill(seen.note)), b.pull()
		link := connect(a.node, s, b, r)
		ready(t, s, 1)
		send(t, s, "1")
		later(t, s, "in an hour", time.Hour)
		send(t, s, "3")
		same(t, "received", takeAll(t, r, 2), []string{"1", "3"})
		time.Sleep(time.Minute)
		send(t, s, "4")
		same(t, "received in memory again", takeAll(t, r, 1), []string{"4"})
		same(t, "went", seen.all, []string{"spilling", "in memory"})
		balanced(t, s)

		a2 := a.killed()
		link.part()
		s2 := a2.memory()
		connect(a2.node, s2, b, r)
		ready(t, s2, 1)
		time.Sleep(58 * time.Minute)
		none(t, r)
		time.Sleep(2 * time.Minute)
		same(t, "received when it is due", takeAll(t, r, 1), []string{"in an hour"})
		flushed(t, s2)
		balanced(t, s2)
	})
}

func TestADelayedMessageThatFindsNoRoomOnDiskIsNotKeptInMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKeptWith(t, 'a', t.TempDir(), 1<<20), newNode(t, 'b')
		s, r := a.memory(OnOverflow(Refuse)), b.pull()
		connect(a.node, s, b, r)
		ready(t, s, 1)
		m := &socket.Message{Body: make([]byte, 300<<10), Delay: time.Hour}
		var err error
		for range 10 {
			if _, err = s.SendMessage(long(t), m); err != nil {
				break
			}
			synctest.Wait()
		}
		matches(t, "a delayed message too many", err, socket.ErrQueueFull)
		send(t, s, "now")
		same(t, "received", takeAll(t, r, 1), []string{"now"})
	})
}
