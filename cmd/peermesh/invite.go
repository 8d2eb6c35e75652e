package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"peermesh/node"

	"github.com/spf13/cobra"
)

// inviteVerb is `peermesh invite`.
type inviteVerb struct {
	ttl   time.Duration
	uses  int
	addrs []string
}

func inviteCommand(a *app) *cobra.Command {
	var v inviteVerb
	cmd := &cobra.Command{
		Use:     "invite",
		GroupID: groupSecure,
		Short:   "Let another machine into the mesh, without its key",
		Long: `Prints a token and lets the machines in that say it with peermesh join, until --uses of them have
joined or --ttl is over (exit 3). What they get is good for nodes of --namespace whose name fits --name
(* stands for any run of characters) and who have the roles of --role, or none; it neither signs a
policy nor invites. Whoever has the token can use it, so hand it over by a safe way. It names this
machine's addresses with the port of --listen, or those of --address.`,
		Example: `  peermesh invite --role sensor             prints a token, waits for one machine
  peermesh join pm1aeb4...                  on that machine`,
		Args: arguments(0, 0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return v.run(cmd.Context(), a) },
	}
	cmd.Flags().DurationVar(&v.ttl, "ttl", node.DefaultInviteTTL, "how `long` the token is good, at most 720h")
	cmd.Flags().IntVar(&v.uses, "uses", node.DefaultInviteUses, "how `many` machines may join")
	cmd.Flags().StringArrayVar(&v.addrs, "address", nil, "`host:port` that the token names in place of this machine's own; repeat for several, at most 8")
	return cmd
}

type invitationEvent struct {
	Token     string    `json:"token"`
	Mesh      string    `json:"mesh"`
	Addrs     []string  `json:"addrs"`
	Expires   time.Time `json:"expires"`
	Uses      int       `json:"uses"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Roles     []string  `json:"roles"`
}

type joinEvent struct {
	State  string `json:"state"` // joined, refused, or lost: given its credential, but not heard of since
	ID     string `json:"id,omitempty"`
	Addr   string `json:"addr"`
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

type invitedEvent struct {
	Uses   int `json:"uses"`
	Given  int `json:"given"`
	Joined int `json:"joined"`
}

func (v *inviteVerb) check() error {
	if v.ttl < time.Second || v.ttl > node.MaxInviteTTL {
		return usagef("--ttl %v: from 1s to %v", v.ttl, node.MaxInviteTTL)
	}
	if v.uses < 1 || v.uses > node.MaxInviteUses {
		return usagef("--uses %d: 1 to %d", v.uses, node.MaxInviteUses)
	}
	for _, addr := range v.addrs {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || !isPort(port) {
			return usagef("--address %q is no address; write host:port, with brackets around IPv6: [2001:db8::1]:4242", addr)
		}
	}
	return nil
}

func (v *inviteVerb) run(ctx context.Context, a *app) (err error) {
	if err := v.check(); err != nil {
		return err
	}
	g := &a.global
	inv, err := node.Invite(node.InviteConfig{Mesh: g.mesh, Listen: g.listen, Addrs: v.addrs, TTL: v.ttl, Uses: v.uses,
		Namespace: g.namespace, Name: g.name, Roles: g.roles, Logger: a.logger()})
	if err != nil {
		return openError(*g, err)
	}
	defer func() { err = errors.Join(err, inv.Close()) }()
	name := g.name
	if name == "" {
		name = "*"
	}
	a.events.emit("invitation", invitationEvent{inv.Token(), inv.Mesh().String(), inv.Addrs(), inv.Expires().UTC(), v.uses, g.namespace, name,
		append([]string{}, g.roles...)})
	a.note("on the new machine: peermesh join TOKEN; good until %s, for %d, keep this running", inv.Expires().Format(time.TimeOnly), v.uses)
	if err := a.line(inv.Token()); err != nil {
		return err
	}
	err = inv.Serve(ctx, a.tellJoin)
	given, joined := inv.Given()
	a.events.emit("invited", invitedEvent{v.uses, given, joined})
	switch {
	case errors.Is(err, node.ErrInvitationOver):
		return failf(exitTimeout, "--ttl %v is over and %d of %d machines have joined%s", v.ttl, joined, v.uses, unheard(given-joined))
	case err != nil: // told to leave
		a.note("%d of %d machines have joined%s", joined, v.uses, unheard(given-joined))
	}
	return nil
}

// unheard tells of machines that were given a credential and did not say that they have it.
func unheard(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d more got a credential and may have lost it: invite again if so", n)
}

// tellJoin prints what became of a machine that came.
func (a *app) tellJoin(e node.JoinEvent) {
	id := ""
	if !e.ID.IsZero() {
		id = e.ID.String()
	}
	out := joinEvent{"joined", id, e.Addr, e.Code, oneLine(e.Reason)}
	switch {
	case e.Joined:
		a.note("joined: %s from %s", id, e.Addr)
	case id != "":
		out.State = "lost"
		a.note("lost: %s from %s: %s", id, e.Addr, out.Reason)
	default:
		out.State = "refused"
		a.note("refused: %s (%s): %s", e.Addr, e.Code, out.Reason)
	}
	a.events.emit("join", out)
}
