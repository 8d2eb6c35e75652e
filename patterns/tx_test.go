package patterns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/socket"
	"peermesh/spool"
)

func (k *kept) txs() *Txs { return NewTxs(k.env()) }

// queue opens a durable push and another node's pull of it, connected.
func queue(from *kept, to *kept, opts ...Option) (*Push, *Pull, *link) {
	s, r := from.push(), to.pull(opts...)
	l := connect(from.node, s, to.node, r)
	ready(from.TB, s, 1)
	return s, r, l
}

// commits runs a transaction that must succeed.
func commits(t testing.TB, txs *Txs, f func(*Tx) error) {
	t.Helper()
	if err := txs.Run(long(t), f); err != nil {
		t.Fatalf("transaction: %v", err)
	}
}

func value(t testing.TB, txs *Txs, key string) string {
	t.Helper()
	v, err := txs.Get(long(t), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(v)
}

func TestATransactionAcksSendsAndPutsTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r, _ := queue(a, b)
		on, err := NewPush(b.env(), "on")
		made(t, on, err)
		send(t, s, "1", "2")
		txs := b.txs()
		m1, m2 := recv(t, r, "1"), recv(t, r, "2")
		commits(t, txs, func(tx *Tx) error {
			tx.Ack(m1)
			tx.Ack(m2)
			tx.Ack(m1)
			tx.Send(on, &socket.Message{Body: []byte("1+2"), Headers: socket.Headers{"of": "2"}})
			tx.Put("count", []byte("2"))
			same(t, "Get sees Put", string(tx.Get("count")), "2")
			return nil
		})
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		same(t, "done at the sender", balanced(t, s).Done, 2)
		same(t, "Ack after it", m1.Ack(), nil)
		same(t, "counted once", r.Stats().Done, 2)
		same(t, "value", value(t, txs, "count"), "2")

		b2 := b.killed()
		same(t, "value in the next life", value(t, b2.txs(), "count"), "2")
		on2, err := NewPush(b2.env(), "on")
		made(t, on2, err)
		c := newKept(t, 'c', t.TempDir())
		r2, err := NewPull(c.env(), "on")
		made(t, r2, err)
		connect(b2.node, on2, c.node, r2)
		m := recv(t, r2, "1+2")
		same(t, "header", m.Headers["of"], "2")
	})
}

func TestATransactionTellsAndKeepsTheNumbersOfItsMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r, _ := queue(a, b)
		send(t, s, "before")
		txs := a.txs()
		var first, second *Receipt
		commits(t, txs, func(tx *Tx) (err error) {
			first, err = tx.Post(s, &socket.Message{Body: []byte("first")})
			tx.Send(s, &socket.Message{Body: []byte("in between")})
			second, _ = tx.Post(s, &socket.Message{Body: []byte("second")})
			tx.PutSeq("second", []byte("at "), second)
			same(t, "Get before the number is known", string(tx.Get("second")), "at \x00\x00\x00\x00\x00\x00\x00\x00")
			tx.PutSeq("first", nil, first)
			tx.PutSeq("gone", nil, first)
			tx.Put("gone", []byte("replaced"))
			return err
		})
		same(t, "seqs", []uint64{first.Seq, second.Seq}, []uint64{2, 4})
		check := func(txs *Txs) {
			same(t, "first", value(t, txs, "first"), "\x00\x00\x00\x00\x00\x00\x00\x02")
			same(t, "second", value(t, txs, "second"), "at \x00\x00\x00\x00\x00\x00\x00\x04")
			same(t, "gone", value(t, txs, "gone"), "replaced")
		}
		check(txs)
		for _, body := range []string{"before", "first", "in between", "second"} {
			m := recv(t, r, body)
			if body == "second" {
				equal(t, "seq", m.Seq(), second.Seq)
			}
			m.Ack()
		}
		fate, err := second.Wait(long(t))
		same(t, "fate", fmt.Sprint(fate.State, " ", fate.Seq, " ", err), "done 4 <nil>")
		if err := txs.Run(long(t), func(tx *Tx) error { return tx.PutSeq("first", nil, second) }); !errors.Is(err, errTxReceipt) {
			t.Errorf("a receipt of another transaction: %v", err)
		}
		check(a.killed().txs())
	})
}

