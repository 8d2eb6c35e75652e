package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"peermesh/node"
	"peermesh/patterns"
)

// errLeaving is the cause of whatever ends because the gateway does.
var errLeaving = errors.New("gateway: leaving")

// Gateway serves a node to programs that speak HTTP. It is an http.Handler, safe for concurrent use.
type Gateway struct {
	node   *node.Node
	config atomic.Pointer[Config]
	mux    *http.ServeMux // further routes may be put here, see guard
	doc    []byte         // of /openapi.json
	cross  *http.CrossOriginProtection

	ctx   context.Context // ends when nothing new is taken
	leave context.CancelCauseFunc
	ended context.Context // ends when nothing is waited for any more
	end   context.CancelFunc
	wg    sync.WaitGroup

	bodies   pool // bytes
	requests pool
	streams  pool
	rooms    rooms
	leases   leases
	repeats  repeats

	replaying sync.Mutex

	serving sync.Mutex
	server  *http.Server // nil until Serve
}

// New makes a gateway to a node, which stays the caller's. Whoever made it closes it, before the node.
func New(n *node.Node, cfg Config) (*Gateway, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	g := &Gateway{node: n, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection()}
	g.ctx, g.leave = context.WithCancelCause(context.Background())
	g.ended, g.end = context.WithCancel(context.Background())
	g.rooms.open = map[place]*room{}
	g.leases.all = map[string]*lease{}
	g.repeats.known = map[repeatKey]*repeat{}
	g.settle(cfg)
	routes := g.routes()
	for _, r := range routes {
		g.mux.Handle(r.method+" "+r.path, g.guard(r))
	}
	g.doc = openAPI(routes)
	g.wg.Go(g.sweep)
	return g, nil
}

// settle takes a checked configuration.
func (g *Gateway) settle(cfg Config) {
	g.bodies.most.Store(cfg.Limits.Bodies)
	g.requests.most.Store(int64(cfg.Limits.Requests))
	g.streams.most.Store(int64(cfg.Limits.Streams))
	g.config.Store(&cfg)
}

// Reload puts another configuration in force for what comes from now on. A smaller limit ends nothing that is under
// way; another Prefetch holds for a queue from the next moment on at which no client uses it. Header, Conns and Idle
// hold for the next Serve.
func (g *Gateway) Reload(cfg Config) error {
	cfg, err := cfg.complete()
	if err != nil {
		return err
	}
	before := g.config.Load()
	cfg.Metrics = before.Metrics
	g.settle(cfg)
	if before.Prefetch != cfg.Prefetch {
		g.rooms.renew()
	}
	return nil
}

// Leave takes nothing new, ends polls and streams, and waits until clients have answered what they hold or ctx ends. It
// returns how much they still hold.
func (g *Gateway) Leave(ctx context.Context) int {
	g.leave(errLeaving)
	for {
		changed, held := g.leases.left()
		if held == 0 {
			return 0
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return held
		}
	}
}

// Shutdown leaves in good order: Leave, and then what the gateway's sockets owe is finished as their Shutdown says, until
// ctx ends. Then it closes. What had to be given up is in the error.
func (g *Gateway) Shutdown(ctx context.Context) error {
	var held error
	if n := g.Leave(ctx); n > 0 {
		held = fmt.Errorf("gateway: clients still hold %d messages and requests: %w", n, context.Cause(ctx))
	}
	return errors.Join(held, g.rooms.close(func(s sock) error { return s.Shutdown(ctx) }), g.Close())
}

// Ledger sums what became of everything that clients have sent by this gateway.
func (g *Gateway) Ledger() patterns.Ledger { return g.rooms.ledger() }

// Close ends what clients still do, gives back what they hold, and closes the sockets that the gateway has opened: what
// Push and Pub owe meets the fate that a closing socket has. It waits for every goroutine, and may be called twice.
func (g *Gateway) Close() error {
	g.serving.Lock() // no stream begins from now on
	g.leave(errLeaving)
	g.end()
	g.serving.Unlock()
	err := g.stopServing()
	g.leases.end()
	err = errors.Join(err, g.rooms.close(sock.Close))
	g.wg.Wait()
	return err
}

// sweep closes sockets that nobody uses.
func (g *Gateway) sweep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			g.rooms.sweep(now, g.config.Load().Limits.Idle)
		case <-g.ctx.Done():
			return
		}
	}
}

// ServeHTTP answers a request; see the package comment.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // of the request before; a recorder in a test has none
	if _, route := g.mux.Handler(r); route == "" {
		g.lost(w, r)
		return
	}
	g.mux.ServeHTTP(w, r)
}

