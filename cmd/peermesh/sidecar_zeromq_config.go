package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"peermesh/internal/wire"
	"peermesh/node/zmtp"
	"peermesh/patterns"
	"peermesh/socket"
)

// zeromqSection are the endpoints at which ZeroMQ programs join the mesh.
type zeromqSection struct {
	Endpoints []endpointSection `yaml:"endpoints"`
}

// endpointSection is a zmtp.Endpoint. What is not for its type is an error.
type endpointSection struct {
	Type    string `yaml:"type"`    // of this end: a PULL takes what programs PUSH
	Name    string `yaml:"name"`    // of the queue, channel or service
	Bind    string `yaml:"bind"`    // tcp://HOST:PORT or ipc://PATH; several separated by commas
	Connect string `yaml:"connect"` // likewise
	Public  bool   `yaml:"public"`  // other machines may reach it
	Profile string `yaml:"profile"` // durable or classic

	Durability  string   `yaml:"durability"`  // of pull, sub, xsub: best-effort, memory or durable
	Durable     string   `yaml:"durable"`     // of pub, xpub: the name of the subscription
	Topics      []string `yaml:"topics"`      // of sub, xsub
	Upstream    string   `yaml:"upstream"`    // of xpub, xsub
	Executed    string   `yaml:"executed"`    // of rep, router: once, idempotent or once-durable
	Timeout     string   `yaml:"timeout"`     // likewise
	Concurrency int      `yaml:"concurrency"` // of rep, router, dealer
	Prefetch    int      `yaml:"prefetch"`    // of push, pub, xpub, req, dealer
	Identity    string   `yaml:"identity"`

	Limits endpointLimits `yaml:"limits"`
}

// endpointLimits are the bounds of a zmtp.Endpoint, bytes as numbers.
type endpointLimits struct {
	Queue            int    `yaml:"queue"`
	QueueBytes       int    `yaml:"queue-bytes"`
	Message          int    `yaml:"message"`
	Parts            int    `yaml:"parts"`
	Peers            int    `yaml:"peers"`
	HandshakeTimeout string `yaml:"handshake-timeout"`
	HandshakeRate    int    `yaml:"handshake-rate"`
	Heartbeat        string `yaml:"heartbeat"` // or off
	HeartbeatTimeout string `yaml:"heartbeat-timeout"`
	OwedTimeout      string `yaml:"owed-timeout"`
}

// maxPrefetch is what patterns.Prefetch takes.
const maxPrefetch = 1 << 16

// endpoint is what a section asks for, checked.
type endpoint struct {
	section endpointSection
	config  zmtp.Endpoint
}

// joined says which socket of the mesh an endpoint opens.
var joined = map[zmtp.Type]socket.Kind{
	zmtp.PULL: wire.Push, zmtp.PUSH: wire.Pull,
	zmtp.SUB: wire.Pub, zmtp.XSUB: wire.Pub,
	zmtp.PUB: wire.Sub, zmtp.XPUB: wire.Sub,
	zmtp.REP: wire.Req, zmtp.ROUTER: wire.Req,
	zmtp.REQ: wire.Rep, zmtp.DEALER: wire.Rep,
}

// plan checks the endpoints, each for itself and all together.
func (s zeromqSection) plan() (all []endpoint, err error) {
	taken := map[string]bool{}
	for i, section := range s.Endpoints {
		at := fmt.Sprintf("zeromq.endpoints[%d]", i)
		if slices.ContainsFunc(s.Endpoints[:i], func(o endpointSection) bool { return reflect.DeepEqual(o, section) }) {
			return nil, wrong(at, "stands here twice")
		}
		e, err := section.config(at)
		if err != nil {
			return nil, err
		}
		for key, socket := range section.sockets(e.Type) {
			if taken[socket] {
				return nil, wrong(at+"."+key, "another endpoint is the node's %s already; give one of them both addresses, separated by a comma", socket)
			}
			taken[socket] = true
		}
		all = append(all, endpoint{section, e})
	}
	return all, nil
}

// sockets are those of the mesh that there can be only one of, by the key that names them.
func (s endpointSection) sockets(t zmtp.Type) map[string]string {
	all := map[string]string{}
	switch kind := joined[t]; {
	case kind != wire.Sub:
		all["name"] = fmt.Sprintf("%v %q", kind, s.Name)
	case s.Durable != "":
		all["durable"] = fmt.Sprintf("%v %q %q", kind, s.Name, s.Durable)
	}
	switch {
	case s.Upstream != "" && t == zmtp.XPUB:
		all["upstream"] = fmt.Sprintf("%v %q", wire.Push, s.Upstream)
	case s.Upstream != "" && t == zmtp.XSUB:
		all["upstream"] = fmt.Sprintf("%v %q", wire.Pull, s.Upstream)
	}
	return all
}