func TestAFailedTransactionDoesNothing(t *testing.T) {
	boom := errors.New("boom")
	for _, test := range []struct {
		name string
		want error
		f    func(tx *Tx) error
	}{
		{"error of f", boom, func(*Tx) error { return boom }},
		{"error that f does not look at", socket.ErrTooLarge, func(tx *Tx) error { tx.Put("x", make([]byte, MaxTxValues)); return nil }},
		{"message that was not received", nil, func(tx *Tx) error { tx.Ack(&socket.Message{}); return nil }},
		{"too many", socket.ErrTooLarge, func(tx *Tx) error {
			for range MaxTxOps {
				tx.Put("x", nil)
			}
			return nil
		}},
		{"no key", nil, func(tx *Tx) error { return tx.Put("", nil) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
				s, r, _ := queue(a, b)
				on, err := NewPush(b.env(), "on")
				made(t, on, err)
				send(t, s, "1")
				m := recv(t, r, "1")
				txs := b.txs()
				err = txs.Run(long(t), func(tx *Tx) error {
					tx.Ack(m)
					tx.Send(on, &socket.Message{Body: []byte("x")})
					tx.Put("count", []byte("1"))
					return test.f(tx)
				})
				if err == nil || test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("Run: got %v, want %v", err, test.want)
				}
				same(t, "sent", on.Stats().Ledger.Accepted, 0)
				same(t, "value", value(t, txs, "count"), "")
				same(t, "done", r.Stats().Done, 0)
				commits(t, txs, func(tx *Tx) error { return tx.Ack(m) })
				same(t, "done then", r.Stats().Done, 1)
			})
		})
	}
}

func TestATransactionIsRefusedWhenAMessageWasAnsweredMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r, _ := queue(a, b)
		send(t, s, "1", "2")
		m1, m2 := recv(t, r, "1"), recv(t, r, "2")
		txs := b.txs()
		matches(t, "Run", txs.Run(long(t), func(tx *Tx) error {
			tx.Ack(m1)
			tx.Ack(m2)
			tx.Put("count", []byte("2"))
			return m2.Nack(errors.New("late"))
		}), socket.ErrAnswered)
		same(t, "value", value(t, txs, "count"), "")
		same(t, "done", r.Stats().Done, 0)
		same(t, "the other one", m1.Ack(), nil)
		same(t, "again", m2.Attempt(), 1)
		same(t, "the nacked one", recv(t, r, "2").Attempt(), 2)
	})
}

func TestATransactionIsRefusedWithoutRoomForAllOfIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		small, err := spool.Open(t.TempDir(), spool.Options{Quota: 4 << 10})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { small.Close() })
		b.store = small
		b.local.Store, b.local.Edition = small.ID(), small.Edition()
		s, r, _ := queue(a, b)
		on, err := NewPush(b.env(), "on")
		made(t, on, err)
		send(t, s, "1")
		m := recv(t, r, "1")
		txs := b.txs()
		sends := func(n int) func(*Tx) error {
			return func(tx *Tx) error {
				for range n {
					tx.Send(on, &socket.Message{Body: make([]byte, 1<<10)})
				}
				return tx.Ack(m)
			}
		}
		matches(t, "Run", txs.Run(long(t), sends(5)), spool.ErrSpoolFull)
		same(t, "sent", on.Stats().Ledger.Accepted, 0)
		same(t, "done", r.Stats().Done, 0)
		commits(t, txs, sends(2))
		same(t, "sent then", on.Stats().Ledger.Accepted, 2)
		commits(t, txs, func(tx *Tx) error { return tx.Put("values need no room", []byte("1")) })
	})
}

func TestATransactionTakesOnlyWhatIsKeptOnThisDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		s, r, _ := queue(a, b)
		send(t, s, "1")
		m := recv(t, r, "1")
		if err := a.txs().Run(long(t), func(tx *Tx) error { return tx.Ack(m) }); err == nil {
			t.Error("a node acked what another has received")
		}
		if err := b.txs().Run(long(t), func(tx *Tx) error { return tx.Send(s, m) }); err == nil {
			t.Error("a node sent by the socket of another")
		}
		y, err := NewPush(b.env(), "y", Durability(socket.Memory))
		made(t, y, err)
		if err := b.txs().Run(long(t), func(tx *Tx) error { return tx.Send(y, m) }); err == nil {
			t.Error("sent by a socket that is not durable")
		}
		z, err := NewPull(a.env(), "y")
		made(t, z, err)
		connect(b.node, y, a.node, z)
		send(t, y, "2")
		m2 := recv(t, z, "2")
		matches(t, "Ack", a.txs().Run(long(t), func(tx *Tx) error { return tx.Ack(m2) }), socket.ErrNotKept)

		n := newNode(t, 'n')
		matches(t, "without a directory", NewTxs(n.env()).Run(long(t), func(*Tx) error { return nil }), socket.ErrNoDir)
		_, err = NewTxs(n.env()).Get(long(t), "x")
		matches(t, "Get without a directory", err, socket.ErrNoDir)
	})
}

func TestTransactionsRunOneAfterTheOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newKept(t, 'a', t.TempDir())
		txs := a.txs()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					if err := txs.Run(long(t), func(tx *Tx) error { return tx.Put("count", next(tx.Get("count"))) }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		same(t, "count", value(t, txs, "count"), 400)

		var leaked *Tx
		commits(t, txs, func(tx *Tx) error { leaked = tx; return nil })
		matches(t, "after f", leaked.Put("count", nil), errTxOver)
		commits(t, txs, func(tx *Tx) error { return tx.Put("count", nil) })
		same(t, "deleted", value(t, txs, "count"), "")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		commits(t, txs, func(*Tx) error {
			matches(t, "in turn", txs.Run(ctx, func(*Tx) error { return nil }), context.Canceled)
			return nil
		})
	})
}

func next(count []byte) []byte {
	n, _ := strconv.Atoi(string(count))
	return strconv.AppendInt(nil, int64(n+1), 10)
}

func TestATransactionOfAClosedStoreIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, err := spool.Open(t.TempDir(), spool.Options{})
		if err != nil {
			t.Fatal(err)
		}
		n := newNode(t, 'n')
		e := n.env()
		e.Store = s
		txs := NewTxs(e)
		matches(t, "Run", txs.Run(long(t), func(tx *Tx) error {
			tx.Put("x", nil)
			return s.Close()
		}), spool.ErrClosed)
		matches(t, "Run", txs.Run(long(t), func(*Tx) error { return nil }), spool.ErrClosed)
	})
}

// stage is one node of a pipeline and its lives. Each life does its work until it is
// killed; the next one finds what was on disk at that moment.
type stage struct {
	*testing.T
	id    byte
	dir   string // of this life
	lives int
	work  func(ctx context.Context, k *kept, s *Push, r *Pull)

	k      *kept
	push   *Push
	pull   *Pull
	cancel context.CancelFunc
	wg     sync.WaitGroup

	gone  bool // its image is made, or about to be; guarded by the pipeline's mutex
	dying sync.Once
	dead  chan struct{} // closed when the image of the disk is made
	image string
}

const killEvery = 12 // transactions, on average

// hop is the way from one stage to the next.
type hop struct {
	from, to *stage
	l        *link // nil: one of them does not live
}

func (g *stage) open() {
	s, err := spool.Open(g.dir, spool.Options{Profile: spool.ProfileEdge})
	if err != nil {
		g.Fatal(err)
	}
	n := newNode(g.T, g.id)
	n.local.Store, n.local.Edition, n.local.Incarnation = s.ID(), s.Edition(), s.Incarnation()
	n.local.Nonce[2], n.local.Nonce[3] = byte(s.Incarnation()), byte(s.Incarnation()>>8)
	g.k = &kept{n, g.dir, s}
	g.push, g.pull, g.dying, g.dead = nil, nil, sync.Once{}, make(chan struct{})
	if g.id != 'c' {
		if g.push, err = NewPush(g.k.env(), string(g.id)); err != nil {
			g.Fatal(err)
		}
	}
	if g.id != 'a' {
		if g.pull, err = NewPull(g.k.env(), string(g.id-1)); err != nil {
			g.Fatal(err)
		}
	}
}

// start lets a life work. Its links must be there.
func (g *stage) start() {
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	k, s, r := g.k, g.push, g.pull
	g.wg.Go(func() { g.work(ctx, k, s, r) })
}

// end closes what a life has open. What it says now is heard by nobody.
func (g *stage) end() {
	g.cancel()
	g.wg.Wait()
	if g.push != nil {
		g.push.Close()
	}
	if g.pull != nil {
		g.pull.Close()
	}
	if err := g.k.store.Close(); err != nil {
		g.Error(err)
	}
}

// still copies the directory of a stage whose store commits nothing meanwhile. What the disk's
// engine does by itself is waited for: a copy has no moment at which it is made.
func (g *stage) still() string {
	for {
		image := filepath.Join(g.TempDir(), "life")
		before := g.files()
		if err := copyTree(g.dir, image); err == nil && before == g.files() {
			return image
		}
	}
}

