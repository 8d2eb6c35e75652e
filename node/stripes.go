package node

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/socket"

	"github.com/quic-go/quic-go"
)

const (
	// joinFrame bounds what is read of a stream of a further connection before its use is known.
	joinFrame = 64
	// claimWithin is how long a part of a pipe may be there before the pipe's own stream says so, or be missing after.
	claimWithin = 15 * time.Second
	// mostParts bounds the parts of one link that wait to be claimed.
	mostParts = 64
	// mostSpread is how many pipes of a link may be spread at a time. Of each as much as 320 KiB may have come on one connection
	// before its turn, read by nobody until then: all of it must stay below the connection's window of 1 MiB, or pipes that
	// wait for different connections could hold up each other, and the link, for good.
	mostSpread = 2
	// stripesIdle is for how long further connections are kept that no pipe uses any more: what was written last is
	// sent again if it was lost, and who becomes busy again finds them.
	stripesIdle = 5 * time.Second
)

var errStripesBusy = errors.New("further connections are being made, or carry enough")

// stripes are the further connections of a link, which carry parts of its pipes. Each end dials those for what it sends.
//
//	JOIN ticket of the HELLO it got, number ->
//	                <- JOIN ticket of the HELLO it sent, number
//
// Both prove who they are as on any link, so the ticket is no secret that opens anything; it says which of the two
// processes' links the connection is for. A second connection of a number takes the place of the first.
type stripes struct {
	l *link

	mu      sync.Mutex
	over    bool
	dialing bool
	dialed  [wire.MaxStripes]*stripe // by number; none has 0
	users   int                      // pipes that are spread over those
	idle    *time.Timer              // closes them
	bundles uint64                   // the last one's number

	joined [wire.MaxStripes]*quic.Conn // the peer's, by number
	came   map[part]*arrival
	news   socket.Event // fired when something came
}

// part names the stream of a bundle on one connection.
type part struct {
	bundle uint64
	number uint8
}

// arrival is a stream that its pipe has not claimed.
type arrival struct {
	st      *stream
	tooLate *time.Timer
}

// stripe is a further connection that was dialled here.
type stripe struct {
	conn   *quic.Conn
	tr     *quic.Transport
	socket net.PacketConn // nil: the node's own
}

func (s *stripe) close() {
	_ = s.conn.CloseWithError(closeBye, "") // it may have ended already, and that is as good
	if s.socket != nil {
		_ = s.tr.Close() // likewise
		_ = s.socket.Close()
	}
}

// count is over how many connections pipes are spread now, one way or the other.
func (s *stripes) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, in := 0, 0
	for i := range s.dialed {
		if s.dialed[i] != nil {
			out++
		}
		if s.joined[i] != nil {
			in++
		}
	}
	if most := max(out, in); most > 0 {
		return 1 + most
	}
	return 0
}

// bundle opens a stream on each further connection, and makes those first that there are not. release must be called when
// the streams are closed. Blocking ends with ctx.
func (s *stripes) bundle(ctx context.Context) (number uint64, parts []*stream, release func(), err error) {
	if err := s.dial(ctx); err != nil {
		return 0, nil, nil, err
	}
	s.mu.Lock()
	s.bundles++
	number = s.bundles
	dialed := s.dialed
	s.mu.Unlock()
	for i := 1; i < s.l.most && err == nil; i++ {
		if dialed[i] == nil { // the link has ended
			err = errClosing
			break
		}
		var st *quic.Stream
		if st, err = dialed[i].conn.OpenStreamSync(ctx); err != nil {
			break
		}
		st.CancelRead(0) // it is one way
		parts = append(parts, &stream{Stream: st, conn: dialed[i].conn})
		_, err = st.Write(wire.AppendNumber(nil, wire.TypeStripe, number))
	}
	if err != nil {
		for _, p := range parts {
			p.abort()
		}
		s.release()
		return 0, nil, nil, err
	}
	return number, parts, s.release, nil
}

// dial makes the further connections that there are not, and counts a user of them unless it fails.
func (s *stripes) dial(ctx context.Context) error {
	s.mu.Lock()
	if s.over || s.dialing || s.users >= mostSpread {
		defer s.mu.Unlock()
		return errStripesBusy
	}
	s.dialing = true
	s.users++
	if s.idle != nil {
		s.idle.Stop()
	}
	var missing []uint8
	var dead []*stripe
	for i := 1; i < s.l.most; i++ {
		if d := s.dialed[i]; d == nil || d.conn.Context().Err() != nil {
			missing = append(missing, uint8(i))
			if d != nil {
				dead = append(dead, d)
				s.dialed[i] = nil
			}
		}
	}
	s.mu.Unlock()
	for _, d := range dead {
		d.close()
	}
	made, errs := make([]*stripe, len(missing)), make([]error, len(missing))
	var wg sync.WaitGroup
	for i, number := range missing {
		wg.Go(func() { made[i], errs[i] = s.l.dialStripe(ctx, number) })
	}
	wg.Wait()
	err := errors.Join(errs...)
	s.mu.Lock()
	s.dialing = false
	var surplus []*stripe
	for i, number := range missing {
		switch {
		case made[i] == nil:
		case s.over:
			surplus = append(surplus, made[i])
		default:
			s.dialed[number] = made[i]
		}
	}
	s.mu.Unlock()
	for _, d := range surplus {
		d.close()
	}
	if err != nil {
		s.release()
	}
	return err
}

