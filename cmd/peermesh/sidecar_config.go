package main

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"peermesh/node/gateway"
	"peermesh/patterns"
	"peermesh/spool"

	"github.com/goccy/go-yaml"
)

// sections are the keys of the configuration file that are no global flags: what the sidecar does. Other verbs read over
// them, so that one file serves all. A further section is one more field here and its case in open.
//
// Each key of a section is an environment variable as well: gateway.limits.body is PEERMESH_GATEWAY_LIMITS_BODY. Lists and
// maps are written there as in YAML: [{name: ci, hash: "sha256:...", rights: ["push jobs"]}].
type sections struct {
	Drain        string         `yaml:"drain"`         // how long the end may take; default 10s
	SpoolProfile string         `yaml:"spool-profile"` // auto, server or edge: for which machine the spool is sized
	Gateway      gatewaySection `yaml:"gateway"`
	ZeroMQ       zeromqSection  `yaml:"zeromq"`
}

type gatewaySection struct {
	Listen      string            `yaml:"listen"`      // HOST:PORT or unix:PATH; default 127.0.0.1:7070
	Certificate string            `yaml:"certificate"` // PEM files of the TLS certificate and its key
	Key         string            `yaml:"key"`
	Open        bool              `yaml:"open"` // serve other machines even without TLS or tokens
	Tokens      []tokenSection    `yaml:"tokens"`
	Services    map[string]string `yaml:"services"` // once, idempotent or once-durable
	Prefetch    int               `yaml:"prefetch"`
	Lease       string            `yaml:"lease"`
	Limits      limitsSection     `yaml:"limits"`
}

type tokenSection struct {
	Name   string   `yaml:"name"`
	Hash   string   `yaml:"hash"`
	Rights []string `yaml:"rights"`
}

// limitsSection are gateway.Limits, bytes as numbers.
type limitsSection struct {
	Body        int64  `yaml:"body"`
	Bodies      int64  `yaml:"bodies"`
	Header      int    `yaml:"header"`
	Connections int    `yaml:"connections"`
	Requests    int    `yaml:"requests"`
	Streams     int    `yaml:"streams"`
	Names       int    `yaml:"names"`
	Leases      int    `yaml:"leases"`
	Keys        int    `yaml:"keys"`
	Wait        string `yaml:"wait"`
	Send        string `yaml:"send"`
	Deadline    string `yaml:"deadline"`
	MaxLease    string `yaml:"max-lease"`
	ReadTime    string `yaml:"read-time"`
	WriteTime   string `yaml:"write-time"`
	Idle        string `yaml:"idle"`
}

// Defaults of the sidecar.
const (
	defaultGateway = "127.0.0.1:7070"
	defaultDrain   = 10 * time.Second
)

// overlay puts what the environment says over a section's keys.
func overlay(section any, environ map[string]string) error {
	return overlayValue(reflect.ValueOf(section).Elem(), "", environ)
}

func overlayValue(v reflect.Value, path string, environ map[string]string) error {
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("yaml")
			if err := overlayValue(v.Field(i), strings.TrimPrefix(path+"-"+name, "-"), environ); err != nil {
				return err
			}
		}
		return nil
	}
	variable := environmentName(path)
	text := environ[variable]
	switch {
	case text == "":
		return nil
	case v.Kind() == reflect.String:
		v.SetString(text)
		return nil
	}
	fresh := reflect.New(v.Type())
	if err := yaml.UnmarshalWithOptions([]byte(text), fresh.Interface(), yaml.Strict()); err != nil {
		return usagef("environment variable %s%w", variable, atLine(err))
	}
	v.Set(fresh.Elem())
	return nil
}

// plan is what the sections ask for, checked.
type plan struct {
	drain     time.Duration
	profile   spool.Profile
	network   string // tcp or unix
	address   string
	gateway   gateway.Config
	secure    *tls.Certificate // nil: no TLS
	endpoints []endpoint
	original  sections
}

// planOf checks the sections and reads the files they name.
func planOf(s sections) (p plan, err error) {
	p = plan{network: "tcp", address: s.Gateway.Listen, drain: defaultDrain, original: s}
	if p.address == "" {
		p.address = defaultGateway
	}
	if path, ok := strings.CutPrefix(p.address, "unix:"); ok {
		p.network, p.address = "unix", path
	}
	if err := times(timeKey{"drain", s.Drain, &p.drain}); err != nil {
		return p, err
	}
	if p.profile, err = profileOf(s.SpoolProfile); err != nil {
		return p, err
	}
	if p.gateway, err = s.Gateway.config(); err != nil {
		return p, err
	}
	if p.endpoints, err = s.ZeroMQ.plan(); err != nil {
		return p, err
	}
	if p.secure, err = s.Gateway.certificate(); err != nil {
		return p, err
	}
	return p, p.check()
}

// profileOf is the profile of that name, or without a name the usual one.
func profileOf(name string) (spool.Profile, error) {
	for _, p := range []spool.Profile{spool.ProfileAuto, spool.ProfileServer, spool.ProfileEdge} {
		if name == p.String() || name == "" {
			return p, nil
		}
	}
	return 0, wrong("spool-profile", "%q: auto, server or edge", name)
}

// timeKey is a key that is a time.
type timeKey struct {
	key, text string
	to        *time.Duration
}

func times(keys ...timeKey) error {
	for _, k := range keys {
		if k.text == "" {
			continue
		}
		d, err := time.ParseDuration(k.text)
		if err != nil || d <= 0 {
			return wrong(k.key, "%q is not a duration; write for example 500ms, 5s or 2m", k.text)
		}
		*k.to = d
	}
	return nil
}

func (s gatewaySection) config() (c gateway.Config, err error) {
	l := s.Limits
	c = gateway.Config{Open: s.Open, Prefetch: s.Prefetch, Limits: gateway.Limits{Body: l.Body, Bodies: l.Bodies, Header: l.Header, Conns: l.Connections,
		Requests: l.Requests, Streams: l.Streams, Names: l.Names, Leases: l.Leases, Keys: l.Keys}}
	to := &c.Limits
	if err := times(timeKey{"gateway.lease", s.Lease, &c.Lease}, timeKey{"gateway.limits.wait", l.Wait, &to.Wait},
		timeKey{"gateway.limits.send", l.Send, &to.Send}, timeKey{"gateway.limits.deadline", l.Deadline, &to.Deadline},
		timeKey{"gateway.limits.max-lease", l.MaxLease, &to.MaxLease}, timeKey{"gateway.limits.read-time", l.ReadTime, &to.ReadTime},
		timeKey{"gateway.limits.write-time", l.WriteTime, &to.WriteTime}, timeKey{"gateway.limits.idle", l.Idle, &to.Idle}); err != nil {
		return c, err
	}
	if c.Executed, err = s.executed(); err != nil {
		return c, err
	}
	for i, t := range s.Tokens {
		token, err := t.token()
		if err != nil {
			return c, wrong(fmt.Sprintf("gateway.tokens[%d]", i), "%s: %w", t.Name, err)
		}
		c.Tokens = append(c.Tokens, token)
	}
	if err := c.Check(); err != nil {
		return c, usagef("%w", err)
	}
	return c, nil
}

// executions are how often a request may be executed, as the file names them.
var executions = map[string]patterns.Execution{"once": patterns.Once, "idempotent": patterns.Idempotent, "once-durable": patterns.OnceDurable}

func (s gatewaySection) executed() (map[string]patterns.Execution, error) {
	out := map[string]patterns.Execution{}
	for name, text := range s.Services {
		e, ok := executions[text]
		if !ok {
			return nil, wrong("gateway.services", "%s: %q: once, idempotent or once-durable", name, text)
		}
		out[name] = e
	}
	return out, nil
}

func (t tokenSection) token() (out gateway.Token, err error) {
	out.Name = t.Name
	if out.Hash, err = gateway.ParseHash(t.Hash); err != nil {
		return out, fmt.Errorf("%w; make one with: peermesh sidecar --new-token %s", err, t.Name)
	}
	for _, text := range t.Rights {
		r, err := gateway.ParseRight(text)
		if err != nil {
			return out, err
		}
		out.Rights = append(out.Rights, r)
	}
	return out, nil
}

func (s gatewaySection) certificate() (*tls.Certificate, error) {
	if s.Certificate == "" && s.Key == "" {
		return nil, nil
	}
	c, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
	if err != nil {
		return nil, wrong("gateway.certificate", "with gateway.key: %w", err)
	}
	return &c, nil
}

// check refuses to serve other machines without TLS and tokens, unless told so.
func (p plan) check() error {
	if p.network == "unix" {
		if p.address == "" {
			return wrong("gateway.listen", "unix: needs a path, as in unix:/run/peermesh.sock")
		}
		return nil
	}
	host, port, err := net.SplitHostPort(p.address)
	if err != nil || !isPort(port) {
		return wrong("gateway.listen", "%q is no address; write 127.0.0.1:7070 or unix:/run/peermesh/gateway.sock", p.address)
	}
	ip := net.ParseIP(host)
	if host == "localhost" || ip != nil && ip.IsLoopback() || p.gateway.Open {
		return nil
	}
	switch {
	case p.secure == nil:
		return wrong("gateway.listen", "%s can be reached from other machines; give gateway.certificate and gateway.key, listen on 127.0.0.1, or say gateway.open: true", p.address)
	case len(p.gateway.Tokens) == 0:
		return wrong("gateway.listen", "%s can be reached from other machines; give gateway.tokens, listen on 127.0.0.1, or say gateway.open: true", p.address)
	}
	return nil
}

// compare says what of another plan can be put in force while the sidecar runs, and what needs a restart.
func (p plan) compare(next plan) (restart []string) {
	if p.network != next.network || p.address != next.address {
		restart = append(restart, "gateway.listen")
	}
	if (p.secure == nil) != (next.secure == nil) {
		restart = append(restart, "gateway.certificate")
	}
	if p.profile != next.profile {
		restart = append(restart, "spool-profile")
	}
	before, after := p.original.Gateway.Limits, next.original.Gateway.Limits
	for name, changed := range map[string]bool{"header": before.Header != after.Header, "connections": before.Connections != after.Connections,
		"idle": before.Idle != after.Idle} {
		if changed {
			restart = append(restart, "gateway.limits."+name)
		}
	}
	if !maps.Equal(p.original.Gateway.Services, next.original.Gateway.Services) {
		restart = append(restart, "gateway.services (for those in use)")
	}
	slices.Sort(restart)
	return restart
}

// changedFlags are the global flags that the configuration file would set otherwise today.
func (a *app) changedFlags() ([]string, error) {
	before := a.global.file
	now, err := readConfig(a.global.config)
	if err != nil {
		return nil, err
	}
	var changed []string
	for key := range maps.Keys(merged(before, now)) {
		if !slices.Equal(before[key], now[key]) {
			changed = append(changed, key)
		}
	}
	return changed, nil
}

// merged has the keys of both.
func merged(a, b map[string][]string) map[string][]string {
	out := maps.Clone(a)
	if out == nil {
		out = map[string][]string{}
	}
	maps.Copy(out, b)
	return out
}