// files lists the files of a stage with their sizes and times.
func (g *stage) files() (list string) {
	err := filepath.WalkDir(g.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			list += fmt.Sprintln(path, info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	return fmt.Sprint(list, err)
}

// pipeline is three stages in a row: a makes messages, b passes them on, c counts them.
type pipeline struct {
	*testing.T
	stages [3]*stage

	mu   sync.Mutex
	hops [2]*hop
}

// join connects the two ends of a hop if both live. p.mu must be held.
func (p *pipeline) join(h *hop) {
	if h.from.gone || h.to.gone {
		return
	}
	l := newLink(h.from.k.node, h.from.push, h.to.k.node, h.to.pull)
	l.wrap = func(c socket.Conn) socket.Conn {
		if l.down { // since it was looked at last
			c.Close()
		}
		return c
	}
	h.l = l
	go l.keep()
}

// part ends a hop's link for good, if it has one.
func (p *pipeline) part(h *hop) {
	p.mu.Lock()
	l := h.l
	h.l = nil
	p.mu.Unlock()
	if l == nil {
		return
	}
	l.cut()
	close(l.stop)
	<-l.over
}

// of lists the hops that a stage takes part in.
func (p *pipeline) of(g *stage) (out []*hop) {
	for _, h := range p.hops {
		if h.from == g || h.to == g {
			out = append(out, h)
		}
	}
	return out
}

// die makes the image of the disk that a kill at this moment leaves: at a random place among
// the calls that a commit brings, when no other is under way. The links are cut before, so
// that what is done later is heard by nobody.
func (p *pipeline) die(i int) {
	g := p.stages[i]
	g.dying.Do(func() {
		c := g.k.store.Begin()
		c.Then(func(error) {
			p.mu.Lock()
			g.gone = true
			for _, h := range p.of(g) {
				if h.l != nil {
					h.l.mu.Lock()
					h.l.down = true
					h.l.mu.Unlock()
					h.l.cut()
				}
			}
			p.mu.Unlock()
			g.image = g.still()
			close(g.dead)
		})
		c.End()
	})
}

// again is the next life of a stage that died.
func (p *pipeline) again(i int) {
	g := p.stages[i]
	for _, h := range p.of(g) {
		p.part(h)
	}
	g.end()
	g.dir = g.image
	g.lives++
	g.open()
	p.mu.Lock()
	g.gone = false
	for _, h := range p.of(g) {
		p.join(h)
	}
	p.mu.Unlock()
	g.start()
}

func TestAPipelineOfTransactionsIsExactlyOncePerHopWhateverIsKilled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		kills := 100
		if testing.Short() {
			kills = 10
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		var mu sync.Mutex
		dice := func(n int) bool {
			mu.Lock()
			defer mu.Unlock()
			return rnd.IntN(n) == 0
		}
		p := &pipeline{T: t}
		enough := make(chan struct{})
		strike := func(i int) {
			if dice(killEvery) {
				select {
				case <-enough:
				default:
					p.die(i)
				}
			}
		}
		source := func(ctx context.Context, k *kept, s *Push, _ *Pull) {
			txs := k.txs()
			for ctx.Err() == nil {
				select {
				case <-enough:
					return
				default:
				}
				txs.Run(ctx, func(tx *Tx) error {
					n := next(tx.Get("sent"))
					tx.Put("sent", n)
					strike(0)
					return tx.Send(s, &socket.Message{Body: n})
				})
				if dice(4) { // in bursts, slower than what a lost link takes to come back
					time.Sleep(50 * time.Millisecond)
				}
			}
		}
		pass := func(ctx context.Context, k *kept, s *Push, r *Pull) {
			txs := k.txs()
			r.Handle(ctx, 4, func(ctx context.Context, m *socket.Message) error {
				return txs.Run(ctx, func(tx *Tx) error {
					tx.Put("passed", next(tx.Get("passed")))
					tx.Send(s, &socket.Message{Body: m.Body})
					strike(1)
					return tx.Ack(m)
				})
			})
		}
		count := func(ctx context.Context, k *kept, _ *Push, r *Pull) {
			txs := k.txs()
			r.Handle(ctx, 4, func(ctx context.Context, m *socket.Message) error {
				return txs.Run(ctx, func(tx *Tx) error {
					key := "got " + string(m.Body)
					if tx.Get(key) != nil {
						t.Errorf("message %s is counted twice", m.Body)
					}
					tx.Put(key, []byte{1})
					tx.Put("count", next(tx.Get("count")))
					strike(2)
					return tx.Ack(m)
				})
			})
		}
		for i, work := range []func(context.Context, *kept, *Push, *Pull){source, pass, count} {
			p.stages[i] = &stage{T: t, id: 'a' + byte(i), dir: t.TempDir(), work: work}
			p.stages[i].open()
		}
		for i := range p.hops {
			p.hops[i] = &hop{from: p.stages[i], to: p.stages[i+1]}
			p.join(p.hops[i])
		}
		for _, g := range p.stages {
			g.start()
		}
		for range kills {
			select {
			case <-p.stages[0].dead:
				p.again(0)
			case <-p.stages[1].dead:
				p.again(1)
			case <-p.stages[2].dead:
				p.again(2)
			}
		}
		close(enough)
		time.Sleep(time.Minute) // all is quiet long before
		synctest.Wait()
		for i, g := range p.stages { // those who died among the last
			select {
			case <-g.dead:
				p.again(i)
			default:
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		sent := value(t, p.stages[0].k.txs(), "sent")
		same(t, "passed", value(t, p.stages[1].k.txs(), "passed"), sent)
		same(t, "counted", value(t, p.stages[2].k.txs(), "count"), sent)
		if n, _ := strconv.Atoi(sent); n < kills {
			t.Errorf("only %d messages", n)
		}
		for _, s := range []*Push{p.stages[0].push, p.stages[1].push} {
			if l := balanced(t, s); l.Queued+l.Leased+l.Dead > 0 {
				t.Errorf("left: %+v", l)
			}
		}
		lives := [3]int{p.stages[0].lives, p.stages[1].lives, p.stages[2].lives}
		t.Logf("%s messages, killed %v times", sent, lives)
		for _, h := range p.hops {
			p.part(h)
		}
		for _, g := range p.stages {
			g.end()
		}
	})
}

func BenchmarkTransactions(b *testing.B) {
	for _, workers := range []int{1, 64} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			a := newKept(b, 'a', b.TempDir())
			s := a.push()
			txs := a.txs()
			var wg sync.WaitGroup
			b.ResetTimer()
			for w := range workers {
				wg.Go(func() {
					for i := w; i < b.N; i += workers {
						err := txs.Run(b.Context(), func(tx *Tx) error {
							tx.Put("count", next(tx.Get("count")))
							return tx.Send(s, &socket.Message{Body: make([]byte, 100)})
						})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
		})
	}
}

func TestATransactionAcksWhatADurableSubscriptionReceived(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		p, err := NewPub(a.env(), "x")
		made(t, p, err)
		s, err := NewSub(b.env(), "x", DurableName("books"))
		made(t, s, err)
		connect(a.node, p, b.node, s)
		ready(t, p, 1)
		if err := p.Publish(long(t), "t", []byte("1")); err != nil {
			t.Fatal(err)
		}
		m, err := s.Recv(long(t))
		if err != nil {
			t.Fatal(err)
		}
		commits(t, b.txs(), func(tx *Tx) error {
			tx.Put("count", []byte("1"))
			return tx.Ack(m)
		})
		if err := p.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		same(t, "done", p.Stats().Ledger.Done, 1)
	})
}

func TestATransactionAcksNoRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		q, err := NewReq(a.env(), "x", Executed(OnceDurable))
		made(t, q, err)
		r, err := NewRep(b.env(), "x")
		made(t, r, err)
		connect(a.node, q, b.node, r)
		ctx, stop := context.WithCancel(long(t))
		var wg sync.WaitGroup
		wg.Go(func() {
			r.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) {
				return nil, b.txs().Run(ctx, func(tx *Tx) error { return tx.Ack(m) })
			})
		})
		if _, err := q.Request(long(t), nil); err == nil {
			t.Error("a request was acked")
		}
		stop()
		wg.Wait()
	})
}

// Acks and transactions write the same note, each with all that the other has under way. The
// link is cut before any answer, so that only the puller's disk knows what is done.
func TestAcksBesideTransactionsAreAllKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const total = 60
		a, b := newKept(t, 'a', t.TempDir()), newKept(t, 'b', t.TempDir())
		done := make(chan struct{}, total)
		s, r, l := queue(a, b, OnDone(func(*socket.Message) { done <- struct{}{} }))
		send(t, s, counted(1, total)...)
		var ms []*socket.Message
		for i := range total {
			ms = append(ms, recv(t, r, fmt.Sprint(i+1)))
		}
		l.part()
		txs := b.txs()
		var wg sync.WaitGroup
		for i, m := range ms {
			wg.Go(func() {
				if i%2 == 0 {
					if err := m.Ack(); err != nil {
						t.Error(err)
					}
					return
				}
				if err := txs.Run(long(t), func(tx *Tx) error { return tx.Ack(m) }); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for range total {
			<-done
		}
		b2 := b.killed()
		r2 := b2.pull()
		connect(a.node, s, b2.node, r2)
		if err := s.Flush(long(t)); err != nil {
			t.Fatal(err)
		}
		none(t, r2)
		same(t, "done", balanced(t, s).Done, total)
	})
}