// lost answers a request that no route is made for.
func (g *Gateway) lost(w http.ResponseWriter, r *http.Request) {
	g.patience(w)
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, route := g.mux.Handler(other); route != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		refuse(w, problem(http.StatusMethodNotAllowed, "method", "not with this method", r.Method+" "+r.URL.Path,
			"use "+strings.Join(allowed, " or ")))
		return
	}
	refuse(w, problem(http.StatusNotFound, "no-route", "there is no such route", r.URL.Path,
		"/openapi.json lists the routes; a / within a name is written %2F"))
}

// guard lets through to a route who may use it, and as many as may.
func (g *Gateway) guard(t route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.patience(w)
		if !t.probe && !g.requests.take(1) {
			refuse(w, busy("busy", "too many requests at a time", "", "try again in a second"))
			return
		}
		if !t.probe {
			defer g.requests.give(1)
		}
		c, p := g.admit(r, t)
		if p == nil {
			p = t.known(r)
		}
		if p == nil {
			c.w, c.r, c.cfg = w, r, g.config.Load()
			p = t.serve(c)
		}
		if p != nil {
			g.patience(w) // whatever it took until here
			refuse(w, p)
		}
	})
}

// patience bounds the time that the client may take for what is written from now on.
func (g *Gateway) patience(w http.ResponseWriter) {
	at := time.Now().Add(g.config.Load().Limits.WriteTime)
	_ = http.NewResponseController(w).SetWriteDeadline(at) // without it the server's own bound holds
}

// call is a request that was let in.
type call struct {
	w     http.ResponseWriter
	r     *http.Request
	cfg   *Config
	token *Token // nil: none is needed
}

// who names the client, for what is kept apart by client.
func (c *call) who() string {
	if c.token == nil {
		return ""
	}
	return c.token.Name
}

// admit says who asks, or why that is refused.
func (g *Gateway) admit(r *http.Request, t route) (*call, *Problem) {
	cfg := g.config.Load()
	if p := g.nearby(r, cfg); p != nil {
		return nil, p
	}
	c := &call{}
	if t.verb == "" || len(cfg.Tokens) == 0 {
		return c, nil
	}
	if c.token = bearer(cfg.Tokens, r); c.token == nil {
		return nil, problem(http.StatusUnauthorized, "token", "no token, or one that is not known", "",
			"send the header Authorization: Bearer SECRET, with a secret that peermesh sidecar --new-token has made")
	}
	if name := r.PathValue("name"); !c.token.allows(t.verb, name) {
		return nil, problem(http.StatusForbidden, "right", "the token has no right to this",
			c.token.Name+" may not "+string(t.verb)+" "+name, "give it the right \""+strings.TrimSpace(string(t.verb)+" "+name)+"\"")
	}
	return c, nil
}

// nearby refuses who comes from elsewhere to a gateway that is not made for it, and pages of other sites that a browser
// on this machine has open: to them it would be an open door.
func (g *Gateway) nearby(r *http.Request, cfg *Config) *Problem {
	if cfg.Open {
		return nil
	}
	if err := g.cross.Check(r); err != nil {
		return problem(http.StatusForbidden, "origin", "a web page of another site may not ask", err.Error(),
			"ask from a program, or from a page that this gateway serves")
	}
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	local := IsLocal(addr)
	if !local && (r.TLS == nil || len(cfg.Tokens) == 0) {
		return problem(http.StatusForbidden, "elsewhere", "this gateway serves its own machine only", "",
			"ask over loopback, or give the gateway TLS and tokens")
	}
	if local && len(cfg.Tokens) == 0 && r.TLS == nil && addr.Network() != "unix" && !isLoopbackHost(r.Host) {
		return problem(http.StatusForbidden, "host", "this gateway is asked by another name than this machine's own", r.Host,
			"ask localhost, 127.0.0.1 or [::1]")
	}
	return nil
}

// IsLocal reports whether only this machine can reach an address: loopback or a Unix socket.
func IsLocal(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}

// isLoopbackHost reports whether a request's host is a name of this machine that nobody else can take.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// pool is a number of things that may be out at a time.
type pool struct{ out, most atomic.Int64 }

// take takes n if they are there.
func (p *pool) take(n int64) bool {
	if p.out.Add(n) > p.most.Load() {
		p.out.Add(-n)
		return false
	}
	return true
}

func (p *pool) give(n int64) { p.out.Add(-n) }
