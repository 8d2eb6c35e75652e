package meshtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// A storm is a mesh in which everything fails in turn while work goes on: hosts are cut off, links go bad, workers are
// killed, closed and shut down and come back. It keeps a history, which is held against the invariants afterwards.
type storm struct {
	t     *testing.T
	m     *meshtest.Mesh
	rand  *rand.Rand // of the goroutine that makes weather
	ctx   context.Context
	users sync.WaitGroup
	disks bool // workers keep their identity when they come back

	mu         sync.Mutex
	deliveries map[string][]delivery // by body
	keys       map[string][]string   // bodies of each key, as they were begun
	executions map[string]int
	lives      int
}

func (s *storm) config(c *node.Config) {
	if s.disks {
		c.Dir = s.m.Dir(c.Name)
	}
}

type delivery struct {
	life    int // of the process
	flagged bool
	acked   bool
	at      time.Time
	attempt uint64
}

// worker is a life of a host that pulls, subscribes and replies.
type worker struct {
	s    *storm
	node *node.Node
	life int
	dead bool // guarded by storm.mu: what it does now never happens
}

// stormFor is how long there is weather, and about as long messages are sent.
const stormFor = 40 * time.Second

func (s *storm) work(name string) *worker {
	n := s.m.Node(name, s.config)
	s.mu.Lock()
	s.lives++
	w := &worker{s: s, node: n, life: s.lives}
	s.mu.Unlock()
	pull := must[*patterns.Pull](s.t)(n.Pull("jobs"))
	for range 3 {
		s.users.Go(func() { w.pull(pull) })
	}
	rep := must[*patterns.Rep](s.t)(n.Rep("ask", patterns.Concurrency(4)))
	s.users.Go(func() { rep.ServeRequests(s.ctx, w.reply) })
	return w
}

func (w *worker) pull(p *patterns.Pull) {
	s := w.s
	for {
		m, err := p.Recv(s.ctx)
		if err != nil {
			return
		}
		id := string(m.Body[:min(len(m.Body), 32)])
		id = id[:bytes.IndexByte([]byte(id), ' ')]
		s.mu.Lock()
		if w.dead {
			s.mu.Unlock()
			return
		}
		for _, d := range s.deliveries[id] {
			switch {
			case !m.Redelivered() && !d.flagged:
				s.t.Errorf("%s: unflagged twice: life %d attempt %d, now life %d attempt %d", id, d.life, d.attempt, w.life, m.Attempt())
			case d.life == w.life && d.acked:
				s.t.Errorf("%s: delivered to the process %d that acknowledged it", id, w.life)
			}
		}
		nth := len(s.deliveries[id])
		s.deliveries[id] = append(s.deliveries[id], delivery{w.life, m.Redelivered(), false, time.Now(), m.Attempt()})
		if m.Key != "" {
			s.keys[m.Key] = append(s.keys[m.Key], id)
		}
		s.mu.Unlock()
		switch rand.IntN(100) {
		case 0:
			time.Sleep(time.Duration(rand.IntN(15_000)) * time.Millisecond)
		case 1, 2, 3:
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		case 4:
			_ = m.Nack(errors.New("no luck"))
			continue
		}
		s.mu.Lock()
		dead := w.dead
		s.mu.Unlock()
		if dead || m.Ack() != nil {
			return
		}
		s.mu.Lock()
		s.deliveries[id][nth].acked = true
		s.mu.Unlock()
	}
}

func (w *worker) reply(ctx context.Context, m *socket.Message) ([]byte, error) {
	w.s.mu.Lock()
	if w.dead {
		w.s.mu.Unlock()
		return nil, errors.New("dead")
	}
	w.s.executions[string(m.Body)]++
	w.s.mu.Unlock()
	time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
	if rand.IntN(20) == 0 {
		return nil, errors.New("would not")
	}
	return append([]byte("re "), m.Body...), nil
}

func (w *worker) kill() {
	w.s.mu.Lock()
	w.dead = true
	w.s.mu.Unlock()
	w.s.m.Kill(w.node)
}

func (s *storm) pause(most time.Duration) {
	select {
	case <-time.After(time.Duration(rand.Int64N(int64(most)))):
	case <-s.ctx.Done():
	}
}

func (s *storm) weather(hosts []*node.Node, workers []*worker) {
	end := time.Now().Add(stormFor)
	for time.Now().Before(end) {
		s.pause(3 * time.Second)
		k := s.rand.IntN(len(workers))
		w := workers[k]
		all := append(slices.Clone(hosts), nodesOf(workers)...)
		switch s.rand.IntN(7) {
		case 0:
			w.kill()
			s.pause(5 * time.Second)
			workers[k] = s.work(w.node.Name())
		case 1:
			if err := w.node.Close(); err != nil {
				s.t.Error(err)
			}
			workers[k] = s.work(w.node.Name())
		case 2:
			ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
			_ = w.node.Shutdown(ctx) // handlers may take longer
			cancel()
			workers[k] = s.work(w.node.Name())
		case 3:
			s.m.Isolate(w.node)
		case 4:
			s.rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			at := s.rand.IntN(len(all))
			s.m.Partition(all[:at], all[at:])
		case 5:
			l := badLink
			l.Loss = []float64{0, 0.1, 0.5, 1}[s.rand.IntN(4)]
			s.m.Net().SetLink(s.m.Host(all[s.rand.IntN(len(all))]), s.m.Host(all[s.rand.IntN(len(all))]), l)
		case 6:
			s.m.Heal()
		}
		if s.rand.IntN(3) == 0 {
			s.pause(20 * time.Second)
			s.m.Heal()
		}
	}
	s.m.Heal()
	for _, a := range nodesOf(workers) {
		for _, b := range hosts {
			s.m.Net().SetLink(s.m.Host(a), s.m.Host(b), lan.Link)
			s.m.Net().SetLink(s.m.Host(b), s.m.Host(a), lan.Link)
		}
	}
}

