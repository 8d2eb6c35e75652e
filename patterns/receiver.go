package patterns

import (
	"context"
	"errors"
	"iter"
	"sync"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// notes is a store as a receiving socket needs it.
type notes struct{ store *spool.Store }

func (n notes) Note(key string) []byte { return n.store.Note(key) }

func (n notes) Notes(prefix string) iter.Seq2[string, []byte] { return n.store.Notes(prefix) }

func (n notes) Save(values map[string][]byte, then func(error)) {
	c := n.store.Begin()
	defer c.End()
	for key, value := range values {
		c.Put(key, value)
	}
	c.Then(then)
}

// receiver is what Pull, Sub and Rep have in common.
type receiver struct {
	env  Env
	kind wire.Kind
	name string
	set  settings
	box  *socket.Inbox

	closing sync.Once
}

func newReceiver(env Env, kind wire.Kind, name string, opts []Option) (*receiver, error) {
	if err := CheckName(kind, name); err != nil {
		return nil, err
	}
	set, err := resolve(env, kind, opts)
	if err != nil {
		return nil, err
	}
	r := &receiver{env: env, kind: kind, name: name, set: set}
	cfg := socket.InboxConfig{Local: env.Local, Kind: kind, Name: name, Prefetch: set.prefetch, PrefetchBytes: set.prefetchBytes,
		OnGap: set.onGap, OnDone: set.onDone, OnNack: set.onNack}
	if kind == wire.Sub {
		cfg.Patterns = texts(set.patterns)
	}
	if set.durable != "" && env.Store != nil {
		cfg.Journal, cfg.NoteName = notes{env.Store}, queueName(kind.String(), env.Local.Namespace, name)+"\x00"+set.durable
	}
	if kind == wire.Pull && env.Store != nil {
		cfg.Journal, cfg.NoteName = notes{env.Store}, queueName(kind.String(), env.Local.Namespace, name)
	}
	if kind == wire.Rep && env.Store != nil {
		cfg.Replies, cfg.NoteName = notes{env.Store}, queueName(kind.String(), env.Local.Namespace, name)
	}
	r.box = socket.NewInbox(cfg)
	return r, nil
}

// Kind is what the socket does.
func (r *receiver) Kind() socket.Kind { return r.kind }

// Name is the queue, channel or service.
func (r *receiver) Name() string { return r.name }

// Label tells this subscription from the node's others of the same channel; empty
// for the first and for other kinds. That of a durable one is its name.
func (r *receiver) Label() string {
	if r.set.durable != "" {
		return r.set.durable
	}
	return r.env.Label
}

// Offer makes the socket known to senders, under the number that its node gave it.
func (r *receiver) Offer(number uint64) wire.Offer {
	o := wire.Offer{Socket: number, Kind: r.kind, Name: r.name, Label: r.Label(), Durable: r.set.durable != "", Exclusive: r.set.exclusive}
	if r.kind == wire.Sub {
		o.Start, o.Seq = r.set.from.start()
	}
	return o
}

// Serve runs a pipe that a sender opened; the node calls it.
func (r *receiver) Serve(ctx context.Context, peer socket.Peer, a wire.Attach, c socket.Conn) error {
	return r.box.Serve(ctx, peer, a, c)
}

// LetGo gives back what was not begun and whose sender has no pipe here any more, or is denied one; the node calls it
// when the policy has changed.
func (r *receiver) LetGo(denied func(sender identity.ID) bool) { r.box.LetGo(denied) }

// Stats returns a snapshot.
func (r *receiver) Stats() socket.InboxStats { return r.box.Stats() }

// Pause makes the socket begin no further message: what it holds and has not begun goes back to
// its senders, for other receivers or for later, and nothing comes until Resume. Recv blocks
// meanwhile. What is begun goes on: it is answered as always, its leases are renewed, and a
// pause is no failure of anything. Senders that attach meanwhile are told the same; for WaitReady
// a paused receiver is not ready. At level best effort what has come already waits here. Pause
// does not block; a second one changes nothing.
func (r *receiver) Pause() { r.box.Pause() }

// Resume ends Pause. It does not block, and without Pause does nothing.
func (r *receiver) Resume() { r.box.Resume() }

// Shutdown takes nothing new, gives back what was not begun, waits until what was
// begun is answered and every sender has read its answers, or ctx ends, and closes.
func (r *receiver) Shutdown(ctx context.Context) error {
	err := r.box.Drain(ctx)
	return errors.Join(err, r.Close())
}

// Close ends the socket now. What is begun and not answered goes elsewhere, flagged.
// It may be called twice.
func (r *receiver) Close() error {
	err := r.box.Close()
	r.closing.Do(r.env.Closed)
	return err
}

// recv is Recv of the embedding sockets.
func (r *receiver) recv(ctx context.Context) (*socket.Message, error) { return r.box.Recv(ctx) }

// messages iterates until ctx ends or the socket closes. after is called when the
// loop's body is done with a message.
func (r *receiver) messages(ctx context.Context, after func(*socket.Message)) iter.Seq[*socket.Message] {
	return func(yield func(*socket.Message) bool) {
		for {
			m, err := r.box.Recv(ctx)
			if err != nil {
				return
			}
			more := yield(m)
			after(m)
			if !more {
				return
			}
		}
	}
}

// handle runs n workers until ctx ends or the socket closes, and waits for them.
func (r *receiver) handle(ctx context.Context, n int, handler func(context.Context, *socket.Message) error) error {
	return workers(n, func() error { return r.box.Handle(ctx, r.set.timeout, handler) })
}

// workers runs n of them, waits for them, and returns what one of them says.
func workers(n int, work func() error) error {
	if n < 1 {
		return errors.New("patterns: at least one handler at a time")
	}
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for range n {
		wg.Go(func() { errs <- work() })
	}
	wg.Wait()
	return <-errs
}
