package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// world is a gateway to a node of a simulated mesh, and a client of it, in a bubble of their own time.
type world struct {
	t      *testing.T
	mesh   *meshtest.Mesh
	node   *node.Node // the gateway's
	g      *Gateway
	lines  *lines
	client *http.Client
	secret string // sent if not empty
}

// inWorld runs f in a bubble with a gateway to a node that keeps what it is given on disk.
func inWorld(t *testing.T, cfg Config, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, mesh: meshtest.New(t, meshtest.Config{Seed: 1})}
		w.open(cfg)
		defer w.close()
		f(t, w)
	})
}

func (w *world) open(cfg Config) {
	w.t.Helper()
	w.node = w.mesh.Node("gate", func(c *node.Config) { c.Dir = w.mesh.Dir("gate") })
	var err error
	if w.g, err = New(w.node, cfg); err != nil {
		w.t.Fatal(err)
	}
	w.lines = newLines()
	go func(g *Gateway, l net.Listener) {
		if err := g.Serve(l, nil); err != nil {
			w.t.Error(err)
		}
	}(w.g, w.lines)
	w.client = &http.Client{Transport: &http.Transport{DialContext: w.lines.dial}}
}

func (w *world) close() {
	w.client.CloseIdleConnections()
	if err := w.g.Close(); err != nil {
		w.t.Error(err)
	}
	if err := w.node.Close(); err != nil {
		w.t.Error(err)
	}
	synctest.Wait()
}

// ask makes a request; header is name, value, ...
func (w *world) ask(method, path, body string, header ...string) *http.Response {
	w.t.Helper()
	return w.askWith(w.t.Context(), method, path, strings.NewReader(body), header...)
}

func (w *world) askWith(ctx context.Context, method, path string, body io.Reader, header ...string) *http.Response {
	w.t.Helper()
	res, err := w.try(ctx, method, path, body, header...)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

func (w *world) try(ctx context.Context, method, path string, body io.Reader, header ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, body)
	if err != nil {
		return nil, err
	}
	if w.secret != "" {
		r.Header.Set("Authorization", "Bearer "+w.secret)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return w.client.Do(r)
}

// text is what was answered; the status must be want.
func (w *world) text(res *http.Response, want int) string {
	w.t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if res.StatusCode != want {
		w.t.Fatalf("%s %s: %s, want %d: %s", res.Request.Method, res.Request.URL, res.Status, want, body)
	}
	return string(body)
}

// problem is the problem that was answered, which must be complete and of that type.
func (w *world) problem(res *http.Response, status int, word string) Problem {
	w.t.Helper()
	text := w.text(res, status)
	var p Problem
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		w.t.Fatalf("%q: %v", text, err)
	}
	if p.Type != "urn:peermesh:"+word || p.Title == "" || p.Next == "" || p.Status != status || res.Header.Get("Content-Type") != problemType {
		w.t.Fatalf("%s (%s), want a complete problem %s", text, res.Header.Get("Content-Type"), word)
	}
	return p
}

// decode reads an answer of JSON into v.
func (w *world) decode(res *http.Response, v any) {
	w.t.Helper()
	text := w.text(res, http.StatusOK)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		w.t.Fatalf("%q: %v", text, err)
	}
}

func (w *world) ledger(kind, name string) patterns.Ledger {
	w.t.Helper()
	synctest.Wait()
	for _, s := range w.g.status().Sockets {
		if s.Kind == kind && s.Name == name {
			return *s.Ledger
		}
	}
	w.t.Fatalf("no %s %s is open", kind, name)
	return patterns.Ledger{}
}

// lines is a listener in memory that looks like a Unix socket.
type lines struct {
	waiting chan net.Conn
	done    chan struct{}
	once    sync.Once
}

func newLines() *lines { return &lines{waiting: make(chan net.Conn), done: make(chan struct{})} }

// wire is one end of a connection.
type wireEnd struct{ net.Conn }

func (wireEnd) LocalAddr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }

func (l *lines) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.waiting <- wireEnd{there}:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *lines) Accept() (net.Conn, error) {
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *lines) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *lines) Addr() net.Addr { return wireEnd{}.LocalAddr() }

func TestPushedMessageIsPulledAndAckedOnce(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		var s sent
		w.decode(w.ask("POST", "/v1/push/jobs", "cat.png", "Peermesh-Header-colour", "red", "Peermesh-Key", "cat"), &s)
		if s.Seq != 1 || s.Level != "durable" || !strings.HasSuffix(s.Stream, ".push.jobs") {
			t.Errorf("%+v", s)
		}
		res := w.ask("POST", "/v1/pull/jobs", "")
		if got := w.text(res, 200); got != "cat.png" || res.Header.Get("Peermesh-Header-Colour") != "red" || res.Header.Get("Peermesh-Key") != "cat" ||
			res.Header.Get("Peermesh-Attempt") != "1" {
			t.Errorf("%q with %v", got, res.Header)
		}
		ack := res.Header.Get("Peermesh-Ack")
		var a acked
		w.decode(w.ask("POST", ack, ""), &a)
		if a.Acked != 1 || !a.Final {
			t.Errorf("%+v", a)
		}
		w.problem(w.ask("POST", ack, ""), 410, "lease-over")
		if l := w.ledger("push", "jobs"); l.Done != 1 || !l.Balanced() || l.Queued+l.Leased > 0 {
			t.Errorf("%+v, want 1 done", l)
		}
		w.text(w.ask("POST", "/v1/pull/jobs?wait=0", ""), 204)
	})
}

