package typed_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type sender interface {
	Name() string
	Meet(context.Context, socket.Peer, wire.Offer, socket.Conn) error
	WaitReady(context.Context, int) error
	Close() error
}

type receiver interface {
	Kind() socket.Kind
	Serve(context.Context, socket.Peer, wire.Attach, socket.Conn) error
	Close() error
}

// env is what a node would give its sockets.
func env() patterns.Env {
	var numbers uint64
	return patterns.Env{
		Local: socket.Local{Node: identity.ID{1}, Store: [16]byte{2}, Edition: 3, Nonce: [16]byte{2}, Incarnation: 1,
			Namespace: "default", MaxMessage: 1 << 20, Budget: socket.NewBudget(4 << 20),
			Numbers: func() uint64 { numbers++; return numbers }},
		Seqs:   &patterns.MemorySeqs{},
		Closed: func() {},
	}
}

// meet joins two sockets in memory, as a node joins its own, and returns when they are.
// leave closes them and waits for what runs between them, which must end in good order.
func meet(s sender, r receiver) (leave func()) {
	local := env().Local
	self := socket.Peer{ID: local.Node, Name: "self", Nonce: local.Nonce, Incarnation: 1, MaxMessage: local.MaxMessage}
	a, b := socket.Duplex()
	var wg sync.WaitGroup
	var met, served error
	wg.Go(func() {
		met = s.Meet(context.Background(), self, wire.Offer{Socket: 1, Kind: r.Kind(), Name: s.Name()}, a)
	})
	wg.Go(func() { served = serve(r, self, b) })
	must(s.WaitReady(context.Background(), 1))
	return func() {
		err := errors.Join(r.Close(), s.Close())
		wg.Wait()
		must(errors.Join(err, met, served))
	}
}

func serve(r receiver, peer socket.Peer, c socket.Conn) error {
	_, payload, err := socket.ReadFrame(c, 1<<10)
	if err != nil {
		return err
	}
	attach, err := wire.ParseAttach(payload)
	if err != nil {
		return err
	}
	return r.Serve(context.Background(), peer, attach, c)
}

// queue, channel and service make the two ends of one, and what takes them down.
func queue(push []patterns.Option, pull ...patterns.Option) (*patterns.Push, *patterns.Pull, func()) {
	s, err := patterns.NewPush(env(), "test", push...)
	must(err)
	r, err := patterns.NewPull(env(), "test", pull...)
	must(err)
	return s, r, meet(s, r)
}

func channel(pub []patterns.Option, sub ...patterns.Option) (*patterns.Pub, *patterns.Sub, func()) {
	s, err := patterns.NewPub(env(), "test", pub...)
	must(err)
	r, err := patterns.NewSub(env(), "test", sub...)
	must(err)
	return s, r, meet(s, r)
}

func service() (*patterns.Req, *patterns.Rep, func()) {
	s, err := patterns.NewReq(env(), "test")
	must(err)
	r, err := patterns.NewRep(env(), "test")
	must(err)
	return s, r, meet(s, r)
}

// must is for what cannot fail in these tests; the examples have no testing.T.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
