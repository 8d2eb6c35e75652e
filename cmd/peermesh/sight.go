package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"

	"github.com/spf13/cobra"
)

// lookFor is how long a node opened to look around does so, without --timeout.
const lookFor = 3 * time.Second

// sight is where a verb that sees looks from. who is a peer by id or name that is asked in
// the place of the node itself; empty: that one.
type sight interface {
	// look takes a snapshot.
	look(ctx context.Context, who string) (view, error)
	// topology takes those of the node and its peers.
	topology(ctx context.Context) ([]view, error)
	// why answers a question.
	why(ctx context.Context, who, question string) (node.Answer, error)
	// path describes the link to who.
	path(ctx context.Context, who string) (pathView, error)
	// follow tells what happens until ctx ends or tell fails.
	follow(ctx context.Context, who string, logs bool, tell func(node.News) error) error
	// ping measures a round trip to the peer with that id or name.
	ping(ctx context.Context, who string) (pong, error)
	close() error
}

// open returns the node of --dir as it runs, or opens one to look around. patience
// is how long that one should be given before its view means something; 0 for a
// running one.
func (a *app) openSight(ctx context.Context, verb string) (s sight, patience time.Duration, err error) {
	if a.global.dir != "" {
		return &farSight{newControlClient(a.global.dir)}, 0, nil
	}
	n, err := node.Open(ctx, a.nodeConfig())
	if err != nil {
		return nil, 0, openError(a.global, err)
	}
	a.events.emit("ready", readyEvent{n.ID().String(), n.Name(), n.Addr().String(), n.Incarnation()})
	if patience = a.global.timeout; patience == 0 {
		patience = lookFor
	}
	return &ownSight{n, verb}, patience, nil
}

// ownSight is a node opened to look around.
type ownSight struct {
	node *node.Node
	verb string
}

func (o *ownSight) close() error { return o.node.Close() }

func (o *ownSight) look(ctx context.Context, who string) (view, error) {
	p, own, err := o.find(who)
	switch {
	case err != nil:
		return view{}, err
	case own:
		return viewOf(o.node, o.verb), nil
	}
	v, err := o.node.SeePeer(ctx, p.ID, "")
	return v, unanswered(p.Name, err)
}

func (o *ownSight) topology(ctx context.Context) ([]view, error) { return o.node.Topology(ctx), nil }

func (o *ownSight) why(ctx context.Context, who, question string) (node.Answer, error) {
	p, own, err := o.find(who)
	switch {
	case err != nil:
		return node.Answer{}, err
	case own:
		return o.node.Why(ctx, question), nil
	}
	a, err := o.node.WhyPeer(ctx, p.ID, question)
	return a, unanswered(p.Name, err)
}

func (o *ownSight) path(_ context.Context, who string) (pathView, error) {
	p, err := findPeer(o.node, who)
	if err != nil {
		return pathView{}, err
	}
	path, err := o.node.Path(p.ID)
	return pathOf(path), err
}

func (o *ownSight) follow(ctx context.Context, who string, logs bool, tell func(node.News) error) error {
	p, own, err := o.find(who)
	switch {
	case err != nil:
		return err
	case own:
		for news := range o.node.Follow(ctx, logs) {
			if err := tell(news); err != nil {
				return err
			}
		}
		return nil
	}
	for news, err := range o.node.FollowPeer(ctx, p.ID, logs) {
		if err != nil {
			return unanswered(p.Name, err)
		}
		if err := tell(news); err != nil {
			return err
		}
	}
	return nil
}

func (o *ownSight) ping(ctx context.Context, who string) (pong, error) {
	p, err := findPeer(o.node, who)
	if err != nil {
		return pong{}, err
	}
	rtt, err := o.node.Ping(ctx, p.ID)
	return pong{p.ID.String(), p.Name, rtt.Nanoseconds()}, err
}

// find is the peer that is asked, or own: the node itself.
func (o *ownSight) find(who string) (p node.Peer, own bool, err error) {
	if who == "" || who == o.node.Name() || who == o.node.ID().String() {
		return p, true, nil
	}
	p, err = findPeer(o.node, who)
	return p, false, err
}

// unanswered is a peer that was asked in vain.
func unanswered(name string, err error) error {
	if err == nil {
		return nil
	}
	return failf(exitUnreachable, "%s was asked and did not answer: %w; run the verb on its host, with the --dir of that node", name, err)
}

