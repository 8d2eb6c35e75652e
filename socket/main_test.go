package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/ledger"
	"peermesh/internal/ranges"
	"peermesh/internal/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test in fake time; when it ends, nothing it started is left.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// wait is a context that gives up after much more fake time than anything takes.
func wait(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	t.Cleanup(cancel)
	return ctx
}

// soon is a context for what should not come: it ends after d.
func soon(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// reach sleeps until a time.
func reach(at time.Time) {
	time.Sleep(time.Until(at))
	synctest.Wait()
}

// localOf is what a node without a state directory tells its sockets.
func localOf(id byte) Local {
	return Local{Node: identity.ID{id}, Store: [16]byte{id, 1}, Edition: uint64(id) << 8, Nonce: [16]byte{id, 1}, Incarnation: 1,
		Namespace: "test", MaxMessage: 1 << 20, Budget: NewBudget(4 << 20)}
}

// peerOf is how the others know it.
func peerOf(l Local) Peer {
	return Peer{ID: l.Node, Name: "node", Nonce: l.Nonce, Incarnation: l.Incarnation, MaxMessage: l.MaxMessage}
}

// frame is one that was heard.
type frame struct {
	t       wire.Type
	payload []byte
}

// far is the other end of a pipe, played by hand: it says what a test wants and
// notes what it hears.
type far struct {
	testing.TB
	conn Conn

	mu    sync.Mutex
	heard []frame
	ended error
	over  bool // the near end has returned
}

// open lets run have one end of a pipe and returns the other one.
func open(t testing.TB, run func(context.Context, Conn) error) *far {
	near, conn := Duplex()
	f := &far{TB: t, conn: conn}
	done := make(chan struct{}, 2)
	go func() {
		err := run(context.Background(), near)
		f.mu.Lock()
		f.ended, f.over = err, true
		f.mu.Unlock()
		done <- struct{}{}
	}()
	go func() {
		f.listen()
		done <- struct{}{}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
		<-done
	})
	return f
}

func (f *far) listen() {
	for {
		typ, payload, err := ReadFrame(f.conn, wire.MaxFrame+8)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.heard = append(f.heard, frame{typ, payload})
		f.mu.Unlock()
	}
}

// say writes frames. That the near end has closed meanwhile is found out by other means.
func (f *far) say(frames ...[]byte) {
	for _, b := range frames {
		if _, err := f.conn.Write(b); err != nil {
			return
		}
	}
}

// hear returns what came since it was last called, once all is quiet and what could
// wait for company has come too.
func (f *far) hear() []frame {
	synctest.Wait()
	time.Sleep(nudgeDelay)
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.heard
	f.heard = nil
	return h
}

// later is hear for what is in no hurry at a receiver: it goes along with something else, or when
// the pipe looks by itself.
func (f *far) later() []frame {
	time.Sleep(RenewEvery)
	return f.hear()
}

// renews is hear for what is in no hurry at a sender: it goes along with the answer to a RENEW.
func (f *far) renews() []frame {
	f.say(number(wire.TypeRenew, 1))
	return f.hear()
}

// only is hear for one type of frame; the others are lost.
func (f *far) only(typ wire.Type) (payloads [][]byte) {
	for _, h := range f.hear() {
		if h.t == typ {
			payloads = append(payloads, h.payload)
		}
	}
	return payloads
}

// one is only, for exactly one.
func (f *far) one(typ wire.Type) []byte {
	f.Helper()
	h := f.hear()
	var found []byte
	n := 0
	for _, x := range h {
		if x.t == typ {
			found = x.payload
			n++
		}
	}
	if n != 1 {
		f.Fatalf("%d frames of type 0x%02x, want one, in %v", n, byte(typ), types(h))
	}
	return found
}

func types(fs []frame) (out []string) {
	for _, f := range fs {
		out = append(out, fmt.Sprintf("0x%02x", byte(f.t)))
	}
	return out
}

// end returns how the near end returned, and whether it has.
func (f *far) end() (error, bool) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended, f.over
}

// dead demands that the near end has given up, with an error that matches.
func (f *far) dead(want error) {
	f.Helper()
	err, over := f.end()
	switch {
	case !over:
		f.Fatalf("the pipe lives, want its end with %v", want)
	case want == nil && err != nil:
		f.Fatalf("ended with %v, want good order", err)
	case want != nil && !errors.Is(err, want):
		f.Fatalf("ended with %v, want %v", err, want)
	}
}

func (f *far) alive() {
	f.Helper()
	if err, over := f.end(); over {
		f.Fatalf("the pipe ended with %v", err)
	}
}

// cut ends the pipe without a word, once the near end has read all that was said, and waits for the near end.
func (f *far) cut() {
	synctest.Wait()
	f.conn.Close()
	synctest.Wait()
}