func TestMessageWhoseClientDoesNotAckGoesElsewhereFlagged(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/push/jobs", "a"), 200)
		res := w.ask("POST", "/v1/pull/jobs?lease=5", "")
		w.text(res, 200)
		began := time.Now()
		again := w.ask("POST", "/v1/pull/jobs", "")
		if w.text(again, 200); again.Header.Get("Peermesh-Redelivered") != "true" || again.Header.Get("Peermesh-Attempt") != "2" {
			t.Errorf("%v, want it flagged", again.Header)
		}
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("it came again after %v, want after the lease of 5s", took)
		}
		w.problem(w.ask("POST", res.Header.Get("Peermesh-Ack"), ""), 410, "lease-over")
		w.text(w.ask("POST", again.Header.Get("Peermesh-Ack"), ""), 200)
	})
}

func TestLeaseThatIsExtendedHoldsTheMessage(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/push/jobs", "a"), 200)
		res := w.ask("POST", "/v1/pull/jobs?lease=5", "")
		w.text(res, 200)
		lease := "/v1/pull/jobs/" + res.Header.Get("Peermesh-Lease")
		for range 5 {
			time.Sleep(4 * time.Second)
			w.text(w.ask("POST", lease+"/extend?lease=5", ""), 204)
		}
		w.text(w.ask("POST", "/v1/pull/jobs?wait=0", ""), 204)
		w.text(w.ask("POST", lease+"/ack", ""), 200)
		w.problem(w.ask("POST", lease+"/extend", ""), 410, "lease-over")
	})
}

func TestClientGoneBeforeItsMessageLosesNothing(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if res, err := w.try(ctx, "POST", "/v1/pull/jobs", nil); err == nil {
			t.Fatalf("%s, want nothing", res.Status)
		}
		synctest.Wait()
		w.text(w.ask("POST", "/v1/push/jobs", "a"), 200)
		if got := w.text(w.ask("POST", "/v1/pull/jobs", ""), 200); got != "a" {
			t.Errorf("got %q", got)
		}
		if _, held := w.g.leases.left(); held != 1 {
			t.Errorf("%d leases, want 1", held)
		}
	})
}

func TestMessageThatComesAsItsClientGoesIsGivenBackAtOnce(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/push/jobs", "a"), 200)
		room, err := w.g.pullFrom("jobs")
		if err != nil {
			t.Fatal(err)
		}
		room.wait()
		synctest.Wait()
		if s := room.sock.(*patterns.Pull).Stats(); s.Queued != 1 {
			t.Fatalf("%+v, want one message that waits", s)
		}
		r, err := http.NewRequestWithContext(over, "POST", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		ls, p := w.g.collect(over, &call{r: r, cfg: w.g.config.Load()}, room, 1, time.Second, time.Hour)
		if len(ls) > 0 || p != nil {
			t.Errorf("%v, %v; want nothing for a client that is gone", ls, p)
		}
		if s := room.sock.(*patterns.Pull).Stats(); s.Released != 1 || s.Nacked != 0 {
			t.Errorf("%+v, want it released", s)
		}
		room.busy()
		room.exit()
		res := w.ask("POST", "/v1/pull/jobs?wait=10", "")
		if w.text(res, 200); res.Header.Get("Peermesh-Redelivered") != "true" {
			t.Errorf("%v, want it flagged", res.Header)
		}
	})
}

func TestBatchIsPulledAndAckedTogether(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		for i := range 5 {
			w.text(w.ask("POST", "/v1/push/jobs", string(rune('a'+i))), 200)
		}
		w.text(w.ask("POST", "/v1/push/jobs", "\xff"), 200)
		w.problem(w.ask("POST", "/v1/pull/jobs?max=9", ""), 400, "invalid")
		var got struct{ Messages []delivery }
		var leases []string
		for len(leases) < 6 { // the first may come alone
			w.decode(w.ask("POST", "/v1/pull/jobs?max=9", "", "Accept", "application/json"), &got)
			for _, m := range got.Messages {
				n := len(leases)
				if n < 5 && (m.Text == nil || *m.Text != string(rune('a'+n))) || n == 5 && !bytes.Equal(m.Body, []byte{0xff}) {
					t.Errorf("message %d: %+v", n, m)
				}
				leases = append(leases, m.Lease)
			}
		}
		order, err := json.Marshal(map[string][]string{"leases": append(leases, "none")})
		if err != nil {
			t.Fatal(err)
		}
		var a acked
		w.decode(w.ask("POST", "/v1/pull/jobs/ack", string(order)), &a)
		if a.Acked != 6 || !a.Final || len(a.Gone) != 1 || a.Gone[0] != "none" {
			t.Errorf("%+v", a)
		}
		if l := w.ledger("push", "jobs"); l.Done != 6 {
			t.Errorf("%+v, want 6 done", l)
		}
	})
}