// config makes an endpoint of the section that stands at a key.
func (s endpointSection) config(at string) (e zmtp.Endpoint, err error) {
	l := s.Limits
	e = zmtp.Endpoint{Bind: s.Bind, Connect: s.Connect, Public: s.Public, Type: zmtp.Type(strings.ToUpper(s.Type)), Name: s.Name,
		Topics: s.Topics, Upstream: s.Upstream, Identity: s.Identity, Concurrency: s.Concurrency,
		Queue: l.Queue, QueueBytes: l.QueueBytes, MaxMessage: l.Message, MaxParts: l.Parts, MaxPeers: l.Peers, HandshakeRate: l.HandshakeRate}
	kind, known := joined[e.Type]
	if !known {
		return e, wrong(at+".type", "%q: push, pull, pub, sub, xpub, xsub, req, rep, router or dealer", s.Type)
	}
	if err := patterns.CheckName(kind, s.Name); err != nil {
		return e, wrong(at+".name", "%w", err)
	}
	switch s.Profile {
	case "", zmtp.Durable.String():
	case zmtp.Classic.String():
		e.Profile = zmtp.Classic
	default:
		return e, wrong(at+".profile", "%q: durable or classic", s.Profile)
	}
	if key := s.misplaced(e.Type); key != "" {
		return e, wrong(at+"."+key, "not for an endpoint of type %s", strings.ToLower(string(e.Type)))
	}
	if l.Heartbeat == "off" {
		l.Heartbeat, e.Heartbeat = "", -1
	}
	if err := times(timeKey{at + ".timeout", s.Timeout, &e.Timeout}, timeKey{at + ".limits.handshake-timeout", l.HandshakeTimeout, &e.HandshakeTimeout},
		timeKey{at + ".limits.heartbeat", l.Heartbeat, &e.Heartbeat}, timeKey{at + ".limits.heartbeat-timeout", l.HeartbeatTimeout, &e.HeartbeatTimeout},
		timeKey{at + ".limits.owed-timeout", l.OwedTimeout, &e.OwedTimeout}); err != nil {
		return e, err
	}
	if e.Options, err = s.options(at); err != nil {
		return e, err
	}
	if err := e.Check(); err != nil {
		return e, wrong(at, "%w", err)
	}
	return e, nil
}

// misplaced is a key that is given and is not for the endpoint's type; empty: there is none.
func (s endpointSection) misplaced(t zmtp.Type) string {
	for _, k := range []struct {
		key   string
		given bool
		types []zmtp.Type
	}{
		{"durability", s.Durability != "", []zmtp.Type{zmtp.PULL, zmtp.SUB, zmtp.XSUB}},
		{"durable", s.Durable != "", []zmtp.Type{zmtp.PUB, zmtp.XPUB}},
		{"topics", s.Topics != nil, []zmtp.Type{zmtp.SUB, zmtp.XSUB}},
		{"upstream", s.Upstream != "", []zmtp.Type{zmtp.XPUB, zmtp.XSUB}},
		{"executed", s.Executed != "", []zmtp.Type{zmtp.REP, zmtp.ROUTER}},
		{"timeout", s.Timeout != "", []zmtp.Type{zmtp.REP, zmtp.ROUTER}},
		{"concurrency", s.Concurrency != 0, []zmtp.Type{zmtp.REP, zmtp.ROUTER, zmtp.DEALER}},
		{"prefetch", s.Prefetch != 0, []zmtp.Type{zmtp.PUSH, zmtp.PUB, zmtp.XPUB, zmtp.REQ, zmtp.DEALER}},
	} {
		if k.given && !slices.Contains(k.types, t) {
			return k.key
		}
	}
	return ""
}

// options are those of the endpoint's socket of the mesh.
func (s endpointSection) options(at string) (opts []patterns.Option, err error) {
	if s.Durability != "" {
		level, err := levelOf(s.Durability, socket.Memory)
		if err != nil {
			return nil, wrong(at+".durability", "%q: best-effort, memory or durable", s.Durability)
		}
		opts = append(opts, patterns.Durability(level))
	}
	if s.Durable != "" {
		if err := patterns.CheckName(wire.Sub, s.Durable); err != nil {
			return nil, wrong(at+".durable", "%w", err)
		}
		opts = append(opts, patterns.DurableName(s.Durable))
	}
	if s.Executed != "" {
		e, ok := executions[s.Executed]
		if !ok {
			return nil, wrong(at+".executed", "%q: once, idempotent or once-durable", s.Executed)
		}
		opts = append(opts, patterns.Executed(e))
	}
	switch {
	case s.Prefetch < 0 || s.Prefetch > maxPrefetch:
		return nil, wrong(at+".prefetch", "%d: 1 to %d messages", s.Prefetch, maxPrefetch)
	case s.Prefetch > 0:
		opts = append(opts, patterns.Prefetch(s.Prefetch))
	}
	return opts, nil
}