// parsed reads a payload that must be right.
func parsed[T any](t testing.TB, parse func([]byte) (T, error), payload []byte) T {
	t.Helper()
	v, err := parse(payload)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// source is a sending node, played by hand.
type source struct {
	Local
	kind    Kind
	name    string
	level   Level
	number  uint64
	last    [16]byte
	start   uint64
	replies uint64
}

func newSource(id byte, kind Kind) *source {
	return &source{Local: localOf(id), kind: kind, name: "x", level: Memory, start: 1}
}

func (s *source) next() wire.Attach {
	s.number++
	return wire.Attach{Socket: 1, Kind: s.kind, Level: s.level, Store: s.Store, Edition: s.Edition, Nonce: s.Nonce,
		Incarnation: s.Incarnation, Number: s.number, LastStore: s.last, Start: s.start, ReplyCredit: s.replies, Name: s.name}
}

// attach opens a pipe to b and returns what ATTACHED says.
func (s *source) attach(t testing.TB, b *Inbox) (*far, wire.Attached) {
	t.Helper()
	f := s.open(t, b)
	return f, parsed(t, wire.ParseAttached, f.one(wire.TypeAttached))
}

// open opens a pipe to b, once all that was said on others is read: it may fence them.
func (s *source) open(t testing.TB, b *Inbox) *far {
	synctest.Wait()
	a := s.next()
	return open(t, func(ctx context.Context, c Conn) error { return b.Serve(ctx, peerOf(s.Local), a, c) })
}

// newInbox makes an inbox that is closed with the test.
func newInbox(t testing.TB, kind Kind, adjust ...func(*InboxConfig)) *Inbox {
	cfg := InboxConfig{Local: localOf('r'), Kind: kind, Name: "x"}
	for _, f := range adjust {
		f(&cfg)
	}
	b := NewInbox(cfg)
	t.Cleanup(func() { b.Close() })
	return b
}

// data is a DATA frame of one message.
func data(seq uint64, body string) []byte {
	return dataOf(wire.Run{Base: seq, Attempt: 1}, wire.Record{Body: []byte(body)})
}

func dataOf(r wire.Run, recs ...wire.Record) []byte {
	w := wire.BeginData(nil, r)
	for i, rec := range recs {
		if rec.Delta == 0 {
			rec.Delta = uint64(i)
		}
		w.Add(wire.AppendRecord(nil, rec))
	}
	return w.End()
}

func spans(rs ...uint64) (out []ranges.Range) {
	for _, r := range rs {
		out = append(out, ranges.Range{From: r, To: r})
	}
	return out
}

func editionOf(e uint64, seqs ...uint64) wire.EditionRanges {
	return wire.EditionRanges{Edition: e, Ranges: spans(seqs...)}
}

func confirm(e uint64, seqs ...uint64) []byte {
	return wire.AppendRanges(nil, wire.TypeConfirm, editionOf(e, seqs...))
}

func number(t wire.Type, n uint64) []byte { return wire.AppendNumber(nil, t, n) }

// recv takes the next message, which must have that body.
func recv(t testing.TB, b *Inbox, body string) *Message {
	t.Helper()
	m, err := b.Recv(wait(t))
	if err != nil {
		t.Fatalf("Recv: %v, want %q", err, body)
	}
	if string(m.Body) != body {
		t.Fatalf("message %d is %q, want %q", m.Seq(), m.Body, body)
	}
	return m
}

// handleOne has handle do a message that was begun, as Handle does, but for the answer.
func handleOne(ctx context.Context, b *Inbox, m *Message, timeout time.Duration, handle func(context.Context) error) error {
	t := (&tasks{box: b, parent: ctx}).next()
	b.mu.Lock()
	t.enter(m)
	b.mu.Unlock()
	err := b.run(t, m, timeout, func(ctx context.Context, _ *Message) error { return handle(ctx) })
	b.mu.Lock()
	t.leave()
	b.mu.Unlock()
	return err
}

// none demands that nothing can be begun now.
func none(t testing.TB, b *Inbox) {
	t.Helper()
	synctest.Wait() // until all that was said is read
	if m, err := b.Recv(soon(t, time.Nanosecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Recv: %+v, %v; want nothing", m, err)
	}
}

func ack(t testing.TB, ms ...*Message) {
	t.Helper()
	for _, m := range ms {
		if err := m.Ack(); err != nil {
			t.Fatalf("Ack of %d: %v", m.Seq(), err)
		}
	}
}

// told is all the seqs of the frames of a type: DONE, NACK of a reason, CONFIRM,
// REVOKE, REPLY.
func told(t testing.TB, fs []frame, typ wire.Type, reason wire.NackReason) (seqs []uint64) {
	t.Helper()
	for _, f := range fs {
		if f.t != typ {
			continue
		}
		var rs []ranges.Range
		switch typ {
		case wire.TypeNack:
			if n := parsed(t, wire.ParseNack, f.payload); n.Reason == reason {
				rs = n.Ranges
			}
		case wire.TypeRevoke:
			rs = parsed(t, wire.ParseRevoke, f.payload)
		case wire.TypeReply:
			rs = spans(parsed(t, wire.ParseReply, f.payload).Seq)
		default:
			rs = parsed(t, wire.ParseRanges, f.payload).Ranges
		}
		for _, r := range rs {
			for s := r.From; s <= r.To; s++ {
				seqs = append(seqs, s)
			}
		}
	}
	return seqs
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// same compares what two values print as.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// owner is who holds an outbox: a mutex, and a note of what it was told.
type owner struct {
	testing.TB
	mu      sync.Mutex
	changed Event
	box     *Outbox
	framer  Framer
	next    uint64
	fates   []Settlement
	replies []string
	local   Local
}

func newOwner(t testing.TB, kind Kind, adjust ...func(*OutboxConfig)) *owner {
	o := &owner{TB: t, next: 1, local: localOf('s')}
	cfg := OutboxConfig{Local: o.local, Kind: kind, Name: "x", Level: Memory, Changed: &o.changed,
		Mode:      ledger.Mode{MaxDeliver: 3, Lease: DefaultLease, Backoff: 100 * time.Millisecond, MaxBackoff: time.Second},
		OnSettled: func(s Settlement) { o.fates = append(o.fates, s) }}
	if kind == wire.Req {
		cfg.Mode.Requests, cfg.Mode.AtMostOnce, cfg.Mode.MaxDeliver = true, true, 0
		cfg.ReplyCredit = 1 << 20
		cfg.OnReply = func(seq uint64, out Outcome, body []byte, by Who) {
			o.replies = append(o.replies, fmt.Sprintf("%d %v %d %.20s", seq, out, len(body), body))
		}
	}
	for _, f := range adjust {
		f(&cfg)
	}
	o.framer.MaxMessage = 64 << 20
	o.box = NewOutbox(cfg, &o.mu, 1)
	t.Cleanup(func() { o.box.Abort() })
	return o
}

// send queues a message and returns its seq.
func (o *owner) send(m *Message) uint64 {
	o.Helper()
	p, err := o.framer.Prepare(m)
	if err != nil {
		o.Fatal(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	seq := o.next
	o.next++
	base, rec := o.framer.Frame(p, seq)
	var expires time.Time
	if m.TTL > 0 {
		expires = time.Now().Add(m.TTL)
	}
	o.box.Ledger().Append(ledger.Item{Seq: seq, Base: base, Record: rec, Key: m.Key, Expires: expires}, time.Now())
	o.box.Dispatch()
	return seq
}

func (o *owner) sends(bodies ...string) {
	for _, b := range bodies {
		o.send(&Message{Body: []byte(b)})
	}
}

// tick makes the outbox look at the time.
func (o *owner) tick() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.box.Tick(time.Now())
}

func (o *owner) counts() ledger.Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.box.Ledger().Counts()
}

func (o *owner) answers() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.replies...)
}

func (o *owner) settled() []Settlement {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Settlement(nil), o.fates...)
}

