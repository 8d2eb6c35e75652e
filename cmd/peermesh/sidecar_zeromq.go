package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"

	"peermesh/node"
	"peermesh/node/metrics"
	"peermesh/node/zmtp"
	"peermesh/patterns"
)

// bridges are the ZeroMQ endpoints of a sidecar. Each is a bridge of its own, so that it can come and go without the others.
// Only one goroutine at a time opens, changes and closes them; what they have done may be asked at any time.
type bridges struct {
	node *node.Node
	log  *slog.Logger
	tell func(zeromqEvent)

	mu   sync.Mutex
	all  []*bridge
	past patterns.Ledger // of those that are closed
}

// bridge is an endpoint that is open, or could not be opened.
type bridge struct {
	endpoint
	b   *zmtp.Bridge // nil: err says why
	err error
}

// zeromqEvent tells of an endpoint.
type zeromqEvent struct {
	State   string `json:"state"` // open, closed or failed
	Type    string `json:"type"`
	Name    string `json:"name"`
	Addr    string `json:"addr"` // with the ports that it got
	Profile string `json:"profile"`
	Reason  string `json:"reason,omitempty"`
}

// apply closes the endpoints that are not wanted any more, in good order as long as ctx lasts, and opens those that are new. An
// endpoint that is wanted as it is stays as it is. Those that could not be opened are in the error, and tried again next time.
// It reports whether any was closed.
func (s *bridges) apply(ctx context.Context, wanted []endpoint) (closed bool, err error) {
	s.mu.Lock()
	var next, gone []*bridge
	for _, b := range s.all {
		if b.b != nil && b.state() == nil && slices.ContainsFunc(wanted, b.is) {
			next = append(next, b)
		} else {
			gone = append(gone, b)
		}
	}
	s.mu.Unlock()
	// The event says what a shutdown that was cut off has left; what is new may come all the same.
	_ = s.shut(gone, func(b *zmtp.Bridge) error { return b.Shutdown(ctx) })
	for _, e := range wanted {
		if slices.ContainsFunc(next, func(b *bridge) bool { return b.is(e) }) {
			continue
		}
		b := s.start(e)
		next = append(next, b)
		if b.err != nil {
			err = errors.Join(err, b.err)
		}
	}
	s.mu.Lock()
	s.all = next
	s.mu.Unlock()
	return slices.ContainsFunc(gone, func(b *bridge) bool { return b.b != nil }), err
}

// announce tells of the endpoints that are open, and from now on of every change.
func (s *bridges) announce(tell func(zeromqEvent)) {
	s.tell = tell
	for _, b := range s.open() {
		tell(b.event("open", nil))
	}
}

// start opens an endpoint.
func (s *bridges) start(e endpoint) *bridge {
	b := &bridge{endpoint: e}
	b.b, b.err = zmtp.New(s.node, zmtp.Config{Endpoints: []zmtp.Endpoint{e.config}, Logger: s.log})
	if b.err != nil {
		b.err = fmt.Errorf("zeromq: %s %s: %w", strings.ToLower(string(e.config.Type)), e.config.Name, b.err)
		s.tell(b.event("failed", b.err))
		return b
	}
	s.tell(b.event("open", nil))
	return b
}

// shut ends endpoints, all at once.
func (s *bridges) shut(gone []*bridge, end func(*zmtp.Bridge) error) error {
	errs := make([]error, len(gone))
	var wg sync.WaitGroup
	for i, b := range gone {
		if b.b == nil {
			continue
		}
		wg.Go(func() {
			errs[i] = end(b.b)
			s.mu.Lock()
			s.past.Add(b.b.Ledger())
			s.all = slices.DeleteFunc(s.all, func(o *bridge) bool { return o == b })
			s.mu.Unlock()
			s.tell(b.event("closed", errs[i]))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Shutdown ends all endpoints in good order, as zmtp.Bridge.Shutdown does, until ctx ends.
func (s *bridges) Shutdown(ctx context.Context) error {
	return s.shut(s.open(), func(b *zmtp.Bridge) error { return b.Shutdown(ctx) })
}

// Close ends all endpoints now.
func (s *bridges) Close() error { return s.shut(s.open(), (*zmtp.Bridge).Close) }

func (s *bridges) open() []*bridge {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// ledger is that of everything that ZeroMQ programs have brought into the mesh.
func (s *bridges) ledger() (sum patterns.Ledger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Add(s.past)
	for _, b := range s.all {
		if b.b != nil {
			sum.Add(b.b.Ledger())
		}
	}
	return sum
}

// ready says which endpoints do not work.
func (s *bridges) ready() error {
	var errs []error
	for _, b := range s.open() {
		errs = append(errs, b.state())
	}
	return errors.Join(errs...)
}

// figures are those of the endpoints for Prometheus.
func (s *bridges) figures() (all []metrics.Endpoint) {
	for _, b := range s.open() {
		if b.b == nil {
			continue
		}
		st := b.b.Stats()[0]
		all = append(all, metrics.Endpoint{Type: strings.ToLower(string(st.Type)), Name: st.Name, Addr: st.Addr, Peers: st.Peers,
			Accepted: st.Accepted, Refused: st.Refused, Lost: st.Lost, Received: st.Received, Sent: st.Sent, Confirmed: st.Confirmed,
			Waiting: st.Waiting, Owed: st.Owed, Incoming: st.Incoming, Dropped: st.Dropped, Stalled: st.Stalled, Stopped: st.Err != nil})
	}
	return all
}

// is reports whether a section asks for the endpoint as it is.
func (b *bridge) is(e endpoint) bool { return reflect.DeepEqual(b.section, e.section) }

// state is why the endpoint does not work; nil: it does.
func (b *bridge) state() error {
	if b.b == nil {
		return b.err
	}
	if err := b.b.Stats()[0].Err; err != nil {
		return fmt.Errorf("zeromq: %s %s has stopped: %w", strings.ToLower(string(b.config.Type)), b.config.Name, err)
	}
	return nil
}

func (b *bridge) event(state string, err error) zeromqEvent {
	e := zeromqEvent{State: state, Type: strings.ToLower(string(b.config.Type)), Name: b.config.Name,
		Addr: strings.Trim(b.config.Bind+","+b.config.Connect, ","), Profile: b.config.Profile.String()}
	if b.b != nil {
		e.Addr = b.b.Addr(0)
	}
	if err != nil {
		e.Reason = err.Error()
	}
	return e
}
