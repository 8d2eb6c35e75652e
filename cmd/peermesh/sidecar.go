package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"peermesh/node/gateway"
	"peermesh/node/metrics"
	"peermesh/patterns"

	"github.com/spf13/cobra"
)

func sidecarCommand(a *app) *cobra.Command {
	var check bool
	var newToken string
	cmd := &cobra.Command{
		Use:     "sidecar",
		GroupID: groupSecure,
		Short:   "A node and its gateway: the mesh for programs in other languages",
		Long: `Runs a node and serves it over HTTP and WebSocket, by default on 127.0.0.1:7070 and for this machine
only, and to programs that use ZeroMQ at the endpoints that it is given. All that it does stands in one
file, --config FILE: the global flags and the sections gateway and zeromq. Each key is an environment
variable too (gateway.listen is PEERMESH_GATEWAY_LISTEN).

SIGHUP reads the file again and says what needs a restart. SIGTERM drains: nothing new is taken,
clients may ack what they hold for as long as drain says, what is owed is delivered or stays in --dir.

What it serves is told by http://127.0.0.1:7070/openapi.json, and shown by the page at /.`,
		Example: `  peermesh sidecar --dir state
  curl -d cat.png localhost:7070/v1/push/jobs
  curl -X POST localhost:7070/v1/pull/jobs

  peermesh sidecar --config sidecar.yaml --check
  peermesh sidecar --new-token ci`,
		Args: arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if newToken != "" {
				return a.newToken(newToken)
			}
			p, err := a.plan()
			if err != nil {
				return err
			}
			if check {
				return a.line("ok: " + p.summary())
			}
			return a.sidecar(cmd.Context(), p)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "say whether the configuration is sound, and do nothing")
	cmd.Flags().StringVar(&newToken, "new-token", "", "make a token for `NAME`: the secret for its owner, and the lines for the file")
	return cmd
}

// plan is what the file and the environment ask for.
func (a *app) plan() (plan, error) {
	s, err := readSections(a.global.config)
	if err != nil {
		return plan{}, err
	}
	if err := overlay(&s, a.environ); err != nil {
		return plan{}, err
	}
	p, err := planOf(s)
	return p, a.blame(err)
}

func (p plan) summary() string {
	trust := "without tokens"
	if n := len(p.gateway.Tokens); n > 0 {
		trust = fmt.Sprintf("%d tokens", n)
	}
	secure := "no TLS"
	if p.secure != nil {
		secure = "TLS"
	}
	text := fmt.Sprintf("gateway at %s, %s, %s", p.url(), secure, trust)
	if n := len(p.endpoints); n > 0 {
		text += fmt.Sprintf(", %d ZeroMQ endpoints", n)
	}
	return text
}

func (p plan) url() string {
	switch {
	case p.network == "unix":
		return "unix:" + p.address
	case p.secure != nil:
		return "https://" + p.address
	}
	return "http://" + p.address
}

// newToken prints a secret, and what of it goes into the file.
func (a *app) newToken(name string) error {
	secret, hash := gateway.NewSecret()
	quoted, err := json.Marshal(name)
	if err != nil {
		return err
	}
	a.events.emit("token", struct {
		Name   string `json:"name"`
		Secret string `json:"secret"`
		Hash   string `json:"hash"`
	}{name, secret, hash})
	return a.line(fmt.Sprintf("secret, for its owner: Authorization: Bearer %s\nfor gateway.tokens in the file:\n  - name: %s\n    hash: %s\n    rights: [\"push *\", \"pull *\", see]",
		secret, quoted, hash))
}

// sidecar is one that runs.
type sidecar struct {
	*talk
	plan    plan
	g       *gateway.Gateway
	bridges *bridges
	metrics *metrics.Metrics
	l       net.Listener
	secure  atomic.Pointer[tls.Certificate]
	broken  chan error // the listener failed
	notify  notifier
}

// gatewayEvent tells where the gateway listens.
type gatewayEvent struct {
	URL  string `json:"url"`
	Addr string `json:"addr"`
}