// release counts a user less; the last one's going ends the connections in a while.
func (s *stripes) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users > 0 || s.over {
		return
	}
	if s.idle == nil {
		s.idle = time.AfterFunc(stripesIdle, func() {
			if s.l.begin() { // otherwise close ends them
				defer s.l.ended()
				s.rest()
			}
		})
		return
	}
	s.idle.Reset(stripesIdle)
}

// rest ends the connections that were dialled, if nobody uses them.
func (s *stripes) rest() {
	s.mu.Lock()
	if s.users > 0 || s.over {
		s.mu.Unlock()
		return
	}
	dialed := s.dialed
	s.dialed = [wire.MaxStripes]*stripe{}
	s.mu.Unlock()
	for _, d := range dialed {
		if d != nil {
			d.close()
		}
	}
}

// close ends all of them, when the link has ended.
func (s *stripes) close() {
	s.mu.Lock()
	s.over = true
	if s.idle != nil {
		s.idle.Stop()
	}
	dialed, came := s.dialed, s.came
	s.dialed, s.came = [wire.MaxStripes]*stripe{}, nil
	s.mu.Unlock()
	for _, d := range dialed {
		if d != nil {
			d.close()
		}
	}
	for _, a := range came {
		a.tooLate.Stop()
		a.st.abort()
	}
}

// dialStripe makes a further connection to the peer.
func (l *link) dialStripe(ctx context.Context, number uint8) (*stripe, error) {
	n := l.n
	ctx, stop := context.WithTimeout(ctx, 3*n.cfg.HandshakeTimeout)
	defer stop()
	s := &stripe{tr: n.tr}
	if n.cfg.PacketConn == nil {
		own, err := net.ListenUDP("udp", &net.UDPAddr{IP: hostOf(n.conn.LocalAddr()).AsSlice(), Zone: hostOf(n.conn.LocalAddr()).Zone()})
		if err != nil {
			return nil, err
		}
		s.socket, s.tr = own, &quic.Transport{Conn: own, ConnectionIDLength: 8}
	}
	var err error
	if s.conn, err = s.tr.Dial(ctx, l.conn.RemoteAddr(), n.creds.TLS(wire.StripeALPN), n.qc); err == nil {
		if err = l.joinAs(ctx, s.conn, number); err == nil {
			return s, nil
		}
		n.noLink(s.conn, err)
	}
	if s.socket != nil {
		err = errors.Join(explain(err), s.tr.Close(), s.socket.Close())
	}
	return nil, err
}

// joinAs tells the other end of a connection which link it is for, and waits for its word.
func (l *link) joinAs(ctx context.Context, conn *quic.Conn, number uint8) error {
	if _, err := l.n.vouch(conn, l.peer.ID); err != nil {
		return err
	}
	st, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return l.n.lost(ctx, conn, err)
	}
	release := context.AfterFunc(ctx, func() { st.CancelRead(0) })
	defer release()
	_, err = st.Write(wire.AppendJoin(nil, wire.Join{Ticket: l.hello.Near.Ticket, Number: number}))
	var j wire.Join
	if err == nil {
		j, err = readJoin(st)
	}
	switch {
	case err != nil:
		return l.n.lost(ctx, conn, err)
	case subtle.ConstantTimeCompare(j.Ticket[:], l.greeted.Ticket[:]) != 1 || j.Number != number:
		return &protocolError{errors.New("JOIN of another link")}
	}
	return nil
}

func readJoin(r io.Reader) (wire.Join, error) {
	t, payload, err := socket.ReadFrame(r, joinFrame)
	switch {
	case err != nil:
		return wire.Join{}, err
	case t != wire.TypeJoin:
		return wire.Join{}, &protocolError{fmt.Errorf("frame 0x%02x, expected JOIN", byte(t))}
	}
	j, err := wire.ParseJoin(payload)
	if err != nil {
		err = &protocolError{err}
	}
	return j, err
}

