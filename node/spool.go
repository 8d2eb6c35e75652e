package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"
)

// Spool looks after what is kept on disk: through a running node, or in the state
// directory of one that does not run. Safe for concurrent use.
type Spool struct {
	store *spool.Store
	node  *Node // nil: none runs
}

// ErrNoSpool is a directory in which no node has kept anything.
var ErrNoSpool = errors.New("node: no spool there")

// Spool is that of the running node; nil without a state directory.
func (n *Node) Spool() *Spool {
	if n.store == nil {
		return nil
	}
	return &Spool{n.store, n}
}

// OpenSpool opens what the node of a state directory has left there. While that node
// runs it is spool.ErrLocked; where there is nothing it is ErrNoSpool, and nothing is
// made. keyFile is the node's Config.SpoolKeyFile; if it does not fit, the error is
// spool.ErrNoKey, ErrWrongKey or ErrNotEncrypted. Whoever opened it closes it.
func OpenSpool(dir, keyFile string) (*Spool, error) {
	dir = filepath.Join(dir, "spool")
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoSpool, dir)
	}
	key, err := readSpoolKey(keyFile)
	if err != nil {
		return nil, err
	}
	store, err := spool.Open(dir, spool.Options{Key: key})
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return &Spool{store: store}, nil
}

// readSpoolKey reads a key file; no path is no key.
func readSpoolKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	key, err := spool.ReadKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return key, nil
}

// Close closes what OpenSpool opened. A running node goes on.
func (s *Spool) Close() error {
	if s.node != nil {
		return nil
	}
	return s.store.Close()
}

// The kinds of queues.
const (
	QueuePush    = "push"     // messages on their way to pullers
	QueueDead    = "dead"     // those whose deliveries have all failed
	QueuePub     = "pub"      // the log of a channel
	QueuePubDead = "pub-dead" // what died on its way to a durable subscription
)

// Queue is a queue on disk.
type Queue struct {
	Kind      string
	Namespace string
	Name      string
	Info      spool.QueueInfo
}

// Queues lists the queues on disk by namespace, name and kind. They are not only those
// of the node's own namespace.
func (s *Spool) Queues() (out []Queue) {
	for _, info := range s.store.Queues() {
		if part := strings.Split(info.Name, "\x00"); len(part) == 3 {
			out = append(out, Queue{part[0], part[1], part[2], info})
		}
	}
	slices.SortFunc(out, func(a, b Queue) int {
		return strings.Compare(a.Namespace+"\x00"+a.Name+"\x00"+a.Kind, b.Namespace+"\x00"+b.Name+"\x00"+b.Kind)
	})
	return out
}

// full is the queue's name in the store.
func (q Queue) full() string { return q.Kind + "\x00" + q.Namespace + "\x00" + q.Name }

// Stat is the state of the store.
func (s *Spool) Stat() spool.Stat { return s.store.Stat() }

// ForgetLost says that whoever must know has been told what q has lost, Loan.State.Lost. It blocks
// until that is on disk, or ctx ends. Until then each start tells it again.
func (s *Spool) ForgetLost(ctx context.Context, q Queue) error {
	loan, err := s.Lend(q)
	if err != nil {
		return err
	}
	defer loan.Return()
	c := s.store.Begin()
	c.ForgetLost(loan.Queue)
	g := c.Group()
	c.End()
	if err := s.store.Wait(ctx, g); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// Begin opens a change of the store, see spool.Store.
func (s *Spool) Begin() *spool.Change { return s.store.Begin() }

// Wait waits for a change to be on disk, see spool.Store.
func (s *Spool) Wait(ctx context.Context, g spool.Group) error { return s.store.Wait(ctx, g) }

// keeper is a sender that has queues open and lets others have a share in them.
type keeper interface {
	// Backlog is its queue, or its dead letters, and how that stands; nil below level durable.
	Backlog(dead bool) (*spool.Queue, spool.QueueState)
	// PostWith sends a message; what with does goes to the disk in the same transaction.
	PostWith(ctx context.Context, m *socket.Message, with func(*spool.Change)) (seq uint64, g spool.Group, err error)
}

// keeper is the socket that has the queue open, if there is one that shares it.
func (s *Spool) keeper(q Queue) keeper {
	if s.node == nil || q.Namespace != s.node.Namespace() || q.Kind != QueuePush && q.Kind != QueueDead {
		return nil
	}
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	k, _ := s.node.senders[socketKey{kind: wire.Push, name: q.Name}].(keeper)
	return k
}

// Loan is a queue to look into, until Return is called. What is settled in it is settled
// behind the back of the socket that has it open: only dead letters may be, and anything
// while InUse is false.
type Loan struct {
	*spool.Queue
	State  spool.QueueState
	InUse  bool // a socket of the running node has it open
	Return func()
}

// Lend lends a queue: the handle of the socket that has it open, or one for this purpose.
// It is spool.ErrInUse if who has it open does not share it.
func (s *Spool) Lend(q Queue) (Loan, error) {
	handle, state, err := s.store.OpenQueue(q.full())
	if err == nil {
		return Loan{handle, state, false, handle.Close}, nil
	}
	if k := s.keeper(q); k != nil && errors.Is(err, spool.ErrInUse) {
		if handle, state := k.Backlog(q.Kind == QueueDead); handle != nil {
			return Loan{handle, state, true, func() {}}, nil
		}
	}
	return Loan{}, fmt.Errorf("node: %w", err)
}

// Feed puts messages into a queue of kind push. It is used by one goroutine.
type Feed struct {
	spool  *Spool
	keeper keeper       // who has the queue open; nil: nobody
	queue  *spool.Queue // then
	framer socket.Framer
}

// Feed opens a queue to put messages into. It is spool.ErrInUse if a socket has it open
// and does not share it. The caller closes it.
func (s *Spool) Feed(q Queue) (*Feed, error) {
	if err := patterns.CheckName(wire.Push, q.Name); err != nil {
		return nil, err
	}
	f := &Feed{spool: s, keeper: s.keeper(q), framer: socket.Framer{MaxMessage: DefaultMaxMessage}}
	if f.keeper != nil {
		return f, nil
	}
	var err error
	if f.queue, _, err = s.store.OpenQueue(q.full()); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return f, nil
}

// Post appends a message. It is on disk when Wait for the group has returned; what with
// does goes there in the same transaction. Post blocks while the disk has its hands full.
func (f *Feed) Post(ctx context.Context, m *socket.Message, with func(*spool.Change)) (seq uint64, g spool.Group, err error) {
	if f.keeper != nil {
		return f.keeper.PostWith(ctx, m, with)
	}
	p, err := f.framer.Prepare(m)
	if err != nil {
		return 0, 0, err
	}
	if err := f.spool.store.Ready(ctx); err != nil {
		return 0, 0, err
	}
	c := f.spool.store.Begin()
	defer c.End()
	if seq, _, _, err = c.Append(f.queue, p.MaxSize(), p.Append); err != nil {
		return 0, 0, fmt.Errorf("node: %w", err)
	}
	with(c)
	return seq, c.Group(), nil
}

// Close gives the queue back.
func (f *Feed) Close() {
	if f.queue != nil {
		f.queue.Close()
	}
}