func (a *app) sidecar(ctx context.Context, p plan) error {
	a.drain.Store(int64(p.drain))
	a.spoolProfile = p.profile
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before anyone can know of this process that it takes one
	defer signal.Stop(hup)
	l, err := listen(p)
	if err != nil {
		return failf(exitFailed, "gateway.listen: %w", err)
	}
	t, err := a.talk(ctx, "sidecar", "gateway", false)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	s := &sidecar{talk: t, plan: p, l: l, broken: make(chan error, 1), notify: newNotifier(a.environ)}
	s.secure.Store(p.secure)
	s.bridges = &bridges{node: t.node, log: a.logger(), tell: func(zeromqEvent) {}}
	s.metrics = metrics.NewWith(t.node, metrics.Config{Gateway: s.gatewayFigures, Endpoints: s.bridges.figures})
	if s.g, err = gateway.New(t.node, s.gatewayConfig(p)); err != nil {
		return t.end(ending{}, errors.Join(err, l.Close()))
	}
	if _, err := s.bridges.apply(t.ctx, p.endpoints); err != nil {
		return t.end(ending{}, errors.Join(err, s.bridges.Close(), s.g.Close(), l.Close()))
	}
	s.carry()
	go func() { s.broken <- s.g.Serve(l, s.tls()) }() // Shutdown waits for it by broken
	t.ready()
	a.events.emit("gateway", gatewayEvent{strings.Replace(p.url(), p.address, l.Addr().String(), 1), l.Addr().String()})
	a.note("sidecar: gateway at %s", strings.Replace(p.url(), p.address, l.Addr().String(), 1))
	s.bridges.announce(s.tellZeroMQ)
	cause := s.run(hup)
	s.notify.say("STOPPING=1")
	return t.end(ending{socket: s, ledger: s.ledger}, cause)
}

// gatewayConfig is what a plan says of the gateway, and what the sidecar adds.
func (s *sidecar) gatewayConfig(p plan) gateway.Config {
	c := p.gateway
	c.Logger = s.app.logger()
	c.Ready = s.bridges.ready
	c.Metrics = s.metrics
	return c
}

// gatewayFigures are the gateway's for Prometheus. Nobody asks before it serves.
func (s *sidecar) gatewayFigures() metrics.Gateway {
	st := s.g.Stats()
	return metrics.Gateway{Requests: st.Requests, Streams: st.Streams, Leases: st.Leases, Bodies: st.Bodies}
}

// carry has everything on disk delivered that no endpoint delivers.
func (s *sidecar) carry() {
	if err := s.g.Carry(); err != nil {
		s.app.logger().Error("not everything on disk is delivered", "err", err)
	}
}

// tellZeroMQ tells what became of an endpoint.
func (s *sidecar) tellZeroMQ(e zeromqEvent) {
	s.app.events.emit("zeromq", e)
	reason := ""
	if e.Reason != "" {
		reason = ": " + oneLine(e.Reason)
	}
	s.app.note("sidecar: zeromq %s %s at %s: %s%s", e.Type, oneLine(e.Name), e.Addr, e.State, reason)
}

// ledger is that of everything that came by HTTP and by ZeroMQ.
func (s *sidecar) ledger() patterns.Ledger {
	sum := s.bridges.ledger()
	sum.Add(s.g.Ledger())
	return sum
}

