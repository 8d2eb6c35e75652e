package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"sync"
	"time"

	"peermesh/socket"
)

// leases are the messages and requests in the hands of clients. Each is answered once: by its client, by its time, or
// by the end of the stream that it was given to. Who takes a lease out of the table answers it.
//
//	grant --> in the table --take--> ack | nack
//	                 |---- its time or its stream ends: nack; no client has seen it: release
//	                 '---- the gateway closes: the socket gives it back
type leases struct {
	mu      sync.Mutex
	all     map[string]*lease
	coming  int                               // reserved, for messages that may come
	finals  map[*socket.Message]chan struct{} // closed when the answer is final
	changed chan struct{}
}

type lease struct {
	id    string
	room  *room
	m     *socket.Message
	over  *time.Timer
	freed func()       // called once it is answered; may be nil
	reply chan replied // of a request
}

var errLeaseOver = errors.New("gateway: the client did not answer in time")
var errClientGone = errors.New("gateway: the client is gone")

// finalWithin bounds how long an ack waits until it is final.
const finalWithin = 5 * time.Second

// reserve makes sure that there is a place for one more, if there are fewer than most. Either grant or unreserve follows.
func (t *leases) reserve(most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all)+t.coming >= most {
		return false
	}
	t.coming++
	return true
}

func (t *leases) unreserve() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.coming--
}

// grant gives m to a client for d, 0 is for as long as its request lives, in a place that was
// reserved. It is the room's user until it is answered.
func (t *leases) grant(r *room, m *socket.Message, d time.Duration, freed func()) *lease {
	l := &lease{id: rand.Text(), room: r, m: m, freed: freed}
	r.join()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.coming--
	t.all[l.id] = l
	if d > 0 {
		l.over = time.AfterFunc(d, func() {
			if t.take(l.id, r.place) == l {
				t.giveBack(l, errLeaseOver, 0)
			}
		})
	}
	return l
}

// take takes a lease out of the table; nil if it is not there, or not of that place. A durable subscription's are found
// by its channel.
func (t *leases) take(id string, p place) *lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.all[id]
	if l == nil || l.room.place.kind != p.kind || l.room.place.name != p.name {
		return nil
	}
	delete(t.all, id)
	t.tell()
	if l.over != nil {
		l.over.Stop()
	}
	return l
}

// tell wakes who waits for fewer leases. t.mu must be held.
func (t *leases) tell() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// left is how many there are, and a channel that closes when there are fewer.
func (t *leases) left() (changed <-chan struct{}, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed, len(t.all)
}

// extend begins a lease's time anew.
func (t *leases) extend(id string, p place, d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.all[id]
	return l != nil && l.room.place.kind == p.kind && l.room.place.name == p.name && l.over != nil && l.over.Reset(d)
}

// free ends a lease that was taken and is answered.
func (l *lease) free() {
	l.room.exit()
	if l.freed != nil {
		l.freed()
	}
}

// giveBack gives a lease that was taken back to the mesh, to be delivered again after delay, 0: the sender's back-off.
func (t *leases) giveBack(l *lease, cause error, delay time.Duration) {
	defer l.free()
	_ = l.m.NackAfter(cause, delay) // its socket has closed: it goes elsewhere anyway
}

// clientGone gives a lease that was taken back at once.
func (t *leases) clientGone(l *lease) { t.giveBack(l, errClientGone, time.Millisecond) }

// release gives a lease that was taken back to the mesh without counting that: no client has seen it, or the gateway is
// leaving.
func (t *leases) release(l *lease) {
	defer l.free()
	_ = l.m.Release() // its socket has closed: it goes elsewhere anyway
}

// ack says that a lease that was taken is done, and waits until that is final: on disk, where the message came durably.
// final is false if that is not known in time.
func (t *leases) ack(ctx context.Context, l *lease) (final bool, err error) {
	wait, err := t.begin(l)
	if err != nil {
		return false, err
	}
	return wait(ctx), nil
}

// begin is the first half of ack; wait is the other.
func (t *leases) begin(l *lease) (wait func(context.Context) bool, err error) {
	defer l.free()
	done := t.expect(l.m)
	if err := l.m.Ack(); err != nil {
		t.forget(l.m)
		return nil, err
	}
	return func(ctx context.Context) bool {
		defer t.forget(l.m)
		late := time.NewTimer(finalWithin)
		defer late.Stop()
		select {
		case <-done:
			return true
		case <-late.C:
		case <-ctx.Done():
		}
		return false
	}, nil
}

func (t *leases) expect(m *socket.Message) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.finals == nil {
		t.finals = map[*socket.Message]chan struct{}{}
	}
	done := make(chan struct{})
	t.finals[m] = done
	return done
}

func (t *leases) forget(m *socket.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.finals, m)
}

// final is told by the sockets that an answer is final.
func (t *leases) final(m *socket.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if done := t.finals[m]; done != nil {
		close(done)
		delete(t.finals, m)
	}
}

// end forgets all leases: what they hold goes back when its socket closes.
func (t *leases) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.all {
		if l.over != nil {
			l.over.Stop()
		}
	}
	clear(t.all)
	t.tell()
}

// gone is the answer to who comes with a lease that is not there.
func gone() *Problem {
	return problem(http.StatusGone, "lease-over", "there is no such lease, or not any more",
		"it was answered, its time is over, or its stream has ended; the message goes elsewhere unless it was acked",
		"take the next message; ask for a longer lease, or extend it while you work")
}
