package watermill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// Config adjusts a Mesh. The zero value works.
type Config struct {
	// Groups are the consumer groups that each topic of this node's publishers keeps messages
	// for from the first message on. Other groups begin when they first subscribe. Default:
	// DefaultGroup.
	Groups []string

	// Keep is how many messages of a topic are held for groups that begin later: these get
	// them first. Default 0.
	Keep int

	// ResendAfter is how long a nacked message waits until it comes again. Default 100 ms.
	ResendAfter time.Duration
}

// DefaultGroup is the consumer group of Mesh.Subscriber("").
const DefaultGroup = "watermill"

// leaveWait bounds how long the last subscription of a topic and group waits until its answers
// are read, when it ends.
const leaveWait = 5 * time.Second

// Mesh makes publishers and subscribers of a node. Safe for concurrent use.
type Mesh struct {
	node *node.Node
	cfg  Config

	mu   sync.Mutex
	pubs map[string]*patterns.Pub
	subs map[membership]*member
}

type membership struct{ topic, group string }

// member is this node's part in a group: the subscribers here share one Sub.
type member struct {
	mu    sync.Mutex
	sub   *patterns.Sub // nil: nobody here subscribes
	users int
}

// Open makes a Mesh of a node, which stays the caller's and must have a state directory.
func Open(n *node.Node, cfg Config) *Mesh {
	if len(cfg.Groups) == 0 {
		cfg.Groups = []string{DefaultGroup}
	}
	if cfg.ResendAfter <= 0 {
		cfg.ResendAfter = 100 * time.Millisecond
	}
	return &Mesh{node: n, cfg: cfg, pubs: map[string]*patterns.Pub{}, subs: map[membership]*member{}}
}

// Close closes the topics that were published to; what is owed stays on disk. The node closes
// them as well.
func (m *Mesh) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for topic, p := range m.pubs {
		errs = append(errs, p.Close())
		delete(m.pubs, topic)
	}
	return errors.Join(errs...)
}

// pub returns the sending end of a topic.
func (m *Mesh) pub(topic string) (*patterns.Pub, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.pubs[topic]; p != nil {
		return p, nil
	}
	opts := []patterns.Option{patterns.Durability(socket.Durable), patterns.MaxDeliver(maxDeliver)}
	if m.cfg.Keep > 0 {
		opts = append(opts, patterns.Keep(m.cfg.Keep))
	}
	p, err := m.node.Pub(topic, opts...)
	if err != nil {
		return nil, fmt.Errorf("watermill: topic %q: %w", topic, err)
	}
	for _, group := range m.cfg.Groups {
		if err := p.Expect(group); err != nil {
			return nil, errors.Join(fmt.Errorf("watermill: topic %q: %w", topic, err), p.Close())
		}
	}
	m.pubs[topic] = p
	return p, nil
}

// maxDeliver is the most that may be: Watermill knows no dead letters but its own.
const maxDeliver = 1000

// join returns the receiving end of a topic for a group; leave must follow.
func (m *Mesh) join(of membership) (*patterns.Sub, error) {
	m.mu.Lock()
	who := m.subs[of]
	if who == nil {
		who = &member{}
		m.subs[of] = who
	}
	m.mu.Unlock()
	who.mu.Lock()
	defer who.mu.Unlock()
	if who.sub == nil {
		sub, err := m.node.Sub(of.topic, patterns.DurableName(of.group), patterns.From(patterns.Earliest))
		if err != nil {
			return nil, fmt.Errorf("watermill: subscribe to %q: %w", of.topic, err)
		}
		who.sub = sub
	}
	who.users++
	return who.sub, nil
}

// leave closes the receiving end with its last user: what waits there unread goes to others.
func (m *Mesh) leave(of membership) {
	m.mu.Lock()
	who := m.subs[of]
	m.mu.Unlock()
	who.mu.Lock()
	defer who.mu.Unlock()
	if who.users--; who.users > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveWait)
	defer cancel()
	// Whether the answers were read in time or not, the socket is closed, and what was not
	// answered comes again.
	_ = who.sub.Shutdown(ctx)
	who.sub = nil
}