// farSight is a running node, through its control socket.
type farSight struct{ client *controlClient }

// withQuery is a path of the control socket with the values that are not empty.
func withQuery(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

func (f *farSight) look(ctx context.Context, who string) (v view, err error) {
	return v, f.client.ask(ctx, http.MethodGet, withQuery(viewPath, "node", who), &v)
}

func (f *farSight) topology(ctx context.Context) (v []view, err error) {
	return v, f.client.ask(ctx, http.MethodGet, topologyPath, &v)
}

func (f *farSight) why(ctx context.Context, who, question string) (a node.Answer, err error) {
	return a, f.client.ask(ctx, http.MethodGet, withQuery(whyPath, "node", who, "about", question), &a)
}

func (f *farSight) path(ctx context.Context, who string) (p pathView, err error) {
	return p, f.client.ask(ctx, http.MethodGet, withQuery(pathPath, "node", who), &p)
}

func (f *farSight) follow(ctx context.Context, who string, logs bool, tell func(node.News) error) error {
	which := ""
	if logs {
		which = "true"
	}
	return f.client.follow(ctx, withQuery(followPath, "node", who, "logs", which), tell)
}

func (f *farSight) ping(ctx context.Context, who string) (p pong, err error) {
	return p, f.client.ask(ctx, http.MethodPost, withQuery(pingPath, "node", who), &p)
}

func (f *farSight) close() error {
	f.client.close()
	return nil
}

// pong is one round trip.
type pong struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	RTTNs int64  `json:"rtt_ns"`
}

// errNoPeer is a peer that is not there, perhaps not yet.
var errNoPeer = errors.New("no such peer")

// findPeer is the peer that who names by id or name.
func findPeer(n *node.Node, who string) (node.Peer, error) {
	p, found := n.FindPeer(who)
	switch {
	case who == n.Name() || who == n.ID().String():
		return p, usagef("%s is the node that asks; name the one at the other end", who)
	case found > 1:
		return p, usagef("%d peers are called %s; name one by its id: peermesh peers lists them", found, who)
	case found == 0:
		return p, failf(exitUnreachable, "%w: %s is not linked; peermesh discover --explain shows what was tried", errNoPeer, who)
	}
	return p, nil
}

// seeing is what status, peers and sockets have in common.
type seeing struct {
	watch bool
	node  string
}

// watchEvery is how often --watch looks.
const watchEvery = time.Second

func (s *seeing) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.watch, "watch", false, "print again every second until told to leave")
	s.registerNode(cmd)
}

// registerNode adds --node alone.
func (s *seeing) registerNode(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.node, "node", "", "ask the peer with that `name` or id, over the mesh")
}

// open is openSight, and waits until a new node has looked around: for the peer of --node until that is there.
func (s *seeing) open(ctx context.Context, a *app, verb string) (sight, error) {
	from, patience, err := a.openSight(ctx, verb)
	switch {
	case err != nil:
		return nil, err
	case patience == 0:
	case s.node != "":
		if err := await(ctx, from, s.node, patience); err != nil {
			return nil, errors.Join(err, from.close())
		}
	default:
		a.note("looking around for %v", patience)
		_ = pause(ctx, patience) // who was told to leave sees to that
	}
	return from, nil
}

// run prints what is seen: once, or with --watch again and again.
func (s *seeing) run(ctx context.Context, a *app, verb string, show func(view) error) (err error) {
	from, err := s.open(ctx, a, verb)
	if err != nil {
		return unlessTold(ctx, err)
	}
	defer func() { err = errors.Join(err, from.close()) }()
	if ctx.Err() != nil {
		return nil // told to leave
	}
	for {
		v, err := from.look(ctx, s.node)
		if err != nil {
			return unlessTold(ctx, err)
		}
		if s.watch && isTerminal(a.stdout) && !a.global.json {
			if _, err := a.stdout.Write([]byte("\x1b[H\x1b[2J")); err != nil {
				return err
			}
		}
		if err := show(v); err != nil || !s.watch {
			return err
		}
		if pause(ctx, watchEvery) != nil {
			return nil
		}
	}
}

// unlessTold is an error, or nil if it is there because the verb was told to leave.
func unlessTold(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// shortID is enough of a node id to tell a few nodes apart.
func shortID(id string) string {
	if _, err := identity.ParseID(id); err != nil {
		return id
	}
	return id[:8]
}
