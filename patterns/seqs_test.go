package patterns

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"peermesh/socket"
	"peermesh/spool"
)

// diary is a Seqs that notes what it is asked.
type diary struct {
	mu    sync.Mutex
	start spool.Reservation
	fails error
	notes []string
}

func (d *diary) note(format string, args ...any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
	return d.fails
}

func (d *diary) Resume(string) (spool.Reservation, error) { return d.start, d.note("resume") }
func (d *diary) Reserve(_ string, lowest, end uint64) error {
	return d.note("reserve %d..%d", lowest, end)
}
func (d *diary) Release(_ string, next, lowest uint64) error {
	return d.note("release %d, lowest %d", next, lowest)
}
func (d *diary) Forget(_ string, upTo uint64) error { return d.note("forget %d", upTo) }

func (d *diary) told() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.notes...)
}

// dated makes a push of a node that keeps its seqs in d.
func dated(t testing.TB, d *diary, opts ...Option) (*node, *Push) {
	n := newNode(t, 'a')
	env := n.env()
	env.Seqs = d
	s, err := NewPush(env, "x", opts...)
	return n, made(t, s, err)
}

func TestASeqIsReservedBeforeItIsUsed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &diary{start: spool.Reservation{Next: 7, End: 8}}
		_, s := dated(t, d)
		send(t, s, "7", "8")
		same(t, "notes", d.told(), "[resume]")
		send(t, s, "9")
		same(t, "notes", d.told(), fmt.Sprintf("[resume reserve 7..%d]", 9+spool.ReserveBlock-1))
		send(t, s, "10", "11")
		s.Close()
		equal(t, "notes", len(d.told()), 3)
		equal(t, "at the end", d.told()[2], "release 12, lowest 7")
	})
}

func TestWithoutAReservationNothingIsAccepted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &diary{start: spool.Reservation{Next: 1, End: 1}}
		_, s := dated(t, d)
		send(t, s, "1")
		d.fails = errors.New("disk full")
		for range 3 {
			matches(t, "Send", s.Send(long(t), nil), d.fails)
		}
		equal(t, "accepted", balanced(t, s).Accepted, 1)
		d.fails = nil
		seq, err := s.SendMessage(long(t), &socket.Message{})
		if err != nil || seq != 2 {
			t.Errorf("seq %d, %v", seq, err)
		}
	})
}

func TestAStreamThatCannotBeResumedMakesNoSocket(t *testing.T) {
	d := &diary{fails: errors.New("read-only")}
	n := newNode(t, 'a')
	env := n.env()
	env.Seqs = d
	for kind, make := range makers {
		if !(kind.Sends()) {
			continue
		}
		_, err := make(env)
		matches(t, kind.String(), err, d.fails)
	}
}

func TestTheHoleOfAnEarlierLifeIsToldAndThenForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var holes gaps
		d := &diary{start: spool.Reservation{Next: 50, End: 90, Gap: &spool.SeqRange{From: 20, To: 49}}}
		n, s := dated(t, d)
		b := newNode(t, 'b')
		r := b.pull(OnGap(holes.note))
		connect(n, s, b, r)
		ready(t, s, 1)
		send(t, s, "a")
		acked(t, r, "a")
		same(t, "gaps", holes.told(), "[20-49 incarnation]")
		s.Flush(long(t))
		s.Close()
		same(t, "notes", d.told(), "[resume forget 49 release 51, lowest 51]")
	})
}

func TestTheHoleOfAnEarlierLifeIsKeptWhileNobodyWasTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &diary{start: spool.Reservation{Next: 50, End: 90, Gap: &spool.SeqRange{From: 20, To: 49}}}
		n, s := dated(t, d)
		b := newNode(t, 'b')
		l := newLink(n, s, b, b.pull())
		l.wrap = func(c socket.Conn) socket.Conn { return &deaf{Conn: c, closed: make(chan struct{})} }
		l.start()
		synctest.Wait()
		s.Close()
		same(t, "notes", d.told(), "[resume release 50, lowest 50]")
	})
}

// deaf is a connection that brings nothing.
type deaf struct {
	socket.Conn
	closed chan struct{}
	once   sync.Once
}

func (d *deaf) Read([]byte) (int, error) {
	<-d.closed
	return 0, net.ErrClosed
}

func (d *deaf) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

func TestASubscriberIsToldTheHoleOfAnEarlierLifeIfItKnewThat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var old, fresh gaps
		life := func(n *node, d *diary) *Pub {
			env := n.env()
			env.Seqs = d
			p, err := NewPub(env, "x")
			return made(t, p, err)
		}
		n, b, c := newNode(t, 'a'), newNode(t, 'b'), newNode(t, 'c')
		p := life(n, &diary{start: spool.Reservation{Next: 1, End: 90}})
		r := b.sub(OnGap(old.note))
		l := connect(n, p, b, r)
		ready(t, p, 1)
		publish(t, p, "a", "1", "2")
		acked(t, r, "1", "2")
		p.Flush(long(t))
		l.part() // the publisher's process is gone
		n2 := n.again()
		n2.local.Store, n2.local.Edition, n2.local.Incarnation = n.local.Store, 99, 2
		p2 := life(n2, &diary{start: spool.Reservation{Next: 50, End: 90, Gap: &spool.SeqRange{From: 3, To: 49}}})
		connect(n2, p2, b, r)
		r2 := c.sub(OnGap(fresh.note))
		connect(n2, p2, c, r2)
		ready(t, p2, 2)
		publish(t, p2, "a", "50")
		acked(t, r, "50")
		acked(t, r2, "50")
		same(t, "gaps of who knew it", old.told(), "[3-49 incarnation]")
		same(t, "gaps of who did not", fresh.told(), []string(nil))
	})
}

func TestSeqsInMemoryGoOnWhereTheyWere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 'a')
		s := n.push()
		send(t, s, "1", "2", "3")
		s.Close()
		s = n.push()
		seq, err := s.SendMessage(long(t), &socket.Message{})
		if err != nil || seq != 4 {
			t.Errorf("seq %d, %v", seq, err)
		}
		if err := n.seqs.Reserve("never heard of", 1, 9); err == nil {
			t.Error("a stream that was not resumed was reserved")
		}
	})
}

func TestPullersAreToldWhatIsGivenUpAtClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var holes gaps
		s, rs, ls := line(t, 1, nil, []Option{Prefetch(1), OnGap(holes.note)})
		send(t, s, "1", "2", "3")
		m := recv(t, rs[0], "1")
		s.Close()
		same(t, "gaps", holes.told(), "[2-3 dropped]") // the first one is in hand
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
		none(t, rs[0])
		ls[0].inOrder()
	})
}
