package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

// A repeated request with the same Idempotency-Key is the same message. What a key was used for is remembered for the
// last Limits.Keys of them: those of durable pushes on disk, in the transaction that keeps the message, so that both or
// neither are there after a crash; all others in memory.

// repeatKey is a key and what it is a key of: two clients with tokens of their own do not know each other's.
type repeatKey struct {
	verb           Verb
	who, name, key string
}

// repeats are the keys in memory.
type repeats struct {
	mu    sync.Mutex
	known map[repeatKey]*repeat
	order []repeatKey // oldest first
}

// repeat is one message.
type repeat struct {
	digest digest
	sent   chan struct{} // closed when seq or err is set
	seq    uint64
	err    error
}

// digest tells messages apart.
type digest [16]byte

func fingerprint(m *socket.Message) (p digest) {
	h := sha256.New()
	field := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	field(m.Topic)
	field(m.Key)
	field(m.TTL.String())
	field(m.Delay.String())
	for _, k := range slices.Sorted(maps.Keys(m.Headers)) {
		if k != "traceparent" && k != "tracestate" { // each try may be a span of its own
			field(k)
			field(m.Headers[k])
		}
	}
	h.Write(m.Body)
	copy(p[:], h.Sum(nil))
	return p
}

// errOtherMessage is a key that was used for something else.
var errOtherMessage = problem(http.StatusUnprocessableEntity, "key-reused", "the Idempotency-Key was used for another message", "",
	"make a new key for each message, and use it for repetitions of that one only")

// once sends, unless the key has been used: then it tells what came of that, and waits for it if it is under way. What
// was certainly not accepted is forgotten.
func (t *repeats) once(ctx context.Context, k repeatKey, p digest, most int, send func() (uint64, error)) (seq uint64, duplicate bool, err error) {
	t.mu.Lock()
	if r := t.known[k]; r != nil {
		t.mu.Unlock()
		if r.digest != p {
			return 0, false, errOtherMessage
		}
		select {
		case <-r.sent:
			return r.seq, true, r.err
		case <-ctx.Done():
			return 0, false, fmt.Errorf("%w: %w", socket.ErrUnknown, context.Cause(ctx))
		}
	}
	r := &repeat{digest: p, sent: make(chan struct{})}
	t.known[k] = r
	t.order = append(t.order, k)
	for len(t.order) > most {
		delete(t.known, t.order[0])
		t.order = t.order[1:]
	}
	t.mu.Unlock()
	r.seq, r.err = send()
	if r.err != nil && !errors.Is(r.err, socket.ErrUnknown) {
		t.forget(k, r)
	}
	close(r.sent)
	return r.seq, false, r.err
}

func (t *repeats) forget(k repeatKey, r *repeat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known[k] == r {
		delete(t.known, k)
		if i := slices.Index(t.order, k); i >= 0 {
			t.order = slices.Delete(t.order, i, i+1)
		}
	}
}

// The values on disk: the keys that are remembered, in order, from which number to which they go, and for each the digest
// and the seq of its message.
const (
	valueNext   = "gateway.keys.next"
	valueOldest = "gateway.keys.oldest"
	valueRing   = "gateway.keys.ring."
	valueDigest = "gateway.keys.digest."
)

// pushOnce sends by a durable push unless the key has been used. It returns when either is on disk.
func (g *Gateway) pushOnce(ctx context.Context, c *call, push *patterns.Push, m *socket.Message, key string) (seq uint64, duplicate bool, err error) {
	p := fingerprint(m)
	name := sha256.Sum256([]byte(c.who() + "\x00" + push.Name() + "\x00" + key))
	at := valueDigest + hex.EncodeToString(name[:16])
	var before []byte
	var r *patterns.Receipt
	err = g.node.Tx(ctx, func(tx *node.Tx) (err error) {
		if before = tx.Get(at); before != nil {
			return nil
		}
		if r, err = tx.Post(push, m); err != nil {
			return err
		}
		return remember(tx, at, p, r, uint64(c.cfg.Limits.Keys))
	})
	switch {
	case err != nil:
		return 0, false, err
	case before == nil:
		return r.Seq, false, nil
	case !bytes.HasPrefix(before, p[:]):
		return 0, false, errOtherMessage
	}
	if _, err := g.node.Get(ctx, at); err != nil { // it waits until the other one is on disk
		return 0, false, fmt.Errorf("%w: %w", socket.ErrUnknown, err)
	}
	if rest := before[len(p):]; len(rest) == 8 { // keys of before this was kept have none
		seq = binary.BigEndian.Uint64(rest)
	}
	return seq, true, nil
}

// remember adds the key of a message, in the place of the oldest one if there are as many as may be.
func remember(tx *node.Tx, at string, p digest, r *patterns.Receipt, most uint64) error {
	next := uint64(0)
	if v := tx.Get(valueNext); len(v) == 8 {
		next = binary.BigEndian.Uint64(v)
	}
	place := func(n uint64) string { return fmt.Sprintf("%s%d", valueRing, n) }
	// Keys are numbered; those from oldest on are there. Two go for one that comes while there are more than may be,
	// as after a limit was lowered.
	oldest := uint64(0)
	if v := tx.Get(valueOldest); len(v) == 8 {
		oldest = binary.BigEndian.Uint64(v)
	}
	for range 2 {
		if next-oldest < most {
			break
		}
		if err := errors.Join(tx.Put(string(tx.Get(place(oldest))), nil), tx.Put(place(oldest), nil)); err != nil {
			return err
		}
		oldest++
	}
	if err := tx.Put(valueOldest, binary.BigEndian.AppendUint64(nil, oldest)); err != nil {
		return err
	}
	if err := tx.Put(place(next), []byte(at)); err != nil {
		return err
	}
	if err := tx.PutSeq(at, p[:], r); err != nil {
		return err
	}
	return tx.Put(valueNext, binary.BigEndian.AppendUint64(nil, next+1))
}
