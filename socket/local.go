package socket

import (
	"encoding/base32"
	"slices"
	"strings"
	"sync"

	"peermesh/internal/identity"
)

// Local is what a node tells its sockets of itself.
type Local struct {
	Node        identity.ID
	Store       [16]byte // without a state directory: the nonce
	Edition     uint64
	Nonce       [16]byte
	Incarnation uint64
	Namespace   string
	MaxMessage  int           // bytes of a body, sent or received
	Numbers     func() uint64 // rising, for ATTACH; one source per node
	Budget      *Budget       // for large messages; one per node
}

// Peer is what a socket knows of the node at the other end of a pipe.
type Peer struct {
	ID          identity.ID
	Name        string
	Nonce       [16]byte
	Incarnation uint64
	MaxMessage  int
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// StreamLabel is a stream's name in events: the same string at both ends.
func StreamLabel(node identity.ID, store [16]byte, namespace string, kind Kind, name string) string {
	return strings.Join([]string{node.String(), base32Lower.EncodeToString(store[:]), namespace, kind.String(), name}, ".")
}

// Budget bounds the memory of large messages that are being received or handled:
// those over 256 KiB, which travel in fragments after a grant. One per node; safe
// for concurrent use.
type Budget struct {
	mu    sync.Mutex
	free  int
	total int
	queue []*claim // first come, first served
}

// claim is a share of the budget, waited for or given.
type claim struct {
	size  int
	given bool
	kick  func() // called when it is given later; must not block or lock
}

// NewBudget makes a budget of so many bytes.
func NewBudget(bytes int) *Budget { return &Budget{free: bytes, total: bytes} }

// claim asks for size bytes; kick is called if they are given only later. It
// returns nil for a size that never can be.
func (b *Budget) claim(size int, kick func()) *claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	if size > b.total {
		return nil
	}
	c := &claim{size: size, kick: kick}
	if len(b.queue) > 0 || size > b.free {
		b.queue = append(b.queue, c)
		return c
	}
	b.free -= size
	c.given = true
	return c
}

// isGiven reports whether c's bytes are there.
func (b *Budget) isGiven(c *claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return c.given
}

// drop ends a claim, given or waiting. It is called once per claim.
func (b *Budget) drop(c *claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.given {
		b.free += c.size
	} else {
		b.queue = slices.DeleteFunc(b.queue, func(o *claim) bool { return o == c })
	}
	for len(b.queue) > 0 && b.queue[0].size <= b.free {
		next := b.queue[0]
		b.queue = b.queue[1:]
		b.free -= next.size
		next.given = true
		next.kick()
	}
}

// Gap is a hole in a stream: these seqs will never be delivered here.
type Gap struct {
	Stream   string
	From, To uint64
	Reason   string // expired, retention, dead, corrupt, incarnation or dropped
}

// streamKey identifies a sender's stream within one receiving socket.
type streamKey struct {
	node  identity.ID
	store [16]byte
}
