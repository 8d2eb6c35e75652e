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
	"sync/atomic"
	"syscall"
	"time"

	"peermesh/node/gateway"

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
only. All that it does stands in one file, --config FILE: the global flags and the section gateway.
Each key is an environment variable too (gateway.listen is PEERMESH_GATEWAY_LISTEN).

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
	if err != nil && a.global.config != "" {
		return p, usagef("configuration file %s: %w", a.global.config, err)
	}
	return p, err
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
	return fmt.Sprintf("gateway at %s, %s, %s", p.url(), secure, trust)
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
	plan   plan
	g      *gateway.Gateway
	l      net.Listener
	secure atomic.Pointer[tls.Certificate]
	broken chan error // the listener failed
	notify notifier
}

// gatewayEvent tells where the gateway listens.
type gatewayEvent struct {
	URL  string `json:"url"`
	Addr string `json:"addr"`
}

func (a *app) sidecar(ctx context.Context, p plan) error {
	a.drain.Store(int64(p.drain))
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
	p.gateway.Logger = a.logger()
	if s.g, err = gateway.New(t.node, p.gateway); err != nil {
		return t.end(ending{}, errors.Join(err, l.Close()))
	}
	if err := s.g.Carry(); err != nil {
		a.logger().Error("not everything on disk is delivered", "err", err)
	}
	go func() { s.broken <- s.g.Serve(l, s.tls()) }() // Shutdown waits for it by broken
	t.ready()
	a.events.emit("gateway", gatewayEvent{strings.Replace(p.url(), p.address, l.Addr().String(), 1), l.Addr().String()})
	a.note("sidecar: gateway at %s", strings.Replace(p.url(), p.address, l.Addr().String(), 1))
	cause := s.run(hup)
	s.notify.say("STOPPING=1")
	return t.end(ending{socket: s, ledger: s.g.Ledger}, cause)
}

// run waits for what happens until the sidecar is to end.
func (s *sidecar) run(hup <-chan os.Signal) error {
	beat := time.NewTicker(s.notify.every())
	defer beat.Stop()
	s.notify.say("READY=1")
	for {
		select {
		case <-hup:
			s.notify.say(reloading())
			s.reload()
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

// Shutdown ends the gateway in good order.
func (s *sidecar) Shutdown(ctx context.Context) error {
	err := s.g.Shutdown(ctx)
	return errors.Join(err, <-s.broken)
}

// Close ends the gateway now.
func (s *sidecar) Close() error { return errors.Join(s.g.Close(), <-s.broken) }

// reloadEvent tells what came of SIGHUP.
type reloadEvent struct {
	OK      bool     `json:"ok"`
	Error   string   `json:"error,omitempty"`
	Restart []string `json:"restart,omitempty"` // keys that have changed and need a restart
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
		next.gateway.Logger = a.logger()
		err = s.g.Reload(next.gateway)
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
	a.events.emit("reload", reloadEvent{OK: true, Restart: restart})
	a.note("sidecar: configuration read again%s", restartText(restart))
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