// joined serves a further connection that a peer has dialled, as long as it lasts. An error says that it was not taken.
// ctx bounds how long it may take to say which link it is for; over is called then.
func (n *Node) joined(ctx context.Context, over func(), conn *quic.Conn) error {
	l, number, err := n.readJoined(ctx, conn)
	over()
	if err != nil {
		return err
	}
	n.windows.open(conn)
	defer n.windows.close(conn)
	if old := l.stripes.take(number, conn); old != nil {
		_ = old.CloseWithError(closeBye, "") // it may have ended already, and that is as good
	}
	defer l.stripes.drop(number, conn)
	for {
		st, err := conn.AcceptStream(l.ctx)
		if err != nil {
			_ = conn.CloseWithError(closeBye, "") // likewise; it goes with the link
			return nil
		}
		n.wg.Go(func() { l.stripes.receive(number, &stream{Stream: st, conn: conn}) })
	}
}

// readJoined judges a further connection and answers its JOIN.
func (n *Node) readJoined(ctx context.Context, conn *quic.Conn) (*link, uint8, error) {
	who, err := n.vouch(conn, ID{})
	if err != nil {
		return nil, 0, err
	}
	st, err := conn.AcceptStream(ctx)
	if err != nil {
		return nil, 0, n.lost(ctx, conn, err)
	}
	release := context.AfterFunc(ctx, func() { st.CancelRead(0) })
	defer release()
	j, err := readJoin(st)
	if err != nil {
		return nil, 0, n.lost(ctx, conn, err)
	}
	l := n.tickets.linkOf(j.Ticket)
	switch {
	case l == nil:
		return nil, 0, &identity.Refusal{Code: identity.CodeSuperseded, Reason: "the link of this connection has ended"}
	case l.peer.ID != who.ID || l.ident.Namespace != who.Namespace:
		return nil, 0, &identity.Refusal{Code: identity.CodeIdentity, Reason: fmt.Sprintf("node %v with the ticket of another", who.ID)}
	case int(j.Number) >= l.most:
		return nil, 0, &identity.Refusal{Code: identity.CodePolicy, Reason: fmt.Sprintf("further connection %d, %d agreed", j.Number, l.most-1)}
	}
	if _, err := st.Write(wire.AppendJoin(nil, wire.Join{Ticket: l.hello.Near.Ticket, Number: j.Number})); err != nil {
		return nil, 0, n.lost(ctx, conn, err)
	}
	return l, j.Number, nil
}

// take notes a connection of the peer's and returns the one whose place it takes.
func (s *stripes) take(number uint8, conn *quic.Conn) (old *quic.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, s.joined[number] = s.joined[number], conn
	return old
}

func (s *stripes) drop(number uint8, conn *quic.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.joined[number] == conn {
		s.joined[number] = nil
	}
}

// receive takes a stream of a further connection: it waits for the pipe that it is a part of.
func (s *stripes) receive(number uint8, st *stream) {
	if err := s.keep(number, st); err != nil {
		s.l.n.log.Debug("part of a pipe refused", "peer", s.l.peer.ID, "err", clean(err.Error()))
		st.abort()
	}
}

func (s *stripes) keep(number uint8, st *stream) error {
	late := time.AfterFunc(claimWithin, func() { st.CancelRead(0) })
	defer late.Stop()
	t, payload, err := socket.ReadFrame(st, joinFrame)
	if err != nil {
		return err
	}
	if t != wire.TypeStripe {
		return fmt.Errorf("frame 0x%02x, expected STRIPE", byte(t))
	}
	bundle, err := wire.ParseNumber(payload)
	if err != nil {
		return err
	}
	st.CancelWrite(0) // it is one way
	s.mu.Lock()
	defer s.mu.Unlock()
	p := part{bundle, number}
	switch {
	case s.over:
		return errClosing
	case s.came[p] != nil:
		return fmt.Errorf("bundle %d twice on connection %d", bundle, number)
	case len(s.came) >= mostParts:
		return fmt.Errorf("more than %d parts without a pipe", mostParts)
	}
	s.came[p] = &arrival{st, time.AfterFunc(claimWithin, func() {
		if st := s.pick(p); st != nil {
			st.abort()
		}
	})}
	s.news.Fire()
	return nil
}

// pick takes a part out of those that wait; nil: it is not there.
func (s *stripes) pick(p part) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.came[p]
	if a == nil {
		return nil
	}
	delete(s.came, p)
	a.tooLate.Stop()
	return a.st
}

// claim waits for a part of a pipe.
func (s *stripes) claim(ctx context.Context, p part) (*stream, error) {
	ctx, stop := context.WithTimeout(ctx, claimWithin)
	defer stop()
	for {
		s.mu.Lock()
		news := s.news.Wait()
		s.mu.Unlock()
		if st := s.pick(p); st != nil {
			return st, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, fmt.Errorf("part %d of bundle %d: %w", p.number, p.bundle, context.Cause(ctx))
		}
	}
}
