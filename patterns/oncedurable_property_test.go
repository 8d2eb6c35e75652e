package patterns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"

	"pgregory.net/rapid"
)

// step is one thing that happens in a schedule.
type step struct {
	what string
	who  int // which replier
	n    int
}

func (s step) String() string { return fmt.Sprintf("%s(%d, %d)", s.what, s.who, s.n) }

// story is one run: a requester, two repliers with a disk each, and what happens to them.
type story struct {
	q     *Req
	from  *node
	nodes [2]*node
	lives [2]*life // nil: down
	disks [2]*disk // of the one that is down
	born  uint64

	mu       sync.Mutex
	ran      map[uint64]int    // executions, by request
	began    map[uint64]uint64 // its seq
	ended    map[uint64]answer
	answered map[uint64]bool // by a reply that was on disk when its replier was killed
	asked    uint64
	wg       sync.WaitGroup
}

const longRequest, shortRequest = 24 * time.Hour, 3 * time.Second

func (s *story) ask(deadline time.Duration, kind int) {
	s.asked++
	id := s.asked
	body := binary.BigEndian.AppendUint64(nil, id)
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		got, err := s.q.Request(ctx, append(body, byte(kind)))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended[id] = answer{got, err}
	})
}

// handle executes a request: at once, after a while, or with an error.
func (s *story) handle(l *life) ReplyFunc {
	return func(_ context.Context, m *socket.Message) ([]byte, error) {
		id := binary.BigEndian.Uint64(m.Body)
		if l.dead() {
			return nil, errDead
		}
		s.mu.Lock()
		s.ran[id]++
		s.began[id] = m.Seq()
		s.mu.Unlock()
		switch m.Body[8] {
		case 1:
			time.Sleep(time.Second)
		case 2:
			return nil, errors.New("no luck")
		}
		return m.Body[:8], nil
	}
}

func (s *story) do(st step) {
	l := s.lives[st.who]
	switch st.what {
	case "ask":
		s.ask(longRequest, st.n%3)
	case "ask shortly":
		s.ask(shortRequest, st.n%3)
	case "wait":
		time.Sleep([]time.Duration{time.Millisecond, 300 * time.Millisecond, 2 * time.Second, 15 * time.Second, 3 * time.Minute}[st.n%5])
	case "start":
		if l == nil {
			s.born++
			s.lives[st.who] = born(s.nodes[st.who], s.born, s.disks[st.who], s.from, s.q, s.handle)
		}
	}
	if l != nil {
		switch st.what {
		case "cut":
			l.link.cut()
		case "part":
			l.link.sever()
		case "heal":
			l.link.heal()
		case "hold":
			l.disk.hold()
		case "land":
			l.disk.land(st.n)
		case "release":
			l.disk.release()
		case "kill":
			s.disks[st.who], s.lives[st.who] = l.kill(st.n), nil
			s.note(s.disks[st.who])
		}
	}
	synctest.Wait()
}

// note remembers which requests that nobody has got an answer to are answered on a disk.
func (s *story) note(d *disk) {
	on := d.requests()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, seq := range s.began {
		_, over := s.ended[id]
		if o, there := on[seq]; there && o != 0 && !over {
			s.answered[id] = true
		}
	}
}

// heal brings everything back and waits until each request has its outcome.
func (s *story) heal() error {
	for who := range s.lives {
		for _, what := range []string{"start", "heal", "release"} {
			s.do(step{what: what, who: who})
		}
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.ended); n != int(s.asked) {
		return fmt.Errorf("%d of %d requests have no outcome after all is well again", int(s.asked)-n, s.asked)
	}
	for id := uint64(1); id <= s.asked; id++ {
		if err := s.judge(id); err != nil {
			return fmt.Errorf("request %d: %w", id, err)
		}
	}
	return nil
}

// judge holds an outcome to what was executed (I11).
func (s *story) judge(id uint64) error {
	a, ran := s.ended[id], s.ran[id]
	o := OutcomeOf(a.err)
	switch {
	case ran > 1:
		return fmt.Errorf("executed %d times", ran)
	case (o == wire.OK || o == wire.Error) && ran != 1:
		return fmt.Errorf("%v, and executed %d times", o, ran)
	case o == wire.OK && (len(a.body) != 8 || binary.BigEndian.Uint64(a.body) != id):
		return fmt.Errorf("answered %x", a.body)
	case o == wire.Failed && ran != 0:
		return fmt.Errorf("said not to be executed, and was")
	case s.answered[id] && o != wire.OK && o != wire.Error && !errors.Is(a.err, context.DeadlineExceeded):
		return fmt.Errorf("its reply was on disk, and the outcome is %v (%v)", o, a.err)
	case o == wire.Failed && !errors.Is(a.err, context.DeadlineExceeded):
		return fmt.Errorf("it could wait, and failed: %w", a.err)
	}
	return nil
}

// Whatever is killed, cut and written when, a request that may be executed once is executed
// once at most, its outcome is the truth, and no reply that was on disk is lost.
func TestOnceDurableHoldsOverAnySchedule(t *testing.T) {
	steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{rapid.SampledFrom([]string{"ask", "ask", "ask", "ask shortly", "wait", "wait", "cut", "part", "heal", "hold", "hold", "land", "land",
			"release", "kill", "start", "start"}).Draw(t, "what"), rapid.IntRange(0, 1).Draw(t, "who"), rapid.IntRange(0, 4).Draw(t, "n")}
	}), 10, 60)
	rapid.Check(t, func(rt *rapid.T) {
		schedule := steps.Draw(rt, "schedule")
		var err error
		synctest.Test(t, func(t *testing.T) {
			s := &story{from: newNode(t, 'a'), nodes: [2]*node{newNode(t, 'b'), newNode(t, 'c')}, disks: [2]*disk{newDisk(), newDisk()},
				ran: map[uint64]int{}, began: map[uint64]uint64{}, ended: map[uint64]answer{}, answered: map[uint64]bool{}}
			s.from.local.Store[9] = 1 // it has a state directory, and so no time after which it is gone
			s.q = s.from.req(Executed(OnceDurable))
			t.Cleanup(s.wg.Wait)
			t.Cleanup(func() { s.q.Close() })
			s.do(step{what: "start", who: 0})
			s.do(step{what: "start", who: 1})
			for _, st := range schedule {
				s.do(st)
			}
			err = s.heal()
		})
		if err != nil {
			rt.Fatalf("%v\n%v", err, schedule)
		}
	})
}