// run waits for what happens until the sidecar is to end.
func (s *sidecar) run(hup <-chan os.Signal) error {
	beat := time.NewTicker(s.notify.every())
	defer beat.Stop()
	s.notify.say("READY=1")
	signals := hup
	var reloaded chan struct{} // while a reload is under way, and signals is nil
	defer func() {
		if reloaded != nil {
			<-reloaded
		}
	}()
	for {
		select {
		case <-signals:
			s.notify.say(reloading())
			done := make(chan struct{})
			signals, reloaded = nil, done
			go func() {
				defer close(done)
				s.reload()
			}()
		case <-reloaded:
			signals, reloaded = hup, nil
			s.notify.say("READY=1")
		case <-beat.C:
			s.node.Peers() // a node that hangs has no heartbeat
			s.notify.say("WATCHDOG=1")
		case err := <-s.broken:
			s.broken <- nil
			return fmt.Errorf("gateway: %w", err)
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// tls is how the gateway speaks TLS; nil: it does not. The certificate is the one of the last reload.
func (s *sidecar) tls() *tls.Config {
	if s.plan.secure == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return s.secure.Load(), nil
	}}
}

// Shutdown ends endpoints and gateway in good order: both take nothing new from now on, and what they owe is finished until ctx
// ends. The node still runs then.
func (s *sidecar) Shutdown(ctx context.Context) error {
	var zeromq error
	var wg sync.WaitGroup
	wg.Go(func() { zeromq = s.bridges.Shutdown(ctx) })
	err := s.g.Shutdown(ctx)
	wg.Wait()
	return errors.Join(zeromq, err, <-s.broken)
}

// Close ends endpoints and gateway now.
func (s *sidecar) Close() error { return errors.Join(s.bridges.Close(), s.g.Close(), <-s.broken) }

// reloadEvent tells what came of SIGHUP.
type reloadEvent struct {
	OK      bool     `json:"ok"`
	Error   string   `json:"error,omitempty"`
	Restart []string `json:"restart,omitempty"` // keys that have changed and need a restart
	Failed  string   `json:"failed,omitempty"`  // ZeroMQ endpoints that could not be opened; the next reload tries again
}

// reload reads the configuration and the policy again. A configuration that is not sound changes nothing.
func (s *sidecar) reload() {
	a := s.app
	before := s.plan.original
	next, err := a.plan()
	var restart []string
	if err == nil {
		restart, err = a.changedFlags()
	}
	if err == nil {
		restart = append(restart, s.plan.compare(next)...)
		err = s.g.Reload(s.gatewayConfig(next))
	}
	if err == nil {
		err = s.node.ReloadPolicy()
	}
	if err != nil {
		a.events.emit("reload", reloadEvent{Error: err.Error()})
		a.logger().Error("the configuration is not sound and was not taken", "err", err)
		return
	}
	a.drain.Store(int64(next.drain))
	s.plan.original = next.original
	s.plan.original.Gateway.Listen = before.Gateway.Listen
	if s.plan.secure != nil && next.secure != nil {
		s.secure.Store(next.secure)
	}
	slices.Sort(restart)
	e := reloadEvent{OK: true, Restart: restart}
	if err := s.rejoin(next.endpoints); err != nil {
		e.Failed = oneLine(err.Error())
	}
	a.events.emit("reload", e)
	a.note("sidecar: configuration read again%s", restartText(restart))
}

// rejoin puts other ZeroMQ endpoints in force. What those that end leave on disk is delivered all the same.
func (s *sidecar) rejoin(next []endpoint) error {
	ctx, stop := context.WithTimeout(s.ctx, s.app.drainTime())
	defer stop()
	closed, err := s.bridges.apply(ctx, next)
	if closed {
		s.carry()
	}
	return err
}

func restartText(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return "; these need a restart: " + strings.Join(keys, ", ")
}

// listen opens the gateway's address. A Unix socket is its owner's alone; one that a killed process left is replaced.
func listen(p plan) (net.Listener, error) {
	if p.network == "tcp" {
		return net.Listen("tcp", p.address)
	}
	if info, err := os.Lstat(p.address); err == nil && info.Mode()&fs.ModeSocket != 0 {
		c, err := net.DialTimeout("unix", p.address, time.Second)
		if err == nil {
			return nil, errors.Join(fmt.Errorf("%s is in use by another process", p.address), c.Close())
		}
		if err := os.Remove(p.address); err != nil {
			return nil, err
		}
	}
	draft := p.address + ".new" // until its mode is right
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", draft)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it has another name then
	if err := errors.Join(os.Chmod(draft, 0o600), os.Rename(draft, p.address)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return unixListener{l, p.address}, nil
}

// unixListener removes its socket when it closes.
type unixListener struct {
	net.Listener
	path string
}

func (l unixListener) Close() error {
	err := os.Remove(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(l.Listener.Close(), err)
}

func (l unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }
