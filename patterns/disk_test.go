package patterns

import (
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// disk is where a replier keeps what must outlive it. The test says when what was handed
// over is there.
type disk struct {
	mu      sync.Mutex
	kept    map[string][]byte
	open    []write // handed over, in order
	holding bool    // nothing comes to the disk by itself
	dead    bool
	landing sync.WaitGroup
	turn    sync.Mutex // one callback after the other
}

type write struct {
	values map[string][]byte
	then   func(error)
}

func newDisk() *disk { return &disk{kept: map[string][]byte{}} }

var errDead = errors.New("the process was killed")

func (d *disk) Save(values map[string][]byte, then func(error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, write{maps.Clone(values), then})
	if !d.holding || d.dead {
		d.landing.Go(func() { d.land(1) })
	}
}

// land brings the first n of what was handed over to the disk, or to nothing.
func (d *disk) land(n int) {
	d.turn.Lock()
	defer d.turn.Unlock()
	for range n {
		d.mu.Lock()
		if len(d.open) == 0 {
			d.mu.Unlock()
			return
		}
		w, err := d.open[0], error(nil)
		d.open = d.open[1:]
		if d.dead {
			err = errDead
		} else {
			d.apply(w)
		}
		d.mu.Unlock()
		w.then(err)
	}
}

// apply writes. d.mu must be held.
func (d *disk) apply(w write) {
	for k, v := range w.values {
		if v == nil {
			delete(d.kept, k)
		} else {
			d.kept[k] = slices.Clone(v)
		}
	}
}

func (d *disk) hold() {
	d.mu.Lock()
	d.holding = true
	d.mu.Unlock()
}

func (d *disk) release() {
	d.mu.Lock()
	d.holding = false
	d.mu.Unlock()
	d.land(1 << 20)
}

// killed ends the disk for its process, and is what the next one finds: n of what is
// under way came to the disk, which the process was never told.
func (d *disk) killed(n int) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.open[:min(n, len(d.open))] {
		d.apply(w)
	}
	d.dead = true
	d.landing.Go(func() { d.land(1 << 20) })
	return &disk{kept: maps.Clone(d.kept)}
}

func (d *disk) Note(key string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.newest()[key])
}

// newest is what will be there when all has landed. d.mu must be held.
func (d *disk) newest() map[string][]byte {
	all := &disk{kept: maps.Clone(d.kept)}
	for _, w := range d.open {
		all.apply(w)
	}
	return all.kept
}

func (d *disk) Notes(prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		d.mu.Lock()
		all := d.newest()
		d.mu.Unlock()
		for _, k := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(k, prefix) && !yield(k, all[k]) {
				return
			}
		}
	}
}

// requests are the seqs of the requests on disk and what their first byte says: 0 started,
// otherwise the outcome.
func (d *disk) requests() map[uint64]byte {
	out := map[uint64]byte{}
	for k, v := range d.Notes("") {
		if rest := strings.TrimPrefix(k, diskName+"\x00"); len(rest) == 48 {
			out[binary.BigEndian.Uint64([]byte(rest[40:]))] = v[0]
		}
	}
	return out
}

const diskName = "replies"

// life is one process of a replier, and the link that the requester has to it.
type life struct {
	*node
	disk *disk
	rep  *Rep
	link *link

	mu   sync.Mutex
	over bool // killed: what it still does never happened
}

// born makes the next process of node n, which finds that disk.
func born(n *node, incarnation uint64, d *disk, from *node, q *Req, handler func(*life) ReplyFunc) *life {
	m := newNode(n.TB, n.local.Node[0])
	m.local.Incarnation, m.local.Edition = incarnation, incarnation
	m.local.Nonce[2] = byte(incarnation)
	m.local.Nonce[3] = byte(incarnation >> 8)
	l := &life{node: m, disk: d}
	env := m.env()
	set, err := resolve(env, wire.Rep, nil)
	if err != nil {
		n.Fatal(err)
	}
	l.rep = made(n.TB, &Rep{&receiver{env: env, kind: wire.Rep, name: "x", set: set, box: socket.NewInbox(socket.InboxConfig{
		Local: m.local, Kind: wire.Rep, Name: "x", Replies: d, NoteName: diskName})}}, nil)
	serving(n.TB, l.rep, handler(l))
	n.Cleanup(func() {
		d.release()
		d.landing.Wait()
	})
	l.link = connect(from, q, m, l.rep)
	return l
}

// dead reports whether the process was killed.
func (l *life) dead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// kill ends the process now, with n of what was under way to its disk there. It returns
// the disk.
func (l *life) kill(n int) *disk {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	d := l.disk.killed(n)
	l.link.sever()
	return d
}