// meet opens a pipe to a receiver played by hand, and returns its ATTACH.
func (o *owner) meet(l Local) (*far, wire.Attach) {
	o.Helper()
	f := open(o, func(ctx context.Context, c Conn) error {
		return o.box.Meet(ctx, peerOf(l), wire.Offer{Socket: 1, Kind: o.box.cfg.Kind.Opposite(), Name: "x"}, 0, c)
	})
	return f, parsed(o, wire.ParseAttach, f.one(wire.TypeAttach))
}

// greet is the usual ATTACHED.
func greet(l Local, a wire.Attach) wire.Attached {
	return wire.Attached{Number: a.Number, Store: l.Store, Nonce: l.Nonce, Messages: 256, Bytes: DefaultPrefetchBytes}
}

// met opens a pipe and greets.
func (o *owner) met(l Local) *far {
	o.Helper()
	f, a := o.meet(l)
	f.say(wire.AppendAttached(nil, greet(l, a)))
	synctest.Wait()
	return f
}

// bodies are the messages that came in DATA frames, as seq, attempt, flag and body.
func bodies(t testing.TB, fs []frame) (out []string) {
	t.Helper()
	for _, f := range fs {
		if f.t != wire.TypeData {
			continue
		}
		run, recs, err := wire.ParseData(f.payload)
		if err != nil {
			t.Fatal(err)
		}
		for len(recs) > 0 {
			r, rest, err := wire.NextRecord(recs)
			if err != nil {
				t.Fatal(err)
			}
			flag := ""
			if run.Redelivered {
				flag = "!"
			}
			out = append(out, fmt.Sprintf("%d.%d%s %.20s", run.Base+r.Delta, run.Attempt, flag, r.Body))
			recs = rest
		}
	}
	return out
}

func done(e uint64, seqs ...uint64) []byte {
	return wire.AppendRanges(nil, wire.TypeDone, editionOf(e, seqs...))
}

func nack(e uint64, reason wire.NackReason, seqs ...uint64) []byte {
	return wire.AppendNack(nil, wire.Nack{Reason: reason, Edition: e, Ranges: spans(seqs...), Text: "because"})
}

// filler is a body of n bytes that tells where it was cut.
func filler(n int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n] }