func nodesOf(ws []*worker) (out []*node.Node) {
	for _, w := range ws {
		out = append(out, w.node)
	}
	return out
}

func TestStormKeepsEveryPromiseSeeds(t *testing.T) {
	overSeeds(t, func(t *testing.T, m *meshtest.Mesh) {
		m.Net().SetDefault(meshtest.Link{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.01})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		s := &storm{t: t, m: m, ctx: ctx, rand: rand.New(rand.NewPCG(rand.Uint64(), 1)), deliveries: map[string][]delivery{},
			keys: map[string][]string{}, executions: map[string]int{}, disks: rand.IntN(2) == 0}
		hosts := []*node.Node{m.Node("p0"), m.Node("p1")}
		workers := []*worker{s.work("w0"), s.work("w1"), s.work("w2")}
		var sending sync.WaitGroup
		var pushes []*patterns.Push
		for h, n := range hosts {
			push := must[*patterns.Push](t)(n.Push("jobs", patterns.MaxDeliver(1000)))
			pushes = append(pushes, push)
			sending.Go(func() { s.push(push, h) })
			for _, ex := range []patterns.Execution{patterns.Once, patterns.Idempotent} {
				if h == int(ex)-1 {
					req := must[*patterns.Req](t)(n.Req("ask", patterns.Executed(ex)))
					for k := range 5 {
						sending.Go(func() { s.ask(req, ex, k) })
					}
				}
			}
		}
		s.weather(hosts, workers)
		healed := time.Now()
		sending.Wait()
		for i, p := range pushes {
			if err := p.Flush(ctx); err != nil {
				t.Errorf("p%d: flush: %v: %+v", i, err, p.Stats())
			}
			if l := p.Stats().Ledger; !l.Balanced() || l.Done != l.Accepted {
				t.Errorf("p%d: %+v", i, l)
			}
		}
		t.Logf("drained %v after the storm", time.Since(healed))
		s.check()
		cancel()
		s.users.Wait()
	})
}

// stormMessages is how many messages each host pushes in a storm.
var stormMessages = lighter(3000)

func (s *storm) push(p *patterns.Push, h int) {
	big := bytes.Repeat([]byte("x"), 400<<10)
	for i := range stormMessages {
		m := &socket.Message{Body: fmt.Appendf(nil, "%d/%d ", h, i)}
		if i%2 == 0 {
			m.Key = fmt.Sprintf("%d key %d", h, i%14)
		}
		if i%300 == 7 {
			m.Body = append(m.Body, big...)
		}
		if _, err := p.SendMessage(s.ctx, m); err != nil {
			s.t.Errorf("p%d: send %d: %v", h, i, err)
			return
		}
		if i%10 == 0 {
			s.pause(2 * stormFor * 10 / time.Duration(stormMessages))
		}
	}
}

func (s *storm) ask(r *patterns.Req, ex patterns.Execution, k int) {
	for i := 0; s.ctx.Err() == nil && i < lighter(200); i++ {
		q := fmt.Sprintf("%d/%d/%d", ex, k, i)
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		body, err := r.Request(ctx, []byte(q))
		cancel()
		s.mu.Lock()
		n := s.executions[q]
		s.mu.Unlock()
		switch o := patterns.OutcomeOf(err); {
		case err == nil && string(body) != "re "+q:
			s.t.Errorf("%s: answer %q", q, body)
		case ex == patterns.Idempotent && err != nil && !errors.As(err, new(*patterns.RemoteError)):
			s.t.Errorf("%s: %v", q, err)
		case ex == patterns.Once && n > 1:
			s.t.Errorf("%s: executed %d times", q, n)
		case (err == nil || errors.As(err, new(*patterns.RemoteError))) && n == 0:
			s.t.Errorf("%s: %v, executed %d times", q, o, n)
		case errors.Is(err, patterns.ErrNotExecuted) && n != 0:
			s.t.Errorf("%s: %v, executed %d times", q, err, n)
		}
		s.pause(300 * time.Millisecond)
	}
}

// check holds the history against the promises.
func (s *storm) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	total, flagged := 0, 0
	for h := range 2 {
		for i := range stormMessages {
			ds := s.deliveries[fmt.Sprintf("%d/%d", h, i)]
			if len(ds) == 0 {
				s.t.Errorf("%d/%d lost", h, i)
			}
			for _, d := range ds {
				total++
				if d.flagged {
					flagged++
				}
			}
		}
	}
	for key, ids := range s.keys {
		last := -1
		for _, id := range ids {
			var h, i int
			fmt.Sscanf(id, "%d/%d", &h, &i)
			if i < last {
				s.t.Errorf("%s: %s begun after %d/%d", key, id, h, last)
			}
			last = max(last, i)
		}
	}
	s.t.Logf("%d deliveries, %d flagged", total, flagged)
	if flagged*10 > total*3 {
		s.t.Errorf("%d of %d deliveries flagged", flagged, total)
	}
}
