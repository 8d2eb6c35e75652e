package socket

import (
	"encoding/base32"
	"slices"
	"strings"
	"sync"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/internal/wire"
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

// window decides how much a sender may have here unanswered: prefetch. It grows for
// fast handlers, so that a window is about 50 ms of work and what is on its way
// meanwhile, and shrinks for slow ones, so that work stays where others can take it.
// Time in which a handler waits for messages is not work, see Inbox.worked.
type window struct {
	fixed    bool
	messages int
	bytes    int
	passed   int                  // messages answered since mark
	mark     time.Duration        // of work
	rtt      func() time.Duration // of the pipe; nil: next to nothing
}

const (
	// DefaultPrefetch and DefaultPrefetchBytes are what a sender may have here
	// unanswered before adaptation.
	DefaultPrefetch      = ledger.FirstWindow
	DefaultPrefetchBytes = 4 << 20
	maxPrefetch          = 1 << 16
	minPrefetchBytes     = 2 * wire.MaxRecord // one record always fits

	windowFast = 50 * time.Millisecond
	windowSlow = 400 * time.Millisecond
	leap       = 8 // times as large at once is a window that passes in a part of windowFast that small
)

func newWindow(messages, bytes int) window {
	w := window{fixed: messages > 0, messages: messages, bytes: max(bytes, minPrefetchBytes)}
	if !w.fixed {
		w.messages = DefaultPrefetch
	}
	if bytes == 0 {
		w.bytes = DefaultPrefetchBytes
	}
	return w
}

// steps are an eighth of the window: what is worth telling at once.
func (w *window) steps() (messages, bytes uint64) { return uint64(w.messages / 8), uint64(w.bytes / 8) }

// answered notes that messages left the window. worked tells how long there has been work so far.
func (w *window) answered(n int, worked func() time.Duration) {
	if w.fixed {
		return
	}
	if w.passed += n; w.passed < w.messages {
		return
	}
	t := worked()
	took := t - w.mark
	if w.rtt != nil {
		took -= 2 * w.rtt() // a sender that waits for room passes one window each round trip, and a bit
	}
	switch {
	case took < windowFast/leap:
		w.messages = min(leap*w.messages, maxPrefetch)
	case took < windowFast:
		w.messages = min(2*w.messages, maxPrefetch)
	case took > windowSlow:
		w.messages = max(w.messages/2, DefaultPrefetch)
	}
	w.mark, w.passed = t, 0
}