func TestMessageThatAlwaysFailsIsADeadLetterThatCanBeReplayed(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/push/jobs", "poison", "Peermesh-Header-a", "b"), 200)
		for range patterns.DefaultMaxDeliver {
			res := w.ask("POST", "/v1/pull/jobs?wait=60", "")
			w.text(res, 200)
			w.text(w.ask("POST", "/v1/pull/jobs/"+res.Header.Get("Peermesh-Lease")+"/nack?delay=1", "it is broken"), 204)
		}
		w.text(w.ask("POST", "/v1/pull/jobs?wait=60", ""), 204)
		var queues []deadQueue
		w.decode(w.ask("GET", "/v1/dead", ""), &queues)
		if len(queues) != 1 || queues[0] != (deadQueue{"jobs", 1}) {
			t.Fatalf("%+v", queues)
		}
		var letters []letter
		w.decode(w.ask("GET", "/v1/dead/jobs", ""), &letters)
		if len(letters) != 1 || *letters[0].Text != "poison" || letters[0].Cause != "it is broken" || letters[0].Headers["a"] != "b" {
			t.Fatalf("%+v", letters)
		}
		var r replayed
		w.decode(w.ask("POST", "/v1/dead/jobs/1/replay", ""), &r)
		w.problem(w.ask("POST", "/v1/dead/jobs/1/replay", ""), 404, "no-dead-letter")
		w.problem(w.ask("POST", "/v1/dead/other/1/replay", ""), 404, "no-dead-letters")
		res := w.ask("POST", "/v1/pull/jobs", "")
		if got := w.text(res, 200); got != "poison" || r.Seq != 2 || res.Header.Get("Peermesh-Header-Original-Id") == "" {
			t.Errorf("%q, %+v, %v", got, r, res.Header)
		}
		w.text(w.ask("POST", res.Header.Get("Peermesh-Ack"), ""), 200)
	})
}

func TestPushCanWaitForTheFate(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		var s sent
		w.decode(w.ask("POST", "/v1/push/jobs?wait=2", "a"), &s)
		if s.Fate != "pending" {
			t.Errorf("%+v, want pending", s)
		}
		p, err := w.node.Pull("jobs")
		if err != nil {
			t.Fatal(err)
		}
		go p.Handle(t.Context(), 1, func(context.Context, *socket.Message) error { return nil })
		w.decode(w.ask("POST", "/v1/push/jobs?wait=10", "b"), &s)
		if s.Fate != "done" {
			t.Errorf("%+v, want done", s)
		}
		w.problem(w.ask("POST", "/v1/pull/jobs", ""), 409, "in-use")
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestIdleSocketsCloseAndOpenAgain(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/pull/jobs?wait=0", ""), 204)
		time.Sleep(2 * time.Minute)
		for _, s := range w.g.status().Sockets {
			t.Errorf("%+v is still open", s)
		}
		w.text(w.ask("POST", "/v1/push/jobs", "a"), 200)
		if got := w.text(w.ask("POST", "/v1/pull/jobs", ""), 200); got != "a" {
			t.Errorf("got %q", got)
		}
	})
}

func TestPullerThatNobodyPollsLeavesMessagesToOthers(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		other := w.mesh.Node("other")
		w.text(w.ask("POST", "/v1/pull/jobs?wait=0", ""), 204) // it is awake a moment longer
		for range 10 {
			w.text(w.ask("POST", "/v1/push/jobs", "a"), 200)
		}
		p, err := other.Pull("jobs")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		defer func() {
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		}()
		for range 10 {
			m, err := p.Recv(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Ack(); err != nil || m.Redelivered() {
				t.Errorf("%v, redelivered %v", err, m.Redelivered())
			}
		}
	})
}

func TestRestartedGatewayDeliversWhatWasAccepted(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/push/jobs", "a"), 200)
		w.close()
		w.open(Config{})
		if err := w.g.Carry(); err != nil {
			t.Fatal(err)
		}
		if got := w.text(w.ask("POST", "/v1/pull/jobs", ""), 200); got != "a" {
			t.Errorf("got %q", got)
		}
	})
}

// inWorld2 is inWorld for a second world of one test.
func inWorld2(t *testing.T, cfg Config, f func(t *testing.T, w *world)) {
	t.Run("second", func(t *testing.T) { inWorld(t, cfg, f) })
}

// contextWith is a request's context as a server makes it for a connection to local; nil: it does not tell.
func contextWith(r *http.Request, local net.Addr) context.Context {
	if local == nil {
		return r.Context()
	}
	return context.WithValue(r.Context(), http.LocalAddrContextKey, local)
}
